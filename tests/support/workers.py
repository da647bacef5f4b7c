"""Airflow's workers without Airflow: each attempt of a task is a process of its own, which can be killed at any point.

::

    with Workers(folder, environment) as workers:
        first = workers.start(task, 1, dies_at=Mark.ANSWERED)
        assert first.wait().state == KILLED
        assert workers.start(task, 2).wait().state == SUCCESS

The processes are forked from one that has imported Airflow and holds no threads and no sockets: they start in a few
hundredths of a second. What they do is in :mod:`.forked`.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SUCCESS, FAILED, FAILED_FOR_GOOD, SKIPPED, DEFERRED = "success", "failed", "failed for good", "skipped", "deferred"
KILLED = "killed"
"""State of an attempt whose process ended by a signal."""

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL, as Airflow's supervisor leaves them."""

_START = 120.0
_ROOT = Path(__file__).parents[2]


class Mark(StrEnum):
    """Points of an attempt at which its process can be made to kill itself; at the last one it tells itself to end."""

    BEFORE_SUBMIT = "before it submits"
    ANSWER_LOST = "after the server took the job, its answer lost"
    ANSWERED = "after the server took the job"
    STORED = "after the job's id was stored"
    WAITING = "while it waits"
    SUCCEEDED = "after the job's success, before it returns"
    LOGGING = "in the middle of a line to its log"


@dataclass(frozen=True, eq=False)
class Task:
    """A task instance, and the operator's arguments.

    :param arguments: of ``BacalhauSubmitJobOperator``, beside ``task_id``; plain data.
    :param max_tries: how many tries may follow the first one, as Airflow counts them.
    """

    arguments: Mapping[str, Any]
    dag_id: str = "dag"
    run_id: str = "manual__2026-01-01T00:00:00+00:00"
    task_id: str = "task"
    map_index: int = -1
    max_tries: int = 5

    @property
    def file(self) -> str:
        """A file's name for what outlasts the task's tries."""
        parts = (self.dag_id, self.run_id, self.task_id, self.map_index)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Ended:
    """What came of an attempt.

    :param state: ``success`` and so on, as far as Airflow would tell by how the process ended.
    :param value: what ``execute`` returned.
    :param error: what it raised, as text.
    :param xcoms: what it pushed, until it ended or was killed.
    :param log: what it wrote.
    """

    state: str
    value: Any
    error: str
    xcoms: dict[str, Any]
    log: str


@dataclass
class Worker:
    """The process of one attempt."""

    task: Task
    try_number: int
    _number: int
    _stem: Path
    _workers: Workers
    _over: threading.Event = field(default_factory=threading.Event)
    _status: int = 0

    @property
    def is_over(self) -> bool:
        """Whether the process has ended."""
        return self._over.is_set()

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._read("log")

    def kill(self) -> None:
        """SIGKILL, as when the machine goes away. One that has ended stays as it is."""
        self._workers.send(signal=signal.SIGKILL, number=self._number)

    def terminate(self) -> None:
        """SIGTERM, as when a user ends the task; the process has five seconds from there, see :meth:`stop`."""
        self._workers.send(signal=signal.SIGTERM, number=self._number)

    def stop(self) -> Ended:
        """End it as Airflow's supervisor does: SIGTERM, and SIGKILL five seconds later."""
        self.terminate()
        if not self._over.wait(GRACE):
            self.kill()
        return self.wait()

    def wait(self, patience: float = 90.0) -> Ended:
        """Wait for the end of the process.

        :raises AssertionError: when patience is over; with the attempt's log.
        """
        if not self._over.wait(patience):
            self.kill()
            raise AssertionError(f"an attempt has not ended in {patience:.0f} s\n{self.log}")
        told = json.loads(self._read("result") or "{}")
        assert self._status < 0 or told, f"an attempt died on its own\n{self.log}"
        return Ended(
            state=KILLED if self._status < 0 else told["state"],
            value=told.get("value"),
            error=told.get("error", ""),
            xcoms=json.loads(self._read("xcoms") or "{}"),
            log=self.log,
        )

    def end(self, status: int) -> None:
        """The process has ended with this exit code; minus the signal's number where it was one."""
        self._status = status
        self._over.set()

    def _read(self, suffix: str) -> str:
        path = self._stem.with_suffix(f".{suffix}")
        return path.read_text(errors="replace") if path.exists() else ""


class Workers:
    """Starts attempts, from ``with`` to its end, which ends those that still run.

    :param folder: an empty one, for logs, results and the tasks' state.
    :param environment: of the attempts, such as connections.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = dict(environment)
        self._numbers = itertools.count(1)
        self._started: dict[int, Worker] = {}
        self._sending = threading.Lock()
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        begin = f"import sys; sys.path.append({str(_ROOT)!r}); from tests.support import forked; forked.main()"
        with (self._folder / "server.log").open("wb") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-P", "-c", begin],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | self._environment,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(_START):
            self.__exit__(None, None, None)
            raise AssertionError(f"no worker can start\n{(self._folder / 'server.log').read_text()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with contextlib.suppress(OSError):
            self._server.stdin.close()  # it ends its attempts, and itself
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._server.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait(10)
        self._reader.join(10)
        self._server.stdout.close()

    def start(self, task: Task, try_number: int = 1, *, dies_at: Mark | None = None, has_store: bool = True) -> Worker:
        """Begin an attempt.

        :param dies_at: where it kills itself, if it gets there.
        :param has_store: whether this Airflow keeps tasks' state (3.3 on).
        """
        number = next(self._numbers)
        worker = Worker(task, try_number, number, self._folder / f"{number:05}", self)
        attempt = {
            "task": asdict(task),
            "try_number": try_number,
            "dies_at": dies_at and dies_at.name,
            "state": str(self._folder / f"{task.file}.state") if has_store else "",
        }
        worker._stem.with_suffix(".attempt").write_text(json.dumps(attempt))
        self._started[number] = worker
        self.send(start=str(worker._stem), number=number)
        return worker

    def send(self, **command: Any) -> None:
        """Tell the process that forks."""
        assert self._server.stdin is not None
        with self._sending:
            self._server.stdin.write(json.dumps(command).encode() + b"\n")
            self._server.stdin.flush()

    def _read(self) -> None:
        assert self._server.stdout is not None
        for line in self._server.stdout:
            told = json.loads(line)
            if "ready" in told:
                self._ready.set()
            else:
                self._started.pop(told["number"]).end(told["ended"])
