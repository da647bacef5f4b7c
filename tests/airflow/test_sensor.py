"""Waiting for a job that somebody else has submitted: the same in a worker and in the triggerer."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import airflow
import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
)

from airflow_provider_bacalhau.client.errors import JobLost, Unreachable
from airflow_provider_bacalhau.client.retry import MAX_ATTEMPTS
from airflow_provider_bacalhau.devnode import DevNode
from airflow_provider_bacalhau.devnode.faults import Fault, Rule
from airflow_provider_bacalhau.sensors.bacalhau import BacalhauJobSensor

from .conftest import Connect, Network
from .programs import exits, sleeps
from .running import ABSENT, LOG, FakeTaskInstance, context_of, run_task, submitted
from .test_dags import RunDag, dag_file

IS_AIRFLOW_2 = airflow.__version__.startswith("2.")
REFUSAL = "user does not have the required capability 'read:job'"


def sense(job_id: str, **arguments: Any) -> BacalhauJobSensor:
    return BacalhauJobSensor(**{"task_id": "task", "job_id": job_id, "poke_interval": 0.2, **arguments})


def test_it_waits_until_the_job_has_succeeded(network: Network, deferrable: bool) -> None:
    job_id = submitted(network.client, sleeps(1))
    ran = run_task(sense(job_id, deferrable=deferrable))
    assert ran.error is None
    assert ran.value == job_id
    assert ran.xcoms == {
        "bacalhau_job_id": job_id,
        "job_url": f"{network.url}/api/v1/orchestrator/jobs/{job_id}",
        "job_state": "Completed",
        "exit_codes": [-1],
        "execution_counts": {"wanted": 1, "completed": 1, "succeeded": 1, "failed": 0},
    }


def test_a_job_that_is_over_needs_no_triggerer(network: Network, deferrable: bool) -> None:
    job_id = submitted(network.client, exits(0))
    network.state(job_id)
    ran = run_task(sense(job_id, deferrable=deferrable))
    assert ran.value == job_id
    assert not ran.events


def test_the_address_of_the_job_is_there_while_it_waits(network: Network, deferrable: bool) -> None:
    job_id = submitted(network.client, sleeps(1))
    was_over = []
    ti = FakeTaskInstance(on_push=lambda key, value: was_over.append(network.client.get(job_id).state.is_terminal))
    run_task(sense(job_id, deferrable=deferrable), ti)
    assert not was_over[0]


@pytest.fixture(params=["was over", "ends meanwhile"])
def failed_job(request: pytest.FixtureRequest, network: Network) -> str:
    """A job that fails, either before the sensor looks or while it waits."""
    if request.param == "was over":
        job_id = submitted(network.client, exits(3))
        network.state(job_id)
        return job_id
    job_id = submitted(network.client, sleeps(30))
    threading.Timer(0.5, network.client.stop, (job_id, "lunch")).start()
    return job_id


def test_a_failed_job_is_final_and_tells_why(failed_job: str, deferrable: bool) -> None:
    ran = run_task(sense(failed_job, deferrable=deferrable))
    assert isinstance(ran.error, AirflowFailException)
    assert ran.xcoms["failure_category"] in {"PROGRAM_FAILED", "STOPPED_BY_OTHERS"}
    assert failed_job in str(ran.error)


@pytest.mark.parametrize("lenience", ["soft_fail", "never_fail"])
def test_a_failed_job_can_be_made_to_skip(failed_job: str, deferrable: bool, lenience: str) -> None:
    ran = run_task(sense(failed_job, deferrable=deferrable, **{lenience: True}))
    if lenience == "never_fail" and ran.events and isinstance(ran.error, AirflowFailException):
        pytest.skip("Airflow 2.11 forgets never_fail when a sensor comes back from the triggerer")
    assert isinstance(ran.error, AirflowSkipException)


@pytest.mark.parametrize(("soft_fail", "expected"), [(False, AirflowFailException), (True, AirflowSkipException)])
def test_an_unknown_job_is_final(
    network: Network, deferrable: bool, soft_fail: bool, expected: type[Exception]
) -> None:
    ran = run_task(sense(ABSENT, deferrable=deferrable, soft_fail=soft_fail))
    assert isinstance(ran.error, expected)


@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_server_that_is_away_at_the_first_look_fails_it_and_may_be_tried_again(
    connect: Connect, unused_port: int, impatient: None, deferrable: bool, soft_fail: bool
) -> None:
    connect("127.0.0.1", port=unused_port)
    ran = run_task(sense(ABSENT, deferrable=deferrable, soft_fail=soft_fail))
    assert isinstance(ran.error, Unreachable)
    assert not isinstance(ran.error, AirflowException)


@pytest.mark.parametrize(("soft_fail", "permanent"), [(False, False), (True, False), (False, True), (True, True)])
def test_what_the_trigger_could_not_watch_counts_as_in_a_worker(
    network: Network, soft_fail: bool, permanent: bool
) -> None:
    event = {"status": "failed", "job_id": ABSENT, "message": "It is not there.", "permanent": permanent}
    sensor = sense(ABSENT, deferrable=True, soft_fail=soft_fail)
    with pytest.raises(Exception, match=r"It is not there\.|soft_fail") as caught:
        sensor.resume_execution("execute_complete", {"event": event}, context_of(FakeTaskInstance()))
    assert isinstance(caught.value, AirflowFailException) == (permanent and not soft_fail)
    assert isinstance(caught.value, AirflowSkipException) == (permanent and soft_fail)


# --- What was there before ---


def look(sensor: BacalhauJobSensor, *, rescheduled: bool = False, ti: FakeTaskInstance | None = None) -> Any:
    """One look, as a worker makes it in the modes without a triggerer."""
    context = {**context_of(ti or FakeTaskInstance()), "task_reschedule_count": int(rescheduled)}
    with patch.object(BacalhauJobSensor, "log", LOG):
        return sensor.poke(context)


@pytest.fixture(params=["poke", "reschedule"])
def again(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], BacalhauJobSensor]:
    """A sensor that has seen the job: this process has, or one that has asked to be started again."""
    monkeypatch.setattr("airflow_provider_bacalhau.sensors.bacalhau._LOOK_AGAIN_AFTER", 0.05)
    if request.param == "reschedule":
        monkeypatch.setattr("airflow_provider_bacalhau.version_compat.was_rescheduled", lambda context: True)

    def make(job_id: str) -> BacalhauJobSensor:
        sensor = sense(job_id, mode=request.param)
        if request.param == "poke":
            assert look(sensor) is False
        return sensor

    return make


@pytest.fixture
def job_id(network: Network) -> Iterator[str]:
    """A job that runs."""
    started = submitted(network.client, sleeps(90))
    yield started
    network.client.stop(started, "test is over")


@pytest.fixture
def forget(devnode: DevNode) -> Iterator[Callable[..., Rule]]:
    """Makes the node deny a job: after so many looks at it, for so many of them."""
    rules = []

    def start(job_id: str, *, after: int = 0, times: int | None = None) -> Rule:
        fault = Fault("forgotten", path=f"*/orchestrator/jobs/{job_id}*", after=after, times=times, jobs=job_id)
        rules.append(devnode.faults.add(fault))
        return rules[-1]

    yield start
    for rule in rules:
        devnode.faults.remove(rule)


def shorten_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("waiting", "watching"):
        monkeypatch.setattr(f"airflow_provider_bacalhau.client.{module}.LOST_AFTER", 0.5)


def block(caplog: pytest.LogCaptureFixture) -> str:
    """What a task's log ends with, without times of day."""
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", caplog.records[-1].getMessage())


