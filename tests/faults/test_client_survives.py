"""Both clients against a node that spoils its answers: what can be survived is, the rest is an error with a name.

The clients' own errors are all that may come out, in bounded time; no job is submitted twice, none is lost sight of.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
import time
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import wasmtime
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from airflow_provider_bacalhau.client import AsyncBacalhauClient, BacalhauClient, ClientSettings, JobState
from airflow_provider_bacalhau.client.effects import MAX_RESPONSE_BYTES
from airflow_provider_bacalhau.client.errors import (
    BacalhauError,
    JobUnchanged,
    NotFound,
    ServerUnavailable,
    SubmissionUnclear,
    UnexpectedAnswer,
    Unreachable,
)
from airflow_provider_bacalhau.client.spec import JobSpec, read_job_spec
from airflow_provider_bacalhau.devnode import DevNode, Fault

TIMEOUT = 0.5
BOUND = 10.0
"""Seconds within which any one call has to end; they take hundredths of it."""

VERSIONS = ("v1.9.3", "v1.7.0", "v1.0.3")
both_apis = pytest.mark.parametrize("version", ["v1.9.3", "v1.0.3"], indirect=True)
SUBMIT = {"v1.9.3": "*/orchestrator/jobs", "v1.7.0": "*/orchestrator/jobs", "v1.0.3": "*/submit"}

PASSING: dict[str, dict[str, Any]] = {
    "refuse": {},
    "cut_before_answer": {},
    "cut_in_answer": {},
    "delay": {"seconds": 2 * TIMEOUT},
    "delay_answer": {"seconds": 2 * TIMEOUT},
    "too_many_requests": {},
    "server_timeout": {},
    "bad_gateway": {},
    "restart": {},
}
"""Kinds that are over when the same question is asked again."""

LASTING: list[tuple[str, dict[str, Any], type[BacalhauError]]] = [
    ("refuse", {}, Unreachable),
    ("cut_before_answer", {}, Unreachable),
    ("cut_in_answer", {}, Unreachable),
    ("too_many_requests", {"retry_after": 0}, ServerUnavailable),
    ("server_timeout", {}, ServerUnavailable),
    ("bad_gateway", {}, ServerUnavailable),
    ("login_page", {}, UnexpectedAnswer),
    ("garbage", {}, UnexpectedAnswer),
    ("redirect", {}, UnexpectedAnswer),
]


def sleeper(seconds: float) -> bytes:
    """A program that sleeps and ends well."""
    return bytes(
        wasmtime.wat2wasm(f"""(module $sleeper
          (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (func $start (export "_start")
            (i64.store (i32.const 24) (i64.const {round(seconds * 1e9)}))
            (drop (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)))))""")
    )


def spec(name: str, seconds: float = 0.0) -> JobSpec:
    module = f"data:application/wasm;base64,{base64.b64encode(sleeper(seconds)).decode()}"
    source = {"Source": {"Type": "inline", "Params": {"URL": module}}, "Target": "/mod/m.wasm"}
    engine = {"Type": "wasm", "Params": {"EntryModule": "/mod/m.wasm", "Entrypoint": "_start"}}
    task = {"Name": "main", "Engine": engine, "InputSources": [source], "Publisher": {"Type": "ipfs"}}
    return read_job_spec({"Name": name, "Type": "batch", "Count": 1, "Tasks": [task]})


class Driven:
    """Either client, its operations called as plain functions."""

    def __init__(self, client: BacalhauClient | AsyncBacalhauClient, run: Callable[[Any], Any]) -> None:
        self._client = client
        self._run = run

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = getattr(self._client, name)
        return lambda *args, **kwargs: self._run(operation(*args, **kwargs))


@pytest.fixture(autouse=True)
def impatient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients try again as often as ever, but soon; a restart takes longer than no time at all."""
    kind = request.node.callspec.params.get("kind")
    pause = 0.03 if kind == "restart" else 0.001
    monkeypatch.setattr("airflow_provider_bacalhau.client.retry.FIRST_PAUSE", pause)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Callable[[str], DevNode]]:
    started: dict[str, DevNode] = {}

    def node(version: str) -> DevNode:
        if version not in started:
            started[version] = DevNode(emulate=version, queue_backoff=0.1).start()
        return started[version]

    yield node
    for each in started.values():
        each.close()


@pytest.fixture(scope="module")
def key() -> str:
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kind, plain = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    return made.private_bytes(serialization.Encoding.PEM, kind, plain).decode()


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def node(nodes: Callable[[str], DevNode], version: str) -> Iterator[DevNode]:
    yield nodes(version)
    nodes(version).faults.clear()


