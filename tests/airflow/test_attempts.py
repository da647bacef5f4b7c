"""One attempt, one job: what becomes of a task's job over retries, clears, kills and edits, wherever the task waits."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from airflow_provider_bacalhau import attempts
from airflow_provider_bacalhau.attempts import owner_of
from airflow_provider_bacalhau.client import BacalhauClient, Job
from airflow_provider_bacalhau.client.claims import Claims
from airflow_provider_bacalhau.client.dialects.orchestrator import OrchestratorDialect
from airflow_provider_bacalhau.client.errors import KeyRefused, NotAuthorised
from airflow_provider_bacalhau.client.naming import DEPLOYMENT_LABEL, GENERATION_LABEL, label_value
from airflow_provider_bacalhau.client.spec import docker_job, wasm_job
from airflow_provider_bacalhau.client.spec.data_urls import encode_data_url
from airflow_provider_bacalhau.devnode import DevNode
from airflow_provider_bacalhau.devnode.faults import Fault
from airflow_provider_bacalhau.operators.bacalhau import BacalhauSubmitJobOperator

from .conftest import Connect, Network
from .programs import exits, sleeps
from .running import LOG, FakeTaskInstance, Ran, context_of, run_task

UNLOADABLE = b"\0asm\1\0\0\0" + b"\x00\x05\x04name" + b"\x0a\x01\xff"
"""What looks like a module to the client, and to no engine."""

LASTING = sleeps(60)


class Store(dict[str, Any]):
    """Airflow's store of task state, as tasks use it."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


@dataclass
class Instance:
    """A task instance, and the tries that Airflow makes of it.

    :param deferrable: whether its tries that wait do so in the triggerer.
    """

    network: Network
    deferrable: bool
    run_id: str = field(default_factory=lambda: f"run-{uuid.uuid4()}")
    store: Any = None

    def ti(self, number: int = 1, *, max_tries: int = 2, **fields: Any) -> FakeTaskInstance:
        return FakeTaskInstance(run_id=self.run_id, try_number=number, max_tries=max_tries, store=self.store, **fields)

    def operator(self, job_spec: Any, **arguments: Any) -> BacalhauSubmitJobOperator:
        given = {"task_id": "task", "poll_interval": 0.2, "deferrable": self.deferrable, **arguments}
        return BacalhauSubmitJobOperator(job_spec=job_spec, **given)

    def attempt(self, job_spec: Any, ti: FakeTaskInstance | None = None, **arguments: Any) -> Ran:
        return run_task(self.operator(job_spec, **arguments), ti or self.ti())

    def left(self, job_spec: Any, ti: FakeTaskInstance | None = None, **arguments: Any) -> str:
        """The job of a try whose worker died right after it had submitted it."""
        ran = self.attempt(job_spec, ti, wait_for_completion=False, **arguments)
        assert ran.error is None
        return str(ran.value)

    @property
    def jobs(self) -> list[Job]:
        """All jobs of the task instance, the oldest first."""
        page = self.network.client.list(labels={"airflow-run": label_value(self.run_id)}, limit=0)
        return sorted(page.items, key=lambda job: job.created or 0.0)

    @property
    def states(self) -> list[str]:
        return [job.state.value for job in self.jobs]


@pytest.fixture
def instance(network: Network, deferrable: bool) -> Iterator[Instance]:
    made = Instance(network, deferrable)
    yield made
    for job in made.jobs:
        network.client.stop(job.id, "test is over")


@pytest.fixture
def waiting_here(network: Network) -> Iterator[Instance]:
    """One that waits in a worker."""
    made = Instance(network, deferrable=False)
    yield made
    for job in made.jobs:
        network.client.stop(job.id, "test is over")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.INFO)
    return lambda: "\n".join(record.getMessage() for record in caplog.records if record.name == LOG.name)


