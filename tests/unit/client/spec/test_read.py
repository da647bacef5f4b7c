from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.spec import merge_env, read_job_spec, require_waitable

Make = Callable[..., dict[str, Any]]


def refusal(job: Any) -> InvalidJobSpec:
    with pytest.raises(InvalidJobSpec) as caught:
        read_job_spec(job)
    return caught.value


def change_case(value: Any, seed: int) -> Any:
    """The same mapping with its keys in random case, parameters and environment names aside."""
    chance = random.Random(seed)

    def change(node: Any) -> Any:
        if isinstance(node, list):
            return [change(item) for item in node]
        if not isinstance(node, dict):
            return node
        return {
            "".join(chance.choice((letter.lower(), letter.upper())) for letter in key): item
            if key in ("Env", "Labels", "Meta")
            else change(item)
            for key, item in node.items()
        }

    return change(value)


FULL = {
    "Name": "nightly",
    "Namespace": "science",
    "Type": "batch",
    "Priority": 5,
    "Count": 2,
    "Constraints": [
        {"Key": "example.org/region", "Operator": "in", "Values": ["eu", "us", ""]},
        {"Key": "gpu", "Operator": "exists"},
    ],
    "Meta": {"Owner": "me"},
    "Labels": {"Team": "data"},
    "Tasks": [
        {
            "Name": "main",
            "Engine": {
                "Type": "docker",
                "Params": {
                    "Image": "alpine:3.20",
                    "Entrypoint": ["/bin/sh"],
                    "Parameters": ["-c", "echo hi"],
                    "EnvironmentVariables": ["http_proxy=x"],
                    "WorkingDirectory": "/work",
                },
            },
            "Publisher": {"Type": "s3", "Params": {"Bucket": "b", "Key": "k/{jobID}", "Encoding": "plain"}},
            "Env": {"MODE": "fast"},
            "Meta": {"Step": "1"},
            "InputSources": [
                {"Source": {"Type": "s3", "Params": {"Bucket": "b", "Key": "in/*"}}, "Target": "/inputs", "Alias": "in"}
            ],
            "ResultPaths": [{"Name": "outputs", "Path": "/outputs"}],
            "Resources": {"CPU": "500m", "Memory": "1GiB", "Disk": "10 GB", "GPU": "1"},
            "Network": {"Type": "HTTP", "Domains": ["example.com"]},
            "Timeouts": {"ExecutionTimeout": 60, "QueueTimeout": 30, "TotalTimeout": 300},
        }
    ],
}


@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("write", [lambda value: value, json.dumps, yaml.safe_dump])
def test_a_job_is_read_from_a_dict_json_or_yaml_with_or_without_its_outer_key(
    write: Callable[[Any], Any], *, outer: bool
) -> None:
    assert read_job_spec(write({"Job": FULL} if outer else FULL)).to_wire() == FULL


@given(st.integers())
def test_keys_may_be_written_in_any_case(seed: int) -> None:
    assert read_job_spec(change_case(FULL, seed)).to_wire() == FULL


def test_null_is_what_is_not_there(docker: Make) -> None:
    job = docker({"Labels": None, "Count": None, "Constraints": None}, InputSources=None, Env=None, Timeouts=None)
    assert read_job_spec(job).to_wire() == {**docker(), "Count": 1}


def test_every_problem_is_named_in_the_users_own_spelling() -> None:
    error = refusal(
        "job:\n"
        "  type: batch\n"
        "  count: '3'\n"
        "  ID: j-1\n"
        "  tasks:\n"
        "  - engine: {type: Docker, params: {imge: alpine, parameters: echo}}\n"
        "    Env: {a: b, B: '', C: true}\n"
        "    resources: {cpu: lots}\n"
    )
    assert str(error).splitlines() == [
        "The job specification has 9 problems:",
        "- job.count: must be a whole number, not the text '3'",
        "- job.tasks[0].engine.params.Image: is missing",
        "- job.tasks[0].engine.params.parameters: must be a list, not the text 'echo'",
        "- job.tasks[0].engine.params.imge: is not a known key. Did you mean `Image`?",
        "- job.tasks[0].Env.a: must be named in upper-case letters, digits and `_`, beginning with a letter",
        "- job.tasks[0].Env.B: is empty, and the server refuses empty variables",
        '- job.tasks[0].Env.C: is a truth value, and must be text; put it in quotes: "true"',
        "- job.tasks[0].resources.cpu: is 'lots', and must be a number of cores such as `0.5` or `500m`",
        "- job.ID: is set by the server. Leave it out.",
    ]