@pytest.fixture
def timeout() -> float:
    return TIMEOUT


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, node: DevNode, key: str, timeout: float) -> Iterator[Driven]:
    settings = ClientSettings(node.api, timeout=timeout, private_key=key)
    if request.param == "sync":
        with BacalhauClient(settings) as made:
            made.version()
            yield Driven(made, lambda answer: answer)
        return
    with asyncio.Runner() as runner:
        other = AsyncBacalhauClient(settings)
        runner.run(other.version())
        yield Driven(other, runner.run)
        runner.run(other.close())


@pytest.fixture(scope="module")
def finished() -> dict[str, str]:
    """Of each version, a job that has succeeded."""
    return {}


@pytest.fixture
def job_id(node: DevNode, version: str, key: str, finished: dict[str, str]) -> str:
    if version not in finished:
        with BacalhauClient(ClientSettings(node.api, private_key=key)) as client:
            finished[version] = client.submit(spec("finished")).job_id
            assert client.wait(finished[version]).state is JobState.COMPLETED
    return finished[version]


@pytest.fixture
def name() -> str:
    """For a job of the test's own."""
    return f"t-{uuid.uuid4().hex[:12]}"


def readings(client: Driven, job_id: str) -> dict[str, Callable[[], Any]]:
    return {
        "get": lambda: client.get(job_id),
        "list": lambda: client.list(),
        "executions": lambda: client.executions(job_id),
        "outcome": lambda: client.outcome(job_id),
        "wait": lambda: client.wait(job_id, poll_interval=0.1),
    }


# -- reading ----------------------------------------------------------------------------------------------------------


@both_apis
@pytest.mark.parametrize("kind", PASSING)
def test_one_spoilt_answer_is_asked_for_again(node: DevNode, client: Driven, job_id: str, kind: str) -> None:
    is_slow = kind.startswith("delay")
    for asked, read in readings(client, job_id).items():
        if is_slow and asked != "get":
            continue  # each would take its timeout
        rule = node.faults.add(Fault(kind, times=1, **PASSING[kind]))
        began = time.monotonic()
        assert read() is not None
        assert rule.hits == 1, asked
        assert time.monotonic() - began < BOUND


@both_apis
@pytest.mark.parametrize(("kind", "options", "error"), LASTING, ids=[kind for kind, _, _ in LASTING])
def test_what_lasts_is_an_error_that_says_what_it_is(
    node: DevNode, client: Driven, job_id: str, kind: str, options: dict[str, Any], error: type[BacalhauError]
) -> None:
    node.faults.add(Fault(kind, **options))
    for asked in ("get", "outcome", "executions"):
        began = time.monotonic()
        with pytest.raises(error) as raised:
            readings(client, job_id)[asked]()
        assert type(raised.value) is error, asked
        assert time.monotonic() - began < BOUND


@both_apis
def test_a_wrong_content_type_and_a_wrong_clock_change_nothing(node: DevNode, client: Driven, job_id: str) -> None:
    node.faults.add(Fault("wrong_type"))
    node.faults.add(Fault("clock_skew", seconds=-86_400))
    assert client.get(job_id).state is JobState.COMPLETED
    assert client.wait(job_id, deadline=time.time() + 5).state is JobState.COMPLETED
    assert client.outcome(job_id).diagnosis is None
    node.faults.clear()
    node.faults.add(Fault("clock_skew", seconds=86_400))
    assert client.wait(job_id, deadline=time.time() + 5).state is JobState.COMPLETED


@both_apis
@pytest.mark.parametrize("timeout", [60.0])  # never the reason to give up
def test_an_answer_without_end_is_not_kept_and_not_read_to_the_end(node: DevNode, client: Driven, job_id: str) -> None:
    rule = node.faults.add(Fault("huge", size=10**12))
    tracemalloc.start()
    try:
        with pytest.raises(UnexpectedAnswer):
            client.get(job_id)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rule.hits == 1, "what is too large once is too large again"
    assert peak < 2 * MAX_RESPONSE_BYTES


@both_apis
def test_a_state_that_nobody_knows_is_waited_out(node: DevNode, client: Driven, job_id: str) -> None:
    node.faults.add(Fault("unknown_state", times=3))
    assert client.wait(job_id, poll_interval=0.1).state is JobState.COMPLETED


@both_apis
def test_an_answer_without_its_job_is_no_job(node: DevNode, client: Driven, job_id: str) -> None:
    node.faults.add(Fault("missing_fields", fields=("Job", "jobs")))
    with pytest.raises(UnexpectedAnswer):
        client.get(job_id)


@both_apis
def test_a_forgotten_job_is_not_found(node: DevNode, client: Driven, job_id: str) -> None:
    node.faults.add(Fault("forgotten", jobs=job_id))
    for operation in (client.get, client.wait, client.outcome):
        with pytest.raises(NotFound):
            operation(job_id)
    assert job_id not in {job.id for job in client.list().items}


# -- stopping ---------------------------------------------------------------------------------------------------------


