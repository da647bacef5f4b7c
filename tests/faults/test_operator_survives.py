"""A task on a network that spoils an answer: one job, the right state in the end, and no secret in the log."""

from __future__ import annotations

import base64
import json
import logging
import re
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_bacalhau.client import BacalhauClient, Job
from airflow_provider_bacalhau.devnode import DevNode, Fault
from airflow_provider_bacalhau.devnode.faults import FaultKind, Rule
from airflow_provider_bacalhau.operators.bacalhau import BacalhauSubmitJobOperator
from tests.airflow.programs import exits, sleeps
from tests.airflow.running import MODES, FakeTaskInstance, Ran, run_task

PASSWORD = "canary-of-a-password-91c2"
SECRETS = (PASSWORD, base64.b64encode(f"airflow:{PASSWORD}".encode()).decode())
TRIES = 3

SUBMIT, LOOK, LIST, STOP = "submit", "look", "list", "stop"
REQUESTS = {
    SUBMIT: ("POST", "*/orchestrator/jobs"),
    LOOK: ("GET", "*/orchestrator/jobs/*"),
    LIST: ("GET", "*/orchestrator/jobs"),
    STOP: ("DELETE", "*/orchestrator/jobs/*"),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "delay": {"seconds": 0.3},
    "delay_answer": {"seconds": 0.3},
    "clock_skew": {"seconds": -3600},
    "restart": {"seconds": 0.2},
    "huge": {"size": 20_000_000},
    "too_many_requests": {"retry_after": 0},
}
NAMES = {SUBMIT: ("JobID",), LOOK: ("State", "Job"), LIST: ("Items", "Jobs"), STOP: ("EvaluationID",)}
BOTH_WAYS = ("server_timeout", "bad_gateway", "login_page", "garbage", "huge", "redirect")
"""Kinds that can come before the work and after it. (429 is said before.)"""

SURVIVED = {
    "refuse",
    "cut_before_answer",
    "cut_in_answer",
    "delay",
    "delay_answer",
    "too_many_requests",
    "server_timeout",
    "bad_gateway",
    "wrong_type",
    "clock_skew",
    "restart",
}
"""Kinds that do not even cost a try."""

UNCLEAR = {"refuse", "server_timeout", "bad_gateway"}
"""Of these, what costs a try when it comes before a submission was looked at, and names are not unique."""


def faults(request: str) -> Iterator[Any]:
    """Every kind of fault, for one request."""
    method, path = REQUESTS[request]
    for kind in FaultKind:
        if (request, kind) == (
            LIST,
            FaultKind.FORGOTTEN,
        ):  # a server that knows of no job cannot be told from a new one
            continue
        options = dict(OPTIONS.get(kind, {}))
        if kind == "missing_fields":
            options["fields"] = NAMES[request]
        for after_work in (False, True) if kind in BOTH_WAYS else (False,):
            times = 1 if kind != "clock_skew" else None
            fault = Fault(kind, method=method, path=path, times=times, after_work=after_work, **options)
            yield pytest.param(fault, id=f"{kind}-after-work" if after_work else kind)


@dataclass
class Network:
    node: DevNode
    client: BacalhauClient
    log: pytest.LogCaptureFixture
    label: str

    @property
    def version(self) -> str:
        return self.client.version().text

    def task(self, deferrable: bool, seconds: int = 0, **arguments: Any) -> BacalhauSubmitJobOperator:
        labels = {"test-run": self.label}
        job = sleeps(seconds, labels=labels) if seconds else exits(0, labels=labels)
        return BacalhauSubmitJobOperator(
            **{"task_id": "task", "job_spec": job, "poll_interval": 0.2, "deferrable": deferrable, **arguments}
        )

    def jobs(self) -> list[Job]:
        return list(self.client.list(namespace="default", labels={"test-run": self.label}, limit=0).items)

    def spoil(self, fault: Fault) -> Rule:
        return self.node.faults.add(fault)

    def tell(self, ran: list[Ran]) -> str:
        return "\n".join([*(repr(one.error) for one in ran), *(r.getMessage() for r in self.log.records)])

    def check_secrets(self, ran: list[Ran]) -> None:
        shown = self.tell(ran) + json.dumps([one.xcoms for one in ran])
        assert [secret for secret in SECRETS if secret in shown] == []


