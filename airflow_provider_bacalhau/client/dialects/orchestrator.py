"""The orchestrator API (``/api/v1/orchestrator``), as servers v1.1–v1.9 speak it.

Source: the servers' code and recordings of running nodes; reference ``bacalhau-orchestrator-api``. What differs between
versions is in :mod:`~airflow_provider_bacalhau.client.dialects.versions`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from airflow_provider_bacalhau.client.dialects.answers import error_of, unreachable
from airflow_provider_bacalhau.client.dialects.detection import API
from airflow_provider_bacalhau.client.dialects.dialect import (
    Dialect,
    may_have_been_taken,
    not_what_belongs_there,
    refuse_if_too_large,
    unclear,
)
from airflow_provider_bacalhau.client.dialects.logs import LogsRequest, read_orchestrator_frame
from airflow_provider_bacalhau.client.dialects.versions import Capabilities, ServerVersion
from airflow_provider_bacalhau.client.effects import Request, TransportError
from airflow_provider_bacalhau.client.errors import (
    JobOver,
    NotFound,
    NotSupported,
    ServerUnavailable,
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
from airflow_provider_bacalhau.client.reading import Fields, clean
from airflow_provider_bacalhau.client.results import Result
from airflow_provider_bacalhau.client.states import JobState

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client.spec import JobSpec

log = logging.getLogger(__name__)

_JSON = {"Content-Type": "application/json"}


class OrchestratorDialect(Dialect):
    """The primitive operations of the orchestrator API.

    Every operation raises :class:`Unreachable`, :class:`NotAuthorised`, :class:`ServerUnavailable` or
    :class:`UnexpectedAnswer` when the exchange itself fails; further errors are named where they occur.

    :param version: what the server is.
    """

    health = f"{API}/agent/alive"

    def __init__(self, version: ServerVersion) -> None:
        self.version = version
        self.can: Capabilities = version.capabilities

    async def submit(self, spec: JobSpec) -> Submission:
        """Submit a job: ``POST /orchestrator/jobs``.

        POST and not PUT: the handler is the same (v1.3.2–v1.9.3), and HTTP libraries repeat a PUT by themselves when
        its answer is lost. It is sent again only where the job's unique name makes that harmless (v1.8 and later).

        :param spec: the job; written in the shape that this server wants.
        :returns: the id, and the server's warnings.
        :raises InvalidJobSpec: when the request would be larger than the 10 MB that servers take; nothing was sent.
        :raises RequestRefused: when the server refuses the spec.
        :raises JobUnchanged: when a job of this name and spec is there already (v1.8 and later).
        :raises Conflict: when a job of this name is being made at this moment (v1.8 and later).
        :raises SubmissionUnclear: when the server may or may not have taken the job.
        """
        job = spec.to_wire(module_sources=self.can.module_sources)
        left_out = self._fit(job)
        body = json.dumps({"Job": job}).encode()
        refuse_if_too_large(body)
        request = Request(
            "POST",
            self._jobs(),
            headers=_JSON,
            body=body,
            repeatable=self.can.unique_names and bool(spec.name),
            answer_key="JobID",
        )
        try:
            answer = await self._exchange(request)
        except TransportError as error:
            if not error.sent:
                raise unreachable(request, error) from None
            raise unclear(request, str(error)) from None
        except (ServerUnavailable, UnexpectedAnswer) as error:
            if not may_have_been_taken(error):
                raise
            why = "an answer that cannot be read" if error.status == 200 else f"HTTP {error.status}"
            raise unclear(request, why) from error
        job_id = answer.text("JobID")
        if not job_id:
            raise unclear(request, "an answer without a job id")
        return Submission(job_id, warnings=(*left_out, *(clean(word, 500) for word in answer.words("Warnings"))))

    async def get(self, job_id: str, *, executions: bool = False, history: bool = False, namespace: str = "") -> Job:
        """Get a job: ``GET /orchestrator/jobs/ID``; a direct look-up, cheap for the server however many jobs it holds.

        :param job_id: full id, or (v1.8 and later) the job's name in ``namespace``.
        :param executions: whether to bring its executions as well.
        :param history: whether to bring its first 100 events as well.
        :param namespace: where to look a name up; an id is found in any.
        :raises NotFound: for an unknown id.
        """
        if (executions or history) and not self.can.included:
            return await self._gather(job_id, executions=executions, history=history)
        include = ",".join(word for word, wanted in (("executions", executions), ("history", history)) if wanted)
        target = self._jobs(job_id, include=include, namespace=namespace)
        answer = await self._get(target)
        if not answer.fields("Job").text("ID"):
            raise not_what_belongs_there(Request("GET", target), 200)
        return Job.read(
            answer.fields("Job"),
            executions=self._executions(answer.fields("Executions")) if executions else None,
            history=self._history(answer.fields("History")) if history else None,
        )

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
        """List jobs: ``GET /orchestrator/jobs``.

        The server reads every job of the namespace for each call (4 ms at 100 jobs, 0.3 s at 10,000), whatever the
        limit; the namespace is its only index.

        :param namespace: one namespace; empty or ``*`` for all.
        :param labels: only jobs that carry all of these.
        :param limit: the most to return; 0 for all.
        :param order_by: ``created_at`` or ``modified_at``.
        :param reverse: newest first.
        :param next_token: of the page before. Labels and namespace must be given again: the token forgets them.
        """
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        query = {
            "namespace": namespace,
            "labels": selector,
            "limit": str(limit) if limit else "",
            "order_by": order_by,
            "reverse": "true" if reverse else "",
            "next_token": next_token,
        }
        target = self._jobs(**query)
        answer = await self._get(target)
        jobs = tuple(map(Job.read, answer.items("Items", "Jobs")))
        # "No jobs" has to be said, by null or an empty list: a job that is not seen is submitted again.
        items = answer.get("Items", "Jobs") or []
        if not answer.has("Items", "Jobs") or not isinstance(items, list) or len(items) > len(jobs):
            raise not_what_belongs_there(Request("GET", target), 200)
        return Page(jobs, answer.text("NextToken"))

    async def stop(self, job_id: str, reason: str, *, namespace: str = "") -> StopOutcome:
        """Stop a job: ``DELETE /orchestrator/jobs/ID``; its state is Stopped at once, its programs end shortly after.

        :param job_id: full id.
        :param reason: kept in the job's history; read from a JSON body only (the query that the official SDK uses is
            dropped).
        :returns: what came of it. A job that is already over, or unknown, is an answer and no error.
        """
        body = json.dumps({"reason": reason}).encode()
        try:
            target = self._jobs(job_id, namespace=namespace)
            answer = await self._get(target, method="DELETE", headers=_JSON, body=body, answer_key="EvaluationID")
        except NotFound:
            return StopOutcome.NOT_FOUND
        except JobOver as error:
            return StopOutcome.ALREADY_FAILED if "Failed" in error.server_message else StopOutcome.ALREADY_COMPLETED
        if not answer.has("EvaluationID"):  # servers leave it empty, and say so
            raise not_what_belongs_there(Request("DELETE", target), 200)
        return StopOutcome.STOPPED if answer.text("EvaluationID") else StopOutcome.ALREADY_STOPPED

    async def executions(self, job_id: str, *, namespace: str = "") -> tuple[Execution, ...]:
        """List a job's executions: ``GET /orchestrator/jobs/ID/executions``; the server never cuts this list.

        :param job_id: full id.
        :raises NotFound: for an unknown id.
        """
        return self._executions(await self._get(self._jobs(job_id, "executions", namespace=namespace)))

    async def history(
        self, job_id: str, *, since: int = 0, event_type: str = "all", next_token: str = "", namespace: str = ""
    ) -> Page[HistoryEvent]:
        """Read a job's history: ``GET /orchestrator/jobs/ID/history``, oldest first, 100 events a page from v1.5 on.

        While the job is not over the last page has a token, too: asked with it, the server answers cheaply with what is
        new, or with nothing and the same token.

        :param job_id: full id.
        :param since: only events from this time on, in unix seconds.
        :param event_type: ``all``, ``job`` or ``execution``.
        :param next_token: of the page before.
        :raises NotFound: for an unknown id (v1.7 answers with an empty page instead).
        """
        query = {"since": str(since) if since else "", "event_type": event_type, "namespace": namespace}
        if self.can.history_pages:
            query["next_token"] = next_token
        answer = await self._get(self._jobs(job_id, "history", **query))
        return Page(self._history(answer), answer.text("NextToken"))

    async def results(self, job_id: str, *, namespace: str = "") -> tuple[Result, ...]:
        """List a job's results: ``GET /orchestrator/jobs/ID/results``, one for each completed execution that published.

        Signed addresses in it are made anew for each call and age within minutes: fetch them where they are used.

        :param job_id: full id of a batch or ops job; the server refuses other types.
        :returns: the results, in no documented order; empty without a publisher.
        :raises NotFound: for an unknown id.
        """
        answer = await self._get(self._jobs(job_id, "results", namespace=namespace))
        return tuple(
            Result(item.text("Type"), item.fields("Params").raw, index)
            for index, item in enumerate(answer.items("Items", "Results"))
            if item.text("Type")
        )

    async def logs_request(self, job_id: str, execution_id: str = "", *, follow: bool = True) -> LogsRequest:
        """How to listen to the log of one execution: a websocket at ``GET /orchestrator/jobs/ID/logs``.

        :param job_id: full id.
        :param execution_id: full id; empty for the latest execution that is not discarded.
        :param follow: whether to wait for what is still to come.
        :raises NotSupported: for servers before v1.2.2, which give logs through the requester API only.
        """
        if not self.can.logs:
            raise NotSupported(
                f"This server ({self.version.text}) gives no logs through the orchestrator API.",
                hint="Set `api` of the connection to requester, or read stdout and stderr of the job's results.",
            )
        target = self._jobs(job_id, "logs", execution_id=execution_id, follow="true" if follow else "false")
        return LogsRequest(Request("GET", target), b"", read_orchestrator_frame)

    async def alive(self) -> bool:
        """Ask whether the server is up: ``GET /agent/alive``, open without credentials."""
        request = Request("GET", self.health, public=True)
        try:
            return (await self._exchange(request)).text("Status") == "OK"
        except TransportError as error:
            raise unreachable(request, error) from None

    async def node(self) -> AgentNode:
        """Describe the node that answers: ``GET /agent/node``. Needs the right ``read:agent`` where users are
        configured.
        """
        return AgentNode.read(await self._get(f"{API}/agent/node"))

    async def nodes(self) -> tuple[AgentNode, ...]:
        """List the network's nodes: ``GET /orchestrator/nodes``. Needs the right ``read:node`` where users are
        configured.
        """
        return tuple(map(AgentNode.read, (await self._get(f"{API}/orchestrator/nodes")).items("Nodes")))

    async def check(self) -> None:
        """List one job: that needs the right ``read:job`` where users are configured.

        :raises NotAuthorised: when jobs may not be listed with these credentials.
        """
        await self.list(limit=1)

    # -- the wire -----------------------------------------------------------------------------------------------------

    # Lists are named for what they hold up to v1.3, and Items from v1.4 on.

    @staticmethod
    def _history(answer: Fields) -> tuple[HistoryEvent, ...]:
        return tuple(map(HistoryEvent.read, answer.items("Items", "History")))

    def _executions(self, answer: Fields) -> tuple[Execution, ...]:
        return tuple(Execution.read(item, self.can.execution_numbers) for item in answer.items("Items", "Executions"))

    async def _gather(self, job_id: str, *, executions: bool, history: bool) -> Job:
        """A job and what belongs to it, one by one; the reason of a failure is in its history only."""
        job = await self.get(job_id)
        if executions:
            job = replace(job, executions=await self.executions(job_id))
        if history:
            events = (await self.history(job_id)).items
            said = [one.event.message for one in events if one.event.message and not one.execution_id]
            ended_badly = job.state in {JobState.FAILED, JobState.STOPPED}
            job = replace(job, history=events, message=job.message or (said[-1] if ended_badly and said else ""))
        return job

    def _fit(self, job: dict[str, Any]) -> tuple[str, ...]:
        """Make a job one that an old server takes.

        :returns: what had to be left out.
        """
        from airflow_provider_bacalhau.client.spec.timeouts import DEFAULT_TOTAL

        left_out: tuple[str, ...] = ()
        for place, task in enumerate(job.get("Tasks", ())):
            if not self.can.own_publisher:
                task.setdefault("Publisher", {"Type": "", "Params": {}})
            if not self.can.waits_for_nodes:
                timeouts = task.get("Timeouts", {})
                left_out += tuple(
                    f"This server ({self.version.text}) has no Tasks[{place}].Timeouts.{key}; it was left out."
                    for key in ("QueueTimeout", "TotalTimeout")
                    if timeouts.pop(key, None) not in {None, 0, DEFAULT_TOTAL}  # the default is nobody's wish
                )
        return left_out

    @staticmethod
    def _jobs(*path: str, **query: str) -> str:
        """Path and query below ``/orchestrator/jobs``; parts of the path are escaped, empty values are left out.

        :raises NotFound: for an id that would make it the path of something else, such as the list of all jobs.
        """
        if path and path[0] in {"", ".", ".."}:
            raise NotFound(f"No job has the id {path[0]!r}; nothing was sent.", hint="Check where the id comes from.")
        target = "/".join([f"{API}/orchestrator/jobs", *(quote(part, safe="") for part in path)])
        filled = {key: value for key, value in query.items() if value}
        return f"{target}?{urlencode(filled)}" if filled else target

    async def _get(
        self,
        target: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        answer_key: str = "",
    ) -> Fields:
        request = Request(method, target, headers=headers or {}, body=body, answer_key=answer_key)
        try:
            return await self._exchange(request)
        except TransportError as error:
            raise unreachable(request, error) from None

    @staticmethod
    async def _exchange(request: Request) -> Fields:
        response = await request
        if not response.ok:
            raise error_of(request, response)
        answer = response.json()
        if not isinstance(answer, Mapping):
            raise not_what_belongs_there(request, response.status)
        return Fields(answer)
