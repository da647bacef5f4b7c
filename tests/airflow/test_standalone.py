"""A whole Airflow, with scheduler, triggerer and workers: what a deferred task goes through in a deployment."""

from __future__ import annotations

import json
from pathlib import Path

import airflow
import pytest

from tests.support.standalone import START, Standalone

from .conftest import DEFAULT_CONNECTION, Network
from .programs import adds, counts, sleeps

PATIENCE = 150.0

# The tasks wait in the triggerer because Airflow is told so, not by the DAG. They may try again, for Airflow on
# a loaded machine loses tasks that come back quickly (see the interval below).
_DAG = """
import json
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_bacalhau.operators.bacalhau import BacalhauGetResultsOperator, BacalhauSubmitJobOperator
from airflow_provider_bacalhau.sensors.bacalhau import BacalhauJobSensor

jobs = json.loads((Path(__file__).parent / "jobs.txt").read_text())

with DAG("whole", schedule=None, default_args={"poll_interval": 0.5, "retries": 2, "retry_delay": 1.0}) as dag:
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
@pytest.mark.timeout(START + PATIENCE + 30)
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
    connection = {"conn_type": "bacalhau", "host": network.url, "extra": {"ipfs_gateway": network.gateway}}
    settings = {DEFAULT_CONNECTION: json.dumps(connection), "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True"}
    with Standalone(tmp_path, dags, settings) as whole:
        whole.wait_until_ready("whole")
        whole.trigger("whole", "once")
        whole.wait_for(lambda: whole.run("whole", "once") in {"success", "failed"}, "the run to end", PATIENCE)
        states = whole.tasks("whole", "once")
    assert states == dict.fromkeys(
        ("count_0", "count_1", "add", "slow", "started", "sensed", "total", "check"), "success"
    ), whole.tail("whole", "once")
    logs = whole.logs("whole", "once")
    assert [name for name in logs if name.startswith("task_id=slow/") and ".trigger." in name]
