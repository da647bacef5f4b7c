"""Logs over a websocket: what is asked, what the messages say, and how listening ends."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from airflow_provider_bacalhau.client.clients import AsyncBacalhauClient, BacalhauClient
from airflow_provider_bacalhau.client.dialects.logs import LogChunk, read_orchestrator_frame, read_requester_frame
from airflow_provider_bacalhau.client.dialects.orchestrator import OrchestratorDialect
from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
from airflow_provider_bacalhau.client.errors import (
    BacalhauError,
    NotAuthorised,
    NotSupported,
    ResultUnavailable,
    ServerUnavailable,
    UnexpectedAnswer,
    Unreachable,
)
from airflow_provider_bacalhau.client.settings import ClientSettings
from tests.support.drive import Script, ok
from tests.support.requester import exchange, logs
from tests.support.requester_cases import dialect

Talk = Callable[[web.WebSocketResponse, web.Request], Awaitable[None]]

HELLO = [LogChunk("stdout", "hello from wasm code=0"), LogChunk("stdout", "\n")]
WARNING = LogChunk("stderr", "warn: going to exit 0\n")


# -- what is asked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v0.3.29", "v1.0.3", "v1.1.6"])
def test_the_requester_api_is_asked_as_recorded(version: str) -> None:
    recorded = logs(version)
    asked = json.loads(recorded["sent"])["payload"]
    script = Script.of()
    wanted = script.run(dialect(version).logs_request(asked["JobID"], asked["ExecutionID"]))
    assert wanted.request.target == recorded["websocket"]
    assert json.loads(wanted.first_message)["payload"] == {**asked, "ClientID": "c" * 64}


@pytest.mark.parametrize("version", ["v0.3.29", "v1.0.3", "v1.1.6"])
def test_recorded_messages_are_read(version: str) -> None:
    messages = [text.encode() for text in logs(version)["frames"] if text.startswith("{")]
    chunks = [chunk for message in messages if (chunk := read_requester_frame(message))]
    assert chunks == [*HELLO, WARNING]


def test_the_execution_that_runs_is_chosen_when_none_is_named() -> None:
    states = exchange("v0.3.29", "long: states").response
    script = Script.of(states)
    wanted = script.run(dialect("v0.3.29").logs_request("j"))
    (execution,) = json.loads(states.body)["state"]["Executions"]
    assert json.loads(wanted.first_message)["payload"]["ExecutionID"] == execution["ComputeReference"]


def test_a_job_without_an_execution_has_no_log_yet() -> None:
    with pytest.raises(ResultUnavailable, match="no execution yet"):
        Script.of(ok({"state": {"Executions": None}})).run(dialect("v0.3.29").logs_request("j"))


def test_requester_servers_that_give_no_logs_name_the_remedy() -> None:
    with pytest.raises(NotSupported) as raised:
        Script.of().run(dialect("v1.3.2").logs_request("j", "e"))
    assert "orchestrator" in raised.value.hint


def test_the_orchestrators_api_is_asked_by_its_address() -> None:
    wanted = Script.of().run(OrchestratorDialect(ServerVersion("v1.9.3")).logs_request("j-1", "e-1", follow=False))
    assert wanted.request.target == "/api/v1/orchestrator/jobs/j-1/logs?execution_id=e-1&follow=false"
    assert wanted.first_message == b""
    with pytest.raises(NotSupported):
        Script.of().run(OrchestratorDialect(ServerVersion("v1.1.6")).logs_request("j-1"))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b'{"value":{"Type":1,"Line":"4\\n"}}\n', LogChunk("stdout", "4\n")),
        (b'{"value":{"Type":2,"Line":"bad"},"error":""}', LogChunk("stderr", "bad")),
        (b'{"value":{"Type":0,"Line":""}}', None),
        (b"{}", None),
    ],
)
def test_messages_of_the_orchestrator_are_read(message: bytes, expected: LogChunk | None) -> None:
    assert read_orchestrator_frame(message) == expected


@pytest.mark.parametrize(
    ("read", "message", "said"),
    [
        (read_orchestrator_frame, {"error": "no executions found for job j"}, "no executions found for job j"),
        (read_requester_frame, {"ErrorMessage": json.dumps({"Message": "failed to find job: j"})}, "failed to find"),
        (read_requester_frame, {"ErrorMessage": "broken\x1b[31m"}, "broken\\x1b"),
    ],
)
def test_a_server_that_says_why_there_is_no_log_is_quoted(
    read: Callable[[bytes], LogChunk | None], message: dict[str, str], said: str
) -> None:
    with pytest.raises(ResultUnavailable) as raised:
        read(json.dumps(message).encode())
    assert said in raised.value.message


@pytest.mark.parametrize("message", [b"", b"<html>", b"[]", b"3", b"\xff", b"[" * 100_000])
def test_a_message_that_is_none_is_unexpected(message: bytes) -> None:
    for read in (read_orchestrator_frame, read_requester_frame):
        with pytest.raises(UnexpectedAnswer):
            read(message)


# -- listening --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def server(talk: Talk) -> AsyncIterator[ClientSettings]:
    async def version(_: web.Request) -> web.Response:
        return web.json_response({"GitVersion": "v1.9.3"})

    async def log(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await talk(socket, request)
        return socket

    async def closed(request: web.Request) -> web.Response:
        return web.Response(status=int(request.match_info["status"]))

    app = web.Application()
    app.router.add_get("/api/v1/agent/version", version)
    app.router.add_get("/api/v1/orchestrator/jobs/j/logs", log)
    app.router.add_get("/api/v1/orchestrator/jobs/{status:[0-9]+}/logs", closed)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield ClientSettings(f"http://127.0.0.1:{runner.addresses[0][1]}", auth="none")
    finally:
        await runner.cleanup()


async def say_hello(socket: web.WebSocketResponse, _: web.Request) -> None:
    for chunk in HELLO:
        await socket.send_str(json.dumps({"value": {"Type": 1, "Line": chunk.text}}))


async def stay_silent(socket: web.WebSocketResponse, _: web.Request) -> None:
    await say_hello(socket, _)
    assert (await socket.receive()).type in {WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED}


async def heard(settings: ClientSettings, seconds: float = 5, job: str = "j") -> list[LogChunk]:
    async with AsyncBacalhauClient(settings) as client:
        return [chunk async for chunk in client.logs(job, seconds=seconds)]


def heard_synchronously(settings: ClientSettings, seconds: float = 5, job: str = "j") -> list[LogChunk]:
    with BacalhauClient(settings) as client:
        return list(client.logs(job, seconds=seconds))


async def heard_in_a_thread(settings: ClientSettings, seconds: float = 5, job: str = "j") -> list[LogChunk]:
    return await asyncio.to_thread(heard_synchronously, settings, seconds, job)


both = pytest.mark.parametrize("listen", [heard, heard_in_a_thread], ids=["async", "sync"])
Listen = Callable[..., Awaitable[list[LogChunk]]]


@both
async def test_both_clients_hear_the_same(listen: Listen) -> None:
    async with server(say_hello) as settings:
        assert await listen(settings) == HELLO


@both
async def test_a_log_that_never_ends_is_left_in_time(listen: Listen) -> None:
    async with server(stay_silent) as settings:
        begun = time.monotonic()
        assert await listen(settings, 1.0) == HELLO
        assert 0.9 < time.monotonic() - begun < 10


async def test_a_log_that_comes_faster_than_it_is_read_is_left_in_time() -> None:
    sent = asyncio.Event()

    async def flood(socket: web.WebSocketResponse, request: web.Request) -> None:
        for _ in range(MANY):
            await socket.send_str('{"value": {"Type": 1, "Line": "x"}}')
        sent.set()
        await socket.receive()

    async with server(flood) as settings, AsyncBacalhauClient(settings) as client:
        read = 0
        async for _ in client.logs("j", seconds=0.5):
            if not read:
                await asyncio.wait_for(sent.wait(), 30)
            time.sleep(0.005)  # noqa: ASYNC251  # a reader who is busy: the next message is there meanwhile
            read += 1
    assert read < MANY


MANY = 1000


async def test_a_tail_is_the_end_of_the_log() -> None:
    async def tell(socket: web.WebSocketResponse, _: web.Request) -> None:
        for number in range(5000):
            await socket.send_str(json.dumps({"value": {"Type": 1, "Line": f"{number}\n"}}))

    assert (await tail(tell, 30)).endswith("\n4998\n4999\n")


async def test_a_tail_that_may_not_be_the_end_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never_ending(_: object, __: object, seconds: float) -> AsyncIterator[LogChunk]:
        yield HELLO[0]
        await asyncio.sleep(seconds + 0.1)

    monkeypatch.setattr("airflow_provider_bacalhau.client.clients._chunks", never_ending)
    async with server(say_hello) as settings:
        text = await asyncio.to_thread(take_tail, settings, 3)
    assert text == "hello from wasm code=0\n… there may be more: the log was read for 3 s"


async def test_a_tail_of_nothing_is_empty() -> None:
    async def be_silent(socket: web.WebSocketResponse, _: web.Request) -> None:
        await socket.receive()

    assert await tail(be_silent, 0.3) == ""


async def tail(talk: Talk, seconds: float) -> str:
    async with server(talk) as settings:
        return await asyncio.to_thread(take_tail, settings, seconds)


def take_tail(settings: ClientSettings, seconds: float) -> str:
    with BacalhauClient(settings) as client:
        return client.log_tail("j", seconds=seconds)


@both
@pytest.mark.parametrize(
    ("status", "kind"), [("401", NotAuthorised), ("404", NotSupported), ("503", ServerUnavailable)]
)
async def test_a_refused_websocket_is_an_error_of_the_client(
    listen: Listen, status: str, kind: type[BacalhauError]
) -> None:
    async with server(say_hello) as settings:
        with pytest.raises(kind):
            await listen(settings, job=status)


@both
async def test_a_connection_that_breaks_is_unreachable(listen: Listen) -> None:
    async def break_off(socket: web.WebSocketResponse, request: web.Request) -> None:
        await say_hello(socket, request)
        await socket.send_str("x" * 2_000_000)  # more than one message may hold

    async with server(break_off) as settings:
        with pytest.raises(Unreachable):
            await listen(settings)


async def test_credentials_go_with_the_handshake() -> None:
    seen = []

    async def look(_: web.WebSocketResponse, request: web.Request) -> None:
        seen.append(request.headers.get("Authorization"))

    async with server(look) as settings:
        await heard(replace(settings, auth="bearer", password="key"))
    assert seen == ["Bearer key"]


async def test_a_listener_that_goes_away_closes_the_socket() -> None:
    closed = asyncio.Event()

    async def watch(socket: web.WebSocketResponse, request: web.Request) -> None:
        await stay_silent(socket, request)
        closed.set()

    def take_one(settings: ClientSettings) -> LogChunk:
        with BacalhauClient(settings) as client:
            chunks: Any = client.logs("j", seconds=60)
            first = next(iter(chunks))
            chunks.close()
            return first

    async with server(watch) as settings:
        assert await asyncio.to_thread(take_one, settings) == HELLO[0]
        await asyncio.wait_for(closed.wait(), 5)