def test_a_single_problem_carries_its_place_and_its_remedy(docker: Make) -> None:
    error = refusal(docker(Enviroment={"A": "b"}))
    assert error.place == "Tasks[0].Enviroment"
    assert error.hint == "Did you mean `Env`?"


@pytest.mark.parametrize("job", [None, 5, [], "just text", "- a\n- b", '["Type"]'])
def test_what_is_no_mapping_is_refused(job: Any) -> None:
    assert "mapping" in str(refusal(job))


JOB_PROBLEMS = [
    ({"Type": None}, "Type: is missing"),
    ({"Type": "cron"}, "Type: is 'cron', and must be one of batch, ops, service, daemon"),
    ({"Type": 1}, "Type: must be text, not the number 1"),
    ({"Tasks": []}, "Tasks: is empty"),
    ({"Tasks": {}}, "Tasks: must be a list, not a mapping"),
    ({"Tasks": None}, "Tasks: is missing"),
    ({"Tasks": ["x"]}, "Tasks[0]: must be a mapping of keys to values, not the text 'x'"),
    ({"Count": 0}, "Count: is 0, and the server would report success without running anything"),
    ({"Count": -1}, "Count: is -1, and must be 1 or more"),
    ({"Count": "3"}, "Count: must be a whole number, not the text '3'"),
    ({"Count": True}, "Count: must be a whole number, not true"),
    ({"Count": 1.5}, "Count: must be a whole number, not the number 1.5"),
    ({"Type": "ops", "Count": 2}, "Count: is 2, and ops jobs run once on every node"),
    ({"Type": "daemon", "Count": 2}, "Count: is 2, and daemon jobs run once on every node"),
    ({"State": {}}, "State: is set by the server"),
    ({"version": 1}, "version: is set by the server"),
    ({"Revision": 1}, "Revision: is set by the server"),
    ({"CreateTime": 1}, "CreateTime: is set by the server"),
    ({"ModifyTime": 1}, "ModifyTime: is set by the server"),
    ({"Taks": []}, "Taks: is not a known key. Did you mean `Tasks`?"),
    ({"xyz": 1}, "xyz: is not a known key. Known are Name, Namespace"),
    ({"count": 1, "Count": 1}, "`count` and `Count` are the same key"),
    ({"Labels": {"a": True}}, "Labels.a: must be text, and true is a truth value"),
    ({"Labels": ["a"]}, "Labels: must be a mapping"),
    ({"Constraints": [{"Key": "a", "Operator": "near"}]}, "Constraints[0].Operator: is 'near'"),
    ({"Constraints": [{"Key": "", "Operator": "exists"}]}, "Constraints[0].Key: is empty"),
    ({"Constraints": [{"Key": "a", "Operator": "in"}]}, "Constraints[0].Values: must hold at least one value"),
    ({"Constraints": [{"Key": "a", "Operator": "!", "Values": ["b"]}]}, "Constraints[0].Values: must be empty"),
    ({"Constraints": [{"Key": "a", "Operator": "gt", "Values": ["1", "2"]}]}, "Values: must hold exactly one value"),
    # What no scheduler can read keeps a job Pending for ever.
    ({"Constraints": [{"Key": "a b", "Operator": "exists"}]}, "Constraints[0].Key: is 'a b', which no label can be"),
    ({"Constraints": [{"Key": "A.b/c", "Operator": "exists"}]}, "Constraints[0].Key: is 'A.b/c', which no label"),
    ({"Constraints": [{"Key": "a", "Operator": "=", "Values": ["x y"]}]}, "Values: is 'x y', which no label can have"),
    ({"Constraints": [{"Key": "a", "Operator": "gt", "Values": ["x"]}]}, "Values: is 'x', and `gt` compares whole"),
]


