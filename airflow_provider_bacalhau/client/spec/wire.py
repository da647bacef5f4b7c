"""The job as the server reads it, and a hash of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.spec.engines import DOCKER, WASM
from airflow_provider_bacalhau.client.spec.sources import LOCAL_FILE

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client.spec.models import JobSpec

SPEC_HASH_VERSION = 2
"""Number of the recipe of :func:`spec_hash`; a new recipe looks like an edited DAG, so it is changed knowingly."""

_ENGINE = "Tasks[0].Engine.Params"

Task = dict[str, Any]


def spec_hash(job: Mapping[str, Any], *parts: object) -> str:
    """A hash of what a user asks for, the same for equal jobs in whatever order and case their keys were written.

    It is taken after ``embed_local_files``, so that the bytes of the files count, and before anything is added that the
    user did not write: what a server version wants, defaults, labels, fresh addresses of results.

    :param job: a job as ``to_dict()`` gives it, or ``to_wire()``.
    :param parts: what belongs to it besides, as JSON values.
    :returns: SHA-256 in hexadecimal.
    """
    text = json.dumps([job, *parts], sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(f"spec {SPEC_HASH_VERSION}\n{text}".encode()).hexdigest()


def to_wire(spec: JobSpec, *, module_sources: bool) -> dict[str, Any]:
    """See :meth:`JobSpec.to_wire`."""
    job = spec.to_dict()
    task: Task = job["Tasks"][0]
    if task.get("Publisher", {}).get("Type") == "":
        del task["Publisher"]
    engine = task["Engine"]
    engine["Params"] = dict(engine["Params"])  # the model's own, until here
    if engine["Type"] == WASM:
        _name_modules(task)
    _refuse_unread_files(task)
    if engine["Type"] == WASM:
        _move_wasm_environment(task, into_engine=module_sources)
        if module_sources:
            _hold_modules(task)
    elif engine["Type"] == DOCKER and module_sources:
        _move_docker_environment(task)
    return job


def _name_modules(task: Task) -> None:
    """Makes every module an input source that the engine names by its target."""
    params = task["Engine"]["Params"]
    entry, imports = params["EntryModule"], params.get("ImportModules", [])
    params["EntryModule"] = _name_module(task, entry)
    if imports:
        params["ImportModules"] = [_name_module(task, module) for module in imports]
    params.setdefault("Entrypoint", "_start")
    targets = [source["Target"] for source in task.get("InputSources", [])]
    for key, modules in (("EntryModule", [params["EntryModule"]]), ("ImportModules", params.get("ImportModules", []))):
        for module in modules:
            if not any(module == target or module.startswith(f"{target}/") for target in targets):
                raise InvalidJobSpec(
                    f"No input source has the target {module}, where the module should be.",
                    place=f"{_ENGINE}.{key}",
                    hint=f"The targets are {', '.join(targets)}." if targets else "The task has no input sources.",
                )


def _name_module(task: Task, module: str | dict[str, Any]) -> str:
    if isinstance(module, str):
        return module
    task.setdefault("InputSources", []).append(module)
    return str(module["Target"])


def _hold_modules(task: Task) -> None:
    """Moves the modules from the input sources into the engine, for servers up to v1.6."""
    params = task["Engine"]["Params"]
    sources = {source["Target"]: source for source in task.get("InputSources", [])}
    modules = [params["EntryModule"], *params.get("ImportModules", [])]
    for module in modules:
        if module not in sources:
            raise InvalidJobSpec(
                f"The module {module} lies inside the folder of an input, and servers up to v1.6 run only a module "
                "that is an input of its own.",
                place=_ENGINE,
                hint="Give the module itself as an input source.",
            )
    params["EntryModule"] = sources[params["EntryModule"]]
    if "ImportModules" in params:
        params["ImportModules"] = [sources[module] for module in params["ImportModules"]]
    params["EntryPoint"] = params.pop("Entrypoint")
    task["InputSources"] = [source for target, source in sources.items() if target not in modules]


def _move_wasm_environment(task: Task, *, into_engine: bool) -> None:
    """Up to v1.6 only the engine's environment reaches the program, later only the task's."""
    params = task["Engine"]["Params"]
    environment = {**task.pop("Env", {}), **params.pop("EnvironmentVariables", {})}
    if environment and into_engine:
        params["EnvironmentVariables"] = environment
    elif environment:
        task["Env"] = environment


def _move_docker_environment(task: Task) -> None:
    """Up to v1.6.0 only the engine's environment reaches the container; there it wins on every version."""
    params = task["Engine"]["Params"]
    own: list[str] = params.get("EnvironmentVariables", [])
    names = {item.partition("=")[0] for item in own}
    items = own + [f"{name}={value}" for name, value in task.pop("Env", {}).items() if name not in names]
    # v1.4.0 takes the list for pairs of name and value and refuses an odd number of items. Said twice is said once.
    if len(items) % 2:
        items = [*items, items[-1]]
    if items:
        params["EnvironmentVariables"] = items


def _refuse_unread_files(task: Task) -> None:
    for place, source in enumerate(task.get("InputSources", [])):
        if source["Source"]["Type"] == LOCAL_FILE:
            raise InvalidJobSpec(
                f"The local file {source['Source']['Params']['Path']!r} has not been read into the specification.",
                place=f"Tasks[0].InputSources[{place}]",
                hint="Call embed_local_files first, as the submit operator does.",
            )
