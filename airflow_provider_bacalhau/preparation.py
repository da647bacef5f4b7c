"""From an operator's arguments to the job that it claims, and to the job that is sent.

The first needs no network and refuses what is wrong; only a job that is really sent has its inputs looked up.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client import BacalhauClient
    from airflow_provider_bacalhau.client.claims import OnExisting
    from airflow_provider_bacalhau.client.diagnosis import JobOutcome
    from airflow_provider_bacalhau.client.naming import Claim, Owner
    from airflow_provider_bacalhau.client.spec import Input, JobSpec
    from airflow_provider_bacalhau.client.success import SuccessPolicy

Duration = float | timedelta


@dataclass(frozen=True)
class Limits:
    """Time limits of a job; see the parameters of ``BacalhauSubmitJobOperator``."""

    wait: Duration | None = None
    queue: Duration | None = None
    execution: Duration | None = None
    total: Duration | None = None

    def of_job(self) -> list[float | None]:
        """Those that are the job's own, in seconds; the wait's is not."""
        own = (self.queue, self.execution, self.total)
        return [
            float(one.total_seconds() if isinstance(one, timedelta) else one) if one is not None else None
            for one in own
        ]


@dataclass(frozen=True)
class Wait:
    """How a task waits for its job.

    :param poll_interval: seconds between two looks.
    :param timeout: seconds from the job's submission; None for as long as it takes.
    """

    poll_interval: float
    timeout: float | None

    @classmethod
    def checked(cls, poll_interval: object, timeout: object) -> Wait:
        """Read what a user gave.

        :raises InvalidJobSpec: for what is no duration above zero.
        """
        from airflow_provider_bacalhau.client.spec.timeouts import check_seconds

        pause = check_seconds(poll_interval, "poll_interval", above_zero=True)
        return cls(pause, None if timeout is None else check_seconds(timeout, "timeout", above_zero=True))

    def deadline(self, age: float) -> float | None:
        """When the wait for a job ends, in seconds since the epoch; None for never.

        :param age: seconds since the job was submitted, by an earlier try perhaps.
        """
        return None if self.timeout is None else time.time() + self.timeout - age


@dataclass(frozen=True)
class Rules:
    """How a task waits for its job, judges it and treats an earlier one; see ``BacalhauSubmitJobOperator``.

    :param skipped: exit codes that make the task skipped.
    :param final: exit codes after which it is not tried again.
    """

    wait: Wait
    success_policy: SuccessPolicy
    allow_missing_results: bool
    skipped: frozenset[int]
    final: frozenset[int]
    on_existing: OnExisting
    log_output: bool

    @classmethod
    def checked(
        cls,
        *,
        wait: Wait,
        success_policy: object,
        allow_missing_results: bool,
        skip_on_exit_code: object,
        no_retry_on_exit_code: object,
        on_existing: object,
        log_output: bool,
    ) -> Rules:
        """Read what a user gave.

        :raises InvalidJobSpec: naming the argument that cannot be.
        """
        from airflow_provider_bacalhau.client.claims import check_on_existing
        from airflow_provider_bacalhau.client.success import check_success_policy

        return cls(
            wait,
            check_success_policy(success_policy),
            allow_missing_results,
            _exit_codes(skip_on_exit_code, "skip_on_exit_code"),
            _exit_codes(no_retry_on_exit_code, "no_retry_on_exit_code"),
            check_on_existing(on_existing),
            log_output,
        )

    def is_final(self, outcome: JobOutcome) -> bool:
        """Whether a job that failed is not to be tried again because of a program's exit code."""
        return not self.final.isdisjoint(outcome.bad_exit_codes)


def check_flags(**flags: object) -> None:
    """Refuse what is neither true nor false: the text ``"no"`` would be taken for true.

    :raises InvalidJobSpec: naming the argument.
    """
    from airflow_provider_bacalhau.client.errors import InvalidJobSpec

    for place, value in flags.items():
        if not isinstance(value, bool):
            raise InvalidJobSpec(f"is {value!r:.80}, and must be True or False.", place=place)


