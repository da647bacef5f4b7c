"""A killed task's job, while the task waits in the triggerer: stopped at once, and in no other case."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import airflow
import pytest
from asgiref.sync import sync_to_async

from airflow_provider_bacalhau import version_compat, xcom
from airflow_provider_bacalhau.hooks.bacalhau import BacalhauHook
from airflow_provider_bacalhau.triggers import bacalhau
from airflow_provider_bacalhau.triggers.bacalhau import BacalhauJobTrigger, may_be_stopped
from airflow_provider_bacalhau.version_compat import GONE, TaskNow

from .conftest import Connect, Network
from .programs import exits, sleeps
from .running import LOG, stored, submitted

REASON = "The Airflow task was killed (attempt abc, try 1)."
IS_AIRFLOW_2 = airflow.__version__.startswith("2.")
OURS = "j-11111111-1111-4111-8111-111111111111"
ANOTHER = "j-22222222-2222-4222-8222-222222222222"


# --- Whose job is it? ---


@pytest.mark.parametrize("state", ["failed", "success", "skipped", "removed", "upstream_failed"])
def test_the_job_of_a_task_that_was_ended_may_be_stopped(state: str) -> None:
    assert may_be_stopped(OURS, TaskNow(state, OURS))


@pytest.mark.parametrize("state", [None, "scheduled", "queued"])
def test_a_cleared_task_that_waits_to_begin_again_does_not_need_the_job(state: str | None) -> None:
    assert may_be_stopped(OURS, TaskNow(state, OURS))


@pytest.mark.parametrize("state", ["running", "deferred"])
def test_a_cleared_task_that_has_another_job_already_does_not_need_the_old_one(state: str) -> None:
    assert may_be_stopped(OURS, TaskNow(state, ANOTHER))


def test_a_cleared_task_that_has_begun_again_does_not_need_the_job() -> None:
    assert may_be_stopped(OURS, TaskNow("running", None))


def test_a_task_that_was_deleted_does_not_need_the_job() -> None:
    assert may_be_stopped(OURS, TaskNow(GONE, None))


def test_a_task_that_waits_for_the_job_needs_it_though_this_trigger_was_cancelled() -> None:
    assert not may_be_stopped(OURS, TaskNow("deferred", OURS))


def test_a_task_that_waits_for_a_job_which_it_does_not_name_may_need_it() -> None:
    assert not may_be_stopped(OURS, TaskNow("deferred", None))


def test_a_newer_attempt_that_has_adopted_the_job_needs_it() -> None:
    assert not may_be_stopped(OURS, TaskNow("running", OURS))


@pytest.mark.parametrize("state", ["up_for_retry", "restarting"])
def test_a_task_that_tries_again_will_adopt_the_job(state: str) -> None:
    assert not may_be_stopped(OURS, TaskNow(state, OURS))


# --- What the triggerer does ---


class Triggerer:
    """Runs one trigger and ends it, in the ways of the triggerers of both kinds.

    :param tells_kills: whether it calls ``on_kill``, as Airflow 3.3 does; if not, only ``cleanup``.
    """

    def __init__(self, trigger: BacalhauJobTrigger, *, tells_kills: bool) -> None:
        self.trigger = trigger
        self.tells_kills = tells_kills
        self.fired: list[Any] = []
        self._has_fired = asyncio.Event()

    async def run(self, seconds: float, *, is_kill: bool) -> None:
        """Run the trigger until it fires, but not longer; then cancel it until it is gone, as triggerers do."""
        task = asyncio.create_task(self._run())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._has_fired.wait(), seconds)
        while not task.done():
            task.cancel("kill" if is_kill else None)
            await asyncio.wait([task], timeout=0.02)
        assert task.cancelled()
        await asyncio.wait_for(asyncio.gather(*bacalhau._at_work), 15)  # the triggerer itself lives on

    async def _run(self) -> None:
        try:
            async for event in self.trigger.run():
                self.fired.append(event)
                self._has_fired.set()
                await asyncio.sleep(60)  # a trigger that lingers after its event
        except asyncio.CancelledError as error:
            if self.tells_kills and error.args == ("kill",):
                # Airflow 3.3 gives it a timeout, which on Python 3.11 puts it into a task of its own.
                await asyncio.wait_for(self.trigger.on_kill(), 30)
            raise
        finally:
            await self.trigger.cleanup()


@pytest.fixture(params=[True, False], ids=["on_kill", "cleanup"])
def tells_kills(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both kinds of Airflow: from 3.3 on, and below."""
    monkeypatch.setattr(version_compat, "triggers_hear_of_kills", lambda: request.param)
    return bool(request.param)


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Lets Airflow tell how the task stands; what is raised is an error of the look-up."""

    def say(answer: TaskNow | Exception | None) -> list[str]:
        asked = []

        async def task_now(task_instance: Any, key: str) -> TaskNow:
            asked.append(key)
            if isinstance(answer, Exception):
                raise answer
            if answer is None:
                await asyncio.sleep(60)
                raise AssertionError
            return answer

        monkeypatch.setattr(version_compat, "task_now", task_now)
        return asked

    return say


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the triggers have told."""
    monkeypatch.setattr(BacalhauJobTrigger, "log", LOG)
    caplog.set_level(logging.INFO, LOG.name)
    return lambda: [record.getMessage() for record in caplog.records if record.name == LOG.name]


