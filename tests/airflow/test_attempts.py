"""One attempt, one job: what becomes of a task's job over retries, clears and edits, wherever the task waits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_bacalhau import attempts
from airflow_provider_bacalhau.attempts import owner_of
from airflow_provider_bacalhau.client import BacalhauClient
from airflow_provider_bacalhau.client.dialects.orchestrator import OrchestratorDialect
from airflow_provider_bacalhau.client.naming import DEPLOYMENT_LABEL, GENERATION_LABEL
from airflow_provider_bacalhau.devnode import DevNode
from airflow_provider_bacalhau.devnode.faults import Fault
from airflow_provider_bacalhau.operators.bacalhau import BacalhauSubmitJobOperator

from .attempts import LASTING, Instance, Store
from .conftest import Connect, Network
from .programs import exits, sleeps
from .running import FakeTaskInstance, context_of, run_task

# --- Retries ---


def test_a_retry_goes_on_with_the_job_that_runs(instance: Instance, log: Callable[[], str]) -> None:
    job_id = instance.left(sleeps(1))
    ran = instance.attempt(sleeps(1), instance.ti(2))
    assert (ran.error, ran.value) == (None, job_id)
    assert [job.id for job in instance.jobs] == [job_id]
    assert f"Job {job_id} " in log()
    assert "is this task's from before" in log()


def test_a_retry_takes_the_results_of_a_job_that_has_succeeded(instance: Instance) -> None:
    spec = exits(0, publisher="ipfs")
    job_id = instance.left(spec)
    instance.network.state(job_id)
    ran = instance.attempt(spec, instance.ti(2))
    assert (ran.error, ran.value) == (None, job_id)
    assert ran.xcoms.keys() == {
        "bacalhau_job_id",
        "job_url",
        "job_state",
        "exit_codes",
        "execution_counts",
        "results",
        "cids",
    }
    assert ran.xcoms["cids"].startswith("Qm")
    assert len(instance.jobs) == 1


def test_a_retry_after_a_failed_job_submits_another(instance: Instance) -> None:
    first, second, third = (instance.attempt(exits(3), instance.ti(number)) for number in (1, 2, 3))
    assert len({ran.ti.job_id for ran in (first, second, third)}) == 3
    assert [job.name[-2:] for job in instance.jobs] == ["-0", "-1", "-2"]


def test_a_retry_that_finds_its_job_does_not_look_its_inputs_up_again(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = instance.left(exits(0, publisher="local"), instance.ti(map_index=0))
    instance.network.state(done)
    first = instance.left(sleeps(1), inputs=[done])  # by an address that may be another one next time

    def look_up(client: BacalhauClient, inputs: Any) -> Any:
        raise AssertionError("there is nothing to send")

    monkeypatch.setattr(BacalhauClient, "resolve_inputs", look_up)
    ran = instance.attempt(sleeps(1), instance.ti(2), inputs=[done])
    assert (ran.error, ran.value) == (None, first)


DONE_ALL_THE_SAME = [
    Fault("cut_before_answer", times=1),
    Fault("cut_in_answer", times=1),
    Fault("server_timeout", times=1, after_work=True),
    Fault("bad_gateway", times=1, after_work=True),
]
NOT_DONE = [Fault("refuse", times=1), Fault("server_timeout", times=1)]


@pytest.mark.parametrize(
    ("version", "fault"),
    # Where names are not unique, a job that does not appear is not sent again in the same try.
    [("v1.7.0", fault) for fault in DONE_ALL_THE_SAME] + [("v1.9.3", fault) for fault in DONE_ALL_THE_SAME + NOT_DONE],
    ids=lambda value: str(getattr(value, "kind", value)),
)
def test_a_submission_that_goes_wrong_on_its_way_makes_one_job(
    connect: Connect, version: str, fault: Fault, impatient: None
) -> None:
    with DevNode(emulate=version) as node, BacalhauClient(node.api) as client:
        rule = node.faults.add(replace(fault, path="*/orchestrator/jobs", method="POST"))
        connect(node.api)
        ran = run_task(BacalhauSubmitJobOperator(task_id="task", job_spec=exits(0), poll_interval=0.2))
        assert rule.hits == 1
        assert ran.error is None
        assert [job.id for job in client.list(limit=0).items] == [ran.value]


def test_without_durable_each_try_has_a_job_of_its_own(instance: Instance) -> None:
    first = instance.left(LASTING, durable=False)
    second = instance.left(LASTING, instance.ti(2), durable=False)
    assert first != second
    assert instance.network.state(first) == "Stopped"
    assert not instance.network.client.get(second).state.is_terminal


def test_mapped_tasks_have_jobs_of_their_own(waiting_here: Instance) -> None:
    ids = {waiting_here.left(exits(0), waiting_here.ti(map_index=index)) for index in range(5)}
    assert len(ids) == 5


# --- Clears ---


def test_a_clear_stops_what_runs_and_runs_again(instance: Instance) -> None:
    old = instance.left(sleeps(2))
    ran = instance.attempt(sleeps(2), instance.ti(2, max_tries=3))
    assert ran.error is None
    assert ran.value != old
    assert instance.network.state(old) == "Stopped"


@pytest.mark.parametrize("status", ["over", "timeout", "failed"])
def test_an_event_of_the_cleared_attempts_trigger_is_not_taken_for_the_new_ones(network: Network, status: str) -> None:
    """Where Airflow uses a trigger's row again, on SQLite, the new attempt may be handed the old one's event."""
    made = Instance(network, deferrable=True)
    old = made.left(sleeps(60))
    ti = made.ti(2, max_tries=3)
    new = made.left(sleeps(2), ti)
    network.client.stop(old, "cleared")
    operator = made.operator(sleeps(2))
    stale = {"status": status, "job_id": old, "message": "m", "permanent": False, "category": ""}
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute_complete(context_of(ti), stale)
    assert deferred.value.trigger.job_id == new
    assert not network.client.get(new).state.is_terminal
    network.client.stop(new, "test is over")


def test_whose_job_it_is_and_how_it_ended_are_one_question(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Instance(network, deferrable=True)
    job_id = made.left(exits(0))
    network.state(job_id)
    asked = []

    async def get(dialect: OrchestratorDialect, job_id: str, **wanted: Any) -> Any:
        asked.append(job_id)
        return await original(dialect, job_id, **wanted)

    original = OrchestratorDialect.get
    monkeypatch.setattr(OrchestratorDialect, "get", get)
    event = {"status": "over", "job_id": job_id}
    assert made.operator(exits(0)).execute_complete(context_of(made.ti()), event) == job_id
    assert asked == [job_id]


def test_a_clear_runs_again_though_the_state_store_still_holds_the_old_id(instance: Instance) -> None:
    instance.store = Store()
    old = instance.attempt(exits(0)).value
    assert old in str(instance.store)
    new = instance.attempt(exits(0), instance.ti(2, max_tries=3)).value
    assert new != old
    assert new in str(instance.store)
    assert instance.states == ["Completed", "Completed"]


def test_a_new_run_of_a_deleted_runs_id_runs_again(waiting_here: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_CLOCKS_DIFFER", 0.0)
    old = waiting_here.left(exits(0))
    waiting_here.network.state(old)
    time.sleep(1.1)  # servers tell the time in whole seconds

    class Run:
        start_date = datetime.now(UTC)

    operator = waiting_here.operator(exits(0), wait_for_completion=False)
    assert operator.execute({**context_of(waiting_here.ti()), "dag_run": Run()}) != old


# --- The state store ---


def test_the_id_is_stored_before_anything_else_is_told(instance: Instance) -> None:
    order = []

    class Noted(Store):
        def set(self, key: str, value: Any) -> None:
            order.append("store")
            super().set(key, value)

    instance.store = Noted()
    ran = instance.attempt(exits(0), instance.ti(on_push=lambda key, value: order.append(key)))
    assert order[:2] == ["store", "bacalhau_job_id"]
    assert ran.value in str(instance.store)


def test_a_state_store_that_fails_is_done_without(instance: Instance, log: Callable[[], str]) -> None:
    class Broken:
        def get(self, key: str) -> Any:
            raise OSError("no store")

        set = get

    instance.store = Broken()
    job_id = instance.left(sleeps(1))
    ran = instance.attempt(sleeps(1), instance.ti(2))
    assert (ran.error, ran.value) == (None, job_id)
    assert "task state could not be read" in log()


def test_a_state_store_that_holds_half_an_id_is_done_without(instance: Instance) -> None:
    job_id = instance.left(sleeps(1))
    instance.left(exits(0), instance.ti(map_index=1))  # so that the half is that of several
    instance.store = Store(bacalhau_job={"key": owner_of(context_of(instance.ti()), instance.network.url).key})
    instance.store["bacalhau_job"]["job_id"] = "j-"
    ran = instance.attempt(sleeps(1), instance.ti(2))
    assert (ran.error, ran.value) == (None, job_id)


# --- An edited DAG ---


def test_an_edited_job_replaces_the_one_that_runs(instance: Instance) -> None:
    old = instance.left(LASTING)
    ran = instance.attempt(exits(0), instance.ti(2))
    assert ran.error is None
    assert ran.value != old
    assert instance.states == ["Stopped", "Completed"]


def test_an_edited_job_may_leave_the_one_that_runs_in_place(instance: Instance) -> None:
    old = instance.left(sleeps(1))
    ran = instance.attempt(exits(0), instance.ti(2), on_existing="adopt")
    assert (ran.error, ran.value) == (None, old)


def test_an_edited_job_may_fail_the_task(instance: Instance) -> None:
    old = instance.left(LASTING)
    ran = instance.attempt(exits(0), instance.ti(2), on_existing="fail")
    assert f"Job {old} of this task is " in str(ran.error)
    assert ran.xcoms.keys() == {"failure_category"}
    assert not instance.network.client.get(old).state.is_terminal


# --- Time ---


def test_the_timeout_counts_from_the_submission_over_retries(instance: Instance) -> None:
    job_id = instance.left(LASTING, timeout=6)
    with BacalhauClient(instance.network.url) as client:
        while client.age(client.get(job_id)) < 3:
            time.sleep(0.05)
    ran = instance.attempt(LASTING, instance.ti(2), timeout=6)
    (job,) = instance.jobs
    assert job.created is not None
    assert job.modified is not None
    # The server tells its time in whole seconds. A timeout that began anew would end after nine.
    assert 5 <= job.modified - job.created < 8.9
    assert ran.xcoms["failure_category"] == "WAIT_TIMEOUT"
    assert "The task's timeout of 6 s has passed, and the job was stopped." in str(ran.error)
    assert instance.states == ["Stopped"]


def test_another_timeout_is_no_other_job(instance: Instance) -> None:
    job_id = instance.left(sleeps(1), timeout=100)
    assert instance.attempt(sleeps(1), instance.ti(2), timeout=timedelta(hours=1)).value == job_id


# --- Deployments ---


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    attempts._warn_of.cache_clear()
    caplog.set_level(logging.WARNING)
    yield lambda: [record.getMessage() for record in caplog.records if record.name == attempts.__name__]
    attempts._warn_of.cache_clear()


def test_the_configured_deployment_tells_jobs_of_airflows_apart(
    waiting_here: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = []
    for deployment in ("production", "staging"):
        monkeypatch.setenv("AIRFLOW__BACALHAU__DEPLOYMENT_ID", deployment)
        labels.append(waiting_here.network.client.get(waiting_here.left(LASTING, waiting_here.ti(2))).labels)
    assert labels[0][DEPLOYMENT_LABEL] != labels[1][DEPLOYMENT_LABEL]
    assert labels[0][GENERATION_LABEL] == labels[1][GENERATION_LABEL] == "2"
    assert "Stopped" not in waiting_here.states


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("", "This Airflow has no address"),
        ("http://localhost:8080", "This Airflow's address is http://localhost:8080"),
        ("http://127.0.0.1:8080", "This Airflow's address is http://127.0.0.1:8080"),
        ("http://me:s3cret@localhost:8080/?t=0", "This Airflow's address is http://localhost:8080:"),
        ("http://0.0.0.0:8080", "This Airflow's address is http://0.0.0.0:8080"),
        ("http://airflow.localhost", "This Airflow's address is http://airflow.localhost"),
        ("https://airflow.example", ""),
    ],
)
def test_an_airflow_that_cannot_be_told_from_others_is_warned_once(
    monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]], address: str, told: str
) -> None:
    monkeypatch.setattr("airflow_provider_bacalhau.version_compat.airflow_address", lambda: address)
    for _ in range(3):
        owner_of(context_of(FakeTaskInstance()), "http://bacalhau.example:1234")
    assert len(warnings()) == bool(told)
    assert told in "".join(warnings())


@pytest.mark.parametrize("server", ["http://127.0.0.1:1234", "http://localhost:1234", "http://[::1]:1234"])
def test_against_a_node_of_this_machine_nobody_is_warned(
    monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]], server: str
) -> None:
    monkeypatch.setattr("airflow_provider_bacalhau.version_compat.airflow_address", lambda: "http://localhost:8080")
    owner_of(context_of(FakeTaskInstance()), server)
    assert warnings() == []


def test_a_configured_deployment_warns_nobody(
    monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    monkeypatch.setenv("AIRFLOW__BACALHAU__DEPLOYMENT_ID", "production")
    assert owner_of(context_of(FakeTaskInstance()), "http://bacalhau.example").deployment == "production"
    assert warnings() == []


def test_a_task_that_is_run_by_hand_has_no_further_tries() -> None:
    class Bare:
        dag_id = run_id = task_id = "x"
        map_index, try_number = -1, 1

    assert not owner_of({"ti": Bare()}, "http://127.0.0.1:1").has_next_try