def check_count(policy: SuccessPolicy, spec: JobSpec) -> None:
    """Refuse a policy that a job can never fulfil.

    :raises InvalidJobSpec: when more executions have to succeed than there will be.
    """
    from airflow_provider_bacalhau.client.errors import InvalidJobSpec

    if isinstance(policy, int) and spec.type == "batch" and policy > spec.count:
        raise InvalidJobSpec(
            f"is {policy}, but the job's Count is {spec.count}.",
            place="success_policy",
            hint="Ask for fewer successes, or for more executions (Count).",
        )


def _exit_codes(value: object, place: str) -> frozenset[int]:
    from airflow_provider_bacalhau.client.errors import InvalidJobSpec

    if value is None:
        return frozenset()
    several = value if isinstance(value, Collection) and not isinstance(value, str | bytes) else [value]
    if not all(isinstance(code, int) and not isinstance(code, bool) for code in several):
        raise InvalidJobSpec(f"is {value!r:.80}, and must be an exit code or several, as numbers.", place=place)
    return frozenset(several)


@dataclass(frozen=True)
class Draft:
    """The job that a task asks for, still without what only the network knows.

    :param spec: with its limits.
    :param inputs: to be looked up and added to it.
    :param hash: of what the user asks for.
    """

    spec: JobSpec
    inputs: Sequence[Input]
    hash: str

    def complete(self, client: BacalhauClient) -> JobSpec:
        """The job that is sent: its inputs looked up, each in its place.

        :raises InvalidJobSpec: when two inputs end up in one place; no job was sent.
        :raises ResultUnavailable: when there is nothing where an input should be.
        """
        from airflow_provider_bacalhau.client.spec import assign_mounts

        return self.spec.with_inputs(assign_mounts(client.resolve_inputs(self.inputs), self.spec))


def draft(
    job_spec: Mapping[str, Any] | str,
    *,
    folder: Path,
    inputs: object = (),
    input_volumes: Sequence[str] = (),
    env: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> Draft:
    """Read what a task asks for.

    :param folder: the DAG file's, where local files are looked for.
    :param inputs: one item or a list; None is what a task without a result leaves, and refused.
    :param input_volumes: texts ``<cid>[,<cid>…]:<mount>``, as DAGs for ``bacalhau-airflow`` have them.
    :raises InvalidJobSpec: naming the place that is wrong; nothing was sent.
    """
    from airflow_provider_bacalhau.client.spec import (
        apply_timeouts,
        embed_local_files,
        merge_env,
        parse_input_volumes,
        parse_inputs,
        read_job_spec,
        spec_hash,
    )
    from airflow_provider_bacalhau.client.spec.inputs import stable_form

    limits = limits or Limits()
    spec = merge_env(read_job_spec(job_spec, base=folder), env)
    if input_volumes:
        spec = spec.with_inputs(parse_input_volumes(input_volumes))
    items = parse_inputs(embed_local_files(inputs, base=folder, place="inputs"))
    limited = apply_timeouts(
        spec,
        wait_timeout=limits.wait,
        queue_timeout=limits.queue,
        execution_timeout=limits.execution,
        total_timeout=limits.total,
    )
    return Draft(limited, items, spec_hash(spec.to_dict(), list(map(stable_form, items)), limits.of_job()))


def claim_for(owner: Owner, wanted: Draft, *, name: str | None, namespace: str | None, default_namespace: str) -> Claim:
    """What an attempt claims: this job, in its namespace, under a name that a person recognises.

    :param name: the readable part; otherwise the spec's own name, otherwise the task's id.
    :param namespace: otherwise the spec's own, otherwise ``default_namespace``, otherwise ``default``.
    :raises InvalidJobSpec: when operator and spec give different names, or what is no text.
    """
    from airflow_provider_bacalhau.client.errors import InvalidJobSpec
    from airflow_provider_bacalhau.client.naming import Claim

    spec = wanted.spec
    for place, text in (("name", name), ("namespace", namespace)):
        if text is not None and not isinstance(text, str):
            raise InvalidJobSpec(f"must be text, not {type(text).__name__} {str(text)[:60]!r}.", place=place)
    if name and spec.name and name != spec.name:
        raise InvalidJobSpec(
            f"the operator says {name!r} and the job specification {spec.name!r}.",
            place="name",
            hint="Give one of them.",
        )
    return Claim(
        owner,
        readable=name or spec.name or owner.task_id,
        spec_hash=wanted.hash,
        namespace=namespace or spec.namespace or default_namespace or "default",
    )
