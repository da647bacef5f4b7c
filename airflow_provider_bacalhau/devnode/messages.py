"""What users ask and what compute nodes report, and what each changes at once: pure transitions on an injected clock.

What a job needs next is then decided by :mod:`.scheduler`. The answers, their order and their words are those of the
v1.9.3 orchestrator and its message handler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_provider_bacalhau.devnode.changes import Change, Effect, LookAgain, Trigger, with_state
from airflow_provider_bacalhau.devnode.records import (
    SECOND,
    ComputeState,
    DesiredState,
    Event,
    Execution,
    Job,
    JobState,
    RunOutput,
    Topic,
)


class Refused(Exception):
    """A request that the state of the job does not allow.

    :param code: the server's error code, empty when it gives none.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


# --- what users ask --------------------------------------------------------------------------------------------------


def submitted(job: Job, now: int) -> Change:
    """A new job."""
    return Change(job, job_events=[Event("Job submitted", Topic.SUBMISSION, now)], effects=_deadline(job))


def updated(job: Job, spec: Mapping[str, Any], now: int) -> Change:
    """A new specification under the name of a job: next version, pending again, even when it was over."""
    return _restarted(job, spec, now, "Job update requested by user", Event("Job updated", Topic.SUBMISSION, now))


def rerun(job: Job, spec: Mapping[str, Any], now: int) -> Change:
    """Run a version of a job again.

    :raises Refused: a job that has not run yet.
    """
    if job.state in {JobState.PENDING, JobState.QUEUED}:
        raise Refused(f"cannot rerun job in state {job.state}")
    event = Event("Job rerun requested", Topic.SUBMISSION, now, {"Reason": "job rerun"})
    return _restarted(job, spec, now, "job rerun", event)


def _restarted(job: Job, spec: Mapping[str, Any], now: int, message: str, event: Event) -> Change:
    # What makes a job unique and its type stay; a type sent with an update is ignored by the server.
    kept = {key: job.spec[key] for key in ("Name", "Namespace", "Type")}
    again = replace(
        job,
        spec={**spec, **kept},
        version=job.version + 1,
        state=JobState.PENDING,
        message=message,
        revision=job.revision + 1,
        modified=now,
    )
    return Change(again, job_events=[event], effects=_deadline(again))


def stopped(job: Job, reason: str, now: int, *, tells_reason: bool = True) -> Change | None:
    """Stop a job. None when it was stopped before.

    :param tells_reason: the job's message is the reason.
    :raises Refused: a job that is over.
    """
    if job.state is JobState.STOPPED:
        return None
    if job.state is JobState.COMPLETED:
        raise Refused(f"cannot stop job in state {job.state}")
    if job.state is JobState.FAILED:
        raise Refused(
            f"job {job.id} is in terminal state {job.state} and cannot transition to Stopped", "ConflictJobState"
        )
    event = Event("Job requested to stop before completion", Topic.SCHEDULING, now, {"Reason": reason})
    message = reason if tells_reason else event.message
    return Change(with_state(job, JobState.STOPPED, now, message), job_events=[event])


def _deadline(job: Job) -> list[Effect]:
    total = job.timeout("TotalTimeout")
    return [LookAgain(job.created + total * SECOND, Trigger.TIMED_OUT)] if total else []


# --- what compute nodes report ---------------------------------------------------------------------------------------


def bid_accepted(job: Job, execution: Execution, now: int) -> Change:
    """A node takes an execution; it waits for approval."""
    if execution.is_terminal:
        return Change(job)
    return _changed(job, replace(execution, state=ComputeState.ASK_FOR_BID_ACCEPTED), now)


def bid_rejected(job: Job, execution: Execution, reason: str, now: int) -> Change:
    """A node does not want an execution; the job is not offered to it again."""
    if execution.is_terminal:
        return Change(job)
    rejected = replace(
        execution,
        state=ComputeState.ASK_FOR_BID_REJECTED,
        message=reason,
        desired=DesiredState.STOPPED,
        desired_message="bid rejected",
    )
    return _changed(job, rejected, now, Event(reason, Topic.SCANNING, now))


def execution_completed(
    job: Job, execution: Execution, published: Mapping[str, Any], output: RunOutput, now: int
) -> Change:
    """A program ended, whatever its exit code, and its result is published.

    Too late for an execution that was stopped in the meantime: then nothing changes. An end is a failure for jobs that
    are to run until they are stopped.
    """
    if execution.desired is not DesiredState.RUNNING or execution.is_terminal:
        return Change(job)
    ended = replace(
        execution,
        state=ComputeState.COMPLETED,
        desired=DesiredState.STOPPED,
        desired_message="execution completed",
        published=published,
        output=output,
    )
    if job.is_long_running:
        unexpected = "execution completed unexpectedly"
        ended = replace(ended, state=ComputeState.FAILED, message=unexpected, desired_message=unexpected)
    return _changed(job, ended, now, Event("Completed successfully", Topic.EXECUTION, now))


def execution_failed(job: Job, execution: Execution, event: Event, now: int) -> Change:
    """An execution failed before, while or after it ran; the event says how. Too late for one that is over."""
    if execution.is_terminal:
        return Change(job)
    failed = replace(
        execution,
        state=ComputeState.FAILED,
        message=event.message,
        desired=DesiredState.STOPPED,
        desired_message="execution failed",
    )
    return _changed(job, failed, now, event)


def node_restarted(job: Job, execution: Execution, now: int) -> Change:
    """The node went down while it ran an execution; the program is gone."""
    event = Event("Failing due to node restart", Topic.EXECUTION, now, {"FailsExecution": "true"})
    return execution_failed(job, execution, event, now)


def _changed(job: Job, execution: Execution, now: int, event: Event | None = None) -> Change:
    execution = replace(execution, revision=execution.revision + 1, modified=now)
    events = [] if event is None else [(execution.id, event)]
    return Change(job, executions={execution.id: execution}, execution_events=events)