def test_a_server_that_goes_away_later_is_waited_for(
    network: Network,
    job_id: str,
    again: Callable[[str], BacalhauJobSensor],
    connect: Connect,
    unused_port: int,
    impatient: None,
) -> None:
    sensor = again(job_id)
    connect("127.0.0.1", port=unused_port)
    assert look(sensor) is False
    connect(network.url)
    network.client.stop(job_id, "lunch")
    with pytest.raises(AirflowFailException, match="lunch"):
        look(sensor)


def test_a_page_in_the_place_of_the_server_is_an_outage(
    job_id: str, again: Callable[[str], BacalhauJobSensor], devnode: DevNode
) -> None:
    sensor = again(job_id)
    rule = devnode.faults.add(Fault("login_page", path=f"*/orchestrator/jobs/{job_id}", times=1))
    assert look(sensor) is False
    assert rule.hits == 1


def test_rights_that_are_taken_away_meanwhile_are_told_of_alike_in_both_modes(
    serve: Callable[..., str], connect: Connect, caplog: pytest.LogCaptureFixture, deferrable: bool
) -> None:
    looks = []

    def answer(path: str) -> tuple[int, bytes]:
        if path.endswith("/version"):
            return 200, b'{"GitVersion": "v1.9.3"}'
        looks.append(path)
        if len(looks) == 1:
            return 200, json.dumps({"Job": {"ID": ABSENT, "State": {"StateType": "Running"}}}).encode()
        return 403, json.dumps({"Message": REFUSAL}).encode()

    url = serve(answer)
    connect(url)
    ran = run_task(sense(ABSENT, deferrable=deferrable))
    assert isinstance(ran.error, AirflowFailException)
    summary, *facts, remedy, connection, link = block(caplog).splitlines()
    assert summary == f"NOT_AUTHORISED: The server wants credentials, and none are set: {REFUSAL}"
    assert facts == [f"  GET /api/v1/orchestrator/jobs/{ABSENT}: HTTP 403", "  missing right: read:job"]
    assert remedy.startswith("What to do: Fill in login and password of the connection")
    assert connection == "Connection: bacalhau_default"
    assert link == f"Job: {url}/api/v1/orchestrator/jobs/{ABSENT}"


