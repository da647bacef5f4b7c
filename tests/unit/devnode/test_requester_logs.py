from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from .requester_api import Requester, emulated, wasm_spec
from .requester_replay import Client

SECONDS = 15.0
Frames = tuple[list[dict[str, Any]], int | None]


@pytest.fixture(scope="module")
def key() -> Client:
    return Client()


@pytest.fixture(scope="module", params=["v0.3.29", "v1.1.6"])
def requester(request: pytest.FixtureRequest, key: Client) -> Iterator[Requester]:
    with emulated(request.param, key) as requester:
        requester.is_first = request.param == "v0.3.29"  # type: ignore[attr-defined] # for these tests
        yield requester


def listen(requester: Requester, message: str, *, enough: str = "\0") -> Frames:
    """All frames until the server closes or the text was seen, and the code it closes with."""

    async def run() -> Frames:
        frames: list[dict[str, Any]] = []
        async with (
            asyncio.timeout(SECONDS),
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{requester.node.api}/requester/logs") as socket,
        ):
            await socket.send_str(message)
            async for frame in socket:
                frames.append(json.loads(frame.data))
                if enough in written(frames):
                    return frames, None
            return frames, socket.close_code

    return asyncio.run(run())


def written(frames: list[dict[str, Any]]) -> str:
    return "".join(frame["Data"] for frame in frames)


def wanted(key: Client, job_id: str, execution_id: str, *, follow: bool = True) -> str:
    return key.envelope({"JobID": job_id, "ExecutionID": execution_id, "WithHistory": True, "Follow": follow})


def execution(requester: Requester, job_id: str) -> str:
    deadline = time.monotonic() + SECONDS
    while True:
        executions = requester.about("states", job_id).json()["state"]["Executions"] or []
        if executions and executions[0]["State"] not in {"AskForBid", "AskForBidAccepted"}:
            return str(executions[0]["ComputeReference"])
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_finished_job_tells_what_is_kept_of_it(requester: Requester, key: Client) -> None:
    job_id = requester.start(wasm_spec("3"))
    requester.wait(job_id)
    frames, code = listen(requester, wanted(key, job_id, execution(requester, job_id)))
    assert [(frame["Tag"], frame["Data"]) for frame in frames] == [
        (1, "hello from wasm code=3"),
        (2, "warn: going to exit 3\n"),
    ]
    assert code == 1000


def test_a_running_job_is_followed_to_its_end(requester: Requester, key: Client) -> None:
    job_id = requester.start(wasm_spec("0", "60"))
    message = wanted(key, job_id, execution(requester, job_id))
    frames, _ = listen(requester, message, enough="going to exit 0\n")
    assert "hello from wasm code=0\n" in written(frames)
    requester.cancel(job_id)
    _, code = listen(requester, message)
    assert code == 1000


def test_without_following_there_is_what_there_is(requester: Requester, key: Client) -> None:
    job_id = requester.start(wasm_spec("0", "60"))
    _, code = listen(requester, wanted(key, job_id, execution(requester, job_id), follow=False))
    assert code == 1000
    requester.cancel(job_id)


@pytest.mark.parametrize(
    ("job_id", "execution_id", "text"),
    [
        ("nosuch", "e-1", "failed to find job: nosuch"),
        (None, "e-1", "read logs failure: unable to find execution e-1 in job "),
    ],
)
def test_what_cannot_be_read_is_told_by_later_servers_only(
    requester: Requester, key: Client, job_id: str | None, execution_id: str, text: str
) -> None:
    job_id = job_id or requester.start(wasm_spec())
    frames, code = listen(requester, wanted(key, job_id, execution_id))
    if requester.is_first:  # type: ignore[attr-defined] # see the fixture
        assert (frames, code) == ([], 1011)
    else:
        assert json.loads(frames[0]["ErrorMessage"])["Message"].startswith(text)


def test_the_jobs_of_others_can_be_read_on_later_servers_only(requester: Requester) -> None:
    job_id = requester.start(wasm_spec())
    requester.wait(job_id)
    frames, code = listen(requester, wanted(Client(), job_id, execution(requester, job_id)))
    first = requester.is_first  # type: ignore[attr-defined] # see the fixture
    assert (written(frames) == "", code) == ((True, 1011) if first else (False, 1000))


def test_an_unsigned_question_is_refused(requester: Requester) -> None:
    frames, code = listen(requester, json.dumps({"payload": {"JobID": "x"}}))
    if requester.is_first:  # type: ignore[attr-defined] # see the fixture
        assert (frames, code) == ([], 1011)
    else:
        assert "client's signature is invalid" in frames[0]["ErrorMessage"]
