"""What is wrong with a specification, said in the user's own spelling."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_bacalhau.client.errors import InvalidJobSpec

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_EXPECTED = {
    "int_type": "a whole number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
}


def did_you_mean(word: str, options: Iterable[str], *, known: bool = True) -> str:
    """A hint at the option nearest to the word.

    :param known: whether to list all options when none is near.
    """
    by_lower = {option.lower(): option for option in options}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6) or [
        option for option in by_lower if word and (option.startswith(word.lower()) or word.lower().startswith(option))
    ]
    if near:
        return f"Did you mean `{by_lower[near[0]]}`?"
    return f"Known are {', '.join(by_lower.values())}." if known and by_lower else ""


def spell(path: Iterable[str | int], written: object, root: str = "") -> str:
    """The path to a place, such as ``tasks[0].engine.Params.Image``, with the keys as the user wrote them.

    :param path: keys in the server's case, and places in lists.
    :param written: what the user wrote.
    :param root: how the path begins.
    """
    text, node = root, written
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
            node = node[step] if isinstance(node, Sequence) and step < len(node) else None
            continue
        keys = [key for key in node if str(key).lower() == step.lower()] if isinstance(node, Mapping) else []
        key = step if step in keys or not keys else keys[0]
        text += f".{key}" if text else str(key)
        node = node.get(key) if isinstance(node, Mapping) else None
    return text


def refusal(
    error: ValidationError, written: object, root: str = "", what: str = "The job specification"
) -> InvalidJobSpec:
    """The error for the user: every problem that pydantic found, one line each.

    :param written: what the user wrote, for the spelling of keys.
    :param root: how the path of each place begins.
    :param what: what was read, for the headline over several problems.
    """
    # Unions and nested checks may find the same thing twice.
    found = list(
        dict.fromkeys(
            (spell(details["loc"], written, root), *_say(details)) for details in error.errors(include_url=False)
        )
    )
    if len(found) == 1:
        place, message, hint = found[0]
        return InvalidJobSpec(message, place=place, hint=hint)
    lines = "".join(f"\n- {place}: {' '.join(filter(None, (message, hint)))}" for place, message, hint in found)
    return InvalidJobSpec(f"{what} has {len(found)} problems:{lines}")


def _say(details: ErrorDetails) -> tuple[str, str]:
    """Message, as a sentence, and hint for one of pydantic's errors."""
    message, hint = _words(details)
    return f"{message}." if hint else message, hint


def _words(details: ErrorDetails) -> tuple[str, str]:
    kind, given = details["type"], details["input"]
    context: dict[str, Any] = details.get("ctx", {})
    if kind == "spec":
        return context["message"], context["hint"]
    if kind == "extra_forbidden":
        return given.message, given.hint
    if kind == "missing":
        return "is missing", ""
    if kind == "string_too_short":
        return "is empty", ""
    if kind in _EXPECTED:
        return f"must be {_EXPECTED[kind]}, not {_name(given)}", ""
    return details["msg"], ""


def _name(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {_short(value)!r}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if value is None:
        return "nothing"
    return "a mapping" if isinstance(value, Mapping) else "a list" if isinstance(value, Sequence) else "an object"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"
