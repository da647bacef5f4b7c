"""The scheduler, without a clock, a thread or a program: recorded histories of real nodes, replayed.

Each replay feeds what happened (accepted bids, ended programs, time) and compares what comes out with the recording:
every event in order, the state and message of the job, states and revisions of the executions.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from airflow_provider_bacalhau.devnode import messages, scheduler
from airflow_provider_bacalhau.devnode.changes import AskForBid, Cancel, Change, LookAgain, Run, Trigger
from airflow_provider_bacalhau.devnode.jobspec import accept, decode_submission
from airflow_provider_bacalhau.devnode.messages import Refused
from airflow_provider_bacalhau.devnode.ranking import NodeView
from airflow_provider_bacalhau.devnode.records import SECOND, Event, Execution, Job, RunOutput, Topic
from airflow_provider_bacalhau.devnode.resources import Resources
from airflow_provider_bacalhau.devnode.scheduler import Settings

from .specs import recorded

REAL_NODE = Resources(1.6, 20221211443, 199329654374)
BACKOFF = 60 * SECOND


class Cluster:
    """One job on some nodes, moved by hand."""

    def __init__(
        self, request: dict[str, Any], nodes: list[str], engines: tuple[str, ...] = ("wasm", "docker")
    ) -> None:
        self.now = 1_000 * SECOND
        self.numbers = itertools.count()
        self.engines, self.node_ids = engines, nodes
        self.used: dict[str, Resources] = {}
        self.executions: dict[str, Execution] = {}
        self.events: list[tuple[str, Event]] = []
        self.asked: list[str] = []
        self.running: list[str] = []
        self.looks: list[LookAgain] = []
        spec = self.spec(request)
        self.job = Job("j-1", {**spec, "Name": spec["Name"] or "j-1"}, self.now, self.now)
        self.tell(messages.submitted(self.job, self.now))

    def spec(self, request: dict[str, Any]) -> dict[str, Any]:
        return accept(decode_submission(json.dumps(request).encode()).job).spec

    def tell(self, change: Change) -> None:
        self.job = change.job
        self.executions.update(change.executions)
        self.events += change.events
        for effect in change.effects:
            match effect:
                case AskForBid(execution):
                    self.asked.append(execution.id)
                case Run(execution):
                    self.running.append(execution.id)
                case Cancel(execution):
                    self.running = [e for e in self.running if e != execution.id]
                case LookAgain():
                    self.looks.append(effect)

    def evaluate(self, trigger: Trigger = Trigger.EXECUTION_CHANGED) -> Cluster:
        self.now += 1000
        free = [
            NodeView(n, {"name": n}, self.engines, ("local",), ("inline",), REAL_NODE, self.used.get(n, Resources()))
            for n in self.node_ids
        ]
        settings = Settings(BACKOFF, 1.5)
        executions = list(self.executions.values())
        self.tell(
            scheduler.evaluate(self.job, executions, free, trigger, settings, self.now, lambda: f"{next(self.numbers)}")
        )
        return self

    def accept(self, count: int = 1) -> Cluster:
        """Bids of the first nodes asked arrive together."""
        for execution_id in self.asked[:count]:
            self.tell(messages.bid_accepted(self.job, self.executions[execution_id], self.now))
        del self.asked[:count]
        return self.evaluate()

    def complete(self) -> Cluster:
        execution = self.executions[self.running.pop(0)]
        self.tell(messages.execution_completed(self.job, execution, {}, RunOutput(), self.now))
        return self.evaluate()

    def fail(self, message: str) -> Cluster:
        event = Event(message, Topic.RUNNING, self.now, {"IsError": "true"})
        self.tell(messages.execution_failed(self.job, self.executions[self.running.pop(0)], event, self.now))
        return self.evaluate()

    def wait(self) -> Cluster:
        """Until the job is to be looked at again."""
        look = min(self.looks, key=lambda one: one.at)
        self.looks.remove(look)
        self.now = max(self.now, look.at)
        return self.evaluate(look.trigger)

    def stop(self, reason: str) -> Cluster:
        change = messages.stopped(self.job, reason, self.now)
        assert change is not None
        self.tell(change)
        return self.evaluate(Trigger.STOPPED)


def same(cluster: Cluster, answer: dict[str, Any], *, in_order: bool = True) -> None:
    """Compare with a recorded ``include=executions,history`` answer; ids of executions stand for their place."""
    job, history = answer["Job"], answer["History"]["Items"]
    assert (cluster.job.state.value, cluster.job.message) == (
        job["State"]["StateType"],
        job["State"].get("Message", ""),
    )
    assert (cluster.job.version, cluster.job.revision) == (job["Version"], job["Revision"])
    ours = [(str(e.topic), e.message, dict(e.details), bool(x)) for x, e in cluster.events]
    theirs = [
        (h["Event"]["Topic"], h["Event"]["Message"], h["Event"].get("Details", {}), "ExecutionID" in h) for h in history
    ]
    if in_order:
        assert ours == theirs
    else:
        assert sorted(map(repr, ours)) == sorted(map(repr, theirs))
    if "Executions" not in answer:
        return
    shown = [
        (e.state, e.message, e.desired, e.desired_message, e.revision, e.job.state, e.job.revision)
        for e in cluster.executions.values()
    ]
    wanted = [
        (
            x["ComputeState"]["StateType"],
            x["ComputeState"].get("Message", ""),
            x["DesiredState"]["StateType"],
            x["DesiredState"].get("Message", ""),
            x["Revision"],
            x["Job"]["State"]["StateType"],
            x["Job"]["Revision"],
        )
        for x in answer["Executions"]["Items"]
    ]
    assert shown == wanted


NODE = "n-07b71d7b-9f1f-42ec-abbf-45f74bfcab61"


def replay(file: str, label: str, nodes: list[str] | None = None) -> Cluster:
    return Cluster(recorded(file)[label]["request"]["json"], nodes or [NODE]).evaluate(Trigger.REGISTERED)


def answer(file: str, label: str) -> dict[str, Any]:
    body: dict[str, Any] = recorded(file)[label]["response"]["json"]
    return body


def test_a_good_job_leaves_the_recorded_history() -> None:
    same(replay("orchestrator", "wasm ok").accept().complete(), answer("orchestrator", "wasm ok: get"))


def test_a_running_job_that_is_stopped_leaves_the_recorded_history() -> None:
    cluster = replay("orchestrator", "wasm ok").accept()
    same(cluster, answer("orchestrator", "running: get"))
    assert len(cluster.running) == 1
    same(cluster.stop("probe says stop"), answer("orchestrator", "stopped: get"))
    assert not cluster.running


def test_an_unschedulable_job_is_queued_and_stopped_as_recorded() -> None:
    request = recorded("orchestrator")["wasm ok"]["request"]["json"]
    task = request["Job"]["Tasks"][0]
    task["Resources"], task["Timeouts"] = {"CPU": "64"}, {"QueueTimeout": 600}
    cluster = Cluster(request, [NODE]).evaluate(Trigger.REGISTERED)
    same(cluster, answer("orchestrator", "queued: get"))
    assert [look.at - cluster.now for look in cluster.looks] == [BACKOFF]
    same(cluster.stop("no longer wanted"), answer("orchestrator", "queued: stopped get"))


def test_an_unschedulable_job_without_queue_timeout_fails_at_once_as_recorded() -> None:
    request = recorded("orchestrator")["wasm ok"]["request"]["json"]
    request["Job"]["Tasks"][0].update(Resources={"CPU": "64"}, Timeouts={"ExecutionTimeout": 60})
    cluster = Cluster(request, [NODE]).evaluate(Trigger.REGISTERED)
    same(cluster, answer("orchestrator", "unschedulable: get"))


def test_two_timeouts_on_one_node_leave_the_recorded_history() -> None:
    cluster = replay("orchestrator", "exec timeout")
    for _ in range(2):
        cluster.accept().fail("Execution timed out after 2s")
    same(cluster, answer("orchestrator", "exec timeout: get"))


BROKEN = (
    'failed to load entry module /mod/entry.wasm: failed to compile module at "/mod/entry.wasm": invalid magic number'
)


def test_a_broken_module_is_tried_twice_and_queued_as_recorded() -> None:
    same(
        replay("orchestrator", "exec timeout").accept().fail(BROKEN).accept().fail(BROKEN),
        answer("orchestrator", "bad module: get"),
    )


def test_a_broken_module_without_queue_timeout_fails_as_recorded() -> None:
    request = recorded("orchestrator")["wasm ok"]["request"]["json"]
    request["Job"]["Tasks"][0]["Timeouts"] = {"ExecutionTimeout": 60}
    cluster = Cluster(request, [NODE]).evaluate(Trigger.REGISTERED).accept().fail(BROKEN).accept().fail(BROKEN)
    same(cluster, answer("orchestrator", "bad module no queueing: get"))


def test_count_3_on_one_node_leaves_the_recorded_history() -> None:
    request = recorded("orchestrator")["wasm ok"]["request"]["json"]
    request["Job"]["Count"] = 3
    cluster = Cluster(request, [NODE]).evaluate(Trigger.REGISTERED).accept().complete().wait()
    same(cluster, answer("orchestrator", "count 3: get"))


def nodes_of(label: str) -> list[str]:
    """Nodes in the order in which the recorded scheduler preferred them."""
    items = answer("count", f"{label}: include=executions,history")["Executions"]["Items"]
    by_partition = sorted(items, key=lambda item: item.get("PartitionIndex", 0))
    return [item["NodeID"] for item in by_partition]


def test_count_3_on_three_nodes_leaves_the_recorded_history() -> None:
    cluster = replay("count", "count 3 of 3 nodes", nodes_of("count 3 of 3 nodes"))
    assert [e.partition for e in cluster.executions.values()] == [0, 1, 2]
    cluster.accept(1).accept(2).complete().complete().complete()
    same(cluster, answer("count", "count 3 of 3 nodes: include=executions,history"), in_order=True)


def test_count_5_on_three_nodes_leaves_the_recorded_history() -> None:
    label = "count 5 of 3 nodes"
    cluster = replay("count", label, nodes_of(label))
    cluster.accept(1).accept(2).complete().complete().complete().wait()
    same(cluster, answer("count", f"{label}: include=executions,history"), in_order=False)


def test_another_spec_under_the_same_name_is_the_next_version() -> None:
    cluster = replay("orchestrator", "wasm ok").accept().complete()
    other = cluster.spec(recorded("orchestrator")["same name other spec"]["request"]["json"])
    cluster.tell(messages.updated(cluster.job, other, cluster.now))
    assert (cluster.job.state, cluster.job.message) == ("Pending", "Job update requested by user")
    cluster.evaluate(Trigger.UPDATED).accept().complete()
    body = answer("orchestrator", "after update get")["Job"]
    assert (cluster.job.version, cluster.job.revision, cluster.job.state) == (
        body["Version"],
        body["Revision"],
        body["State"]["StateType"],
    )
    assert cluster.job.spec["Tasks"][0]["Engine"] == body["Tasks"][0]["Engine"]


def test_an_update_ends_what_runs_of_the_version_before() -> None:
    cluster = replay("orchestrator", "wasm ok").accept()
    (old,) = cluster.executions
    cluster.tell(messages.updated(cluster.job, cluster.job.spec, cluster.now))
    cluster.evaluate(Trigger.UPDATED)
    assert cluster.executions[old].message == "Execution stopped for job update"
    assert [e.message for _, e in cluster.events[-3:]] == [
        "Job updated",
        "Execution stopped for job update",
        "Requested execution on n-07b71d7b",
    ]


def test_an_end_that_comes_after_the_stop_changes_nothing() -> None:
    cluster = replay("orchestrator", "wasm ok").accept()
    (running,) = cluster.running
    cluster.stop("first")
    before = list(cluster.events)
    late = messages.execution_completed(cluster.job, cluster.executions[running], {}, RunOutput(), cluster.now)
    assert not late.executions
    assert cluster.events == before


def test_a_stop_that_comes_after_the_end_is_refused_in_the_recorded_words() -> None:
    cluster = replay("orchestrator", "wasm ok").accept().complete()
    with pytest.raises(Refused, match=r"^cannot stop job in state Completed$"):
        messages.stopped(cluster.job, "late", cluster.now)


def test_stopping_twice_is_no_change() -> None:
    cluster = replay("orchestrator", "wasm ok").stop("once")
    assert messages.stopped(cluster.job, "again", cluster.now) is None


def test_a_bid_of_a_stopped_job_is_not_approved() -> None:
    cluster = replay("orchestrator", "wasm ok").stop("early")
    cluster.accept()
    assert not cluster.running


def test_a_queued_job_starts_when_a_node_is_free() -> None:
    request = recorded("orchestrator")["wasm ok"]["request"]["json"]
    request["Job"]["Tasks"][0].update(Resources={"CPU": "1.6"}, Timeouts={"QueueTimeout": 600})
    cluster = Cluster(request, [NODE])
    cluster.used[NODE] = Resources(1.6)
    cluster.evaluate(Trigger.REGISTERED)
    assert cluster.job.state == "Queued"
    assert "node busy with available capacity {CPU: 0.00, Memory: 20 GB, Disk: 199 GB, GPU: 0}" in cluster.job.message
    cluster.used.clear()
    cluster.wait().accept()
    assert cluster.job.state == "Running"


def test_a_job_that_takes_longer_than_its_total_timeout_fails() -> None:
    request = recorded("orchestrator")["wasm ok"]["request"]["json"]
    request["Job"]["Tasks"][0]["Timeouts"] = {"TotalTimeout": 90}
    cluster = Cluster(request, [NODE]).evaluate(Trigger.REGISTERED).accept().wait()
    assert (cluster.job.state, cluster.job.message) == ("Failed", "Job timed out. Job took longer than 1m30s")
    assert [e.message for e in cluster.executions.values()] == ["Execution stopped due to job failure"]


def test_a_node_restart_costs_a_try_and_starts_over() -> None:
    cluster = replay("orchestrator", "wasm ok").accept()
    (lost,) = cluster.running
    cluster.tell(messages.node_restarted(cluster.job, cluster.executions[lost], cluster.now))
    cluster.evaluate()
    assert cluster.executions[lost].message == "Failing due to node restart"
    assert len(cluster.asked) == 1
    assert cluster.job.state == "Running"


def test_an_end_of_a_service_is_a_failure() -> None:
    request = recorded("orchestrator")["wasm ok"]["request"]["json"]
    request["Job"]["Type"] = "service"
    cluster = Cluster(request, [NODE]).evaluate(Trigger.REGISTERED).accept().complete()
    assert next(e.message for e in cluster.executions.values()) == "execution completed unexpectedly"
    assert len(cluster.asked) == 1


def test_an_ops_job_runs_once_on_every_node() -> None:
    request = recorded("orchestrator")["wasm ok"]["request"]["json"]
    request["Job"]["Type"] = "ops"
    cluster = Cluster(request, ["n-1", "n-2", "n-3"]).evaluate(Trigger.REGISTERED)
    assert [e.node_id for e in cluster.executions.values()] == ["n-1", "n-2", "n-3"]
    assert cluster.job.state == "Running"
    cluster.complete().complete()
    assert cluster.job.state == "Running"
    cluster.complete()
    assert cluster.job.state == "Completed"


def test_an_engine_that_no_node_has_is_named_with_those_that_are() -> None:
    request = recorded("orchestrator")["wasm ok"]["request"]["json"]
    request["Job"]["Tasks"][0].update(Engine={"Type": "docker", "Params": {}}, Timeouts={})
    cluster = Cluster(request, [NODE], engines=("wasm",)).evaluate(Trigger.REGISTERED)
    assert cluster.job.message == (
        "not enough nodes to run job. requested: 1, available: 1, suitable: 0.\n"
        "• Node n-07b71d7b: does not support docker, only wasm"
    )
