"""What a task tells of a job: XComs, log, error."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_bacalhau.client.diagnosis import Diagnosis, FailureCategory, JobOutcome
from airflow_provider_bacalhau.client.errors import InvalidJobSpec, JobFailed, NotAuthorised, Unreachable, WaitTimeout
from airflow_provider_bacalhau.client.facts import Execution, Job
from airflow_provider_bacalhau.client.states import ExecutionState, JobState
from airflow_provider_bacalhau.reporting import (
    describe_results,
    report_missing_results,
    report_outcome,
    reporting_failure,
)

LOG = logging.getLogger("task")


class Pushed(dict[str, Any]):
    def xcom_push(self, key: str, value: Any) -> None:
        self[key] = value


def outcome(exit_code: int = 0, **execution: Any) -> JobOutcome:
    one = Execution("e-12345678-90", "j-1", "n-1", ExecutionState.COMPLETED, exit_code=exit_code, **execution)
    return JobOutcome.of(_job(one))


def _job(execution: Execution) -> Job:
    return Job("j-1", "name", "default", "batch", 1, JobState.COMPLETED, engine="wasm", executions=(execution,))


def several(*exit_codes: int) -> JobOutcome:
    executions = tuple(
        Execution(f"e-{number}", "j-1", "n-1", ExecutionState.COMPLETED, exit_code=code, partition=number)
        for number, code in enumerate(exit_codes)
    )
    return JobOutcome.of(replace(_job(executions[0]), count=len(executions), executions=executions))


def report(ended: JobOutcome, **arguments: Any) -> Pushed:
    pushed = Pushed()
    report_outcome({"ti": pushed}, ended, LOG, **arguments)
    return pushed


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def counted(**numbers: int) -> dict[str, int]:
    return {"wanted": 1, "completed": 1, "succeeded": 0, "failed": 0, **numbers}


def test_success_is_told_by_state_exit_codes_and_counts() -> None:
    assert report(outcome(-1)) == {
        "job_state": "Completed",
        "exit_codes": [-1],
        "execution_counts": counted(succeeded=1),
    }


def test_a_failed_job_is_told_of_before_its_failure_is_raised(lines: Any) -> None:
    pushed = Pushed()
    with pytest.raises(JobFailed):
        report_outcome({"ti": pushed}, outcome(3, stderr="oh no"), LOG)
    assert pushed == {"job_state": "Completed", "exit_codes": [3], "execution_counts": counted(failed=1)}
    assert lines()[-1] == "::endgroup::"  # or what follows would be folded away


@pytest.mark.parametrize(("codes", "excused"), [((99,), {99}), ((99, 0), {99}), ((98, 99), {98, 99})])
def test_excused_exit_codes_skip_the_task(codes: tuple[int, ...], excused: set[int]) -> None:
    with pytest.raises(AirflowSkipException, match=r"ended with exit code .*, which skips this task"):
        report(several(*codes), excused=excused)


@pytest.mark.parametrize(("codes", "excused"), [((3,), {99}), ((3, 99), {99}), ((3,), set())])
def test_exit_codes_that_are_not_excused_fail_it(codes: tuple[int, ...], excused: set[int]) -> None:
    with pytest.raises(JobFailed):
        report(several(*codes), excused=excused)


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.STOPPED])
def test_a_job_that_did_not_succeed_for_another_reason_is_not_excused_by_an_exit_code(state: JobState) -> None:
    told = several(99)
    with pytest.raises(JobFailed):
        report(JobOutcome.of(replace(told.job, state=state)), excused={99})


@pytest.mark.parametrize("excused", [set(), {99}])
def test_a_program_that_trapped_has_no_exit_code_that_could_be_excused(excused: set[int]) -> None:
    trapped = replace(
        several(0).job,
        state=JobState.FAILED,
        executions=(Execution("e-1", "j-1", "n-1", ExecutionState.FAILED, message="wasm error: unreachable"),),
    )
    with pytest.raises(JobFailed) as caught:
        report(JobOutcome.of(trapped), excused=excused)
    assert caught.value.diagnosis.category is FailureCategory.PROGRAM_FAILED


def test_an_exit_code_that_the_server_did_not_tell_is_not_excused() -> None:
    told = several(99, 99)
    first, second = told.job.executions or ()
    job = replace(told.job, executions=(first, replace(second, exit_code=None)))
    with pytest.raises(JobFailed):
        report(JobOutcome.of(job), excused={99})


def test_an_excused_code_among_enough_good_ones_does_not_skip_what_succeeded() -> None:
    assert report(JobOutcome.of(several(0, 99, 0).job, "any"), excused={99})["exit_codes"] == [0, 99, 0]


def test_an_excused_code_beside_good_ones_does_not_skip_what_succeeded() -> None:
    assert report(several(0, 0), excused={99})["exit_codes"] == [0, 0]


# --- Why a task fails ---


class Failing:
    """A task, as far as it is told of."""

    log = LOG
    job_url: str | None = None
    bacalhau_conn_id: str = "my_network"


def fail(error: Exception, job_url: str | None = None) -> Pushed:
    pushed, task = Pushed(), Failing()
    task.job_url = job_url
    with pytest.raises(type(error)) as caught, reporting_failure({"ti": pushed}, task):
        raise error
    assert caught.value is error
    return pushed


def test_a_task_that_fails_says_what_where_and_what_to_do(lines: Any) -> None:
    diagnosis = Diagnosis(FailureCategory.OUT_OF_MEMORY, "It was too large.", "Ask for more.", ("node n-1", "since 3"))
    assert fail(JobFailed(diagnosis), "http://host/j-1") == {"failure_category": "OUT_OF_MEMORY"}
    assert lines()[-1].splitlines() == [
        "OUT_OF_MEMORY: It was too large.",
        "  node n-1",
        "  since 3",
        "What to do: Ask for more.",
        "Job: http://host/j-1",
    ]


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (InvalidJobSpec("no"), "REFUSED_SPEC"),
        (Unreachable("no"), "UNREACHABLE"),
        (NotAuthorised("no"), "NOT_AUTHORISED"),
        (WaitTimeout("no"), "WAIT_TIMEOUT"),
    ],
    ids=lambda value: str(value),
)
def test_what_fails_before_there_is_a_job_has_a_category_too(error: Exception, category: str, lines: Any) -> None:
    assert fail(error) == {"failure_category": category}
    assert lines()[-1].startswith(f"{category}: no")
    assert "Job:" not in lines()[-1]
    assert ("\nConnection: my_network" in lines()[-1]) is (category in {"UNREACHABLE", "NOT_AUTHORISED"})


@pytest.mark.parametrize("error", [RuntimeError("no"), AirflowSkipException("no")], ids=repr)
def test_what_has_nothing_to_do_with_bacalhau_is_not_explained(error: Exception, lines: Any) -> None:
    assert fail(error) == {}
    assert lines() == []


def test_missing_results_fail_a_job_only_if_it_should_keep_some() -> None:
    report_missing_results(outcome(), 0)
    keeping = JobOutcome.of(replace(outcome().job, publisher="ipfs"))
    report_missing_results(keeping, 1)
    with pytest.raises(JobFailed, match="the publisher ipfs has kept no results") as caught:
        report_missing_results(keeping, 0)
    assert caught.value.diagnosis.category is FailureCategory.RESULTS_MISSING


def test_each_program_that_succeeded_should_have_left_a_result() -> None:
    one = outcome().job
    (run,) = one.executions or ()
    runs = (run, run, replace(run, exit_code=3), replace(run, state=ExecutionState.FAILED, exit_code=None))
    three = JobOutcome.of(replace(one, publisher="ipfs", count=3, executions=runs), "any")
    report_missing_results(three, 2)
    with pytest.raises(JobFailed, match="the publisher ipfs has kept only 1 of 2 results"):
        report_missing_results(three, 1)


# --- What its programs wrote ---


def test_output_is_bounded_and_says_where_the_rest_is(lines: Any) -> None:
    text = "\n".join(str(number) for number in range(250)) + "\n" + "x" * 5000
    report(outcome(stdout=text, stdout_truncated=True))
    shown = lines()
    assert shown[0].startswith("::group::")
    assert shown[1] == "e-12345678 stdout | 0"
    assert shown[201] == "e-12345678 stdout | … 51 more lines"
    assert "the whole is in the job's results" in shown[202]
    assert shown[203] == "::endgroup::"
    report(outcome(stdout="x" * 5000))
    assert max(len(line) for line in lines()) < 2100


def test_output_cannot_close_the_group_nor_write_over_the_log(lines: Any) -> None:
    report(outcome(stdout="::endgroup::\n\x1b[2Jgone\rover\n\u202eright to left"))
    shown = lines()
    assert [line for line in shown if line.startswith("::endgroup::")] == shown[-1:]
    assert "::" not in "".join(shown[1:-1])
    assert not any(character in line for line in shown for character in "\x1b\r\u202e")


def test_a_job_that_said_nothing_makes_no_group(lines: Any) -> None:
    report(outcome())
    assert lines() == []


def test_output_is_not_shown_when_told_so(lines: Any) -> None:
    report(outcome(stdout="text"), log_output=False)
    assert lines() == []


def test_results_are_named_by_cid_or_counted_by_type() -> None:
    references: list[dict[str, Any]] = [
        {"type": "ipfs", "cid": "QmA"},
        {"type": "s3", "source": {"Key": "k"}},
        {"type": "s3"},
    ]
    assert describe_results(references) == "ipfs CID QmA, 2 of type s3"
    assert describe_results([]) == "none"


def test_many_results_do_not_fill_the_log() -> None:
    told = describe_results([{"type": "ipfs", "cid": f"Qm{number}"} for number in range(500)])
    assert told.endswith("ipfs CID Qm9, 490 more")


def test_an_airflow_that_takes_no_xcom_does_not_hide_why_the_task_failed(lines: Any) -> None:
    class Away(Pushed):
        def xcom_push(self, key: str, value: Any) -> None:
            raise RuntimeError("the API server is away")

    with pytest.raises(Unreachable), reporting_failure({"ti": Away()}, Failing()):
        raise Unreachable("No answer from the Bacalhau server.")
    assert lines()[0].startswith("UNREACHABLE: No answer")
