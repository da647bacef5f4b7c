"""The orchestrator API of v1.1–v1.3: lists under other names, less in one answer, fewer timeouts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_bacalhau.client.diagnosis import FailureCategory, JobOutcome
from airflow_provider_bacalhau.client.dialects.answers import error_of
from airflow_provider_bacalhau.client.dialects.orchestrator import OrchestratorDialect
from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
from airflow_provider_bacalhau.client.errors import JobOver, NotFound, NotSupported, RequestRefused
from airflow_provider_bacalhau.client.facts import Job, StopOutcome
from airflow_provider_bacalhau.client.spec import read_job_spec
from airflow_provider_bacalhau.client.states import ExecutionState, JobState
from tests.support.drive import Script, ok
from tests.support.recorded import answer, exchange, recorded

OLD = ("v1.1.6", "v1.3.2")
every_version = pytest.mark.parametrize("version", OLD)


def dialect(version: str) -> OrchestratorDialect:
    return OrchestratorDialect(ServerVersion(version))


def get(version: str, label: str) -> Job:
    """A recorded job; v1.1 is asked three times."""
    labels = [f"{label}: get"]
    if version == "v1.1.6":
        labels += [f"{label}: executions", f"{label}: history"]
    script = Script.of(*(answer(version, one) for one in labels))
    return script.run(dialect(version).get("j-1", executions=True, history=True))


@every_version
@pytest.mark.parametrize(
    ("label", "state", "ends"),
    [
        ("wasm ok", JobState.COMPLETED, [(ExecutionState.COMPLETED, 0)]),
        ("wasm plain return", JobState.COMPLETED, [(ExecutionState.COMPLETED, -1)]),
        ("wasm exit 3", JobState.COMPLETED, [(ExecutionState.COMPLETED, 3)]),
        ("unschedulable", JobState.FAILED, []),
    ],
)
def test_jobs_are_read_with_all_that_belongs_to_them(
    version: str, label: str, state: JobState, ends: list[tuple[ExecutionState, int]]
) -> None:
    job = get(version, label)
    assert job.state is state
    assert [(one.state, one.exit_code) for one in job.executions or ()] == ends
    assert job.history
    assert job.history[0].event.message in {"Job created", "Job submitted"}
    assert (job.namespace, job.type, job.count, job.labels) == ("default", "batch", 1, {"suite": "probe"})


@every_version
@pytest.mark.parametrize(
    ("label", "category"),
    [
        ("wasm ok", None),
        ("wasm exit 3", FailureCategory.PROGRAM_FAILED),
        ("unschedulable", FailureCategory.NO_SUITABLE_NODE),
        ("stopped", FailureCategory.STOPPED_BY_OTHERS),
    ],
)
def test_they_are_judged_as_everywhere(version: str, label: str, category: FailureCategory | None) -> None:
    diagnosis = JobOutcome.of(get(version, label)).diagnosis
    assert (diagnosis.category if diagnosis else None) is category


def test_before_1_2_2_a_job_comes_in_three_answers() -> None:
    script = Script.of(*(answer("v1.1.6", f"wasm ok: {part}") for part in ("get", "executions", "history")))
    script.run(dialect("v1.1.6").get("j-1", executions=True, history=True))
    assert script.lines == [
        "GET /api/v1/orchestrator/jobs/j-1",
        "GET /api/v1/orchestrator/jobs/j-1/executions",
        "GET /api/v1/orchestrator/jobs/j-1/history?event_type=all",
    ]


@pytest.mark.parametrize(("executions", "history", "requests"), [(False, False, 1), (True, False, 2), (False, True, 2)])
def test_only_what_is_wanted_is_asked_for(executions: bool, history: bool, requests: int) -> None:
    answers = [answer("v1.1.6", "wasm ok: get")]
    answers += [answer("v1.1.6", "wasm ok: executions")] if executions else []
    answers += [answer("v1.1.6", "wasm ok: history")] if history else []
    script = Script.of(*answers)
    job = script.run(dialect("v1.1.6").get("j-1", executions=executions, history=history))
    assert ((job.executions is not None), (job.history is not None)) == (executions, history)
    assert len(script.requests) == requests


def test_a_failure_that_only_the_history_explains_is_explained() -> None:
    assert get("v1.1.6", "unschedulable").message.startswith("not enough nodes to run job. requested: 1, available: 0")
    assert get("v1.1.6", "wasm ok").message == ""


@every_version
def test_lists_are_read_under_their_old_names(version: str) -> None:
    page = Script.of(answer(version, "list by label")).run(dialect(version).list(labels={"suite": "probe"}))
    assert page.items
    assert all(job.labels == {"suite": "probe"} for job in page.items)
    results = Script.of(answer(version, "wasm ok: results")).run(dialect(version).results("j-1"))
    assert [(one.type, one.params) for one in results] == [
        ("ipfs", {"CID": "QmRNmZCoujKHMqgXypPfKkYJCDV4r8WogVoDVSrLmwEoFR"})
    ]
    history = Script.of(answer(version, "history events job")).run(dialect(version).history("j-1"))
    assert len(history.items) == 3
    executions = Script.of(answer(version, "wasm ok: executions")).run(dialect(version).executions("j-1"))
    assert executions == get(version, "wasm ok").executions


@every_version
def test_nodes_are_read(version: str) -> None:
    (node,) = Script.of(answer(version, "nodes")).run(dialect(version).nodes())
    assert node.takes_jobs
    assert node.engines == ("wasm",)
    assert node.id == Script.of(answer(version, "agent node")).run(dialect(version).node()).id
    assert node.id


@every_version
def test_recorded_refusals_become_their_errors(version: str) -> None:
    kinds = {
        "get unknown": NotFound,
        "stop unknown": NotFound,
        "results unknown": NotFound,
        "executions unknown": NotFound,
        "history unknown": NotFound,
        "unknown route": NotSupported,
        "stop completed": JobOver,
        "put no type": RequestRefused,
        "list by bad label": RequestRefused,
    }
    for label, kind in kinds.items():
        one = exchange("orchestrator", version, label)
        assert type(error_of(one.request, one.response)) is kind, label


@every_version
def test_every_recorded_refusal_is_an_error_of_the_client(version: str) -> None:
    refusals = [one for one in recorded("orchestrator", version) if one.response.status >= 300]
    assert len(refusals) > 10
    for one in refusals:
        assert error_of(one.request, one.response).server_message, one.label


@pytest.mark.parametrize(
    ("version", "label", "outcome"),
    [
        ("v1.1.6", "running: stop", StopOutcome.STOPPED),
        ("v1.1.6", "stop completed", StopOutcome.ALREADY_COMPLETED),
        ("v1.1.6", "stop failed", StopOutcome.ALREADY_FAILED),
        ("v1.1.6", "stop unknown", StopOutcome.NOT_FOUND),
        ("v1.3.2", "running: stop", StopOutcome.STOPPED),
        ("v1.3.2", "stop completed", StopOutcome.ALREADY_COMPLETED),
        ("v1.3.2", "stop unknown", StopOutcome.NOT_FOUND),
    ],
)
def test_stopping_has_the_same_outcomes(version: str, label: str, outcome: StopOutcome) -> None:
    assert Script.of(answer(version, label)).run(dialect(version).stop("j-1", "why")) is outcome


# -- submitting -------------------------------------------------------------------------------------------------------

SPEC = read_job_spec(
    {
        "Type": "batch",
        "Tasks": [
            {
                "Engine": {"Type": "docker", "Params": {"Image": "busybox"}},
                "Timeouts": {"ExecutionTimeout": 10, "QueueTimeout": 20, "TotalTimeout": 30},
            }
        ],
    }
)


def submitted(version: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    script = Script.of(ok({"JobID": "j-1", "EvaluationID": "e", "Warnings": None}))
    submission = script.run(dialect(version).submit(SPEC))
    task: dict[str, Any] = json.loads(script.requests[0].body or b"")["Job"]["Tasks"][0]
    return task, submission.warnings


def test_timeouts_that_the_server_would_drop_are_left_out_with_a_warning() -> None:
    task, warnings = submitted("v1.1.6")
    assert task["Timeouts"] == {"ExecutionTimeout": 10}
    assert warnings == (
        "This server (v1.1.6) has no Tasks[0].Timeouts.QueueTimeout; it was left out.",
        "This server (v1.1.6) has no Tasks[0].Timeouts.TotalTimeout; it was left out.",
    )


@pytest.mark.parametrize("version", ["v1.3.2", "v1.4.0"])
def test_servers_that_know_them_get_all_timeouts(version: str) -> None:
    task, warnings = submitted(version)
    assert task["Timeouts"] == {"ExecutionTimeout": 10, "QueueTimeout": 20, "TotalTimeout": 30}
    assert warnings == ()


@every_version
def test_a_publisher_is_always_said_to_servers_that_check_before_they_complete(version: str) -> None:
    assert submitted(version)[0]["Publisher"] == {"Type": "", "Params": {}}
    assert "Publisher" not in submitted("v1.4.0")[0]
