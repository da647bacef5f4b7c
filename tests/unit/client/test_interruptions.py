"""Every operation, wherever it is interrupted: it ends, asks for nothing more, and swallows nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_bacalhau.client.dialects.orchestrator import OrchestratorDialect
from airflow_provider_bacalhau.client.dialects.requester import RequesterDialect
from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
from airflow_provider_bacalhau.client.effects import (
    Call,
    Effect,
    Failure,
    Once,
    Operation,
    Request,
    Response,
    Sleep,
    TransportError,
)
from airflow_provider_bacalhau.client.errors import (
    BacalhauError,
    ResultUnavailable,
)
from airflow_provider_bacalhau.client.facts import Job
from airflow_provider_bacalhau.client.naming import Claim, Owner
from airflow_provider_bacalhau.client.operations import Operations
from airflow_provider_bacalhau.client.results import ResultReference
from airflow_provider_bacalhau.client.retry import MAX_ATTEMPTS, with_retry
from airflow_provider_bacalhau.client.spec import read_job_spec
from airflow_provider_bacalhau.client.spec.inputs import IpfsPathInput, JobInput, ReadyInput, ResultInput
from airflow_provider_bacalhau.client.states import JobState
from airflow_provider_bacalhau.client.waiting import MOST_FAILED_POLLS
from tests.support.drive import Script, ok, refusal
from tests.support.network import CID, FOLDER, GATEWAY, IPFS, LOCAL, LOST, RAN, SPEC, job, operations
from tests.support.requester import FakeIdentity


def serve(request: Request) -> Response:
    """A server on which all goes well, but each address of the gateway's is a folder without its last slash."""
    path = request.path
    if path.startswith(GATEWAY):
        if path.endswith("/outputs"):
            return refusal(301, location=f"{path}/")
        return Response(200, {"x-ipfs-roots": f"{CID},{FOLDER}"}, b"text")
    found = {
        "/api/v1/agent/version": {"GitVersion": "v1.9.3"},
        "/api/v1/agent/alive": {"Status": "OK"},
        "/api/v1/agent/node": {"NodeID": "n-1", "NodeType": "Compute"},
        "/api/v1/orchestrator/nodes": {"Nodes": [{"Info": {"NodeID": "n-1", "NodeType": "Compute"}}]},
        "/api/v1/orchestrator/jobs/j-1/results": {"Items": [IPFS]},
        "/api/v1/orchestrator/jobs/j-2/results": {"Items": [LOCAL]},
        "/api/v1/orchestrator/jobs/j-1/executions": {"Items": [RAN]},
        "/api/v1/orchestrator/jobs/j-2/executions": {"Items": [RAN]},
        "/api/v1/orchestrator/jobs/j-1/history": {"Items": []},
        "/api/v1/orchestrator/jobs/j-1": {
            "Job": job(),
            "Executions": {"Items": [RAN]},
            "JobID": "j-1",
            "EvaluationID": "e",
        },
        "/api/v1/orchestrator/jobs": {"Items": [job()], "JobID": "j-1"},
    }
    return ok(found[path])


def running_then_over() -> Callable[[Request], Response]:
    states = itertools.chain(["Pending", "Running", "Running"], itertools.repeat("Completed"))

    def answer(request: Request) -> Response:
        return ok({"Job": job(next(states))}) if request.path.endswith("/jobs/j-1") else serve(request)

    return answer


def stuck_then_over() -> Callable[[Request], Response]:
    """A job that has failed on the nodes that it was tried on, so that others are asked for."""
    states = itertools.chain(["Pending"] * 3, itertools.repeat("Completed"))
    failed = {"ID": "e-1", "NodeID": "n-1", "ComputeState": {"StateType": 10}}

    def answer(request: Request) -> Response:
        if not request.path.endswith("/jobs/j-1"):
            return serve(request)
        return ok({"Job": job(next(states)), "Executions": {"Items": [failed, failed]}})

    return answer


def dialect() -> OrchestratorDialect:
    return OrchestratorDialect(ServerVersion("v1.9.3"))


