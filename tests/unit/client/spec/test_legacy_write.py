from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.spec import apply_timeouts, docker_job, local_file, merge_env, read_job_spec
from airflow_provider_bacalhau.client.spec.legacy import (
    RequesterShape,
    name_annotation,
    read_requester_spec,
    write_requester_spec,
)

CID = "QmQuBpy4mRYejBDGW2Nx1mzcHsTbBCTwTCEW3q95SQRFqB"
VERSIONS = ("v0.3.29", "v1.0.3", "v1.0.4", "v1.1.6", "v1.3.2")
Make = Callable[..., dict[str, Any]]


def shape(version: str) -> RequesterShape:
    return ServerVersion(version).requester.shape


def write(job: dict[str, Any], version: str = "v1.3.2") -> dict[str, Any]:
    return write_requester_spec(read_job_spec(job), shape=shape(version))


def test_a_whole_docker_job_is_written() -> None:
    job = docker_job(
        "alpine:3.20",
        "wc -w /inputs/*",
        inputs=[{"Source": {"Type": "ipfs", "Params": {"CID": CID}}, "Target": "/inputs", "Alias": "words"}],
        outputs=["outputs"],
        publisher="ipfs",
        resources={"CPU": "500m", "Memory": "1Gb"},
        network="Full",
        env={"A": "1", "B": "2"},
        name="count-words",
        count=2,
        labels={"probe": "", "team": "data"},
        constraints=[{"Key": "zone", "Operator": "in", "Values": ["a"]}],
        execution_timeout=60,
    )
    assert write(job, "v1.1.6") == {
        "Engine": "docker",
        "Docker": {
            "Image": "alpine:3.20",
            "Entrypoint": ["/bin/sh", "-c"],
            "Parameters": ["wc -w /inputs/*"],
            "EnvironmentVariables": ["A=1", "B=2"],
        },
        "Publisher": "ipfs",
        "PublisherSpec": {"Type": "ipfs"},
        "Resources": {"CPU": "500m", "Memory": "1Gb"},
        "Network": {"Type": "Full"},
        "Timeout": 60,
        "Inputs": [{"StorageSource": "ipfs", "CID": CID, "Name": "words", "Path": "/inputs"}],
        "Outputs": [{"StorageSource": "ipfs", "Name": "outputs", "Path": "/outputs"}],
        "Annotations": ["probe", "team=data", "bacalhau-job-name=count-words"],
        "NodeSelectors": [{"Key": "zone", "Operator": "in", "Values": ["a"]}],
        "Deal": {"Concurrency": 2},
    }


