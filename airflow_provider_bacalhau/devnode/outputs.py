"""A program's standard output and error: through pipes into files, bounded."""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
from pathlib import Path
from typing import Self

OUTPUT_LIMIT = 1_000_000_000


class Outputs:
    """Two pipes and the thread that empties them into two files, each up to the limit."""

    def __init__(self, stdout: Path, stderr: Path) -> None:
        self._pipes: list[tuple[int, int]] = []
        self._files: list[int] = []
        self._thread = threading.Thread(target=self._drain, name="devnode-output", daemon=True)
        try:
            for path in (stdout, stderr):
                self._pipes.append(os.pipe())
                self._files.append(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644))
        except BaseException:
            self._close_all()
            raise

    @property
    def stdout(self) -> str:
        """Path by which wasmtime opens the program's end of the standard output."""
        return f"/dev/fd/{self._pipes[0][1]}"

    @property
    def stderr(self) -> str:
        """The same for the standard error."""
        return f"/dev/fd/{self._pipes[1][1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()
        self._close_all()

    def finish(self) -> None:
        """Close our copies of the program's ends and wait until everything written has arrived."""
        for number, (read, write) in enumerate(self._pipes):
            if write >= 0:
                os.close(write)
                self._pipes[number] = (read, -1)
        self._thread.join()

    def _drain(self) -> None:
        left = dict.fromkeys(range(len(self._pipes)), OUTPUT_LIMIT)
        with selectors.DefaultSelector() as selector:
            for number, (read, _) in enumerate(self._pipes):
                selector.register(read, selectors.EVENT_READ, number)
            while selector.get_map():
                for key, _ in selector.select():
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fd)
                        continue
                    kept = data[: left[key.data]]
                    left[key.data] -= len(kept)
                    _write_all(self._files[key.data], kept)

    def _close_all(self) -> None:
        for descriptor in [*self._files, *(end for pipe in self._pipes for end in pipe)]:
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._files.clear()
        self._pipes.clear()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
