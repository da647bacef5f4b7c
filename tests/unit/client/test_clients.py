"""The two clients against a small server: they say the same, and share what can be shared."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import pytest

from airflow_provider_bacalhau.client import AsyncBacalhauClient, BacalhauClient, ClientSettings
from airflow_provider_bacalhau.client.effects import Once, Operation, Request, Response
from airflow_provider_bacalhau.client.errors import (
    BacalhauError,
    ConfigurationError,
    InvalidJobSpec,
    NotFound,
    ServerUnavailable,
    SubmissionUnclear,
    UnexpectedAnswer,
    Unreachable,
)
from airflow_provider_bacalhau.client.transport import aio
from airflow_provider_bacalhau.client.transport.sync import SyncTransport
from tests.support.recorded import RECORDINGS, VERSIONS, recorded
from tests.support.server import Asked, Behaviour, Peer, Server, free_port, reply, until


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    # Pauses between tries are the retry rule's business, which its own tests look at.
    monkeypatch.setattr("airflow_provider_bacalhau.client.retry.FIRST_PAUSE", 0.001)


def ask_sync(url: str, name: str, *args: Any, **kwargs: Any) -> Any:
    with BacalhauClient(url) as client:
        return getattr(client, name)(*args, **kwargs)


def ask_async(url: str, name: str, *args: Any, **kwargs: Any) -> Any:
    async def run() -> Any:
        async with AsyncBacalhauClient(url) as client:
            return await getattr(client, name)(*args, **kwargs)

    return asyncio.run(run())


def outcome(ask: Callable[..., Any], url: str, name: str, *args: Any, **kwargs: Any) -> object:
    """What comes of an operation, so that it can be compared: its result, or all that its error says."""
    try:
        result: object = ask(url, name, *args, **kwargs)
    except BacalhauError as error:
        return type(error), error.message.partition("(")[0], error.hint, error.method, error.path, error.status
    return result


class Spec:
    name, namespace = "n-1", None

    def __init__(self, size: int = 0) -> None:
        self.size = size

    def to_wire(self, *, module_sources: bool) -> dict[str, Any]:
        return {"Name": self.name, "Meta": {"x": "x" * self.size}}


def node(version: str = "v1.9.3", **answers: bytes) -> Behaviour:
    """A server of that version; each other answer by the last part of its path."""

    def behave(peer: Peer, asked: Asked) -> bool:
        path = asked.target.partition("?")[0]
        if path == "/api/v1/agent/version":
            return peer.send(reply(json.dumps({"GitVersion": version}).encode()))
        return peer.send(answers[path.rpartition("/")[2].replace("-", "_")])

    return behave


def said(body: object, status: str = "200 OK", **headers: str) -> bytes:
    return reply(json.dumps(body).encode(), status, **headers)


# -- both ways say the same -------------------------------------------------------------------------------------------

OPERATIONS: list[tuple[str, list[str], tuple[Any, ...]]] = [
    ("get", ["wasm ok: get", "get unknown"], ("j-1",)),
    ("list", ["list by label", "list by bad label", "list bad order"], ()),
    ("stop", ["queued: stop", "queued: stop again", "stop completed", "stop unknown", "stop failed"], ("j-1", "why")),
    ("executions", ["wasm ok: executions", "executions unknown"], ("j-1",)),
    ("history", ["wasm ok: history", "history unknown", "history events bad"], ("j-1",)),
    ("results", ["wasm ok: results", "results unknown"], ("j-1",)),
    ("alive", ["agent alive"], ()),
    ("node", ["agent node"], ()),
    ("nodes", ["nodes"], ()),
    ("submit", ["wasm ok", "warnings", "put no type", "same spec again", "env lower"], (Spec(),)),
    ("outcome", ["wasm exit 3: get", "unschedulable: get"], ("j-1",)),
]
ASKED = [(version, name, label, args) for version in VERSIONS for name, labels, args in OPERATIONS for label in labels]


@pytest.mark.parametrize("version", VERSIONS)
def test_both_ways_say_the_same_of_every_recorded_answer(version: str) -> None:
    answers = {one.label: one.response for one in recorded("orchestrator", version)}
    current: list[Response] = []

    def behave(peer: Peer, asked: Asked) -> bool:
        if asked.target == "/api/v1/agent/version":
            return peer.send(said({"GitVersion": version}))
        return peer.send(reply(current[0].body, f"{current[0].status} X"))

    with Server(behave) as server:
        for _, name, label, args in (row for row in ASKED if row[0] == version and row[2] in answers):
            current[:] = [answers[label]]
            results, requests = [], []
            for ask in (ask_sync, ask_async):
                del server.asked[:]
                results.append(outcome(ask, server.url, name, *args))
                requests.append([(asked.method, asked.target, asked.body) for asked in server.asked])
            assert results[0] == results[1], f"{name} {label}"
            assert requests[0] == requests[1], f"{name} {label}"


def cut(peer: Peer, _: Asked) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")


def close(_: Peer, __: Asked) -> None:
    """Close without a word."""


def after_version(then: Behaviour) -> Behaviour:
    def behave(peer: Peer, asked: Asked) -> bool | None:
        if asked.target == "/api/v1/agent/version":
            return peer.send(said({"GitVersion": "v1.7.0"}))
        return then(peer, asked)

    return behave


def always(content: bytes) -> Behaviour:
    return lambda peer, _: peer.send(content)


# How the server behaves once it has told its version; the errors of a look and of a submission.
HOSTILE: list[tuple[str, Behaviour, type[BacalhauError], type[BacalhauError]]] = [
    ("closes", close, Unreachable, SubmissionUnclear),
    ("cuts its answer", cut, Unreachable, SubmissionUnclear),
    ("speaks HTML", always(reply(b"<html>Welcome to nginx</html>")), UnexpectedAnswer, SubmissionUnclear),
    (
        "redirects",
        always(reply(b"", "302 Found", Location="/login?X-Signature=secret")),
        UnexpectedAnswer,
        SubmissionUnclear,
    ),
    ("is overloaded", always(reply(b"", "503 No")), ServerUnavailable, SubmissionUnclear),
    ("answers a list", always(said([])), UnexpectedAnswer, SubmissionUnclear),
    (
        "knows nothing",
        always(said({"Message": "job not found", "Code": "NotFound", "Component": "JobStore"}, "404 No")),
        NotFound,
        NotFound,
    ),
]


@pytest.mark.parametrize(
    ("behave", "look", "submission"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE]
)
def test_both_ways_say_the_same_of_a_hostile_server(
    behave: Behaviour, look: type[BacalhauError], submission: type[BacalhauError]
) -> None:
    with Server(after_version(behave)) as server:
        for name, args, kind in (("get", ("j-1",), look), ("submit", (Spec(),), submission)):
            first, second = (outcome(ask, server.url, name, *args) for ask in (ask_sync, ask_async))
            assert first == second
            assert isinstance(first, tuple)
            assert first[0] is kind
            assert "secret" not in str(first)


@pytest.mark.parametrize("ask", [ask_sync, ask_async])
def test_a_lost_reply_does_not_submit_twice_where_names_are_not_unique(ask: Callable[..., Any]) -> None:
    with Server(after_version(close)) as server:
        with pytest.raises(SubmissionUnclear):
            ask(server.url, "submit", Spec())
        assert [asked.method for asked in server.asked] == ["GET", "POST"]


@pytest.mark.parametrize("ask", [ask_sync, ask_async])
def test_a_request_over_ten_megabytes_is_not_sent(ask: Callable[..., Any]) -> None:
    with Server(node()) as server:
        with pytest.raises(BacalhauError, match=r"bytes long, and servers take 10,000,000"):
            ask(server.url, "submit", Spec(10_000_000))
        assert [asked.method for asked in server.asked] == ["GET"]  # for the version


@pytest.mark.parametrize("ask", [ask_sync, ask_async])
def test_a_server_that_comes_back_is_asked_again(ask: Callable[..., Any]) -> None:
    failures = iter([close, always(reply(b"", "503 No"))] * 2)

    def behave(peer: Peer, asked: Asked) -> bool | None:
        failing = next(failures, None)
        return failing(peer, asked) if failing else node(j_1=said({"Job": {"ID": "j-1"}}))(peer, asked)

    with Server(behave) as server:
        assert ask(server.url, "get", "j-1").id == "j-1"


@pytest.mark.parametrize("ask", [ask_sync, ask_async])
def test_a_server_that_is_not_there_is_said_to_be_unreachable(ask: Callable[..., Any]) -> None:
    port = free_port()
    with pytest.raises(Unreachable, match=f"no connection could be made .*127.0.0.1:{port}"):
        ask(f"http://127.0.0.1:{port}", "version")


@pytest.mark.parametrize("ask", [ask_sync, ask_async])
def test_a_redirection_of_the_gateway_is_followed_once_on_its_host(ask: Callable[..., Any]) -> None:
    cid, folder = "QmbmHZ4SjokWhB5qNrpbSnBtv2EAieUCjvc2gy8ZRnBbup", "QmdzCsMfQikrBsN7rpCj2p5NbtFbzBy8KHe2m8cZtzvhD6"
    from airflow_provider_bacalhau.client.spec.inputs import IpfsPathInput

    def gateway(peer: Peer, asked: Asked) -> bool:
        if asked.target.endswith("/"):
            return peer.send(reply(b"", X_Ipfs_Roots=f"{cid},{folder}"))
        return peer.send(reply(b"", "301 Moved", Location=f"{asked.target}/"))

    with Server(gateway) as server:
        settings = ClientSettings("http://bacalhau.invalid:1234", ipfs_gateway=server.url)
        (ready,) = ask(settings, "resolve_inputs", [IpfsPathInput(cid, "outputs", "/in", "inputs")])
        assert ready.source["Params"] == {"CID": folder}
        assert [asked.method for asked in server.asked] == ["HEAD", "HEAD"]


def test_an_address_without_a_scheme_is_refused() -> None:
    for make in (BacalhauClient, AsyncBacalhauClient):
        with pytest.raises(ConfigurationError, match="Not an address: 'host'"):
            make("host")


def test_a_job_is_stopped_quickly_on_a_connection_of_its_own() -> None:
    with Server(node(j_1=said({"EvaluationID": "e"}))) as server:
        with BacalhauClient(server.url) as client:
            client.version()
            assert client.stop_quickly("j-1", "killed").value == "stopped"
        assert [asked.method for asked in server.asked] == ["GET", "DELETE"]
        assert server.connections == 2


def test_stopping_quickly_gives_up_quickly() -> None:
    with Server(after_version(lambda peer, _: peer.wait(10))) as server, BacalhauClient(server.url) as client:
        client.version()
        begun = time.monotonic()
        with pytest.raises(Unreachable):
            client.stop_quickly("j-1", "killed", seconds=0.2)
        assert time.monotonic() - begun < 5
        assert len(server.asked) == 2


# -- one flight for all -----------------------------------------------------------------------------------------------


def slow_version(peer: Peer, asked: Asked) -> bool:
    if asked.target == "/api/v1/agent/version":
        peer.wait(0.1)
        return peer.send(said({"GitVersion": "v1.9.3"}))
    return peer.send(said({"Status": "OK"}))


def versions_asked(server: Server) -> int:
    return sum(asked.target == "/api/v1/agent/version" for asked in server.asked)


async def test_fifty_waiters_ask_for_the_version_once() -> None:
    with Server(slow_version) as server:
        clients = [AsyncBacalhauClient(server.url) for _ in range(50)]
        assert await asyncio.gather(*(client.alive() for client in clients)) == [True] * 50
        assert versions_asked(server) == 1
        for client in clients:
            await client.close()


def test_threads_of_one_client_ask_for_the_version_once() -> None:
    with Server(slow_version) as server, BacalhauClient(server.url) as client, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: client.alive(), range(8)))
        assert versions_asked(server) == 1


async def test_a_waiter_that_is_cancelled_does_not_take_the_flight_from_the_others() -> None:
    with Server(slow_version) as server:
        async with AsyncBacalhauClient(server.url) as client:
            first, *others = (asyncio.create_task(client.alive()) for _ in range(5))
            await asyncio.sleep(0.02)
            first.cancel()
            assert await asyncio.gather(*others) == [True] * 4
            with pytest.raises(asyncio.CancelledError):
                await first
        assert versions_asked(server) == 1


async def test_a_flight_that_fails_fails_for_all_and_is_not_kept() -> None:
    bad = [True]

    def behave(peer: Peer, asked: Asked) -> bool:
        if bad[0]:
            peer.wait(0.05)
            return peer.send(reply(b"<html>", "200 OK"))
        return slow_version(peer, asked)

    with Server(behave) as server:
        async with AsyncBacalhauClient(server.url) as client:
            failed = await asyncio.gather(*(client.alive() for _ in range(5)), return_exceptions=True)
            assert [type(error) for error in failed] == [UnexpectedAnswer] * 5
            assert versions_asked(server) == 1
            bad[0] = False
            assert await client.alive()


async def test_a_flight_that_nobody_awaits_any_more_leaves_no_complaint(caplog: pytest.LogCaptureFixture) -> None:
    with Server(lambda peer, _: peer.wait(0.1) or peer.send(reply(b"", "404 No"))) as server:
        client = AsyncBacalhauClient(server.url)
        alone = asyncio.create_task(client.alive())
        await asyncio.sleep(0.02)
        alone.cancel()
        await asyncio.wait([alone])
        await client.close()
        await asyncio.sleep(0)
        gc.collect()
    assert "never retrieved" not in caplog.text
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


def test_who_waits_for_a_thread_that_is_interrupted_flies_on() -> None:
    transport = SyncTransport(ClientSettings("http://127.0.0.1:1"))
    entered, leave = threading.Event(), threading.Event()
    flights: list[int] = []

    async def fly() -> str:
        flights.append(1)
        if len(flights) == 1:
            entered.set()
            leave.wait(5)
            raise KeyboardInterrupt
        return "landed"

    async def want() -> str:
        return await Once("key", fly)

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(transport.run, want())
        assert entered.wait(5)
        others = [pool.submit(transport.run, want()) for _ in range(3)]
        leave.set()
        with pytest.raises(KeyboardInterrupt):
            first.result(5)
        assert [other.result(5) for other in others] == ["landed"] * 3


# -- sharing ----------------------------------------------------------------------------------------------------------


async def test_clients_of_equal_settings_share_connections_and_the_last_closes_them() -> None:
    loop = asyncio.get_running_loop()
    with Server(node(alive=said({"Status": "OK"}))) as server:
        first, second = AsyncBacalhauClient(server.url), AsyncBacalhauClient(server.url)
        other = AsyncBacalhauClient(ClientSettings(server.url, timeout=5))
        for client in (first, second, other):
            assert await client.alive()
        assert versions_asked(server) == 2
        assert server.connections == 2
        shared = aio._shared[loop][first.settings]
        assert shared.users == 2
        session = shared.transport._session
        assert session is not None
        await first.close()
        await first.close()  # closing twice leaves once
        assert not session.closed
        assert await second.alive()
        await second.close()
        assert session.closed
        assert first.settings not in aio._shared[loop]
        await other.close()
        assert aio._shared[loop] == {}


async def test_a_closed_client_can_be_used_again() -> None:
    with Server(node(alive=said({"Status": "OK"}))) as server:
        client = AsyncBacalhauClient(server.url)
        for _ in range(2):
            assert await client.alive()
            await client.close()
        assert versions_asked(server) == 2


async def test_an_unused_client_opens_nothing() -> None:
    async with AsyncBacalhauClient("http://127.0.0.1:1"):
        pass
    assert asyncio.get_running_loop() not in aio._shared or not aio._shared[asyncio.get_running_loop()]
    BacalhauClient("http://127.0.0.1:1").close()


async def test_cancelling_a_wait_closes_the_operation_and_frees_the_connection() -> None:
    closed: list[bool] = []

    async def operation() -> None:
        try:
            await Request("GET", "/slow")
        finally:
            closed.append(True)

    with Server(lambda peer, _: peer.wait(5)) as server:
        async with AsyncBacalhauClient(server.url) as client:
            task = asyncio.create_task(client.run(operation()))
            until_asked = asyncio.to_thread(until, lambda: bool(server.asked))
            await until_asked
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert closed == [True]


async def test_the_loop_is_never_blocked_by_a_slow_server() -> None:
    """The server answers once the loop has turned often enough, so a blocked loop would wait for itself."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    with Server(lambda peer, _: until(lambda: turns >= 50) or peer.send(said({"GitVersion": "v1.9.3"}))) as server:
        async with AsyncBacalhauClient(server.url) as client:
            turning = asyncio.create_task(turn())
            assert (await client.version()).text == "v1.9.3"
            turning.cancel()


