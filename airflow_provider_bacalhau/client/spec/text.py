"""Reads the text of a job specification, YAML or JSON, into plain values.

YAML is read by the rules of its version 1.2, as the servers' own tools do: ``on``, ``yes`` and ``12:30`` are text. A
number is read as a number only when it would be written in the same way again, so ``010`` and ``1.10`` stay the text
that they are in an environment variable. Everything by which a small text could do harm is refused: aliases, tags,
depth and size. So are repeated keys, of which the last would silently win.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import yaml

from airflow_provider_bacalhau.client.errors import InvalidJobSpec

MAX_SIZE = 10_000_000
"""Characters of a specification: servers take no request over 10 MB."""

MAX_DEPTH = 64
"""Levels of nesting, far beyond any real specification."""

MAX_NODES = 100_000
"""Values in a YAML text; reading more takes seconds."""

_BASE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STRING = "tag:yaml.org,2002:str"


class _Loader(_BASE):  # type: ignore[misc, valid-type]  # its base depends on whether libyaml is there
    """YAML 1.2's core schema, numbers with care."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as in the base, whose resolvers are for YAML 1.1


def _number(loader: _Loader, node: yaml.ScalarNode) -> object:
    text = str(node.value)
    number: int | float = int(text) if text.lstrip("-").isdigit() else float(text)
    return number if str(number) == text else text


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][-+]?[0-9]{1,3})?$"), list("-0123456789")
)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)


def load_text(text: str) -> Any:
    """The plain values that a YAML or JSON text stands for.

    :raises InvalidJobSpec: when it cannot be read, or is refused; the message names the line.
    """
    if len(text) > MAX_SIZE:
        raise InvalidJobSpec(
            f"The job specification is a text of {len(text)} characters, and servers take 10 MB at most.",
            hint="Publish large inputs to IPFS or S3 and name them in InputSources.",
        )
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            pass  # read as YAML, which JSON is a part of, it tells the line of what is wrong
    return _load_yaml(text)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        raise ValueError
    return read


def _refuse_constant(_: str) -> None:
    raise ValueError


def _load_yaml(text: str) -> Any:
    try:
        _refuse_what_could_harm(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                raise InvalidJobSpec("The job specification is empty.")
            _check_keys(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise InvalidJobSpec(f"The job specification cannot be read as YAML or JSON: {_first_words(error)}.") from None


def _refuse_what_could_harm(text: str) -> None:
    """Looks at the text before anything is built of it."""
    depth = documents = 0
    for number, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if number > MAX_NODES:
            raise _refused(event, f"it holds more than {MAX_NODES} values", "")
        if isinstance(event, yaml.AliasEvent):
            raise _refused(event, f"the alias `*{event.anchor}` is not allowed", "Write the value out.")
        tag = getattr(event, "tag", None)
        if tag:
            raise _refused(event, f"the tag `{tag}` is not allowed", "Write the plain value.")
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _refused(event, "a second document begins", "Submit one job for each document.")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _refused(event, f"it is nested more than {MAX_DEPTH} levels deep", "")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _check_keys(node: yaml.Node) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(item)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            if key.tag != _STRING:
                shown = f"`{key.value}` is " if isinstance(key, yaml.ScalarNode) else "a collection is "
                raise _refused(key, f"a key must be text, and {shown}not", "Put it in quotes.")
            if key.value in lines:
                raise _refused(
                    key, f"the key `{key.value}` was given before, on line {lines[key.value]}", "Keep one of them."
                )
            lines[key.value] = key.start_mark.line + 1
            _check_keys(value)


def _refused(at: Any, message: str, hint: str) -> InvalidJobSpec:
    return InvalidJobSpec(f"Line {at.start_mark.line + 1} of the job specification: {message}.", hint=hint)


def _first_words(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())[:200]
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{where}{error.problem or error.context}"


def plain(value: object, place: str = "", depth: int = 0) -> Any:
    """The value as JSON knows it: mappings become dicts, sequences lists, durations whole seconds (rounded up).

    :param place: where the value stands, for errors.
    :raises InvalidJobSpec: for what JSON does not know, and for what is nested too deep.
    """
    if depth > MAX_DEPTH:
        raise InvalidJobSpec(f"It is nested more than {MAX_DEPTH} levels deep.", place=place[:80])
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, timedelta):
        return math.ceil(value.total_seconds())
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InvalidJobSpec(f"a key must be text, and {key!r} is not.", place=place, hint="Put it in quotes.")
        return {key: plain(item, f"{place}.{key}" if place else key, depth + 1) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [plain(item, f"{place}[{number}]", depth + 1) for number, item in enumerate(value)]
    raise InvalidJobSpec(f"{type(value).__name__} {_shown(value)}cannot be written as JSON.", place=place)


def _shown(value: object) -> str:
    return f"{value} " if isinstance(value, float) else ""
