"""Reading what servers send, tolerantly: keys in any case, missing keys, nulls where lists or objects belong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

_LONGEST_TEXT = 2000
_LATEST_TIME = 253_402_300_800  # the year 10000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


# Who is asked, and from the question mark on: a password, and the signature that opens a store to whoever reads a log.
_ADDRESS = re.compile(r"://(?:[^\s/?#]*@)?([^\s?#\"<>]*)([?#][^\s\"<>]*)?")
_ENDS_A_PHRASE = ".,;:)]}'"
# A signature told without the address that it belongs to: `requests` has but path and query in its errors.
_SIGNATURE = re.compile(
    r"\b(X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|Signature|sig)=[^\s&\"'<>]+",
    re.IGNORECASE,
)


def clean(text: str, longest: int = _LONGEST_TEXT) -> str:
    """A remote text made fit for a log: no secrets in addresses, no control characters but line ends, no great length.

    Of an address it leaves ``https://host/path?…``: it may be signed, and hold a user's name and password.
    """
    text = _SIGNATURE.sub(r"\1=…", _ADDRESS.sub(_without_secrets, text.strip()))
    shown = _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text[: longest + 1])
    return shown if len(text) <= longest else f"{shown[:longest]}… ({len(text)} characters)"


def one_line(text: str, longest: int = _LONGEST_TEXT) -> str:
    """The same as a single line: what begins a line may be a command to whoever shows the log."""
    return clean(text, longest).replace("\n", r"\n")


def _without_secrets(address: re.Match[str]) -> str:
    query = address[2] or ""
    after = query[len(query.rstrip(_ENDS_A_PHRASE)) :]
    return f"://{address[1]}{f'{query[0]}…' if query else ''}{after}"


class Fields:
    """A JSON object whose keys are found in any letter case.

    :param value: the decoded JSON; anything but an object reads as an empty one.
    """

    def __init__(self, value: object) -> None:
        self.raw: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
        self._keys = {str(key).lower(): key for key in self.raw}

    def __bool__(self) -> bool:
        return bool(self.raw)

    def has(self, *names: str) -> bool:
        """Whether one of these keys is there, if with null."""
        return any(name.lower() in self._keys for name in names)

    def get(self, *names: str) -> Any:
        """The value of the first of these keys that is there and not null, or None."""
        for name in names:
            key = self._keys.get(name.lower())
            if key is not None and self.raw[key] is not None:
                return self.raw[key]
        return None

    def text(self, *names: str) -> str:
        """That value as text; empty when missing."""
        value = self.get(*names)
        return "" if value is None else str(value)

    def number(self, *names: str) -> int | None:
        """That value as an integer, or None when there is none."""
        value = self.get(*names)
        try:
            return int(value)
        except (TypeError, ValueError, OverflowError):
            return None

    def flag(self, *names: str) -> bool:
        """That value as a truth value; servers send booleans, event details the text ``true``."""
        return str(self.get(*names)).lower() == "true"

    def fields(self, *names: str) -> Fields:
        """That value as an object."""
        return Fields(self.get(*names))

    def items(self, *names: str) -> Iterator[Fields]:
        """The objects in that list."""
        value = self.get(*names)
        for item in value if isinstance(value, list) else ():
            if isinstance(item, Mapping):
                yield Fields(item)

    def texts(self, *names: str) -> dict[str, str]:
        """That value as a map of texts."""
        return {str(key): str(value) for key, value in self.fields(*names).raw.items()}

    def words(self, *names: str) -> tuple[str, ...]:
        """That value as a list of texts."""
        value = self.get(*names)
        return tuple(str(item) for item in value) if isinstance(value, list) else ()


def seconds_of(value: object) -> float | None:
    """A server's time as seconds since the epoch, or None.

    :param value: unix nanoseconds (jobs, executions) or RFC 3339 text (events).
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value / 1e9 if 0 < value < _LATEST_TIME * 10**9 else None
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    if time.year <= 1:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def iso_of(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC, to the second, such as ``2026-11-22T06:30:00Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