@pytest.mark.parametrize(("keys", "message"), JOB_PROBLEMS)
def test_a_wrong_job_is_refused(docker: Make, keys: dict[str, Any], message: str) -> None:
    assert message in str(refusal({**docker(), **keys}))


def source(kind: str, target: str = "/inputs", **params: Any) -> dict[str, Any]:
    return {"InputSources": [{"Source": {"Type": kind, "Params": params}, "Target": target}]}


CID = "QmRNmZCoujKHMqgXypPfKkYJCDV4r8WogVoDVSrLmwEoFR"
TASK_PROBLEMS = [
    ({"Engine": None}, "Tasks[0].Engine: is missing"),
    ({"Engine": {"Type": ""}}, "Tasks[0].Engine.Type: is empty"),
    ({"Engine": {"Type": "a b"}}, "Tasks[0].Engine.Type: is 'a b', which is not the name of a type"),
    ({"Engine": {"Type": "docker"}}, "Tasks[0].Engine.Params.Image: is missing"),
    ({"Engine": {"Type": "docker", "Params": {"Image": ""}}}, "Params.Image: is empty"),
    ({"Engine": {"Type": "docker", "Params": {"Image": "a", "WorkingDirectory": "w"}}}, "must be an absolute path"),
    ({"Engine": {"Type": "docker", "Params": {"Image": "a", "EnvironmentVariables": ["A"]}}}, "Variables[0]: must be"),
    ({"Engine": {"Type": "docker", "Params": {"Image": "a", "EnvironmentVariables": ["=A"]}}}, "written NAME=value"),
    ({"Engine": {"Type": "docker", "Params": {"Image": "a", "EnvironmentVariables": ["BACALHAU_X=1"]}}}, "BACALHAU_"),
    ({"Engine": {"Type": "docker", "Params": {"Image": "a", "Parameters": [True]}}}, "Parameters[0]: must be text"),
    ({"Engine": {"Type": "docker", "Params": {"Image": "a", "Parameters": [None]}}}, "Parameters[0]: must be text"),
    ({"Engine": {"Type": "wasm"}}, "Tasks[0].Engine.Params.EntryModule: is missing"),
    ({"Engine": {"Type": "wasm", "Params": {"EntryModule": 1}}}, "EntryModule: must be the target of an input source"),
    ({"Engine": {"Type": "wasm", "Params": {"EntryModule": "x"}}}, "EntryModule: is 'x', and must be an absolute path"),
    ({"Engine": {"Type": "wasm", "Params": {"EntryModule": {"Sorce": 1}}}}, "EntryModule.Sorce: is not a known key"),
    ({"Env": {"foo": "1"}}, "Tasks[0].Env.foo: must be named in upper-case"),
    ({"Env": {"": "1"}}, "has an empty name"),
    ({"Env": {"1A": "1"}}, "beginning with a letter"),
    ({"Env": {"BACALHAU_X": "1"}}, "Tasks[0].Env.BACALHAU_X: may not begin with BACALHAU_"),
    ({"Env": {"FOO": ""}}, "Tasks[0].Env.FOO: is empty"),
    ({"Env": {"FOO": None}}, "Tasks[0].Env.FOO: is empty"),
    ({"Env": {"FOO": [1]}}, "Tasks[0].Env.FOO: must be text"),
    ({"Env": ["FOO=1"]}, "Tasks[0].Env: must be a mapping"),
    ({"Publisher": {"Type": "s3", "Params": {"Bucket": "b"}}}, "Publisher.Params.Key: is missing"),
    ({"Publisher": {"Type": "s3", "Params": {"Bucket": "b", "Key": "k", "Encoding": "zip"}}}, "one of gzip, plain"),
    ({"Publisher": {"Type": "ipfs", "Params": {"CID": "x"}}}, "Publisher.Params.CID: is not a known key"),
    ({"InputSources": [{"Target": "/a"}]}, "InputSources[0].Source: is missing"),
    ({"InputSources": [{"Source": {"Type": "ipfs", "Params": {"CID": CID}}}]}, "InputSources[0].Target: is missing"),
    (source("ipfs", CID="nope"), "Source.Params.CID: 'nope' is not a CID"),
    (source("ipfs", CID=f"{CID}/outputs"), "name a path in it as `ipfs://CID/path:/mount`"),
    (source("ipfs", CI=CID), "Source.Params.CI: is not a known key. Did you mean `CID`?"),
    (source("ipfs", "inputs", CID=CID), "Target: is 'inputs', and must be an absolute path"),
    (source("ipfs", "/a/../b", CID=CID), "without `.`, `..` and empty parts"),
    (source("ipfs", "/", CID=CID), "is the root folder"),
    (source("s3", Key="k"), "Source.Params.Bucket: is missing"),
    (source("urlDownload", URL="ftp://host/x"), "is not an http:// or https:// URL"),
    (source("inline", URL="hello"), "is not a `data:` URL"),
    (source("inline", URL="data:;base64,a"), "whose base64 is broken"),
    (source("localDirectory", SourcePath="data"), "SourcePath: is 'data', and must be an absolute path"),
    (source("local", SourcePath="/data", CreateAs="link"), "CreateAs: is 'link', and must be one of"),
    (source("s3PreSigned", PreSignedURL="https://signed"), "Source.Type: cannot be 's3PreSigned' here"),
    (source("s3managed"), "publish to `s3` or `ipfs`"),
    ({"InputSources": source("s3", Bucket="b")["InputSources"] * 2}, "InputSources[1].Target: is '/inputs', which"),
    ({"ResultPaths": [{"Name": "a", "Path": "a"}]}, "ResultPaths[0].Path: is 'a', and must be an absolute path"),
    ({"ResultPaths": [{"Path": "/a"}]}, "ResultPaths[0].Name: is missing"),
    ({"ResultPaths": [{"Name": "a/b", "Path": "/a"}]}, "without a slash"),
    ({"ResultPaths": [{"Name": "..", "Path": "/a"}]}, "without a slash"),
    ({"ResultPaths": [{"Name": "stderr", "Path": "/a"}]}, "which every result holds already"),
    ({"ResultPaths": [{"Name": "exitCode", "Path": "/a"}]}, "which every result holds already"),
    ({"ResultPaths": [{"Name": "a", "Path": "/a"}, {"Name": "a", "Path": "/b"}]}, "ResultPaths[1].Name: is 'a'"),
    ({"ResultPaths": [{"Name": "a", "Path": "/a"}, {"Name": "b", "Path": "/a/"}]}, "ResultPaths[1].Path: is '/a'"),
    ({**source("s3", Bucket="b"), "ResultPaths": [{"Name": "i", "Path": "/inputs"}]}, "where an input is mounted"),
    ({"Resources": {"CPU": "-1"}}, "Resources.CPU: is '-1'"),
    ({"Resources": {"CPU": True}}, "Resources.CPU: must be text"),
    ({"Resources": {"Memory": "1 bushel"}}, "Resources.Memory: is '1 bushel', and must be a size"),
    ({"Resources": {"Disk": -5}}, "Resources.Disk: is '-5'"),
    ({"Resources": {"GPU": "0.5"}}, "Resources.GPU: is '0.5', and must be a whole number"),
    ({"Resources": {"CPUs": 1}}, "Resources.CPUs: is not a known key. Did you mean `CPU`?"),
    ({"Network": {"Type": "wifi"}}, "Network.Type: is 'wifi'"),
    ({"Network": {"Type": "Full", "Domains": ["a.org"]}}, "Network.Domains: can be given for the network type HTTP"),
    ({"Network": {"Domains": ["a.org"]}}, "Network.Domains: can be given for the network type HTTP"),
    ({"Network": {"Type": "None", "Ports": [{"Name": "web"}]}}, "Network.Ports: can be given for"),
    ({"Network": {"Type": "Host", "Ports": [{"Name": "w", "Target": 80}]}}, "Network.Ports[0].Target: can be given"),
    ({"Network": {"Type": "Host", "Ports": [{"Name": "w", "Static": 80}]}}, "Network.Ports[0].Static"),
    ({"Timeouts": {"ExecutionTimeout": -1}}, "Timeouts.ExecutionTimeout: is -1, and must not be negative"),
    ({"Timeouts": {"QueueTimeout": "1h"}}, "Timeouts.QueueTimeout: must be a whole number"),
    ({"Timeouts": {"TotalTimeout": True}}, "Timeouts.TotalTimeout: must be a whole number, not true"),
    ({"Timeouts": {"Execution": 1}}, "Timeouts.Execution: is not a known key. Did you mean `ExecutionTimeout`?"),
]


