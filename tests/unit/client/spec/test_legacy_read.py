from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.spec import JobSpec
from airflow_provider_bacalhau.client.spec.legacy import is_requester_spec, read_requester_spec

CID = "QmQuBpy4mRYejBDGW2Nx1mzcHsTbBCTwTCEW3q95SQRFqB"
OTHER_CID = "QmbmHZ4SjokWhB5qNrpbSnBtv2EAieUCjvc2gy8ZRnBbup"
HELLO = {
    "engine": "Docker",
    "publisher": "IPFS",
    "docker": {"image": "ubuntu", "entrypoint": ["echo", "Hello World"]},
    "deal": {"concurrency": 1},
}
Make = Callable[..., dict[str, Any]]


def docker(**keys: Any) -> dict[str, Any]:
    return {"Engine": "docker", "Docker": {"Image": "alpine:3.20"}, **keys}


def wire(written: dict[str, Any]) -> dict[str, Any]:
    return read_requester_spec(written).to_wire()


def task(written: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = wire(written)["Tasks"][0]
    return read


def source(storage: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = task(docker(Inputs=[storage]))["InputSources"][0]
    return read


def test_the_example_of_the_old_provider_is_read() -> None:
    assert wire(HELLO) == {
        "Type": "batch",
        "Count": 1,
        "Tasks": [
            {
                "Name": "main",
                "Engine": {"Type": "docker", "Params": {"Image": "ubuntu", "Entrypoint": ["echo", "Hello World"]}},
                "Publisher": {"Type": "ipfs", "Params": {}},
                "Network": {"Type": "None"},
            }
        ],
    }


def test_keys_are_read_in_any_case_and_what_was_given_is_not_changed() -> None:
    shouted = {
        "ENGINE": "DOCKER",
        "Publisher": "ipfs",
        "DOCKER": {"IMAGE": "ubuntu", "entryPoint": ["echo", "Hello World"]},
        "dEAL": {"CONCURRENCY": 1},
    }
    before = repr(shouted)
    assert wire(shouted) == wire(HELLO)
    assert repr(shouted) == before


def test_an_engine_is_read_from_either_of_its_spellings_or_from_both_when_they_agree() -> None:
    params = {"Image": "ubuntu", "Entrypoint": ["echo", "Hello World"], "EnvironmentVariables": None}
    old = {key: value for key, value in HELLO.items() if key not in ("engine", "docker")}
    spec = {**old, "EngineSpec": {"Type": "docker", "Params": params}}
    assert wire(spec) == wire(HELLO)
    assert wire({**spec, **HELLO, "wasm": {"EntryModule": {}}}) == wire(HELLO)


@pytest.mark.parametrize("key", ["Resources", "TotalAllocatedResources", "resources"])
def test_resources_are_read_from_either_key(key: str) -> None:
    resources = {"CPU": "500m", "Memory": "1Gb", "Disk": "", "GPU": ""}
    assert task(docker(**{key: resources}))["Resources"] == {"CPU": "500m", "Memory": "1Gb"}
    assert "Resources" not in task(docker(**{key: {"GPU": ""}}))


@pytest.mark.parametrize(
    ("storage", "read"),
    [
        ({"StorageSource": "IPFS", "CID": CID}, {"Type": "ipfs", "Params": {"CID": CID}}),
        (
            {"StorageSource": "URLDownload", "URL": "https://h/x"},
            {"Type": "urlDownload", "Params": {"URL": "https://h/x"}},
        ),
        ({"StorageSource": "Inline", "URL": "data:,words"}, {"Type": "inline", "Params": {"URL": "data:,words"}}),
        (
            {"StorageSource": "LocalDirectory", "SourcePath": "/data", "ReadWrite": True},
            {"Type": "localDirectory", "Params": {"SourcePath": "/data", "ReadWrite": True}},
        ),
        (
            {
                "StorageSource": "S3",
                "S3": {"Bucket": "b", "Key": "k/*", "Checksum": "c", "VersionID": "v", "Region": "r"},
            },
            {
                "Type": "s3",
                "Params": {"Bucket": "b", "Key": "k/*", "Region": "r", "VersionID": "v", "ChecksumSHA256": "c"},
            },
        ),
    ],
)
def test_every_source_is_read(storage: dict[str, Any], read: dict[str, Any]) -> None:
    assert source({**storage, "path": "/in"}) == {"Source": read, "Target": "/in"}
    assert source({**storage, "Path": "/in", "Name": "first"})["Alias"] == "first"


def test_outputs_are_result_paths_whatever_their_source() -> None:
    outputs = [{"Name": "out", "path": "/out", "StorageSource": "ipfs"}, {"Name": "more", "Path": "/m"}]
    assert task(docker(outputs=outputs))["ResultPaths"] == [
        {"Name": "out", "Path": "/out"},
        {"Name": "more", "Path": "/m"},
    ]


@pytest.mark.parametrize(
    ("compress", "params"),
    [({}, {}), ({"Compress": True}, {"Encoding": "gzip"}), ({"Compress": False}, {"Encoding": "plain"})],
)
def test_the_s3_publisher_packs_its_results_when_it_is_asked_to(
    compress: dict[str, Any], params: dict[str, Any]
) -> None:
    place = {"Bucket": "b", "Key": "k", "Region": "r"}
    publisher = {"Type": "S3", "Params": {**place, **compress}}
    expected = {"Type": "s3", "Params": {**place, **params}}
    assert task(docker(PublisherSpec=publisher))["Publisher"] == expected
    assert task(docker(Publisher="s3", PublisherSpec=publisher))["Publisher"] == expected


def test_a_job_without_a_network_gets_none_as_on_its_old_server() -> None:
    assert task(docker())["Network"] == {"Type": "None"}
    assert task(docker(Network={}))["Network"] == {"Type": "None"}
    assert task(docker(Network={"type": "http", "domains": ["a.org"]}))["Network"] == {
        "Type": "HTTP",
        "Domains": ["a.org"],
    }


@pytest.mark.parametrize(
    ("timeout", "limits"),
    [
        (30, {"ExecutionTimeout": 30}),
        (1800.0, {"ExecutionTimeout": 1800}),
        (1.5, {"ExecutionTimeout": 2}),
        (timedelta(minutes=2), {"ExecutionTimeout": 120}),
        (0, None),
        (-1, None),
        (None, None),
    ],
)
def test_a_timeout_limits_an_execution(timeout: Any, limits: Any) -> None:
    assert task(docker(Timeout=timeout)).get("Timeouts") == limits


def test_annotations_are_labels() -> None:
    job = wire(docker(Annotations=["probe", "team=data", "math=a=b", "probe"]))
    assert job["Labels"] == {"probe": "", "team": "data", "math": "a=b"}


def test_the_names_that_were_put_into_annotations_are_names_again() -> None:
    job = wire(docker(Annotations=["bacalhau-job-name=count-words", "bacalhau-task-name=count"]))
    assert "Labels" not in job
    assert (job["Name"], job["Tasks"][0]["Name"]) == ("count-words", "count")


def test_a_deal_says_how_often_a_job_runs() -> None:
    assert wire(docker())["Count"] == 1
    assert wire(docker(Deal={"Concurrency": 3, "Confidence": 0, "MinBids": 1}))["Count"] == 3
    job = wire(docker(Deal={"TargetingMode": True}))
    assert (job["Type"], job["Count"]) == ("ops", 1)
    assert wire(docker(Deal={"TargetingMode": False, "Concurrency": 2}))["Type"] == "batch"


def test_node_selectors_are_constraints() -> None:
    selectors = [
        {"Key": "zone", "Operator": "in", "Values": ["a", "b"]},
        {"key": "gpu", "operator": "Exists", "values": None},
    ]
    assert wire(docker(NodeSelectors=selectors))["Constraints"] == [
        {"Key": "zone", "Operator": "in", "Values": ["a", "b"]},
        {"Key": "gpu", "Operator": "exists"},
    ]


def test_a_wasm_job_is_read_with_its_modules_and_environment(word_count_url: str) -> None:
    module = {"storagesource": "inline", "url": word_count_url}
    written = {
        "engine": "Wasm",
        "wasm": {
            "entrymodule": {**module, "path": "/mod/wc.wasm"},
            "entrypoint": "_start",
            "parameters": ["/inputs", 5],
            "importmodules": [{**module, "name": "maths"}],
            "environmentvariables": {"DEBUG": "1"},
        },
    }
    read = read_requester_spec(written).to_wire(module_sources=True)["Tasks"][0]
    held = {"Source": {"Type": "inline", "Params": {"URL": word_count_url}}}
    assert read["Engine"]["Params"] == {
        "EntryModule": {**held, "Target": "/mod/wc.wasm"},
        "EntryPoint": "_start",
        "Parameters": ["/inputs", "5"],
        "ImportModules": [{**held, "Target": "/wasm/imports/module_0.wasm", "Alias": "maths"}],
        "EnvironmentVariables": {"DEBUG": "1"},
    }


def test_a_docker_jobs_environment_and_folder_are_kept() -> None:
    section = {"Image": "a", "EnvironmentVariables": ["path=x", "B=2"], "WorkingDirectory": "/w", "Parameters": ["p"]}
    assert task(docker(Docker=section))["Engine"]["Params"] == section


def test_what_says_nothing_is_ignored() -> None:
    silent = {
        "Verifier": "Noop",
        "DoNotTrack": False,
        "Language": {"JobContext": {}},
        "Wasm": {"EntryModule": {}},
        "EngineSpec": {"Type": "", "Params": None},
        "Resources": {"GPU": ""},
        "Inputs": None,
        "Annotations": [],
    }
    assert wire(docker(**silent)) == wire(docker())


def test_not_to_be_tracked_is_a_wish_that_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert wire(docker(DoNotTrack=True)) == wire(docker())
    assert "DoNotTrack has no effect" in caplog.text


@pytest.mark.parametrize(
    ("written", "place", "message"),
    [
        ({"deal": {"concurrency": 1}}, "Engine", "is missing"),
        ({"engine": "docker"}, "Docker", "is missing"),
        ({"engine": "docker", "docker": {"img": "a", "image": "b"}}, "docker.img", "Did you mean `Image`"),
        ({"engine": "podman"}, "engine", "must be one of docker, wasm, noop"),
        ({"engine": "Language"}, "engine", "cannot be 'language' here"),
        ({"engine": "PythonWasm"}, "engine", "Docker image"),
        (docker(Language={"Command": "python"}), "Language", "no server since v1.0.4"),
        (docker(verifier="Deterministic"), "verifier", "no server since v1.0.4 verifies"),
        (docker(verifier="maybe"), "verifier", "must be one of"),
        (docker(publisher="Estuary"), "publisher", "publish to ipfs or s3"),
        (docker(publisherspec={"type": "filecoin"}), "publisherspec.type", "publish to ipfs or s3"),
        (docker(publisher="ipfs", publisherspec={"type": "s3", "params": {"bucket": "b", "key": "k"}}),
         "publisherspec", "says something else than `Publisher`"),
        (docker(publisherspec={"type": "s3", "params": {"Bucket": "b"}}), "publisherspec.params.Key", "is missing"),
        (docker(publisherspec={"type": "ipfs", "params": {"Pin": 1}}), "publisherspec.params.Pin", "not a known key"),
        (docker(publisher="s3"), "publisher", "is missing"),
        (docker(EngineSpec={"Type": "wasm", "Params": {"EntryModule": {"StorageSource": "ipfs", "CID": CID}}}),
         "EngineSpec", "says something else than `Engine`"),
        (docker(EngineSpec={"Type": "docker", "Params": {"Image": "other"}}),
         "EngineSpec", "says something else than `Docker`"),
        (docker(wasm={"EntryModule": {"StorageSource": "ipfs", "CID": CID}}), "wasm", "for another engine than docker"),
        (docker(Resources={"CPU": "1"}, totalallocatedresources={"CPU": "2"}), "totalallocatedresources", "Resources"),
        (docker(Resources={"CPU": "much"}), "Resources.CPU", "a number of cores"),
        (docker(Network={"Type": "Bridge"}), "Network.Type", "must be one of None, Full, HTTP"),
        (docker(Network={"Type": "Full", "Domains": ["a.org"]}), "Network.Domains", "HTTP only"),
        (docker(Timeout="30"), "Timeout", "must be a number of seconds"),
        (docker(Timeout=True), "Timeout", "must be a number of seconds"),
        (docker(deal={"concurrency": 0}), "deal.concurrency", "is 0"),
        (docker(deal={"concurrency": "1"}), "deal.concurrency", "must be a whole number"),
        (docker(deal={"targetingmode": True, "concurrency": 3}), "deal.concurrency", "ops jobs run once on every node"),
        (docker(deal={"targetingmode": "all"}), "deal.targetingmode", "must be true or false"),
        (docker(deal={"confidence": 2}), "deal.confidence", "no server since v1.0.4"),
        (docker(deal={"minbids": 2}), "deal.minbids", "no server since v1.0.4"),
        (docker(annotations=["a", ""]), "annotations[1]", "needs a name"),
        (docker(annotations=["=a"]), "annotations[0]", "needs a name"),
        (docker(annotations=["a=1", "a=2"]), "annotations[1]", "a second value"),
        (docker(annotations=["a=1", "a"]), "annotations[1]", "a second value"),
        (docker(annotations="a"), "annotations", "must be a list"),
        (docker(nodeselectors=[{"key": "a", "operator": "in"}]), "nodeselectors[0].Values", "at least one value"),
        (docker(node_selectors=[]), "node_selectors", "Did you mean `NodeSelectors`"),
        (docker(Sharding={"BatchSize": 1}), "Sharding", "is not a known key"),
        (docker(Docker={"Image": "a", "EnvironmentVariables": ["A"]}), "Docker.EnvironmentVariables[0]", "NAME=value"),
        (docker(Docker={"Image": "a", "Entrypoint": "echo"}), "Docker.Entrypoint", "must be a list"),
        (docker(outputs=[{"Name": "a/b", "path": "/b"}]), "outputs[0].Name", "without a slash"),
        (docker(outputs=[{"Name": "a", "path": "/b"}, {"Name": "c", "path": "/b"}]), "outputs[1].path", "has already"),
        (docker(outputs=[{"Name": "a", "path": "/b", "CID": CID}]), "outputs[0].CID", "is not a known key"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_where_it_was_written(written: dict[str, Any], place: str, message: str) -> None:
    with pytest.raises(InvalidJobSpec) as refused:
        read_requester_spec(written)
    assert message in str(refused.value)
    assert refused.value.place == f"job_spec.{place}"


@pytest.mark.parametrize(
    ("storage", "place", "message"),
    [
        ({"storagesource": "ipfs", "cid": "x", "path": "/a"}, "cid", "is not a CID"),
        ({"storagesource": "ipfs", "path": "/a"}, "CID", "is missing"),
        ({"storagesource": "ipfs", "cid": CID}, "Path", "is missing"),
        ({"storagesource": "ipfs", "cid": CID, "path": "a"}, "path", "must be an absolute path"),
        ({"storagesource": "ipfs", "cid": CID, "url": "data:,x", "path": "/a"}, "url", "which reads CID"),
        ({"cid": CID, "path": "/a"}, "StorageSource", "is missing"),
        ({"storagesource": "disk", "path": "/a"}, "storagesource", "must be one of ipfs"),
        ({"storagesource": "urldownload", "url": "ftp://h/x", "path": "/a"}, "url", "not an http"),
        ({"storagesource": "inline", "url": "words", "path": "/a"}, "url", "`data:` URL"),
        ({"storagesource": "localdirectory", "path": "/a"}, "SourcePath", "is missing"),
        ({"storagesource": "s3", "path": "/a"}, "S3", "is missing"),
        ({"storagesource": "s3", "s3": {"key": "k"}, "path": "/a"}, "s3.Bucket", "is missing"),
        ({"storagesource": "repoClone", "repo": "https://h/r", "path": "/a"}, "storagesource", "cannot be 'repoClone'"),
        ({"storagesource": "Estuary", "cid": CID, "path": "/a"}, "storagesource", "cannot be 'estuary'"),
        ({"storagesource": "FilecoinUnsealed", "cid": CID, "path": "/a"}, "storagesource", "No server since v1.4"),
        ({"storagesource": "ipfs", "cid": CID, "repo": "r", "path": "/a"}, "repo", "is not read for the source ipfs"),
        ({"storagesource": "ipfs", "cid": CID, "metadata": {"a": "b"}, "path": "/a"}, "metadata", "is not read"),
    ],
)  # fmt: skip
def test_a_wrong_input_is_refused_where_it_was_written(storage: dict[str, Any], place: str, message: str) -> None:
    good = {"storagesource": "ipfs", "cid": OTHER_CID, "path": "/good"}
    with pytest.raises(InvalidJobSpec) as refused:
        read_requester_spec(docker(inputs=[good, storage]), place="spec")
    assert message in str(refused.value)
    assert refused.value.place == f"spec.inputs[1].{place}"


def test_wrong_modules_are_refused_where_they_were_written() -> None:
    section = {"entrymodule": {"storagesource": "ipfs", "cid": CID}, "importmodules": [{"storagesource": "ipfs"}]}
    with pytest.raises(InvalidJobSpec) as refused:
        read_requester_spec({"engine": "wasm", "wasm": section})
    assert refused.value.place == "job_spec.wasm.importmodules[0].CID"
    with pytest.raises(InvalidJobSpec) as refused:
        read_requester_spec({"enginespec": {"type": "wasm", "params": section}})
    assert refused.value.place == "job_spec.enginespec.params.importmodules[0].CID"


def test_inputs_on_one_mount_are_refused_where_they_were_written() -> None:
    inputs = [{"storagesource": "ipfs", "cid": cid, "path": "/in", "name": "x"} for cid in (CID, OTHER_CID)]
    with pytest.raises(InvalidJobSpec) as refused:
        read_requester_spec(docker(inputs=inputs))
    assert refused.value.place == "job_spec.inputs[1].path"


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(InvalidJobSpec) as refused:
        read_requester_spec({"engine": "docker", "docker": {}, "publisher": "estuary", "nope": 1})
    assert [line.split(":")[0] for line in str(refused.value).splitlines()[1:]] == [
        "- job_spec.publisher",
        "- job_spec.nope",
    ]


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        (HELLO, True),
        ({"EngineSpec": {"Type": "wasm"}}, True),
        ({"Docker": {}, "DEAL": {}}, True),
        ({"inputs": []}, True),
        ({"Type": "batch", "Tasks": []}, False),
        ({"Job": {"Type": "batch"}}, False),
        ({"tasks": [], "engine": "docker"}, False),
        ({"name": "x"}, False),
        ({1: 2}, False),
        ({}, False),
    ],
)
def test_an_old_specification_is_told_from_a_job(value: dict[Any, Any], *, is_one: bool) -> None:
    assert is_requester_spec(value) is is_one


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["Engine", "EngineSpec", "docker", "wasm", "Publisher", "Timeout", "Inputs", "Deal", "nonsense"]
) | (st.sampled_from(["outputs", "Annotations", "NodeSelectors", "verifier", "Resources", "network", "publisherspec"]))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(keys=st.dictionaries(KEYS, JSON_VALUES, max_size=4), whole=st.booleans())
def test_no_value_makes_reading_fail_in_another_way(*, keys: dict[str, Any], whole: bool) -> None:
    with contextlib.suppress(InvalidJobSpec):  # any other error fails the test
        assert isinstance(read_requester_spec({**docker(), **keys} if whole else keys), JobSpec)
