"""What a user may hand to a job as inputs, through the operator: other jobs, their results, files."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_bacalhau.client.spec import local_file
from airflow_provider_bacalhau.operators.bacalhau import BacalhauGetResultsOperator, BacalhauSubmitJobOperator

from .conftest import Connect, Network
from .programs import WORKLOADS, adds, counts, exits, sleeps
from .running import Ran, run_task, submitted

Reference = dict[str, Any]


@pytest.fixture
def counted(network: Network) -> Callable[[str], tuple[str, Reference]]:
    """Counts the words of a text; gives the job's id, and the reference to its result."""

    def count(text: str) -> tuple[str, Reference]:
        job_id = submitted(network.client, counts(text, publisher="ipfs"))
        network.state(job_id)
        return job_id, network.client.references(job_id)[0].to_dict()

    return count


def submit(inputs: Any, **arguments: Any) -> Ran:
    return run_task(
        BacalhauSubmitJobOperator(**{"task_id": "task", "job_spec": exits(0), "inputs": inputs, **arguments})
    )


def total(network: Network, inputs: Any) -> str:
    """The sum over these inputs, computed by a job."""
    ran = submit(inputs, job_spec=adds(publisher="ipfs"))
    assert ran.error is None
    return network.client.result_texts(ran.value, "outputs/total.txt")[0].text.strip()


def mounts(network: Network, ran: Ran) -> dict[str, Any]:
    """The inputs of the job that was sent, the module left out: source by mount."""
    assert ran.error is None
    sources = network.sent(ran.value)["Tasks"][0]["InputSources"]
    found = {one["Target"]: one["Source"] for one in sources}
    return {target: source for target, source in found.items() if not target.startswith("/wasm/")}


class TestJobsAsInputs:
    def test_one_stands_for_its_result(self, network: Network, counted: Callable[..., Any]) -> None:
        job_id, reference = counted("three small words")
        assert total(network, job_id) == "3"
        assert mounts(network, submit(job_id)) == {"/inputs": {"Type": "ipfs", "Params": {"CID": reference["cid"]}}}

    def test_several_are_numbered(self, network: Network, counted: Callable[..., Any]) -> None:
        (one, first), (other, second) = counted("three small words"), counted("and two")
        assert total(network, [one, [other]]) == "5"
        assert mounts(network, submit([one, [other]])) == {
            "/inputs/0": {"Type": "ipfs", "Params": {"CID": first["cid"]}},
            "/inputs/1": {"Type": "ipfs", "Params": {"CID": second["cid"]}},
        }

    def test_one_without_results_is_an_error(self, network: Network) -> None:
        job_id = submitted(network.client, exits(0, publisher={"Type": ""}))
        network.state(job_id)
        ran = submit([job_id])
        assert "inputs[0]" in str(ran.error)
        assert f"job {job_id} has no results" in str(ran.error)
        assert ran.xcoms.keys() == {"failure_category"}  # and no job

    def test_one_that_is_not_over_has_none_yet(self, network: Network) -> None:
        job_id = submitted(network.client, sleeps(60, publisher="ipfs"))
        ran = submit([job_id])
        assert f"inputs[0]: job {job_id} is " in str(ran.error)
        assert ran.xcoms.keys() == {"failure_category"}  # and no job
        network.client.stop(job_id, "test is over")

    def test_one_that_did_not_succeed_is_refused_though_it_has_results(self, network: Network) -> None:
        job_id = submitted(network.client, exits(3, publisher="ipfs"))
        network.state(job_id)
        [reference] = network.client.references(job_id)
        ran = submit([job_id])
        assert f"inputs[0]: the results of a job that did not succeed are no input. Job {job_id}" in str(ran.error)
        assert "exit code 3" in str(ran.error)
        assert ran.xcoms.keys() == {"failure_category"}  # and no job
        assert mounts(network, submit(reference.to_dict()))  # who names it means it

    def test_one_of_the_local_publisher_comes_as_an_archive(self, network: Network) -> None:
        job_id = submitted(network.client, exits(0, publisher="local"))
        network.state(job_id)
        [source] = mounts(network, submit(job_id)).values()
        assert source["Type"] == "urlDownload"
        assert source["Params"]["URL"].startswith("http://127.0.0.1:")

    def test_an_unknown_one_is_a_final_error(self, network: Network) -> None:
        assert isinstance(submit(f"j-{uuid.uuid4()}").error, AirflowFailException)


