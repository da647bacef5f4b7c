"""Whether a job that waits can come to anything: recorded jobs of every generation, and what only looks like it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_bacalhau.client.dialects.orchestrator import OrchestratorDialect
from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
from airflow_provider_bacalhau.client.facts import Execution, Job
from airflow_provider_bacalhau.client.placement import has_used_up_its_nodes, is_hopeless
from airflow_provider_bacalhau.client.states import ExecutionState, JobState
from tests.support import requester
from tests.support.drive import Script
from tests.support.recorded import answer
from tests.support.requester_cases import dialect

SPENT = "job already executed on this node more than once"
BUSY = "node busy with available capacity {CPU: 1.6, Memory: 20 GB, Disk: 200 GB, GPU: 0}"
OTHER_ENGINE = "does not support wasm, only docker"
OTHER_LABELS = "labels map[zone:mars] don't match required selectors [zone = earth]"
REJECTED = "job rejected"


def read(version: str, label: str, source: str = "orchestrator") -> Job:
    spoken = OrchestratorDialect(ServerVersion(version))
    job = Script.of(answer(version, label, source)).run(spoken.get("j-1", executions=True, history=True))
    if source == "s3":  # recorded apart
        executions = answer(version, label.replace(": job", ": executions"), source)
        job = replace(job, executions=Script.of(executions).run(spoken.executions("j-1")))
    return job


@pytest.mark.parametrize("version", ["v1.4.0", "v1.7.0", "v1.9.3"])
@pytest.mark.parametrize("label", ["bad module: get", "exec timeout: get"])
def test_where_the_server_shows_its_queue_its_words_are_enough(version: str, label: str) -> None:
    assert is_hopeless(read(version, label))


@pytest.mark.parametrize("label", ["s3 no region: job", "s3 no bucket: job", "s3 no key: job", "s3 bad encoding: job"])
def test_results_that_cannot_be_published_are_tried_in_vain_as_well(label: str) -> None:
    assert is_hopeless(read("v1.9.3", label, "s3"))


def nodes_of(version: str) -> set[str]:
    found = Script.of(answer(version, "nodes")).run(OrchestratorDialect(ServerVersion(version)).nodes())
    return {node.id for node in found if node.takes_jobs}


def test_where_it_does_not_the_executions_and_the_list_of_nodes_tell() -> None:
    job = read("v1.3.2", "bad module: get")
    assert job.state is JobState.RUNNING
    assert has_used_up_its_nodes(job)
    assert not is_hopeless(job)
    assert not is_hopeless(job, {*nodes_of("v1.3.2"), "n-another"})
    assert is_hopeless(job, nodes_of("v1.3.2"))


@pytest.mark.parametrize(
    ("version", "label"),
    [
        *((version, "running: get") for version in ("v1.3.2", "v1.4.0", "v1.7.0", "v1.9.3")),
        # v1.3.2 lets a busy program run on beyond its timeout.
        ("v1.3.2", "exec timeout: get"),
        *((version, "count 3: get") for version in ("v1.4.0", "v1.7.0", "v1.9.3")),
        *((version, "wasm ok: get") for version in ("v1.3.2", "v1.4.0", "v1.7.0", "v1.9.3")),
        *((version, "queued: get") for version in ("v1.4.0", "v1.7.0", "v1.9.3")),
        ("v1.9.3", "bad module no queueing: get"),
    ],
)
def test_a_job_that_runs_waits_or_is_over_is_not_hopeless(version: str, label: str) -> None:
    job = read(version, label)
    everywhere = {one.node_id for one in job.executions or ()}
    assert not is_hopeless(job)
    assert not is_hopeless(job, everywhere)


@pytest.mark.parametrize("version", requester.VERSIONS)
def test_the_requester_api_ends_such_a_job_itself(version: str) -> None:
    job = Script.of(requester.exchange(version, "bad module: list").response).run(
        dialect(version).get("j-1", executions=True)
    )
    assert job.state is JobState.FAILED
    assert not is_hopeless(job, {one.node_id for one in job.executions or ()})


# -- made up ----------------------------------------------------------------------------------------------------------


def ran(node: str, state: ExecutionState = ExecutionState.FAILED, **other: Any) -> Execution:
    return Execution(f"e-{node}", "j-1", node, state, **other)


def queued(*reasons: str, suitable: int = 0) -> str:
    lines = "".join(f"\n• Node n-{number}: {reason}" for number, reason in enumerate(reasons))
    found = f"requested: 1, available: {len(reasons)}, suitable: {suitable}."
    return f"Job queued. not enough nodes to run job. {found}{lines}"


def make(message: str, executions: list[Execution], state: JobState = JobState.QUEUED, **other: Any) -> Job:
    given: dict[str, Any] = {"name": "n", "namespace": "default", "type": "batch", "count": 1, "engine": "wasm"}
    return Job(id="j-1", state=state, message=message, executions=tuple(executions), **{**given, **other})


TWICE = [ran("a"), ran("a")]
S = ExecutionState

# What the job says, what ran; whether it is hopeless by the server's words alone.
CASES: list[tuple[str, Job, bool]] = [
    ("twice on the only node", make(queued(SPENT), TWICE), True),
    ("nodes that say the same share a line", make(f"{queued()}\n• 3 of 3 nodes: {SPENT}", TWICE), True),
    ("the other node has another engine", make(queued(SPENT, OTHER_ENGINE), TWICE), True),
    ("the other node has other labels", make(queued(SPENT, OTHER_LABELS), TWICE), True),
    (
        "the other node is too small",
        make(queued(SPENT, "job requires more CPU (64) than the maximum available (2)"), TWICE),
        True,
    ),
    ("the other node refused its bid", make(queued(SPENT, REJECTED), [*TWICE, ran("b", S.ASK_FOR_BID_REJECTED)]), True),
    ("the only node refused its bid", make(queued(REJECTED), [ran("a", S.ASK_FOR_BID_REJECTED)]), True),
    ("the other node is busy", make(queued(SPENT, BUSY), TWICE), False),
    ("the other node says what nobody has heard", make(queued(SPENT, "the moon is full"), TWICE), False),
    ("the other node is suitable", make(queued(SPENT, "", suitable=1), TWICE), False),
    ("no node is connected", make(queued(), TWICE), False),
    ("no node says it was tried", make(queued(OTHER_ENGINE), TWICE), False),
    ("it says nothing", make("", TWICE), False),
    ("it says something else", make(f"a text\n• Node n-1: {SPENT}", TWICE), False),
    ("nothing ran at all", make(queued(SPENT), []), False),
    ("the executions were not read", replace(make(queued(SPENT), []), executions=None), False),
    ("one try is over, the second not made", make(queued(SPENT), [ran("a")]), False),
    ("the second try runs", make(queued(SPENT), [ran("a"), ran("a", S.BID_ACCEPTED)]), False),
    ("an execution in an unknown state", make(queued(SPENT), [*TWICE, ran("b", S.UNKNOWN)]), False),
    # A message is older than the executions: a node came later, failed once, and is tried again in a moment.
    ("a new node was tried once", make(queued(SPENT), [*TWICE, ran("b")]), False),
    ("it was cancelled, nothing failed", make(queued(SPENT), [ran("a", S.CANCELLED), ran("a", S.CANCELLED)]), False),
    (
        "one by one: two completed, the rest follows",
        make(queued(REJECTED, REJECTED), [ran("a", S.COMPLETED), ran("b", S.COMPLETED)], count=5),
        False,
    ),
    (
        "one by one: one failed elsewhere, the node of the good one is offered it again later",
        make(queued(SPENT, REJECTED), [*TWICE, ran("b", S.COMPLETED)], count=2),
        False,
    ),
    ("it is Running where a queue is shown", make(queued(SPENT), TWICE, JobState.RUNNING), False),
    ("it is over", make(queued(SPENT), TWICE, JobState.FAILED), False),
    ("ops jobs fail by themselves", make(queued(SPENT), TWICE, type="ops"), False),
    ("an older version of the job failed", make(queued(SPENT), [ran("a", job_version=1)] * 2, version=2), False),
    ("this version failed", make(queued(SPENT), [ran("a", job_version=2)] * 2, version=2), True),
]


@pytest.mark.parametrize(("job", "hopeless"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_what_is_hopeless(job: Job, hopeless: bool) -> None:
    assert is_hopeless(job) is hopeless


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.QUEUED, JobState.RUNNING])
@pytest.mark.parametrize(
    ("executions", "nodes", "hopeless"),
    [
        (TWICE, {"a"}, True),
        ([*TWICE, *(ran("b"), ran("b"))], {"a", "b"}, True),
        (TWICE, {"a", "b"}, False),
        (TWICE, {"b"}, False),
        (TWICE, set(), False),
        ([ran("a")], {"a"}, False),
        ([*TWICE, ran("b", S.NEW)], {"a"}, False),
    ],
)
def test_without_its_words_every_node_has_to_have_had_its_tries(
    state: JobState, executions: list[Execution], nodes: set[str], hopeless: bool
) -> None:
    assert is_hopeless(make("", executions, state), nodes) is hopeless
