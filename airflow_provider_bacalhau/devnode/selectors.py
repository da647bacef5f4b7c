"""Label selectors, as Kubernetes writes them and Bacalhau reads them.

``k=v``, ``k==v``, ``k!=v``, ``k in (a,b)``, ``k notin (a)``, ``k``, ``!k``, ``k>1``, ``k<1``, joined by commas; all
must match. Jobs are listed by them, and the constraints of a job are the same requirements against the labels of a
node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(r"\s*(==|!=|[=!<>(),]|[^\s=!<>(),]+)")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_DNS_PREFIX = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_OPERATORS = {"=": "in", "==": "in", "in": "in", "notin": "notin", "!=": "notin", ">": "gt", "<": "lt"}
_SYMBOLS = {"==", "!=", "=", "!", "<", ">", "(", ")", ","}
_INTEGER = re.compile(r"[+-]?[0-9]+")


class SelectorError(ValueError):
    """A selector that the server refuses; the message is the server's where it is known."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label. ``operator`` is ``in``, ``notin``, ``exists``, ``!``, ``gt`` or ``lt``."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what Kubernetes refuses.

        :raises SelectorError: a key, value or number that is none.
        """
        if not is_label_key(self.key):
            raise SelectorError(
                f"key: Invalid value: {_quoted(self.key)}: name part must consist of alphanumeric characters"
            )
        if self.operator in {"gt", "lt"}:
            if len(self.values) != 1 or not _INTEGER.fullmatch(self.values[0]):
                raise SelectorError("for 'Gt', 'Lt' operators, the value must be an integer")
            return
        if self.operator not in {"in", "notin", "exists", "!"}:
            raise SelectorError(f"{_quoted(self.operator)} is not a valid label selector operator")
        for value in self.values:
            if value and not _NAME.fullmatch(value):
                complaint = "a valid label must be an empty string or consist of alphanumeric characters"
                raise SelectorError(f"values: Invalid value: {_quoted(value)}: {complaint}")

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a set of labels meets this one condition."""
        present = self.key in labels
        match self.operator:
            case "exists":
                return present
            case "!":
                return not present
            case "in":
                return present and labels[self.key] in self.values
            case "notin":
                return not present or labels[self.key] not in self.values
        if not present or not _INTEGER.fullmatch(labels[self.key]):
            return False
        have, bound = int(labels[self.key]), int(self.values[0])
        return have > bound if self.operator == "gt" else have < bound


def is_label_key(key: str) -> bool:
    """A name of at most 63 characters, with an optional DNS prefix and a slash before it."""
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not _DNS_PREFIX.fullmatch(prefix)):
        return False
    return _NAME.fullmatch(name) is not None


def matches(requirements: Iterable[Requirement], labels: Mapping[str, str]) -> bool:
    """Whether labels meet every requirement; no requirement is met by all."""
    return all(requirement.matches(labels) for requirement in requirements)


def parse_selector(text: str) -> list[Requirement]:
    """Read the text of a ``labels`` query parameter.

    :raises SelectorError: broken syntax, with the server's words.
    """
    tokens = _TOKEN.findall(text)
    if not tokens:
        return []
    parser = _Parser(tokens)
    requirements = [parser.requirement()]
    while parser.peek() == ",":
        parser.take()
        requirements.append(parser.requirement())
    if parser.peek():
        raise _unexpected(parser.peek(), "',' or 'end of string'")
    return requirements


def constraint(entry: Mapping[str, Any]) -> Requirement:
    """One of a job's ``Constraints`` as a requirement.

    :raises SelectorError: an operator or value that cannot be used for matching.
    """
    operator = str(entry["Operator"])
    values = tuple(str(value) for value in entry.get("Values") or ())
    return Requirement(str(entry["Key"]), {"=": "in", "==": "in", "!=": "notin"}.get(operator, operator), values)


def constraints_text(entries: Sequence[Mapping[str, Any]]) -> str:
    """Constraints as the scheduler words them: ``[zone in a|b]``."""
    return "[" + " ".join(f"{e['Key']} {e['Operator']} {'|'.join(e.get('Values') or ())}" for e in entries) + "]"


class _Parser:
    """Recursive descent over the tokens of one selector."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self._at += 1
        return token

    def requirement(self) -> Requirement:
        negated = self.peek() == "!"
        if negated:
            self.take()
        key = self.take()
        if not key or key in _SYMBOLS:
            raise _unexpected(key, "identifier", in_requirement=True)
        if negated:
            return Requirement(key, "!")
        if self.peek() in {"", ","}:
            return Requirement(key, "exists")
        sign = self.take()
        operator = _OPERATORS.get(sign)
        if operator is None:
            raise _unexpected(sign, "in, notin, =, ==, !=, gt, lt", in_requirement=True)
        if sign in {"in", "notin"}:
            return Requirement(key, operator, self._listed())
        value = "" if self.peek() in {"", ","} else self.take()
        if value in _SYMBOLS:
            raise _unexpected(value, "identifier", in_requirement=True)
        return Requirement(key, operator, (value,))

    def _listed(self) -> tuple[str, ...]:
        if self.take() != "(":
            self._at -= 1
            raise _unexpected(self.peek(), "'('", in_requirement=True)
        values: list[str] = []
        while True:
            word = self.take()
            if word in {"", "("}:
                raise _unexpected(word, "',', ')' or identifier", in_requirement=True)
            if word == ")":
                return tuple(values) or ("",)
            if word != ",":
                values.append(word)
            elif self.peek() in {",", ")"}:
                values.append("")


def _unexpected(found: str, expected: str, *, in_requirement: bool = False) -> SelectorError:
    text = f"found '{found}', expected: {expected}"
    return SelectorError(f"unable to parse requirement: {text}" if in_requirement else text)


def _quoted(text: str) -> str:
    return f'"{text}"'
