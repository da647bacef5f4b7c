"""From an operator's arguments to the job that is sent: read, embed files, resolve inputs, limit, name."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bacalhau.client import BacalhauClient
    from airflow_provider_bacalhau.client.spec import JobSpec

Duration = float | timedelta


@dataclass(frozen=True)
class Limits:
    """Time limits of a job; see the parameters of ``BacalhauSubmitJobOperator``."""

    wait: Duration | None = None
    queue: Duration | None = None
    execution: Duration | None = None
    total: Duration | None = None


@dataclass(frozen=True)
class Wait:
    """How a task waits for its job.

    :param poll_interval: seconds between two looks.
    :param deadline: seconds since the epoch at which the wait ends; None for never.
    """

    poll_interval: float
    deadline: float | None

    @classmethod
    def checked(cls, poll_interval: object, timeout: object) -> Wait:
        """Begin a wait now.

        :param timeout: how long; None for as long as it takes.
        :raises InvalidJobSpec: for what is no duration above zero.
        """
        from airflow_provider_bacalhau.client.spec.timeouts import check_seconds

        pause = check_seconds(poll_interval, "poll_interval", above_zero=True)
        if timeout is None:
            return cls(pause, None)
        return cls(pause, time.time() + check_seconds(timeout, "timeout", above_zero=True))


def prepare(
    client: BacalhauClient,
    job_spec: Mapping[str, Any] | str,
    *,
    folder: Path,
    inputs: object = (),
    input_volumes: Sequence[str] = (),
    env: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> JobSpec:
    """Make the job that a task asks for, still without its final name.

    :param client: looks up jobs, results and paths among the inputs.
    :param folder: the DAG file's, where local files are looked for.
    :param inputs: one item or a list; None is what a task without a result leaves, and refused.
    :param input_volumes: texts ``<cid>[,<cid>…]:<mount>``, as DAGs for ``bacalhau-airflow`` have them.
    :raises InvalidJobSpec: naming the place that is wrong; no job was sent.
    """
    from airflow_provider_bacalhau.client.spec import (
        apply_timeouts,
        assign_mounts,
        embed_local_files,
        merge_env,
        parse_input_volumes,
        parse_inputs,
        read_job_spec,
    )

    limits = limits or Limits()
    spec = merge_env(read_job_spec(job_spec, base=folder), env)
    if input_volumes:
        spec = spec.with_inputs(parse_input_volumes(input_volumes))
    items = parse_inputs(embed_local_files(inputs, base=folder, place="inputs"))
    spec = spec.with_inputs(assign_mounts(client.resolve_inputs(items), spec))
    return apply_timeouts(
        spec,
        wait_timeout=limits.wait,
        queue_timeout=limits.queue,
        execution_timeout=limits.execution,
        total_timeout=limits.total,
    )


def name_job(
    spec: JobSpec, context: Context, *, name: str | None, namespace: str | None, default_namespace: str
) -> JobSpec:
    """Give a job its namespace, and the name that only this attempt of this task gives it.

    :param name: the readable part; otherwise the spec's own name, otherwise the task's id.
    :param namespace: otherwise the spec's own, otherwise ``default_namespace``, otherwise ``default``.
    :raises InvalidJobSpec: when operator and spec give different names, or what is no text.
    """
    from airflow_provider_bacalhau.client.errors import InvalidJobSpec
    from airflow_provider_bacalhau.client.naming import job_name
    from airflow_provider_bacalhau.client.spec import spec_hash
    from airflow_provider_bacalhau.version_compat import airflow_address

    for place, text in (("name", name), ("namespace", namespace)):
        if text is not None and not isinstance(text, str):
            raise InvalidJobSpec(f"must be text, not {type(text).__name__} {str(text)[:60]!r}.", place=place)
    if name and spec.name and name != spec.name:
        raise InvalidJobSpec(
            f"the operator says {name!r} and the job specification {spec.name!r}.",
            place="name",
            hint="Give one of them.",
        )
    ti = context["ti"]
    spec = spec.model_copy(update={"namespace": namespace or spec.namespace or default_namespace or "default"})
    # The address tells this Airflow from others that share the network and have equal run ids.
    attempt = (
        airflow_address(),
        ti.dag_id,
        ti.run_id,
        ti.task_id,
        ti.map_index,
        ti.try_number,
        spec_hash(spec.to_wire()),
    )
    return spec.model_copy(update={"name": job_name(name or spec.name or ti.task_id, *attempt)})
