"""What is written to an execution's log: what to ask for over a websocket, and what its messages say.

Only the pure parts are here; :mod:`~airflow_provider_bacalhau.client.transport.websocket` listens. Servers break off
logs, never begin them, or never end them (reference: on-real-nodes §3): a job's state says whether it is over, its log
never does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from airflow_provider_bacalhau.client.effects import Request
from airflow_provider_bacalhau.client.errors import ResultUnavailable, UnexpectedAnswer
from airflow_provider_bacalhau.client.facts import Execution
from airflow_provider_bacalhau.client.reading import Fields, clean

_STREAMS = {1: "stdout", 2: "stderr"}


@dataclass(frozen=True)
class LogChunk:
    """A piece of output, not always a line.

    :param stream: ``stdout`` or ``stderr``.
    :param text: as the program wrote it; untrusted.
    """

    stream: str
    text: str


@dataclass(frozen=True)
class LogsRequest:
    """How to listen to a log.

    :param request: opens the websocket.
    :param first_message: sent first; empty for nothing.
    :param read: what a message says, or None for nothing; raises :class:`ResultUnavailable` when the server says why
        there is no log.
    """

    request: Request
    first_message: bytes
    read: Callable[[bytes], LogChunk | None]


def latest(executions: Sequence[Execution], job_id: str) -> str:
    """Id of the execution whose log is wanted when none is named: one that runs, else the last of all.

    :raises ResultUnavailable: when there is none.
    """
    if not executions:
        raise ResultUnavailable(f"Job {job_id} has no execution yet, and so no log.", hint="Wait until it runs.")
    return next((one for one in reversed(executions) if not one.state.is_terminal), executions[-1]).id


def read_orchestrator_frame(message: bytes) -> LogChunk | None:
    """``{"value": {"Type", "Line"}}``, or ``{"error"}``."""
    fields = _fields(message)
    _refuse(fields.text("error"))
    value = fields.fields("value")
    return _chunk(value.number("Type"), value.text("Line"))


def read_requester_frame(message: bytes) -> LogChunk | None:
    """``{"Tag", "Data", "ErrorMessage"}``; the error is again JSON, as a text."""
    fields = _fields(message)
    error = fields.text("ErrorMessage")
    _refuse(Fields(_json(error)).text("Message", "Err") or error)
    return _chunk(fields.number("Tag"), fields.text("Data"))


def _chunk(kind: int | None, text: str) -> LogChunk | None:
    return LogChunk(_STREAMS.get(kind or 0, "stdout"), text) if text else None


def _refuse(error: str) -> None:
    if error:
        raise ResultUnavailable(
            f"The server has no log to give: {clean(error)}",
            hint="A log is there while the program runs; afterwards read stdout and stderr of the job's results.",
        )


def _fields(message: bytes) -> Fields:
    value = _json(message)
    if not isinstance(value, dict):
        raise UnexpectedAnswer("A message of the log is not the JSON object that belongs there")
    return Fields(value)


def _json(text: bytes | str) -> object:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value
