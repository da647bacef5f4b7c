"""One attempt, one job: how a task ends as its job does, and what it leaves on the network when it fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSkipException

from airflow_provider_bacalhau.client import BacalhauClient
from airflow_provider_bacalhau.client.claims import Claims
from airflow_provider_bacalhau.client.dialects.orchestrator import OrchestratorDialect
from airflow_provider_bacalhau.client.errors import KeyRefused, NotAuthorised
from airflow_provider_bacalhau.client.spec import docker_job, wasm_job
from airflow_provider_bacalhau.client.spec.data_urls import encode_data_url
from airflow_provider_bacalhau.devnode import DevNode
from airflow_provider_bacalhau.devnode.faults import Fault
from airflow_provider_bacalhau.operators.bacalhau import BacalhauSubmitJobOperator

from .attempts import LASTING, Instance, is_final, last
from .conftest import Connect, Network
from .programs import exits, sleeps
from .running import FakeTaskInstance, context_of, run_task

UNLOADABLE = b"\0asm\1\0\0\0" + b"\x00\x05\x04name" + b"\x0a\x01\xff"
"""What looks like a module to the client, and to no engine."""


# --- Rules ---


def unloadable(**options: Any) -> dict[str, Any]:
    return wasm_job(encode_data_url(UNLOADABLE, "application/wasm"), **options)


def unreadable(**options: Any) -> dict[str, Any]:
    """Has an input that no node can read."""
    source = {"Type": "urlDownload", "Params": {"URL": "http://127.0.0.1:9/nothing"}}
    return exits(0, inputs=[{"Source": source, "Target": "/inputs"}], **options)


def test_a_job_that_nothing_can_run_any_more_is_stopped_at_once(instance: Instance) -> None:
    begun = time.monotonic()
    ran = instance.attempt(unreadable(), job_queue_timeout=300)
    assert time.monotonic() - begun < 60
    assert not is_final(ran)
    assert ran.xcoms["failure_category"] == "INPUT_UNAVAILABLE"
    assert instance.states == ["Stopped"]
    assert ran.xcoms["job_state"] == "Stopped"


def test_without_fail_fast_it_is_waited_for(instance: Instance) -> None:
    ran = instance.attempt(unreadable(), job_queue_timeout=300, fail_fast=False, timeout=2)
    assert ran.xcoms["failure_category"] == "WAIT_TIMEOUT"


@pytest.mark.parametrize(
    ("job_spec", "category"),
    [(unloadable(), "MODULE_INVALID"), (docker_job("alpine"), "ENGINE_NOT_SUPPORTED"), ({}, "REFUSED_SPEC")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_must_fail_again_is_not_tried_again(instance: Instance, job_spec: Any, category: str) -> None:
    ran = instance.attempt(job_spec)
    assert is_final(ran)
    assert ran.xcoms["failure_category"] == category


@pytest.mark.parametrize("excused", [3, [3, 4], {3}])
def test_an_excused_exit_code_skips_the_task(instance: Instance, excused: Any) -> None:
    ran = instance.attempt(exits(3), skip_on_exit_code=excused)
    assert isinstance(ran.error, AirflowSkipException)
    assert "exit code 3, which skips this task" in str(ran.error)
    assert ran.xcoms["exit_codes"] == [3]
    assert "failure_category" not in ran.xcoms


@pytest.mark.parametrize(("final", "expected"), [(3, True), ([4, 3], True), (4, False), (None, False)])
def test_after_some_exit_codes_the_task_is_not_tried_again(instance: Instance, final: Any, expected: bool) -> None:
    ran = instance.attempt(exits(3), no_retry_on_exit_code=final)
    assert is_final(ran) is expected
    assert ran.xcoms["failure_category"] == "PROGRAM_FAILED"


@pytest.mark.parametrize(("policy", "succeeds"), [("all", False), ("any", True), (1, True), (2, False)])
def test_how_many_executions_have_to_succeed_is_the_tasks_choice(
    instance: Instance, policy: Any, succeeds: bool
) -> None:
    ran = instance.attempt(exits(0, count=2), success_policy=policy, job_queue_timeout=1)
    assert (ran.error is None) is succeeds
    assert ran.xcoms["execution_counts"]["succeeded"] == 1


@pytest.mark.parametrize("allowed", [False, True])
def test_results_that_are_missing_fail_the_task_unless_that_is_all_right(
    instance: Instance, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    monkeypatch.setattr(BacalhauClient, "references", lambda client, job_id: [])
    ran = instance.attempt(exits(0, publisher="ipfs"), allow_missing_results=allowed)
    if allowed:
        assert (ran.error, ran.xcoms["results"]) == (None, [])
    else:
        assert not is_final(ran)
        assert ran.xcoms["failure_category"] == "RESULTS_MISSING"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"success_policy": "most"}, "success_policy: "),
        ({"skip_on_exit_code": "3"}, "skip_on_exit_code: is '3'"),
        ({"no_retry_on_exit_code": [[3]]}, "no_retry_on_exit_code: is [[3]]"),
        ({"on_existing": "keep"}, "on_existing: is 'keep'"),
    ],
)
def test_rules_that_cannot_be_are_refused_before_anything_is_sent(
    instance: Instance, arguments: dict[str, Any], words: str
) -> None:
    ran = instance.attempt(exits(0), **arguments)
    assert is_final(ran)
    assert words in str(ran.error)
    assert ran.xcoms == {"failure_category": "REFUSED_SPEC"}
    assert instance.jobs == []


# --- Rights ---

READER = {"Username": "reader", "Password": "only-looks", "Capabilities": [{"Actions": ["read:*"]}]}
WRITER = {"Username": "writer", "Password": "does-all", "Capabilities": [{"Actions": ["*"]}]}


@pytest.fixture(scope="module")
def guarded() -> Iterator[DevNode]:
    with DevNode(users=[READER, WRITER]) as node:
        yield node


def test_a_user_who_may_not_submit_fails_for_good(
    guarded: DevNode, connect: Connect, log: Callable[[], str], deferrable: bool
) -> None:
    connect(guarded.api, login="reader", password="only-looks")
    ran = run_task(BacalhauSubmitJobOperator(task_id="task", job_spec=exits(0), deferrable=deferrable))
    assert "was being submitted" not in log()
    assert is_final(ran)
    assert ran.xcoms == {"failure_category": "NOT_AUTHORISED"}
    assert "write:job" in str(ran.error)


def test_where_stopping_is_refused_the_missing_right_is_named(
    guarded: DevNode, connect: Connect, deferrable: bool
) -> None:
    connect(guarded.api, login="writer", password="does-all")
    ti, retry = (FakeTaskInstance(run_id=f"run-{deferrable}", try_number=number, max_tries=1) for number in (1, 2))
    given: dict[str, Any] = {"task_id": "task", "job_spec": sleeps(5), "deferrable": deferrable}
    assert run_task(BacalhauSubmitJobOperator(**given, wait_for_completion=False), ti).error is None
    connect(guarded.api, login="reader", password="only-looks")
    ran = run_task(BacalhauSubmitJobOperator(**given, timeout=1), retry)
    assert "the job may run on, as these credentials lack the right write:job" in str(ran.error)
    assert ran.xcoms["failure_category"] == "WAIT_TIMEOUT"


def test_a_job_of_another_key_is_said_to_be_out_of_reach(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(client: BacalhauClient, *arguments: Any) -> Any:
        raise KeyRefused("The job belongs to another key.")

    with monkeypatch.context() as patching:
        patching.setattr(BacalhauClient, "stop", stop)
        ran = instance.attempt(LASTING, timeout=0.5)
    assert "the job may run on, as these credentials may not stop it" in str(ran.error)


# --- Surprises ---


@pytest.mark.parametrize(("number", "state"), [(1, "alive"), (2, "alive"), (3, "Stopped")])
def test_a_surprise_leaves_the_job_to_the_next_try_if_there_is_one(
    instance: Instance, log: Callable[[], str], number: int, state: str
) -> None:
    def surprise(key: str, value: str) -> None:
        if key == "job_url":
            raise RuntimeError("no such thing")

    ran = instance.attempt(sleeps(2), instance.ti(number, on_push=surprise))
    assert str(ran.error) == "no such thing"
    if state == "alive":
        assert "runs on; the next try of this task goes on with it" in log()
        again = instance.attempt(sleeps(2), instance.ti(number + 1))
        assert (again.error, again.value) == (None, ran.ti.job_id)
    else:
        assert instance.network.state(ran.ti.job_id) == state


def test_an_error_that_no_retry_mends_stops_the_job_though_tries_are_left(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def get(dialect: OrchestratorDialect, job_id: str, **wanted: Any) -> Any:
        raise NotAuthorised("The credentials were taken back.")

    with monkeypatch.context() as patching:

        def take_back(key: str, value: str) -> None:
            if key == "job_url":
                patching.setattr(OrchestratorDialect, "get", get)

        ran = instance.attempt(LASTING, instance.ti(on_push=take_back))
    assert is_final(ran)
    assert ran.xcoms["failure_category"] == "NOT_AUTHORISED"
    assert instance.states == ["Stopped"]


# --- A last try leaves nothing running ---


def test_a_submission_that_is_answered_by_nonsense_leaves_nothing_running(
    disturbed: tuple[DevNode, BacalhauClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, client = disturbed
    monkeypatch.setattr("airflow_provider_bacalhau.client.claims.UNCLEAR_SECONDS", 0.1)
    node.faults.add(Fault("redirect", method="POST", path="*/orchestrator/jobs", times=1, after_work=True))
    ran = last()
    alive = [job for job in client.list(limit=0).items if not job.state.is_terminal]
    assert (ran.error is None) == bool(ran.value)
    assert alive == []


def test_a_later_try_that_is_refused_for_good_stops_the_job_of_the_earlier_one(
    disturbed: tuple[DevNode, BacalhauClient],
) -> None:
    _, client = disturbed
    first = FakeTaskInstance(max_tries=1)
    job_id = last(first, wait_for_completion=False).value
    ran = last(replace(first, try_number=2, xcoms={}), job_spec={"Tasks": []})
    assert isinstance(ran.error, AirflowFailException)
    assert client.wait(job_id, deadline=time.time() + 10).state.value == "Stopped"


def test_a_job_that_was_not_sent_is_not_looked_for(connect: Connect, log: Callable[[], str]) -> None:
    """What only the old API cannot carry is found out when the job is about to be sent."""
    with DevNode(emulate="v1.0.3") as node:
        connect(node.api)
        looks = node.faults.add(Fault("delay", path="*/requester/list", seconds=0.001))
        ran = last(job_spec={"Type": "batch", "Tasks": [{"Name": "a", "Engine": {"Type": "nosuch", "Params": {}}}]})
        assert ran.xcoms == {"failure_category": "REFUSED_SPEC"}
        assert looks.hits <= 1
    assert "none was found to stop" not in log()


def test_a_last_try_that_reaches_nobody_says_why_once(
    connect: Connect, unused_port: int, log: Callable[[], str]
) -> None:
    connect("127.0.0.1", port=unused_port)
    last(FakeTaskInstance(try_number=2, max_tries=1))
    assert "A job of this task may run on; it could not be looked for: see below" in log()
    assert log().count("no connection could be made") == 1


def test_a_job_that_is_not_to_be_touched_runs_on_although_no_other_try_follows(
    disturbed: tuple[DevNode, BacalhauClient],
) -> None:
    _, client = disturbed
    first = FakeTaskInstance(max_tries=1)
    job_id = last(first, wait_for_completion=False).value
    ran = last(replace(first, try_number=2, xcoms={}), env={"A": "1"}, on_existing="fail")
    assert "It runs on." in str(ran.error)
    assert not client.get(job_id).state.is_terminal


def test_a_job_that_is_refused_is_not_looked_for(
    disturbed: tuple[DevNode, BacalhauClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Claims, "stop_for", lambda *arguments, **named: pytest.fail("there is no job to stop"))
    ran = last(env={"TOO_LONG": "x" * 10_000_000})
    assert isinstance(ran.error, AirflowFailException)


@pytest.mark.parametrize("kind", ["login_page", "bad_gateway"])
def test_a_killed_tasks_stop_that_a_proxy_has_answered_is_asked_for_again(
    disturbed: tuple[DevNode, BacalhauClient], kind: str
) -> None:
    node, client = disturbed
    rule = node.faults.add(Fault(kind, method="DELETE", times=1))
    operator = BacalhauSubmitJobOperator(task_id="task", poll_interval=0.2, job_spec=LASTING)
    ti = FakeTaskInstance(on_push=lambda key, value: operator.on_kill() if key == "job_url" else None)
    ran = run_task(operator, ti)
    assert rule.hits == 1
    assert isinstance(ran.error, AirflowException)
    assert client.get(ti.job_id).state.value == "Stopped"


@pytest.mark.parametrize("deferred", [False, True])
def test_a_job_whose_end_the_server_does_not_show_is_given_up_once(
    disturbed: tuple[DevNode, BacalhauClient], deferred: bool
) -> None:
    node, client = disturbed
    first = FakeTaskInstance(max_tries=1)
    client.wait(last(first, job_spec=exits(0), wait_for_completion=False).value, deadline=time.time() + 30)
    node.faults.add(Fault("unknown_state", method="GET", path="*/orchestrator/jobs/*"))
    stops = node.faults.add(Fault("delay", method="DELETE", seconds=0.001))
    ran = last(replace(first, try_number=2, xcoms={}), job_spec=exits(0), timeout=1, deferrable=deferred)
    assert ran.xcoms["failure_category"] == "WAIT_TIMEOUT"
    assert "and the job was already completed" in str(ran.error)
    assert stops.hits == 1


def test_a_stop_that_has_time_is_tried_again(disturbed: tuple[DevNode, BacalhauClient]) -> None:
    node, client = disturbed
    rule = node.faults.add(Fault("server_timeout", method="DELETE", times=2))
    ran = last(timeout=0.5)
    assert rule.hits == 2
    assert "the job was stopped" in str(ran.error)
    assert client.get(ran.ti.job_id).state.value == "Stopped"


def test_a_job_that_ends_by_itself_before_its_stop_arrives_is_judged_by_its_end(network: Network) -> None:
    """A deferred task whose timeout has passed needs a worker before it can stop its job."""
    made = Instance(network, deferrable=True)
    job_id = made.left(exits(0))
    network.state(job_id)
    late = {"status": "timeout", "job_id": job_id, "message": "Job was not over in time."}
    assert made.operator(exits(0), timeout=5).execute_complete(context_of(made.ti()), late) == job_id


def test_a_wait_that_airflow_itself_gave_up_leaves_no_job_running(network: Network) -> None:
    """Without a triggerer nobody sees the deadline pass, and Airflow fails the task outside of its own code."""
    made = Instance(network, deferrable=True)
    ti = made.ti(max_tries=0)
    job_id = made.left(LASTING, ti)
    with pytest.raises(Exception, match=r"[Dd]eferral|timeout|failure"):
        made.operator(LASTING).resume_execution("__fail__", {"error": "Trigger timeout"}, context_of(ti))
    assert network.state(job_id) == "Stopped"
