"""What a server takes, what it makes of it, and what it refuses in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_bacalhau.devnode.emulation import emulation
from airflow_provider_bacalhau.devnode.godecode import BodyError
from airflow_provider_bacalhau.devnode.jobspec import (
    SpecError,
    UnreadableParamsError,
    accept,
    decode_submission,
    same_job,
)
from airflow_provider_bacalhau.devnode.resources import humanize, parse_resources
from airflow_provider_bacalhau.devnode.validation import duration

TASK = {"Name": "main", "Engine": {"Type": "wasm", "Params": {"EntryModule": "/m.wasm"}}}


def decoded(job: Any) -> Any:
    return decode_submission(json.dumps({"Job": job}).encode()).job


def accepted(**task: Any) -> dict[str, Any]:
    return accept(decoded({"Type": "batch", "Tasks": [{**TASK, **task}]})).spec


# Texts of a running v1.9.3.
NO_KEY = "invalid character 'n' looking for beginning of object key string"
REFUSALS = [
    ({}, "missing job type\nmissing job tasks"),
    ({"Type": "cron"}, 'invalid job type: "cron"\nmissing job tasks'),
    ({"Type": "batch", "Count": -1, "Tasks": [TASK]}, "job count must be >= 0"),
    (
        {"Type": "ops", "Count": 2, "Tasks": [TASK]},
        "ops jobs cannot specify count > 1 as they run on all matching nodes",
    ),
    ({"Type": "batch", "Tasks": [{"Name": "main"}]}, "task main validation failed: invalid engine: nil spec config"),
    (
        {"Type": "batch", "Tasks": [{"Name": "main", "Engine": {}}]},
        "task main validation failed: invalid engine: missing spec type",
    ),
]
TASK_REFUSALS = [
    ({"Timeouts": {"ExecutionTimeout": -1}}, "invalid timeouts: invalid execution timeout value: 0s"),
    ({"Timeouts": {"QueueTimeout": -1}}, "invalid timeouts: invalid queue timeout value: -1s"),
    ({"Env": {"foo": "bar"}}, "environment variable 'foo' must be uppercase"),
    ({"Env": {"FOO": ""}}, "environment variable 'FOO' cannot have empty value"),
    ({"Env": {"A-B": "x"}}, "environment variable 'A-B' can only contain letters, numbers, and underscores"),
    ({"Resources": {"CPU": "-1"}}, "invalid resources: invalid CPU value: -1.000000"),
    ({"Resources": {"CPU": "x", "GPU": "q"}}, "invalid resources: invalid GPU value: q"),
    ({"Resources": {"CPU": "x", "Memory": "y"}}, "invalid resources: invalid CPU value: x\ninvalid memory value: y"),
    (
        {"Network": {"Type": "None", "Domains": ["a.com"]}},
        "invalid network: domains can only be set for HTTP network mode",
    ),
    ({"ResultPaths": [{"Name": "", "Path": "o"}]}, "invalid output: missing name\nresult path `o` must be absolute"),
    ({"InputSources": [{"Source": {"Type": "inline"}}]}, "invalid input sources: input source is missing a target"),
    ({"ResultPaths": [{"Name": "o", "Path": "/o"}]}, "publisher must be set if result paths are set"),
    (
        {"Timeouts": {"ExecutionTimeout": 10, "QueueTimeout": 10, "TotalTimeout": 15}},
        (
            "task timeouts validation failed: "
            "execution timeout 10s and queue timeout 10s should be less than total timeout 15s"
        ),
    ),
    (
        {"InputSources": [{"Source": {"Type": "inline"}, "Target": "/a"}] * 2},
        "input source with target '/a' already exists",
    ),
]


@pytest.mark.parametrize(("job", "message"), REFUSALS)
def test_a_wrong_job_is_refused_in_the_servers_words(job: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as refusal:
        accept(decoded(job))
    assert str(refusal.value) == message


@pytest.mark.parametrize(("task", "message"), TASK_REFUSALS)
def test_a_wrong_task_is_refused_in_the_servers_words(task: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as refusal:
        accepted(**task)
    assert str(refusal.value) == f"task main validation failed: {message}"


def test_a_missing_job_is_refused() -> None:
    with pytest.raises(SpecError, match=r"^empty/nil job$"):
        accept(decode_submission(b"{}").job)


def test_keys_are_read_in_any_case_and_unknown_ones_ignored() -> None:
    lower = decoded(
        {"type": "batch", "COUNT": 2, "nonsense": 1, "tasks": [{"name": "main", "engine": {"type": "wasm"}}]}
    )
    assert accept(lower).spec["Count"] == 2


@pytest.mark.parametrize(
    ("version", "given", "kept"),
    [
        ("v1.3.2", {}, {"ExecutionTimeout": 1800}),
        ("v1.3.2", {"QueueTimeout": 10}, {"ExecutionTimeout": 1800, "QueueTimeout": 10}),
        ("v1.3.2", {"TotalTimeout": 180}, {"TotalTimeout": 180}),
        ("v1.3.2", {"TotalTimeout": 1900, "QueueTimeout": 200}, {"TotalTimeout": 1900, "QueueTimeout": 200}),
        ("v1.4.0", {}, {"TotalTimeout": 1800}),
        ("v1.9.3", {}, {}),
    ],
)
def test_limits_that_are_left_out_are_those_of_the_version(
    version: str, given: dict[str, int], kept: dict[str, int]
) -> None:
    task = {**TASK, "Timeouts": given, "Publisher": {"Type": "local"}}
    spec = accept(decoded({"Type": "batch", "Count": 1, "Tasks": [task]}), emulation(version)).spec
    assert spec["Tasks"][0]["Timeouts"] == kept


def test_what_is_left_out_is_filled_in() -> None:
    spec = accept(decoded({"Type": "batch", "Tasks": [TASK]})).spec
    assert (spec["Namespace"], spec["Count"], spec["Priority"]) == ("default", 1, 0)
    assert spec["Tasks"][0]["Resources"] == {"CPU": "500m", "Memory": "512mb"}
    assert spec["Tasks"][0]["Network"] == {"Type": "Default"}
    assert accept(decoded({"Type": "ops", "Tasks": [TASK]})).spec["Count"] == 0


def test_server_fields_come_back_as_warnings() -> None:
    job = {
        "Type": "batch",
        "Tasks": [TASK, TASK],
        "ID": "j-mine",
        "State": {"StateType": "Completed"},
        "Revision": 3,
        "Version": 2,
        "CreateTime": 1,
        "ModifyTime": 2,
        "Meta": {"bacalhau.org/a": "b", "mine": "c"},
    }
    taken = accept(decoded(job))
    assert taken.warnings == [
        "job state is ignored when submitting a job",
        "job revision is ignored when submitting a job",
        "job version is ignored when submitting a job",
        "job create time is ignored when submitting a job",
        "job modify time is ignored when submitting a job",
        "job ID is ignored when submitting a batch job",
        "only one task is supported per job",
        'job meta key "bacalhau.org/a" is reserved and will be ignored',
    ]
    assert taken.spec["Meta"] == {"mine": "c"}
    assert len(taken.spec["Tasks"]) == 1
    assert taken.job_id == ""


def test_the_old_shape_of_wasm_parameters_is_rewritten() -> None:
    source = {"Source": {"Type": "inline", "Params": {"URL": "data:,x"}}}
    task = accepted(
        Engine={"Type": "wasm", "Params": {"EntryModule": source, "EntryPoint": "_start", "ImportModules": [source]}}
    )
    assert task["Tasks"][0]["Engine"]["Params"] == {
        "EntryModule": "/wasm/entry.wasm",
        "Entrypoint": "_start",
        "ImportModules": ["/wasm/imports/module_0.wasm"],
        "Parameters": [],
    }
    assert [s["Target"] for s in task["Tasks"][0]["InputSources"]] == [
        "/wasm/entry.wasm",
        "/wasm/imports/module_0.wasm",
    ]


def test_an_empty_entry_module_is_what_the_server_chokes_on() -> None:
    with pytest.raises(UnreadableParamsError):
        accepted(Engine={"Type": "wasm", "Params": {"EntryModule": ""}})


def test_the_same_job_is_the_same_whatever_the_spelling() -> None:
    one = accepted(Resources={"CPU": "500m", "Memory": "512 MB"})
    other = accept(decoded({"type": "batch", "count": 1, "tasks": [{**TASK, "resources": {"memory": "512mb"}}]})).spec
    assert same_job(one, other)
    assert not same_job(one, accepted(Env={"A": "b"}))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "{nope",
            f"code=400, message=Syntax error: offset=2, error={NO_KEY}, internal={NO_KEY}",
        ),
        ('{"Job":{"Type":"batch"', "code=400, message=unexpected EOF, internal=unexpected EOF"),
        (
            '{"Job":{"Network":{}, "Tasks":[{"Network":{"Type":"Foo"}}]}}',
            "code=400, message=models.Network: unknown type 'Foo', internal=models.Network: unknown type 'Foo'",
        ),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_in_the_servers_words(body: str, message: str) -> None:
    with pytest.raises(BodyError) as refusal:
        decode_submission(body.encode())
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    "body", ["[]", '{"Job":5}', '{"Job":{"Type":5}}', '{"Job":{"Count":"1"}}', '{"Job":{"Labels":{"a":1}}}']
)
def test_a_value_of_the_wrong_type_is_refused(body: str) -> None:
    with pytest.raises(BodyError, match="Unmarshal type error"):
        decode_submission(body.encode())


def test_what_follows_the_first_value_is_ignored() -> None:
    assert decode_submission(b'{"Force": true} xx').force


@pytest.mark.parametrize(
    ("seconds", "text"), [(2, "2s"), (60, "1m0s"), (3600, "1h0m0s"), (-1, "-1s"), (0, "0s"), (3725, "1h2m5s")]
)
def test_durations_are_worded_as_in_go(seconds: int, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(20221211443, "20 GB"), (199329654374, "199 GB"), (1500, "1.5 kB"), (5, "5 B")]
)
def test_sizes_are_worded_as_the_server_does(count: int, text: str) -> None:
    assert humanize(count) == text


def test_amounts_are_read_as_the_server_reads_them() -> None:
    amounts = parse_resources({"CPU": "500m", "Memory": "512mb", "Disk": "1gib"})
    assert (amounts.cpu, amounts.memory, amounts.disk) == (0.5, 512_000_000, 1 << 30)
