"""What servers say, as small frozen records: jobs, executions, events, nodes.

They are read tolerantly, and hold what callers use; specifications that people *write* are in
:mod:`~airflow_provider_bacalhau.client.spec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from airflow_provider_bacalhau.client.reading import Fields, clean, seconds_of
from airflow_provider_bacalhau.client.states import ExecutionState, JobState

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """Part of a list.

    :param items: this part.
    :param next_token: ask with it for the next part; empty when there is none.
    """

    items: tuple[T, ...]
    next_token: str = ""


@dataclass(frozen=True)
class Submission:
    """A job that the server has taken.

    :param job_id: its id, ``j-`` and a UUID.
    :param warnings: what the server ignored or changed.
    :param adopted: whether the job was already there: an earlier send of the same name and spec.
    """

    job_id: str
    warnings: tuple[str, ...] = ()
    adopted: bool = False


class StopOutcome(StrEnum):
    """What came of asking a job to stop. That it is already over is an answer, not an error."""

    STOPPED = "stopped"
    ALREADY_STOPPED = "already stopped"
    ALREADY_COMPLETED = "already completed"
    ALREADY_FAILED = "already failed"
    NOT_FOUND = "not found"


@dataclass(frozen=True)
class Event:
    """Something that happened to a job or to one of its executions.

    :param message: what, in the server's words.
    :param topic: the server's grouping, such as ``Scheduling``.
    :param details: further facts, such as ``ErrorCode`` and ``Hint``.
    """

    message: str
    topic: str = ""
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_error(self) -> bool:
        """Whether the server marked it as an error."""
        return self.details.get("IsError", "").lower() == "true"


@dataclass(frozen=True)
class HistoryEvent:
    """One entry of a job's history.

    :param time: seconds since the epoch, or None.
    :param execution_id: the execution it is about; empty for the job itself.
    :param node_id: the node, where the server says so.
    :param state: what the job or the execution became, where the server says so (requester API).
    """

    event: Event
    time: float | None = None
    execution_id: str = ""
    node_id: str = ""
    state: JobState | ExecutionState | None = None

    @classmethod
    def read(cls, item: Fields) -> HistoryEvent:
        """Read one item of a history.

        Up to v1.4 an item is a change of state with an event that is often empty; later it is the event alone.
        """
        event = item.fields("Event")
        details = event.texts("Details")
        return cls(
            event=Event(event.text("Message") or item.text("Comment"), event.text("Topic"), details),
            time=seconds_of(item.get("Time")),
            execution_id=item.text("ExecutionID"),
            node_id=item.text("NodeID") or details.get("NodeID", ""),
        )


@dataclass(frozen=True)
class Execution:
    """One run of a job on one node.

    :param message: the last event's text; it is not the state (a completed execution may say ``Running``).
    :param exit_code: the program's exit code, −1 for a WebAssembly program that simply returned; None unless completed.
    :param stdout: at most the first 2 KiB, without its last newline, and possibly only the program's first write.
    :param stderr: at most the first 2 KiB.
    :param partition: 0 to N−1 in a job that asks for N executions.
    :param job_version: version of the job that it ran (v1.8 and later); 0 where jobs have none.
    """

    id: str
    job_id: str
    node_id: str
    state: ExecutionState
    message: str = ""
    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    partition: int = 0
    published_type: str = ""
    published: Mapping[str, object] = field(default_factory=dict)
    job_version: int = 0

    @classmethod
    def read(cls, item: Fields, numbers: tuple[ExecutionState, ...]) -> Execution:
        """Read one execution; ``numbers`` is the version's order of states."""
        compute, output, result = item.fields("ComputeState"), item.fields("RunOutput"), item.fields("PublishedResult")
        state = ExecutionState.read(compute.get("StateType"), numbers)
        # A failed execution's output says exit code 0 from v1.5 on: only a completed one has run to its end.
        completed = state is ExecutionState.COMPLETED and output
        return cls(
            id=item.text("ID"),
            job_id=item.text("JobID"),
            node_id=item.text("NodeID"),
            state=state,
            message=compute.text("Message"),
            # None, not 0, for an answer that cannot be read: nothing unread may pass for success.
            exit_code=output.number("ExitCode") if completed else None,
            stdout=output.text("Stdout"),
            stderr=output.text("Stderr"),
            stdout_truncated=output.flag("StdoutTruncated"),
            stderr_truncated=output.flag("StderrTruncated"),
            partition=item.number("PartitionIndex") or 0,
            published_type=result.text("Type"),
            published=result.fields("Params").raw,
            job_version=item.number("JobVersion") or 0,
        )