def serve_signed(request: Request) -> Response:
    """A server of the requester API on which all goes well."""
    found = {
        "submit": {"job": {"Metadata": {"ID": "j-1"}}},
        "cancel": {"state": {"State": "Cancelled"}},
        "list": {"jobs": [{"Job": {"Metadata": {"ID": "j-1"}}, "State": {"State": "Completed"}}]},
        "states": {"state": {"State": "InProgress", "Executions": [{"ComputeReference": "e-1"}]}},
        "events": {"events": []},
        "results": {"results": []},
        "nodes": [],
        "node_info": {"ComputeNodeInfo": {}},
        "version": {"build_version_info": {"gitversion": "v1.0.3"}},
    }
    if request.path == "/api/v1/agent/version":
        return refusal(404, "404 page not found")
    return ok(found[request.path.rpartition("/")[2]])


def signing(version: str = "v1.1.6") -> RequesterDialect:
    return RequesterDialect(ServerVersion(version), FakeIdentity)  # type: ignore[arg-type]  # it signs, as they do


Scenario = tuple[Callable[[], Operation[Any]], Callable[[], Callable[[Request], Response]]]

A_RUNNING_JOB = Job("j-1", "n-1", "default", "batch", 1, JobState.RUNNING, created=1.0)
A_JOB = read_job_spec({"Type": "batch", "Tasks": [{"Engine": {"Type": "docker", "Params": {"Image": "busybox"}}}]})

OWNER = Owner("airflow", "dag", "run", "task", -1, max_tries=2, try_number=2)
CLAIM = Claim(OWNER, "task", "0123456789" * 7, "default")


def kept(state: str = "Running", *, owner: Owner = OWNER, name: str = CLAIM.name, **other: Any) -> dict[str, Any]:
    """A job of the attempt, or of another one."""
    return job(state, Name=name, Labels=owner.labels, CreateTime=10**18, **other)


def with_jobs(*jobs: dict[str, Any]) -> Callable[[], Callable[[Request], Response]]:
    """A server that lists these jobs, and that knows none by its name."""

    def answer(request: Request) -> Response:
        if request.path == "/api/v1/orchestrator/jobs" and request.method == "GET":
            return ok({"Items": list(jobs)})
        if request.path.startswith("/api/v1/orchestrator/jobs/task-"):
            return refusal(404, {"Message": "job not found", "Code": "NotFound", "Component": "JobStore"})
        if request.method == "DELETE":
            return ok({"EvaluationID": "e"})
        if request.path == "/api/v1/orchestrator/jobs/j-1" and jobs:
            return ok({"Job": jobs[0], "Executions": {"Items": [RAN]}, "History": {"Items": []}})
        return serve(request)

    return lambda: answer


def before_unique_names(*jobs: dict[str, Any]) -> Callable[[], Callable[[Request], Response]]:
    """The same of a server on which names mean nothing."""
    answer = with_jobs(*jobs)()
    return lambda: (
        lambda request: ok({"GitVersion": "v1.7.0"}) if request.path == "/api/v1/agent/version" else answer(request)
    )


INPUTS: list[Any] = [
    ReadyInput({"Type": "ipfs", "Params": {"CID": CID}}, None, "inputs[0]"),
    IpfsPathInput(CID, "outputs", None, "inputs[1]"),
    JobInput("j-1", None, "inputs[2]"),
    ResultInput("j-2", 0, None, "inputs[3]"),
]

