"""The block store: one file for each block, named by its digest, shared by all threads."""

from __future__ import annotations

import os
import threading
from pathlib import Path


class BlockStore:
    """Blocks in a folder. Blocks never change, so writing one that is there does nothing.

    :param root: folder of the store, made when missing.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def put(self, digest: bytes, data: bytes) -> None:
        """Keep a block; other threads see it whole or not at all."""
        path = self._path(digest)
        if path.exists():
            return
        path.parent.mkdir(exist_ok=True)
        part = path.with_name(f"{path.name}.{threading.get_ident()}.part")
        part.write_bytes(data)
        os.replace(part, path)  # noqa: PTH105 - os.replace is the atomic one

    def get(self, digest: bytes) -> bytes | None:
        """A block, or none."""
        try:
            return self._path(digest).read_bytes()
        except FileNotFoundError:
            return None

    def _path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self._root / name[:2] / name