@pytest.fixture
def job_id(network: Network) -> Iterator[str]:
    """A job that runs."""
    started = submitted(network.client, sleeps(30))
    yield started
    network.client.stop(started, "test is over")


def watching(job_id: str, kill_reason: str | None = REASON, conn_id: str = "bacalhau_default") -> BacalhauJobTrigger:
    trigger: BacalhauJobTrigger = stored(BacalhauJobTrigger(job_id, conn_id, 0.2, kill_reason=kill_reason))
    trigger.task_instance = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, try_number=1)
    return trigger


def end(trigger: BacalhauJobTrigger, *, tells_kills: bool, is_kill: bool = True) -> None:
    """End the trigger after a moment of watching."""
    asyncio.run(Triggerer(trigger, tells_kills=tells_kills).run(0.3, is_kill=is_kill))


def is_alive(network: Network, job_id: str) -> bool:
    return not network.client.get(job_id).state.is_terminal


def test_a_killed_task_s_job_is_stopped_with_the_reason(
    network: Network, job_id: str, tells_kills: bool, says: Callable[..., list[str]], log: Callable[[], list[str]]
) -> None:
    asked = says(TaskNow("failed", job_id))
    end(watching(job_id), tells_kills=tells_kills)
    assert network.state(job_id) == "Stopped"
    assert network.sent(job_id)["State"]["Message"] == REASON
    assert asked == [xcom.JOB_ID]
    assert log()[-1] == f"The task was killed; job {job_id}: stopped."


def test_without_a_reason_the_job_is_left_alone_and_airflow_is_not_asked(
    network: Network, job_id: str, tells_kills: bool, says: Callable[..., list[str]], log: Callable[[], list[str]]
) -> None:
    asked = says(TaskNow("failed", job_id))
    end(watching(job_id, kill_reason=None), tells_kills=tells_kills)
    assert is_alive(network, job_id)
    assert asked == []
    assert (f"The task's wait has been ended; job {job_id} runs on." in log()) is tells_kills


