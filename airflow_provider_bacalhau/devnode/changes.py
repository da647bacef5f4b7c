"""What a look at a job can lead to: new records, events and effects; words that the scheduler and its caller share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto

from airflow_provider_bacalhau.devnode.records import Event, Execution, Job, JobState


class Trigger(Enum):
    """Why a job is looked at; only a registration and a running job may turn to *Queued*."""

    REGISTERED = auto()
    UPDATED = auto()
    EXECUTION_CHANGED = auto()
    BACKOFF_OVER = auto()
    STOPPED = auto()
    TIMED_OUT = auto()


@dataclass(frozen=True, slots=True)
class AskForBid:
    """Ask a node whether it takes an execution."""

    execution: Execution


@dataclass(frozen=True, slots=True)
class Run:
    """Let a node run an execution that it has bid for. ``bid`` is true when it has not been asked yet (ops, daemon)."""

    execution: Execution
    bid: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    """Let a node end an execution."""

    execution: Execution


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Evaluate the job once more at a time (nanoseconds since 1970)."""

    at: int
    trigger: Trigger


Effect = AskForBid | Run | Cancel | LookAgain


@dataclass(slots=True)
class Change:
    """What a transition leads to. The job's events come before those of its executions, as in a real history."""

    job: Job
    executions: dict[str, Execution] = field(default_factory=dict)
    job_events: list[Event] = field(default_factory=list)
    execution_events: list[tuple[str, Event]] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)

    @property
    def events(self) -> list[tuple[str, Event]]:
        """Pairs of execution id (empty for the job) and event, in order."""
        return [("", event) for event in self.job_events] + self.execution_events


def with_state(job: Job, state: JobState, now: int, message: str) -> Job:
    """The job's next record: in another state, for a reason."""
    return replace(job, state=state, message=message, revision=job.revision + 1, modified=now)
