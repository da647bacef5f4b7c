"""Bringing a job's inputs to where its program sees them.

Two steps, as on a real node: :meth:`Inputs.measure` looks at an input before the node bids for the execution (this is
where a wrong CID, an address that does not answer or a forbidden path is found), :meth:`Inputs.stage` brings it below
the run's own root.

One deliberate difference: a CID that is not in the node's own store fails the execution at once. A real node asks the
network for it and takes no other job for minutes.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import os
import posixpath
import shutil
import tarfile
import urllib.parse
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import requests

from airflow_provider_bacalhau.devnode import unixfs
from airflow_provider_bacalhau.devnode.blocks import BlockStore
from airflow_provider_bacalhau.devnode.control import Control

STORAGES = ("inline", "ipfs", "urldownload", "local", "localdirectory")
DOWNLOAD_LIMIT = 1 << 30

_SCAN = "calculating resource usage of job: "
_SIZE = _SCAN + "error getting job disk space requirements: "
_URL_TIMEOUT = (5.0, 10.0)


class InputError(Exception):
    """An input that cannot be brought; the message is what the server says.

    :param details: what the server puts beside it into the event.
    """

    def __init__(self, message: str, **details: str) -> None:
        super().__init__(message)
        self.details = details


@dataclass(slots=True)
class Stage:
    """Where the inputs of one run go.

    :param root: folder that the program sees as ``/``.
    :param mounts: host folders that are mounted instead of copied: path, where the program sees it, writable.
    """

    root: Path
    mounts: list[tuple[Path, str, bool]] = field(default_factory=list)

    def place(self, target: str) -> Path:
        """The path of a target below the root, its parent made. A target cannot climb out."""
        relative = posixpath.normpath("/" + target).lstrip("/")
        path = self.root / relative if relative else self.root
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class Inputs:
    """The kinds of inputs of one node.

    :param allowed_paths: globs of host paths that jobs may read; with ``:rw`` at the end they may write, too.
    :raises ValueError: a glob that is not absolute.
    """

    def __init__(self, blocks: BlockStore, allowed_paths: Sequence[str] = ()) -> None:
        self._blocks = blocks
        self._allowed = [read_allowed_path(text) for text in allowed_paths]

    def measure(self, source: Mapping[str, Any]) -> None:
        """Look whether an input can be had.

        :param source: an item of ``InputSources``.
        :raises InputError: it cannot.
        """
        kind, params = _kind_and_params(source)
        if kind == "inline":
            _decode_inline(params)
        elif kind == "ipfs":
            self._find_cid(params)
        elif kind == "urldownload":
            _ask_size(params)
        else:
            self._find_local(params)

    def stage(self, source: Mapping[str, Any], stage: Stage, control: Control) -> None:
        """Bring an input to its target.

        :raises InputError: it cannot be had any more; :raises .control.InterruptedRunError: the run was ended.
        """
        control.check()
        kind, params = _kind_and_params(source)
        target = source["Target"]
        if kind == "inline":
            self._stage_inline(params, stage.place(target))
        elif kind == "ipfs":
            cid = self._find_cid(params)
            try:
                unixfs.write_out(self._blocks, cid.digest, stage.place(target))
            except (unixfs.MissingBlockError, unixfs.UnreadableError, OSError) as error:
                raise InputError(f"failed to copy {target} to volume: {error}") from None
        elif kind == "urldownload":
            _download(params, target, stage, control)
        else:
            self._stage_local(params, target, stage)

    def _stage_inline(self, params: Mapping[str, Any], path: Path) -> None:
        mime, data = _decode_inline(params)
        if mime != "application/gzip":
            path.write_bytes(data)
            return
        path.mkdir(exist_ok=True)
        try:
            with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
                if sum(member.size for member in archive) > DOWNLOAD_LIMIT:
                    raise InputError(f"preparing arguments: the archive is larger than {DOWNLOAD_LIMIT} bytes")
                archive.extractall(path, filter="data")
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise InputError(f"preparing arguments: {error}") from None

    def _find_cid(self, params: Mapping[str, Any]) -> unixfs.Cid:
        text = str(params.get("cid", ""))
        if not text:
            raise InputError(f"{_SIZE}invalid ipfs params. cid cannot be empty")
        prefix = f'{_SIZE}IPFS storage provider was unable to retrieve content "{text}"'
        try:
            cid = unixfs.Cid.parse(text)
        except unixfs.InvalidCidError:
            raise InputError(
                f"{prefix}: unable to decode CID in call to GetCidSize(): {text}: "
                "invalid cid: selected encoding not supported"
            ) from None
        try:
            unixfs.total_size(self._blocks, cid.digest)
        except (unixfs.MissingBlockError, unixfs.UnreadableError) as error:
            raise InputError(f"{prefix}: {error} (the embedded node has no IPFS network to ask)") from None
        return cid

    def _find_local(self, params: Mapping[str, Any]) -> tuple[Path, bool]:
        text, writes = str(params.get("sourcepath", "")), params.get("readwrite") is True
        granted = [may_write for glob, may_write in self._allowed if _path_matches(text, glob)]
        if not granted or (writes and not any(granted)):
            complaint = "is not granted write access" if granted else "is not allowlisted"
            raise InputError(
                f"{_SCAN}volume {text} {complaint}",
                ErrorCode="Bacalhau:ConfigurationError",
                Hint="Verify Compute.AllowListedLocalPaths configuration property",
            )
        path = Path(text)
        create = str(params.get("createas", "")).casefold()
        if not path.exists():
            if not writes or create not in {"dir", "file"}:
                raise InputError(
                    f"{_SCAN}volume {text} does not exist and creation is not allowed",
                    ErrorCode="Bacalhau:",
                    Hint="If you want the job to create the volume, set ReadWrite to true and CreateAs to one of "
                    "[dir, file]",
                )
            if create == "dir":
                path.mkdir(parents=True)
            else:
                path.touch()
        return path, writes

    def _stage_local(self, params: Mapping[str, Any], target: str, stage: Stage) -> None:
        path, writes = self._find_local(params)
        place = stage.place(target)
        if path.is_dir():
            place.mkdir(exist_ok=True)
            stage.mounts.append((path, posixpath.normpath("/" + target), writes))
        elif writes:
            raise InputError(f"volume {path}: the embedded node mounts folders for writing, not single files")
        else:
            shutil.copyfile(path, place)


def _kind_and_params(source: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    spec = source["Source"]
    return spec["Type"].casefold(), {key.casefold(): value for key, value in (spec.get("Params") or {}).items()}


def read_allowed_path(text: str) -> tuple[str, bool]:
    """The glob of an allowed host path, and whether jobs may write there.

    :raises ValueError: a glob that is not absolute. It would allow nothing: jobs name host paths from the root on.
    """
    path, colon, mode = text.rpartition(":")
    has_mode = bool(colon) and mode in {"ro", "rw"}
    glob = path if has_mode else text
    if not glob.startswith("/"):
        raise ValueError(f"takes absolute paths, not {text!r}")
    return glob, has_mode and mode == "rw"


def _path_matches(text: str, glob: str) -> bool:
    """Segment by segment, ``**`` for any number of them. A path that climbs is never allowed."""
    parts, wanted = text.split("/"), glob.split("/")
    if ".." in parts or not text.startswith("/"):
        return False
    return _segments_match(parts, wanted) and _segments_match(os.path.realpath(text).split("/"), wanted)


def _segments_match(parts: list[str], wanted: list[str]) -> bool:
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_segments_match(parts[skip:], wanted[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], wanted[0]) and _segments_match(parts[1:], wanted[1:])


def _decode_inline(params: Mapping[str, Any]) -> tuple[str, bytes]:
    url = str(params.get("url", ""))
    if not url:
        raise InputError(f"{_SIZE}invalid inline params: url cannot be empty", ErrorCode="Bacalhau:")
    if not url.startswith("data:"):
        raise InputError(f"{_SIZE}missing data prefix", ErrorCode="Bacalhau:")
    header, comma, content = url[5:].partition(",")
    if not comma:
        raise InputError(f"{_SIZE}missing comma before data", ErrorCode="Bacalhau:")
    mime, *attributes = header.split(";")
    try:
        data = urllib.parse.unquote_to_bytes(content)
        if "base64" in attributes:
            data = base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise InputError(f"{_SIZE}illegal base64 data: {error}", ErrorCode="Bacalhau:") from None
    if mime == "application/gzip":
        try:
            with gzip.open(io.BytesIO(data)) as unzipped:
                unzipped.read(1)
        except (OSError, EOFError, zlib.error):
            raise InputError(f"{_SIZE}unexpected EOF", ErrorCode="Bacalhau:") from None
    return mime, data


def _url(params: Mapping[str, Any]) -> str:
    url = str(params.get("url", "")).strip(" '\"")
    prefix = f"{_SIZE}invalid url storage params: "
    if not url:
        raise InputError(f"{prefix}url cannot be empty", ErrorCode="Bacalhau:")
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        complaint = f"URLs must begin with 'http' or 'https'. The submitted one began with {parts.scheme}"
        raise InputError(prefix + complaint, ErrorCode="Bacalhau:")
    if not parts.path:
        raise InputError(f"{prefix}URL must end with a file name", ErrorCode="Bacalhau:")
    return url


def _request(method: str, url: str) -> requests.Response:
    # `auth` keeps requests from looking into a netrc file for credentials.
    return requests.request(
        method, url, stream=True, timeout=_URL_TIMEOUT, allow_redirects=True, auth=lambda sent: sent
    )


def _ask_size(params: Mapping[str, Any]) -> None:
    """A HEAD request, as a real node makes; that one asks four times and waits in between."""
    url = _url(params)
    try:
        with _request("HEAD", url) as response:
            if response.status_code != 200:
                raise InputError(f"{_SIZE}HEAD {url} giving up after 4 attempt(s)", ErrorCode="Bacalhau:")
            length = response.headers.get("Content-Length", "")
    except requests.RequestException:
        raise InputError(f"{_SIZE}HEAD {url} giving up after 4 attempt(s)", ErrorCode="Bacalhau:") from None
    if not length.isdigit():
        raise InputError(f"{_SIZE}content-length not provided by the server", ErrorCode="Bacalhau:")
    if int(length) > DOWNLOAD_LIMIT:
        raise InputError(f"{_SIZE}{length} bytes are more than the embedded node downloads ({DOWNLOAD_LIMIT})")


def _download(params: Mapping[str, Any], target: str, stage: Stage, control: Control) -> None:
    url = _url(params)
    try:
        with _request("GET", url) as response:
            if not response.ok:
                raise InputError(f"preparing arguments: non-200 response from URL ({url}): {response.status_code}")
            name = posixpath.basename(urllib.parse.unquote(urllib.parse.urlsplit(response.url).path))
            if name in {"", ".", ".."} or "\0" in name:
                name = "download"
            received = 0
            with stage.place(f"{target}/{name}").open("wb") as file:
                for chunk in response.iter_content(1 << 16):
                    control.check()
                    received += len(chunk)
                    if received > DOWNLOAD_LIMIT:
                        raise InputError(f"preparing arguments: {url} is larger than {DOWNLOAD_LIMIT} bytes")
                    file.write(chunk)
    except requests.RequestException as error:
        raise InputError(
            f"preparing arguments: failed to begin download from url {url}: {type(error).__name__}"
        ) from None
