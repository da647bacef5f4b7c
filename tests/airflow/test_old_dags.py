"""DAGs that were written for the withdrawn ``bacalhau-airflow`` provider run with their import changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_bacalhau.client import BacalhauClient, ClientSettings
from airflow_provider_bacalhau.devnode import DevNode

from .conftest import Connect, TaskRun

DAG = Path(__file__).parents[2] / "example_dags" / "migrated_chain.py"


@pytest.mark.parametrize("version", ["v1.1.6", "v1.3.2", "v1.9.3"])
def test_two_tasks_are_chained_by_input_volumes_and_cids(
    version: str, connect: Connect, run_dag: Callable[..., dict[str, TaskRun]]
) -> None:
    with DevNode(emulate=version) as node:
        connect(node.api, extra={"ipfs_gateway": node.gateway})
        ran = run_dag(DAG)
        assert {name: task.state for name, task in ran.items()} == {"count": "success", "add": "success"}
        with BacalhauClient(ClientSettings(node.api, ipfs_gateway=node.gateway)) as client:
            [total] = client.result_texts(ran["add"].xcoms["return_value"], "outputs/total.txt")
    assert total.text == "3\n"
    for task in ran.values():
        assert task.xcoms["bacalhau_job_id"] == task.xcoms["return_value"]
        assert task.xcoms["cids"].startswith("Qm")
