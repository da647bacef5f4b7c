"""A task of a whole Airflow and its jobs on a network, while something happens to them."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.support.lasting import end, lasts
from tests.support.standalone import Process, Standalone, TaskView

PATIENCE = 90.0
"""Seconds until something must have happened that a loaded machine can delay."""

AT_ONCE = 4
"""Tasks that run at a time."""

TIMEOUT = 8
"""Seconds, of those tasks that have a timeout."""

_TASK = "job"
_LIVE = {"Pending", "Queued", "Running"}
_PAUSE = 1.0

# One DAG for each way to wait; the run's id says to the network whose job it is, whatever the provider says of it.
_DAGS = """
import json
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG

from airflow_provider_bacalhau.operators.bacalhau import BacalhauSubmitJobOperator

given = json.loads((Path(__file__).parent / "given.txt").read_text())

for name, options in given["dags"].items():
    if "execution_timeout" in options:
        options["execution_timeout"] = timedelta(seconds=options["execution_timeout"])
    with DAG(name, schedule=None) as dag:
        BacalhauSubmitJobOperator(task_id="job", job_spec=given["job"], poll_interval=1.0, retry_delay=1.0, **options)
    globals()[name] = dag
"""
_KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "kept": {"cancel_on_kill": False},
    "limited": {"timeout": TIMEOUT},
    "bounded": {"execution_timeout": TIMEOUT},
    "retried": {"retries": 1},
}
DAGS: dict[str, dict[str, Any]] = {
    f"{kind}_{mode}": {**options, "deferrable": mode == "triggerer"}
    for mode in ("worker", "triggerer")
    for kind, options in _KINDS.items()
}
"""Arguments of the operator, by DAG."""


class Network:
    """A node that can be restarted.

    :param folder: for its data, and for the folders of jobs (see :func:`lasts`).
    """

    def __init__(self, folder: Path) -> None:
        self._data = folder / "node"
        self.gates = folder / "gates"
        self.url = ""
        self._node: Any = None

    def start(self) -> None:
        from airflow_provider_bacalhau.devnode import DevNode

        port = int(self.url.rpartition(":")[2]) if self.url else 0
        self._node = DevNode(data_dir=self._data, port=port, allow_local_paths=[f"{self.gates}/**"])
        self._node.start()
        self.url = self._node.api

    def close(self) -> None:
        self._node.close()

    def jobs(self, run_id: str) -> list[dict[str, Any]]:
        """Every job of a run, oldest first."""
        query: dict[str, str | int] = {"labels": f"test-run={run_id}", "limit": 1000}
        answer = requests.get(f"{self.url}/api/v1/orchestrator/jobs", params=query, timeout=30)
        answer.raise_for_status()
        return sorted(answer.json()["Items"] or (), key=lambda job: job["CreateTime"])


@dataclass
class Theatre:
    """Airflow, the network, and the triggerer that is at work.

    :param triggerer: set anew by whoever ends it.
    """

    airflow: Standalone
    network: Network
    triggerer: Process


@contextlib.contextmanager
def theatre(folder: Path) -> Iterator[Theatre]:
    """A network and an Airflow with the DAGs; both end with it."""
    home, dags, network = folder / "airflow", folder / "dags", Network(folder)
    for path in (home, dags, network.gates):
        path.mkdir()
    job = lasts(f"{network.gates}/{{{{ run_id }}}}", labels={"test-run": "{{ run_id }}"}, resources={"CPU": "0.01"})
    (dags / "given.txt").write_text(json.dumps({"dags": DAGS, "job": job}))
    (dags / "dags.py").write_text(_DAGS)
    network.start()
    try:
        settings = {
            # What is silent for so long is taken for dead; the defaults are 30 and 300 seconds.
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "12",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        }
        with Standalone(home, dags, settings, parallelism=AT_ONCE) as airflow:
            airflow.wait_until_ready(*DAGS)
            airflow.add_connection("bacalhau_default", conn_type="bacalhau", host=network.url)
            yield Theatre(airflow, network, airflow.own_triggerer())
    finally:
        network.close()


@dataclass(frozen=True)
class Look:
    """What there is at one moment.

    :param jobs: jobs of the task on the network.
    :param live: those that have not ended.
    :param state: of the task.
    """

    jobs: int
    live: int
    state: str | None


@dataclass
class Stage:
    """One run of one of the DAGs, whose job lasts until :meth:`end`.

    :param dag_id: one of :data:`DAGS`.
    :param run_id: fit for a label and a folder's name.
    """

    theatre: Theatre
    dag_id: str
    run_id: str
    airflow: Standalone = field(init=False)

    def __post_init__(self) -> None:
        self.airflow = self.theatre.airflow

    @property
    def _gate(self) -> Path:
        return self.theatre.network.gates / self.run_id

    def start(self) -> None:
        """Start the run, and wait until its task waits for a job that runs, and has seen it run."""
        self._gate.mkdir(exist_ok=True)
        self.airflow.trigger(self.dag_id, self.run_id)
        waiting = "deferred" if DAGS[self.dag_id]["deferrable"] else "running"
        self.wait(lambda: self.task().state == waiting and self._sees_job(), f"a {waiting} task that watches its job")

    def _sees_job(self) -> bool:
        live = [job["ID"] for job in self.jobs() if job["State"]["StateType"] in _LIVE]
        return any(self.has_logged(f"Job {job_id} is Running.") for job_id in live)

    def has_logged(self, text: str) -> bool:
        """Whether the task or its trigger has said so."""
        return any(text in line for lines in self.airflow.logs(self.dag_id, self.run_id).values() for line in lines)

    def task(self) -> TaskView:
        return self.airflow.task(self.dag_id, self.run_id, _TASK)

    def jobs(self) -> list[dict[str, Any]]:
        return self.theatre.network.jobs(self.run_id)

    def look(self) -> Look:
        jobs = self.jobs()
        return Look(len(jobs), sum(job["State"]["StateType"] in _LIVE for job in jobs), self.task().state)

    def settled(self, wanted: Look, quiet: float) -> Look:
        """What is there once it is as wanted and has stayed so for a while; or when patience is over."""
        deadline = time.monotonic() + PATIENCE
        since = time.monotonic()
        while True:
            with contextlib.suppress(requests.RequestException):  # its database is locked for a moment
                seen = self.look()
                now = time.monotonic()
                if seen != wanted:
                    since = now
                if now - since >= quiet or now > deadline:
                    return seen
            time.sleep(_PAUSE)

    def stopped_after(self, moment: float) -> float | None:
        """Seconds from a moment (since the epoch) until the last job that was stopped had stopped."""
        times = [job["ModifyTime"] / 1e9 for job in self.jobs() if job["State"]["StateType"] == "Stopped"]
        return max(times) - moment if times else None

    def job_id(self) -> str:
        """The job that the task shows."""
        shown: str = self.airflow.xcom(self.dag_id, self.run_id, _TASK, "bacalhau_job_id")
        return shown

    def task_keys(self) -> set[str | None]:
        """What the jobs say of the task that they belong to."""
        return {(job["Labels"] or {}).get("airflow-task-key") for job in self.jobs()}

    # what a user does, and what happens

    def set_task(self, state: str) -> None:
        self.airflow.set_task(self.dag_id, self.run_id, _TASK, state)

    def set_run(self, state: str) -> None:
        self.airflow.set_run(self.dag_id, self.run_id, state)

    def clear(self) -> None:
        self.airflow.clear(self.dag_id, self.run_id, _TASK)

    def end(self, state: str = "success") -> None:
        """Let the jobs succeed, and wait for the task."""
        end(self._gate)
        self.wait(lambda: self.task().state == state, f"the task to be in {state}")

    def create_again(self) -> None:
        """Delete the run and start another one under its id, with a job that lasts."""
        self.airflow.delete_run(self.dag_id, self.run_id)
        self.reopen()
        self.start()

    def reopen(self) -> None:
        """Jobs that are submitted from now on last again."""
        for path in self._gate.iterdir():
            path.unlink()

    def kill_task(self) -> None:
        """SIGKILL to the process that runs the task, as when it needs too much memory."""
        psutil.Process(self._pid()).kill()

    def kill_worker(self) -> None:
        """SIGKILL to worker and task, as when the machine goes away."""
        Process(psutil.Process(self._pid()).ppid()).kill()

    def _pid(self) -> int:
        pid = self.task().pid
        assert pid is not None
        return pid

    def wait_for_other_triggerer(self, former: int | None) -> None:
        """Wait until a triggerer other than this has the trigger."""
        self.wait(lambda: self.task().triggerer not in {None, former}, "another triggerer to take over")

    def wait_for_later_triggerer(self, former: int | None) -> None:
        """Wait until a triggerer that was started after this one is at work."""
        self.wait(lambda: max(self.airflow.triggerers(), default=0) > (former or 0), "another triggerer to start")

    def wait(self, look: Any, what: str) -> None:
        try:
            self.airflow.wait_for(look, what, PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.evidence()}") from None

    def evidence(self) -> str:
        """What a failed test wants to show."""
        jobs = [(job["ID"], job["Name"], job["State"], job["Labels"]) for job in self.jobs()]
        return "\n".join(
            [
                f"{self.dag_id} {self.run_id}: {self.task()}",
                *map(str, jobs),
                self.airflow.tail(self.dag_id, self.run_id),
            ]
        )
