"""Waiting in the triggerer: one event, one shared client, no blocked loop, no chatter."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from airflow_provider_bacalhau.client.diagnosis import diagnosis_of
from airflow_provider_bacalhau.client.errors import (
    BacalhauError,
    ConfigurationError,
    JobLost,
    KeyRefused,
    NotAuthorised,
    RequestRefused,
    ServerUnavailable,
    UnexpectedAnswer,
    Unreachable,
    WaitTimeout,
)
from airflow_provider_bacalhau.triggers.bacalhau import BacalhauJobTrigger, check_event, error_of

from .conftest import Connect, Network
from .programs import exits, sleeps
from .running import ABSENT, LOG, first_event, stored, submitted, through_database

NOTHING_MORE = {"message": "", "hint": "", "facts": [], "permanent": False, "category": ""}


def watch(job_id: str, **arguments: Any) -> BacalhauJobTrigger:
    trigger = BacalhauJobTrigger(job_id, "bacalhau_default", **{"poll_interval": 0.2, **arguments})
    made_again: BacalhauJobTrigger = stored(trigger)
    return made_again


def test_what_is_stored_of_it_is_small_and_names_the_connection_only() -> None:
    trigger = BacalhauJobTrigger("j-1", "mine", poll_interval=2.5, deadline=1.5e9)
    path, arguments = trigger.serialize()
    assert path == "airflow_provider_bacalhau.triggers.bacalhau.BacalhauJobTrigger"
    assert arguments == {"job_id": "j-1", "bacalhau_conn_id": "mine", "poll_interval": 2.5, "deadline": 1.5e9}
    assert stored(trigger).serialize() == (path, arguments)
    assert json.loads(json.dumps(arguments)) == arguments


def test_what_came_later_is_stored_only_where_it_says_something_so_that_older_releases_can_load_it() -> None:
    since = {"fail_fast": True, "kill_reason": "killed"}
    _, arguments = BacalhauJobTrigger("j-1", "mine").serialize()
    assert set(arguments) == {"job_id", "bacalhau_conn_id", "poll_interval", "deadline"}
    trigger = BacalhauJobTrigger("j-1", "mine", **since)  # type: ignore[arg-type]  # as it is stored
    assert stored(trigger).serialize()[1] == {**arguments, **since}


def test_what_an_older_release_has_stored_can_be_loaded() -> None:
    trigger = BacalhauJobTrigger(job_id="j-1", bacalhau_conn_id="mine", poll_interval=5.0, deadline=None)
    assert (trigger.fail_fast, trigger.kill_reason) == (False, None)


@pytest.mark.parametrize("code", [0, 3])
def test_a_job_that_is_over_gives_one_event_whatever_came_of_it(network: Network, code: int) -> None:
    job_id = submitted(network.client, exits(code))
    event = asyncio.run(first_event(watch(job_id)))
    assert event == {"status": "over", "job_id": job_id, **NOTHING_MORE}
    assert check_event(through_database(event)) == event
    assert error_of(check_event(event)) is None


def test_in_a_triggerer_the_shortest_wait_leaves_the_scheduler_time_to_hear_of_it(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submitted(network.client, exits(0))
    network.state(job_id)
    monkeypatch.setattr("airflow_provider_bacalhau.triggers.bacalhau.LEAST_SECONDS", 0.7)
    trigger = watch(job_id)
    trigger.task_instance = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, try_number=1)
    begun = time.monotonic()
    assert asyncio.run(first_event(trigger))["status"] == "over"
    assert time.monotonic() - begun >= 0.7


def test_the_deadline_gives_an_event_and_leaves_the_job(network: Network) -> None:
    job_id = submitted(network.client, sleeps(30))
    event = asyncio.run(first_event(watch(job_id, deadline=time.time() + 0.5)))
    assert (event["status"], event["job_id"]) == ("timeout", job_id)
    assert "it is Running" in event["message"]
    assert not network.client.get(job_id).state.is_terminal
    network.client.stop(job_id, "test is over")


def test_a_deadline_that_passed_while_nobody_watched_does_not_hide_a_job_that_is_over(network: Network) -> None:
    job_id = submitted(network.client, exits(0))
    network.state(job_id)
    assert asyncio.run(first_event(watch(job_id, deadline=time.time() - 60)))["status"] == "over"


def test_a_job_that_the_server_has_forgotten_is_looked_for_and_then_lost(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_bacalhau.client.watching.LOST_AFTER", 1.0)
    begun = time.monotonic()
    event = asyncio.run(first_event(watch(ABSENT)))
    assert time.monotonic() - begun > 1.0
    assert event["status"] == "lost"
    assert "there is no such job" in event["message"]
    error = error_of(check_event(event))
    assert isinstance(error, JobLost)
    assert error.evidence == ("it was seen before this wait", *event["facts"][1:])
    assert check_event(through_database(event)) == event


@pytest.mark.parametrize("fail_fast", [True, False])
def test_a_job_that_no_node_can_run_any_more_ends_the_wait_where_that_is_asked_for(
    network: Network, unused_port: int, fail_fast: bool
) -> None:
    nowhere = {"Type": "urlDownload", "Params": {"URL": f"http://127.0.0.1:{unused_port}/"}}
    job = exits(0, inputs=[{"Source": nowhere, "Target": "/input"}], queue_timeout=600)
    job_id = submitted(network.client, job)
    event = asyncio.run(first_event(watch(job_id, fail_fast=fail_fast, deadline=time.time() + 3)))
    assert event["status"] == ("hopeless" if fail_fast else "timeout")
    assert event["message"]
    assert event["facts"] == []
    assert isinstance(error_of(check_event(event)), type(None) if fail_fast else WaitTimeout)
    assert not network.client.get(job_id).state.is_terminal
    network.client.stop(job_id, "test is over")


def test_an_error_that_nobody_foresaw_is_logged_and_wakes_the_task(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    broken = patch(
        "airflow_provider_bacalhau.client.watching.Watching._look", side_effect=KeyError("?signature=secret")
    )
    with patch.object(BacalhauJobTrigger, "log", LOG), broken:
        event = asyncio.run(first_event(watch(ABSENT)))
    assert (event["status"], event["permanent"]) == ("failed", False)
    assert "KeyError" in event["message"]
    assert "secret" not in event["message"]
    assert caplog.records[-1].exc_info is not None
    assert ABSENT in caplog.records[-1].getMessage()


ASKED: dict[str, Any] = {"method": "GET", "path": "/api/v1/orchestrator/jobs/j-1", "request_id": "r-77"}


@pytest.mark.parametrize(
    "error",
    [
        NotAuthorised(
            "The server refused.",
            hint="Give this user the right.",
            reason="user does not have the required capability 'read:job'",
            server_message="user does not have the required capability 'read:job'",
            **ASKED,
            status=403,
        ),
        KeyRefused("The key has run out.", hint="Make another one.", **ASKED, status=401),
        Unreachable("No answer from the Bacalhau server: refused.", hint="Check host.", **ASKED).noted("It may run."),
        ServerUnavailable("The server cannot answer now", hint="Try again.", **ASKED, status=503),
        ServerUnavailable("Not now", server_message="words " * 1000, **ASKED, status=503),
        UnexpectedAnswer("This is not Bacalhau.", **ASKED, status=200),
        RequestRefused("The server refused the request: no.", **ASKED, status=400),
        ConfigurationError("The connection is not defined.", hint="Define it."),
        JobLost("j-1", ("it was last seen Running at noon", "since then it is not there")),
        WaitTimeout("Job j-1 was not over in time.", hint="Wait for longer.", facts=["it is Running"]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_task_can_tell_of_it_as_if_it_had_watched_itself(network: Network, error: BacalhauError) -> None:
    with patch("airflow_provider_bacalhau.client.clients.AsyncBacalhauClient.wait", side_effect=error):
        event = asyncio.run(first_event(watch("j-1")))
    arrived = error_of(check_event(through_database(event)))
    assert arrived is not None
    assert list(diagnosis_of(arrived).lines()) == list(diagnosis_of(error).lines())
    assert arrived.permanent == error.permanent
    assert len(json.dumps(event)) < 4096


def test_what_is_told_is_bounded(network: Network) -> None:
    error = WaitTimeout("long " * 1000, hint="long " * 1000, facts=["long " * 1000] * 1000)
    with patch("airflow_provider_bacalhau.client.clients.AsyncBacalhauClient.wait", side_effect=error):
        event = asyncio.run(first_event(watch("j-1")))
    assert len(event["facts"]) == 10
    assert len(json.dumps(event)) < 8192


def test_the_id_of_the_request_that_failed_is_in_the_log(network: Network, caplog: pytest.LogCaptureFixture) -> None:
    error = Unreachable("No answer.", **ASKED, status=503)
    broken = patch("airflow_provider_bacalhau.client.clients.AsyncBacalhauClient.wait", side_effect=error)
    with patch.object(BacalhauJobTrigger, "log", LOG), broken:
        asyncio.run(first_event(watch("j-1")))
    assert "request r-77" in caplog.records[-1].getMessage()


@pytest.mark.parametrize(
    ("old", "line"),
    [
        ({"status": "timeout", "message": "Too late."}, "WAIT_TIMEOUT: Too late."),
        ({"status": "lost", "message": "it is gone"}, "NODE_LOST: Job j-1 is lost: it is gone."),
        ({"status": "failed", "message": "No.", "permanent": True, "category": "UNREACHABLE"}, "UNREACHABLE: No."),
        ({"status": "failed", "message": "No."}, "UNKNOWN: No."),
    ],
)
def test_an_event_of_an_older_release_is_understood(old: dict[str, Any], line: str) -> None:
    event = check_event({"job_id": "j-1", **old})
    assert set(event) == {"status", "job_id", *NOTHING_MORE}
    error = error_of(event)
    assert error is not None
    assert next(diagnosis_of(error).lines()) == line
    assert error.permanent == old.get("permanent", False)


@pytest.mark.parametrize("status", ["over", "hopeless"])
def test_an_event_of_an_older_release_that_tells_no_error_gives_none(status: str) -> None:
    assert error_of(check_event({"job_id": "j-1", "status": status})) is None


def test_an_undefined_connection_gives_an_event_that_is_final(airflow_database: None) -> None:
    event = asyncio.run(first_event(BacalhauJobTrigger(ABSENT, "nowhere")))
    assert (event["status"], event["permanent"]) == ("failed", True)
    assert "'nowhere' is not defined" in event["message"]


def test_a_restarting_server_is_waited_for(connect: Connect, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from airflow_provider_bacalhau.client import BacalhauClient
    from airflow_provider_bacalhau.devnode import DevNode

    with DevNode(data_dir=tmp_path) as node, BacalhauClient(node.api) as client:
        port = int(node.api.rpartition(":")[2])
        job_id = submitted(client, exits(0))
        client.wait(job_id, deadline=time.time() + 20)  # a restart would fail a job that runs
    connect(node.api)
    events: list[dict[str, Any]] = []
    watcher = threading.Thread(target=lambda: events.append(asyncio.run(first_event(watch(job_id)))))
    watcher.start()
    watcher.join(1.0)
    assert not events
    with DevNode(data_dir=tmp_path, port=port):
        watcher.join(30)
    assert [event["status"] for event in events] == ["over"]


def test_triggers_of_one_connection_share_a_client_and_close_it_before_the_last_event(network: Network) -> None:
    from airflow_provider_bacalhau.client.transport import aio

    async def watch_all() -> None:
        jobs = [submitted(network.client, sleeps(1)) for _ in range(3)]
        runs = [watch(job_id).run() for job_id in jobs]
        pending = [asyncio.create_task(anext(run)) for run in runs]  # type: ignore[arg-type,var-annotated]
        await asyncio.sleep(0.5)
        assert len(aio._shared[asyncio.get_running_loop()]) == 1
        await asyncio.gather(*pending)
        # The generators have yielded and not ended: what they awaited after that could be taken for a kill.
        assert not aio._shared[asyncio.get_running_loop()]

    asyncio.run(watch_all())


def test_a_cancelled_trigger_leaves_nothing_open(network: Network) -> None:
    from airflow_provider_bacalhau.client.transport import aio

    async def cancel() -> None:
        job_id = await asyncio.to_thread(submitted, network.client, sleeps(30))
        task = asyncio.create_task(first_event(watch(job_id)))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not aio._shared[asyncio.get_running_loop()]
        network.client.stop(job_id, "test is over")

    asyncio.run(cancel())


def test_it_logs_changes_of_state_and_not_each_look(network: Network, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    job_id = submitted(network.client, sleeps(1))
    looks: list[float] = []
    with patch.object(BacalhauJobTrigger, "log", LOG), patch("asyncio.sleep", side_effect=_counting(looks)):
        asyncio.run(first_event(watch(job_id, poll_interval=0.1)))
    said = [record.getMessage() for record in caplog.records]
    assert len(looks) > len(said)
    assert said[-1] == f"Job {job_id} is Completed."
    assert len(set(said)) == len(said) <= 3


def _counting(looks: list[float]) -> Callable[..., Any]:
    real = asyncio.sleep

    async def sleep(seconds: float, result: Any = None) -> Any:
        looks.append(seconds)
        return await real(seconds, result)

    return sleep


@pytest.mark.parametrize(
    "event",
    [None, {}, {"status": "over"}, {"job_id": "j-1"}, {"status": "success", "job_id": "j-1"}, {"status": None}],
)
def test_an_event_that_is_none_of_ours_is_refused(event: dict[str, Any] | None) -> None:
    with pytest.raises(ValueError, match="without telling"):
        check_event(event)


def test_no_step_blocks_the_loop_however_slow_the_server(serve: Callable[..., str]) -> None:
    """In a process of its own, since the first trigger also imports what it needs.

    A machine that is busy with others may still get into its way; what blocks, does so every time.
    """
    polls = []

    def answer(path: str) -> tuple[int, bytes]:
        time.sleep(0.3)
        if path.endswith("/version"):
            return 200, b'{"GitVersion": "v1.9.3"}'
        polls.append(path)
        state = "Completed" if len(polls) % 3 == 0 else "Running"
        return 200, json.dumps({"Job": {"ID": "j-1", "State": {"StateType": state}}}).encode()

    url = serve(answer)
    longest = []
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(_WATCHED)],
            env={**os.environ, "AIRFLOW_CONN_BACALHAU_DEFAULT": f"bacalhau://{url}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        longest.append(float(done.stdout.splitlines()[-1]))
        if longest[-1] < 0.05:
            return
    pytest.fail(f"A step blocked the loop, for {min(longest):.3f} s at least.")


_WATCHED = """
    import asyncio, logging, time
    from airflow_provider_bacalhau.triggers.bacalhau import BacalhauJobTrigger

    def unready():
        # The clock without the time in which this thread was ready and the machine busy with others.
        try:
            with open("/proc/thread-self/schedstat") as numbers:
                return time.monotonic() - int(numbers.read().split()[1]) / 1e9
        except OSError:
            return time.monotonic()

    async def tick(gaps):
        while True:
            start = unready()
            await asyncio.sleep(0.002)
            gaps.append(unready() - start)

    async def main():
        gaps = []
        ticking = asyncio.create_task(tick(gaps))
        await asyncio.sleep(0.1)
        gaps.clear()
        events = [event async for event in BacalhauJobTrigger("j-1", "bacalhau_default", 0.1).run()]
        ticking.cancel()
        assert events[0].payload["status"] == "over", events
        assert len(gaps) > 100
        print(max(gaps))

    asyncio.run(main())
"""
