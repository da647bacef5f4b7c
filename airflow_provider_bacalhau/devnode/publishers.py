"""Publishing what a run left: into the block store, as an archive to download, or not at all."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_provider_bacalhau.devnode import unixfs
from airflow_provider_bacalhau.devnode.blocks import BlockStore

PUBLISHERS = ("ipfs", "local", "noop", "s3managed")
ARCHIVES_PATH = "/local-publisher/"


class PublishError(Exception):
    """A result that could not be published; the message is what the server says."""


class Publishers:
    """The publishers of one node.

    :param archives: folder that the local publisher serves.
    """

    def __init__(self, blocks: BlockStore, archives: Path) -> None:
        self._blocks = blocks
        self._archives = archives
        archives.mkdir(parents=True, exist_ok=True)

    def publish(self, kind: str, execution_id: str, results: Path) -> Mapping[str, Any]:
        """Publish a result folder.

        :param kind: ``Type`` of the task's publisher; empty publishes nothing.
        :returns: a ``{"Type", "Params"}`` pair; the URL of an archive lacks scheme and host, which the node knows when
            it is asked. Empty when nothing is published.
        :raises PublishError: it failed.
        """
        match kind.casefold():
            case "" | "noop":
                return {}
            case "ipfs":
                return {"Type": "ipfs", "Params": {"CID": unixfs.add_path(self._blocks, results).text}}
            case "local":
                return {"Type": "urlDownload", "Params": {"URL": self._archive(execution_id, results)}}
        # The one kind that real nodes offer without being able to serve it.
        raise PublishError("failed to get pre-signed URL for managed S3 publisher")

    def _archive(self, execution_id: str, results: Path) -> str:
        name = f"{execution_id}.tar.gz"
        part = self._archives / f".{name}.part"
        with tarfile.open(part, "w:gz", format=tarfile.GNU_FORMAT, compresslevel=6, dereference=False) as archive:
            archive.add(results, arcname=".", recursive=False, filter=_as_root)
            self._add_below(archive, results, "")
        os.replace(part, self._archives / name)  # noqa: PTH105 - os.replace is the atomic one
        return ARCHIVES_PATH + name

    def _add_below(self, archive: tarfile.TarFile, folder: Path, prefix: str) -> None:
        for path in sorted(folder.iterdir()):
            archive.add(path, arcname=prefix + path.name, recursive=False, filter=_as_root)
            if path.is_dir() and not path.is_symlink():
                self._add_below(archive, path, f"{prefix}{path.name}/")


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Owner and modes as in a real node's archives; what is neither file, folder nor link stays out."""
    if not (member.isfile() or member.isdir() or member.issym()):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    if member.issym():
        member.linkname = ""  # real nodes lose the target
    member.mode = 0o700 if member.name == "." else 0o755 if member.isdir() else 0o644
    return member
