"""The signed requester API: ``/requester/…`` and, from v1.0.0, ``/api/v1/requester/…``."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from airflow_provider_bacalhau.devnode import godecode as go
from airflow_provider_bacalhau.devnode import legacy
from airflow_provider_bacalhau.devnode.generations import Generation
from airflow_provider_bacalhau.devnode.legacy_events import published_json
from airflow_provider_bacalhau.devnode.legacy_jobs import RequesterJobs
from airflow_provider_bacalhau.devnode.legacy_specs import submitted_spec
from airflow_provider_bacalhau.devnode.messages import Refused
from airflow_provider_bacalhau.devnode.orchestrator import Orchestrator
from airflow_provider_bacalhau.devnode.ranking import rank
from airflow_provider_bacalhau.devnode.records import SECOND, ComputeState, Job, JobState
from airflow_provider_bacalhau.devnode.routes.errors import Handler
from airflow_provider_bacalhau.devnode.routes.requester_bodies import answer, bacerror, echo, plain, quoted
from airflow_provider_bacalhau.devnode.selectors import SelectorError
from airflow_provider_bacalhau.devnode.signatures import EnvelopeError, check_client, go_text, open_envelope
from airflow_provider_bacalhau.devnode.store import AmbiguousError, NotFoundError, Store
from airflow_provider_bacalhau.devnode.wire import timestamp

_CLIENT, _JOB = "X-Bacalhau-Client-ID", "X-Bacalhau-Job-ID"
_PANIC = "runtime error: invalid memory address or nil pointer dereference"
_UNSUPPORTED = "code=415, message=Unsupported Media Type"

_ABOUT_JOB = {"client_id": go.string, "job_id": go.string}
_QUESTION = go.struct(_ABOUT_JOB)
_EVENTS = go.struct(
    {
        **_ABOUT_JOB,
        "filters": go.struct(
            {
                "since": go.integer,
                "exclude_execution_level": go.boolean,
                "exclude_job_level": go.boolean,
                "execution_id": go.string,
                "node_id": go.string,
            }
        ),
    }
)
_LIST = go.struct(
    {
        "id": go.string,
        "client_id": go.string,
        "return_all": go.boolean,
        "max_jobs": go.integer,
        "include_tags": go.string_list,
        "exclude_tags": go.string_list,
        "sort_by": go.string,
        "sort_reverse": go.boolean,
    }
)
_CANCEL = go.struct({"ClientID": go.string, "JobID": go.string, "Reason": go.string})


class RequesterRoutes:
    """The handlers.

    :param oversubscription: see :func:`.ranking.rank`; the first generation looks for nodes within submit.
    :param pin: puts bytes into the node's blocks and returns their CID.
    """

    def __init__(
        self,
        orchestrator: Orchestrator,
        store: Store,
        generation: Generation,
        *,
        oversubscription: float,
        jobs: RequesterJobs,
        pin: legacy.Pin,
    ) -> None:
        self._orchestrator = orchestrator
        self._store = store
        self._generation = generation
        self._oversubscription = oversubscription
        self._jobs = jobs
        self._pin = pin
        self._timers: set[asyncio.TimerHandle] = set()

    def routes(self) -> list[web.AbstractRouteDef]:
        """All routes of this part."""
        handlers: dict[str, Handler] = {
            "submit": self._submit,
            "cancel": self._cancel,
            "list": self._list,
            "states": self._states,
            "results": self._results,
            "events": self._events,
            "debug": self._debug,
        }
        method = "*" if self._generation.is_first else "POST"
        return [
            web.route(method, f"{prefix}/{name}", self._unless_rewritten(handler))
            for prefix in self._generation.prefixes
            for name, handler in handlers.items()
        ]

    def resume(self) -> None:
        """Go on after a restart: jobs keep their time limits."""
        if self._generation.ends_timeouts == "job":
            for job in self._store.unfinished_jobs():
                if legacy.CLIENT_META in job.spec["Meta"]:
                    self._cancel_later(job.id, self._jobs.timeout(job) - (time.time_ns() - job.created) / SECOND)

    def close(self) -> None:
        """Forget the timeouts of jobs."""
        for timer in self._timers:
            timer.cancel()

    def _unless_rewritten(self, handler: Handler) -> Handler:
        """From v1.0.4 on the short paths are rewritten to the long ones, but not when a query stands behind them."""

        async def handle(request: web.Request) -> web.StreamResponse:
            if request.query_string and not self._generation.is_first and request.path.startswith("/requester/"):
                return echo("Not Found", 404)
            return await handler(request)

        return handle

    # signed

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        generation = self._generation
        if request.headers.get(_JOB):
            return bacerror(f"rejecting job because HTTP header {_JOB} was set", 400)
        try:
            signed = open_envelope(await request.read())
            payload = _payload(legacy.decode_payload, signed.payload, generation)
            check_client(signed, payload["ClientID"])
        except EnvelopeError as error:
            return bacerror(str(error), 400)
        if payload["APIVersion"] and payload["Spec"] is None:
            return self._broken(request)
        try:
            legacy.check(payload, generation)
        except legacy.RefusedError as error:
            return bacerror(str(error), error.status)
        job_id = str(uuid.uuid4())
        if generation.is_first:
            payload["Spec"] = legacy.pinned(payload["Spec"], self._pin)
        headers = {_JOB: job_id}
        problem = self._run(payload, job_id)
        if problem:
            return bacerror(problem, 500, headers)
        shown = submitted_spec(payload["Spec"], generation)
        return answer({"job": self._jobs.job_json(self._store.job(job_id), shown)}, generation, headers=headers)

    def _broken(self, request: web.Request) -> web.StreamResponse:
        """A handler that dereferenced nothing: the first generation drops the connection."""
        if self._generation.is_first and request.transport is not None:
            request.transport.abort()
        return echo("Internal Server Error", 500, error=_PANIC, kind=self._generation.panic_type)

    def _run(self, payload: Mapping[str, Any], job_id: str) -> str:
        """Store and start a job. Not empty: what the first generation says when no node can take it."""
        generation = self._generation
        now = time.time_ns()
        accepted = legacy.accepted_job(payload, generation, job_id, self._jobs.meta)
        problem = self._placement_problem(Job(job_id, accepted.spec, now, now)) if generation.is_first else ""
        self._jobs.remember(job_id, payload, now)
        self._orchestrator.submit(accepted, force=False)
        if generation.ends_timeouts == "job":
            self._cancel_later(job_id, legacy.timeout_of(payload["Spec"]))
        return problem

    def _placement_problem(self, job: Job) -> str:
        views = [node.view() for node in self._orchestrator.nodes]
        try:
            suitable = rank(job, [], views, self._oversubscription).suitable
        except SelectorError as error:
            return str(error)
        if len(suitable) >= job.count:
            return ""
        return f"not enough nodes to run job. requested: {job.count}, available: {len(suitable)}"

    def _cancel_later(self, job_id: str, seconds: float) -> None:
        def cancel() -> None:
            self._timers.discard(timer)
            job = self._store.job(job_id)
            if not job.state.is_terminal:
                self._orchestrator.stop(job, "job timed out")

        timer = asyncio.get_running_loop().call_later(max(0.0, seconds), cancel)
        self._timers.add(timer)

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        try:
            signed = open_envelope(await request.read())
            wanted = _payload(lambda value, _: _CANCEL(value, "JobCancelPayload"), signed.payload, self._generation)
            check_client(signed, wanted["ClientID"])
        except EnvelopeError as error:
            return bacerror(str(error), 400)
        job_id, headers = wanted["JobID"], {_CLIENT: wanted["ClientID"]}
        try:
            job = self._jobs.find(job_id)
        except LookupError:
            return bacerror(f"missing job: Job not found. ID: {job_id}", 404, headers)
        owner = job.spec["Meta"].get(legacy.CLIENT_META, "")
        if owner != wanted["ClientID"]:
            text = f"mismatched ClientIDs for cancel, existing job: {owner} and cancel request: {wanted['ClientID']}"
            return bacerror(text, 401, headers)
        if problem := self._stop(job, job_id, wanted["Reason"]):
            return bacerror(problem, 500, headers)
        if self._generation.is_first:
            await asyncio.sleep(0)  # its executions end within the request
        content = {"state": self._jobs.state_json(self._store.job(job.id))}
        return answer(content, self._generation, headers={**headers, _JOB: job_id})

    def _stop(self, job: Job, job_id: str, reason: str) -> str:
        """Stop a job, or say why not."""
        if self._generation.is_first:
            if job_id != job.id:
                return f"job not found: {job_id}"
            if job.state.is_terminal:
                return f"job {job.id} is already in a terminal state"
        elif job.state is JobState.COMPLETED:
            return "cannot cancel job in state Completed"
        try:
            self._orchestrator.stop(job, reason)
        except Refused as error:
            return str(error)
        return ""

    # not signed

    async def _states(self, request: web.Request) -> web.StreamResponse:
        question = await self._decoded(request, _QUESTION)
        if isinstance(question, web.Response):
            return question
        headers = _about(question)
        try:
            job = self._jobs.find(question["job_id"])
        except NotFoundError:
            return self._failure(f"Job not found. ID: {question['job_id']}", headers)
        except AmbiguousError:
            return self._failure(f"Multiple jobs found for jobID prefix: {question['job_id']}", headers)
        return answer({"state": self._jobs.state_json(job)}, self._generation, headers=headers)

    async def _results(self, request: web.Request) -> web.StreamResponse:
        question = await self._decoded(request, _QUESTION, as_text=True)
        if isinstance(question, web.Response):
            return question
        headers = _about(question)
        try:
            job = self._jobs.find(question["job_id"])
        except LookupError:
            if self._generation.is_first:
                return plain(f"Job not found. ID: {question['job_id']}", 500, headers)
            return quoted("bucket not found", 500, headers)
        done = [e for e in self._store.executions(job.id) if e.state is ComputeState.COMPLETED]
        results = [
            {"NodeID": execution.node_id, "Data": published_json(execution, self._generation, self._jobs.base)}
            for execution in sorted(done, key=lambda execution: execution.id)
        ]
        return answer({"results": results}, self._generation, headers=headers)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        question = await self._decoded(request, _EVENTS)
        if isinstance(question, web.Response):
            return question
        headers, filters = _about(question), question["filters"]
        try:
            job = self._jobs.find(question["job_id"])
        except LookupError:
            text = f"job not found: {question['job_id']}" if self._generation.is_first else "bucket not found"
            return self._failure(text, headers)
        story = self._jobs.story(job)
        since = timestamp(filters["since"] * SECOND) if filters["since"] else ""
        excluded = {
            level for level, key in (("ExecutionLevel", "exclude_execution_level"), ("JobLevel", "exclude_job_level"))
            if filters[key]
        }  # fmt: skip
        events = [
            event
            for event in story.events
            if event["Type"] not in excluded
            and event["Time"] >= since
            and event.get("ComputeReference", "").startswith(filters["execution_id"])
            and event.get("NodeID", "").startswith(filters["node_id"])
        ]
        return answer({"events": events}, self._generation, headers=headers)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        question = await self._decoded(request, _LIST)
        if isinstance(question, web.Response):
            return question
        generation, job_id = self._generation, question["id"]
        if question["max_jobs"] < 0 and not generation.is_first:
            return _nested(_negative(await request.read(), question["max_jobs"]))
        headers = {_CLIENT: question["client_id"], _JOB: job_id} if generation.is_first else {}
        try:
            jobs = [self._jobs.find(job_id)] if job_id else self._selected(question)
        except NotFoundError:
            text = f"Job not found. ID: {job_id}"
            return bacerror(text, 400, headers, code="error-job-not-found", details={"id": job_id})
        except AmbiguousError:
            return self._failure(f"Multiple jobs found for jobID prefix: {job_id}", headers)
        if any(job.task["Publisher"]["Type"] == "unknown" for job in jobs):
            return self._failure("publisher: unknown type 'unknown'", headers)
        shown = [{"Job": self._jobs.listed_json(job), "State": self._jobs.state_json(job)} for job in jobs]
        return answer({"jobs": shown}, generation, headers=headers)

    def _selected(self, question: Mapping[str, Any]) -> list[Job]:
        included, excluded = set(question["include_tags"]), set(question["exclude_tags"])
        first = self._generation.is_first

        def matches(labels: Mapping[str, str]) -> bool:
            if included and not included & set(labels):
                return False
            return (first and bool(included)) or not excluded & set(labels)

        jobs, _ = self._store.list_jobs(
            namespace="" if question["return_all"] else question["client_id"],
            order_by="modified"
            if question["sort_by"] == "modified_at" and not self._generation.has_logs
            else "created",
            reverse=question["sort_reverse"],
            matches=matches,
            offset=0,
            limit=0 if first else question["max_jobs"],
        )
        if first and question["max_jobs"] > 0:
            # That generation cuts before it sorts, in no order: ids are as good as none.
            kept = {job.id for job in sorted(jobs, key=lambda job: job.id)[: question["max_jobs"]]}
            jobs = [job for job in jobs if job.id in kept]
        if self._generation.has_logs and question["sort_by"] != "created_at":
            # What is no order is none up to v1.2.1: ids are as good as any.
            jobs.sort(key=lambda job: job.id, reverse=question["sort_reverse"])
        return jobs

    async def _debug(self, _: web.Request) -> web.StreamResponse:
        return answer({}, self._generation)

    # bodies

    async def _decoded(
        self, request: web.Request, decoder: go.Decoder, *, as_text: bool = False
    ) -> dict[str, Any] | web.Response:
        """The question in a body, or the answer to a body that is none."""
        body, first = await request.read(), self._generation.is_first
        if first and not body.strip():
            return plain("EOF", 400)
        if body and not first and request.content_type != "application/json":
            return plain(_UNSUPPORTED, 400) if as_text else _nested(_UNSUPPORTED)
        try:
            decoded: dict[str, Any] = decoder(go.parse_json(body) if body else None, "Request")
        except go.BodyError as error:
            if first:
                return plain(go_text(error), 400)
            return plain(str(error), 400) if as_text else _nested(str(error))
        return decoded

    def _failure(self, text: str, headers: Mapping[str, str]) -> web.Response:
        return plain(text, 500, headers) if self._generation.is_first else echo(text, 500, headers)


def _payload(decoder: Any, value: Any, generation: Generation) -> dict[str, Any]:
    try:
        decoded: dict[str, Any] = decoder(value, generation)
    except go.BodyError as error:
        raise EnvelopeError(f"error unmarshalling payload: {go_text(error)}") from None
    return decoded


def _about(question: Mapping[str, Any]) -> dict[str, str]:
    return {_CLIENT: question["client_id"], _JOB: question["job_id"]}


def _nested(text: str) -> web.Response:
    return echo(text, 400)


def _negative(body: bytes, number: int) -> str:
    match = re.search(rb'"max_jobs"\s*:\s*-?\d+', body, re.IGNORECASE)
    offset = match.end() if match else 0
    return (
        f"code=400, message=Unmarshal type error: expected=uint32, got=number {number}, field=max_jobs, "
        f"offset={offset}, internal=json: cannot unmarshal number {number} into Go struct field "
        "ListRequest.max_jobs of type uint32"
    )