SCENARIOS: dict[str, Scenario] = {
    "submit": (lambda: dialect().submit(SPEC), lambda: serve),
    "get": (lambda: dialect().get("j-1", executions=True, history=True), lambda: serve),
    "list": (lambda: dialect().list(), lambda: serve),
    "stop": (lambda: dialect().stop("j-1", "why"), lambda: serve),
    "executions": (lambda: dialect().executions("j-1"), lambda: serve),
    "history": (lambda: dialect().history("j-1"), lambda: serve),
    "results": (lambda: dialect().results("j-1"), lambda: serve),
    "alive": (lambda: dialect().alive(), lambda: serve),
    "node": (lambda: dialect().node(), lambda: serve),
    "nodes": (lambda: dialect().nodes(), lambda: serve),
    "check": (lambda: dialect().check(), lambda: serve),
    "logs_request": (lambda: operations().logs_request("j-1"), lambda: serve),
    "submit, signed": (lambda: signing().submit(A_JOB), lambda: serve_signed),
    "get, signed": (lambda: signing().get("j-1", executions=True, history=True), lambda: serve_signed),
    "list, signed": (lambda: signing().list(), lambda: serve_signed),
    "stop, signed": (lambda: signing().stop("j-1", "why"), lambda: serve_signed),
    "stop, signed, on an old server": (lambda: signing("v0.3.29").stop("j-1", "why"), lambda: serve_signed),
    "executions, signed": (lambda: signing().executions("j-1"), lambda: serve_signed),
    "history, signed": (lambda: signing().history("j-1"), lambda: serve_signed),
    "results, signed": (lambda: signing().results("j-1"), lambda: serve_signed),
    "logs_request, signed": (lambda: signing().logs_request("j-1"), lambda: serve_signed),
    "nodes, signed, on an old server": (lambda: signing("v0.3.29").nodes(), lambda: serve_signed),
    "node, signed": (lambda: signing().node(), lambda: serve_signed),
    "check, signed": (lambda: signing().check(), lambda: serve_signed),
    "outcome, signed": (lambda: operations().outcome("j-1"), lambda: serve_signed),
    "version": (lambda: operations().version(), lambda: serve),
    "greet": (lambda: operations().greet(), lambda: serve),
    "submit_once": (lambda: operations().submit_once(SPEC), lambda: serve),
    "find_for, with nothing there": (lambda: operations().find_for(CLAIM), with_jobs()),
    "find_for, with jobs in the way": (
        lambda: operations().find_for(CLAIM),
        with_jobs(kept(owner=replace(OWNER, max_tries=1)), kept(name=replace(CLAIM, spec_hash="f" * 64).name)),
    ),
    "find_for, by id": (lambda: operations().find_for(CLAIM, known_id="j-1"), with_jobs(kept("Completed"))),
    "find_for, before unique names": (lambda: operations().find_for(CLAIM), before_unique_names(kept("Completed"))),
    "submit_for": (lambda: operations().submit_for(CLAIM, A_JOB), lambda: serve),
    "submit_for, before unique names": (
        lambda: operations().submit_for(CLAIM, A_JOB),
        before_unique_names(kept(), kept(ID="j-0")),
    ),
    "stop_for": (lambda: operations().stop_for(OWNER, namespace="default", reason="why"), with_jobs(kept())),
    "age": (lambda: operations().age(A_RUNNING_JOB), lambda: serve),
    "server_time": (lambda: dialect().server_time(), lambda: serve),
    "wait": (lambda: operations().wait("j-1"), running_then_over),
    "wait with a deadline": (lambda: operations().wait("j-1", deadline=9e9), running_then_over),
    "wait with a caller who may leave": (
        lambda: operations().wait("j-1", is_cancelled=lambda: False),
        running_then_over,
    ),
    "wait that fails fast": (lambda: operations().wait("j-1", fail_fast=True), stuck_then_over),
    "outcome": (lambda: operations().outcome("j-1"), lambda: serve),
    "references": (lambda: operations().references("j-1"), lambda: serve),
    "result_url": (lambda: operations().result_url(ResultReference("url", "j-2", index=0)), lambda: serve),
    "result_texts through the gateway": (lambda: operations().result_texts("j-1", "stdout"), lambda: serve),
    "result_texts from the record": (lambda: operations(gateway="").result_texts("j-1", "stdout"), lambda: serve),
    "resolve_inputs": (lambda: operations().resolve_inputs(INPUTS), lambda: serve),
}


def test_no_operation_is_left_out() -> None:
    kinds = {OrchestratorDialect, *Operations.__mro__} - {object}
    public = {
        name for kind in kinds for name, value in vars(kind).items() if callable(value) and not name.startswith("_")
    }
    public -= {"dialect"}  # part of each of the composed ones
    assert public <= {name.partition(" ")[0].rstrip(",") for name in SCENARIOS}


class Interrupted(Script):
    """Does something to an operation at its n-th effect, wherever among nested ones that is."""

    def __init__(self, serving: Callable[[Request], Response], at: int, act: Callable[[Operation[Any]], None]) -> None:
        super().__init__()
        self.serving, self.at, self.act = serving, at, act
        self.effects: list[Effect] = []
        self.acted = False

    def run(self, operation: Operation[Any]) -> Any:
        answer: Any = None
        while True:
            try:
                effect = operation.send(answer)
            except StopIteration as done:
                return done.value
            assert not self.acted, f"asked for {effect} after the interruption"
            if isinstance(effect, Once):
                answer = self.run(effect.make())
                continue
            self.effects.append(effect)
            if len(self.effects) == self.at:
                self.acted = True
                self.act(operation)
            if isinstance(effect, Call):
                answer = effect.make()
            else:
                answer = None if isinstance(effect, Sleep) else self.serving(effect)