@pytest.mark.parametrize(("keys", "message"), TASK_PROBLEMS)
def test_a_wrong_task_is_refused(docker: Make, keys: dict[str, Any], message: str) -> None:
    assert message in str(refusal(docker(**keys)))


def test_more_than_one_task_is_refused(docker: Make) -> None:
    job = docker()
    assert "the server would silently run the first only" in str(refusal({**job, "Tasks": job["Tasks"] * 2}))


def test_a_signed_url_is_never_repeated(docker: Make) -> None:
    secret = "https:/host/x?X-Amz-Signature=secret"
    assert "secret" not in str(refusal(docker(**source("urlDownload", URL=secret))))
    spec = read_job_spec(docker(**source("urlDownload", URL="https://host/x?X-Amz-Signature=secret")))
    assert "secret" not in repr(spec)


def test_a_result_path_of_webassembly_must_be_named_as_it_is_mounted(wasm: Make) -> None:
    error = refusal(wasm(ResultPaths=[{"Name": "outputs", "Path": "/data/out"}]))
    assert error.place == "Tasks[0].ResultPaths[0]"
    assert error.hint == "Write Name and Path alike: Name: outputs, Path: /outputs."
    assert read_job_spec(wasm(ResultPaths=[{"Name": "outputs", "Path": "/outputs/"}])).task.result_paths[0].name


