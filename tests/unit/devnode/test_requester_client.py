"""The project's own client against the emulated requester API."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_bacalhau.client import BacalhauClient, JobState
from airflow_provider_bacalhau.client.errors import BacalhauError
from airflow_provider_bacalhau.client.settings import ClientSettings
from airflow_provider_bacalhau.client.spec import read_job_spec, wasm_job
from airflow_provider_bacalhau.devnode import DevNode

from .specs import data_url, inline, module

CIDS = {
    "0": "QmRNmZCoujKHMqgXypPfKkYJCDV4r8WogVoDVSrLmwEoFR",
    "3": "QmeGUoWWqUhwfJ7ECQgJwYzf5Up8mhf3aFhfh9frKQRUpv",
    "-99": "QmS4SfR38rz2LZUg91EzaA8nePwqYaNP9J7jB37TXYJwcC",
}
COUNT_A = "QmQuBpy4mRYejBDGW2Nx1mzcHsTbBCTwTCEW3q95SQRFqB"
COUNT_B = "QmbmHZ4SjokWhB5qNrpbSnBtv2EAieUCjvc2gy8ZRnBbup"
SUM_A = "QmWcRc4pAtfWAGX9NADR1v3yETXBEVf6XFYhg2VcE8J9SF"
SUM_BOTH = "QmVdUczK6gvkcC4sRFKbvP7oJsxQCSmD2WDfWUd1M9BkqW"


@pytest.fixture(params=["v0.3.29", "v1.0.3", "v1.1.6", "v1.3.2"])
def client(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BacalhauClient]:
    monkeypatch.setenv("BACALHAU_DIR", str(tmp_path))
    with (
        DevNode(emulate=request.param, queue_backoff=0.05) as node,
        BacalhauClient(ClientSettings(url=node.api, api="requester")) as client,
    ):
        yield client


def run(client: BacalhauClient, name: str, *arguments: str, **options: object) -> str:
    spec = wasm_job(data_url(module(name)), arguments, publisher="ipfs", **options)  # type: ignore[arg-type] # options of any kind
    job_id = client.submit_once(read_job_spec(spec)).job_id
    assert client.wait(job_id).state is JobState.COMPLETED
    [result] = client.references(job_id)
    return str(result.cid)


def test_results_have_the_addresses_that_real_servers_gave_them(client: BacalhauClient) -> None:
    assert {code: run(client, "exitn.wasm", code) for code in CIDS} == CIDS


def test_results_chain_by_their_address(client: BacalhauClient) -> None:
    def counted(name: str, text: bytes) -> str:
        arguments = ("/inputs", "/outputs/count.txt")
        return run(client, "wc.wasm", *arguments, inputs=[inline(text, f"/inputs/{name}")], outputs=["outputs"])

    def summed(*mounts: tuple[str, str]) -> str:
        inputs = [{"Source": {"Type": "ipfs", "Params": {"CID": cid}}, "Target": target} for cid, target in mounts]
        return run(client, "sum.wasm", "/inputs", "/outputs/total.txt", inputs=inputs, outputs=["outputs"])

    assert counted("a.txt", b"one two three four") == COUNT_A
    assert counted("b.txt", b"five six seven") == COUNT_B
    assert summed((COUNT_A, "/inputs")) == SUM_A
    assert summed((COUNT_A, "/inputs/0"), (COUNT_B, "/inputs/1")) == SUM_BOTH


def test_a_job_is_found_judged_and_told(client: BacalhauClient) -> None:
    spec = read_job_spec(wasm_job(data_url(module("exitn.wasm")), ["3"], publisher="ipfs", labels={"run": "one"}))
    job_id = client.submit_once(spec).job_id
    client.wait(job_id)
    outcome = client.outcome(job_id)
    assert [execution.exit_code for execution in outcome.job.executions or ()] == [3]
    assert [job.id for job in client.list(limit=5).items] == [job_id]
    assert client.history(job_id).items[-1].state is JobState.COMPLETED


def test_a_program_that_cannot_start_fails_its_job(client: BacalhauClient) -> None:
    spec = read_job_spec(wasm_job(data_url(module("exitn.wasm")), entrypoint="nowhere", publisher="ipfs"))
    job_id = client.submit_once(spec).job_id
    assert client.wait(job_id).state is JobState.FAILED
    executions = client.outcome(job_id).job.executions or ()
    assert ["unable to find the entrypoint 'nowhere'" in execution.message for execution in executions] == [True, True]


def test_a_running_job_is_stopped(client: BacalhauClient) -> None:
    spec = read_job_spec(wasm_job(data_url(module("exitn.wasm")), ["0", "60"], publisher="ipfs"))
    job_id = client.submit_once(spec).job_id
    begun = time.monotonic()
    client.stop(job_id, "enough")
    assert client.wait(job_id).state is JobState.STOPPED
    assert time.monotonic() - begun < 10


def test_a_job_that_no_node_takes_fails_and_says_so(client: BacalhauClient) -> None:
    options = {"publisher": "ipfs", "resources": {"CPU": "4000"}}
    spec = read_job_spec(wasm_job(data_url(module("exitn.wasm")), ["0"], **options))  # type: ignore[arg-type] # as above
    said = ""
    try:
        said = str(client.history(client.wait(client.submit_once(spec).job_id).id).items)
    except BacalhauError as error:  # the first generation looks for nodes before it answers
        said = str(error)
    assert "not enough nodes to run job. requested: 1, available: " in said
