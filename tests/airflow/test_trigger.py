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
from typing import Any
from unittest.mock import patch

import pytest

from airflow_provider_bacalhau.triggers.bacalhau import BacalhauJobTrigger, check_event

from .conftest import Connect, Network
from .programs import exits, sleeps
from .running import LOG, first_event, stored, submitted, through_database

ABSENT = "j-00000000-0000-4000-8000-000000000000"


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
    assert event == {"status": "over", "job_id": job_id, "message": "", "permanent": False, "category": ""}
    assert check_event(through_database(event)) == event


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
        pending = [asyncio.create_task(anext(run)) for run in runs]  # type: ignore[arg-type]  # it is a generator
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
    looks = []
    with patch.object(BacalhauJobTrigger, "log", LOG), patch("asyncio.sleep", side_effect=_counting(looks)):
        asyncio.run(first_event(watch(job_id, poll_interval=0.1)))
    said = [record.getMessage() for record in caplog.records if "devnode" not in record.name]
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