def test_a_result_path_of_docker_may_have_another_name(docker: Make) -> None:
    job = docker(ResultPaths=[{"Name": "out", "Path": "/data/out"}])
    assert read_job_spec(job).to_wire()["Tasks"][0]["ResultPaths"] == [{"Name": "out", "Path": "/data/out"}]


def test_a_publisher_may_be_left_to_the_network(docker: Make) -> None:
    # Servers from v1.5 on may have a default publisher, so that results without one are no error of ours.
    job = docker(ResultPaths=[{"Name": "out", "Path": "/out"}], Publisher={"Type": "", "Params": {}})
    assert "Publisher" not in read_job_spec(job).to_wire()["Tasks"][0]


def test_numbers_become_the_text_that_the_server_wants(docker: Make) -> None:
    job = docker(
        {"Labels": {"year": 2024}},
        Resources={"CPU": 0.5, "Memory": 1073741824, "GPU": 1},
        Env={"ALPHA": 0.25, "N": 3},
        Engine={"Type": "docker", "Params": {"Image": "a", "Parameters": ["-n", 3]}},
    )
    wire = read_job_spec(job).to_wire()
    assert wire["Labels"] == {"year": "2024"}
    assert wire["Tasks"][0]["Resources"] == {"CPU": "0.5", "Memory": "1073741824", "GPU": "1"}
    assert wire["Tasks"][0]["Env"] == {"ALPHA": "0.25", "N": "3"}
    assert wire["Tasks"][0]["Engine"]["Params"]["Parameters"] == ["-n", "3"]


@pytest.mark.parametrize("size", ["512Mb", "1GiB", "1.5 gb", "100", "10K", "1,000", "2ti"])
def test_sizes_are_read_as_servers_read_them(docker: Make, size: str) -> None:
    assert read_job_spec(docker(Resources={"Memory": size})).task.resources


