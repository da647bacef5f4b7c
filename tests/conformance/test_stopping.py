"""Stopping jobs, in whatever state they are."""

from __future__ import annotations

import time
from typing import Any

import pytest

from airflow_provider_bacalhau.client.diagnosis import FailureCategory
from airflow_provider_bacalhau.client.facts import StopOutcome
from airflow_provider_bacalhau.client.states import ExecutionState, JobState

from . import programs
from .jobs import PATIENCE, UNKNOWN_ID, Submitter, busy, events, exiting, job

pytestmark = pytest.mark.needs(engine="wasm")


@pytest.mark.usefixtures("versions_of_jobs")
def test_a_queued_job_is_stopped_at_once(client: Any, jobs: Submitter) -> None:
    job_id = jobs.submit(exiting(0, queue_timeout=600, resources={"CPU": "10000"}))
    jobs.until(job_id, lambda seen: seen.state is JobState.QUEUED)
    assert client.stop(job_id, "no longer wanted") is StopOutcome.STOPPED
    outcome = client.outcome(job_id)
    assert outcome.job.state is JobState.STOPPED
    assert outcome.job.message == "no longer wanted"
    assert outcome.diagnosis.category is FailureCategory.STOPPED_BY_OTHERS
    assert outcome.job.executions == ()
    assert [topic for topic, _ in events(outcome.job.history)] == ["Submission", "Queueing", "Scheduling"]
    last = outcome.job.history[-1].event
    assert (last.message, last.details["Reason"]) == ("Job requested to stop before completion", "no longer wanted")


@pytest.mark.parametrize("spec", [busy(), job(programs.sleeps(60))], ids=["busy", "sleeping"])
@pytest.mark.usefixtures("versions_of_jobs")
def test_a_running_job_is_stopped_and_its_program_ends(client: Any, jobs: Submitter, spec: dict[str, Any]) -> None:
    job_id = jobs.submit(spec)
    jobs.running(job_id)
    begun = time.monotonic()
    assert client.stop(job_id, "changed my mind") is StopOutcome.STOPPED
    assert client.get(job_id).state is JobState.STOPPED
    stopped = jobs.until(job_id, lambda seen: all(one.state.is_terminal for one in seen.executions))
    assert time.monotonic() - begun < PATIENCE / 2
    assert stopped.message == "changed my mind"
    (execution,) = stopped.executions
    assert execution.state is ExecutionState.CANCELLED
    assert execution.message == "Execution stop requested because job has been stopped"
    assert execution.exit_code is None
    assert events(stopped.history)[-2:] == [
        ("Scheduling", "Job requested to stop before completion"),
        ("Scheduling", "Execution stop requested because job has been stopped"),
    ]
    assert client.results(job_id) == ()


@pytest.mark.usefixtures("versions_of_jobs")
def test_a_stopped_job_is_stopped_again_without_harm(client: Any, jobs: Submitter) -> None:
    job_id = jobs.submit(busy())
    jobs.running(job_id)
    assert client.stop(job_id, "first") is StopOutcome.STOPPED
    assert client.stop(job_id, "second") is StopOutcome.ALREADY_STOPPED
    assert client.get(job_id).message == "first"


def test_a_completed_job_stays_completed(client: Any, jobs: Submitter) -> None:
    job_id = jobs.finish(exiting(0)).job.id
    assert client.stop(job_id, "late") is StopOutcome.ALREADY_COMPLETED
    assert client.get(job_id).state is JobState.COMPLETED


def test_a_failed_job_stays_failed(client: Any, jobs: Submitter) -> None:
    job_id = jobs.finish(exiting(0, queue_timeout=0, resources={"CPU": "10000"})).job.id
    assert client.stop(job_id, "late") is StopOutcome.ALREADY_FAILED
    assert client.get(job_id).state is JobState.FAILED


def test_an_unknown_job_is_not_found(client: Any) -> None:
    assert client.stop(UNKNOWN_ID, "who?") is StopOutcome.NOT_FOUND
