"""Jobs that want several executions."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bacalhau.client.diagnosis import has_succeeded
from airflow_provider_bacalhau.client.states import ExecutionState, JobState

from .jobs import Submitter, exiting
from .node import NodeUnderTest

pytestmark = pytest.mark.needs(engine="wasm")


@pytest.mark.needs(compute_nodes=3)
def test_count_3_runs_on_three_nodes_with_a_partition_each(client: Any, jobs: Submitter) -> None:
    outcome = jobs.finish(exiting(0, count=3))
    assert outcome.job.state is JobState.COMPLETED
    assert outcome.diagnosis is None
    assert outcome.exit_codes == [0, 0, 0]
    assert len({one.node_id for one in outcome.job.executions}) == 3
    assert sorted(one.partition for one in outcome.job.executions) == [0, 1, 2]
    assert len(client.results(outcome.job.id)) == 3


@pytest.mark.needs(compute_nodes=3)
def test_an_exit_code_in_one_of_three_executions_is_named(jobs: Submitter) -> None:
    outcome = jobs.finish(exiting(3, count=3))
    assert outcome.job.state is JobState.COMPLETED
    assert outcome.exit_codes == [3, 3, 3]
    assert "3 of 3 executions" in outcome.diagnosis.summary


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
    assert seen.message.startswith(
        f"Job queued. not enough nodes to run job. requested: 2, available: {there}, suitable: 0.\n• Node n-"
    )
    assert all(line.endswith(": job rejected") for line in seen.message.splitlines()[1:])
    assert not has_succeeded(seen, seen.executions)
    assert len(client.results(job_id)) == there
