"""What the node keeps: jobs, executions, events. Facts only; :mod:`.messages` and :mod:`.scheduler` change them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from airflow_provider_bacalhau.devnode.resources import Resources, parse_resources

SECOND = 1_000_000_000
"""Nanoseconds: in them all times are kept."""


class JobState(StrEnum):
    """State of a job; on the wire it is this text."""

    PENDING = "Pending"
    QUEUED = "Queued"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"

    @property
    def is_terminal(self) -> bool:
        """Only an update or a rerun leaves this state."""
        return self in {JobState.COMPLETED, JobState.FAILED, JobState.STOPPED}


class ComputeState(IntEnum):
    """Observed state of an execution; on the wire it is this number (v1.5.2 and later)."""

    NEW = 1
    ASK_FOR_BID_ACCEPTED = 3
    ASK_FOR_BID_REJECTED = 4
    BID_ACCEPTED = 5
    BID_REJECTED = 8
    COMPLETED = 9
    FAILED = 10
    CANCELLED = 11

    @property
    def is_terminal(self) -> bool:
        """Nothing more is observed of the execution."""
        return self >= ComputeState.BID_REJECTED or self is ComputeState.ASK_FOR_BID_REJECTED

    @property
    def is_discarded(self) -> bool:
        """Ended without a result, so that its partition is free again."""
        return self.is_terminal and self is not ComputeState.COMPLETED


class DesiredState(IntEnum):
    """What the orchestrator wants of an execution; a number on the wire."""

    PENDING = 0
    RUNNING = 1
    STOPPED = 2


class Topic(StrEnum):
    """Topics of history events."""

    SUBMISSION = "Submission"
    REQUESTING = "Requesting Node"
    STATE_UPDATE = "State Update"
    SCHEDULING = "Scheduling"
    QUEUEING = "Queueing"
    JOB_TIMEOUT = "Job Timeout"
    EXECUTION = "Execution"
    SCANNING = "Exec Scanning"
    RUNNING = "Running Execution"
    PUBLISHING = "Publishing Results"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a job's history.

    :param at: nanoseconds since 1970.
    """

    message: str
    topic: str
    at: int
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """An event with its place in the history of its job. ``execution_id`` is empty for events of the job itself."""

    seq: int
    job_id: str
    job_version: int
    execution_id: str
    event: Event


@dataclass(frozen=True, slots=True)
class Job:
    """One version of a job and its state.

    :param spec: the normalised specification in wire form, ``Name`` to ``Tasks``; never changed in place.
    :param created: nanoseconds since 1970, of the first version.
    """

    id: str
    spec: Mapping[str, Any]
    created: int
    modified: int
    version: int = 1
    state: JobState = JobState.PENDING
    message: str = ""
    revision: int = 1

    @property
    def name(self) -> str:
        """Unique in its namespace; the id when the user gave none."""
        return str(self.spec["Name"])

    @property
    def namespace(self) -> str:
        """Where the name is unique."""
        return str(self.spec["Namespace"])

    @property
    def type(self) -> str:
        """``batch``, ``ops``, ``service`` or ``daemon``."""
        return str(self.spec["Type"])

    @property
    def count(self) -> int:
        """Wanted executions; 0 for ops and daemon jobs, which run on every node."""
        return int(self.spec["Count"])

    @property
    def task(self) -> Mapping[str, Any]:
        """The one task."""
        task: Mapping[str, Any] = self.spec["Tasks"][0]
        return task

    @property
    def is_long_running(self) -> bool:
        """Service and daemon jobs are never meant to end."""
        return self.type in {"service", "daemon"}

    @property
    def resources(self) -> Resources:
        """What the job asks of a node."""
        return parse_resources(self.task["Resources"])

    def timeout(self, which: str) -> int:
        """Seconds of ``ExecutionTimeout``, ``QueueTimeout`` or ``TotalTimeout``; 0 is none."""
        return int(self.task["Timeouts"].get(which, 0))

    @property
    def execution_timeout(self) -> int:
        """Seconds one execution may run; without one of its own a job's total timeout counts (as in v1.9.3)."""
        return self.timeout("ExecutionTimeout") or self.timeout("TotalTimeout")


@dataclass(frozen=True, slots=True)
class RunOutput:
    """What a program left behind, cut to what the record keeps."""

    stdout: str = ""
    stdout_truncated: bool = False
    stderr: str = ""
    stderr_truncated: bool = False
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Execution:
    """One attempt to run a job on one node.

    :param job: the job as it was when the execution was made; v1.9.3 shows it inside the execution.
    :param published: the result as a ``{"Type", "Params"}`` pair, empty without one.
    """

    id: str
    job: Job
    node_id: str
    eval_id: str
    created: int
    modified: int
    partition: int = 0
    desired: DesiredState = DesiredState.PENDING
    desired_message: str = ""
    state: ComputeState = ComputeState.NEW
    message: str = ""
    published: Mapping[str, Any] = field(default_factory=dict)
    output: RunOutput = RunOutput()
    revision: int = 1

    @property
    def is_terminal(self) -> bool:
        """Wanted or observed to be over."""
        return self.desired is DesiredState.STOPPED or self.state.is_terminal
