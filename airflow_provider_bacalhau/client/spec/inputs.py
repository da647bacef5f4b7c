"""What a user may hand to a job as an input, read into one of four kinds.

:class:`ReadyInput`
    can be sent as it is;
:class:`IpfsPathInput`
    a path inside a CID: nodes take bare CIDs only, so a gateway must first tell the CID of that very folder or file;
:class:`JobInput`
    a job: all its results, looked up when the task runs;
:class:`ResultInput`
    a result whose address is a secret and ages, so it is fetched from the server where it is used.

The caller turns the last three into ready ones, and :func:`assign_mounts` gives each its place.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from airflow_provider_bacalhau.client.cid import is_cid, normalise_cid
from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.spec.fields import check_path
from airflow_provider_bacalhau.client.spec.problems import refusal
from airflow_provider_bacalhau.client.spec.sources import InputSource, SourceConfig
from airflow_provider_bacalhau.client.spec.text import plain

log = logging.getLogger(__name__)

_FORMS = (
    "An input is ipfs://CID[/path], s3://bucket/key, https://…, file:///path, a bare CID or a job id, each with or "
    "without :/mount at its end, an InputSource, or a result of another task."
)
_NOTHING = "The task that should have given it pushed nothing."


@dataclass(frozen=True)
class ReadyInput:
    """An input that can be sent as it is.

    :param source: ``{"Type", "Params"}``; never shown by ``repr``, for it may hold a signed address or a whole file.
    :param target: where to mount it; None for the default.
    :param item: its place in what the user gave, such as ``inputs[2]``.
    :param alias: its alias, if the user gave one.
    """

    source: Mapping[str, Any] = field(repr=False)
    target: str | None
    item: str
    alias: str | None = None


@dataclass(frozen=True)
class IpfsPathInput:
    """A file or folder inside the content of a CID.

    :param path: without slashes at its ends.
    """

    cid: str
    path: str
    target: str | None
    item: str

    def ready(self, cid: str) -> ReadyInput:
        """The input, once the path's own CID is known."""
        return ReadyInput(_ipfs(cid), self.target, self.item)


@dataclass(frozen=True)
class JobInput:
    """All results of a job."""

    job_id: str
    target: str | None
    item: str

    def expand(self, references: Sequence[Mapping[str, Any]]) -> list[Input]:
        """The job's results as inputs.

        :param references: its results, as ``ResultReference.to_dict()`` gives them.
        :returns: one input for each result. Where the user gave the job a mount, one result is mounted there and
            several below it, numbered from 0.
        :raises InvalidJobSpec: when there is none, or one cannot be an input.
        """
        if not references:
            raise InvalidJobSpec(
                f"Job {self.job_id} has no results.",
                place=self.item,
                hint="Give it a publisher, such as ipfs, and look whether it has completed.",
            )
        inputs = _read((reference, self.item) for reference in references)
        targets = _below(self.target, len(inputs))
        return [replace(one, target=target) for one, target in zip(inputs, targets, strict=True)]


@dataclass(frozen=True)
class ResultInput:
    """A result that only the server can give an address for.

    :param index: its place in the job's list of results.
    :param execution_id: the execution that it came from, where that is known.
    """

    job_id: str
    index: int
    target: str | None
    item: str
    execution_id: str | None = None

    def ready(self, url: str) -> ReadyInput:
        """The input, once its address is known."""
        return ReadyInput({"Type": "urlDownload", "Params": {"URL": url}}, self.target, self.item)


Input = ReadyInput | IpfsPathInput | JobInput | ResultInput


def stable_form(one: Input) -> dict[str, Any]:
    """What makes an input itself, as JSON values: references as they are, before any address is fetched for them."""
    return {"kind": type(one).__name__, **{key: value for key, value in vars(one).items() if key != "item"}}


def parse_inputs(value: object, place: str = "inputs") -> list[Input]:
    """Reads what a user handed over as inputs.

    :param value: one item, or a list of items and of such lists, which is flattened in order. None and an empty text
        are what a task without a result leaves, so they are refused; a job without inputs has an empty list.
    :param place: what the user calls it.
    :raises InvalidJobSpec: naming the item, such as ``inputs[2]``.
    """
    return _read(_flatten(value, place))


