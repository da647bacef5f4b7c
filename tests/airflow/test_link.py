"""The link from a task to its job."""

from __future__ import annotations

import json
from typing import Any

import airflow
import pytest

from airflow_provider_bacalhau.links.bacalhau import BacalhauJobLink
from airflow_provider_bacalhau.operators.bacalhau import (
    BacalhauGetResultsOperator,
    BacalhauStopJobOperator,
    BacalhauSubmitJobOperator,
)
from airflow_provider_bacalhau.sensors.bacalhau import BacalhauJobSensor

from .conftest import Connect, Network
from .programs import exits
from .running import FakeTaskInstance, context_of, run_task, submitted


def link_of(operator: Any) -> str:
    """The link without a database, where nothing can be looked up."""
    return BacalhauJobLink().get_link(operator, ti_key=None)


@pytest.mark.parametrize(
    "operator",
    [
        BacalhauSubmitJobOperator(task_id="submit", job_spec={}),
        BacalhauGetResultsOperator(task_id="results", job_id="j-1"),
        BacalhauJobSensor(task_id="sensor", job_id="j-1"),
    ],
    ids=lambda operator: operator.task_id,
)
def test_tasks_that_know_a_job_have_it(operator: BacalhauSubmitJobOperator) -> None:
    assert [link.name for link in operator.operator_extra_links] == ["Bacalhau job"]


def test_a_task_that_stops_a_job_has_none() -> None:
    assert list(BacalhauStopJobOperator(task_id="stop", job_id="j-1").operator_extra_links) == []


@pytest.mark.skipif(
    airflow.__version__.startswith("2."), reason="Airflow 2 asks its registry for the class: see tests/distribution"
)
def test_it_survives_the_serialized_dag_with_the_key_that_the_task_pushes() -> None:
    """The web interface knows a link by its name, and looks for the address under its XCom key."""
    from airflow.providers.common.compat.sdk import DAG

    try:
        from airflow.serialization.serialized_objects import DagSerialization
    except ImportError:  # Airflow < 3.2
        from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization

    with DAG("links", schedule=None) as dag:
        BacalhauSubmitJobOperator(task_id="plain", job_spec={})
        BacalhauSubmitJobOperator.partial(task_id="mapped", job_spec={}).expand(inputs=[[], []])
    restored = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    for task_id in ("plain", "mapped"):
        [link] = restored.get_task(task_id).operator_extra_links
        assert (link.name, link.xcom_key) == ("Bacalhau job", "job_url")


def test_a_task_that_ran_knows_its_address_by_itself(network: Network, deferrable: bool) -> None:
    """Or Airflow 3 would look for an XCom that a task without a job never pushed, and log an error."""
    operator = BacalhauSubmitJobOperator(task_id="task", job_spec=exits(0), deferrable=deferrable, poll_interval=0.2)
    ran = run_task(operator)
    assert link_of(operator) == ran.xcoms["job_url"]
    assert link_of(BacalhauSubmitJobOperator(task_id="task", job_spec={})) == ""


def test_a_task_that_comes_back_from_the_triggerer_knows_it_again(network: Network) -> None:
    job_id = submitted(network.client, exits(0))
    network.state(job_id)
    for operator in (
        BacalhauSubmitJobOperator(task_id="task", job_spec={}),
        BacalhauJobSensor(task_id="sensor", job_id=job_id),
    ):
        operator.execute_complete(context_of(FakeTaskInstance()), {"status": "over", "job_id": job_id})
        assert link_of(operator).startswith(network.url)


def test_it_leads_to_the_web_ui_where_the_connection_names_one(network: Network, connect: Connect) -> None:
    connect(network.url, extra={"web_ui_url": "https://ui.example.org/"})
    ran = run_task(BacalhauSubmitJobOperator(task_id="task", job_spec=exits(0)))
    assert ran.xcoms["job_url"] == f"https://ui.example.org/jobs?id={ran.value}"
