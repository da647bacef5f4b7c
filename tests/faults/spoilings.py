"""What can become of the answer to a task's request, and what must come of the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_provider_bacalhau.devnode.faults import Fault, FaultKind
from tests.support.reliability import SPOILED, Case

UNIQUE_NAMES, NO_UNIQUE_NAMES = "v1.9.3", "v1.3.2"
SERVERS = (UNIQUE_NAMES, NO_UNIQUE_NAMES)

SUBMIT, LOOK, SEARCH, STOP = "submission", "look at the job", "search for an earlier try's job", "stop"
REQUESTS = {
    SUBMIT: ("POST", "*/orchestrator/jobs"),
    LOOK: ("GET", "*/orchestrator/jobs/j-*"),
    STOP: ("DELETE", "*/orchestrator/jobs/*"),
}
# By name, or by label.
SEARCHES = {UNIQUE_NAMES: ("GET", "*/orchestrator/jobs/task-*"), NO_UNIQUE_NAMES: ("GET", "*/orchestrator/jobs")}
OPTIONS: dict[str, dict[str, Any]] = {
    "delay": {"seconds": 0.3},
    "delay_answer": {"seconds": 0.3},
    "clock_skew": {"seconds": -3600},
    "restart": {"seconds": 0.2},
    "huge": {"size": 20_000_000},
    "too_many_requests": {"retry_after": 0},
}
FIELDS = {SUBMIT: ("JobID",), LOOK: ("State", "Job"), SEARCH: ("Items", "Jobs", "Job"), STOP: ("EvaluationID",)}
WORDS = {
    FaultKind.REFUSE: "connection closed at once",
    FaultKind.CUT_BEFORE_ANSWER: "work done, no answer",
    FaultKind.CUT_IN_ANSWER: "work done, half an answer",
    FaultKind.DELAY: "slow",
    FaultKind.DELAY_ANSWER: "work done, answer late",
    FaultKind.TOO_MANY_REQUESTS: "429",
    FaultKind.SERVER_TIMEOUT: "503 `Server Timeout!`",
    FaultKind.BAD_GATEWAY: "502, a proxy's page",
    FaultKind.LOGIN_PAGE: "200, a portal's login page",
    FaultKind.GARBAGE: "200, not the JSON that it says it is",
    FaultKind.HUGE: "200, 20 MB of JSON",
    FaultKind.WRONG_TYPE: "right, but called something else than JSON",
    FaultKind.REDIRECT: "302 to somewhere else",
    FaultKind.UNKNOWN_STATE: "job in a state that nobody knows",
    FaultKind.MISSING_FIELDS: "fields missing",
    FaultKind.FORGOTTEN: "404, the job is not known",
    FaultKind.CLOCK_SKEW: "server's clock an hour slow",
    FaultKind.RESTART: "work done, server restarts",
}
BOTH_WAYS = {
    FaultKind.SERVER_TIMEOUT,
    FaultKind.BAD_GATEWAY,
    FaultKind.LOGIN_PAGE,
    FaultKind.GARBAGE,
    FaultKind.HUGE,
    FaultKind.REDIRECT,
}
"""Kinds that can come before the work and after it. (429 is said before.)"""


STRANGE = {FaultKind.LOGIN_PAGE, FaultKind.GARBAGE, FaultKind.HUGE, FaultKind.REDIRECT}
"""No answers of Bacalhau at all."""

UNCLEAR = {FaultKind.REFUSE, FaultKind.SERVER_TIMEOUT, FaultKind.BAD_GATEWAY, *STRANGE}
"""Where names are not unique, a submission that met these is left to the next try: it may have been done."""


@dataclass(frozen=True)
class Spoiling:
    """A fault of one request.

    :param request: one of :data:`REQUESTS`.
    :param kind: of the fault.
    :param after_work: whether the server has done what was asked.
    """

    request: str
    kind: FaultKind
    after_work: bool = False

    @property
    def situation(self) -> str:
        """What happens, in words."""
        return WORDS[self.kind] + (", work done" if self.after_work else "")

    @property
    def id(self) -> str:
        """What a test is called by."""
        return f"{self.kind}-after-work" if self.after_work else self.kind

    def fault(self, server: str) -> Fault:
        """The rule for a node of this version: once, but for its clock."""
        method, path = SEARCHES[server] if self.request == SEARCH else REQUESTS[self.request]
        options = dict(OPTIONS.get(self.kind, {}))
        if self.kind is FaultKind.MISSING_FIELDS:
            options["fields"] = FIELDS[self.request]
        times = None if self.kind is FaultKind.CLOCK_SKEW else 1
        return Fault(self.kind, method=method, path=path, times=times, after_work=self.after_work, **options)

    def case(self, server: str) -> Case:
        """What must come of it."""
        if self.request == STOP:
            return self.found(server, 1, int(self.leaves_it_running), "failed")
        return self.found(server, 1, 0, in_tries(2 if self.costs_a_try(server) else 1))

    def found(self, server: str, jobs: int, live: int, state: str) -> Case:
        """What has come of it."""
        return Case(SPOILED, self.situation, jobs, live, state, server, self.request)

    @property
    def leaves_it_running(self) -> bool:
        """Whether a stop that was not done is not asked for again, as the server says that there is nothing to stop."""
        return self.kind is FaultKind.FORGOTTEN

    def costs_a_try(self, server: str) -> bool:
        """Whether only the next try succeeds."""
        if self.request == SUBMIT and not self.after_work:
            return server == NO_UNIQUE_NAMES and self.kind in UNCLEAR
        if self.request == SEARCH:
            return self.kind in STRANGE or self.kind is FaultKind.MISSING_FIELDS
        return False


def in_tries(tries: int) -> str:
    """Success, and in which try."""
    return "success" if tries == 1 else f"success, try {tries}"


def spoilings(request: str) -> tuple[Spoiling, ...]:
    """Every kind of fault, for one request."""
    return tuple(
        Spoiling(request, kind, after_work)
        for kind in FaultKind
        for after_work in ((False, True) if kind in BOTH_WAYS else (False,))
    )


def can_be_told(spoiling: Spoiling, server: str) -> bool:
    """Whether it is a fault at all: a list without jobs is what a new server answers."""
    return (spoiling.request, spoiling.kind, server) != (SEARCH, FaultKind.FORGOTTEN, NO_UNIQUE_NAMES)


CASES = frozenset(
    spoiling.case(server)
    for server in SERVERS
    for request in (SUBMIT, LOOK, SEARCH, STOP)
    for spoiling in spoilings(request)
    if can_be_told(spoiling, server)
)
"""All that must have been measured."""