@pytest.fixture(scope="module", params=["v1.9.3", "v1.3.2"])
def node(request: pytest.FixtureRequest) -> Iterator[DevNode]:
    with DevNode(emulate=request.param, nodes=2) as node:
        yield node


@pytest.fixture
def network(node: DevNode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Network]:
    connection = {"conn_type": "bacalhau", "host": node.api, "login": "airflow", "password": PASSWORD}
    monkeypatch.setenv("AIRFLOW_CONN_BACALHAU_DEFAULT", json.dumps(connection))
    monkeypatch.setattr("airflow_provider_bacalhau.client.retry.FIRST_PAUSE", 0.05)
    monkeypatch.setattr("airflow_provider_bacalhau.client.claims.UNCLEAR_SECONDS", 1.0)
    monkeypatch.setattr("airflow_provider_bacalhau.attempts._LOG_SECONDS", 0.1)
    caplog.set_level(logging.DEBUG)
    with BacalhauClient(node.api) as client:
        yield Network(node, client, caplog, f"t-{uuid.uuid4()}")
        node.faults.clear()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", faults(SUBMIT))
def test_a_spoiled_submission_makes_one_job(network: Network, fault: Fault, mode: str) -> None:
    rule = network.spoil(fault)
    ran = tries(network.task(mode == "triggerer"))
    judge(network, ran, fault, rule, can_cost_a_try=UNCLEAR if network.version == "v1.3.2" else set())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", faults(LOOK))
def test_a_spoiled_look_makes_no_other_job(network: Network, fault: Fault, mode: str) -> None:
    rule = network.spoil(fault)
    ran = tries(network.task(mode == "triggerer"))
    judge(network, ran, fault, rule)


@pytest.mark.parametrize("node", ["v1.3.2"], indirect=True)  # where names are unique, jobs are found by them
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", faults(LIST))
def test_a_spoiled_list_hides_no_job(network: Network, fault: Fault, mode: str) -> None:
    operator = network.task(mode == "triggerer", wait_for_completion=False)
    ti = FakeTaskInstance(max_tries=TRIES)
    assert run_task(operator, ti).error is None
    rule = network.spoil(fault)
    ran = tries(network.task(mode == "triggerer"), ti.run_id, first=2)
    judge(network, ran, fault, rule)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", faults(STOP))
def test_a_spoiled_stop_is_not_hidden(network: Network, fault: Fault, mode: str) -> None:
    rule = network.spoil(fault)
    ran = run_task(network.task(mode == "triggerer", 60, timeout=0.2))
    network.node.faults.clear()
    [job] = network.jobs()
    assert rule.hits == 1
    assert "was not over in time" in str(ran.error)
    if job.state != "Stopped":
        assert re.search("the job may run on|the job was not found", str(ran.error)), network.tell([ran])
    network.check_secrets([ran])
    network.client.stop(job.id, "the test is over")


def tries(operator: BacalhauSubmitJobOperator, run_id: str = "", *, first: int = 1) -> list[Ran]:
    """Run a task as often as Airflow would."""
    ran: list[Ran] = []
    run_id = run_id or f"manual__{uuid.uuid4()}"
    for number in range(first, TRIES + 2):
        ti = FakeTaskInstance(run_id=run_id, try_number=number, max_tries=TRIES)
        ran.append(run_task(operator, ti))
        if ran[-1].error is None:
            break
    return ran


def judge(network: Network, ran: list[Ran], fault: Fault, rule: Rule, *, can_cost_a_try: Collection[str] = ()) -> None:
    """One job, success, in one try if it can be, and no secret told."""
    network.node.faults.clear()
    assert rule.hits >= 1
    assert ran[-1].error is None, network.tell(ran)
    assert [job.id for job in network.jobs()] == [ran[-1].value], network.tell(ran)
    assert len(ran) == 1 or fault.kind not in SURVIVED - set(can_cost_a_try), network.tell(ran)
    network.check_secrets(ran)
