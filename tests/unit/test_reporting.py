"""What a task tells of a job: XComs, log, error."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from airflow_provider_bacalhau.client.diagnosis import JobOutcome
from airflow_provider_bacalhau.client.errors import JobFailed
from airflow_provider_bacalhau.client.facts import Execution, Job
from airflow_provider_bacalhau.client.states import ExecutionState, JobState
from airflow_provider_bacalhau.reporting import describe_results, report_outcome

LOG = logging.getLogger("task")


class Pushed(dict[str, Any]):
    def xcom_push(self, key: str, value: Any) -> None:
        self[key] = value


def outcome(exit_code: int = 0, **execution: Any) -> JobOutcome:
    one = Execution("e-12345678-90", "j-1", "n-1", ExecutionState.COMPLETED, exit_code=exit_code, **execution)
    return JobOutcome.of(_job(one))


def _job(execution: Execution) -> Job:
    return Job("j-1", "name", "default", "batch", 1, JobState.COMPLETED, engine="wasm", executions=(execution,))


def report(told: JobOutcome, **arguments: Any) -> Pushed:
    pushed = Pushed()
    report_outcome({"ti": pushed}, told, LOG, **arguments)  # type: ignore[typeddict-item]  # what it uses of it
    return pushed


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def test_success_is_told_by_state_and_exit_codes() -> None:
    assert report(outcome(-1)) == {"job_state": "Completed", "exit_codes": [-1]}


def test_failure_is_told_before_it_is_raised(lines: Any) -> None:
    pushed = Pushed()
    with pytest.raises(JobFailed):
        report_outcome({"ti": pushed}, outcome(3, stderr="oh no"), LOG)  # type: ignore[typeddict-item]  # as above
    assert pushed == {"job_state": "Completed", "exit_codes": [3], "failure_category": "PROGRAM_FAILED"}
    assert lines()[-2] == "::endgroup::"  # or the error would be folded away
    assert lines()[-1].startswith("PROGRAM_FAILED: Job j-1")


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
    references = [{"type": "ipfs", "cid": "QmA"}, {"type": "s3", "source": {"Key": "k"}}, {"type": "s3"}]
    assert describe_results(references) == "ipfs CID QmA, 2 of type s3"
    assert describe_results([]) == "none"


def test_many_results_do_not_fill_the_log() -> None:
    told = describe_results([{"type": "ipfs", "cid": f"Qm{number}"} for number in range(500)])
    assert told.endswith("ipfs CID Qm9, 490 more")