def test_a_kill_while_the_connection_is_looked_up_is_no_end_of_the_triggerer(
    network: Network, job_id: str, says: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where connections do not come from its database, Airflow looks them up in a thread of asgiref's, which takes the
    word of a kill from the cancellation."""
    real = BacalhauHook.get_async_conn

    async def slow(hook: BacalhauHook) -> Any:
        await sync_to_async(time.sleep)(0.6)
        return await real(hook)

    says(TaskNow("failed", job_id))
    monkeypatch.setattr(BacalhauHook, "get_async_conn", slow)
    monkeypatch.setattr(version_compat, "triggers_hear_of_kills", lambda: True)
    end(watching(job_id), tells_kills=True)
    assert network.state(job_id) == "Stopped"


def test_a_triggerer_that_ends_leaves_the_job(
    network: Network, job_id: str, tells_kills: bool, says: Callable[..., list[str]]
) -> None:
    asked = says(TaskNow("deferred", job_id))
    end(watching(job_id), tells_kills=tells_kills, is_kill=False)
    assert is_alive(network, job_id)
    assert bool(asked) is not tells_kills


def test_a_trigger_that_another_triggerer_has_taken_over_leaves_the_job(
    network: Network, job_id: str, tells_kills: bool, says: Callable[..., list[str]], log: Callable[[], list[str]]
) -> None:
    says(TaskNow("deferred", job_id))
    end(watching(job_id), tells_kills=tells_kills)
    assert is_alive(network, job_id)
    assert log()[-1] == f"Job {job_id} is left running: its task is deferred and needs it."


def test_the_old_job_of_a_cleared_task_is_stopped_though_the_task_is_deferred_again(
    network: Network, job_id: str, tells_kills: bool, says: Callable[..., list[str]]
) -> None:
    says(TaskNow("deferred", ANOTHER))
    end(watching(job_id), tells_kills=tells_kills)
    assert network.state(job_id) == "Stopped"


def test_while_airflow_cannot_tell_the_job_is_left_running_with_a_warning(
    network: Network, job_id: str, tells_kills: bool, says: Callable[..., list[str]], log: Callable[[], list[str]]
) -> None:
    says(RuntimeError("no supervisor"))
    end(watching(job_id), tells_kills=tells_kills)
    assert is_alive(network, job_id)
    assert log()[-1] == f"Job {job_id} is left running, since Airflow does not tell how its task stands."


def test_airflow_is_not_waited_for_for_long(
    network: Network,
    job_id: str,
    tells_kills: bool,
    says: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bacalhau, "ASK_SECONDS", 0.2)
    says(None)
    begun = time.monotonic()
    end(watching(job_id), tells_kills=tells_kills)
    assert time.monotonic() - begun < 20
    assert is_alive(network, job_id)


def test_once_the_event_is_fired_a_late_kill_changes_nothing(
    network: Network, job_id: str, tells_kills: bool, says: Callable[..., list[str]]
) -> None:
    asked = says(TaskNow("running", ANOTHER))
    trigger = watching(job_id)
    trigger.deadline = time.time() - 1  # its event leaves a job that runs
    triggerer = Triggerer(trigger, tells_kills=tells_kills)
    asyncio.run(triggerer.run(20, is_kill=True))
    assert [event.payload["status"] for event in triggerer.fired] == ["timeout"]
    assert is_alive(network, job_id)
    assert asked == []


def test_a_job_that_is_over_stays_as_it_ended(
    network: Network, tells_kills: bool, says: Callable[..., list[str]], log: Callable[[], list[str]]
) -> None:
    says(TaskNow("failed", None))
    job_id = submitted(network.client, exits(3))
    ended = network.state(job_id)
    asyncio.run(_killed_before_it_saw_anything(watching(job_id), tells_kills=tells_kills))
    assert network.state(job_id) == ended
    assert log()[-1] == f"The task was killed; job {job_id}: already completed."


async def _killed_before_it_saw_anything(trigger: BacalhauJobTrigger, *, tells_kills: bool) -> None:
    await (trigger.on_kill() if tells_kills else trigger.cleanup())


def test_a_server_that_hangs_delays_the_triggerer_for_seconds_only(
    connect: Connect,
    tells_kills: bool,
    says: Callable[..., list[str]],
    log: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bacalhau, "STOP_SECONDS", 0.3)
    says(TaskNow("failed", OURS))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connect(f"http://127.0.0.1:{silent.getsockname()[1]}")
        begun = time.monotonic()
        asyncio.run(_killed_before_it_saw_anything(watching(OURS), tells_kills=tells_kills))
        assert time.monotonic() - begun < 20
    assert log()[-1] == (
        f"The task was killed, but job {OURS} could not be stopped and may run on: no answer within 0.3 s."
    )


def test_a_right_that_is_missing_is_named(
    serve: Callable[..., str], connect: Connect, says: Callable[..., list[str]], log: Callable[[], list[str]]
) -> None:
    def answer(path: str) -> tuple[int, bytes]:
        if path.endswith("/version"):
            return 200, b'{"GitVersion": "v1.9.3"}'
        return 403, b'{"Message": "user does not have the required capability \'write:job\'"}'

    connect(serve(answer))
    says(TaskNow("failed", OURS))
    asyncio.run(watching(OURS).on_kill())
    assert "could not be stopped and may run on" in log()[-1]
    assert "'write:job'" in log()[-1]


def test_nothing_that_goes_wrong_with_the_stop_is_raised(
    airflow_database: None, says: Callable[..., list[str]], log: Callable[[], list[str]]
) -> None:
    says(TaskNow("failed", OURS))
    asyncio.run(watching(OURS, conn_id="nowhere").on_kill())
    assert "'nowhere' is not defined" in log()[-1]


def test_from_3_3_on_the_end_of_a_trigger_is_no_kill(
    network: Network, job_id: str, says: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version_compat, "triggers_hear_of_kills", lambda: True)
    asked = says(TaskNow("failed", job_id))
    asyncio.run(watching(job_id).cleanup())
    assert is_alive(network, job_id)
    assert asked == []


# --- What Airflow is asked ---


def test_this_airflow_is_known_to_tell_kills_or_not() -> None:
    version = tuple(int(part) for part in airflow.__version__.split(".")[:2])
    assert version_compat.triggers_hear_of_kills() is (version >= (3, 3))


@pytest.mark.skipif(IS_AIRFLOW_2, reason="Airflow 2 has no supervisor to ask")
@pytest.mark.parametrize(
    ("map_index", "states", "state"),
    [
        (-1, {"r": {"t": "deferred"}}, "deferred"),
        (3, {"r": {"t_0": "failed", "t_3": "success"}}, "success"),  # Airflow 3.0 answers for all of them
        (-1, {"r": {"t": None}}, None),
        (-1, {}, GONE),
    ],
)
def test_airflow_3_is_asked_through_the_supervisor(
    monkeypatch: pytest.MonkeyPatch, map_index: int, states: dict[str, dict[str, str | None]], state: str | None
) -> None:
    _answers(monkeypatch, states)
    now = asyncio.run(version_compat.task_now(_ti(map_index), xcom.JOB_ID))
    assert now == TaskNow(state, None if state == GONE else (xcom.JOB_ID, "d", "t", "r", map_index))


@pytest.mark.skipif(IS_AIRFLOW_2, reason="Airflow 2 has no supervisor to ask")
def test_an_answer_that_is_not_understood_is_not_taken_for_a_task_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    _answers(monkeypatch, {"r": {"another form of t": "deferred"}})
    with pytest.raises(KeyError):
        asyncio.run(version_compat.task_now(_ti(), xcom.JOB_ID))


def _answers(monkeypatch: pytest.MonkeyPatch, states: dict[str, dict[str, str | None]]) -> None:
    """What the supervisor answers; for an XCom just what it was asked for."""
    from airflow.providers.common.compat.sdk import XCom
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    def get_task_states(*, dag_id: str, task_ids: list[str], run_ids: list[str], map_index: int) -> Any:
        assert (dag_id, task_ids, run_ids) == ("d", ["t"], ["r"])
        return states

    def get_one(*, key: str, dag_id: str, task_id: str, run_id: str, map_index: int) -> Any:
        return key, dag_id, task_id, run_id, map_index

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", get_task_states)
    monkeypatch.setattr(XCom, "get_one", get_one)


def _ti(map_index: int = -1) -> Any:
    return SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=map_index)


@pytest.mark.skipif(not IS_AIRFLOW_2, reason="Airflow 3 keeps its database from triggers")
def test_airflow_2_is_asked_through_its_database(airflow_database: None) -> None:
    from airflow import DAG
    from airflow.operators.empty import EmptyOperator
    from airflow.utils.session import create_session
    from airflow.utils.state import State
    from airflow.utils.types import DagRunType
    from pendulum import now

    with DAG("asked", schedule=None, start_date=now()) as dag:
        EmptyOperator(task_id="t")
    run = dag.create_dagrun(
        State.RUNNING, execution_date=now(), run_type=DagRunType.MANUAL, data_interval=(now(), now())
    )
    ti = run.get_task_instance("t")
    ask = lambda: asyncio.run(version_compat.task_now(ti, xcom.JOB_ID))  # noqa: E731
    assert ask() == TaskNow(None, None)
    ti.xcom_push(xcom.JOB_ID, OURS)
    with create_session() as session:
        ti.set_state("deferred", session=session)
    assert ask() == TaskNow("deferred", OURS)
    with create_session() as session:
        session.delete(session.merge(ti))
    assert ask() == TaskNow(GONE, None)


def test_ctrl_c_under_dag_test_stops_the_job_although_there_is_no_triggerer(network: Network, job_id: str) -> None:
    trigger = BacalhauJobTrigger(job_id, "bacalhau_default", 0.2, kill_reason=REASON)

    async def interrupted() -> None:
        task = asyncio.create_task(anext(trigger.run()))  # type: ignore[arg-type,var-annotated]  # a coroutine
        await asyncio.sleep(0.3)
        task.cancel()  # as asyncio.run does on Ctrl-C
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(interrupted())
    assert network.state(job_id) == "Stopped"
