"""Rules by which the node spoils its answers, as networks, proxies and servers do when they fail.

::

    with DevNode() as node:
        rule = node.faults.add(Fault("cut_before_answer", method="POST", path="*/orchestrator/jobs", times=1))
        ...
        assert rule.hits == 1
        node.faults.clear()

Data only: what each kind does to an answer is in :mod:`.routes.faults`.
"""

from __future__ import annotations

import fnmatch
import math
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Self


class FaultKind(StrEnum):
    """What can go wrong.

    :ivar meaning: for people.
    :ivar options: fields of a :class:`Fault` that are looked at, beside those that every kind has.
    """

    meaning: str
    options: frozenset[str]

    def __new__(cls, name: str, meaning: str, *options: str) -> Self:
        """Make a member of its name, what it means and its options."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.meaning = meaning
        member.options = frozenset(options)
        return member

    @classmethod
    def of(cls, value: object) -> FaultKind:
        """The kind of a name.

        :raises FaultError: there is none.
        """
        for kind in cls:
            if kind == value:
                return kind
        raise FaultError("kind", f"is one of {', '.join(cls)}, not {value!r}")

    REFUSE = "refuse", "The connection is closed; the request is not looked at."
    CUT_BEFORE_ANSWER = "cut_before_answer", "The work is done, then the connection is closed without an answer."
    CUT_IN_ANSWER = (
        "cut_in_answer",
        "The work is done, then the connection is closed after half of the body. Without a body, as before the answer.",
    )
    DELAY = "delay", "`seconds` pass before the work.", "seconds"
    DELAY_ANSWER = "delay_answer", "The work is done, then `seconds` pass before the answer.", "seconds"
    TOO_MANY_REQUESTS = (
        "too_many_requests",
        "429 in the version's own words, with `Retry-After` when `retry_after` is given (real servers send none).",
        "after_work",
        "retry_after",
    )
    SERVER_TIMEOUT = "server_timeout", "503 with the text `Server Timeout!`, as real servers say it.", "after_work"
    BAD_GATEWAY = "bad_gateway", "502 with a proxy's page.", "after_work"
    LOGIN_PAGE = "login_page", "200 with an HTML page, as of a portal that asks for a login.", "after_work"
    GARBAGE = "garbage", "200 that says it is JSON, and is not.", "after_work"
    HUGE = "huge", "200 with well-formed JSON of `size` bytes, made while it is sent.", "after_work", "size"
    WRONG_TYPE = "wrong_type", "The right answer, called `application/octet-stream`."
    REDIRECT = "redirect", "302 to `location`.", "after_work", "location"
    UNKNOWN_STATE = "unknown_state", "Jobs are in `state`; those whose id matches the glob `jobs`.", "state", "jobs"
    MISSING_FIELDS = "missing_fields", "JSON without the keys `fields`, wherever they are.", "fields"
    FORGOTTEN = (
        "forgotten",
        "The node does not know jobs whose id matches the glob `jobs`, and says so in the version's own shape.",
        "jobs",
    )
    CLOCK_SKEW = "clock_skew", "The node's times, the `Date` header's too, are off by `seconds`.", "seconds"
    RESTART = (
        "restart",
        "The work is done, then the node restarts without an answer, and is away for `seconds` (may be 0).",
        "seconds",
    )


class FaultError(ValueError):
    """A fault that cannot be. The message begins with the name of the field.

    :param field: the field of :class:`Fault` that is wrong.
    """

    def __init__(self, field: str, complaint: str) -> None:
        super().__init__(f"{field} {complaint}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to fail, and for whom. What a kind does not look at must be left alone.

    :param kind: a :class:`FaultKind` or its name.
    :param method: HTTP method; ``*`` for any.
    :param path: glob over the whole path of the request, prefix included and query excluded; ``*`` also stands for
        slashes, so ``*/orchestrator/jobs/*`` is a job and all below it.
    :param times: how many of the requests that match are spoiled; None for all.
    :param after: how many of them are let through first.
    :param after_work: the request is carried out all the same, before the answer is replaced.
    :param seconds: how long, or how far off; a clock may also be late (negative).
    :param retry_after: seconds for the header of that name.
    :param size: bytes.
    :param location: address to send the client to.
    :param state: name of a state that no client knows.
    :param fields: keys in JSON objects.
    :param jobs: glob over job ids.
    :raises FaultError: a fault that cannot be.
    """

    kind: FaultKind | str
    method: str = "*"
    path: str = "*"
    times: int | None = None
    after: int = 0
    after_work: bool = False
    seconds: float = 0.0
    retry_after: int | None = None
    size: int = 100_000_000
    location: str = "http://elsewhere.invalid/"
    state: str = "Bewildered"
    fields: tuple[str, ...] = ()
    jobs: str = "*"

    def __post_init__(self) -> None:
        """Refuse what cannot be, and bring the rest into one form."""
        kind = FaultKind.of(self.kind)
        object.__setattr__(self, "kind", kind)
        for name in ("method", "path", "location", "state", "jobs"):
            if not isinstance(value := getattr(self, name), str) or not value or not value.isprintable():
                raise FaultError(name, f"is a text in one line, not {value!r}")
        object.__setattr__(self, "method", self.method.upper())
        if self.path[0] not in "/*":
            raise FaultError("path", f"begins with / or *, since it is compared with whole paths: {self.path!r}")
        _check_count("times", self.times, least=1, optional=True)
        _check_count("after", self.after, least=0)
        _check_count("retry_after", self.retry_after, least=0, optional=True)
        _check_count("size", self.size, least=100)
        if not isinstance(self.after_work, bool):
            raise FaultError("after_work", f"is true or false, not {self.after_work!r}")
        _check_seconds(kind, self.seconds)
        object.__setattr__(self, "fields", _names(kind, self.fields))
        for name, standard in _STANDARD.items():
            if name not in kind.options and getattr(self, name) != standard:
                known = ", ".join(sorted(kind.options)) or "none"
                raise FaultError(name, f"is no option of the kind {kind}, which has: {known}")

    @classmethod
    def from_json(cls, value: Any) -> Fault:
        """A fault from the keys of a JSON object.

        :raises FaultError: a fault that cannot be.
        """
        if not isinstance(value, Mapping):
            raise FaultError("fault", "is a JSON object with at least a kind")
        known = {field.name for field in fields(cls)}
        for name in value:
            if name not in known:
                raise FaultError(str(name), f"is no field of a fault; those are: {', '.join(sorted(known))}")
        return cls(**{"kind": "", **value})

    def as_json(self) -> dict[str, Any]:
        """What :meth:`from_json` makes the same fault of."""
        names = ("kind", "method", "path", "times", "after", *sorted(FaultKind.of(self.kind).options))
        return {name: getattr(self, name) for name in names}


