# mypy: disable-error-code="call-arg,arg-type,list-item"
# What mypy would say to a user's mistakes is said here by the builders.

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bacalhau.client.spec import docker_job, local_file, read_job_spec, wasm_job

CID = "QmRNmZCoujKHMqgXypPfKkYJCDV4r8WogVoDVSrLmwEoFR"


def test_a_webassembly_job_in_one_line() -> None:
    assert wasm_job(
        local_file("wc.wasm"), ["/inputs", "/outputs/count.txt"], outputs=["outputs"], publisher="ipfs"
    ) == {
        "Type": "batch",
        "Count": 1,
        "Tasks": [
            {
                "Name": "main",
                "Engine": {
                    "Type": "wasm",
                    "Params": {
                        "EntryModule": "/wasm/entry.wasm",
                        "Entrypoint": "_start",
                        "Parameters": ["/inputs", "/outputs/count.txt"],
                    },
                },
                "Publisher": {"Type": "ipfs", "Params": {}},
                "InputSources": [
                    {"Source": {"Type": "local_file", "Params": {"Path": "wc.wasm"}}, "Target": "/wasm/entry.wasm"}
                ],
                "ResultPaths": [{"Name": "outputs", "Path": "/outputs"}],
            }
        ],
    }


@pytest.mark.parametrize(
    ("module", "source", "target"),
    [
        (f"ipfs://{CID}", {"Type": "ipfs", "Params": {"CID": CID}}, "/wasm/entry.wasm"),
        ("https://h/a.wasm", {"Type": "urlDownload", "Params": {"URL": "https://h/a.wasm"}}, "/wasm/entry.wasm"),
        (
            "data:application/gzip,x",
            {"Type": "inline", "Params": {"URL": "data:application/gzip,x"}},
            "/wasm/entry.wasm",
        ),
        ({"Type": "s3", "Params": {"Bucket": "b"}}, {"Type": "s3", "Params": {"Bucket": "b"}}, "/wasm/entry.wasm"),
        (
            {"Source": {"Type": "s3", "Params": {"Bucket": "b"}}, "Target": "/m"},
            {"Type": "s3", "Params": {"Bucket": "b"}},
            "/m",
        ),
        (local_file("a.wasm", "/m"), {"Type": "local_file", "Params": {"Path": "a.wasm"}}, "/m"),
    ],
)
def test_a_module_may_be_named_in_many_ways(module: Any, source: dict[str, Any], target: str) -> None:
    task = read_job_spec(wasm_job(module)).task
    assert task.engine.params["EntryModule"] == target
    assert [one.to_dict() for one in task.input_sources] == [{"Source": source, "Target": target}]


def test_a_module_that_is_only_a_name_is_refused_with_the_ways_to_name_one() -> None:
    with pytest.raises(ValueError, match=r"'wc.wasm' is no module\. Give local_file"):
        wasm_job("wc.wasm")


def test_modules_that_are_imported_come_after_the_entry_module() -> None:
    job = wasm_job(local_file("a.wasm"), imports=[local_file("b.wasm", "/b.wasm")], inputs=[local_file("c", "/c")])
    spec = read_job_spec(job, base=None)
    assert spec.task.engine.modules == ["/wasm/entry.wasm", "/b.wasm"]
    assert [one.target for one in spec.task.input_sources] == ["/wasm/entry.wasm", "/b.wasm", "/c"]


@pytest.mark.parametrize(
    ("arguments", "params"),
    [
        ((), {}),
        (("echo hi > /outputs/x",), {"Entrypoint": ["/bin/sh", "-c"], "Parameters": ["echo hi > /outputs/x"]}),
        ((["echo", "{{ ds }}"],), {"Parameters": ["echo", "{{ ds }}"]}),
    ],
)
def test_a_docker_command_is_a_line_for_the_shell_or_a_list_for_the_image(
    arguments: tuple[Any, ...], params: dict[str, Any]
) -> None:
    assert docker_job("alpine", *arguments)["Tasks"][0]["Engine"]["Params"] == {"Image": "alpine", **params}


def test_a_shell_line_and_an_entrypoint_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="give a list of arguments with an entrypoint"):
        docker_job("alpine", "echo hi", entrypoint=["/bin/bash"])


