"""Reading a request body the way the server's JSON decoder does.

Keys match in any case, unknown keys are ignored, ``null`` is the zero value, the last of two equal keys wins,
and a value of the wrong type is refused. The texts of the refusals are the server's; only the byte offset of a
wrong type is left out, since it says nothing to a person.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

Decoder = Callable[[Any, str], Any]

_GO_KINDS = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}
_EXPECTATIONS = (
    ("Expecting property name", "looking for beginning of object key string"),
    ("Expecting value", "looking for beginning of value"),
    ("Expecting ':'", "after object key"),
    ("Expecting ','", "after object key:value pair"),
    ("Invalid control character", "in string literal"),
    ("Invalid \\escape", "in string escape code"),
)


class BodyError(ValueError):
    """A body that cannot be decoded; the message is what the server answers with status 400."""


def parse_json(body: bytes) -> Any:
    """The first JSON value of a body; what follows it is ignored, as the server does.

    :raises BodyError: no JSON.
    """
    text = body.decode("utf-8", errors="replace")
    start = len(text) - len(text.lstrip())
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
    except RecursionError:
        raise BodyError("code=400, message=exceeded max depth, internal=exceeded max depth") from None
    except json.JSONDecodeError as error:
        raise BodyError(_syntax_error(text, error)) from None
    return value


def _syntax_error(text: str, error: json.JSONDecodeError) -> str:
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
        return "code=400, message=unexpected EOF, internal=unexpected EOF"
    where = next(
        (after for start, after in _EXPECTATIONS if error.msg.startswith(start)), "looking for beginning of value"
    )
    complaint = f"invalid character {text[error.pos]!r} {where}"
    return f"code=400, message=Syntax error: offset={error.pos + 1}, error={complaint}, internal={complaint}"


def _mismatch(value: Any, expected: str, path: str) -> BodyError:
    kind = _GO_KINDS[type(value)]
    struct, _, field = path.partition(".")
    where = f"Go struct field {path} of type {expected}" if field else f"Go value of type apimodels.{struct}"
    expected = expected if field else f"apimodels.{struct}"
    return BodyError(
        f"code=400, message=Unmarshal type error: expected={expected}, got={kind}, field={field}, "
        f"internal=json: cannot unmarshal {kind} into {where}"
    )


def string(value: Any, path: str) -> str:
    """A text; absent is empty."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _mismatch(value, "string", path)
    return value


def integer(value: Any, path: str) -> int:
    """A whole number; absent is 0."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise _mismatch(value, "int", path)
    if not -(2**63) <= value < 2**64:
        raise _mismatch(value, "int", path)
    return value


def optional_integer(value: Any, path: str) -> int | None:
    """A whole number that may be absent."""
    return None if value is None else integer(value, path)


def boolean(value: Any, path: str) -> bool:
    """True or false; absent is false."""
    if value is None:
        return False
    if not isinstance(value, bool):
        raise _mismatch(value, "bool", path)
    return value


def anything(value: Any, path: str) -> Any:
    """Whatever was sent."""
    return value


def any_map(value: Any, path: str) -> dict[str, Any]:
    """An object kept as it was sent, its keys sorted as the server shows them; absent is empty."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _mismatch(value, "map[string]interface {}", path)
    return {key: value[key] for key in sorted(value)}


def string_map(value: Any, path: str) -> dict[str, str]:
    """An object of texts; absent is empty."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _mismatch(value, "map[string]string", path)
    return {key: string(value[key], path) for key in sorted(value)}


def list_of(item: Decoder) -> Decoder:
    """A list of one kind; absent is empty."""

    def decode(value: Any, path: str) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            raise _mismatch(value, "[]", path)
        return [item(entry, path) for entry in value]

    return decode


def optional(inner: Decoder) -> Decoder:
    """An object that may be absent, told apart from an empty one."""
    return lambda value, path: None if value is None else inner(value, path)


string_list = list_of(string)


def struct(fields: Mapping[str, Decoder], expected: str = "struct") -> Decoder:
    """An object with known fields; every field is in the answer, in the order given."""
    by_folded = {name.casefold(): name for name in fields}

    def decode(value: Any, path: str) -> dict[str, Any]:
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise _mismatch(value, expected, path)
        sent: dict[str, Any] = {}
        for key, content in value.items():
            name = by_folded.get(key.casefold())
            if name is not None:
                sent[name] = content
        return {name: decoder(sent.get(name), f"{path}.{name}") for name, decoder in fields.items()}

    return decode
