"""The other end of :mod:`.workers`: a process that forks one for each attempt, and what that one does.

It is told by lines of JSON what to start and whom to signal, and tells in the same way who has ended. When nobody is
left to tell it anything, it ends its attempts and itself.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.workers import DEFERRED, FAILED, FAILED_FOR_GOOD, SKIPPED, SUCCESS, Mark

_IMPORTED = (
    "airflow.providers.common.compat.connection",
    "airflow_provider_bacalhau.client.clients",
    "airflow_provider_bacalhau.client.spec",
    "airflow_provider_bacalhau.client.transport.sync",
    "airflow_provider_bacalhau.hooks.bacalhau",
    "airflow_provider_bacalhau.judging",
    "airflow_provider_bacalhau.operators.bacalhau",
)
_ANSWERS = 3
_RAN, _DIED = 0, 70


def main() -> None:
    """Serve until stdin ends."""
    os.dup2(1, _ANSWERS)
    os.dup2(2, 1)  # Airflow logs there while it is imported
    for module in _IMPORTED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # so that the attempts share this process's memory
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    _tell(ready=True)
    running: dict[int, int] = {}  # pid by number
    unread = b""
    while True:
        readable, _, _ = select.select([0, woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
            _reap(running)
        if 0 in readable:
            if not (more := os.read(0, 65536)):
                break
            *lines, unread = (unread + more).split(b"\n")
            for line in lines:
                _obey(json.loads(line), running)
    for pid in running.values():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _obey(command: dict[str, Any], running: dict[int, int]) -> None:
    number = command["number"]
    if "start" in command:
        running[number] = os.fork() or _attempt(Path(command["start"]))
    elif number in running:  # not reaped yet, so the pid is still its own
        os.kill(running[number], command["signal"])


def _reap(running: dict[int, int]) -> None:
    for number, pid in list(running.items()):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            del running[number]
            _tell(number=number, ended=os.waitstatus_to_exitcode(status))


def _tell(**told: Any) -> None:
    os.write(_ANSWERS, json.dumps(told).encode() + b"\n")


# --- in the process of an attempt -----------------------------------------------------------------------------------


def _attempt(stem: Path) -> int:
    """Run an attempt, and end the process."""
    status = _DIED
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(_ANSWERS)
        with stem.with_suffix(".log").open("wb") as log, Path(os.devnull).open("rb") as nothing:
            for own, theirs in ((0, nothing), (1, log), (2, log)):
                os.dup2(theirs.fileno(), own)
        given = json.loads(stem.with_suffix(".attempt").read_text())
        _write(stem.with_suffix(".result"), _run(given, stem))
        status = _RAN
    finally:
        if status != _RAN:
            import traceback

            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run(given: dict[str, Any], stem: Path) -> dict[str, Any]:
    """Run ``execute`` once, as Airflow does; what came of it."""
    from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, TaskDeferred

    from airflow_provider_bacalhau.operators.bacalhau import BacalhauSubmitJobOperator

    task = given["task"]
    mark = Mark[given["dies_at"]] if given["dies_at"] else None
    store = FileStore(Path(given["state"])) if given["state"] else None
    ti = WorkerTaskInstance(task, given["try_number"], stem.with_suffix(".xcoms"))
    context: dict[str, Any] = {"ti": ti, "task_instance": ti, **({"task_state_store": store} if store else {})}
    operator = BacalhauSubmitJobOperator(task_id="task", **task["arguments"])
    if mark is not None:
        _place(mark, ti, store)
    signal.signal(signal.SIGTERM, _terminator(operator))
    try:
        return {"state": SUCCESS, "value": operator.execute(context)}
    except TaskDeferred:
        return {"state": DEFERRED}
    except AirflowSkipException as error:
        return {"state": SKIPPED, "error": str(error)}
    except AirflowFailException as error:
        return {"state": FAILED_FOR_GOOD, "error": str(error)}
    except BaseException as error:  # noqa: BLE001  # Airflow 2 ends a task by one of these
        import traceback

        traceback.print_exc()
        return {"state": FAILED, "error": f"{type(error).__name__}: {error}"}


def _terminator(operator: Any) -> Callable[..., None]:
    """What Airflow does in the task's process on SIGTERM: 3 raises nothing there, 2 does."""
    import airflow

    def terminate(*_: object) -> None:
        operator.on_kill()
        if airflow.__version__.startswith("2."):
            from airflow.exceptions import AirflowTaskTerminated

            raise AirflowTaskTerminated("Task received SIGTERM signal")

    return terminate


