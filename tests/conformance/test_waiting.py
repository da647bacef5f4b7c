"""Waiting that ends early, and how many executions have to succeed."""

from __future__ import annotations

import time
from typing import Any

import pytest

from airflow_provider_bacalhau.client.diagnosis import FailureCategory, JobOutcome
from airflow_provider_bacalhau.client.errors import JobHopeless, RequestRefused, WaitTimeout
from airflow_provider_bacalhau.client.facts import StopOutcome
from airflow_provider_bacalhau.client.states import JobState

from . import programs
from .jobs import PATIENCE, Submitter, busy, changed, exiting, inline, job
from .node import NodeUnderTest

pytestmark = pytest.mark.needs(engine="wasm")

LONG = 600
"""A queue timeout in seconds that no test waits for."""


def hopeless(jobs: Submitter, job_id: str) -> JobHopeless:
    with pytest.raises(JobHopeless) as caught:
        jobs.client.wait(job_id, poll_interval=0.2, deadline=time.time() + PATIENCE, fail_fast=True)
    return caught.value


@pytest.mark.needs(queue=True)
@pytest.mark.parametrize("module", [programs.BROKEN, programs.traps()], ids=["broken", "trap"])
def test_a_job_that_failed_on_every_node_is_not_waited_for_though_it_may_queue(
    jobs: Submitter, module: bytes, node: NodeUnderTest
) -> None:
    job_id = jobs.submit(job(module, queue_timeout=LONG), unchecked=True)
    outcome = hopeless(jobs, job_id).outcome
    assert not outcome.job.state.is_terminal
    assert outcome.is_hopeless
    assert outcome.diagnosis is not None
    assert outcome.counts == {"wanted": 1, "completed": 0, "succeeded": 0, "failed": 2 * len(node.nodes)}
    if module == programs.BROKEN:
        assert outcome.diagnosis.category is FailureCategory.MODULE_INVALID
    assert jobs.client.stop(job_id, "hopeless") is StopOutcome.STOPPED


@pytest.mark.needs(source="inline", queue=True)
def test_nor_is_one_whose_input_no_node_can_read(jobs: Submitter) -> None:
    spec = exiting(0, queue_timeout=LONG, inputs=[inline(b"x", "/inputs/a")])
    url = ("Tasks", 0, "InputSources", 1, "Source", "Params", "URL")
    refused, job_id = "", ""
    try:
        job_id = jobs.submit(changed(spec, *url, to="not a data URL"), unchecked=True)
    except RequestRefused as error:
        refused = error.server_message
    if refused:  # v1.3.2 reads it before it takes the job, so there is none to wait for
        assert "missing data prefix" in refused
        return
    diagnosis = hopeless(jobs, job_id).outcome.diagnosis
    assert diagnosis is not None
    assert diagnosis.category is FailureCategory.INPUT_UNAVAILABLE


@pytest.mark.usefixtures("versions_of_jobs")
def test_nor_is_one_that_every_node_refuses(jobs: Submitter) -> None:
    diagnosis = hopeless(
        jobs, jobs.submit(exiting(0, queue_timeout=LONG, env={"STOLEN": "env:HOME"}))
    ).outcome.diagnosis
    assert diagnosis is not None
    assert diagnosis.category is FailureCategory.NO_SUITABLE_NODE
    assert any("'HOME' is not in allowed patterns" in fact for fact in diagnosis.facts)


def test_on_several_nodes_all_of_them_are_tried_first(wide_jobs: Submitter) -> None:
    outcome = hopeless(wide_jobs, wide_jobs.submit(job(programs.BROKEN, queue_timeout=LONG), unchecked=True)).outcome
    nodes = {one.node_id for one in outcome.job.executions or ()}
    assert len(nodes) >= 3
    assert len(outcome.job.executions or ()) == 2 * len(nodes)


def waits_on(jobs: Submitter, spec: dict[str, Any]) -> None:
    with pytest.raises(WaitTimeout):
        jobs.client.wait(jobs.submit(spec), poll_interval=0.2, deadline=time.time() + 2, fail_fast=True)


@pytest.mark.needs(queue=True)
def test_a_job_that_no_node_has_room_for_is_waited_for(jobs: Submitter) -> None:
    waits_on(jobs, exiting(0, queue_timeout=LONG, resources={"CPU": "10000"}))


def test_a_job_that_runs_is_waited_for(jobs: Submitter) -> None:
    waits_on(jobs, busy(30, queue_timeout=LONG))


@pytest.mark.needs(queue=True)
def test_a_job_whose_several_executions_have_to_wait_for_nodes_is_waited_for(
    jobs: Submitter, node: NodeUnderTest
) -> None:
    waits_on(jobs, exiting(0, count=len(node.nodes) + 2, queue_timeout=LONG))


@pytest.mark.parametrize(
    ("code", "policies"),
    [(0, {"all": True, "any": True, 2: True, 3: True, 4: False}), (3, {"all": False, "any": False, 1: False})],
)
def test_success_policies_of_a_job_that_completed(wide_jobs: Submitter, code: int, policies: dict[Any, bool]) -> None:
    job_id = wide_jobs.finish(exiting(code, count=3)).job.id
    outcomes = {policy: wide_jobs.client.outcome(job_id, policy=policy) for policy in policies}
    assert {policy: outcome.diagnosis is None for policy, outcome in outcomes.items()} == policies
    good = 3 if code == 0 else 0
    assert next(iter(outcomes.values())).counts == {"wanted": 3, "completed": 3, "succeeded": good, "failed": 3 - good}


@pytest.mark.needs(queue_backoff=5)
def test_success_policies_of_a_job_that_found_too_few_nodes(jobs: Submitter, node: NodeUnderTest) -> None:
    there = len(node.nodes)
    outcome = jobs.finish(exiting(0, count=there + 2, queue_timeout=1))
    assert outcome.job.state is JobState.FAILED
    assert outcome.diagnosis is not None
    assert outcome.counts["wanted"] == there + 2
    done = outcome.counts["succeeded"]
    assert done >= there
    assert JobOutcome.of(outcome.job, "any").diagnosis is None
    assert JobOutcome.of(outcome.job, done).diagnosis is None
    assert JobOutcome.of(outcome.job, done + 1).diagnosis is not None
