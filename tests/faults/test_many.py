"""Many task instances, and odd ones: each has a job of its own, whose name and labels every server takes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_bacalhau.client import BacalhauClient, Job
from airflow_provider_bacalhau.devnode import DevNode
from tests.airflow.conftest import TaskRun, airflow_database, run_dag  # noqa: F401  # fixtures
from tests.airflow.programs import exits
from tests.support.workers import SUCCESS, Task, Workers

pytestmark = pytest.mark.long

MANY = 200
MANY_IN_AIRFLOW = 100
"""In a whole DAG, where each takes a third of a second."""

AT_ONCE = 8
NAME = re.compile(r"(?!j-)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")

ODD = {
    "250 letters": "x" * 250,
    "250 dots": "a" + "." * 248 + "b",
    "unicode": "größe.数据_🦈",
    "nothing but unicode": "数据",
    "blanks": " a task  of\tmine ",
    "quotes": 'it\'s "mine" & <yours>',
    "an id's look": "j-12345678-1234-1234-1234-123456789012",
    "dashes": "-_-.-",
    "a path": "../../etc/passwd",
    "percents": "%2F%00%s{{ ds }}",
}


@pytest.fixture(scope="module", params=["v1.9.3", "v1.3.2"])
def node(request: pytest.FixtureRequest) -> Iterator[DevNode]:
    with DevNode(emulate=request.param, nodes=2) as node:
        yield node


@pytest.fixture(scope="module")
def workers(node: DevNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    environment = {"AIRFLOW_CONN_BACALHAU_DEFAULT": json.dumps({"conn_type": "bacalhau", "host": node.api})}
    with Workers(tmp_path_factory.mktemp("workers"), environment) as workers:
        yield workers


def test_a_mapped_task_has_a_job_for_each_of_its_200_instances(node: DevNode, workers: Workers) -> None:
    arguments = {"job_spec": exits(0, labels={"test": "mapped"}), "poll_interval": 0.5}
    tasks = [Task(arguments, map_index=index) for index in range(MANY)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        ended = list(pool.map(lambda task: workers.start(task).wait(), tasks))
    assert {one.state for one in ended} == {SUCCESS}
    jobs = jobs_of(node, "mapped")
    assert {job.id for job in jobs} == {one.value for one in ended}
    assert len(jobs) == MANY
    assert len({job.name for job in jobs}) == MANY
    assert_all_is_valid(jobs)


def test_odd_ids_make_names_and_labels_that_are_valid_and_distinct(node: DevNode, workers: Workers) -> None:
    arguments = {"job_spec": exits(0, labels={"test": "odd"}), "poll_interval": 0.5}
    ids = list(ODD.values())
    tasks = [
        *(Task(arguments, dag_id=odd) for odd in ids),
        *(Task(arguments, run_id=odd) for odd in ids),
        *(Task(arguments, task_id=odd) for odd in ids),
        *(Task(arguments, dag_id=odd, run_id=odd, task_id=odd) for odd in ids),
        # Ids that differ only where a name would be cut, or in what no name can hold.
        Task(arguments, task_id="x" * 249 + "y"),
        Task(arguments, task_id="数椐"),
        Task(arguments, dag_id="a", run_id="b.c"),
        Task(arguments, dag_id="a.b", run_id="c"),
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        # The second try finds the first one's job by what the ids became.
        first = list(pool.map(lambda task: workers.start(task, 1, has_store=False).wait(), tasks))
        second = list(pool.map(lambda task: workers.start(task, 2, has_store=False).wait(), tasks))
    assert [one.error for one in first if one.state != SUCCESS] == []
    assert [one.value for one in first] == [one.value for one in second]
    jobs = jobs_of(node, "odd")
    assert len(jobs) == len({job.name for job in jobs}) == len(tasks)
    assert_all_is_valid(jobs)


def jobs_of(node: DevNode, test: str) -> list[Job]:
    with BacalhauClient(node.api) as client:
        return list(client.list(namespace="default", labels={"test": test}, limit=0).items)


def assert_all_is_valid(jobs: list[Job]) -> None:
    assert [job.name for job in jobs if not NAME.fullmatch(job.name)] == []
    assert [label for job in jobs for label in job.labels.items() if not LABEL.fullmatch(label[1])] == []


DAG = """
    from airflow.sdk import DAG

    from airflow_provider_bacalhau.operators.bacalhau import BacalhauSubmitJobOperator

    with DAG("mapped", schedule=None) as dag:
        BacalhauSubmitJobOperator.partial(task_id="job", job_spec={spec!r}, poll_interval=0.5).expand(
            env=[{{"INDEX": str(index)}} for index in range({many})]
        )
"""


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_mapped_task_of_a_whole_dag_has_a_job_for_each_of_its_instances(
    run_dag: Callable[..., dict[str, TaskRun]],  # noqa: F811  # the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with DevNode(nodes=2) as node:
        connection = json.dumps({"conn_type": "bacalhau", "host": node.api})
        monkeypatch.setenv("AIRFLOW_CONN_BACALHAU_DEFAULT", connection)
        ran = run_dag(DAG.format(spec=exits(0, labels={"test": "dag"}), many=MANY_IN_AIRFLOW))
        jobs = jobs_of(node, "dag")
    assert {one.state for one in ran.values()} == {"success"}
    assert sorted(job.id for job in jobs) == sorted(one.xcoms["return_value"] for one in ran.values())
    assert len(jobs) == len({job.name for job in jobs}) == MANY_IN_AIRFLOW
    assert_all_is_valid(jobs)