def is_final(ran: Ran) -> bool:
    assert isinstance(ran.error, AirflowException)
    return isinstance(ran.error, AirflowFailException)


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
    monkeypatch.setattr(attempts, "_CLOCKS_DIFFER", -1.0)

    class Run:
        start_date = datetime.now(UTC)

    old = waiting_here.left(exits(0))
    waiting_here.network.state(old)
    time.sleep(1.1)  # servers tell the time in whole seconds
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


# --- Kills ---


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed task does not look for its job for long."""
    monkeypatch.setattr(attempts, "_LOOK_SECONDS", 0.3)


@pytest.mark.usefixtures("brief")
class TestAKillInTheMiddleOfASubmission:
    """Airflow 3 calls ``on_kill`` and lets the task go on; 2.11 raises in it afterwards."""

    @pytest.fixture(params=["goes on", "is broken off"])
    def after_kill(self, request: pytest.FixtureRequest) -> Callable[[], None]:
        def end() -> None:
            if request.param == "is broken off":
                raise AirflowException("Task received SIGTERM signal")

        return end

    def killed(
        self, instance: Instance, monkeypatch: pytest.MonkeyPatch, submit: Callable[..., Any], **arguments: Any
    ) -> Ran:
        """A try that is killed while it submits; ``submit`` stands for that."""
        operator = instance.operator(LASTING, **arguments)
        real = OrchestratorDialect.submit

        async def patched(dialect: OrchestratorDialect, spec: Any) -> Any:
            return await submit(operator, lambda: real(dialect, spec))

        with monkeypatch.context() as patching:
            patching.setattr(OrchestratorDialect, "submit", patched)
            return run_task(operator, instance.ti())

    def test_before_the_server_has_the_job_leaves_none_alive(
        self, instance: Instance, monkeypatch: pytest.MonkeyPatch, after_kill: Callable[[], None]
    ) -> None:
        async def submit(operator: Any, send: Callable[[], Any]) -> Any:
            operator.on_kill()
            after_kill()
            return await send()

        ran = self.killed(instance, monkeypatch, submit)
        assert isinstance(ran.error, AirflowException)
        assert set(instance.states) <= {"Stopped"}

    def test_after_the_server_has_the_job_stops_it(
        self, instance: Instance, monkeypatch: pytest.MonkeyPatch, after_kill: Callable[[], None]
    ) -> None:
        async def submit(operator: Any, send: Callable[[], Any]) -> Any:
            answer = await send()
            operator.on_kill()
            after_kill()
            return answer

        ran = self.killed(instance, monkeypatch, submit)
        assert isinstance(ran.error, AirflowException)
        assert instance.states == ["Stopped"]
        assert instance.jobs[0].message == owner_of(context_of(ran.ti), instance.network.url).kill_reason

    def test_while_the_server_is_at_it_waits_for_the_job_and_stops_it(
        self, instance: Instance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(attempts, "_LOOK_SECONDS", 10.0)
        spec = exits(3)
        instance.network.state(instance.left(spec))  # an earlier job that is over must not end the search

        async def submit(operator: Any, send: Callable[[], Any]) -> Any:
            def take() -> None:
                with BacalhauClient(instance.network.url) as client:
                    client.run(send())

            threading.Timer(0.5, take).start()
            operator.on_kill()
            raise AirflowException("Task received SIGTERM signal")

        self.killed(instance, monkeypatch, submit)
        assert instance.states == ["Completed", "Stopped"]

    def test_leaves_the_job_when_told_so(self, instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
        async def submit(operator: Any, send: Callable[[], Any]) -> Any:
            operator.on_kill()
            return await send()

        ran = self.killed(instance, monkeypatch, submit, cancel_on_kill=False)
        assert str(ran.error) == "The task was killed while it submitted its job."
        assert not instance.jobs[0].state.is_terminal


def test_a_kill_while_the_task_looks_for_its_job_stops_it(
    waiting_here: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = waiting_here.left(LASTING)
    operator = waiting_here.operator(LASTING)
    real = BacalhauClient.find_for

    def find_for(client: BacalhauClient, *args: Any, **kwargs: Any) -> Any:
        operator.on_kill()
        return real(client, *args, **kwargs)

    monkeypatch.setattr(BacalhauClient, "find_for", find_for)
    ran = run_task(operator, waiting_here.ti(2))
    assert str(ran.error) == "The task was killed before it submitted its job."
    assert [job.id for job in waiting_here.jobs] == [job_id]
    assert waiting_here.states == ["Stopped"]


@pytest.mark.parametrize("after_kill", ["goes on", "is broken off"])
def test_a_kill_right_after_a_clear_stops_the_job_from_before_it(
    instance: Instance, monkeypatch: pytest.MonkeyPatch, after_kill: str
) -> None:
    instance.left(LASTING)
    operator = instance.operator(LASTING)
    real = BacalhauClient.find_for

    def find_for(client: BacalhauClient, *args: Any, **kwargs: Any) -> Any:
        operator.on_kill()
        if after_kill == "is broken off":
            raise AirflowException("Task received SIGTERM signal")
        return real(client, *args, **kwargs)

    monkeypatch.setattr(BacalhauClient, "find_for", find_for)
    assert isinstance(run_task(operator, instance.ti(2, max_tries=3)).error, AirflowException)
    assert instance.states == ["Stopped"]


def test_a_kill_right_before_the_task_is_deferred_keeps_it_from_that(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Instance(network, deferrable=True)
    operator = made.operator(LASTING)
    real = BacalhauClient.get

    def get(client: BacalhauClient, job_id: str) -> Job:
        job: Job = real(client, job_id)
        operator.on_kill()
        return job

    monkeypatch.setattr(BacalhauClient, "get", get)
    with pytest.raises(AirflowException, match="The task was killed before it was deferred"):
        operator.execute(context_of(made.ti()))
    assert made.states == ["Stopped"]


def test_airflows_own_execution_timeout_stops_the_job(waiting_here: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = waiting_here.operator(LASTING)

    def expire(job: Job) -> None:
        raise AirflowTaskTimeout("Timeout")

    monkeypatch.setattr(operator, "_log_state", expire)
    with pytest.raises(AirflowTaskTimeout):
        operator.execute(context_of(waiting_here.ti()))
    operator.on_kill()  # as Airflow does then
    assert waiting_here.states == ["Stopped"]


def test_a_kill_that_leaves_the_job_says_so(waiting_here: Instance, log: Callable[[], str]) -> None:
    operator = waiting_here.operator(LASTING, cancel_on_kill=False)
    kill = threading.Timer(0.3, operator.on_kill)
    ran = run_task(operator, waiting_here.ti(on_push=lambda key, _: kill.start() if key == "job_url" else None))
    assert f"The task is killed; job {ran.ti.job_id} runs on, as cancel_on_kill is off." in log()
    assert not waiting_here.jobs[0].state.is_terminal


def stopping(instance: Instance, reason: str) -> Callable[[str, str], None]:
    """Stops the first job that a try gets, a moment later."""
    done: list[str] = []

    def stop(key: str, value: str) -> None:
        if key == "bacalhau_job_id" and not done:
            done.append(value)
            threading.Timer(0.4, instance.network.client.stop, (value, reason)).start()

    return stop


def test_a_job_that_an_earlier_trys_kill_stops_is_submitted_once_more(instance: Instance) -> None:
    reason = owner_of(context_of(instance.ti(1)), instance.network.url).kill_reason
    first = instance.left(sleeps(2))
    ran = instance.attempt(sleeps(2), instance.ti(2, on_push=stopping(instance, reason)))
    assert ran.error is None
    assert ran.value != first
    assert instance.states == ["Stopped", "Completed"]
    assert ran.xcoms["bacalhau_job_id"] == ran.value


@pytest.mark.parametrize("version", ["v1.7.0", "v1.3.2"])
def test_older_servers_tell_whose_kill_it_was_as_well(connect: Connect, version: str) -> None:
    with DevNode(emulate=version) as node, BacalhauClient(node.api) as client:
        connect(node.api)
        instance = Instance(Network(node.api, node.gateway, client), deferrable=False)
        reason = owner_of(context_of(instance.ti(1)), node.api).kill_reason
        first = instance.left(sleeps(1))
        ran = instance.attempt(sleeps(1), instance.ti(2, on_push=stopping(instance, reason)))
        assert ran.error is None
        assert ran.value != first
        assert instance.network.state(first) == "Stopped"


@pytest.mark.usefixtures("brief")
def test_a_kill_in_the_middle_of_that_stops_the_new_job_too(
    waiting_here: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = owner_of(context_of(waiting_here.ti(1)), waiting_here.network.url).kill_reason
    waiting_here.left(LASTING)
    operator = waiting_here.operator(LASTING)
    real = OrchestratorDialect.submit

    async def submit(dialect: OrchestratorDialect, spec: Any) -> Any:
        await real(dialect, spec)
        operator.on_kill()
        raise AirflowException("Task received SIGTERM signal")  # Airflow 2.11's way

    monkeypatch.setattr(OrchestratorDialect, "submit", submit)
    run_task(operator, waiting_here.ti(2, on_push=stopping(waiting_here, reason)))
    assert waiting_here.states == ["Stopped", "Stopped"]


@pytest.mark.parametrize("known", [True, False], ids=["a job", "a submission"])
def test_a_kill_takes_less_than_airflow_gives_it_though_the_server_hangs(connect: Connect, known: bool) -> None:
    with DevNode() as node:
        connect(node.api)
        operator = BacalhauSubmitJobOperator(task_id="task", job_spec=LASTING, poll_interval=0.2)
        took = []

        def kill() -> None:
            node.faults.add(Fault("delay", path="/api/*", seconds=20))
            begun = time.monotonic()
            operator.on_kill()
            took.append(time.monotonic() - begun)
            node.faults.clear()
            raise KeyError("end of the test")

        def push(key: str, value: str) -> None:
            if key == "job_url":
                kill()

        async def submit(dialect: OrchestratorDialect, spec: Any) -> Any:
            kill()

        with pytest.MonkeyPatch.context() as patching:
            if not known:
                patching.setattr(OrchestratorDialect, "submit", submit)
            run_task(operator, FakeTaskInstance(on_push=push))
        assert took[0] < 4.5


@pytest.mark.parametrize("whose", ["somebody else's", "its own"])
def test_a_job_that_is_stopped_otherwise_fails_the_task(instance: Instance, whose: str) -> None:
    own = owner_of(context_of(instance.ti(2)), instance.network.url).kill_reason
    reason = own if whose == "its own" else "lunch"
    instance.left(LASTING)
    ran = instance.attempt(LASTING, instance.ti(2, on_push=stopping(instance, reason)))
    assert not is_final(ran)
    assert ran.xcoms["failure_category"] == "STOPPED_BY_OTHERS"
    assert reason in str(ran.error)
    assert instance.states == ["Stopped"]


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
    assert time.monotonic() - begun < 20
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


# --- A last try leaves nothing running ---


@pytest.fixture
def disturbed(connect: Connect, impatient: None) -> Iterator[tuple[DevNode, BacalhauClient]]:
    """A node of its own, whose answers a test may spoil."""
    with DevNode() as node, BacalhauClient(node.api) as client:
        connect(node.api)
        yield node, client


def last(ti: FakeTaskInstance | None = None, **arguments: Any) -> Ran:
    operator = BacalhauSubmitJobOperator(**{"task_id": "task", "poll_interval": 0.2, "job_spec": LASTING, **arguments})
    return run_task(operator, ti or FakeTaskInstance(max_tries=0))


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
