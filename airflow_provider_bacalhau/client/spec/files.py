"""Reads the files that a DAG names into the specification, as inline sources."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, overload

from pydantic import ValidationError

from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.spec.data_urls import encode_data_url
from airflow_provider_bacalhau.client.spec.models import JobSpec
from airflow_provider_bacalhau.client.spec.problems import refusal
from airflow_provider_bacalhau.client.spec.sources import LOCAL_FILE
from airflow_provider_bacalhau.client.spec.text import MAX_DEPTH

MAX_BYTES = 7_000_000
"""Bytes of all files of one call: in base64 they grow by a third, and servers take a request of 10 MB at most."""


@overload
def embed_local_files(value: JobSpec, *, base: Path | str, place: str = "") -> JobSpec: ...


@overload
def embed_local_files(value: Any, *, base: Path | str, place: str = "") -> Any: ...


def embed_local_files(value: Any, *, base: Path | str, place: str = "") -> Any:
    """The value with every :func:`local_file` in it replaced by an inline source with the file's bytes.

    :param value: a job specification, or plain values: what a user gave as specification or as inputs.
    :param base: the folder that relative paths begin from, which is the DAG file's.
    :param place: what the user calls the value, for errors, such as ``inputs``.
    :raises InvalidJobSpec: for a file that is not there, cannot be read, or is too large to send, and for a module
        that no server would run.
    """
    if not isinstance(value, JobSpec):
        return _Reader(base).embed(value, place)
    job = _Reader(base).embed(value.to_dict(), place)
    try:
        return JobSpec.model_validate(job)
    except ValidationError as error:
        raise refusal(error, job, place) from None


class _Reader:
    """Reads files until together they are too large."""

    def __init__(self, base: Path | str) -> None:
        self.base = Path(base)
        self.left = MAX_BYTES

    def embed(self, value: Any, place: str, depth: int = 0) -> Any:
        if depth > MAX_DEPTH:
            raise InvalidJobSpec(f"It is nested more than {MAX_DEPTH} levels deep.", place=place[:80])
        if isinstance(value, Mapping):
            path = _marked_path(value)
            if path is not None:
                return self.read(path, place)
            return {
                key: self.embed(item, f"{place}.{key}" if place else str(key), depth + 1) for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            items = [self.embed(item, f"{place}[{number}]", depth + 1) for number, item in enumerate(value)]
            # A pair of key and value must still be told from a list of two inputs.
            return tuple(items) if isinstance(value, tuple) else items
        return value

    def read(self, path: str, place: str) -> dict[str, Any]:
        file = self.base / path
        try:
            if file.is_dir():
                raise InvalidJobSpec(
                    f"{path!r} in the folder {self.base} is a folder, and only files travel with a job.",
                    place=place,
                    hint="Name each file in it, or pack them into one archive.",
                )
            if not file.is_file():
                raise InvalidJobSpec(
                    f"There is no file {path!r} in the folder {self.base}.",
                    place=place,
                    hint="A relative path begins at the folder of the DAG file.",
                )
            with file.open("rb") as stream:
                data = stream.read(self.left + 1)
        except OSError as error:
            raise InvalidJobSpec(f"The file {path!r} cannot be read: {error.strerror}.", place=place) from None
        self.left -= len(data)
        if self.left < 0:
            raise InvalidJobSpec(
                f"With {path!r} the files in the job specification are larger than {MAX_BYTES / 1e6:g} MB, "
                "and servers take a request of 10 MB at most.",
                place=place,
                hint="Publish it to IPFS or S3 and name it there.",
            )
        return {"Type": "inline", "Params": {"URL": encode_data_url(data, _media_type(data))}}


def _media_type(data: bytes) -> str:
    # Not by the file's name: tables of names differ between machines, and the job's hash must not. A .tar.gz stays the
    # file that it is; as application/gzip the server would unpack it.
    return "application/wasm" if data.startswith(b"\0asm") else "application/octet-stream"


def _marked_path(value: Mapping[Any, Any]) -> str | None:
    fields = {str(key).lower(): item for key, item in value.items()}
    params = fields.get("params")
    if str(fields.get("type", "")).lower() != LOCAL_FILE or not isinstance(params, Mapping):
        return None
    path = {str(key).lower(): item for key, item in params.items()}.get("path")
    return path if isinstance(path, str) and path else None
