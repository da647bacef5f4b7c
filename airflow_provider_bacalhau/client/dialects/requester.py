"""The signed requester API (``/requester``), as servers v0.3.26–v1.3 speak it.

Source: the servers' code and recordings of running nodes; reference ``bacalhau-requester-api``. What differs between
versions is in :mod:`~airflow_provider_bacalhau.client.dialects.versions`, how answers are read in
:mod:`~airflow_provider_bacalhau.client.dialects.requester_answers`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_bacalhau.client.dialects.answers import unreachable
from airflow_provider_bacalhau.client.dialects.dialect import (
    Dialect,
    may_have_been_taken,
    not_what_belongs_there,
    refuse_if_too_large,
    unclear,
)
from airflow_provider_bacalhau.client.dialects.envelope import envelope
from airflow_provider_bacalhau.client.dialects.logs import LogsRequest, latest, read_requester_frame
from airflow_provider_bacalhau.client.dialects.requester_answers import (
    annotations_of,
    job_state,
    read_event,
    read_executions,
    read_job,
    read_node,
    read_results,
    requester_error,
)
from airflow_provider_bacalhau.client.dialects.versions import RequesterCapabilities, ServerVersion
from airflow_provider_bacalhau.client.effects import Call, Request, Response, TransportError
from airflow_provider_bacalhau.client.errors import JobOver, NotFound, NotSupported
from airflow_provider_bacalhau.client.facts import (
    AgentNode,
    Execution,
    HistoryEvent,
    Job,
    Page,
    StopOutcome,
    Submission,
)
from airflow_provider_bacalhau.client.reading import Fields, clean
from airflow_provider_bacalhau.client.results import Result
from airflow_provider_bacalhau.client.states import JobState

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client.identity import Identity
    from airflow_provider_bacalhau.client.spec import JobSpec

_JSON = {"Content-Type": "application/json"}
_NO_JOB = "00000000-0000-4000-8000-000000000000"
_JOB_ID = "x-bacalhau-job-id"
_CANCELLED_KEY = "state"
_NO_NODES = "not enough nodes to run job"

_ALREADY = {
    JobState.COMPLETED: StopOutcome.ALREADY_COMPLETED,
    JobState.FAILED: StopOutcome.ALREADY_FAILED,
    JobState.STOPPED: StopOutcome.ALREADY_STOPPED,
}


class RequesterDialect(Dialect):
    """The primitive operations of the requester API.

    Submitting and stopping are signed; jobs belong to the key that submitted them, and only it may stop them. Everybody
    may read everything, so nothing else needs the key. There are no namespaces: ``namespace`` is accepted everywhere
    and does nothing. Names of jobs are not unique, so an unclear submission stays unclear.

    :param version: what the server is.
    :param identity: gives the key, when it is first needed; called off the event loop.
    """

    health = "/livez"

    def __init__(self, version: ServerVersion, identity: Callable[[], Identity]) -> None:
        self.version = version
        self.can: RequesterCapabilities = version.requester
        self._identity = identity

    async def submit(self, spec: JobSpec) -> Submission:
        """Submit a job: ``POST submit``, signed, sent once.

        Servers until v1.0.3 look for nodes meanwhile, and refuse a job for which there are none, but keep it as failed.
        That job is returned, with the refusal as a warning, for its diagnosis says more.

        :param spec: the job; written as a requester ``Spec``.
        :returns: the id, a UUID.
        :raises InvalidJobSpec: when the API has no words for the job, or it is larger than the 10 MB that servers take;
            nothing was sent.
        :raises RequestRefused: when the server refuses the spec.
        :raises SubmissionUnclear: when the server may or may not have taken the job.
        """
        from airflow_provider_bacalhau.client.spec.legacy import write_requester_spec

        payload = {
            "APIVersion": self.can.api_version,
            "Spec": write_requester_spec(spec, shape=self.can.shape),
        }
        request = await self._signed("submit", payload)
        try:
            response = await request
        except TransportError as error:
            if not error.sent:
                raise unreachable(request, error) from None
            raise unclear(request, str(error)) from None
        if not response.ok:
            return self._kept_as_failed(request, response)
        answer = Fields(response.json())
        job_id = answer.fields("job").fields("Metadata").text("ID")
        if not job_id:
            raise unclear(request, "an answer without a job id")
        return Submission(job_id)

    async def get(self, job_id: str, *, executions: bool = False, history: bool = False, namespace: str = "") -> Job:
        """Get a job: ``POST list`` with its id, which holds its executions as well.

        :param job_id: full id; jobs cannot be looked up by name.
        :param executions: whether to bring its executions as well.
        :param history: whether to bring its events as well, by ``POST events``. Only they say why a job failed.
        :raises NotFound: for an unknown id.
        """
        answer = await self._ask("list", {"id": job_id, "max_jobs": 1})
        found = next(answer.items("jobs"), Fields({}))
        if not found.fields("Job").fields("Metadata").text("ID"):
            raise not_what_belongs_there(Request("POST", self._path("list")), 200)
        events = (await self.history(job_id)).items if history else None
        return read_job(found, executions=executions, history=events)

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
        """List jobs: ``POST list``, everybody's.

        Servers until v1.0.3 cut a list before they sort it, and all find jobs by *any* of some annotations, in any
        letter case: then the whole list is asked for, and sorted and cut here.

        :param labels: only jobs that carry all of these, as annotations. Jobs that were submitted through the
            orchestrator API show the keys of their labels only, and are not found by a value.
        :param limit: the most to return; 0 for all.
        :param order_by: ``created_at`` or ``modified_at``.
        :param reverse: newest first.
        :param next_token: of the page before. It is a number of jobs: those that come meanwhile shift the pages.
            Labels must be given again.
        """
        wanted = dict(labels or {})
        start = int(next_token) if next_token.isascii() and next_token.isdigit() else 0
        by_modified = order_by == "modified_at"
        can_cut = self.can.limits_sorted and not wanted and (self.can.sorts_by_modified or not by_modified)
        query: dict[str, Any] = {
            "return_all": True,
            "max_jobs": start + limit + 1 if limit and can_cut else 0,
            "sort_by": "modified_at" if by_modified and self.can.sorts_by_modified else "created_at",
            "sort_reverse": reverse,
        }
        if wanted:
            query["include_tags"] = annotations_of(wanted)
        answer = await self._ask("list", query)
        if not answer.has("jobs"):  # "no jobs" has to be said: a job that is not seen is submitted again
            raise not_what_belongs_there(Request("POST", self._path("list")), 200)
        jobs = [read_job(item, executions=False) for item in answer.items("jobs")]
        jobs = [job for job in jobs if wanted.items() <= job.labels.items()]
        jobs.sort(key=lambda job: (job.modified if by_modified else job.created) or 0.0, reverse=reverse)
        end = start + limit if limit else len(jobs)
        return Page(tuple(jobs[start:end]), str(end) if len(jobs) > end else "")

    async def stop(self, job_id: str, reason: str, *, namespace: str = "") -> StopOutcome:
        """Stop a job: ``POST cancel``, signed.

        Servers from v1.0.4 on say the same to a job that was stopped before, so its state is read first; those until
        v1.0.3 do not say how a job ended, so its state is read afterwards.

        :param job_id: full id.
        :param reason: kept in the job's history until v1.0.3 only.
        :returns: what came of it. A job that is already over, or unknown, is an answer and no error.
        :raises NotAuthorised: for a job of another key, or one that was submitted through the orchestrator API.
        """
        try:
            if self.can.cancels_twice and await self._state(job_id) is JobState.STOPPED:
                return StopOutcome.ALREADY_STOPPED
            request = replace(
                await self._signed("cancel", {"JobID": job_id, "Reason": reason}), answer_key=_CANCELLED_KEY
            )
            if not (await self._exchange(request)).has(_CANCELLED_KEY):
                raise not_what_belongs_there(request, 200)
        except NotFound:
            return StopOutcome.NOT_FOUND
        except JobOver:
            return _ALREADY.get(await self._state(job_id), StopOutcome.ALREADY_COMPLETED)
        return StopOutcome.STOPPED

    async def executions(self, job_id: str, *, namespace: str = "") -> tuple[Execution, ...]:
        """List a job's executions: ``POST states``.

        :param job_id: full id.
        :raises NotFound: for an unknown id.
        """
        return read_executions((await self._ask("states", {"job_id": job_id})).fields("state"))

    async def history(
        self, job_id: str, *, since: int = 0, event_type: str = "all", next_token: str = "", namespace: str = ""
    ) -> Page[HistoryEvent]:
        """Read a job's history: ``POST events``, oldest first, all of it in one page.

        :param job_id: full id.
        :param since: only events from this time on, in unix seconds.
        :param event_type: ``all``, ``job`` or ``execution``.
        :param next_token: does nothing; there is only one page.
        :raises NotFound: for an unknown id.
        """
        filters = {
            "since": since,
            "exclude_execution_level": event_type == "job",
            "exclude_job_level": event_type == "execution",
        }
        answer = await self._ask("events", {"job_id": job_id, "filters": filters})
        return Page(tuple(map(read_event, answer.items("events"))))

    async def results(self, job_id: str, *, namespace: str = "") -> tuple[Result, ...]:
        """List a job's results: ``POST results``, one for each completed execution that published.

        :param job_id: full id.
        :returns: the results, in no documented order; empty without a publisher.
        :raises NotFound: for an unknown id.
        """
        return read_results((await self._ask("results", {"job_id": job_id})).items("results"))

    async def logs_request(self, job_id: str, execution_id: str = "", *, follow: bool = True) -> LogsRequest:
        """How to listen to the log of one execution: a websocket at ``logs``, a signed message first (until v1.2.1).

        :param job_id: full id.
        :param execution_id: full id; empty for the latest execution.
        :param follow: whether to wait for what is still to come.
        :raises NotSupported: for servers from v1.2.2 on, which give logs through the orchestrator API only.
        :raises ResultUnavailable: when there is no execution yet.
        """
        if not self.can.logs:
            raise NotSupported(
                f"This server ({self.version.text}) gives no logs through the requester API.",
                hint="Set `api` of the connection to auto or orchestrator.",
            )
        if not execution_id:
            execution_id = latest(await self.executions(job_id), job_id)
        identity = await Call(self._identity)
        payload = {
            "ClientID": identity.client_id,
            "JobID": job_id,
            "ExecutionID": execution_id,
            "WithHistory": True,
            "Follow": follow,
        }
        request = Request("GET", self._path("logs"))
        return LogsRequest(request, envelope(identity, payload), read_requester_frame)

    async def alive(self) -> bool:
        """Ask whether the server is up: ``GET /livez``, open without credentials."""
        response = await self._answer(Request("GET", self.health, public=True))
        return response.text().strip() == "OK"

    async def node(self) -> AgentNode:
        """Describe the node that answers: ``GET /node_info``."""
        return read_node(await self._exchange(Request("GET", "/node_info")))

    async def nodes(self) -> tuple[AgentNode, ...]:
        """List the network's nodes: ``GET nodes``. Servers until v1.0.3 cannot: there it is the node that answers."""
        if not self.can.nodes:
            return (await self.node(),)
        request = Request("GET", self._path("nodes"))
        nodes = (await self._answer(request)).json()
        if not isinstance(nodes, list):
            raise not_what_belongs_there(request, 200)
        return tuple(read_node(Fields(node)) for node in nodes if isinstance(node, Mapping))

    async def check(self) -> None:
        """Stop a job that cannot exist, signed: the server looks at the signature before it looks for the job.

        :raises NotAuthorised: when the key will not do.
        :raises ConfigurationError: when there is no key that can be used.
        """
        await self._ask("list", {"max_jobs": 1})
        request = await self._signed("cancel", {"JobID": _NO_JOB, "Reason": "checking the connection"})
        try:
            await self._exchange(request)
        except NotFound:
            return

    # -- the wire -----------------------------------------------------------------------------------------------------

    def _path(self, operation: str) -> str:
        return f"{self.can.prefix}/{operation}"

    async def _signed(self, operation: str, payload: Mapping[str, Any]) -> Request:
        """A signed request. Stopping twice does no harm, submitting twice makes two jobs."""
        identity = await Call(self._identity)
        body = envelope(identity, {"ClientID": identity.client_id, **payload})
        refuse_if_too_large(body)
        return Request("POST", self._path(operation), headers=_JSON, body=body, repeatable=operation != "submit")

    async def _ask(self, operation: str, query: Mapping[str, Any]) -> Fields:
        """Ask for something that is not signed; nobody checks the client id, and an empty one is anybody's."""
        body = json.dumps({"client_id": "", **query}).encode()
        return await self._exchange(Request("POST", self._path(operation), headers=_JSON, body=body, repeatable=True))

    async def _state(self, job_id: str) -> JobState:
        state = (await self._ask("states", {"job_id": job_id})).fields("state")
        return job_state(state.text("State"))

    async def _exchange(self, request: Request) -> Fields:
        answer = (await self._answer(request)).json()
        if not isinstance(answer, Mapping):
            raise not_what_belongs_there(request, 200)
        return Fields(answer)

    @staticmethod
    async def _answer(request: Request) -> Response:
        try:
            response = await request
        except TransportError as error:
            raise unreachable(request, error) from None
        if not response.ok:
            raise requester_error(request, response)
        return response

    @staticmethod
    def _kept_as_failed(request: Request, response: Response) -> Submission:
        """The job that the server refused but kept.

        :raises BacalhauError: in all other cases: the refusal, or that it settles nothing.
        """
        error = requester_error(request, response)
        job_id = response.headers.get(_JOB_ID, "")
        if response.status == 500 and job_id and _NO_NODES in error.server_message:
            return Submission(job_id, warnings=(clean(error.server_message, 500),))
        if may_have_been_taken(error):
            raise unclear(request, f"HTTP {error.status}") from error
        raise error