@both_apis
@pytest.mark.parametrize("kind", PASSING)
def test_a_job_is_stopped_through_one_spoilt_answer(
    node: DevNode, client: Driven, version: str, name: str, kind: str
) -> None:
    job_id = client.submit(spec(name, 60)).job_id
    began = time.monotonic()
    rule = node.faults.add(Fault(kind, times=1, **PASSING[kind]))
    # Until v1.0.3 a job that is stopped already refuses to be stopped, so the client does not ask for it twice.
    with contextlib.suppress(*[Unreachable, ServerUnavailable] if version == "v1.0.3" else []):
        client.stop(job_id, "a test")
    assert rule.hits == 1
    assert time.monotonic() - began < BOUND
    if version == "v1.0.3" and not client.get(job_id).state.is_terminal:
        client.stop(job_id, "a test")
    assert client.wait(job_id).state is JobState.STOPPED


# -- submitting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "does_work"),
    [
        ("refuse", {}, False),
        ("cut_before_answer", {}, True),
        ("cut_in_answer", {}, True),
        ("delay_answer", {"seconds": 2 * TIMEOUT}, True),
        ("server_timeout", {}, False),
        ("server_timeout", {"after_work": True}, True),
        ("bad_gateway", {"after_work": True}, True),
        ("garbage", {"after_work": True}, True),
        ("login_page", {"after_work": True}, True),
        ("missing_fields", {"fields": ["JobID", "job"]}, True),
        ("restart", {}, True),
    ],
)
def test_a_submission_whose_answer_is_spoilt_leaves_one_job_or_is_unclear(
    node: DevNode,
    client: Driven,
    version: str,
    name: str,
    kind: str,
    options: dict[str, Any],
    does_work: bool,
) -> None:
    before = {job.id for job in client.list().items}
    rule = node.faults.add(Fault(kind, method="POST", path=SUBMIT[version], times=1, **options))
    adopted = ""
    try:
        adopted = client.submit(spec(name)).job_id
    except JobUnchanged as unchanged:
        adopted = unchanged.job_id
    except SubmissionUnclear:
        pass  # what then is to be done is the caller's to decide
    assert rule.hits == 1
    until_it_serves(client)
    made = {job.id for job in client.list().items} - before
    if adopted:
        assert made == {adopted}
    else:
        assert len(made) == int(does_work)
    if version == "v1.9.3" and kind not in {"garbage", "login_page", "missing_fields", "restart"}:
        assert adopted, "a unique name makes repeating harmless"
    if version != "v1.9.3":
        assert not adopted, "a submission that may have been taken is not repeated"


def until_it_serves(client: Driven) -> None:
    deadline = time.monotonic() + BOUND
    while True:
        try:
            client.alive()
        except BacalhauError:
            assert time.monotonic() < deadline
        else:
            return


@pytest.mark.parametrize("options", [{}, {"retry_after": 0}])
def test_a_submission_that_comes_too_soon_is_made_again(
    node: DevNode, client: Driven, version: str, name: str, options: dict[str, Any]
) -> None:
    rule = node.faults.add(Fault("too_many_requests", method="POST", path=SUBMIT[version], times=2, **options))
    before = {job.id for job in client.list().items}
    job_id = client.submit(spec(name)).job_id
    assert rule.hits == 2
    assert {job.id for job in client.list().items} - before == {job_id}


# -- waiting ----------------------------------------------------------------------------------------------------------


@both_apis
@pytest.mark.parametrize("kind", PASSING)
def test_a_wait_goes_on_through_a_row_of_spoilt_answers(node: DevNode, client: Driven, name: str, kind: str) -> None:
    job_id = client.submit(spec(name, 0.3)).job_id
    # Seven are more than one look's own tries, so that whole looks fail. Two restarts would use up the job's tries.
    times = 1 if kind in {"delay", "delay_answer", "restart"} else 7
    rule = node.faults.add(Fault(kind, after=1, times=times, **PASSING[kind]))
    began = time.monotonic()
    assert client.wait(job_id, poll_interval=0.1, deadline=time.time() + BOUND).state is JobState.COMPLETED
    assert time.monotonic() - began < BOUND
    assert rule.hits > 0


@both_apis
def test_a_wait_outlasts_a_restart_after_which_the_program_begins_anew(
    node: DevNode, client: Driven, name: str
) -> None:
    job_id = client.submit(spec(name, 0.4)).job_id
    restarting = threading.Timer(0.2, node.restart, kwargs={"away": 0.2})
    restarting.start()
    try:
        assert client.wait(job_id, poll_interval=0.1, deadline=time.time() + BOUND).state is JobState.COMPLETED
    finally:
        restarting.join()
    assert len(client.executions(job_id)) == 2
    assert client.outcome(job_id).diagnosis is None