def points(name: str) -> int:
    start, serving = SCENARIOS[name]
    counting = Interrupted(serving(), 0, lambda _: None)
    counting.run(with_retry(start()))
    return len(counting.effects)


POINTS = [(name, at) for name in SCENARIOS for at in range(1, points(name) + 1)]
each_point = pytest.mark.parametrize(("name", "at"), POINTS)
layers = pytest.mark.parametrize("layer", [with_retry, lambda operation: operation], ids=["with retry", "bare"])


class Arbitrary(BaseException):
    pass


@each_point
@layers
@pytest.mark.parametrize("kind", [KeyboardInterrupt, asyncio.CancelledError, GeneratorExit, Arbitrary, RuntimeError])
def test_what_is_thrown_into_an_operation_comes_out_unchanged_and_ends_it(
    name: str, at: int, layer: Callable[[Operation[Any]], Operation[Any]], kind: type[BaseException]
) -> None:
    start, serving = SCENARIOS[name]
    thrown = kind("from outside")

    def act(operation: Operation[Any]) -> None:
        asked = operation.throw(thrown)
        pytest.fail(f"asked for {asked} after the interruption")

    interrupted = Interrupted(serving(), at, act)
    with pytest.raises(kind) as caught:
        interrupted.run(layer(start()))
    assert caught.value is thrown
    assert interrupted.acted


@each_point
@layers
def test_an_operation_that_is_closed_asks_for_nothing_more(
    name: str, at: int, layer: Callable[[Operation[Any]], Operation[Any]]
) -> None:
    class Closed(Exception):
        pass

    def act(operation: Operation[Any]) -> None:
        operation.close()  # an operation that asked for something more would raise RuntimeError here
        raise Closed

    start, serving = SCENARIOS[name]
    with pytest.raises(Closed):
        Interrupted(serving(), at, act).run(layer(start()))


class Breaking(Script):
    """A server that answers so many times, and then no more."""

    def __init__(self, serving: Callable[[Request], Response], good: int, error: TransportError) -> None:
        super().__init__()
        self.serving, self.good, self.error = serving, good, error

    def perform(self, effect: Effect) -> Any:
        if not isinstance(effect, Request):
            return super().perform(effect)
        self.requests.append(effect)
        if len(self.requests) > self.good:
            raise self.error
        return self.serving(effect)


FAVOURS = {"server_time", "age", "submit_for, before unique names"}
"""Operations whose last question is a favour: without an answer they do without."""

FAILURES = [TransportError(failure, sent=sent, detail="Error, host") for failure in Failure for sent in (False, True)]


@pytest.mark.parametrize(("name", "good"), [(name, at - 1) for name, at in POINTS])
def test_a_server_that_stops_answering_becomes_an_error_of_the_client(name: str, good: int) -> None:
    start, serving = SCENARIOS[name]
    for layer in (with_retry, lambda operation: operation):
        for failure in FAILURES:
            breaking = Breaking(serving(), good, failure)
            try:
                breaking.run(layer(start()))
            except BacalhauError as error:
                told = error
            else:
                assert len(breaking.requests) <= good or name in FAVOURS  # it needed no more than it got
                continue
            assert told.method or isinstance(told, ResultUnavailable)
            assert told.__cause__ is None
            assert told.__suppress_context__


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "server_time"])
@pytest.mark.parametrize(
    "answer",
    [
        Response(200, {}, b"<html>"),
        Response(200, {}, b"[]"),
        refusal(302),
        refusal(500),
        refusal(404, "no"),
        refusal(401),
    ],
    ids=["html", "a list", "a redirection", "500", "404", "401"],
)
def test_a_server_that_is_none_becomes_an_error_of_the_client(name: str, answer: Response) -> None:
    start, _ = SCENARIOS[name]
    script = Script.of(*[answer] * 500)
    with pytest.raises(BacalhauError):
        script.run(with_retry(start()))


def test_retries_are_bounded_whatever_the_operation() -> None:
    for name, (start, serving) in SCENARIOS.items():
        breaking = Breaking(serving(), 0, LOST)
        with contextlib.suppress(BacalhauError):
            breaking.run(with_retry(start()))
        assert len(breaking.requests) <= MAX_ATTEMPTS * MOST_FAILED_POLLS, name
