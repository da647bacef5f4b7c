"""Waiting for a job that somebody else has submitted: the same in a worker and in the triggerer."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
)

from airflow_provider_bacalhau.client.errors import Unreachable
from airflow_provider_bacalhau.sensors.bacalhau import BacalhauJobSensor

from .conftest import Connect, Network
from .programs import exits, sleeps
from .running import FakeTaskInstance, context_of, run_task, submitted

ABSENT = "j-00000000-0000-4000-8000-000000000000"


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


def test_a_server_that_goes_away_later_is_waited_for(
    network: Network, connect: Connect, unused_port: int, impatient: None
) -> None:
    job_id = submitted(network.client, exits(0))
    network.state(job_id)
    sensor = sense(job_id)
    sensor._has_seen_job = True
    connect("127.0.0.1", port=unused_port)
    assert sensor.poke(context_of(FakeTaskInstance())) is False
    connect(network.url)
    assert sensor.poke(context_of(FakeTaskInstance()))


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