def _read(items: Iterable[tuple[object, str]]) -> list[Input]:
    inputs = [one for value, item in items for one in _read_item(value, item)]
    if archives := [one.item for one in inputs if _is_archive(one)]:
        log.warning(
            "%s: the result arrives as one .tar.gz file, not as a folder. To chain folders publish to ipfs, or to s3 "
            "with Encoding plain.",
            ", ".join(dict.fromkeys(archives)),
        )
    return inputs


def _is_archive(one: Input) -> bool:
    """Results of the publishers local and, unless asked otherwise, s3 are packed, and no source unpacks them."""
    if isinstance(one, ReadyInput) and one.source["Type"] == "s3":
        return str(one.source["Params"].get("Key", "")).endswith(".tar.gz")
    return isinstance(one, ResultInput)


def _flatten(value: object, item: str) -> Iterator[tuple[object, str]]:
    if isinstance(value, tuple) and len(value) == 2 and not _may_be_an_input(value[0]):
        raise InvalidJobSpec(
            f"({value[0]!r}, …) is a pair of key and value.",
            place=item,
            hint="Expand over a list of results, not a dict.",
        )
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for number, inner in enumerate(value):
            yield from _flatten(inner, f"{item}[{number}]")
    else:
        yield value, item


def _may_be_an_input(value: object) -> bool:
    if not isinstance(value, str):
        return not isinstance(value, int | float)  # True for None, too, which is refused with its own words
    return "://" in value or is_cid(value.partition(":")[0].partition("/")[0]) or _job_id(value.partition(":")[0]) != ""


def _read_item(value: object, item: str) -> list[Input]:
    if value is None:
        raise InvalidJobSpec("is empty.", place=item, hint=_NOTHING)
    if isinstance(value, str):
        return _read_text(value.strip(), item)
    if isinstance(value, Mapping):
        return [_read_mapping(value, item)]
    raise InvalidJobSpec(f"cannot be {type(value).__name__}.", place=item, hint=_FORMS)


# Texts


def _read_text(text: str, item: str) -> list[Input]:
    # A template writes the result of a task that pushed nothing as `None`.
    if (
        text in ("", "None")
        or text.startswith((":/", "None:/", "None/", "ipfs://:", "ipfs://None"))
        or text == "ipfs://"
    ):
        raise InvalidJobSpec("is empty." if text == "" else f"{text!r} names nothing.", place=item, hint=_NOTHING)
    if text.startswith(("[", "{", "(")):
        raise InvalidJobSpec(
            "is a list or dict that a template has turned into text.",
            place=item,
            hint="Hand over the task's output itself: inputs=task.output.",
        )
    where, target = _split_mount(text, item)
    scheme, separator, rest = where.partition("://")
    if separator and scheme.lower() != "ipfs":
        return [ReadyInput(_source_of_url(where, scheme.lower(), item), target, item)]
    if not separator and (job_id := _job_id(where)):
        return [JobInput(job_id, target, item)]
    contents = [part.strip() for part in (rest if separator else where).split(",")]
    targets = _below(target, len(contents))
    return [_read_cid(part, target, item) for part, target in zip(contents, targets, strict=True)]


def _split_mount(text: str, item: str) -> tuple[str, str | None]:
    """Takes the mount off the end: what follows the last ``:/``, unless that belongs to ``://``."""
    if text.endswith(":"):
        raise InvalidJobSpec("has an empty mount after its last colon.", place=item, hint="Write it as …:/mount.")
    where, colon, rest = text.rpartition(":/")
    if not colon or rest.startswith("/"):
        return text, None
    return where, _mount(f"/{rest}", item)


def _mount(target: str, item: str) -> str:
    try:
        return check_path(target)
    except ValueError as error:
        raise InvalidJobSpec(f"the mount {error}.", place=item) from None


def _below(target: str | None, count: int) -> list[str | None]:
    return [target] if count == 1 else [target and f"{target}/{number}" for number in range(count)]


