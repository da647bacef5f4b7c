"""How jobs end, and what the client makes of it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from airflow_provider_bacalhau.client.diagnosis import FailureCategory
from airflow_provider_bacalhau.client.states import ExecutionState, JobState

from . import programs
from .jobs import Submitter, busy, changed, events, exiting, inline, job, reasons
from .node import NodeUnderTest

pytestmark = pytest.mark.needs(engine="wasm")

TRIES_PER_NODE = 2
MORE_THAN_ANY_NODE = {"CPU": "10000"}


def test_a_good_job_completes_with_exit_code_0_and_its_output(jobs: Submitter) -> None:
    outcome = jobs.finish(exiting(0))
    assert outcome.job.state is JobState.COMPLETED
    assert outcome.diagnosis is None
    (execution,) = outcome.job.executions
    assert execution.state is ExecutionState.COMPLETED
    assert execution.exit_code == 0
    assert execution.stdout == "hello from wasm code=0"
    assert execution.stderr == "warn: going to exit 0\n"
    assert execution.job_id == outcome.job.id
    assert execution.partition == 0


@pytest.mark.usefixtures("versions_of_jobs")
def test_a_good_job_leaves_these_events(jobs: Submitter, node: NodeUnderTest) -> None:
    outcome = jobs.finish(exiting(0))
    (execution,) = outcome.job.executions
    assert events(outcome.job.history) == [
        ("Submission", "Job submitted"),
        ("Scheduling", f"Requested execution on {execution.node_id[:10]}"),
        ("State Update", "Running"),
        ("Execution", "Running"),
        ("Execution", "Completed successfully"),
        ("State Update", "Completed"),
    ]
    assert [bool(item.execution_id) for item in outcome.job.history] == [False, True, False, True, True, False]
    assert execution.node_id in {one["NodeID"] for one in node.nodes}


def test_a_plain_return_reads_as_exit_code_minus_1_and_is_success(jobs: Submitter) -> None:
    outcome = jobs.finish(exiting(programs.PLAIN_RETURN))
    assert outcome.job.state is JobState.COMPLETED
    assert outcome.exit_codes == [-1]
    assert outcome.diagnosis is None


@pytest.mark.parametrize(("given", "seen"), [(3, 3), (126, 126), (256, 256), (-1, 4294967295)])
@pytest.mark.usefixtures("versions_of_jobs")
def test_a_bad_exit_code_fails_no_job_but_is_no_success(jobs: Submitter, given: int, seen: int) -> None:
    outcome = jobs.finish(exiting(given))
    assert outcome.job.state is JobState.COMPLETED
    assert outcome.exit_codes == [seen]
    assert outcome.diagnosis.category is FailureCategory.PROGRAM_FAILED
    assert str(seen) in outcome.diagnosis.summary
    assert [message for _, message in events(outcome.job.history)][-2:] == ["Completed successfully", "Completed"]


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (
            programs.BROKEN,
            'load entry module /mod/entry.wasm: failed to compile module at "/mod/entry.wasm": invalid magic number',
        ),
        (programs.stripped(), "Name section not found"),
    ],
    ids=["broken", "stripped"],
)
@pytest.mark.usefixtures("versions_of_jobs")
def test_a_module_that_cannot_be_run_is_tried_twice_on_each_node_and_fails(
    jobs: Submitter, node: NodeUnderTest, module: bytes, says: str
) -> None:
    outcome = jobs.finish(job(module, queue_timeout=0), unchecked=True)
    assert outcome.job.state is JobState.FAILED
    assert outcome.diagnosis.category is FailureCategory.MODULE_INVALID
    assert len(outcome.job.executions) == TRIES_PER_NODE * len(node.nodes)
    for execution in outcome.job.executions:
        assert execution.state is ExecutionState.FAILED
        assert says in execution.message
        assert execution.exit_code is None
    first = outcome.job.message.splitlines()[0]
    assert first == f"not enough nodes to run job. requested: 1, available: {len(node.nodes)}, suitable: 0."
    assert reasons(outcome.job.message) == {"job already executed on this node more than once": len(node.nodes)}


def test_a_trap_fails_the_execution(jobs: Submitter) -> None:
    outcome = jobs.finish(job(programs.traps(), queue_timeout=0))
    assert outcome.job.state is JobState.FAILED
    assert {one.state for one in outcome.job.executions} == {ExecutionState.FAILED}
    assert all("unreachable" in one.message for one in outcome.job.executions)


def test_an_entry_point_that_is_not_there_fails_the_execution(jobs: Submitter) -> None:
    outcome = jobs.finish(exiting(0, queue_timeout=0, entrypoint="nowhere"))
    assert outcome.job.state is JobState.FAILED
    assert all("nowhere" in one.message for one in outcome.job.executions)


@pytest.mark.needs(modern=True)
def test_a_failing_job_that_may_queue_waits_in_the_queue(jobs: Submitter, node: NodeUnderTest) -> None:
    job_id = jobs.submit(job(programs.BROKEN, queue_timeout=60), unchecked=True)
    queued = jobs.until(job_id, lambda seen: seen.state is JobState.QUEUED)
    assert queued.message.startswith("Job queued. not enough nodes to run job.")
    assert len([one for one in queued.executions if one.state is ExecutionState.FAILED]) == TRIES_PER_NODE * len(
        node.nodes
    )


def test_a_job_that_no_node_can_take_fails_at_once(jobs: Submitter, node: NodeUnderTest) -> None:
    outcome = jobs.finish(exiting(0, queue_timeout=0, resources=MORE_THAN_ANY_NODE))
    assert outcome.job.state is JobState.FAILED
    assert outcome.diagnosis.category is FailureCategory.NO_SUITABLE_NODE
    assert outcome.job.executions == ()
    first = outcome.job.message.splitlines()[0]
    assert first == f"not enough nodes to run job. requested: 1, available: {len(node.nodes)}, suitable: 0."
    why = reasons(outcome.job.message)
    assert sum(why.values()) == len(node.nodes)
    assert all(reason.startswith("node busy with available capacity {CPU: ") for reason in why)
    assert events(outcome.job.history) == [("Submission", "Job submitted"), ("Scheduling", outcome.job.message)]
    assert outcome.job.history[-1].event.is_error


def test_a_constraint_that_no_node_meets_fails_the_job(jobs: Submitter) -> None:
    constraint = {"Key": "no-such-label", "Operator": "=", "Values": ["x"]}
    outcome = jobs.finish(exiting(0, queue_timeout=0, constraints=[constraint]))
    assert outcome.job.state is JobState.FAILED
    assert outcome.diagnosis.category is FailureCategory.NO_SUITABLE_NODE
    assert "no-such-label" in outcome.job.message


@pytest.mark.usefixtures("versions_of_jobs")
def test_a_constraint_chooses_the_node(jobs: Submitter, node: NodeUnderTest) -> None:
    chosen = node.nodes[-1]
    constraint = {"Key": "name", "Operator": "=", "Values": [chosen["Labels"]["name"]]}
    outcome = jobs.finish(exiting(0, constraints=[constraint]))
    assert [one.node_id for one in outcome.job.executions] == [chosen["NodeID"]]


@pytest.mark.needs(queue_backoff=5)
def test_a_queued_job_fails_when_its_queue_timeout_is_over(jobs: Submitter, node: NodeUnderTest) -> None:
    begun = time.monotonic()
    outcome = jobs.finish(exiting(0, queue_timeout=1, resources=MORE_THAN_ANY_NODE))
    assert time.monotonic() - begun >= 1
    assert outcome.job.state is JobState.FAILED
    said = events(outcome.job.history)
    assert [topic for topic, _ in said] == ["Submission", "Queueing", "Scheduling"]
    assert said[1][1] == f"Job queued. {said[2][1]}"
    assert outcome.job.message == said[2][1]


@pytest.mark.needs(queue_backoff=5)
def test_a_queued_job_runs_when_there_is_room_again(client: Any, jobs: Submitter, node: NodeUnderTest) -> None:
    nearly_all = {"CPU": str(0.9 * node.nodes[0]["ComputeNodeInfo"]["MaxCapacity"]["CPU"])}
    here = [{"Key": "name", "Operator": "=", "Values": [node.nodes[0]["Labels"]["name"]]}]
    first = jobs.submit(busy(resources=nearly_all, constraints=here))
    jobs.running(first)
    second = jobs.submit(exiting(0, resources=nearly_all, constraints=here))
    jobs.until(second, lambda seen: seen.state is JobState.QUEUED)
    client.stop(first, "make room")
    outcome = jobs.outcome(second)
    assert outcome.diagnosis is None
    assert ("Queueing", outcome.job.history[1].event.message) == events(outcome.job.history)[1]


@pytest.mark.needs(modern=True)
def test_an_execution_timeout_ends_a_busy_program(jobs: Submitter) -> None:
    outcome = jobs.finish(busy(queue_timeout=0, execution_timeout=1))
    assert outcome.job.state is JobState.FAILED
    assert outcome.diagnosis.category is FailureCategory.EXECUTION_TIMEOUT
    assert {one.state for one in outcome.job.executions} == {ExecutionState.FAILED}
    assert {one.message for one in outcome.job.executions} == {"Execution timed out after 1s"}


@pytest.mark.needs(modern=True)
def test_an_execution_timeout_ends_a_sleeping_program(jobs: Submitter) -> None:
    job_id = jobs.submit(job(programs.sleeps(20), execution_timeout=1))
    seen = jobs.until(job_id, lambda seen: any(one.state is ExecutionState.FAILED for one in seen.executions))
    assert "Execution timed out after 1s" in {one.message for one in seen.executions}


@pytest.mark.needs(source="inline", modern=True)  # v1.3.2 reads it before it takes the job; see test_waiting
def test_an_input_that_cannot_be_read_fails_the_job(jobs: Submitter) -> None:
    spec = exiting(0, queue_timeout=0, inputs=[inline(b"x", "/inputs/a")])
    url = ("Tasks", 0, "InputSources", 1, "Source", "Params", "URL")
    outcome = jobs.finish(changed(spec, *url, to="not a data URL"), unchecked=True)
    assert outcome.job.state is JobState.FAILED
    assert outcome.diagnosis.category is FailureCategory.INPUT_UNAVAILABLE
    assert outcome.job.executions
    assert all("missing data prefix" in one.message for one in outcome.job.executions)


def test_an_ops_job_runs_once_on_every_node(jobs: Submitter, node: NodeUnderTest) -> None:
    outcome = jobs.finish(exiting(0, type="ops"))
    assert outcome.diagnosis is None
    assert outcome.job.type == "ops"
    assert sorted(one.node_id for one in outcome.job.executions) == sorted(one["NodeID"] for one in node.nodes)


@pytest.mark.usefixtures("versions_of_jobs")
def test_an_ops_job_without_a_node_fails(jobs: Submitter, node: NodeUnderTest) -> None:
    constraint = {"Key": "no-such-label", "Operator": "exists", "Values": []}
    outcome = jobs.finish(exiting(0, type="ops", constraints=[constraint], queue_timeout=0))
    assert outcome.job.state is JobState.FAILED
    first = outcome.job.message.splitlines()[0]
    assert first == f"not matching nodes to run job out of {len(node.nodes)} available nodes."
    assert outcome.diagnosis is not None


@pytest.mark.parametrize(
    "place",
    [("Engine",), ("Publisher",), ("InputSources", 1, "Source")],
    ids=["engine", "publisher", "input"],
)
def test_a_type_that_no_node_knows_is_accepted_and_then_fails(
    jobs: Submitter, node: NodeUnderTest, place: tuple[str | int, ...]
) -> None:
    spec = exiting(0, queue_timeout=0, inputs=[inline(b"x", "/inputs/a")])
    spec = changed(spec, "Tasks", 0, *place, to={"Type": "nosuch", "Params": {}})
    outcome = jobs.finish(spec, unchecked=True)
    assert outcome.job.state is JobState.FAILED
    assert outcome.job.executions == ()
    why = reasons(outcome.job.message)
    assert sum(why.values()) == len(node.nodes)
    assert all(reason.startswith("does not support nosuch, only ") for reason in why)
    assert outcome.diagnosis is not None


@pytest.mark.usefixtures("versions_of_jobs")
def test_a_variable_of_the_node_is_not_given_away(jobs: Submitter, node: NodeUnderTest) -> None:
    outcome = jobs.finish(exiting(0, queue_timeout=0, env={"STOLEN": "env:HOME"}))
    assert outcome.job.state is JobState.FAILED
    assert reasons(outcome.job.message) == {"job rejected": len(node.nodes)}
    assert {one.state for one in outcome.job.executions} == {ExecutionState.ASK_FOR_BID_REJECTED}
    assert all("'HOME' is not in allowed patterns" in one.message for one in outcome.job.executions)


@pytest.mark.usefixtures("versions_of_jobs")
def test_an_entry_module_that_is_not_there_fails_the_execution(jobs: Submitter) -> None:
    spec = changed(exiting(0, queue_timeout=0), "Tasks", 0, "Engine", "Params", "EntryModule", to="/mod/other.wasm")
    outcome = jobs.finish(spec, unchecked=True)
    assert outcome.diagnosis.category is FailureCategory.MODULE_INVALID
    said = 'failed to load entry module /mod/other.wasm: module not found: "/mod/other.wasm"'
    assert {one.message for one in outcome.job.executions} == {said}
