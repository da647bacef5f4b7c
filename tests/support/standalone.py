"""A whole Airflow 3 for one test module: ``airflow standalone``, its REST API, and triggerers that can be killed.

One at a time: it keeps two cores busy, and two of them would wait for each other longer than the tests wait for them.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil
import requests

TURN = 900.0
"""Seconds until tests that run at the same time, in other processes, should be done with theirs."""

START = TURN + 200.0
"""Seconds that a start may take: 16 on an idle machine with two cores, when nobody else has one."""

_PAUSE = 0.5
_T = TypeVar("_T")


@dataclass(frozen=True)
class TaskView:
    """A task instance as the REST API shows it.

    :param pid: of the process that runs it, or ran it last.
    :param triggerer: id of the triggerer that has its trigger; None if none has.
    :param started: when its latest try began, in seconds since the epoch.
    """

    state: str | None
    try_number: int
    max_tries: int
    pid: int | None
    triggerer: int | None
    started: float | None


class Process:
    """A process and all its descendants, as they are when something is done to them."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def kill(self) -> None:
        """SIGKILL, as when the machine goes away."""
        self._send(signal.SIGKILL)
        self._wait(10)

    def freeze(self) -> None:
        """SIGSTOP, as when the machine is suspended; but not while it holds the database's lock, or all stand still."""
        self._send(signal.SIGSTOP)
        while self._holds_lock():
            self.thaw()
            time.sleep(0.05)
            self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    def stop(self, patience: float = 30) -> None:
        """SIGTERM to the first process alone, and wait until it has ended."""
        self._process.terminate()
        self._wait(patience)

    def _wait(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        while self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, f"process {self._process.pid} does not end"
            time.sleep(0.1)

    def _holds_lock(self) -> bool:
        mine = {str(process.pid) for process in [self._process, *self._process.children(recursive=True)]}
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        return any("WRITE" in lock and mine & set(lock) for lock in locks)

    def _send(self, number: signal.Signals) -> None:
        for process in [self._process, *self._process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


class Standalone:
    """Airflow from ``with`` to its end, which ends every process of it.

    :param home: an empty folder: ``AIRFLOW_HOME``.
    :param dags: folder of the DAGs.
    :param settings: further environment variables, such as connections.
    :param parallelism: tasks that run at a time; each costs about 150 MB.
    """

    def __init__(self, home: Path, dags: Path, settings: Mapping[str, str], *, parallelism: int = 2) -> None:
        self.home = home
        self._port, *log_ports = (_unused_port() for _ in range(3))
        self._environment = {**_environment(home, dags, self._port, log_ports, parallelism), **settings}
        self._started: list[subprocess.Popen[bytes]] = []
        self._writing = threading.Lock()
        self._turn = contextlib.ExitStack()

    def __enter__(self) -> Self:
        fcntl.flock(self._turn.enter_context(Path(__file__).open("rb")), fcntl.LOCK_EX)
        self._start("standalone")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The parent does not take its children with it. A frozen process ends by SIGKILL only.
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self._started:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            for process in self._started:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
        self._turn.close()

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.home / f"{command[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "airflow", *command],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def wait_until_ready(self, *dag_ids: str) -> None:
        """Wait for scheduler, triggerer and DAG processor, and until these DAGs can run."""

        def is_ready() -> bool:
            health = self._get("/monitor/health")
            parts = ("scheduler", "triggerer", "dag_processor")
            return all(health[part]["status"] == "healthy" for part in parts) and all(
                self._get(f"/dags/{dag_id}")["dag_id"] == dag_id for dag_id in dag_ids
            )

        self.wait_for(is_ready, "Airflow to be ready", START - TURN)

    # triggerers

    def own_triggerer(self) -> Process:
        """The triggerer that came with the rest. Nothing starts it again."""
        for child in psutil.Process(self._started[0].pid).children():
            if "triggerer" in " ".join(child.cmdline()):
                return Process(child.pid)
        raise AssertionError(f"no triggerer\n{self.tail()}")

    def start_triggerer(self) -> Process:
        """One more triggerer; it takes up triggers within some ten seconds."""
        # Two cannot serve logs at one port; the logs are files of this machine anyway.
        return Process(self._start("triggerer", "--skip-serve-logs").pid)

    def triggerers(self) -> set[int]:
        """Ids of those that are at work; a dead one counts until it has been silent for too long."""
        return {job["id"] for job in self._get("/jobs?job_type=TriggererJob&is_alive=true")["jobs"]}

    # what a user does

    def add_connection(self, conn_id: str, **fields: Any) -> None:
        """Keep a connection in the database, as most deployments do."""
        self._ask("POST", "/connections", {"connection_id": conn_id, **fields})

    def trigger(self, dag_id: str, run_id: str) -> None:
        self._ask("POST", f"/dags/{dag_id}/dagRuns", {"dag_run_id": run_id, "logical_date": None})

    def set_task(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Mark a task as failed, success or skipped."""
        self._ask("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}", {"new_state": state})

    def set_run(self, dag_id: str, run_id: str, state: str) -> None:
        """Mark a whole run as failed or success."""
        self._ask("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", {"state": state})

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clear a task, whatever its state: it runs again."""
        body = {"dry_run": False, "only_failed": False, "dag_run_id": run_id, "task_ids": [task_id]}
        self._ask("POST", f"/dags/{dag_id}/clearTaskInstances", body)

    def delete_run(self, dag_id: str, run_id: str) -> None:
        self._ask("DELETE", f"/dags/{dag_id}/dagRuns/{run_id}")

    # what a user sees

    def task(self, dag_id: str, run_id: str, task_id: str) -> TaskView:
        found = self._get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")
        return TaskView(
            found["state"],
            found["try_number"],
            found["max_tries"],
            found["pid"],
            (found["trigger"] or {}).get("triggerer_id"),
            datetime.fromisoformat(found["start_date"]).timestamp() if found["start_date"] else None,
        )

    def tasks(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """State by id of task."""
        found = self._get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {task["task_id"]: task["state"] for task in found}

    def run(self, dag_id: str, run_id: str) -> str:
        """State of a run."""
        state: str = self._get(f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
        return state

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str) -> Any:
        return self._get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}")["value"]

    def logs(self, dag_id: str, run_id: str) -> dict[str, list[str]]:
        """What the tasks of a run and their triggers logged, as sentences, by file: those of triggers apart."""
        folder = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}"
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): [_sentence(line) for line in _lines(path)] for path in files}

    def tail(self, dag_id: str = "", run_id: str = "", *, size: int = 20) -> str:
        """The end of every log that may say why a test failed."""
        logs = {
            path.name: [line for line in _lines(path) if "http.access" not in line]
            for path in sorted(self.home.glob("*.log"))
        }
        logs |= self.logs(dag_id, run_id) if run_id else {}
        return "\n".join(
            "\n".join([f"--- {name}", *(line[:300] for line in lines[-size:])]) for name, lines in logs.items()
        )

    def wait_for(self, look: Callable[[], _T], what: str, patience: float) -> _T:
        """Look until there is something to see; return that.

        :raises AssertionError: with the end of Airflow's logs, when patience is over.
        """
        deadline = time.monotonic() + patience
        trouble = ""
        while time.monotonic() < deadline:
            try:
                if seen := look():
                    return seen
            except requests.RequestException as error:  # not up yet, not known yet, or its database is locked
                trouble = f" ({error})"
            time.sleep(_PAUSE)
        raise AssertionError(f"waited {patience:.0f} s in vain for {what}{trouble}\n{self.tail()}")

    # the API

    @functools.cached_property
    def _headers(self) -> dict[str, str]:
        answer = requests.get(f"http://127.0.0.1:{self._port}/auth/token", timeout=30)
        answer.raise_for_status()
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def _get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self._ask("GET", path).json()
        return found

    def _ask(self, method: str, path: str, body: Any = None) -> requests.Response:
        # One user at a time, who tries again: requests that write at once can lock SQLite, some for good.
        with contextlib.nullcontext() if method == "GET" else self._writing:
            answer = self._ask_once(method, path, body)
            for pause in (1, 2, 4):
                if answer.ok or "Database error" not in answer.text:
                    break
                time.sleep(pause)
                answer = self._ask_once(method, path, body)
        if not answer.ok:
            raise requests.HTTPError(f"{method} {path}: {answer.status_code} {answer.text[:500]}", response=answer)
        return answer

    def _ask_once(self, method: str, path: str, body: Any) -> requests.Response:
        url = f"http://127.0.0.1:{self._port}/api/v2{path}"
        return requests.request(method, url, json=body, headers=self._headers, timeout=30)


def _environment(home: Path, dags: Path, port: int, log_ports: list[int], parallelism: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    return {
        **kept,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),  # it runs `airflow`
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": f"http://localhost:{port}",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://localhost:{port}/execution/",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": str(parallelism),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(log_ports[0]),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(log_ports[1]),
        "AIRFLOW__OPENLINEAGE__DISABLED": "True",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        # Seconds within which a worker notices that a task has ended; one that comes back sooner is taken for lost.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    }


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines()


def _sentence(line: str) -> str:
    """The message of a structured log line, and the errors that came with it."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or ()]
    return " | ".join([str(entry.get("event")), *errors])


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