def _read_cid(text: str, target: str | None, item: str) -> Input:
    cid, slash, path = text.partition("/")
    if ":" in text:
        raise InvalidJobSpec(
            f"{text!r} is malformed: a mount must be an absolute path.", place=item, hint="Write it as …:/mount."
        )
    try:
        cid = normalise_cid(cid)
    except ValueError as error:
        hint = "" if cid else "Write it as ipfs://CID/path."
        raise InvalidJobSpec(f"{text[:80]!r} is not a CID: {error}.", place=item, hint=hint or _FORMS) from None
    path = path.rstrip("/")
    if not path:
        return ReadyInput(_ipfs(cid), target, item)
    try:
        check_path(slash + path)
    except ValueError as error:
        raise InvalidJobSpec(f"the path after the CID {error}.", place=item) from None
    return IpfsPathInput(cid, path, target, item)


def _ipfs(cid: str) -> dict[str, Any]:
    return {"Type": "ipfs", "Params": {"CID": cid}}


def _source_of_url(url: str, scheme: str, item: str) -> dict[str, Any]:
    source: dict[str, Any]
    if scheme == "s3":
        bucket, _, key = url.partition("://")[2].partition("/")
        source = {"Type": "s3", "Params": {"Bucket": bucket, "Key": key} if key else {"Bucket": bucket}}
    elif scheme in ("http", "https"):
        source = {"Type": "urlDownload", "Params": {"URL": url}}
    elif scheme == "file":
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise InvalidJobSpec(
                "names a host, and a file:// input is a path on the compute node.",
                place=item,
                hint="Write it as file:///path.",
            )
        # Not the newer type `local`, which servers before v1.8 do not know; they all know this one.
        source = {"Type": "localDirectory", "Params": {"SourcePath": unquote(parts.path)}}
    else:
        raise InvalidJobSpec(f"{scheme}:// is not known.", place=item, hint=_FORMS)
    return _checked_source(source, source, item)


def _job_id(text: str) -> str:
    """The job id, or nothing when the text is none."""
    bare = text.removeprefix("j-")
    try:
        return text if str(uuid.UUID(bare)) == bare.lower() else ""
    except ValueError:
        return ""


# Mappings


def _read_mapping(value: Mapping[Any, Any], item: str) -> Input:
    written = plain(value, item)
    keys = {key.lower() for key in written}
    if "job_id" in keys:
        return _read_reference(written, item)
    if "source" in keys:
        return _read_input_source(written, item)
    if "type" in keys:
        return ReadyInput(_checked_source(written, written, item), None, item)
    raise InvalidJobSpec(f"cannot be a dict with the keys {', '.join(written) or '(none)'}.", place=item, hint=_FORMS)


def _checked_source(source: object, written: object, item: str) -> dict[str, Any]:
    try:
        return SourceConfig.model_validate(source).to_dict()
    except ValidationError as error:
        raise refusal(error, written, item, what=item) from None


class _UnmountedSource(InputSource):
    """An input source that may leave its target to us."""

    target: Any = None


def _read_input_source(written: dict[str, Any], item: str) -> ReadyInput:
    try:
        read = _UnmountedSource.model_validate(written)
    except ValidationError as error:
        raise refusal(error, written, item, what=item) from None
    target = None if read.target in (None, "") else _mount(str(read.target), f"{item}.Target")
    return ReadyInput(read.source.to_dict(), target, item, read.alias or None)


def _read_reference(reference: dict[str, Any], item: str) -> Input:
    """A result reference, as in the XCom ``results``; a ``target`` may be added to it."""
    kind, job_id = reference.get("type"), reference["job_id"]
    target = None if reference.get("target") is None else _mount(str(reference["target"]), f"{item}.target")
    match kind:
        case "ipfs":
            return ReadyInput(_checked_source(_ipfs(reference.get("cid", "")), reference, item), target, item)
        case "s3" if isinstance(reference.get("source"), Mapping):
            source = _checked_source({"Type": "s3", "Params": reference["source"]}, reference, item)
            return ReadyInput(source, target, item)
        case "url" if isinstance(reference.get("index"), int):
            return ResultInput(str(job_id), reference["index"], target, item, reference.get("execution_id"))
        case "s3managed":
            raise InvalidJobSpec(
                "is a result of the publisher s3managed, which no job can read.",
                place=item,
                hint="Publish to ipfs or s3 in the job that makes it.",
            )
    raise InvalidJobSpec(f"is a result reference of type {kind!r} that cannot be read.", place=item, hint=_FORMS)
