"""How runs are ended from outside: by request, when their time is over, when they fill the disk."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import wasmtime

_WATCH_SECONDS = 0.02
_DISK_LOOK_SECONDS = 0.1


class Interruption(Enum):
    """Why a run was ended from outside."""

    STOPPED = "stopped"
    TIMED_OUT = "timed out"
    DISK_FULL = "disk full"


class InterruptedRunError(Exception):
    """A run that was ended from outside."""

    def __init__(self, reason: Interruption) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(slots=True)
class Control:
    """How others end a run: from any thread, at any time, before or while it runs.

    :param timeout: seconds the run may take once it is started, none without limit.
    """

    timeout: float | None = None
    event: threading.Event = field(default_factory=threading.Event)
    reason: Interruption | None = None
    _engines: list[wasmtime.Engine] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def interrupt(self, reason: Interruption) -> None:
        """End the run; the first reason counts."""
        with self._lock:
            if self.reason is None:
                self.reason = reason
            self.event.set()
            for engine in self._engines:
                engine.increment_epoch()

    def attach(self, engine: wasmtime.Engine) -> None:
        """Let interruptions reach an engine, whose store must have its epoch deadline set already.

        :raises InterruptedRunError: the run was ended before.
        """
        with self._lock:
            self._engines.append(engine)
        self.check()

    def check(self) -> None:
        """Between steps that cannot be interrupted.

        :raises InterruptedRunError: the run is to end.
        """
        if self.reason is not None:
            raise InterruptedRunError(self.reason)


@dataclass(slots=True)
class _Watched:
    control: Control
    folder: Path
    deadline: float
    disk_look: float


class Watchdog:
    """One thread that ends runs which take too long or write too much; it sleeps while nothing runs."""

    def __init__(self, disk_limit: int) -> None:
        self._disk_limit = disk_limit
        self._watched: list[_Watched] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    @contextlib.contextmanager
    def watching(self, control: Control, folder: Path) -> Iterator[None]:
        """Watch a run while the block lasts.

        :param folder: its size is limited.
        """
        now = time.monotonic()
        deadline = now + control.timeout if control.timeout is not None else float("inf")
        entry = _Watched(control, folder, deadline, now + _DISK_LOOK_SECONDS)
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._watch, name="devnode-watchdog", daemon=True)
                self._thread.start()
            self._watched.append(entry)
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._watched.remove(entry)

    def _watch(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._watched)
                if self._closed:
                    return
                watched = list(self._watched)
            now = time.monotonic()
            for entry in watched:
                if now >= entry.deadline:
                    entry.control.interrupt(Interruption.TIMED_OUT)
                elif now >= entry.disk_look:
                    # Walking a large folder takes long; looks are spaced by ten times what the last one took.
                    if _folder_size(entry.folder, self._disk_limit) > self._disk_limit:
                        entry.control.interrupt(Interruption.DISK_FULL)
                    took = time.monotonic() - now
                    entry.disk_look = time.monotonic() + max(_WATCH_SECONDS, 10 * took)
            with self._changed:
                self._changed.wait_for(lambda: self._closed, timeout=_WATCH_SECONDS)


def _folder_size(folder: Path, enough: int) -> int:
    """Bytes on disk in a folder; stops counting beyond ``enough``. Links are not followed."""
    total = 0
    pending = [str(folder)]
    while pending and total <= enough:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        status = entry.stat(follow_symlinks=False)
                        total += min(status.st_size, status.st_blocks * 512)
        except OSError:
            continue  # the program removed it meanwhile
    return total