@dataclass(frozen=True)
class Job:
    """A job as the server sees it.

    :param type: ``batch``, ``ops``, ``service`` or ``daemon``.
    :param count: wanted executions (0 for ops and daemon jobs: one on every matching node).
    :param engine: engine of its task, ``docker`` or ``wasm``.
    :param publisher: publisher of its task; empty or ``noop`` when results are not kept.
    :param created: seconds since the epoch on the server's clock, or None.
    :param executions: None unless asked for.
    :param history: None unless asked for.
    """

    id: str
    name: str
    namespace: str
    type: str
    count: int
    state: JobState
    message: str = ""
    engine: str = ""
    publisher: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    version: int = 0
    created: float | None = None
    modified: float | None = None
    executions: tuple[Execution, ...] | None = None
    history: tuple[HistoryEvent, ...] | None = None

    @property
    def standing(self) -> str:
        """Where it stands, as the end of a sentence; what it waits for, when the server says so."""
        why = clean(" ".join(self.message.split()), 500) if self.state is JobState.QUEUED else ""
        return f"{self.state.value}: {why}" if why else f"{self.state.value}."

    @classmethod
    def read(
        cls,
        item: Fields,
        *,
        executions: tuple[Execution, ...] | None = None,
        history: tuple[HistoryEvent, ...] | None = None,
    ) -> Job:
        """Read one job object."""
        state = item.fields("State")
        task = next(item.items("Tasks"), Fields({}))
        return cls(
            id=item.text("ID"),
            name=item.text("Name"),
            namespace=item.text("Namespace"),
            type=item.text("Type").lower(),
            count=item.number("Count") or 0,
            state=JobState.read(state.get("StateType")),
            message=state.text("Message"),
            engine=task.fields("Engine").text("Type").lower(),
            publisher=task.fields("Publisher").text("Type").lower(),
            labels=item.texts("Labels"),
            version=item.number("Version") or 0,
            created=seconds_of(item.get("CreateTime")),
            modified=seconds_of(item.get("ModifyTime")),
            executions=executions,
            history=history,
        )


@dataclass(frozen=True)
class AgentNode:
    """A node of the network.

    :param kind: ``Compute`` or ``Requester``.
    :param connection: ``CONNECTED`` or ``DISCONNECTED``; empty where the server does not say.
    :param membership: ``APPROVED``, ``PENDING`` or ``REJECTED``; empty where the server does not say.
    """

    id: str
    kind: str
    engines: tuple[str, ...] = ()
    publishers: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    connection: str = ""
    membership: str = ""

    @property
    def takes_jobs(self) -> bool:
        """Whether it is a compute node that is approved and connected."""
        return (
            self.kind.lower() == "compute"
            and self.connection.upper() in {"", "CONNECTED", "HEALTHY"}
            and self.membership.upper() in {"", "APPROVED"}
        )

    @classmethod
    def read(cls, item: Fields) -> AgentNode:
        """Read a node, wrapped in its state (nodes from v1.3.1, agent of v1.3.1–v1.5) or bare."""
        info = item.fields("Info") or item
        compute = info.fields("ComputeNodeInfo")
        return cls(
            id=info.text("NodeID") or info.fields("PeerInfo").text("ID"),
            kind=info.text("NodeType"),
            engines=compute.words("ExecutionEngines"),
            publishers=compute.words("Publishers"),
            sources=compute.words("StorageSources"),
            connection=item.text("Connection"),
            membership=item.text("Membership"),
        )
