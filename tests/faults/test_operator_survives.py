"""A task on a network that spoils an answer: one job, the right state in the end, and no secret in the log."""

from __future__ import annotations

import base64
import json
import logging
import operator
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_bacalhau.client import BacalhauClient, Job
from airflow_provider_bacalhau.devnode import DevNode
from airflow_provider_bacalhau.devnode.faults import Rule
from airflow_provider_bacalhau.operators.bacalhau import BacalhauSubmitJobOperator
from tests.airflow.programs import exits, sleeps
from tests.airflow.running import MODES, FakeTaskInstance, Ran, run_task
from tests.support.reliability import record

from .spoilings import LOOK, SEARCH, SERVERS, STOP, SUBMIT, Spoiling, can_be_told, in_tries, spoilings

pytestmark = pytest.mark.long

PASSWORD = "canary-of-a-password-91c2"
SIGNATURE = "X-Amz-Signature=canary-of-an-address-4f1d"
SECRETS = (PASSWORD, base64.b64encode(f"airflow:{PASSWORD}".encode()).decode(), SIGNATURE)
TRIES = 3

by_id = operator.attrgetter("id")


@dataclass
class Network:
    node: DevNode
    client: BacalhauClient
    log: pytest.LogCaptureFixture
    label: str

    @property
    def version(self) -> str:
        return self.client.version().text

    def task(self, seconds: int = 0, *, inputs: Any = (), **arguments: Any) -> BacalhauSubmitJobOperator:
        options = {"labels": {"test-run": self.label}, "inputs": inputs}
        job = sleeps(seconds, **options) if seconds else exits(0, **options)
        return BacalhauSubmitJobOperator(**{"task_id": "task", "job_spec": job, "poll_interval": 0.2, **arguments})

    def jobs(self) -> list[Job]:
        return list(self.client.list(namespace="default", labels={"test-run": self.label}, limit=0).items)

    def spoil(self, spoiling: Spoiling) -> Rule:
        return self.node.faults.add(spoiling.fault(self.version))

    def tell(self, ran: list[Ran]) -> str:
        """What tasks and triggers showed; the node, in this process too, asks for what it needs through urllib3."""
        records = [record for record in self.log.records if not record.name.startswith("urllib3.")]
        return "\n".join([*(repr(one.error) for one in ran), *(record.getMessage() for record in records)])

    def check_secrets(self, ran: list[Ran]) -> None:
        shown = self.tell(ran) + json.dumps([[one.xcoms, one.events] for one in ran], default=str)
        assert [secret for secret in SECRETS if secret in shown] == []


@pytest.fixture(scope="module", params=SERVERS)
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


@pytest.mark.parametrize("spoiling", spoilings(SUBMIT), ids=by_id)
def test_a_spoiled_submission_makes_one_job(network: Network, spoiling: Spoiling) -> None:
    rule = network.spoil(spoiling)
    ran = tries(network.task())
    judge(network, ran, spoiling, rule)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("spoiling", spoilings(LOOK), ids=by_id)
def test_a_spoiled_look_makes_no_other_job(network: Network, spoiling: Spoiling, mode: str) -> None:
    rule = network.spoil(spoiling)
    ran = tries(network.task(deferrable=mode == "triggerer"))
    judge(network, ran, spoiling, rule)


@pytest.mark.parametrize("spoiling", spoilings(SEARCH), ids=by_id)
def test_a_spoiled_search_hides_no_job(network: Network, spoiling: Spoiling) -> None:
    if not can_be_told(spoiling, network.version):
        pytest.skip("a list without jobs is what a new server answers")
    ti = FakeTaskInstance(max_tries=TRIES)
    assert run_task(network.task(wait_for_completion=False), ti).error is None
    rule = network.spoil(spoiling)
    ran = tries(network.task(), ti.run_id, first=2)
    judge(network, ran, spoiling, rule)


@pytest.mark.parametrize("spoiling", spoilings(STOP), ids=by_id)
def test_a_spoiled_stop_is_not_hidden(network: Network, spoiling: Spoiling) -> None:
    rule = network.spoil(spoiling)
    ran = run_task(network.task(60, timeout=0.2))
    network.node.faults.clear()
    [job] = network.jobs()
    assert rule.hits == 1
    assert "was not over in time" in str(ran.error)
    if job.state != "Stopped":
        assert re.search("the job may run on|the job was not found", str(ran.error)), network.tell([ran])
    network.check_secrets([ran])
    network.client.stop(job.id, "the test is over")
    keep(network, [job], spoiling, "failed")


@pytest.mark.parametrize("mode", MODES)
def test_the_signature_of_an_address_that_cannot_be_read_is_not_shown(network: Network, mode: str) -> None:
    url = f"{network.node.gateway}/nothing-is-here?{SIGNATURE}"
    inputs = [{"Source": {"Type": "urlDownload", "Params": {"URL": url}}, "Target": "/input"}]
    ran = run_task(network.task(deferrable=mode == "triggerer", inputs=inputs))
    assert "nothing-is-here" in str(ran.error)
    network.check_secrets([ran])


def tries(task: BacalhauSubmitJobOperator, run_id: str = "", *, first: int = 1) -> list[Ran]:
    """Run a task as often as Airflow would."""
    ran: list[Ran] = []
    run_id = run_id or f"manual__{uuid.uuid4()}"
    for number in range(first, TRIES + 2):
        ti = FakeTaskInstance(run_id=run_id, try_number=number, max_tries=TRIES)
        ran.append(run_task(task, ti))
        if ran[-1].error is None:
            break
    return ran


def judge(network: Network, ran: list[Ran], spoiling: Spoiling, rule: Rule) -> None:
    """One job, success, in one try if it can be, and no secret told."""
    network.node.faults.clear()
    assert rule.hits >= 1
    assert ran[-1].error is None, network.tell(ran)
    jobs = network.jobs()
    assert [job.id for job in jobs] == [ran[-1].value], network.tell(ran)
    network.check_secrets(ran)
    keep(network, jobs, spoiling, in_tries(len(ran)))


def keep(network: Network, jobs: list[Job], spoiling: Spoiling, state: str) -> None:
    """Keep what was found, when it is as it must be."""
    live = sum(not job.state.is_terminal for job in jobs)
    found = spoiling.found(network.version, len(jobs), live, state)
    assert found == spoiling.case(network.version)
    record(found)
