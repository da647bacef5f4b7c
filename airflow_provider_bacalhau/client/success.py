"""Whether a job did what was wanted, which "Completed" does not say: a program's exit code fails no job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.facts import Execution, Job
from airflow_provider_bacalhau.client.states import ExecutionState, JobState

SuccessPolicy: TypeAlias = Literal["all", "any"] | int
"""How many executions have to succeed: all that are wanted, one, or at least this many."""

PLAIN_RETURN = -1
"""What a WebAssembly program that returns from ``_start`` without ``exit()`` reads as. It is success."""

_REJECTED = {ExecutionState.ASK_FOR_BID_REJECTED, ExecutionState.BID_REJECTED}


def check_success_policy(value: object) -> SuccessPolicy:
    """A success policy as a user wrote it.

    :param value: ``"all"``, ``"any"``, or a number from 1 on.
    :raises InvalidJobSpec: for anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    if value == "all":
        return "all"
    if value == "any":
        return "any"
    raise InvalidJobSpec(
        f"{value!r:.80} is no success policy.",
        place="success_policy",
        hint='Give "all", "any", or the number of executions that have to succeed, from 1 on.',
    )


def completed_executions(executions: Sequence[Execution]) -> list[Execution]:
    """The executions that ran to their end, in the order of their partitions."""
    return sorted((one for one in executions if one.state is ExecutionState.COMPLETED), key=lambda one: one.partition)


def exit_code_is_good(job: Job, execution: Execution) -> bool:
    """Whether a completed execution's program succeeded: exit code 0, or −1 from WebAssembly."""
    return execution.exit_code == 0 or (job.engine == "wasm" and execution.exit_code == PLAIN_RETURN)


def succeeded_executions(job: Job, executions: Sequence[Execution]) -> list[Execution]:
    """The executions whose program succeeded, in the order of their partitions."""
    return [one for one in completed_executions(executions) if exit_code_is_good(job, one)]


def wanted_executions(job: Job) -> int:
    """How many executions have to complete: the job's count, or at least one of an ops job."""
    return 1 if job.type in {"ops", "daemon"} else max(1, job.count)


def needed_successes(job: Job, policy: SuccessPolicy) -> int:
    """How many executions have to succeed, by a policy."""
    if policy == "all":
        return wanted_executions(job)
    return 1 if policy == "any" else policy


def has_succeeded(
    job: Job, executions: Sequence[Execution], policy: SuccessPolicy = "all", *, is_hopeless: bool = False
) -> bool:
    """Whether a job did what was wanted.

    By ``all``, the job is Completed, as many executions completed as it wants, and every program succeeded. By ``any``
    or a number, that many programs succeeded, and the job is over: Completed, or Failed, since a job that wants three
    executions and can have but two fails, which is what these policies are to forgive. A job that was stopped did
    not succeed, whatever ran before; nor did one without executions.

    :param job: the job.
    :param executions: its executions.
    :param policy: how many have to succeed.
    :param is_hopeless: whether nothing can run the job any more, which is as good as Failed.
    """
    completed, good = completed_executions(executions), succeeded_executions(job, executions)
    if policy != "all":
        is_over = job.state in {JobState.COMPLETED, JobState.FAILED} or (is_hopeless and not job.state.is_terminal)
        return is_over and len(good) >= needed_successes(job, policy)
    if job.type == "ops" and len(completed) < len([one for one in executions if one.state not in _REJECTED]):
        return False
    return job.state is JobState.COMPLETED and len(completed) >= wanted_executions(job) and len(good) == len(completed)


def count_executions(job: Job, executions: Sequence[Execution]) -> dict[str, int]:
    """How many executions a job wants, and what became of those it had.

    :returns: ``wanted``; ``completed``, those that ran to their end; ``succeeded``, those whose program succeeded;
        ``failed``, those that broke or whose program failed, tries that were repeated included.
    """
    completed, good = completed_executions(executions), succeeded_executions(job, executions)
    broken = [one for one in executions if one.state is ExecutionState.FAILED]
    return {
        "wanted": wanted_executions(job),
        "completed": len(completed),
        "succeeded": len(good),
        "failed": len(broken) + len(completed) - len(good),
    }