def test_every_setting_takes_part_in_sharing() -> None:
    assert all(field.compare and field.hash is not False for field in fields(ClientSettings))


def test_two_loops_do_not_share() -> None:
    with Server(node(alive=said({"Status": "OK"}))) as server:
        for _ in range(2):
            assert ask_async(server.url, "alive")
        assert server.connections == 2


def test_an_operation_can_be_run_on_either() -> None:
    async def custom() -> int:
        return (await Request("GET", "/api/v1/agent/version")).status

    with Server(node()) as server:
        with BacalhauClient(server.url) as client:
            assert client.run(custom()) == 200

        async def run(operation: Operation[int]) -> int:
            async with AsyncBacalhauClient(server.url) as other:
                return await other.run(operation)

        assert asyncio.run(run(custom())) == 200


def test_recordings_hold_nothing_of_the_machine_they_were_made_on() -> None:
    for path in RECORDINGS.glob("*"):
        with contextlib.suppress(UnicodeDecodeError):
            assert "/work" not in path.read_text()


NOWHERE = "http://127.0.0.1:1"


@pytest.mark.parametrize("ask", [ask_sync, ask_async])
@pytest.mark.parametrize("name", ["get", "wait", "executions", "history", "results", "outcome", "references"])
def test_a_missing_job_id_is_refused_before_anything_is_asked(ask: Callable[..., Any], name: str) -> None:
    for nothing in (None, "", " ", "None"):
        with pytest.raises(InvalidJobSpec, match="job_id is empty: the task that should have given it pushed nothing"):
            ask(NOWHERE, name, nothing)
        with pytest.raises(InvalidJobSpec, match="job_id is empty"):
            ask(NOWHERE, name, job_id=nothing)
    with pytest.raises(InvalidJobSpec, match="job_id: must be the text of a job's id, not list"):
        ask(NOWHERE, name, ["j-1"])


@pytest.mark.parametrize("ask", [ask_sync, ask_async])
@pytest.mark.parametrize("name", ["submit", "submit_once"])
@pytest.mark.parametrize("spec", [{"Type": "batch"}, "Type: batch", None])
def test_a_specification_that_was_not_read_is_refused(ask: Callable[..., Any], name: str, spec: object) -> None:
    with pytest.raises(InvalidJobSpec, match="read_job_spec"):
        ask(NOWHERE, name, spec)


@pytest.mark.parametrize("client", [BacalhauClient, AsyncBacalhauClient])
def test_a_client_of_no_address_is_refused(client: Callable[[Any], object]) -> None:
    with pytest.raises(ConfigurationError, match="not NoneType"):
        client(None)
