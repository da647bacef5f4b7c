"""From what a user wrote to a checked job specification."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.spec.engines import DOCKER, WASM
from airflow_provider_bacalhau.client.spec.fields import check_env
from airflow_provider_bacalhau.client.spec.files import embed_local_files
from airflow_provider_bacalhau.client.spec.legacy import is_requester_spec
from airflow_provider_bacalhau.client.spec.legacy_read import read_requester_spec
from airflow_provider_bacalhau.client.spec.models import JobSpec
from airflow_provider_bacalhau.client.spec.problems import refusal
from airflow_provider_bacalhau.client.spec.text import load_text, plain


def read_job_spec(value: Mapping[str, Any] | str, *, base: Path | str | None = None) -> JobSpec:
    """Reads and checks a job specification.

    :param value: a mapping, or YAML or JSON text; keys in any case, with or without the outer ``Job:``. It may also be
        the ``Spec`` of the old requester API, as DAGs for ``bacalhau-airflow`` have it.
    :param base: the folder of the DAG file. With it, files that :func:`local_file` names are read into the
        specification; without it they stay named, which is enough to check the rest.
    :raises InvalidJobSpec: with every problem found, each with its place in the user's own spelling.
    """
    loaded: object = load_text(value) if isinstance(value, str) else value
    if not isinstance(loaded, Mapping):
        raise InvalidJobSpec(
            f"A job specification is a mapping with Type and Tasks, not {type(loaded).__name__} {str(loaded)[:60]!r}.",
            hint="The name of a template file is one line that ends in .yaml, .yml or .json." * isinstance(loaded, str),
        )
    written = plain(loaded)
    if is_requester_spec(written):
        return read_requester_spec(written)
    job, root = _unwrap(written)
    if base is not None:
        job = embed_local_files(job, base=base, place=root)
    try:
        return JobSpec.model_validate(job)
    except ValidationError as error:
        raise refusal(error, job, root) from None


def _unwrap(written: dict[str, Any]) -> tuple[Any, str]:
    """The job without the outer ``Job:``, and how places in it begin."""
    if len(written) == 1:
        (key,) = written
        if key.lower() == "job":
            if not isinstance(written[key], dict):
                raise InvalidJobSpec("must be a mapping with Type and Tasks.", place=key)
            return written[key], key
    return written, ""


def require_waitable(spec: JobSpec) -> None:
    """Refuses a job that never ends.

    :raises InvalidJobSpec: for service and daemon jobs.
    """
    if not spec.ends:
        raise InvalidJobSpec(
            f"A {spec.type} job runs until it is stopped, so waiting for it would never end.",
            place="Type",
            hint="Submit it without waiting (wait_for_completion=False), or make it a batch or ops job.",
        )


def merge_env(spec: JobSpec, env: Mapping[str, Any] | None) -> JobSpec:
    """The job with more environment variables; on equal names the new ones win.

    :param env: names and values. A number counts as the text that it is written as.
    :raises InvalidJobSpec: for names and values that servers refuse.
    """
    if not env:
        return spec
    if not isinstance(env, Mapping):
        raise InvalidJobSpec(f"must be a dict of names and values, not {type(env).__name__}.", place="env")
    found = [f"env.{name} {wrong}." for name, value in env.items() if (wrong := check_env(str(name), value))]
    if found:
        raise InvalidJobSpec("\n".join(found))
    added = {name: str(value) for name, value in env.items()}
    task = spec.task
    return spec.with_task(env={**task.env, **added}, engine=_without_env(task.engine, added))


def _without_env(engine: Any, names: Mapping[str, str]) -> Any:
    """The engine without those variables among its own parameters, where they would win over the task's."""
    own = engine.params.get("EnvironmentVariables")
    if not own or engine.type not in (DOCKER, WASM):
        return engine
    kept: Any
    if engine.type == DOCKER:
        kept = [item for item in own if item.partition("=")[0] not in names]
    else:
        kept = {name: value for name, value in own.items() if name not in names}
    return engine.model_copy(update={"params": {**engine.params, "EnvironmentVariables": kept}})
