"""How many executions have to succeed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_bacalhau.client.diagnosis import FailureCategory, JobOutcome
from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.facts import Execution, Job
from airflow_provider_bacalhau.client.states import ExecutionState, JobState
from airflow_provider_bacalhau.client.success import SuccessPolicy, check_success_policy, has_succeeded


def ran(exit_code: int | None = 0, state: ExecutionState = ExecutionState.COMPLETED) -> Execution:
    return Execution("e-1", "j-1", "n-1", state, exit_code=exit_code)


GOOD, BAD, BROKEN = ran(0), ran(3), ran(None, ExecutionState.FAILED)
CANCELLED = ran(None, ExecutionState.CANCELLED)
S = JobState


def make(executions: list[Execution], state: JobState = S.COMPLETED, **other: Any) -> Job:
    given: dict[str, Any] = {"name": "n", "namespace": "default", "type": "batch", "count": 3, "engine": "wasm"}
    return Job(id="j-1", state=state, executions=tuple(executions), **{**given, **other})


# What ran, the job's state; whether that is success by "all", by "any", by 2.
POLICIES: list[tuple[str, list[Execution], JobState, tuple[bool, bool, bool]]] = [
    ("three good ones", [GOOD] * 3, S.COMPLETED, (True, True, True)),
    ("two good ones and a bad one", [GOOD, GOOD, BAD], S.COMPLETED, (False, True, True)),
    ("one good one", [GOOD, BAD, BAD], S.COMPLETED, (False, True, False)),
    ("no good one", [BAD] * 3, S.COMPLETED, (False, False, False)),
    ("none at all", [], S.COMPLETED, (False, False, False)),
    ("a plain return counts", [ran(-1), BAD, ran(-1)], S.COMPLETED, (False, True, True)),
    ("failed for want of nodes, with two good ones", [GOOD, GOOD], S.FAILED, (False, True, True)),
    ("failed with one good one", [GOOD, BROKEN, BROKEN], S.FAILED, (False, True, False)),
    ("failed without any", [BROKEN], S.FAILED, (False, False, False)),
    ("stopped", [GOOD] * 3, S.STOPPED, (False, False, False)),
    ("still running", [GOOD] * 3, S.RUNNING, (False, False, False)),
    ("in the queue", [GOOD] * 2, S.QUEUED, (False, False, False)),
    ("in an unknown state", [GOOD] * 3, S.UNKNOWN, (False, False, False)),
    ("an exit code that cannot be read", [GOOD, GOOD, ran(None)], S.COMPLETED, (False, True, True)),
]


@pytest.mark.parametrize(("executions", "state", "good"), [row[1:] for row in POLICIES], ids=[r[0] for r in POLICIES])
def test_policies(executions: list[Execution], state: JobState, good: tuple[bool, bool, bool]) -> None:
    job = make(executions, state)
    policies: tuple[SuccessPolicy, ...] = ("all", "any", 2)
    assert tuple(has_succeeded(job, executions, policy) for policy in policies) == good
    assert tuple(JobOutcome.of(job, policy).diagnosis is None for policy in policies) == good


def test_a_hopeless_job_is_as_good_as_over_unless_someone_stopped_it() -> None:
    queued = make([GOOD, BROKEN, BROKEN], S.QUEUED)
    assert JobOutcome.of(queued, is_hopeless=True).diagnosis is not None
    assert JobOutcome.of(queued, "any", is_hopeless=True).diagnosis is None
    assert JobOutcome.of(queued, 2, is_hopeless=True).diagnosis is not None
    stopped = replace(queued, state=S.STOPPED)
    assert JobOutcome.of(stopped, "any", is_hopeless=True).diagnosis is not None


def test_ops_jobs_by_any_and_by_number() -> None:
    job = make([GOOD, BAD], type="ops", count=0)
    assert [JobOutcome.of(job, policy).diagnosis is None for policy in ("all", "any", 1, 2)] == [
        False,
        True,
        True,
        False,
    ]


def test_why_a_policy_was_not_met_is_said() -> None:
    asked_for_four = JobOutcome.of(make([GOOD] * 3), 4).diagnosis
    assert asked_for_four is not None
    assert asked_for_four.category is FailureCategory.INCOMPLETE
    assert asked_for_four.summary == "Job j-1 is marked completed, but 3 executions succeeded, not 4."
    one_short = JobOutcome.of(make([GOOD, BAD, BAD]), 2).diagnosis
    assert one_short is not None
    assert one_short.category is FailureCategory.PROGRAM_FAILED
    assert one_short.facts[-1] == "success_policy=2: 1 of 2 needed executions succeeded"


@pytest.mark.parametrize(
    ("executions", "counts"),
    [
        ([GOOD] * 3, {"wanted": 3, "completed": 3, "succeeded": 3, "failed": 0}),
        ([GOOD, BAD, BROKEN, CANCELLED], {"wanted": 3, "completed": 2, "succeeded": 1, "failed": 2}),
        ([], {"wanted": 3, "completed": 0, "succeeded": 0, "failed": 0}),
    ],
)
def test_executions_are_counted(executions: list[Execution], counts: dict[str, int]) -> None:
    assert JobOutcome.of(make(executions)).counts == counts


@pytest.mark.parametrize("value", ["all", "any", 1, 2, 1000])
def test_good_policies_are_as_they_are(value: SuccessPolicy) -> None:
    assert check_success_policy(value) == value


@pytest.mark.parametrize("value", [True, False, 0, -1, 1.5, "1", "most", "ALL", "", None, ["all"], "x" * 1000])
def test_bad_policies_are_named_where_they_stand(value: object) -> None:
    with pytest.raises(InvalidJobSpec, match="no success policy") as caught:
        check_success_policy(value)
    assert caught.value.place == "success_policy"
    assert len(str(caught.value)) < 250
