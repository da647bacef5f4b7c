"""What can be asked of a Bacalhau server, whichever of its two HTTP APIs is spoken."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, ClassVar

from airflow_provider_bacalhau.client.dialects.logs import LogsRequest
from airflow_provider_bacalhau.client.dialects.versions import Capabilities, RequesterCapabilities, ServerVersion
from airflow_provider_bacalhau.client.effects import MAX_REQUEST_BYTES, Request, TransportError
from airflow_provider_bacalhau.client.errors import (
    BacalhauError,
    InvalidJobSpec,
    ServerUnavailable,
    SubmissionUnclear,
    UnexpectedAnswer,
)
from airflow_provider_bacalhau.client.facts import (
    AgentNode,
    Execution,
    HistoryEvent,
    Job,
    Page,
    StopOutcome,
    Submission,
)
from airflow_provider_bacalhau.client.results import Result

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client.spec import JobSpec


class Dialect(ABC):
    """The primitive operations. How each API does them, and what it cannot, is documented in its own class.

    Every operation raises :class:`Unreachable`, :class:`NotAuthorised`, :class:`ServerUnavailable` or
    :class:`UnexpectedAnswer` when the exchange itself fails; further errors are named where they occur.
    """

    version: ServerVersion
    """What the server is."""
    can: Capabilities | RequesterCapabilities
    """What differs between versions."""
    health: ClassVar[str]
    """A path that every server answers to everyone."""

    @abstractmethod
    async def submit(self, spec: JobSpec) -> Submission:
        """Submit a job. It is sent again only where the job's unique name makes that harmless (v1.8 and later).

        :param spec: the job; written in the shape that this server wants.
        :returns: the id, and the server's warnings.
        :raises InvalidJobSpec: when this server cannot be told the job, or it is larger than the 10 MB that servers
            take; nothing was sent.
        :raises RequestRefused: when the server refuses the spec.
        :raises JobUnchanged: when a job of this name and spec is there already (v1.8 and later).
        :raises Conflict: when a job of this name is being made at this moment (v1.8 and later).
        :raises SubmissionUnclear: when the server may or may not have taken the job.
        """

    @abstractmethod
    async def get(self, job_id: str, *, executions: bool = False, history: bool = False, namespace: str = "") -> Job:
        """Get a job by its id.

        :param job_id: full id, or (v1.8 and later) the job's name in ``namespace``.
        :param executions: whether to bring its executions as well.
        :param history: whether to bring its first 100 events as well.
        :param namespace: where to look a name up; an id is found in any.
        :raises NotFound: for an unknown id.
        """

    @abstractmethod
    async def list(
        self,
        *,
        namespace: str = "",
        labels: Mapping[str, str] | None = None,
        limit: int = 100,
        order_by: str = "created_at",
        reverse: bool = False,
        next_token: str = "",
    ) -> Page[Job]:
        """List jobs.

        :param namespace: one namespace; empty or ``*`` for all. The requester API has none, and gives everybody's jobs.
        :param labels: only jobs that carry all of these.
        :param limit: the most to return; 0 for all.
        :param order_by: ``created_at`` or ``modified_at``.
        :param reverse: newest first.
        :param next_token: of the page before. Labels and namespace must be given again: the token forgets them.
        """

    @abstractmethod
    async def stop(self, job_id: str, reason: str, *, namespace: str = "") -> StopOutcome:
        """Stop a job; its state is Stopped at once, its programs end shortly after.

        :param job_id: full id.
        :param reason: for the job's history, where the server keeps it.
        :returns: what came of it. A job that is already over, or unknown, is an answer and no error.
        """

    @abstractmethod
    async def executions(self, job_id: str, *, namespace: str = "") -> tuple[Execution, ...]:
        """List a job's executions.

        :param job_id: full id.
        :raises NotFound: for an unknown id.
        """

    @abstractmethod
    async def history(
        self, job_id: str, *, since: int = 0, event_type: str = "all", next_token: str = "", namespace: str = ""
    ) -> Page[HistoryEvent]:
        """Read a job's history, oldest first, 100 events a page from v1.5 on.

        :param job_id: full id.
        :param since: only events from this time on, in unix seconds.
        :param event_type: ``all``, ``job`` or ``execution``.
        :param next_token: of the page before.
        :raises NotFound: for an unknown id (v1.7 answers with an empty page instead).
        """

    @abstractmethod
    async def results(self, job_id: str, *, namespace: str = "") -> tuple[Result, ...]:
        """List a job's results, one for each completed execution that published.

        :param job_id: full id of a batch or ops job.
        :returns: the results, in no documented order; empty without a publisher.
        :raises NotFound: for an unknown id.
        """

    @abstractmethod
    async def logs_request(self, job_id: str, execution_id: str = "", *, follow: bool = True) -> LogsRequest:
        """How to listen to the log of one execution.

        :param job_id: full id.
        :param execution_id: full id; empty for the latest execution.
        :param follow: whether to wait for what is still to come.
        :raises NotSupported: for a server that gives no logs.
        :raises ResultUnavailable: when there is no execution yet.
        """

    @abstractmethod
    async def alive(self) -> bool:
        """Ask whether the server is up; open without credentials."""

    async def server_time(self) -> float | None:
        """The server's clock, in seconds since the epoch and to the second; None where it does not tell."""
        try:
            response = await Request("GET", self.health, public=True)
            return parsedate_to_datetime(response.headers.get("date", "")).timestamp()
        except (TransportError, ValueError):
            return None

    @abstractmethod
    async def node(self) -> AgentNode:
        """Describe the node that answers."""

    @abstractmethod
    async def nodes(self) -> tuple[AgentNode, ...]:
        """List the network's nodes."""

    @abstractmethod
    async def check(self) -> None:
        """Ask for something harmless that needs credentials where the server wants any.

        :raises NotAuthorised: when they will not do.
        """


def refuse_if_too_large(body: bytes) -> None:
    """Refuse a job that no server would take.

    :raises InvalidJobSpec: when the request would be larger than 10 MB.
    """
    if len(body) > MAX_REQUEST_BYTES:
        raise InvalidJobSpec(
            f"the job is {len(body):,} bytes long, and servers take {MAX_REQUEST_BYTES:,}",
            hint="Publish large inputs and modules to IPFS or S3, or serve them by URL; inline takes little.",
        )


def may_have_been_taken(error: BacalhauError) -> bool:
    """Whether a job that was answered with this may have been taken: the answer is no word of Bacalhau on it.

    429 is said before anybody looks at the job; a 404 or 405 that is not Bacalhau's comes from where there is none.
    """
    if isinstance(error, ServerUnavailable):
        return error.status != 429
    return isinstance(error, UnexpectedAnswer) and error.status not in {404, 405}


def unclear(request: Request, why: str) -> SubmissionUnclear:
    """The error for a job that was sent and may have been taken."""
    return SubmissionUnclear(
        f"The job was sent, but whether the server took it is not known: {why}.",
        hint="Look for it on the network before submitting it again.",
        method=request.method,
        path=request.path,
    )


def not_what_belongs_there(request: Request, status: int) -> UnexpectedAnswer:
    """The error for a good answer that is not what the API says it is."""
    return UnexpectedAnswer(
        "The server's answer is not the JSON object that belongs there",
        hint="Check host and port of the connection, and whether a proxy answers in the server's place.",
        method=request.method,
        path=request.path,
        status=status,
    )