class WorkerTaskInstance:
    """What tasks use of Airflow's task instance; XComs go to a file at once."""

    def __init__(self, task: dict[str, Any], try_number: int, xcoms: Path) -> None:
        self.dag_id: str = task["dag_id"]
        self.run_id: str = task["run_id"]
        self.task_id: str = task["task_id"]
        self.map_index: int = task["map_index"]
        self.max_tries: int = task["max_tries"]
        self.try_number = try_number
        self.on_push: Callable[[], object] = lambda: None
        self._xcoms: dict[str, Any] = {}
        self._path = xcoms

    def xcom_push(self, key: str, value: Any) -> None:
        self._xcoms[key] = value
        _write(self._path, self._xcoms)
        self.on_push()


class FileStore:
    """Airflow's task state store (3.3 on) in a file: it outlasts tries, as Airflow's does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.on_set: Callable[[], object] = lambda: None

    def get(self, key: str, default: Any = None) -> Any:
        return self._all().get(key, default)

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        _write(self._path, self._all() | {key: value})
        self.on_set()

    def delete(self, key: str) -> None:
        _write(self._path, {name: value for name, value in self._all().items() if name != key})

    def clear(self) -> None:
        _write(self._path, {})

    def _all(self) -> dict[str, Any]:
        return json.loads(self._path.read_text()) if self._path.exists() else {}


def _place(mark: Mark, ti: WorkerTaskInstance, store: FileStore | None) -> None:
    """Have this process kill itself when it comes to a point; it is nobody else's, so what is patched stays patched."""
    from airflow_provider_bacalhau.client import retry
    from airflow_provider_bacalhau.client.clients import BacalhauClient
    from airflow_provider_bacalhau.client.dialects.orchestrator import OrchestratorDialect
    from airflow_provider_bacalhau.client.dialects.requester import RequesterDialect
    from airflow_provider_bacalhau.client.effects import TransportError
    from airflow_provider_bacalhau.judging import Case
    from airflow_provider_bacalhau.operators.bacalhau import BacalhauSubmitJobOperator

    patched: Any = BacalhauClient
    match mark:
        case Mark.BEFORE_SUBMIT:
            patched.submit_for = _die
        case Mark.ANSWER_LOST:
            judge = retry.pause_before_retry

            def judged(request: Any, outcome: Any, attempt: int) -> Any:
                is_lost = isinstance(outcome, TransportError) and outcome.sent and request.method in {"PUT", "POST"}
                return _die() if is_lost else judge(request, outcome, attempt)

            retry.pause_before_retry = judged
        case Mark.ANSWERED:
            for dialect in (OrchestratorDialect, RequesterDialect):
                patched = dialect
                patched.submit = _dying_after(dialect.submit)
        case Mark.STORED if store is not None:
            store.on_set = _die
        case Mark.STORED:
            ti.on_push = _die
        case Mark.WAITING:
            wait = BacalhauClient.wait
            patched.wait = lambda *args, **kwargs: wait(*args, **{**kwargs, "on_change": _die})
        case Mark.SUCCEEDED:
            decide = Case.judge
            patched = Case
            patched.judge = lambda *args, **kwargs: _die(decide(*args, **kwargs))
        case Mark.LOGGING:
            patched.log_tail = lambda *_, **__: "a line of the job's log"
            patched = BacalhauSubmitJobOperator
            patched.log = HeldLog()


class HeldLog:
    """A log whose lock a thread cannot take twice, as Airflow 3's; SIGTERM comes while the lock is held."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def info(self, message: str, *args: object, **_: object) -> None:
        with self._lock:
            print(message % args, flush=True)
            if "submitted" in message % args:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.01)  # the handler runs here

    warning = error = info


def _dying_after(submit: Any) -> Any:
    async def dying(*args: Any) -> Any:
        await submit(*args)
        _die()

    return dying


def _die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _write(path: Path, value: Any) -> None:
    """Write a whole file or nothing, whenever this process is killed."""
    fresh = path.with_name(f"{path.name}-{os.getpid()}")
    fresh.write_text(json.dumps(value))
    fresh.replace(path)