def test_a_job_that_is_denied_for_a_moment_is_waited_for(
    job_id: str, again: Callable[[str], BacalhauJobSensor], forget: Callable[..., Rule]
) -> None:
    sensor = again(job_id)
    rule = forget(job_id, times=2)
    while rule.hits < 2:
        assert look(sensor) is False
    assert look(sensor) is False
    assert sensor._gone_since is None


@pytest.mark.parametrize("mode", ["poke", "reschedule", "triggerer"])
def test_a_job_that_is_denied_for_long_is_lost_in_every_mode(
    network: Network,
    job_id: str,
    forget: Callable[..., Rule],
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shorten_grace(monkeypatch)
    monkeypatch.setattr("airflow_provider_bacalhau.sensors.bacalhau._LOOK_AGAIN_AFTER", 0.05)
    # The triggerer has seen it once itself.
    rule = forget(job_id, after={"poke": 1, "reschedule": 1, "triggerer": 2}[mode])
    ti = FakeTaskInstance()
    begun = time.monotonic()
    if mode == "reschedule":
        monkeypatch.setattr("airflow_provider_bacalhau.version_compat.was_rescheduled", lambda context: True)
        look(sense(job_id, mode=mode))
        with pytest.raises(JobLost) as caught:
            look(sense(job_id, mode=mode), ti=ti)
        error: BaseException | None = caught.value
    else:
        error = run_task(sense(job_id, deferrable=mode == "triggerer"), ti).error
    assert isinstance(error, JobLost)
    assert time.monotonic() - begun >= 0.5
    assert rule.hits > 1
    assert ti.xcoms["failure_category"] == "NODE_LOST"
    before = "seen before" if mode == "reschedule" else "last seen Running at TIME"
    denied = "since TIME the server answers that there is no such job"
    assert block(caplog).splitlines() == [
        f"NODE_LOST: Job {job_id} is lost: it was {before}; {denied}.",
        f"  it was {before}",
        f"  {denied}",
        f"What to do: {error.hint}",
        f"Job: {network.url}/api/v1/orchestrator/jobs/{job_id}",
    ]


def test_a_server_that_goes_away_while_it_denies_the_job_gets_the_whole_time_again(
    network: Network, job_id: str, forget: Callable[..., Rule], connect: Connect, unused_port: int, impatient: None
) -> None:
    sensor = sense(job_id)
    look(sensor)
    forget(job_id)
    look(sensor)
    assert sensor._gone_since is not None
    connect("127.0.0.1", port=unused_port)
    look(sensor)
    assert sensor._gone_since is None


def test_a_job_that_is_lost_after_it_was_over_is_told_so(
    network: Network, forget: Callable[..., Rule], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the trigger's event and the worker that hears of it may lie minutes."""
    shorten_grace(monkeypatch)
    job_id = submitted(network.client, exits(0))
    network.state(job_id)
    forget(job_id)
    with pytest.raises(JobLost, match="there is no such job"):
        sense(job_id, deferrable=True).execute_complete(
            context_of(FakeTaskInstance()), {"status": "over", "job_id": job_id}
        )


def test_what_passes_over_failures_has_seen_nothing(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_bacalhau.version_compat.was_rescheduled", lambda context: True)
    with pytest.raises(AirflowFailException):
        look(sense(ABSENT, mode="reschedule", silent_fail=True))


@pytest.mark.skipif(IS_AIRFLOW_2, reason="Airflow 2 counts in its database")
@pytest.mark.parametrize("rescheduled", [False, True])
def test_airflow_3_tells_a_task_whether_it_was_rescheduled(
    connect: Connect, unused_port: int, impatient: None, rescheduled: bool
) -> None:
    connect("127.0.0.1", port=unused_port)
    sensor = sense(ABSENT, mode="reschedule")
    if rescheduled:
        assert look(sensor, rescheduled=True) is False
    else:
        with pytest.raises(Unreachable):
            look(sensor)


def test_a_whole_airflow_waits_through_an_outage_in_the_mode_reschedule(
    network: Network, job_id: str, devnode: DevNode, run_dag: RunDag, impatient: None
) -> None:
    rule = devnode.faults.add(Fault("refuse", path=f"*/orchestrator/jobs/{job_id}", after=1, times=MAX_ATTEMPTS))

    def end_the_job() -> None:
        deadline = time.monotonic() + 60
        while rule.hits < MAX_ATTEMPTS and time.monotonic() < deadline:
            time.sleep(0.05)
        network.client.stop(job_id, "lunch")

    ending = threading.Thread(target=end_the_job)
    ending.start()
    sensor = f"BacalhauJobSensor(task_id='sense', job_id={job_id!r}, mode='reschedule', poke_interval=0.5)"
    tasks = run_dag(dag_file("outage", f"        {sensor}\n"))
    ending.join()
    assert rule.hits == MAX_ATTEMPTS
    assert tasks["sense"].xcoms["failure_category"] == "STOPPED_BY_OTHERS"


def test_a_server_that_goes_away_just_as_the_job_is_seen_to_be_over_is_waited_for(
    network: Network, devnode: DevNode, impatient: None
) -> None:
    job_id = submitted(network.client, exits(0))
    network.state(job_id)
    devnode.faults.add(Fault("refuse", path=f"*/orchestrator/jobs/{job_id}", after=1, times=MAX_ATTEMPTS))
    sensor, ti = sense(job_id), FakeTaskInstance()
    assert look(sensor, ti=ti) is False
    assert ti.xcoms["bacalhau_job_id"] == job_id
    assert look(sensor, ti=ti).xcom_value == job_id


# --- Its end ---


@pytest.mark.parametrize(("soft_fail", "expected"), [(False, AirflowSensorTimeout), (True, AirflowSkipException)])
def test_its_timeout_means_what_it_means_for_every_sensor(
    network: Network, deferrable: bool, soft_fail: bool, expected: type[Exception]
) -> None:
    job_id = submitted(network.client, sleeps(30))
    ran = run_task(sense(job_id, deferrable=deferrable, timeout=0.5, soft_fail=soft_fail))
    assert isinstance(ran.error, expected)
    assert not network.client.get(job_id).state.is_terminal
    network.client.stop(job_id, "test is over")


def test_what_comes_back_without_an_event_does_not_pass(network: Network) -> None:
    with pytest.raises(ValueError, match="without telling"):
        sense(ABSENT).execute_complete(context_of(FakeTaskInstance()), event=None)


def test_it_looks_without_touching_the_job(network: Network, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    job_id = submitted(network.client, sleeps(30))
    sensor = sense(job_id)
    assert sensor.poke(context_of(FakeTaskInstance())) is False
    sensor.on_kill()
    assert not network.client.get(job_id).state.is_terminal
    network.client.stop(job_id, "test is over")