def test_types_are_sent_in_the_servers_case(docker: Make) -> None:
    job = docker(
        Engine={"Type": "Docker", "Params": {"image": "a"}},
        Publisher={"Type": "IPFS"},
        InputSources=[{"Source": {"Type": "URLDOWNLOAD", "Params": {"url": "https://h/x"}}, "Target": "/x"}],
        Network={"Type": "http"},
    )
    task = read_job_spec({**job, "Type": "Batch"}).to_wire()["Tasks"][0]
    assert task["Engine"] == {"Type": "docker", "Params": {"Image": "a"}}
    assert task["Publisher"] == {"Type": "ipfs", "Params": {}}
    assert task["InputSources"][0]["Source"] == {"Type": "urlDownload", "Params": {"URL": "https://h/x"}}
    assert task["Network"] == {"Type": "HTTP"}


def test_unknown_engines_sources_and_publishers_are_the_servers_to_judge(docker: Make) -> None:
    engine = {"Type": "NoSuch", "Params": {"anyKey": {"Deep": [1, None, 2.5, ""]}}}
    inputs = [{"Source": {"Type": "tape", "Params": {"Reel": 1}}, "Target": "/x"}]
    job = docker(Engine=engine, InputSources=inputs, Publisher={"Type": "fax", "Params": {"Number": 5}})
    assert read_job_spec(job).to_wire()["Tasks"] == job["Tasks"]


@pytest.mark.parametrize("kind", ["ops", "daemon"])
@pytest.mark.parametrize("count", [None, 0, 1])
def test_jobs_on_every_node_are_sent_with_a_count_of_one(docker: Make, kind: str, count: int | None) -> None:
    assert read_job_spec(docker({"Type": kind, "Count": count})).to_wire()["Count"] == 1


@pytest.mark.parametrize(("kind", "ends"), [("batch", True), ("ops", True), ("service", False), ("daemon", False)])
def test_only_jobs_that_end_can_be_waited_for(docker: Make, kind: str, *, ends: bool) -> None:
    spec = read_job_spec(docker({"Type": kind}))
    if ends:
        require_waitable(spec)
    else:
        with pytest.raises(InvalidJobSpec, match=f"A {kind} job runs until it is stopped"):
            require_waitable(spec)


def test_the_operators_environment_wins(docker: Make) -> None:
    spec = read_job_spec(docker(Env={"A": "task", "B": "task"}))
    assert merge_env(spec, {"B": 2, "C": "new"}).task.env == {"A": "task", "B": "2", "C": "new"}
    assert spec.task.env == {"A": "task", "B": "task"}
    assert merge_env(spec, {}) is spec
    assert merge_env(spec, None) is spec


def test_the_operators_environment_wins_over_the_engines_own(docker: Make, old_wasm: Make) -> None:
    engine = {"Type": "docker", "Params": {"Image": "a", "EnvironmentVariables": ["A=engine", "path=engine"]}}
    merged = merge_env(read_job_spec(docker(Engine=engine)), {"A": "operator"}).to_wire()["Tasks"][0]
    assert merged["Engine"]["Params"]["EnvironmentVariables"] == ["path=engine"]
    assert merged["Env"] == {"A": "operator"}
    old = merge_env(read_job_spec(old_wasm({"EnvironmentVariables": {"A": "x", "B": "y"}})), {"A": "operator"})
    assert old.to_wire()["Tasks"][0]["Env"] == {"A": "operator", "B": "y"}


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"foo": "1"}, "env.foo must be named in upper-case"),
        ({"FOO": ""}, "env.FOO is empty"),
        ({"FOO": None}, "env.FOO is empty"),
        ({"FOO": True}, "env.FOO is a truth value"),
        ({"FOO": {}}, "env.FOO must be text"),
        ({1: "a"}, "env.1 must be named"),
        ("A=1", "env: must be a dict of names and values"),
    ],
)
def test_a_wrong_environment_of_the_operator_is_refused(docker: Make, env: Any, message: str) -> None:
    with pytest.raises(InvalidJobSpec, match=message):
        merge_env(read_job_spec(docker()), env)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["Type", "tasks", "Count", "Labels", "constraints", "Meta", "Name", "ID", "Tsks"])


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(KEYS, JSON_VALUES, max_size=4))
def test_no_value_makes_reading_fail_in_another_way(job: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidJobSpec):  # any other error fails the test
        read_job_spec(job)
