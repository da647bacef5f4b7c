"""What the recordings do not ask: the rules of each version, from the reference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import wasmtime

from airflow_provider_bacalhau.devnode import DevNode
from airflow_provider_bacalhau.devnode.emulation import EMULATIONS

from .requester_api import Requester, emulated, wasm_spec
from .requester_replay import Client
from .specs import Api, data_url, wasm_job

FIRST, LATER, LAST = "v0.3.29", "v1.1.6", "v1.3.2"


@pytest.fixture(scope="module")
def key() -> Client:
    return Client()


@pytest.fixture(scope="module")
def first(key: Client) -> Iterator[Requester]:
    with emulated(FIRST, key) as requester:
        yield requester


@pytest.fixture(scope="module")
def later(key: Client) -> Iterator[Requester]:
    with emulated(LATER, key) as requester:
        yield requester


@pytest.fixture(scope="module")
def last(key: Client) -> Iterator[Requester]:
    with emulated(LAST, key) as requester:
        yield requester


def message(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["Message"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"Verifier": None}, "invalid verifier type: verifierUnknown"),
        ({"Engine": None}, "invalid executor type: engineUnknown"),
        ({"PublisherSpec": None}, "invalid publisher type: publisherUnknown"),
        ({"Deal": {"Concurrency": -1}}, "concurrency must be >= 1"),
        ({"Deal": {"Concurrency": 1, "Confidence": -1}}, "confidence must be >= 0"),
        (
            {"Deal": {"Concurrency": 1, "Confidence": 2}},
            "the deal confidence cannot be higher than the concurrency",
        ),
        ({"Inputs": [{"Path": "/in"}]}, "invalid input volume type: storageSourceUnknown"),
        ({"Publisher": "nosuch"}, "error unmarshalling payload: verifier: unknown type 'nosuch'"),
        ({"Resources": {"CPU": "many"}}, "invalid CPU value: many"),
        ({"Network": {"Type": "x"}}, "error unmarshalling payload: model.Network: unknown type 'x'"),
    ],
)
def test_the_first_generation_refuses_at_the_first_problem(first: Requester, changes: Any, text: str) -> None:
    assert message(first.submit(wasm_spec(**changes))) == (400, text)


UNMARSHALLING = "error unmarshalling payload: "
EVERYWHERE_ONCE = {"Deal": {"TargetingMode": True, "Concurrency": 1}}
NO_CID = {"Inputs": [{"StorageSource": "ipfs", "Path": "/in"}]}
FRACTION = "json: cannot unmarshal number 1.5 into Go struct field Spec.Spec.Timeout of type int64"


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        (EVERYWHERE_ONCE, 400, "concurrency ignored for target all mode, must be == 0"),
        (
            {"PublisherSpec": None, "Inputs": [{}]},
            400,
            "invalid publisher type: unknown\ninvalid input volume type: unknown",
        ),
        ({"Publisher": "nosuch"}, 400, UNMARSHALLING + "publisher: unknown type 'nosuch'"),
        ({"Inputs": [{"StorageSource": "nosuch"}]}, 400, UNMARSHALLING + "executor: unknown source type 'nosuch'"),
        ({"Timeout": 1.5}, 400, UNMARSHALLING + FRACTION),
        (NO_CID, 500, "failed to convert input 0: invalid legacy storage spec - missing CID"),
    ],
)
def test_the_last_generation_names_all_problems(last: Requester, changes: Any, status: int, text: str) -> None:
    assert message(last.submit(wasm_spec(**changes))) == (status, text)


def test_timeouts_with_fractions_are_for_the_first_generation_only(first: Requester, last: Requester) -> None:
    assert first.submit(wasm_spec(Timeout=30.5)).json()["job"]["Spec"]["Timeout"] == 30.5
    assert last.submit(wasm_spec(Timeout=30.0)).status_code == 400


def test_an_engine_may_be_given_as_type_and_params_from_v1_0_4_on(first: Requester, last: Requester) -> None:
    engine = {"Type": "wasm", "Params": wasm_spec("3")["Wasm"]}
    spec = wasm_spec(Engine=None, Wasm=None, EngineSpec=engine)
    state = last.run(spec)
    assert [execution["RunOutput"]["exitCode"] for execution in state["Executions"]] == [3]
    assert message(first.submit(spec)) == (400, "invalid executor type: engineUnknown")


def test_ids_are_plain_and_may_be_cut_to_eight_characters(first: Requester, last: Requester) -> None:
    for requester in (first, last):
        job_id = requester.start(wasm_spec())
        assert len(job_id) == 36
        assert requester.about("states", job_id[:8]).json()["state"]["JobID"] == job_id
        assert requester.listed(id=job_id[:8]) == [job_id]


def test_less_than_that_is_no_id(first: Requester, last: Requester) -> None:
    for requester in (first, last):
        job_id = requester.start(wasm_spec())
        for cut in ("", job_id[:7]):
            assert "ob not found" in requester.about("states", cut).text
            assert requester.cancel(cut).status_code == 404


def test_a_selector_that_is_none_is_said_at_once_by_the_first_generation(first: Requester) -> None:
    selector = {"Key": "zone", "Operator": "nosuch", "Values": ["a"]}
    assert message(first.submit(wasm_spec(NodeSelectors=[selector]))) == (
        500,
        '"nosuch" is not a valid label selector operator',
    )


def test_nodes_are_selected_by_the_labels_of_their_time(first: Requester, last: Requester) -> None:
    for requester in (first, last):
        here = {"Key": "Architecture", "Operator": "in", "Values": ["amd64"]}
        assert requester.run(wasm_spec(NodeSelectors=[here]))["State"] == "Completed"
        elsewhere = {**here, "Values": ["riscv64"]}
        answer = requester.submit(wasm_spec(NodeSelectors=[elsewhere]))
        job_id = answer.headers["X-Bacalhau-Job-ID"]
        assert requester.wait(job_id)["State"] == "Error"


def test_paths_differ_between_the_generations(first: Requester, last: Requester) -> None:
    assert requests.post(f"{first.node.api}/api/v1/requester/list", json={}, timeout=20).text == "404 page not found\n"
    assert requests.post(f"{last.node.api}/api/v1/requester/list", json={}, timeout=20).status_code == 200
    assert last.ask("list", {}).status_code == 200
    assert last.ask("list?x=1", {}).status_code == 404


def test_a_body_has_to_say_that_it_is_json_from_v1_0_4_on(first: Requester, last: Requester) -> None:
    assert first.ask("list", "{}").status_code == 200
    assert last.ask("list", "{}").json()["message"] == "code=415, message=Unsupported Media Type"


def test_a_job_with_the_header_of_a_job_is_refused(last: Requester) -> None:
    body = last.key.envelope({"APIVersion": "V1beta2", "Spec": wasm_spec()})
    refused = last.ask("submit", body, headers={"X-Bacalhau-Job-ID": "x"})
    assert message(refused) == (400, "rejecting job because HTTP header X-Bacalhau-Job-ID was set")


def test_lists_are_filtered_by_client_and_tags(key: Client) -> None:
    with emulated(LAST, key) as mine:
        other = Requester(mine.node, Client())
        red = mine.start(wasm_spec(Annotations=["red", "warm"]))
        blue = mine.start(wasm_spec(Annotations=["blue"]))
        theirs = other.start(wasm_spec(Annotations=["red"]))
        assert mine.listed(client_id=key.id, sort_by="created_at") == [red, blue]
        assert mine.listed(client_id=key.id, return_all=True) == [red, blue, theirs]
        assert mine.listed(client_id=key.id, include_tags=["red", "blue"], exclude_tags=["warm"]) == [blue]
        assert mine.listed(max_jobs=1, sort_reverse=True) == [theirs]
        assert mine.listed(client_id=other.key.id, id=red) == [red]


def test_jobs_of_the_other_api_are_seen_but_nobodys(last: Requester) -> None:
    job_id = Api(last.node).submit(wasm_job("exitn.wasm", "0"))
    assert last.wait(job_id)["State"] == "Completed"
    assert job_id in last.listed(client_id=last.key.id, return_all=True)
    assert job_id not in last.listed(client_id=last.key.id)
    assert message(last.cancel(job_id)) == (
        401,
        f"mismatched ClientIDs for cancel, existing job:  and cancel request: {last.key.id}",
    )


def test_the_other_api_shows_a_job_as_a_real_server_does(later: Requester) -> None:
    spec = wasm_spec("7", Annotations=["red"], Resources={"CPU": "1"})
    job_id = later.start(spec)
    later.wait(job_id)
    job = Api(later.node).get(f"/orchestrator/jobs/{job_id}")["Job"]
    assert (job["ID"], job["Name"], job["Namespace"]) == (job_id, job_id, later.key.id)
    assert (job["Type"], job["Count"], job["Labels"]) == ("batch", 1, {"red": ""})
    assert set(job["Meta"]) == {
        "bacalhau.org/client.id",
        "bacalhau.org/requester.id",
        "bacalhau.org/requester.publicKey",
    }
    url = spec["Wasm"]["EntryModule"]["URL"]
    assert job["Tasks"] == [
        {
            "Name": "main",
            "Engine": {
                "Type": "wasm",
                "Params": {
                    "EntryModule": {
                        "Alias": "entry",
                        "Source": {"Params": {"URL": url}, "Type": "inline"},
                        "Target": "",
                    },
                    "Entrypoint": "_start",
                    "EnvironmentVariables": None,
                    "ImportModules": [],
                    "Parameters": ["7"],
                },
            },
            "Publisher": {"Type": "ipfs"},
            "Resources": {"CPU": "1"},
            "Network": {"Type": "None"},
            "Timeouts": {"ExecutionTimeout": 1800},
        }
    ]


def test_programs_see_the_variables_of_their_engine(last: Requester) -> None:
    # environ_sizes_get tells how many variables there are; the program ends with that number.
    counting = """(module $test
      (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1)
      (func $start (export "_start")
        (drop (call $sizes (i32.const 0) (i32.const 4)))
        (call $exit (i32.load (i32.const 0)))))"""
    entry = {"StorageSource": "Inline", "URL": data_url(bytes(wasmtime.wat2wasm(counting)))}
    wasm = {"EntryModule": entry, "EntryPoint": "_start", "EnvironmentVariables": {"A": "1", "b": "2", "C": "3"}}
    [execution] = last.run(wasm_spec(Wasm=wasm))["Executions"]
    assert execution["RunOutput"]["exitCode"] == 3


def test_events_are_filtered(last: Requester) -> None:
    job_id = last.start(wasm_spec())
    last.wait(job_id)

    def types(**filters: Any) -> set[str]:
        return {event["Type"] for event in last.about("events", job_id, filters=filters).json()["events"]}

    assert types() == {"JobLevel", "ExecutionLevel"}
    assert types(exclude_execution_level=True) == {"JobLevel"}
    assert types(exclude_job_level=True) == {"ExecutionLevel"}
    assert types(since=4102444800) == set()


def test_noop_without_the_deprecated_key_spoils_the_list_of_its_client(key: Client) -> None:
    with emulated(LAST, key) as requester:
        both = wasm_spec(Publisher="noop", PublisherSpec={"Type": "noop"})
        assert requester.run(both)["State"] == "Completed"
        [result] = requester.about("results", requester.listed()[0]).json()["results"]
        assert result["Data"] == {}
        assert requester.run({**both, "Publisher": None})["State"] == "Error"
        broken = requester.ask("list", {"client_id": key.id})
        assert (broken.status_code, broken.json()["message"]) == (500, "publisher: unknown type 'unknown'")


def test_the_local_publisher_of_the_last_generation_gives_an_address(last: Requester) -> None:
    job_id = last.start(wasm_spec(Publisher="local", PublisherSpec={"Type": "local"}))
    last.wait(job_id)
    [result] = last.about("results", job_id).json()["results"]
    assert result["Data"]["StorageSource"] == "urlDownload"
    assert requests.get(result["Data"]["URL"], timeout=20).content[:2] == b"\x1f\x8b"


@pytest.mark.parametrize("version", [FIRST, LAST])
def test_as_many_nodes_as_wanted_run_a_job(version: str, key: Client) -> None:
    with emulated(version, key, nodes=3) as requester:
        job_id = requester.start(wasm_spec(Deal={"Concurrency": 3}))
        assert requester.wait(job_id)["State"] == "Completed"
        results = requester.about("results", job_id).json()["results"]
        assert len({result["NodeID"] for result in results}) == 3
        assert len({result["Data"]["CID"] for result in results}) == 1


def test_every_node_runs_a_job_that_targets_all(key: Client) -> None:
    with emulated(LAST, key, nodes=2) as requester:
        state = requester.run(wasm_spec(Deal={"TargetingMode": True}))
        assert [execution["State"] for execution in state["Executions"]] == ["Completed", "Completed"]


def test_modules_without_names_run_up_to_v1_1(later: Requester, last: Requester) -> None:
    nameless = bytes(wasmtime.wat2wasm('(module (memory (export "memory") 1) (func (export "_start")))'))
    entry = {"StorageSource": "Inline", "URL": data_url(nameless)}
    spec = wasm_spec(Wasm={"EntryModule": entry, "EntryPoint": "_start"})
    assert later.run(spec)["State"] == "Completed"
    failed = last.run(spec)
    assert (failed["State"], "Name section not found" in failed["Executions"][0]["Status"]) == ("Error", True)


def test_a_job_outlives_the_node_with_its_folder(tmp_path: Path, key: Client) -> None:
    with emulated(LATER, key, data_dir=tmp_path) as requester:
        job_id = requester.start(wasm_spec("3"))
        before = requester.wait(job_id)
        spec = requester.ask("list", {"id": job_id}).json()["jobs"][0]["Job"]["Spec"]
    with emulated(LATER, key, data_dir=tmp_path) as requester:
        assert requester.wait(job_id) == before
        assert requester.ask("list", {"id": job_id}).json()["jobs"][0]["Job"]["Spec"] == spec


@pytest.mark.skipif("v1.4.0" not in EMULATIONS, reason="v1.4.0 is not emulated")
def test_v1_4_says_that_the_api_is_withdrawn() -> None:
    with DevNode(emulate="v1.4.0") as node:
        for prefix in ("/requester", "/api/v1/requester"):
            gone = requests.post(f"{node.api}{prefix}/list", json={}, timeout=20)
            assert gone.status_code == 410
            assert gone.json().startswith("This endpoint is deprecated.")


def test_the_newest_version_knows_nothing_of_it(node: DevNode) -> None:
    assert requests.post(f"{node.api}/api/v1/requester/list", json={}, timeout=20).status_code == 404
