"""What is told of a failure: when and where, why each node, who stopped it, and what fails before there is a job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_bacalhau.client import errors
from airflow_provider_bacalhau.client.diagnosis import (
    Diagnosis,
    FailureCategory,
    JobOutcome,
    diagnose,
    diagnosis_of,
    stop_reason,
)
from airflow_provider_bacalhau.client.dialects.orchestrator import OrchestratorDialect
from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
from airflow_provider_bacalhau.client.facts import Event, Execution, HistoryEvent, Job
from airflow_provider_bacalhau.client.states import ExecutionState, JobState
from tests.support import requester
from tests.support.drive import Script
from tests.support.recorded import answer
from tests.support.requester_cases import dialect

C = FailureCategory


def read(version: str, label: str) -> Job:
    labels = [f"{label}: get"] if version != "v1.1.6" else [f"{label}: {part}" for part in ("get", *PARTS)]
    script = Script.of(*(answer(version, one) for one in labels))
    return script.run(OrchestratorDialect(ServerVersion(version)).get("j-1", executions=True, history=True))


def read_by_requester(version: str, label: str) -> Job:
    answers = (requester.exchange(version, f"{label}: {part}").response for part in ("list", "events"))
    return Script.of(*answers).run(dialect(version).get("j-1", executions=True, history=True))


PARTS = ("executions", "history")


# -- when and where ---------------------------------------------------------------------------------------------------


def test_the_block_says_what_where_since_when_and_what_to_do() -> None:
    lines = list(diagnose_recorded("v1.9.3", "wasm exit 3").lines())
    assert lines[0].startswith("PROGRAM_FAILED: Job j-")
    assert lines[0].endswith(": the program failed with exit code 3.")
    assert "in namespace default: Completed since 2026-11-22T" in lines[1]
    assert lines[1].endswith("Z")
    assert "on node n-07b71d7b-9f1f-42ec-abbf-45f74bfcab61: Completed, exit code 3" in lines[2]
    assert lines[3] == "    stderr | warn: going to exit 3"
    assert lines[-1].startswith("What to do: ")


def diagnose_recorded(version: str, label: str) -> Diagnosis:
    found = JobOutcome.of(read(version, label)).diagnosis
    assert found is not None
    return found


def test_the_last_lines_of_stderr_are_shown_with_their_control_characters_made_visible() -> None:
    stderr = "\n".join(f"line {number}\x1b[2J" for number in range(100))
    one = Execution("e-1", "j-1", "n-1", ExecutionState.COMPLETED, exit_code=1, stderr=stderr)
    facts = diagnose(make(JobState.COMPLETED), [one]).facts
    shown = [fact for fact in facts if "stderr" in fact]
    assert len(shown) == 20
    assert shown[-1] == r"  stderr | line 99\x1b[2J"


@pytest.mark.parametrize("version", ["v1.3.2", "v1.4.0", "v1.7.0", "v1.9.3"])
def test_each_node_says_why_it_does_not_take_the_job(version: str) -> None:
    found = diagnose_recorded(version, "unschedulable")
    assert found.category is C.NO_SUITABLE_NODE
    (line,) = [fact for fact in found.facts if "•" in fact]
    assert "node busy with available capacity" in line


def test_a_node_that_was_tried_does_not_hide_what_the_others_say() -> None:
    used_up = "not enough nodes.\n• Node n-1: job already executed on this node more than once"
    failed = [Execution("e-1", "j-1", "n-1", ExecutionState.FAILED, "odd")]
    both = diagnose(make(JobState.FAILED, message=f"{used_up}\n• Node n-2: does not support wasm, only docker"), failed)
    assert any("n-2: does not support wasm" in fact for fact in both.facts)
    alone = diagnose(make(JobState.FAILED, message=used_up), failed)
    assert not any("more than once" in fact for fact in alone.facts)


SIGNED = "failed to begin download from url https://key:pa55@store.example/b/in.csv?X-Amz-Credential=AKIA&X-Amz-Signature=5ec"


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.STOPPED, JobState.QUEUED])
def test_no_signature_or_password_of_an_address_is_told(state: JobState) -> None:
    long = f"{'x' * 250} {SIGNED}"  # the cut goes through the address
    runs = [Execution("e-1", "j-1", "n-1", ExecutionState.FAILED, said, stderr=SIGNED) for said in (SIGNED, long)]
    event = HistoryEvent(Event(SIGNED, "Exec Scanning", {"IsError": "true", "Hint": SIGNED, "Reason": SIGNED}))
    job = make(state, message=f"not enough nodes\n• n-1: {SIGNED}")
    for executions, history in ((runs, []), ([], [event]), ([], []), (runs, [event])):
        told = "\n".join(diagnose(job, executions, history).lines())
        assert "https://store.example/b/in.csv?…" in told
        assert not any(secret in told for secret in ("AKIA", "5ec", "pa55"))
        assert "5ec" not in stop_reason(replace(job, history=tuple(history)))


def test_no_signature_is_told_where_only_the_path_of_an_address_is() -> None:
    told = "Max retries exceeded with url: /b/in.csv?X-Amz-Credential=AKIA%2F1&X-Amz-Signature=5ec&x=1 (sig=5ec)"
    runs = [Execution("e-1", "j-1", "n-1", ExecutionState.COMPLETED, exit_code=1, stderr=told)]
    (line,) = [fact for fact in diagnose(make(JobState.COMPLETED), runs).facts if "stderr" in fact]
    assert line.endswith("with url: /b/in.csv?X-Amz-Credential=…&X-Amz-Signature=…&x=1 (sig=…")


def test_ids_cannot_begin_a_line_nor_move_the_cursor() -> None:
    bad = "x\n::endgroup::\x1b[2J"
    runs = [Execution(bad, bad, bad, ExecutionState.FAILED, bad)]
    job = Job(id=bad, name=bad, namespace=bad, type="batch", count=1, state=JobState.FAILED, message=bad)
    for executions in (runs, runs * 2, []):
        for line in diagnose(job, executions).lines():
            assert "\n" not in line
            assert "\x1b" not in line


# -- recorded with the oldest servers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "label", "category"),
    [
        ("v1.3.2", "bad module", C.MODULE_INVALID),
        ("v1.1.6", "bad module", C.MODULE_INVALID),
    ],
)
def test_causes_on_old_orchestrators(version: str, label: str, category: FailureCategory) -> None:
    found = diagnose_recorded(version, label)
    assert found.category is category
    assert "invalid magic number" in found.summary
    assert not found.category.is_retried


def test_an_input_that_v1_1_cannot_read_is_what_failed() -> None:
    told = "error calculating resource requirements for job"
    said = f"{told}: error getting job disk space requirements: missing data prefix"
    failed = [Execution("e-1", "j-1", "n-1", ExecutionState.FAILED, said)]
    assert diagnose(make(JobState.FAILED, message=said), failed).category is C.INPUT_UNAVAILABLE


@pytest.mark.parametrize("version", requester.VERSIONS)
def test_causes_on_the_requester_api(version: str) -> None:
    found = JobOutcome.of(read_by_requester(version, "bad module")).diagnosis
    assert found is not None
    assert found.category is C.MODULE_INVALID


# -- who stopped it ---------------------------------------------------------------------------------------------------

OWN_WORDS = [("v1.1.6", "probe says stop"), ("v1.3.2", "probe says stop"), ("v1.4.0", "probe says stop")]
OWN_WORDS += [("v1.7.0", "probe says stop"), ("v1.9.3", "probe says stop")]


@pytest.mark.parametrize(("version", "reason"), OWN_WORDS)
def test_why_a_job_was_stopped_is_told_in_the_words_of_whoever_did(version: str, reason: str) -> None:
    job = read(version, "stopped")
    assert stop_reason(job) == reason
    found = JobOutcome.of(job).diagnosis
    assert found is not None
    assert found.summary == f"Job {job.id} was stopped saying '{reason}'."


@pytest.mark.parametrize(
    ("version", "reason"), [("v0.3.29", "probe"), ("v1.0.3", "probe"), ("v1.1.6", ""), ("v1.3.2", "")]
)
def test_later_requesters_keep_no_reason(version: str, reason: str) -> None:
    assert stop_reason(read_by_requester(version, "cancelled")) == reason


def test_a_job_that_was_not_stopped_has_no_such_reason() -> None:
    assert stop_reason(make(JobState.FAILED, message="broken")) == ""
    assert stop_reason(make(JobState.STOPPED)) == ""


# -- before there is a job --------------------------------------------------------------------------------------------


def make(state: JobState, **other: Any) -> Job:
    return Job(id="j-1", name="n", namespace="default", type="batch", count=1, state=state, **other)


FAILED = Diagnosis(C.OUT_OF_MEMORY, "Too much.")
TWO_FAILED = tuple(Execution(f"e-{n}", "j-1", "n-1", ExecutionState.FAILED, "manifest unknown") for n in range(2))
HOPELESS = JobOutcome.of(make(JobState.QUEUED, executions=TWO_FAILED), is_hopeless=True)
DENIED = "user 'ro' does not have the required capability 'write:job'"

WITHOUT_A_JOB: list[tuple[errors.BacalhauError, FailureCategory]] = [
    (errors.InvalidJobSpec("No such engine.", place="Tasks[0].Engine"), C.REFUSED_SPEC),
    (errors.RequestRefused("Bad.", method="PUT", path="/jobs", status=400), C.REFUSED_SPEC),
    (errors.NotAuthorised("Not allowed.", reason=DENIED), C.NOT_AUTHORISED),
    (errors.KeyRefused("Not this key."), C.NOT_AUTHORISED),
    (errors.Unreachable("Nobody there."), C.UNREACHABLE),
    (errors.SubmissionUnclear("Perhaps."), C.UNREACHABLE),
    (errors.ServerUnavailable("Not now.", status=503), C.UNREACHABLE),
    (errors.WaitTimeout("Too late."), C.WAIT_TIMEOUT),
    (errors.JobLost("j-1", ["it was seen", "it is gone"]), C.NODE_LOST),
    (errors.JobFailed(FAILED), C.OUT_OF_MEMORY),
    (errors.JobHopeless(HOPELESS), C.IMAGE_NOT_FOUND),
    (errors.ConfigurationError("No host."), C.MISCONFIGURED),
    (errors.NotSupported("No logs."), C.MISCONFIGURED),
    (errors.NotFound("No such job."), C.NOT_FOUND),
    (errors.UnexpectedAnswer("A web page."), C.UNKNOWN),
    (errors.BacalhauError("Something."), C.UNKNOWN),
]


@pytest.mark.parametrize(("error", "category"), WITHOUT_A_JOB, ids=[type(row[0]).__name__ for row in WITHOUT_A_JOB])
def test_what_fails_before_there_is_a_job_has_a_diagnosis_too(
    error: errors.BacalhauError, category: FailureCategory
) -> None:
    found = diagnosis_of(error)
    assert found.category is category
    assert found.summary
    assert "\n" not in found.summary


def test_the_missing_right_is_named() -> None:
    assert "missing right: write:job" in diagnosis_of(errors.NotAuthorised("Not allowed.", reason=DENIED)).facts


def test_a_lost_job_comes_with_its_evidence() -> None:
    found = diagnosis_of(errors.JobLost("j-1", ["it was last seen Running", "since noon it is denied"]))
    assert found.summary == "Job j-1 is lost: it was last seen Running; since noon it is denied."
    assert found.facts == ("it was last seen Running", "since noon it is denied")
    assert found.category.is_retried


def test_where_an_exchange_failed_is_told_without_what_was_asked_or_sent() -> None:
    refused = errors.RequestRefused(
        "Bad.", hint="Mend it.", method="PUT", path="/api/v1/jobs", status=400, server_message="no\x1b tasks"
    )
    assert list(diagnosis_of(refused).lines()) == [
        "REFUSED_SPEC: Bad.",
        "  PUT /api/v1/jobs: HTTP 400",
        r"  server says: no\x1b tasks",
        "What to do: Mend it.",
    ]


def test_a_list_of_mistakes_becomes_one_sentence() -> None:
    problems = "".join(f"\n- {number}: is wrong" for number in range(25))
    lines = list(diagnosis_of(errors.InvalidJobSpec(f"25 problems:{problems}")).lines())
    assert lines[:3] == ["REFUSED_SPEC: 25 problems:", "  - 0: is wrong", "  - 1: is wrong"]
    assert lines[-2:] == ["  - 19: is wrong", "  … 5 more"]


def test_only_what_must_fail_again_is_not_retried() -> None:
    assert {one for one in C if not one.is_retried} == {
        C.REFUSED_SPEC,
        C.MODULE_INVALID,
        C.NOT_AUTHORISED,
        C.MISCONFIGURED,
        C.NOT_FOUND,
        C.ENGINE_NOT_SUPPORTED,
    }
    assert all(one.meaning.endswith(".") for one in C)
