"""When a worker's process dies or is told to end, on which servers, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.reliability import WORKER_DIES, WORKER_ENDS, Case
from tests.support.workers import FAILED, KILLED, SUCCESS, Mark


@dataclass(frozen=True)
class Server:
    """A version, and which of its APIs is used."""

    version: str
    api: str = "orchestrator"

    def __str__(self) -> str:
        return self.version if self.api == "orchestrator" else f"{self.version}'s {self.api} API"


@dataclass(frozen=True)
class Moment:
    """A moment of the submission at which the process is told to end.

    :param kind: how the answer is held up; a fault of the embedded node.
    :param seconds: for how long.
    :param state: how the process ends.
    """

    kind: str
    seconds: int
    state: str

    @property
    def situation(self) -> str:
        when = "before the server takes the job" if self.kind == "delay" else "before the server's answer"
        return f"SIGTERM {self.seconds} s {when}"


SERVERS = (Server("v1.9.3"), Server("v1.7.0"), Server("v1.3.2"), Server("v1.3.2", "requester"))
DEATHS = tuple(mark for mark in Mark if mark is not Mark.LOGGING)
MOMENTS = (
    Moment("delay", 1, FAILED),
    Moment("delay", 3, FAILED),
    Moment("delay_answer", 1, FAILED),
    Moment("delay_answer", 8, KILLED),
)

IN_EVERY_TRY = "SIGKILL in three tries, then retried"
WHILE_WAITING = "SIGTERM while it waits"
WHILE_WAITING_AGAIN = "SIGTERM while it waits, retried, SIGTERM again"
WHILE_LOGGING = "SIGTERM in the middle of a line to its log, then SIGKILL"


def killed_at(mark: Mark) -> str:
    """The name of a death."""
    return f"SIGKILL {mark}, then retried"


CASES = frozenset(
    Case(group, situation, jobs, 0, state, str(server))
    for server in SERVERS
    for group, situation, jobs, state in (
        *((WORKER_DIES, killed_at(mark), 1, SUCCESS) for mark in DEATHS),
        (WORKER_DIES, IN_EVERY_TRY, 1, SUCCESS),
        *((WORKER_ENDS, moment.situation, 1, moment.state) for moment in MOMENTS),
        (WORKER_ENDS, WHILE_WAITING, 1, FAILED),
        (WORKER_ENDS, WHILE_WAITING_AGAIN, 2, FAILED),
        (WORKER_ENDS, WHILE_LOGGING, 1, KILLED),
    )
)
"""All that must have been measured."""
