"""What a server says through the requester API, read into the same facts and errors as everything else.

The API has its own job model: states with other names, results as storage specifications, a job's failure told in its
events only. Its errors come in five formats, and "not found" and "already over" as 400, 404 or 500 (reference:
bacalhau-requester-api §§4-9, and the recordings).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_provider_bacalhau.client.dialects.answers import error_of
from airflow_provider_bacalhau.client.effects import Request, Response
from airflow_provider_bacalhau.client.errors import (
    BacalhauError,
    JobOver,
    KeyRefused,
    NotFound,
    NotSupported,
)
from airflow_provider_bacalhau.client.facts import AgentNode, Event, Execution, HistoryEvent, Job
from airflow_provider_bacalhau.client.reading import Fields, seconds_of
from airflow_provider_bacalhau.client.results import Result
from airflow_provider_bacalhau.client.spec.legacy_shape import JOB_NAME, TASK_NAME
from airflow_provider_bacalhau.client.states import ExecutionState, JobState

_JOB_STATES = {
    "new": JobState.PENDING,
    "queued": JobState.QUEUED,
    "inprogress": JobState.RUNNING,
    "completed": JobState.COMPLETED,
    "completedpartially": JobState.FAILED,
    "error": JobState.FAILED,
    "cancelled": JobState.STOPPED,
}
# What only v0.3 and v1.0 know, in the words of later versions; all others have the same names there and here.
_EXECUTION_STATES = {
    "waitingverification": ExecutionState.RUNNING,
    "resultaccepted": ExecutionState.PUBLISHING,
    "resultrejected": ExecutionState.FAILED,
}
_SOURCES = {"ipfs": "ipfs", "s3": "s3", "urldownload": "urlDownload"}
_ENDED_BADLY = {JobState.FAILED, JobState.STOPPED}
_ANYONE_STOPPED = "job canceled by user"

_MISSING = re.compile(r"job not found|bucket not found", re.IGNORECASE)
_OVER = re.compile(r"cannot cancel job in state |in terminal state \w+ and cannot transition|in a terminal state")
_BAD_KEY = re.compile(r"error verifying request signature|public key does not match client ID")
_OTHER_KEY = "mismatched ClientIDs"


# -- errors -----------------------------------------------------------------------------------------------------------


def requester_error(request: Request, response: Response) -> BacalhauError:
    """The error that an answer of the requester API outside 2xx means.

    :param request: what was asked.
    :param response: what was answered.
    """
    error = error_of(request, response)
    status, said = response.status, error.server_message
    facts: dict[str, Any] = {
        "method": request.method,
        "path": request.path,
        "status": status,
        "server_message": said,
        "request_id": error.request_id,
    }
    if status == 410:
        return NotSupported(
            f"This server has retired the requester API: {said}",
            hint="Set `api` of the connection to auto or orchestrator.",
            **facts,
        )
    if _MISSING.search(said):
        return NotFound(
            f"No such job on this network: {said}",
            hint="Check the id, and that the connection names the network the job was sent to.",
            **facts,
        )
    if _OVER.search(said):
        return JobOver(f"The job is already over: {said}", **facts)
    if _OTHER_KEY in said:
        return KeyRefused(
            f"The job belongs to another key: {said}",
            hint="Only the key that submitted a job may stop it: give it to the connection (private_key or key_file).",
            reason=said,
            **facts,
        )
    if _BAD_KEY.search(said):
        return KeyRefused(
            f"The server does not accept the signature: {said}",
            hint="Check the key of the connection (private_key or key_file), and that no proxy rewrites what is sent.",
            reason=said,
            **facts,
        )
    if status == 404 and "html" not in response.headers.get("content-type", ""):
        return NotSupported(
            f"This server does not serve the requester API: {said or 'not found'}",
            hint="It may be a compute node only, or of v1.7 or later: name a requester node as the connection's host, "
            "or set `api` of the connection to auto or orchestrator.",
            **facts,
        )
    return error


# -- facts ------------------------------------------------------------------------------------------------------------


def job_state(name: str) -> JobState:
    """The state of a job that has this name here; a missing one is ``New``, which v0.3 and v1.0 leave out."""
    return _JOB_STATES.get(name.strip().lower() or "new") or JobState.read(name)


def execution_state(name: str) -> ExecutionState:
    """The state of an execution that has this name here; a missing one is ``New``."""
    name = name.strip() or ExecutionState.NEW.value
    return _EXECUTION_STATES.get(name.lower()) or ExecutionState.read(name, ())


def read_job(item: Fields, *, executions: bool, history: tuple[HistoryEvent, ...] | None = None) -> Job:
    """Read one item of a list: ``{"Job", "State"}``.

    :param executions: whether to bring its executions, which the item holds anyway.
    :param history: its events, if they were read; only they say why a job failed.
    """
    job, state = item.fields("Job"), item.fields("State")
    about, spec = job.fields("Metadata"), job.fields("Spec")
    deal, publisher = spec.fields("Deal"), spec.fields("PublisherSpec")
    is_on_all_nodes = deal.flag("TargetingMode")
    name, labels = _read_annotations(spec.words("Annotations"))
    return Job(
        id=about.text("ID"),
        name=name or about.text("ID"),
        namespace=about.text("ClientID"),
        type="ops" if is_on_all_nodes else "batch",
        count=0 if is_on_all_nodes else deal.number("Concurrency") or 0,
        state=job_state(state.text("State")),
        message=_reason(state, spec, history or ()),
        # A list of v1.0.4 and later has no Engine; an Engine of v0.3 and v1.0 begins with a capital letter.
        engine=(spec.text("Engine") or spec.fields("EngineSpec").text("Type")).lower(),
        publisher=(publisher.text("Type") or spec.text("Publisher")).lower(),
        labels=labels,
        version=state.number("Version") or 0,
        created=seconds_of(about.get("CreatedAt")) or seconds_of(state.get("CreateTime")),
        modified=seconds_of(state.get("UpdateTime")),
        executions=read_executions(state) if executions else None,
        history=history,
    )


def read_executions(state: Fields) -> tuple[Execution, ...]:
    """Read the executions of a ``JobState``; before the first one v0.3 says null."""
    return tuple(map(_read_execution, state.items("Executions")))


def _read_execution(item: Fields) -> Execution:
    state = execution_state(item.text("State"))
    output, published = item.fields("RunOutput"), item.fields("PublishedResults")
    kind, params = _storage(published)
    return Execution(
        id=item.text("ComputeReference"),
        job_id=item.text("JobID"),
        node_id=item.text("NodeId"),
        state=state,
        # From v1.0.4 on it is put together of two texts, of which the first may be empty.
        message=item.text("Status").strip().removeprefix(".").removesuffix(".").strip(),
        exit_code=output.number("exitCode") if state is ExecutionState.COMPLETED and output else None,
        stdout=output.text("stdout"),
        stderr=output.text("stderr"),
        stdout_truncated=output.flag("stdouttruncated"),
        stderr_truncated=output.flag("stderrtruncated"),
        published_type=kind,
        published=params,
    )


def read_event(item: Fields) -> HistoryEvent:
    """Read one item of a job's events. A change of state has a text only where there is something to say."""
    return HistoryEvent(
        event=Event(item.text("Comment")),
        time=seconds_of(item.get("Time")),
        execution_id=item.text("ComputeReference"),
        node_id=item.text("NodeID"),
        state=_new_state(item),
    )


