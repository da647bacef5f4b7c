"""The base of all models of a job specification, and the types of their fields.

Users write keys in any case, as the server reads them, and every wrong place is reported in the user's own spelling.
So a model first puts its keys into the server's case; the path that pydantic then gives for an error is walked through
what the user wrote (:mod:`~airflow_provider_bacalhau.client.spec.problems`).
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.alias_generators import to_pascal
from pydantic_core import InitErrorDetails, PydanticCustomError

from airflow_provider_bacalhau.client.spec.problems import did_you_mean


def problem(message: str, hint: str = "") -> PydanticCustomError:
    """An error to raise in a validator.

    :param message: what is wrong, to be read after the place.
    :param hint: what to do about it.
    """
    # The text goes in as a value, not as the template: users' text may hold braces.
    return PydanticCustomError("spec", "{message}", {"message": message, "hint": hint})


def problems_at(found: Iterable[tuple[tuple[str | int, ...], str, str]]) -> None:
    """Raises all problems found below one field, each with its own place; does nothing when there are none.

    :param found: (path from the field, message, hint) of each.
    """
    details = [InitErrorDetails(type=problem(message, hint), loc=path, input=None) for path, message, hint in found]
    if details:
        raise ValidationError.from_exception_data("", details)


@dataclass(frozen=True)
class UnknownKey:
    """Stands in for the value of a key that a model does not have, and says what to do about the key."""

    message: str
    hint: str


class WireModel(BaseModel):
    """A part of a job specification.

    Attributes are in snake case, the keys that are read and written in the server's spelling (``input_sources`` is
    ``InputSources``). Values are read strictly: no text for a number, no number for a flag.
    """

    model_config = ConfigDict(alias_generator=to_pascal, extra="forbid", strict=True, frozen=True)

    server_owned: ClassVar[frozenset[str]] = frozenset()
    """Keys, in lower case, that the server writes and a user must not."""

    @model_validator(mode="before")
    @classmethod
    def _read_keys_in_any_case(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        known: dict[object, str] = {str(field.alias).lower(): str(field.alias) for field in cls.model_fields.values()}
        read: dict[str, Any] = {}
        spelt: dict[str, str] = {}
        for key, item in value.items():
            name = known.get(key.lower(), str(key))
            if name in spelt:
                raise problem(f"`{spelt[name]}` and `{key}` are the same key", "Keep one of them.")
            spelt[name] = key
            if name not in known.values():
                read[key] = cls._unknown(key, list(known.values()))
            elif item is not None:  # null is what is not there, as for the server
                read[name] = item
        for field in cls.model_fields.values():
            # What is empty is checked as well: some parameters and values must not be.
            if field.default_factory is not None:
                read.setdefault(str(field.alias), field.get_default(call_default_factory=True))
        return read

    @classmethod
    def _unknown(cls, key: str, known: list[str]) -> UnknownKey:
        if key.lower() in cls.server_owned:
            return UnknownKey("is set by the server", "Leave it out.")
        return UnknownKey("is not a known key", did_you_mean(key, known))

    @model_serializer(mode="wrap")
    def _leave_out_what_says_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value not in (None, "", [], {})}

    def to_dict(self) -> dict[str, Any]:
        """As a plain dict with the server's keys, without what says nothing."""
        return self.model_dump(by_alias=True)


def _text(value: object) -> object:
    if isinstance(value, bool):
        raise problem(
            f"must be text, and {str(value).lower()} is a truth value", f'Put it in quotes: "{str(value).lower()}".'
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise problem(f"must be text, not {value}")
    if isinstance(value, int | float):
        return str(value)
    return value


def one_of(*options: str) -> BeforeValidator:
    """Text that is one of the options, in any case; it is given on in the case of the option."""
    by_lower = {option.lower(): option for option in options}

    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.strip().lower() not in by_lower:
            raise problem(
                f"is {value!r}, and must be one of {', '.join(options)}", did_you_mean(value, options, known=False)
            )
        return by_lower[value.strip().lower()]

    return BeforeValidator(read)


def matching(pattern: str, what: str) -> Callable[[object], object]:
    """A reader of texts and numbers that must match a pattern, case and blanks aside, as the server reads them."""
    compiled = re.compile(pattern)

    def read(value: object) -> object:
        text = _text(value)
        if isinstance(text, str) and not compiled.fullmatch(text.lower().replace(" ", "")):
            raise problem(f"is {text!r}, and must be {what}")
        return text

    return read


def check_path(path: str) -> str:
    """A path inside the task, without a slash at its end.

    :raises ValueError: when it is not absolute, is the root, or is written in a roundabout way; the message says why.
    """
    if not path:
        raise ValueError("is empty")
    if not path.startswith("/"):
        raise ValueError(f"is {path!r}, and must be an absolute path")
    if not path.isprintable():
        raise ValueError(f"is {path!r}, which holds control characters")
    short = path.rstrip("/")
    if not short:
        raise ValueError("is the root folder, which cannot be mounted over")
    if posixpath.normpath(short) != short or short.startswith("//"):
        raise ValueError(f"is {path!r}, and must be written without `.`, `..` and empty parts")
    return short


def read_path(value: object) -> object:
    """Validator of :data:`AbsolutePath`."""
    if not isinstance(value, str):
        return value
    try:
        return check_path(value.strip())
    except ValueError as error:
        raise problem(str(error)) from None


_ENV_NAME = re.compile(r"[A-Z][A-Z0-9_]*")


def check_env(name: str, value: object) -> str | None:
    """What servers from v1.6.4 on refuse about an environment variable; None when nothing."""
    if not name:
        return "has an empty name"
    if not _ENV_NAME.fullmatch(name):
        return "must be named in upper-case letters, digits and `_`, beginning with a letter"
    if name.startswith("BACALHAU_"):
        return "may not begin with BACALHAU_, which is the network's own"
    if value is None or value == "":
        return "is empty, and the server refuses empty variables"
    if isinstance(value, bool):
        return f'is a truth value, and must be text; put it in quotes: "{str(value).lower()}"'
    if not isinstance(value, str | int | float):
        return "must be text"
    return None


def _env(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    problems_at(((name,), wrong, "") for name, item in value.items() if (wrong := check_env(name, item)))
    return value


def _seconds(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value < 0:
        raise problem(f"is {value}, and must not be negative")
    return value


Text = Annotated[str, BeforeValidator(_text)]
"""Text; a number is taken as the text that it is written as, a truth value is refused."""

AbsolutePath = Annotated[str, BeforeValidator(read_path)]
"""An absolute path inside the task."""

Env = Annotated[dict[str, Text], BeforeValidator(_env)]
"""A task's environment variables."""

Seconds = Annotated[int, BeforeValidator(_seconds)]
"""A duration in whole seconds."""

Cpu = Annotated[str, BeforeValidator(matching(r"(\d+(\.\d*)?|\.\d+)m?", "a number of cores such as `0.5` or `500m`"))]
Bytes = Annotated[
    str, BeforeValidator(matching(r"(\d[\d,]*(\.\d*)?|\.\d+)([kmgtpe]i?)?b?", "a size such as `512Mb` or `1GiB`"))
]
WholeNumber = Annotated[str, BeforeValidator(matching(r"\d+", "a whole number"))]
