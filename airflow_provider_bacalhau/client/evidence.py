"""The facts behind a diagnosis, as lines for a log: what ran where, what the server said, the end of stderr."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from airflow_provider_bacalhau.client.facts import Event, Execution, HistoryEvent, Job
from airflow_provider_bacalhau.client.placement import NO_NODE, USED_UP
from airflow_provider_bacalhau.client.reading import clean, iso_of, one_line
from airflow_provider_bacalhau.client.states import ExecutionState

_MOST_LINES = 20


def facts_of(job: Job, executions: Sequence[Execution], history: Sequence[HistoryEvent]) -> Iterator[str]:
    """The lines, each bounded and fit for a terminal.

    :param job: the job.
    :param executions: its executions; those of the same fate are told together.
    :param history: its events; of them, errors that nobody else tells of.
    """
    since = f" since {iso_of(job.modified)}" if job.modified else ""
    yield one_line(f"job {job.id} ({job.name}) in namespace {job.namespace}: {job.state.value}{since}", 300)
    yield from (f"job says: {clean(line, 300)}" for line in _told_by_job(job.message)[:_MOST_LINES])
    shown = set()
    for alike in _alike(executions)[-5:]:
        one, ended = alike[0], alike[0].state is ExecutionState.COMPLETED
        # A completed execution's message is that of an earlier event, such as "Running".
        why = "" if ended or not one.message else f": {one_line(one.message.strip(), 1000)}"
        exit_code = f", exit code {one.exit_code}" if one.exit_code is not None else ""
        yield f"{one_line(_who(alike), 300)}: {one.state.value}{exit_code}{why}"
        yield from (f"  stderr {clean(f'| {line}', 300)}" for line in one.stderr.splitlines()[-_MOST_LINES:])
        if one.stderr_truncated:
            yield "  stderr … goes on; the server keeps its beginning, the job's results the whole"
        shown.add(one.message)
    errors = [one.event for one in history if one.event.is_error and one.event.message not in shown]
    for event in errors[-5:]:
        if not NO_NODE.search(event.message):  # the job says so itself
            yield f"event {one_line(event.topic, 100)}: {one_line(coded(event).strip(), 1000)}"


def first_line(text: str) -> str:
    """The first line of a remote text, without its full stop; and the second where that is only announced."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    told = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1])
    return clean(told.rstrip("."), 300)


def coded(event: Event) -> str:
    """An event's message with its error code, where it has a telling one."""
    code = event.details.get("ErrorCode", "")
    return f"{event.message} [{code}]" if code.rpartition(":")[2] else event.message


def _told_by_job(message: str) -> list[str]:
    """What a job says, unless it is only that every node has had its tries: then the executions say why."""
    lines = [line for line in message.splitlines() if line.strip()]
    return [] if lines and all(USED_UP in line for line in lines[1:] or lines) else lines


def _alike(executions: Sequence[Execution]) -> list[list[Execution]]:
    """The executions, those of the same fate together: a job that cannot run fails twice on each node."""
    groups: dict[object, list[Execution]] = {}
    for one in executions:
        groups.setdefault((one.state, one.exit_code, one.message, one.stderr), []).append(one)
    return list(groups.values())


def _who(alike: Sequence[Execution]) -> str:
    nodes = {one.node_id for one in alike}
    if len(alike) == 1:
        return f"execution {alike[0].id} on node {alike[0].node_id}"
    return f"{len(alike)} executions on {f'{len(nodes)} nodes' if len(nodes) > 1 else f'node {alike[0].node_id}'}"