def _new_state(item: Fields) -> JobState | ExecutionState:
    if item.text("Type").lower() == "executionlevel":
        return execution_state(item.fields("ExecutionState").text("New"))
    return job_state(item.fields("JobState").text("New"))


def read_results(items: Iterable[Fields]) -> tuple[Result, ...]:
    """Read results; a job with the publisher ``noop`` has empty ones, which are left out."""
    found = (_storage(item.fields("Data")) for item in items)
    return tuple(Result(kind, params, index) for index, (kind, params) in enumerate(found) if kind)


def read_node(item: Fields) -> AgentNode:
    """Read a node, wrapped in its state (v1.3) or bare; v0.3 and v1.0 give its kind as a number."""
    info = item.fields("Info") or item
    compute = info.fields("ComputeNodeInfo")
    return AgentNode(
        id=info.text("NodeID") or info.fields("PeerInfo").text("ID"),
        kind="Compute" if compute else "Requester",
        engines=tuple(word.lower() for word in compute.words("ExecutionEngines")),
        publishers=tuple(word.lower() for word in compute.words("Publishers")),
        sources=tuple(word.lower() for word in compute.words("StorageSources")),
        connection=item.text("Connection"),
        membership=item.text("Membership"),
    )


def _storage(item: Fields) -> tuple[str, dict[str, Any]]:
    """Type and parameters, as the orchestrator API names them, of a storage specification; empty for an empty one."""
    kind = item.text("StorageSource")
    kind = _SOURCES.get(kind.lower(), kind)
    if kind == "s3":
        return kind, dict(item.fields("S3").raw)
    key = "CID" if kind == "ipfs" else "URL"
    return kind, {key: item.text(key)} if item.text(key) else {}


def _reason(state: Fields, spec: Fields, history: tuple[HistoryEvent, ...]) -> str:
    """Why a job did not succeed: what its last event of that kind says."""
    name = state.text("State")
    ended = [one for one in history if one.state in _ENDED_BADLY and not one.execution_id]
    said = ended[-1].event.message if ended else ""
    if name.lower() == "completedpartially":
        return said or "only some of its executions published their results (CompletedPartially)"
    begun, last = seconds_of(state.get("CreateTime")), seconds_of(state.get("UpdateTime"))
    allowed = spec.number("Timeout") or 0
    # v1.0.4-v1.2 cancel what took too long, with the words of a user's cancellation.
    if said == _ANYONE_STOPPED and begun and last and allowed and last - begun >= allowed:
        return f"{said}, or timed out: it was given {allowed} s and ended after {last - begun:.0f} s"
    return said


def annotations_of(labels: Mapping[str, str]) -> list[str]:
    """Labels as annotations, as :mod:`~airflow_provider_bacalhau.client.spec.legacy` writes them."""
    return [f"{key}={value}" if value else key for key, value in labels.items()]


def _read_annotations(words: Iterable[str]) -> tuple[str, dict[str, str]]:
    """A job's name and labels, which are annotations here."""
    parts = (word.partition("=") for word in words)
    labels = {key: value for key, _, value in parts}
    labels.pop(TASK_NAME, None)
    return labels.pop(JOB_NAME, ""), labels
