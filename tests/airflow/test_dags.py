"""Whole DAGs through Airflow, as users see them: template files, results handed from task to task, both modes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Network, TaskRun
from .programs import exits

EXAMPLES = Path(__file__).parents[2] / "example_dags"
RunDag = Callable[..., dict[str, TaskRun]]

_HEAD = """
    from airflow.providers.common.compat.sdk import DAG, task
    from airflow_provider_bacalhau.client.spec import local_file, wasm_job
    from airflow_provider_bacalhau.operators.bacalhau import (
        BacalhauGetResultsOperator, BacalhauStopJobOperator, BacalhauSubmitJobOperator
    )
    from airflow_provider_bacalhau.sensors.bacalhau import BacalhauJobSensor
    from tests.airflow.programs import adds, counts, exits, holds
"""


def dag_file(name: str, body: str) -> str:
    return f"{_HEAD}\n    with DAG({name!r}, schedule=None) as dag:\n{body}"


def job_text(*parameters: str, name: str = "") -> str:
    """A specification as a YAML text with a template in it."""
    job = exits(0, name=name)
    job["Tasks"][0]["Engine"]["Params"]["Parameters"] = ["0", *parameters]
    return json.dumps(job)


def sent_parameters(network: Network, ran: TaskRun) -> list[str]:
    assert ran.state == "success"
    parameters: list[str] = network.sent(ran.xcoms["return_value"])["Tasks"][0]["Engine"]["Params"]["Parameters"]
    return parameters


@pytest.mark.parametrize("deferrable", [False, True])
def test_results_go_from_task_to_task(network: Network, run_dag: RunDag, deferrable: bool) -> None:
    ran = run_dag(
        dag_file(
            f"chain_{deferrable}",
            f"""
        common = {{"deferrable": {deferrable}, "poll_interval": 0.2}}
        a = BacalhauSubmitJobOperator(task_id="a", job_spec=counts("three small words", publisher="ipfs"), **common)
        b = BacalhauSubmitJobOperator(task_id="b", job_spec=counts("and two", publisher="ipfs"), **common)
        both = BacalhauSubmitJobOperator(
            task_id="both", job_spec=adds(publisher="ipfs"), inputs=[a.output, b.output], **common
        )
        waited = BacalhauJobSensor(task_id="waited", job_id=both.output, poke_interval=0.2, deferrable={deferrable})
        results = BacalhauGetResultsOperator(task_id="results", job_id=waited.output, read="outputs/total.txt")
        single = BacalhauGetResultsOperator(task_id="single", job_id=a.output)
        each = BacalhauSubmitJobOperator.partial(
            task_id="each", job_spec=adds(publisher="ipfs"), **common
        ).expand(inputs=single.output)
        last = BacalhauSubmitJobOperator(
            task_id="last",
            job_spec=adds(publisher="ipfs"),
            inputs="ipfs://{{{{ ti.xcom_pull(task_ids='b', key='cids') }}}}/outputs",
            **common,
        )
        b >> last
        stopped = BacalhauStopJobOperator(task_id="stopped", job_id=a.output)

        @task
        def pushes_nothing():
            return None

        BacalhauSubmitJobOperator(task_id="missing", job_spec=adds(), inputs=pushes_nothing())
        BacalhauSubmitJobOperator(task_id="fails", job_spec=exits(3), **common)
        """,
        )
    )
    states = {name: task.state for name, task in ran.items()}
    assert {name for name, state in states.items() if state != "success"} == {"missing", "fails"}
    assert ran["results"].xcoms["return_value"][0]["text"] == "5\n"
    assert ran["waited"].xcoms["return_value"] == ran["both"].xcoms["return_value"]
    assert ran["stopped"].xcoms["return_value"] == "already completed"
    for name, total in (("each[0]", "3\n"), ("last", "2\n")):
        [result] = network.client.result_texts(ran[name].xcoms["bacalhau_job_id"], "outputs/total.txt")
        assert result.text == total
    assert ran["missing"].xcoms == {"failure_category": "REFUSED_SPEC"}
    assert ran["fails"].xcoms["failure_category"] == "PROGRAM_FAILED"
    assert ran["both"].xcoms["exit_codes"] == [-1]


def test_template_files_are_read_beside_the_dag_mapped_or_not(network: Network, run_dag: RunDag) -> None:
    ran = run_dag(
        dag_file(
            "template_files",
            """
        BacalhauSubmitJobOperator(task_id="one", job_spec="first.yaml", name="{{ task.task_id }}-by-template")
        BacalhauSubmitJobOperator.partial(task_id="many").expand(job_spec=["first.yaml", "second.json"])
        BacalhauSubmitJobOperator.partial(task_id="same", job_spec="first.yaml").expand(env=[{"N": "1"}, {"N": "2"}])
        """,
        ),
        first_yaml=job_text("{{ task.task_id }}", "{{ run_id }}"),
        second_json=job_text("second"),
    )
    assert sent_parameters(network, ran["one"])[:2] == ["0", "one"]
    assert "{{" not in sent_parameters(network, ran["one"])[2]
    assert network.sent(ran["one"].xcoms["return_value"])["Name"].startswith("one-by-template-")
    assert sent_parameters(network, ran["many[0]"])[:2] == ["0", "many"]
    assert sent_parameters(network, ran["many[1]"]) == ["0", "second"]
    same = [network.sent(ran[f"same[{index}]"].xcoms["return_value"]) for index in range(2)]
    assert [job["Tasks"][0]["Env"] for job in same] == [{"N": "1"}, {"N": "2"}]


def test_only_a_job_spec_is_ever_taken_for_a_files_name(network: Network, run_dag: RunDag) -> None:
    ran = run_dag(
        dag_file(
            "not_files",
            """
        spec = exits(0)
        spec["Tasks"][0]["Engine"]["Params"]["Parameters"] = ["0", "--config", "/etc/cfg.yaml", "trap.json"]
        more = {"inputs": [holds("text", "/inputs/trap.yaml")], "env": {"F": "trap.yaml"}, "name": "trap.yml"}
        BacalhauSubmitJobOperator(task_id="plain", job_spec=spec, **more)
        BacalhauSubmitJobOperator.partial(task_id="mapped", **more).expand(job_spec=[spec])

        @task
        def names_a_file():
            return "trap.yaml"

        @task
        def names_files():
            return ["trap.yaml"]

        BacalhauSubmitJobOperator(task_id="pulled", job_spec=names_a_file())
        BacalhauSubmitJobOperator.partial(task_id="pulled_mapped").expand(job_spec=names_files())
        BacalhauSubmitJobOperator(task_id="missing", job_spec="missing.yaml")
        BacalhauSubmitJobOperator(task_id="rendered", job_spec="{{ 'trap' }}.yaml", retries=0)
        """,
        ),
        trap_yaml=job_text("trap"),
        trap_json=job_text("trap"),
        trap_yml=job_text("trap"),
    )
    for name in ("plain", "mapped[0]"):
        assert sent_parameters(network, ran[name]) == ["0", "--config", "/etc/cfg.yaml", "trap.json"]
        sent: dict[str, Any] = network.sent(ran[name].xcoms["return_value"])["Tasks"][0]
        assert sent["Env"] == {"F": "trap.yaml"}
    for name in ("pulled", "pulled_mapped[0]", "missing", "rendered"):
        assert ran[name].state == "failed"
        assert ran[name].xcoms.keys() <= {"failure_category"}  # and no job


def test_the_link_still_leads_to_the_job_when_the_task_is_over(network: Network, run_dag: RunDag) -> None:
    """Airflow asks for the link when a leg of a task ends, and stores what it is told over what the task has pushed."""
    ran = run_dag(
        dag_file(
            "linked",
            """
        BacalhauSubmitJobOperator(task_id="good", job_spec=exits(0))
        BacalhauSubmitJobOperator(task_id="bad", job_spec=exits(3), deferrable=True)
        """,
        )
    )
    for name in ("good", "bad"):
        xcoms = ran[name].xcoms
        assert xcoms["job_url"] == f"{network.url}/api/v1/orchestrator/jobs/{xcoms['bacalhau_job_id']}"


def test_all_example_dags_are_read_by_airflow(airflow_database: None) -> None:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 2 and early 3
        from airflow.models.dagbag import DagBag

    bag = DagBag(dag_folder=str(EXAMPLES))
    assert bag.import_errors == {}
    assert "word_count_chain" in bag.dag_ids


def test_word_count_chain_counts_right(network: Network, run_dag: RunDag) -> None:
    words = sum(len(path.read_text().split()) for path in (EXAMPLES / "texts").glob("*.txt"))
    ran = run_dag(EXAMPLES / "word_count_chain.py")
    assert {task.state for task in ran.values()} == {"success"}
    assert ran["show"].xcoms["return_value"] == words