def test_a_wasm_job_is_written_with_its_modules_and_environment(wasm: Make, word_count_url: str) -> None:
    written = write(wasm({"Parameters": ["/inputs"]}, Env={"DEBUG": "1"}))
    assert "Inputs" not in written
    assert written["Engine"] == "wasm"
    assert written["Wasm"] == {
        "EntryModule": {"StorageSource": "inline", "URL": word_count_url, "Path": "/mod/wc.wasm"},
        "EntryPoint": "_start",
        "Parameters": ["/inputs"],
        "EnvironmentVariables": {"DEBUG": "1"},
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_each_generation_gets_the_keys_that_it_reads(docker: Make, version: str) -> None:
    written = write(docker(Resources={"CPU": "1"}), version)
    assert written.get("Verifier") == ("Noop" if version in ("v0.3.29", "v1.0.3") else None)
    assert ("TotalAllocatedResources" in written) == (version == "v1.0.4")
    assert ("Resources" in written) == (version != "v1.0.4")


def test_the_oldest_servers_get_a_whole_command_as_the_entry_point() -> None:
    job = docker_job("alpine:3.20", "echo hello")
    assert write(job, "v0.3.29")["Docker"]["Entrypoint"] == ["/bin/sh", "-c", "echo hello"]
    assert "Parameters" not in write(job, "v0.3.29")["Docker"]
    assert write(job, "v1.0.4")["Docker"]["Parameters"] == ["echo hello"]


def test_a_publisher_is_always_written_in_both_ways(docker: Make) -> None:
    for publisher, name in (
        (None, "noop"),
        ({"Type": ""}, "noop"),
        ({"Type": "noop"}, "noop"),
        ({"Type": "IPFS"}, "ipfs"),
    ):
        written = write(docker(Publisher=publisher))
        assert (written["Publisher"], written["PublisherSpec"]) == (name, {"Type": name})


@pytest.mark.parametrize(("encoding", "compress"), [(None, None), ("gzip", True), ("plain", False)])
def test_the_s3_publisher_is_told_whether_to_pack(docker: Make, encoding: str | None, *, compress: bool | None) -> None:
    written = write(
        docker(Publisher={"Type": "s3", "Params": {"Bucket": "b", "Key": "k", "Encoding": encoding}}), "v1.1.6"
    )
    assert written["Publisher"] == "s3"
    assert written["PublisherSpec"]["Params"].get("Compress") is compress


def test_jobs_for_every_node_have_a_mode_of_their_own(docker: Make) -> None:
    assert write(docker({"Type": "ops"}))["Deal"] == {"TargetingMode": True}


def test_a_folder_of_the_node_is_a_folder_by_whichever_name(docker: Make) -> None:
    for kind in ("local", "localDirectory"):
        source = {"Type": kind, "Params": {"SourcePath": "/data", "ReadWrite": False}}
        inputs = [{"Source": source, "Target": "/in"}]
        folder = {"StorageSource": "localDirectory", "SourcePath": "/data", "Path": "/in"}
        assert write(docker(InputSources=inputs))["Inputs"] == [{**folder, "ReadWrite": False}]
        assert write(docker(InputSources=inputs), "v0.3.29")["Inputs"] == [folder]


def test_an_s3_object_keeps_its_checksum_under_its_old_key(docker: Make) -> None:
    params = {"Bucket": "b", "Key": "k", "ChecksumSHA256": "c", "VersionID": "v"}
    inputs = [{"Source": {"Type": "s3", "Params": params}, "Target": "/in"}]
    assert write(docker(InputSources=inputs), "v1.0.3")["Inputs"] == [
        {"StorageSource": "s3", "S3": {"Bucket": "b", "Key": "k", "Checksum": "c", "VersionID": "v"}, "Path": "/in"}
    ]


def test_a_job_can_be_found_by_its_name(docker: Make) -> None:
    written = write(docker({"Name": "count"}, Name="words"))
    assert name_annotation("count") in written["Annotations"]
    read = read_requester_spec(written)
    assert (read.name, read.task.name, read.labels) == ("count", "words", {})


def test_the_operators_environment_wins_over_that_of_an_old_specification() -> None:
    old = {"engine": "docker", "docker": {"image": "a", "environmentvariables": ["A=old", "path=old"]}}
    written = write_requester_spec(merge_env(read_requester_spec(old), {"A": "new"}), shape=shape("v1.1.6"))
    assert written["Docker"]["EnvironmentVariables"] == ["path=old", "A=new"]


# Limits


def limited(docker: Make, version: str, **limits: int | None) -> int | None:
    written: int | None = write(docker(Timeouts=limits), version).get("Timeout")
    return written


@pytest.mark.parametrize("version", VERSIONS)
def test_the_execution_limit_is_the_timeout(docker: Make, version: str) -> None:
    timeout = limited(docker, version, ExecutionTimeout=60, TotalTimeout=600)
    assert timeout == 60
    assert isinstance(timeout, int)  # a float would be refused from v1.0.4 on


def test_without_an_execution_limit_the_total_limit_keeps_servers_from_ending_it_after_half_an_hour(
    docker: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert limited(docker, "v1.3.2", TotalTimeout=604800) == 604800
    assert "will end an execution after 604800 s" in caplog.text


def test_the_oldest_nodes_are_not_asked_for_more_than_an_hour(docker: Make) -> None:
    assert limited(docker, "v0.3.29", TotalTimeout=604800) == 3600
    assert limited(docker, "v0.3.29", TotalTimeout=60) == 60


def test_an_execution_limit_that_stock_nodes_refuse_is_sent_with_a_warning(
    docker: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert limited(docker, "v0.3.29", ExecutionTimeout=7200) == 7200
    assert "no job with an ExecutionTimeout over 3600 s" in caplog.text


def test_a_job_without_limits_is_left_to_the_server(docker: Make) -> None:
    assert limited(docker, "v1.3.2") is None
    assert limited(docker, "v1.3.2", ExecutionTimeout=0, TotalTimeout=0) is None


def test_a_queue_limit_is_left_out_with_a_warning(docker: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert limited(docker, "v1.3.2", QueueTimeout=30, ExecutionTimeout=60) == 60
    assert "QueueTimeout has no effect" in caplog.text


def test_the_limits_that_the_operator_adds_to_every_job_are_no_reason_to_refuse_it_or_to_warn(
    docker: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for version in VERSIONS:
            write_requester_spec(apply_timeouts(read_job_spec(docker())), shape=shape(version))
    assert not caplog.records


# What cannot be carried


def source(kind: str, **params: Any) -> dict[str, Any]:
    return {"Source": {"Type": kind, "Params": params}, "Target": "/in"}


AT = "Tasks[0]"
REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    # version, keys of the job, keys of its task, place
    ("v1.3.2", {"Namespace": "team"}, {}, "Namespace"),
    ("v1.3.2", {"Type": "service"}, {}, "Type"),
    ("v1.3.2", {"Type": "daemon"}, {}, "Type"),
    ("v1.0.3", {"Type": "ops"}, {}, "Type"),
    ("v1.3.2", {"Priority": 5}, {}, "Priority"),
    ("v1.3.2", {"Meta": {"a": "b"}}, {}, "Meta"),
    ("v1.3.2", {"Labels": {"a=b": "c"}}, {}, "Labels.a=b"),
    ("v1.3.2", {"Labels": {"": "c"}}, {}, "Labels."),
    ("v1.3.2", {"Labels": {"bacalhau-job-name": "c"}}, {}, "Labels.bacalhau-job-name"),
    ("v1.3.2", {"Labels": {"bacalhau-task-name": "c"}}, {}, "Labels.bacalhau-task-name"),
    ("v1.3.2", {}, {"Meta": {"a": "b"}}, f"{AT}.Meta"),
    ("v1.3.2", {}, {"Engine": {"Type": "duckdb", "Params": {}}}, f"{AT}.Engine.Type"),
    ("v1.0.3", {}, {"Engine": {"Type": "docker", "Params": {"Image": "a", "Parameters": ["b"]}}},
     f"{AT}.Engine.Params.Parameters"),
    ("v1.3.2", {}, {"Publisher": {"Type": "s3managed"}}, f"{AT}.Publisher.Type"),
    ("v1.1.6", {}, {"Publisher": {"Type": "local"}}, f"{AT}.Publisher.Type"),
    ("v0.3.29", {}, {"Publisher": {"Type": "estuary"}}, f"{AT}.Publisher.Type"),
    ("v1.3.2", {}, {"Publisher": {"Type": "s3", "Params": {"Bucket": "b", "Key": "k", "Encoding": "plain"}}},
     f"{AT}.Publisher.Params.Encoding"),
    ("v1.3.2", {}, {"ResultPaths": [{"Name": "a", "Path": "/a"}]}, f"{AT}.ResultPaths"),
    ("v1.3.2", {}, {"Network": {"Type": "Host"}}, f"{AT}.Network.Type"),
    ("v1.3.2", {}, {"Network": {"Type": "Bridge"}}, f"{AT}.Network.Type"),
    ("v1.3.2", {}, {"Network": {"Type": "Default"}}, f"{AT}.Network.Type"),
    ("v1.3.2", {}, {"Network": {"Type": "Full", "Ports": [{"Name": "web"}]}}, f"{AT}.Network.Ports"),
    ("v1.3.2", {}, {"InputSources": [source("s3", Bucket="b", Filter="x")]},
     f"{AT}.InputSources[0].Source.Params.Filter"),
    ("v1.3.2", {}, {"InputSources": [source("s3", Bucket="b", Partition={"Type": "date"})]},
     f"{AT}.InputSources[0].Source.Params.Partition"),
    ("v1.0.4", {}, {"InputSources": [source("s3", Bucket="b", VersionID="x")]},
     f"{AT}.InputSources[0].Source.Params.VersionID"),
    ("v1.3.2", {}, {"InputSources": [source("tape", Reel=1)]}, f"{AT}.InputSources[0].Source.Type"),
    ("v1.3.2", {}, {"InputSources": [source("local", SourcePath="/a", CreateAs="dir")]},
     f"{AT}.InputSources[0].Source.Params.CreateAs"),
    ("v0.3.29", {}, {"InputSources": [source("localDirectory", SourcePath="/a", ReadWrite=True)]},
     f"{AT}.InputSources[0].Source.Params.ReadWrite"),
    ("v1.0.4", {}, {"InputSources": [source("localDirectory", SourcePath="/a")]},
     f"{AT}.InputSources[0].Source.Params.SourcePath"),
    ("v1.3.2", {}, {"InputSources": [local_file("a.txt", "/in/a.txt")]}, f"{AT}.InputSources[0]"),
]  # fmt: skip


@pytest.mark.parametrize(("version", "job", "task", "place"), REFUSED)
def test_what_cannot_be_carried_is_refused_by_name(
    docker: Make, version: str, job: dict[str, Any], task: dict[str, Any], place: str
) -> None:
    with pytest.raises(InvalidJobSpec) as refused:
        write(docker(job, **task), version)
    assert refused.value.place == place


def test_modules_are_checked_like_inputs(old_wasm: Make) -> None:
    module = {"Source": {"Type": "s3", "Params": {"Bucket": "b", "Filter": "x"}}, "Target": "/m.wasm"}
    with pytest.raises(InvalidJobSpec) as refused:
        write(old_wasm({"ImportModules": [module]}))
    assert refused.value.place == f"{AT}.Engine.Params.ImportModules[0].Source.Params.Filter"


def test_all_that_cannot_be_carried_is_named_at_once(docker: Make) -> None:
    with pytest.raises(InvalidJobSpec) as refused:
        write(docker({"Priority": 1, "Namespace": "team"}, Meta={"a": "b"}))
    assert str(refused.value).splitlines()[0] == "The job specification has 3 problems:"
    assert [line.split(":")[0] for line in str(refused.value).splitlines()[1:]] == [
        "- Namespace",
        "- Priority",
        "- Tasks[0].Meta",
    ]


@pytest.mark.parametrize(
    ("job", "task"),
    [
        ({"Namespace": "default", "Priority": 0}, {}),
        ({}, {"InputSources": [source("local", SourcePath="/a", CreateAs="noCreate")]}),
        ({}, {"Publisher": {"Type": "local"}}),
        ({}, {"Engine": {"Type": "noop", "Params": {}}}),
    ],
)
def test_what_means_nothing_else_there_is_carried(docker: Make, job: dict[str, Any], task: dict[str, Any]) -> None:
    assert write(docker(job, **task))["Deal"] == {"Concurrency": 1}


def test_v1_0_4_mounts_a_folder_at_its_own_path(docker: Make) -> None:
    inputs = [{"Source": {"Type": "localDirectory", "Params": {"SourcePath": "/data"}}, "Target": "/data"}]
    assert write(docker(InputSources=inputs), "v1.0.4")["Inputs"][0]["Path"] == "/data"


def test_a_specification_is_left_as_it_was(docker: Make) -> None:
    spec = read_job_spec(
        docker({"Labels": {"a": "b"}}, Publisher={"Type": "s3", "Params": {"Bucket": "b", "Key": "k"}})
    )
    before = spec.model_copy(deep=True)
    write_requester_spec(spec, shape=replace(shape("v1.1.6"), docker_parameters=False))
    assert spec == before
