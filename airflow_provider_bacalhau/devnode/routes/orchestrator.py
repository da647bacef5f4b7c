"""``/api/v1/orchestrator/jobs``: jobs, their executions, history, results and logs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from airflow_provider_bacalhau.devnode import godecode as go
from airflow_provider_bacalhau.devnode import jobspec, wire
from airflow_provider_bacalhau.devnode.emulation import Emulation
from airflow_provider_bacalhau.devnode.messages import Refused
from airflow_provider_bacalhau.devnode.orchestrator import NoChangesError, Orchestrator
from airflow_provider_bacalhau.devnode.records import SECOND, ComputeState, Execution, HistoryItem, Job
from airflow_provider_bacalhau.devnode.routes.errors import ApiError, internal_error, json_response
from airflow_provider_bacalhau.devnode.routes.paging import Page, flag, natural
from airflow_provider_bacalhau.devnode.routes.reading import label_selector, read_body
from airflow_provider_bacalhau.devnode.selectors import matches
from airflow_provider_bacalhau.devnode.store import NameTakenError, NotFoundError, Store
from airflow_provider_bacalhau.devnode.transitions import early_execution, transitions

_STOP = go.struct({"reason": go.string})
_RERUN = go.struct({"JobVersion": go.integer, "Reason": go.string, "Namespace": go.string})
_JOB_ORDERS = {"": "created", "created_at": "created", "modified_at": "modified"}
_EVENT_TYPES = {"", "all", "job", "execution"}


class OrchestratorRoutes:
    """The handlers. ``base`` is the node's own address, for the results that it serves."""

    def __init__(self, orchestrator: Orchestrator, store: Store, emulation: Emulation) -> None:
        self._orchestrator = orchestrator
        self._store = store
        self._emulation = emulation
        self.base = ""

    def routes(self) -> list[web.AbstractRouteDef]:
        """All routes of this part."""
        root = "/api/v1/orchestrator"
        job = root + "/jobs/{id}"
        versions = [
            web.put(root + "/jobs/diff", self._diff),
            web.put(job + "/rerun", self._rerun),
            web.get(job + "/versions", self._versions, allow_head=False),
        ]
        logs = [web.get(job + "/logs", self._logs, allow_head=False)]
        return [
            *(versions if self._emulation.unique_names else []),
            *(logs if self._emulation.log_source else []),
            web.put(root + "/jobs", self._submit),
            web.post(root + "/jobs", self._submit),
            web.get(root + "/jobs", self._list, allow_head=False),
            web.get(job, self._get, allow_head=False),
            web.delete(job, self._stop),
            web.get(job + "/history", self._history, allow_head=False),
            web.get(job + "/executions", self._executions, allow_head=False),
            web.get(job + "/results", self._results, allow_head=False),
        ]

    # jobs

    async def _submit(self, request: web.Request) -> web.Response:
        submission = jobspec.decode_submission(await read_body(request))
        accepted = _accepted(submission.job, self._emulation)
        try:
            job, evaluation = self._orchestrator.submit(accepted, force=submission.force)
        except NoChangesError as error:
            hint = "Use the --force flag to override this warning"
            raise ApiError(500, str(error), code="", component="Bacalhau", hint=hint) from None
        except NameTakenError as error:
            raise ApiError(409, str(error), code="ResourceInUse", component="JobStore") from None
        return json_response({"JobID": job.id, "EvaluationID": evaluation, "Warnings": accepted.warnings or None})

    async def _diff(self, request: web.Request) -> web.Response:
        submission = jobspec.decode_submission(await read_body(request))
        if submission.job is None:
            raise internal_error()
        if not submission.job["Name"].strip():
            raise ApiError(400, "invalid job spec: name is missing")
        accepted = _accepted(submission.job, self._emulation)
        spec = accepted.spec
        existing = self._store.job_named(spec["Name"], spec["Namespace"])
        if existing is None:
            raise NotFoundError(f"job name index not found: {spec['Name']}:{spec['Namespace']}")
        text = "" if jobspec.same_job(existing.spec, spec) else _difference(existing.spec, spec)
        return json_response({"Diff": text, "Warnings": accepted.warnings or None})

    async def _list(self, request: web.Request) -> web.Response:
        page = Page(request.query.get("order_by", ""), flag(request, "reverse"), natural(request, "limit"), 0)
        if token := request.query.get("next_token"):
            try:
                page = Page.parse(token)
            except ValueError as error:
                raise ApiError(400, str(error)) from None
        requirements = label_selector(request)
        if page.order_by not in _JOB_ORDERS and self._emulation.bad_orders:
            raise internal_error()
        namespace = request.query.get("namespace", "")
        jobs, more = self._store.list_jobs(
            namespace="" if namespace == "*" else namespace,
            order_by=_JOB_ORDERS.get(page.order_by, "created"),
            reverse=page.reverse,
            matches=lambda labels: matches(requirements, labels),
            offset=page.offset,
            limit=page.limit,
        )
        following = Page(page.order_by, page.reverse, page.limit, page.offset + page.limit)
        shown = [wire.job_json(job, self._emulation) for job in jobs]
        return self._listed("Jobs", shown, following.token() if more else "")

    async def _get(self, request: web.Request) -> web.Response:
        job, version = self._job(request), natural(request, "job_version")
        if version:
            job = self._store.job_version(job.id, version)
        answer: dict[str, Any] = {"Job": wire.job_json(job, self._emulation)}
        if not self._emulation.includes:
            return json_response(answer)
        included = {word.strip() for word in request.query.get("include", "").split(",")}
        if "history" in included:
            items = [item for item in self._store.history(job.id) if item.job_version == job.version]
            if self._emulation.transitions:
                shown = transitions(job, items, self._store.executions(job.id), self._emulation)
            else:
                shown = [self._history_json(request, item) for item in items[: self._emulation.history_page]]
            answer["History"] = {"NextToken": "", self._key("History"): shown}
        if "executions" in included:
            executions = self._store.executions(job.id, version or self._store.job(job.id).version)
            shown = [self._execution_json(execution) for execution in executions]
            answer["Executions"] = {"NextToken": "", self._key("Executions"): shown}
        return json_response(answer)

    async def _stop(self, request: web.Request) -> web.Response:
        body = await read_body(request)
        reason = _STOP(go.parse_json(body) if body else None, "StopJobRequest")["reason"]
        try:
            evaluation = self._orchestrator.stop(self._job(request), reason)
        except Refused as error:
            component = "JobStore" if error.code else "Bacalhau"
            raise ApiError(500, str(error), code=error.code, component=component) from None
        return json_response({"EvaluationID": evaluation})

    async def _rerun(self, request: web.Request) -> web.Response:
        body = await read_body(request)
        wanted = _RERUN(go.parse_json(body) if body else None, "RerunJobRequest")
        try:
            found = self._store.find_job(request.match_info["id"], wanted["Namespace"])
            job, evaluation = self._orchestrator.rerun(found, wanted["JobVersion"])
        except Refused as error:
            hint = "try to use the job run command instead of the job rerun command"
            raise ApiError(500, str(error), code="", component="Bacalhau", hint=hint) from None
        except NotFoundError as error:
            raise ApiError(400, str(error), code="BadRequest", component="JobStore") from None
        return json_response({"EvaluationID": evaluation, "JobID": job.id, "JobVersion": job.version, "Warnings": None})

    async def _versions(self, request: web.Request) -> web.Response:
        versions = self._store.job_versions(self._job(request).id)
        return self._listed("Jobs", [wire.job_json(job) for job in versions])

    # what became of them

    async def _history(self, request: web.Request) -> web.Response:
        query = request.query
        limit = natural(request, "limit")
        since, event_type, execution_id = (
            query.get("since", ""),
            query.get("event_type", ""),
            query.get("execution_id", ""),
        )
        version, every = natural(request, "job_version"), flag(request, "all_job_versions")
        _check_history_query(since, event_type)
        if self._emulation.transitions:
            return self._transitions(request, event_type, execution_id)
        try:
            job = self._job(request)
        except NotFoundError:
            if self._emulation.unique_names:
                raise
            return self._listed("History", [])
        start = Page("", False, limit, 0)
        if token := query.get("next_token"):
            try:
                start = Page.parse(token)
            except ValueError as error:
                raise ApiError(400, f"invalid next token: {error}", code="BadRequest", component="JobStore") from None
        size = limit or start.limit or self._emulation.history_page
        after = natural(request, "since") * SECOND

        def wanted(item: HistoryItem) -> bool:
            return (
                item.execution_id.startswith(execution_id)
                and item.event.at >= after
                and not (event_type == "job" and item.execution_id)
                and not (event_type == "execution" and not item.execution_id)
                and (every if every and not version else item.job_version == (version or job.version))
            )

        items: list[HistoryItem] = []
        more = False
        for item in self._store.history(job.id, start.offset):
            if len(items) == size:
                more = True
                break
            if wanted(item):
                items.append(item)
        if not more:
            over = self._store.execution(execution_id).is_terminal if execution_id else job.state.is_terminal
            more = not over
        offset = items[-1].seq + 1 if items else start.offset
        following = Page("", False, limit, offset)
        shown = [self._history_json(request, item) for item in items]
        return self._listed("History", shown, following.token() if more else "")

    def _transitions(self, request: web.Request, event_type: str, execution_id: str) -> web.Response:
        """The history before v1.5: all of it, whatever the limit."""
        job = self._bucket(request)
        items = transitions(job, self._store.history(job.id), self._store.executions(job.id), self._emulation)
        level = {"job": "JobLevel", "execution": "ExecutionLevel"}.get(event_type, "")
        since = natural(request, "since") * SECOND
        shown = [
            item
            for item in items
            if level in {"", item["Type"]}
            and execution_id in {"", item.get("ExecutionID", "")}
            and item["Time"] >= wire.timestamp(since)
        ]
        return self._listed("History", shown)

    def _bucket(self, request: web.Request) -> Job:
        """The job whose records are asked for; servers before v1.8 speak of their store when there is none."""
        try:
            return self._job(request)
        except NotFoundError:
            if self._emulation.unique_names:
                raise
            raise ApiError(404, "bucket not found", code="BoltDBBucketNotFound", component="BoltDB") from None

    def _execution_json(self, execution: Execution) -> dict[str, Any]:
        shown = wire.execution_json(execution, self.base, self._emulation)
        return early_execution(shown, execution, self._emulation) if self._emulation.early_states else shown

    def _history_json(self, request: web.Request, item: HistoryItem) -> dict[str, Any]:
        shown = wire.history_json(item, self._emulation)
        announced = request.headers.get("X-Bacalhau-Git-Version", "")
        if announced and not announced.startswith("v0.0.0") and announced < "v1.5.":
            # Clients of v1.4 read these keys; the comparison of texts is the server's own.
            shown["ExecutionState" if item.execution_id else "JobState"] = {}
        return shown

    async def _executions(self, request: web.Request) -> web.Response:
        job, version = self._bucket(request), natural(request, "job_version")
        latest = None if flag(request, "all_job_versions") else job.version
        executions = self._store.executions(job.id, version or latest)
        namespace = request.query.get("namespace", "")
        executions = [e for e in executions if not namespace or e.job.namespace == namespace]
        if request.query.get("order_by", "") in {"modify_time", "modified_at"}:
            executions.sort(key=lambda execution: execution.modified)
        if flag(request, "reverse"):
            executions.reverse()
        limit = natural(request, "limit")
        shown = executions[:limit] if limit else executions
        return self._listed("Executions", [self._execution_json(execution) for execution in shown])

    async def _results(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if job.is_long_running:
            raise internal_error()  # the server's log says: job type service does not support results
        done = [e for e in self._store.executions(job.id, job.version) if e.state is ComputeState.COMPLETED]
        results = [wire.result_json(execution.published, self.base) for execution in done if execution.published]
        return json_response({"NextToken": "", self._key("Results"): results}, escape_html=False)

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        """As v1.9.3 for WebAssembly: an error frame when there is nothing to follow, else no frame and no end."""
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        if problem := self._logs_problem(request):
            frame = {"error": problem, "value": {"Type": 0, "Line": ""}}
            await socket.send_str(json.dumps(frame, separators=(",", ":")) + "\n")
            await socket.close(code=1000)
            return socket
        if self._emulation.log_source == "records":
            for frame in self._recorded_output(request):
                await socket.send_str(json.dumps(frame, separators=(",", ":")) + "\n")
            await socket.close(code=1000)
            return socket
        async for _ in socket:
            pass
        return socket

    def _recorded_output(self, request: web.Request) -> list[dict[str, Any]]:
        """As before v1.8: the beginning of the output of an execution that is over; one that runs cannot be read."""
        wanted = request.query.get("execution_id", "")
        executions = self._store.executions(self._job(request).id)
        execution = [e for e in executions if _is_readable(e, wanted)][-1]
        if not execution.is_terminal:
            return [{"error": "unable to read dataframe data, read 9 wanted 22", "value": {"Type": 0, "Line": ""}}]
        output = execution.output
        streams = [(1, output.stdout), (2, output.stderr)]
        return [{"value": {"Type": kind, "Line": text.removesuffix("\n") + "\n"}} for kind, text in streams if text]

    def _logs_problem(self, request: web.Request) -> str:
        try:
            job = self._job(request)
        except LookupError as error:
            return str(error)
        executions, wanted = self._store.executions(job.id), request.query.get("execution_id", "")
        prefix = f"failed to open log stream for job {job.id}: "
        if not executions:
            if not self._emulation.unique_names:
                return f"{prefix}no executions found for job {job.id}"
            version = request.query.get("job_version", "0")
            return f"{prefix}no executions found for job {job.name} with ID {job.id}, and version {version}"
        if not any(_is_readable(execution, wanted) for execution in executions):
            return f"{prefix}unable to find execution {wanted} in job {job.id} and job version {job.version}"
        return ""

    def _key(self, what: str) -> str:
        """Where a list is."""
        return what if self._emulation.named_lists else "Items"

    def _listed(self, what: str, items: list[dict[str, Any]], token: str = "") -> web.Response:
        token = token if self._emulation.includes else ""  # v1.1 numbered its pages and gave no token
        return json_response({"NextToken": token, self._key(what): items})

    def _job(self, request: web.Request) -> Job:
        return self._store.find_job(request.match_info["id"], request.query.get("namespace", ""))


def _accepted(job: Mapping[str, Any] | None, emulation: Emulation) -> jobspec.Accepted:
    try:
        return jobspec.accept(job, emulation)
    except jobspec.SpecError as error:
        if error.stored:
            raise ApiError(400, str(error), code="BadRequest", component="JobStore") from None
        raise ApiError(400, str(error)) from None
    except jobspec.UnreadableParamsError:
        raise internal_error() from None


def _is_readable(execution: Execution, wanted: str) -> bool:
    return execution.id == wanted if wanted else not execution.state.is_discarded


def _check_history_query(since: str, event_type: str) -> None:
    if since.startswith("-"):
        raise _invalid("Since", "min")
    if event_type not in _EVENT_TYPES:
        raise _invalid("EventType", "oneof")


def _invalid(field: str, rule: str) -> ApiError:
    key = f"ListJobHistoryRequest.{field}"
    return ApiError(400, f"Key: '{key}' Error:Field validation for '{field}' failed on the '{rule}' tag")


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs, line by line. A real server writes Go values; nothing should read this but people."""
    lines = []
    for key in old:
        if old[key] != new.get(key):
            lines += [f"-\t{key}: {json.dumps(old[key])}", f"+\t{key}: {json.dumps(new.get(key))}"]
    return "\n".join(lines) + "\n"
