"""A whole Airflow, with scheduler, triggerer and workers: what a deferred task goes through in a deployment."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import airflow
import pytest

from .conftest import DEFAULT_CONNECTION, Network
from .programs import adds, counts, sleeps

PATIENCE = 220.0

# The tasks wait in the triggerer because Airflow is told so, not by the DAG. They may try again, for Airflow on
# a loaded machine loses tasks that come back quickly (see the interval below).
_DAG = """
import json
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_bacalhau.operators.bacalhau import BacalhauGetResultsOperator, BacalhauSubmitJobOperator
from airflow_provider_bacalhau.sensors.bacalhau import BacalhauJobSensor

jobs = json.loads((Path(__file__).parent / "jobs.txt").read_text())

with DAG("whole", schedule="@once", default_args={"poll_interval": 0.5, "retries": 2, "retry_delay": 1.0}) as dag:
    counted = [
        BacalhauSubmitJobOperator(task_id=f"count_{i}", job_spec=job) for i, job in enumerate(jobs["count"])
    ]
    add = BacalhauSubmitJobOperator(task_id="add", job_spec=jobs["add"], inputs=[one.output for one in counted])
    slow = BacalhauSubmitJobOperator(task_id="slow", job_spec=jobs["sleep"])
    started = BacalhauSubmitJobOperator(task_id="started", job_spec=jobs["sleep"], wait_for_completion=False)
    sensed = BacalhauJobSensor(task_id="sensed", job_id=started.output, poke_interval=0.5)
    total = BacalhauGetResultsOperator(task_id="total", job_id=add.output, read="outputs/total.txt")

    @task
    def check(results):
        assert results[0]["text"] == "5\\n", results

    check(total.output)
"""


@pytest.mark.skipif(airflow.__version__.startswith("2."), reason="Airflow 2 is tried with dag.test() only")
@pytest.mark.timeout(260)
def test_deferred_tasks_come_back_from_the_triggerer(network: Network, tmp_path: Path) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    jobs = {
        "count": [counts(text, publisher="ipfs") for text in ("three small words", "and two")],
        "add": adds(publisher="ipfs"),
        "sleep": sleeps(3),
    }
    (dags / "jobs.txt").write_text(json.dumps(jobs))
    (dags / "whole.py").write_text(_DAG)
    with _airflow(tmp_path, dags, json.dumps(_connection(network))):
        states = _wait_for_run(tmp_path / "airflow.db")
    logs = {path.parent.name for path in (tmp_path / "logs").rglob("*.trigger.*.log")}
    assert states == dict.fromkeys(
        ("count_0", "count_1", "add", "slow", "started", "sensed", "total", "check"), "success"
    ), (tmp_path / "standalone.log").read_text()[-2000:]
    assert "task_id=slow" in logs


def _connection(network: Network) -> dict[str, object]:
    return {"conn_type": "bacalhau", "host": network.url, "extra": {"ipfs_gateway": network.gateway}}


@contextlib.contextmanager
def _airflow(home: Path, dags: Path, connection: str) -> Iterator[None]:
    ports = [_unused_port() for _ in range(3)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    environment = {
        **kept,
        DEFAULT_CONNECTION: connection,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),  # it runs `airflow`
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": f"http://localhost:{ports[0]}",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(ports[0]),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://localhost:{ports[0]}/execution/",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(ports[1]),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(ports[2]),
        "AIRFLOW__OPENLINEAGE__DISABLED": "True",
        "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        # Seconds within which a worker notices that a task has ended; one that comes back sooner is taken for lost.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    }
    with (home / "standalone.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow", "standalone"],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
    finally:
        # The parent does not take its children with it.
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)


def _wait_for_run(database: Path) -> dict[str, str]:
    """States of the run's tasks, once it is over or patience is."""
    deadline = time.monotonic() + PATIENCE
    tasks: dict[str, str] = {}
    while time.monotonic() < deadline:
        time.sleep(0.5)
        # The file may not be there yet, or without tables, or locked for a moment.
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection,
        ):
            tasks = dict(connection.execute("SELECT task_id, state FROM task_instance WHERE dag_id = 'whole'"))
            [[state]] = connection.execute("SELECT state FROM dag_run WHERE dag_id = 'whole'").fetchall() or [[""]]
            if state in {"success", "failed"}:
                break
    return tasks


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