_COMMON = ("kind", "method", "path", "times", "after")
_STANDARD = {field.name: field.default for field in fields(Fault) if field.name not in _COMMON}


class Rule:
    """A fault on a node, with its counters.

    :ivar id: number of the rule on its node.
    :ivar matched: requests that it is for, those that were let through among them.
    :ivar hits: requests that it spoiled.
    """

    def __init__(self, number: int, fault: Fault) -> None:
        self.id = number
        self.fault = fault
        self.matched = 0
        self.hits = 0
        self._path = re.compile(fnmatch.translate(fault.path))

    def is_due(self, method: str, path: str) -> bool:
        """Count a request; whether it is to be spoiled."""
        fault = self.fault
        if fault.method not in {"*", method} or not self._path.match(path):
            return False
        self.matched += 1
        if self.matched <= fault.after or (fault.times is not None and self.hits >= fault.times):
            return False
        self.hits += 1
        return True

    def as_json(self) -> dict[str, Any]:
        """The rule with its counters."""
        return {"id": self.id, **self.fault.as_json(), "matched": self.matched, "hits": self.hits}


class Faults:
    """The rules of one node. They outlast its restarts, and can be changed from any thread at any time.

    Several rules may be for one request: the first one is the outermost, and each counts the request whatever the
    others do to it.
    """

    def __init__(self) -> None:
        self._rules: tuple[Rule, ...] = ()
        self._made = 0
        self._lock = threading.Lock()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules in the order they were added, those that are used up among them."""
        return self._rules

    def add(self, fault: Fault) -> Rule:
        """Spoil answers from now on.

        :returns: the rule, which counts.
        """
        with self._lock:
            self._made += 1
            rule = Rule(self._made, fault)
            self._rules = (*self._rules, rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Forget a rule; one that is not here any more is no error."""
        with self._lock:
            self._rules = tuple(known for known in self._rules if known is not rule)

    def clear(self) -> None:
        """Forget all rules."""
        with self._lock:
            self._rules = ()

    def due(self, method: str, path: str) -> list[Fault]:
        """Count a request; what is to be done to it, the outermost first."""
        with self._lock:
            return [rule.fault for rule in self._rules if rule.is_due(method, path)]


def _check_count(name: str, value: object, *, least: int, optional: bool = False) -> None:
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise FaultError(name, f"is a whole number, {least} or more, not {value!r}")


def _check_seconds(kind: FaultKind, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise FaultError("seconds", f"is a number, not {value!r}")
    if kind is FaultKind.CLOCK_SKEW and not 0 < abs(value) < 1e9:
        raise FaultError("seconds", f"of a clock are below 1e9 either way, and not 0: {value!r}")
    if kind is FaultKind.RESTART and value < 0:
        raise FaultError("seconds", f"is a number, 0 or more, not {value!r}")
    if kind in {FaultKind.DELAY, FaultKind.DELAY_ANSWER} and value <= 0:
        raise FaultError("seconds", f"is a number above 0, not {value!r}")


def _names(kind: FaultKind, value: object) -> tuple[str, ...]:
    is_list = isinstance(value, tuple | list)
    names = tuple(value) if isinstance(value, tuple | list) else ()
    if not is_list or not all(isinstance(name, str) for name in names) or ("fields" in kind.options and not names):
        raise FaultError("fields", f"is a list of keys, not {value!r}")
    return names
