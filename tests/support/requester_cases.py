"""Every recorded exchange of the requester API as a question to the dialect, and its answer in one line of text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_provider_bacalhau.client.dialects.detection import detect_version
from airflow_provider_bacalhau.client.dialects.requester import RequesterDialect
from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
from airflow_provider_bacalhau.client.effects import Operation
from airflow_provider_bacalhau.client.errors import BacalhauError
from airflow_provider_bacalhau.client.facts import AgentNode, Event, Execution, HistoryEvent, Job, Page, Submission
from airflow_provider_bacalhau.client.results import Result
from airflow_provider_bacalhau.client.spec import read_job_spec
from tests.support.drive import Script, ok, refusal
from tests.support.requester import FakeIdentity, Recorded

RUNNING = ok({"state": {"State": "InProgress"}})

NOT_ASKED = {"probe /agent/alive", "probe /id", "probe /healthz", "wrong method"}
"""Labels of what this client never asks for."""


def dialect(version: str) -> RequesterDialect:
    return RequesterDialect(ServerVersion(version), FakeIdentity)  # type: ignore[arg-type]  # it signs, as they do


def play(version: str, one: Recorded, *afterwards: Any) -> tuple[Any, Script]:
    """Ask what the exchange asked, and answer with what was recorded.

    :returns: what came of it, an error too; and the requests that were made.
    """
    server, name = dialect(version), one.path.rpartition("/")[2]
    before: list[Any] = []
    operation: Operation[Any]
    if name == "version":
        before = [refusal(404, "404 page not found\n")] if one.method == "POST" else []
        operation = detect_version()
    elif name == "submit":
        operation = server.submit(read_job_spec({"Type": "batch", "Tasks": [{"Engine": {"Type": "noop"}}]}))
    elif name == "cancel":
        before = [RUNNING] if server.can.cancels_twice else []
        operation = server.stop("j", "why")
    elif name == "list":
        by_id = one.label.endswith(": list") or one.label == "list unknown id"
        operation = server.get("j", executions=True) if by_id else server.list()
    else:
        operations: dict[str, Callable[[str], Operation[Any]]] = {
            "states": server.executions,
            "results": server.results,
            "events": server.history,
        }
        operation = (
            operations[name]("j")
            if name in operations
            else {"nodes": server.nodes, "node_info": server.node, "livez": server.alive}[name]()
        )
    script = Script.of(*before, one.outcome, *afterwards)
    try:
        return script.run(operation), script
    except BacalhauError as error:
        return error, script


def told(value: Any) -> str:
    """A value in one line, without ids and times."""
    return _told(value).replace("\n", "\\n").replace("\t", "\\t")


def _told(value: Any) -> str:
    if isinstance(value, BacalhauError):
        return f"{type(value).__name__}: {value.message}"
    if isinstance(value, ServerVersion):
        return value.text
    if isinstance(value, Submission):
        return f"submitted {' '.join(value.warnings)}".strip()
    if isinstance(value, Page):
        return _told(value.items)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_told, value)) + "]"
    if isinstance(value, Job):
        ends = "" if value.executions is None else f" {_told(value.executions)}"
        labels = ",".join(value.labels)
        return f"{value.type}/{value.engine}/{value.publisher} x{value.count} {labels} {value.state.value}{ends}"
    if isinstance(value, Execution):
        said = f" {value.message!r}" if value.message else ""
        result = f" {value.published_type} {value.published.get('CID', '')}".rstrip()
        return f"{value.state.value} {value.exit_code}{said}{result} {value.stdout!r} {value.stderr!r}"
    if isinstance(value, HistoryEvent):
        state = value.state.value if value.state else "?"
        return f"{'execution' if value.execution_id else 'job'} {state}{_told(value.event)}"
    if isinstance(value, Event):
        return f" ({value.message})" if value.message else ""
    if isinstance(value, Result):
        return f"{value.type} {value.params.get('CID')}"
    if isinstance(value, AgentNode):
        return f"{value.kind} {','.join(value.engines)} {','.join(value.publishers)} takes jobs: {value.takes_jobs}"
    return repr(value)
