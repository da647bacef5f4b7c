"""Jobs that want several executions."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from airflow_provider_bacalhau.client.diagnosis import FailureCategory
from airflow_provider_bacalhau.client.states import ExecutionState, JobState
from airflow_provider_bacalhau.client.success import has_succeeded

from . import programs
from .jobs import Submitter, exiting, job, reasons
from .node import NodeUnderTest

pytestmark = pytest.mark.needs(engine="wasm")


def test_count_3_runs_on_three_nodes_with_a_partition_each(wide_jobs: Submitter) -> None:
    outcome = wide_jobs.finish(exiting(0, count=3))
    assert outcome.job.state is JobState.COMPLETED
    assert outcome.diagnosis is None
    assert outcome.exit_codes == [0, 0, 0]
    assert len({one.node_id for one in outcome.job.executions}) == 3
    assert sorted(one.partition for one in outcome.job.executions) == [0, 1, 2]
    assert len(wide_jobs.client.results(outcome.job.id)) == 3


def test_a_bad_exit_code_is_counted_over_the_executions(wide_jobs: Submitter) -> None:
    outcome = wide_jobs.finish(exiting(3, count=3))
    assert outcome.job.state is JobState.COMPLETED
    assert outcome.exit_codes == [3, 3, 3]
    assert "3 of 3 executions" in outcome.diagnosis.summary


def test_a_module_that_cannot_be_run_is_tried_twice_on_each_of_three_nodes(wide_jobs: Submitter) -> None:
    outcome = wide_jobs.finish(job(programs.BROKEN, queue_timeout=0), unchecked=True)
    tries = Counter(one.node_id for one in outcome.job.executions)
    assert len(tries) >= 3
    assert set(tries.values()) == {2}
    assert reasons(outcome.job.message) == {"job already executed on this node more than once": len(tries)}


def test_a_count_beyond_the_nodes_that_may_not_queue_runs_nothing(jobs: Submitter, node: NodeUnderTest) -> None:
    there = len(node.nodes)
    outcome = jobs.finish(exiting(0, count=there + 1, queue_timeout=0))
    first = outcome.job.message.splitlines()[0]
    assert first == f"not enough nodes to run job. requested: {there + 1}, available: {there}, suitable: {there}."
    assert outcome.job.state is JobState.FAILED
    assert outcome.diagnosis.category is FailureCategory.NO_SUITABLE_NODE
    assert outcome.job.executions == ()


def test_a_count_beyond_the_nodes_completes_what_it_can_and_waits_for_more(
    client: Any, jobs: Submitter, node: NodeUnderTest
) -> None:
    there = len(node.nodes)
    job_id = jobs.submit(exiting(0, count=there + 2))
    seen = jobs.until(
        job_id,
        lambda seen: (
            seen.state is JobState.QUEUED
            and [one.state for one in seen.executions].count(ExecutionState.COMPLETED) >= there
        ),
    )
    first = seen.message.splitlines()[0]
    assert first == f"Job queued. not enough nodes to run job. requested: 2, available: {there}, suitable: 0."
    assert reasons(seen.message) == {"job rejected": there}
    assert not has_succeeded(seen, seen.executions)
    assert len(client.results(job_id)) == there