def test_every_option_has_its_place() -> None:
    job = docker_job(
        "alpine",
        ["true"],
        entrypoint=["/x"],
        working_directory="/work",
        env={"A": "1"},
        publisher={"Type": "s3", "Params": {"Bucket": "b", "Key": "k"}},
        outputs={"out": "/data/out"},
        inputs=[local_file("a.txt", "/inputs/a.txt")],
        resources={"CPU": "1"},
        network="Full",
        name="nightly",
        namespace="science",
        type="ops",
        labels={"team": "data"},
        constraints=[{"Key": "region", "Operator": "=", "Values": ["eu"]}],
        execution_timeout=timedelta(minutes=1),
        queue_timeout=30,
        total_timeout=299.5,
    )
    assert read_job_spec(job).to_dict() == {
        "Name": "nightly",
        "Namespace": "science",
        "Type": "ops",
        "Count": 1,
        "Labels": {"team": "data"},
        "Constraints": [{"Key": "region", "Operator": "=", "Values": ["eu"]}],
        "Tasks": [
            {
                "Name": "main",
                "Engine": {
                    "Type": "docker",
                    "Params": {
                        "Image": "alpine",
                        "Entrypoint": ["/x"],
                        "Parameters": ["true"],
                        "WorkingDirectory": "/work",
                    },
                },
                "Publisher": {"Type": "s3", "Params": {"Bucket": "b", "Key": "k"}},
                "Env": {"A": "1"},
                "InputSources": [
                    {"Source": {"Type": "local_file", "Params": {"Path": "a.txt"}}, "Target": "/inputs/a.txt"}
                ],
                "ResultPaths": [{"Name": "out", "Path": "/data/out"}],
                "Resources": {"CPU": "1"},
                "Network": {"Type": "Full"},
                "Timeouts": {"ExecutionTimeout": 60, "QueueTimeout": 30, "TotalTimeout": 300},
            }
        ],
    }


@pytest.mark.parametrize(
    ("outputs", "paths"),
    [
        (["outputs"], [{"Name": "outputs", "Path": "/outputs"}]),
        ("outputs", [{"Name": "outputs", "Path": "/outputs"}]),
        (["/outputs/", "a"], [{"Name": "outputs", "Path": "/outputs"}, {"Name": "a", "Path": "/a"}]),
        (["/data/out"], [{"Name": "out", "Path": "/data/out"}]),
        ({"out": "/data"}, [{"Name": "out", "Path": "/data"}]),
    ],
)
def test_outputs_are_names_of_folders_or_paths(outputs: Any, paths: list[dict[str, str]]) -> None:
    assert docker_job("alpine", outputs=outputs)["Tasks"][0]["ResultPaths"] == paths


def test_jobs_are_plain_values_that_a_serialized_dag_can_hold() -> None:
    job = wasm_job(local_file("wc.wasm"), env={"A": "1"}, publisher="ipfs", execution_timeout=timedelta(hours=1))
    assert json.loads(json.dumps(job)) == job


def test_a_dag_file_can_write_jobs_without_importing_pydantic() -> None:
    code = (
        "import sys; from airflow_provider_bacalhau.client.spec import docker_job, local_file, wasm_job;"
        "wasm_job(local_file('a')); docker_job('a');"
        "print({'pydantic', 'yaml', 'libipld'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_the_short_spelling_becomes_a_job_that_can_be_sent(workloads: Path) -> None:
    spec = read_job_spec(wasm_job(local_file("wc.wasm"), ["/inputs"]), base=workloads)
    assert spec.to_wire()["Tasks"][0]["InputSources"][0]["Source"]["Params"]["URL"].startswith("data:application/wasm;")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: docker_job("alpine", publsher="ipfs"),
            "docker_job() got an unexpected argument 'publsher'. Did you mean",
        ),
        (lambda: wasm_job("ipfs://Qm", arg=["x"]), "wasm_job() got an unexpected argument 'arg'. Did you mean 'args'?"),
        (lambda: docker_job("alpine", colour="red"), "'colour'. It takes image, command,"),
    ],
)
def test_an_unknown_argument_is_named_with_the_nearest(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wasm_job("ipfs://Qm", "--fast /inputs"), "args has to be a list of texts, such as ['--fast'"),
        (
            lambda: wasm_job("ipfs://Qm", 3),
            "args has to be a list of texts, such as ['--fast', '/inputs'], and is int.",
        ),
        (lambda: docker_job("alpine", entrypoint="sh"), "entrypoint has to be a list of texts"),
        (lambda: docker_job("alpine", 3), "command has to be a list of texts"),
        (lambda: wasm_job("ipfs://Qm", inputs=["ipfs://Qm"]), "inputs has to hold dicts, such as {'Source': "),
        (lambda: docker_job("alpine", inputs="ipfs://Qm"), "'ipfs://CID' are for the operator's own inputs."),
        (lambda: docker_job("alpine", constraints="a=b"), "constraints has to be a list of dicts, such as [{'Key': "),
        (lambda: docker_job("alpine", constraints={"a": "b"}), "and is one dict."),
        (
            lambda: docker_job("alpine", env="SECRET=1"),
            "env has to be a dict, such as {'MODE': 'fast'}, and is one text.",
        ),
        (lambda: docker_job("alpine", labels=["a"]), "labels has to be a dict"),
        (lambda: docker_job("alpine", resources="1"), "resources has to be a dict, such as {'CPU': '1'"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_named_with_the_right_one(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        call()