class TestResultsAsInputs:
    def test_a_reference_is_one_item(self, network: Network, counted: Callable[..., Any]) -> None:
        _, reference = counted("three small words")
        assert total(network, reference) == "3"

    def test_what_get_results_returns_can_be_handed_on(self, network: Network, counted: Callable[..., Any]) -> None:
        job_id, _ = counted("three small words")
        ran = run_task(BacalhauGetResultsOperator(task_id="results", job_id=job_id, read="outputs/count.txt"))
        assert total(network, ran.value) == "3"

    def test_a_reference_to_what_only_the_server_can_name_is_resolved_when_used(self, network: Network) -> None:
        job_id = submitted(network.client, exits(0, publisher="local"))
        network.state(job_id)
        [reference] = [one.to_dict() for one in network.client.references(job_id)]
        assert "http" not in str(reference)
        [source] = mounts(network, submit(reference)).values()
        assert source["Type"] == "urlDownload"


class TestContentAsInputs:
    @pytest.mark.parametrize("form", ["{cid}", "ipfs://{cid}", "ipfs://{cid}:/mnt", "{cid}:/mnt"])
    def test_a_cid_is_mounted(self, network: Network, counted: Callable[..., Any], form: str) -> None:
        _, reference = counted("three small words")
        target = "/mnt" if form.endswith(":/mnt") else "/inputs"
        assert mounts(network, submit(form.format(**reference))) == {
            target: {"Type": "ipfs", "Params": {"CID": reference["cid"]}}
        }

    def test_a_path_below_a_cid_becomes_a_cid_through_the_gateway(
        self, network: Network, counted: Callable[..., Any]
    ) -> None:
        _, reference = counted("three small words")
        path = f"ipfs://{reference['cid']}/outputs"
        assert total(network, path) == "3"
        [source] = mounts(network, submit(path)).values()
        assert source["Type"] == "ipfs"
        assert source["Params"]["CID"] not in {"", reference["cid"]}

    def test_a_path_below_a_cid_needs_a_gateway(
        self, network: Network, connect: Connect, counted: Callable[..., Any]
    ) -> None:
        _, reference = counted("three small words")
        connect(network.url)
        ran = submit(f"ipfs://{reference['cid']}/outputs")
        assert isinstance(ran.error, AirflowFailException)
        assert "ipfs_gateway" in str(ran.error)

    def test_a_file_beside_the_dag_travels_with_the_job(self, network: Network) -> None:
        [(target, source)] = mounts(network, submit([local_file(str(WORKLOADS / "wc.c"), "/inputs/wc.c")])).items()
        assert target == "/inputs/wc.c"
        assert source["Type"] == "inline"


class TestRefusals:
    @pytest.mark.parametrize(
        ("inputs", "words"),
        [
            ("", "pushed nothing"),
            ([""], "inputs[0]"),
            ([None], "inputs[0]"),
            (("key", "value"), "expand over a list of results"),
            (["ipfs://QmNotACid"], "inputs[0]"),
            (["s3://bucket/key:/a/../b"], "inputs[0]"),
            ([{"type": "ipfs"}], "inputs[0]"),
            (5, "inputs"),
        ],
    )
    def test_name_the_item_and_come_before_anything_is_sent(self, network: Network, inputs: Any, words: str) -> None:
        ran = submit(inputs)
        assert isinstance(ran.error, AirflowFailException)
        assert words.lower() in str(ran.error).lower()
        assert ran.xcoms.keys() == {"failure_category"}  # and no job

    def test_a_missing_result_is_not_taken_for_no_inputs(self, network: Network) -> None:
        operator = BacalhauSubmitJobOperator(task_id="task", job_spec=exits(0), inputs="{{ a template }}")
        operator.inputs = None  # what Airflow makes of the result of a task that pushed none
        ran = run_task(operator)
        assert isinstance(ran.error, AirflowFailException)
        assert "pushed nothing" in str(ran.error)

    def test_two_on_one_mount_are_refused(self, network: Network, counted: Callable[..., Any]) -> None:
        _, reference = counted("three small words")
        ran = submit([f"{reference['cid']}:/mnt", f"{reference['cid']}:/mnt"])
        assert isinstance(ran.error, AirflowException)
        assert "/mnt" in str(ran.error)
