"""One attempt, one job: what becomes of a task's job when the task is killed, at any moment and wherever it waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowTaskTimeout

from airflow_provider_bacalhau import attempts
from airflow_provider_bacalhau.attempts import owner_of
from airflow_provider_bacalhau.client import BacalhauClient, Job
from airflow_provider_bacalhau.client.dialects.orchestrator import OrchestratorDialect
from airflow_provider_bacalhau.devnode import DevNode
from airflow_provider_bacalhau.devnode.faults import Fault
from airflow_provider_bacalhau.operators.bacalhau import BacalhauSubmitJobOperator

from .attempts import LASTING, Instance, is_final
from .conftest import Connect, Network
from .programs import exits, sleeps
from .running import FakeTaskInstance, Ran, context_of, run_task


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
