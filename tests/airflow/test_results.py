"""Taking a job's results, and stopping jobs."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_bacalhau.operators.bacalhau import BacalhauGetResultsOperator, BacalhauStopJobOperator

from .conftest import Connect, Network
from .programs import counts, exits, prints, sleeps
from .running import ABSENT, run_task, submitted


def results(job_id: str, **arguments: Any) -> BacalhauGetResultsOperator:
    return BacalhauGetResultsOperator(task_id="task", job_id=job_id, **arguments)


def stop(job_id: str, **arguments: Any) -> BacalhauStopJobOperator:
    return BacalhauStopJobOperator(task_id="task", job_id=job_id, **arguments)


def ended(network: Network, job_spec: dict[str, Any]) -> str:
    job_id = submitted(network.client, job_spec)
    network.state(job_id)
    return job_id


class TestResults:
    def test_are_a_list_also_when_there_is_one(self, network: Network) -> None:
        job_id = ended(network, counts("three small words", publisher="ipfs"))
        ran = run_task(results(job_id))
        [reference] = ran.value
        [execution] = network.client.executions(job_id)
        assert reference == {
            "type": "ipfs",
            "job_id": job_id,
            "execution_id": execution.id,
            "cid": execution.published["CID"],
        }
        assert ran.xcoms == {
            "bacalhau_job_id": job_id,
            "job_url": f"{network.url}/api/v1/orchestrator/jobs/{job_id}",
            "job_state": "Completed",
            "exit_codes": [-1],
            "execution_counts": {"wanted": 1, "completed": 1, "succeeded": 1, "failed": 0},
            "results": ran.value,
            "cids": reference["cid"],
        }

    def test_of_a_job_that_publishes_nothing_are_an_error_unless_that_is_all_right(self, network: Network) -> None:
        job_id = ended(network, exits(0, publisher={"Type": ""}))
        ran = run_task(results(job_id))
        assert "has no results" in str(ran.error)
        assert "allow_empty" in str(ran.error)
        assert run_task(results(job_id, allow_empty=True)).value == []

    def test_of_a_job_that_is_not_over_are_an_error_with_its_state(self, network: Network) -> None:
        job_id = submitted(network.client, sleeps(30))
        ran = run_task(results(job_id))
        assert str(ran.error).startswith(f"Job {job_id} is ")
        assert "so it has no results yet" in str(ran.error)
        assert isinstance(ran.error, AirflowException)
        assert not isinstance(ran.error, AirflowFailException)
        network.client.stop(job_id, "test is over")

    def test_of_a_failed_job_are_its_diagnosis(self, network: Network) -> None:
        ran = run_task(results(ended(network, exits(3, publisher="ipfs"))))
        assert "exit code 3" in str(ran.error)
        assert ran.xcoms["failure_category"] == "PROGRAM_FAILED"
        assert isinstance(ran.error, AirflowFailException)

    def test_of_an_unknown_job_are_a_final_error(self, network: Network) -> None:
        assert isinstance(run_task(results(ABSENT)).error, AirflowFailException)


class TestText:
    @pytest.mark.parametrize(
        ("path", "text"), [("outputs/count.txt", "3\n"), ("stdout", "3 words\n"), ("/outputs/count.txt", "3\n")]
    )
    def test_of_a_small_file_comes_through_the_gateway(self, network: Network, path: str, text: str) -> None:
        job_id = ended(network, counts("three small words", publisher="ipfs"))
        [result] = run_task(results(job_id, read=path)).value
        assert (result["text"], result["is_partial"]) == (text, False)

    def test_of_stdout_comes_from_the_record_where_there_is_no_gateway(
        self, network: Network, connect: Connect
    ) -> None:
        connect(network.url)
        job_id = ended(network, counts("three small words", publisher="local"))
        [result] = run_task(results(job_id, read="stdout")).value
        assert (result["text"], result["is_partial"]) == ("3 words", True)
        assert result["type"] == "url"

    def test_of_a_file_needs_a_gateway(self, network: Network, connect: Connect) -> None:
        connect(network.url)
        job_id = ended(network, counts("three small words", publisher="local"))
        error = run_task(results(job_id, read="outputs/count.txt")).error
        assert "ipfs_gateway" in str(error)

    def test_that_is_not_there_names_the_path(self, network: Network) -> None:
        job_id = ended(network, counts("three small words", publisher="ipfs"))
        error = run_task(results(job_id, read="outputs/cuont.txt")).error
        assert "outputs/cuont.txt" in str(error)

    @pytest.mark.parametrize(("size", "is_read"), [(48 * 1024, True), (48 * 1024 + 1, False)])
    def test_of_more_than_48_kb_is_an_error_that_says_how_else(
        self, network: Network, size: int, is_read: bool
    ) -> None:
        ran = run_task(results(ended(network, prints(size, publisher="ipfs")), read="stdout"))
        if is_read:
            assert ran.value[0]["text"] == "x" * size
        else:
            assert "larger than the 49,152 bytes" in str(ran.error)
            assert "Give its CID to the next job instead" in str(ran.error)


class TestStopping:
    def test_says_what_came_of_it(self, network: Network) -> None:
        running = submitted(network.client, sleeps(30))
        assert run_task(stop(running, reason="lunch")).value == "stopped"
        assert network.state(running) == "Stopped"
        assert network.client.get(running).message == "lunch"
        assert run_task(stop(running)).value == "already stopped"

    def test_a_job_that_is_over_is_no_error(self, network: Network) -> None:
        assert run_task(stop(ended(network, exits(0)))).value == "already completed"
        failed = ended(network, exits(0, count=9))
        assert run_task(stop(failed)).value == "already failed"

    def test_an_unknown_job_is_a_final_error_unless_it_may_be_missing(self, network: Network) -> None:
        ran = run_task(stop(ABSENT))
        assert isinstance(ran.error, AirflowFailException)
        assert "ignore_missing" in str(ran.error)
        assert run_task(stop(ABSENT, ignore_missing=True)).value == "not found"


def test_a_name_stands_for_a_job_of_its_namespace(network: Network) -> None:
    name = f"named-{uuid.uuid4()}"
    job_id = ended(network, exits(0, name=name, namespace="team", publisher="local"))
    assert run_task(stop(name, namespace="team")).value == "already completed"
    assert run_task(results(name, namespace="team")).xcoms["bacalhau_job_id"] == job_id
    assert run_task(stop(name)).error


@pytest.mark.parametrize("nothing", [None, "None", ""])
@pytest.mark.parametrize("task", [results, stop])
def test_a_job_id_that_nobody_pushed_is_a_final_error(network: Network, task: Any, nothing: str | None) -> None:
    ran = run_task(task(nothing))
    assert isinstance(ran.error, AirflowFailException)
    assert "job_id is empty: the task that should have given it pushed nothing" in str(ran.error)


def test_a_file_of_an_ipfs_result_needs_a_gateway_and_nothing_else(network: Network, connect: Connect) -> None:
    job_id = ended(network, counts("three small words", publisher="ipfs"))
    connect(network.url)
    error = run_task(results(job_id, read="outputs/count.txt")).error
    assert str(error).endswith("cannot be read without a gateway. Set ipfs_gateway on the connection.")


def test_a_gateway_that_is_away_is_named(network: Network, connect: Connect, unused_port: int, impatient: None) -> None:
    job_id = ended(network, counts("three small words", publisher="ipfs"))
    connect(network.url, extra={"ipfs_gateway": f"http://127.0.0.1:{unused_port}"})
    error = run_task(results(job_id, read="outputs/count.txt")).error
    assert f"No answer from the IPFS gateway at 127.0.0.1:{unused_port}: no connection" in str(error)
