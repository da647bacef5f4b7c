"""Secrets of a connection are nowhere but in it: not in logs, XComs, rendered templates, trigger rows or errors."""

from __future__ import annotations

import base64
import functools
import json
import logging
import os
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from airflow_provider_bacalhau.hooks.bacalhau import BacalhauHook
from airflow_provider_bacalhau.operators.bacalhau import BacalhauGetResultsOperator, BacalhauSubmitJobOperator
from airflow_provider_bacalhau.sensors.bacalhau import BacalhauJobSensor
from tests.support.guard import Guard, Visit

from .conftest import Connect, Network
from .programs import counts, exits
from .running import FakeTaskInstance, Ran, run_task, through_database
from .test_dags import RunDag, dag_file

if TYPE_CHECKING:
    from airflow_provider_bacalhau.devnode import DevNode

SIGNATURE = "X-Amz-Signature=canary-of-an-address-4f1d"
PASSPHRASE = "canary-of-a-passphrase-77aa"


@dataclass
class Way:
    """A way to authenticate: the connection's fields, what the server takes, and all that nobody may see."""

    fields: dict[str, Any]
    takes: set[str]
    secrets: list[str]
    token: str = ""


def basic() -> Way:
    value = base64.b64encode(b"airflow:canary-of-a-password-91c2").decode()
    secrets = ["canary-of-a-password-91c2", value]
    return Way({"login": "airflow", "password": secrets[0]}, {f"Basic {value}"}, secrets)


def bearer() -> Way:
    return Way({"password": "canary-of-an-api-key-35b0"}, {"Bearer canary-of-an-api-key-35b0"}, ["canary-of-an-api"])


@functools.cache  # each line of each key that Airflow masks makes the next one slower
def client_key() -> Way:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    locked = serialization.BestAvailableEncryption(PASSPHRASE.encode())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked).decode()
    extra = {"auth": "client_key", "private_key": pem, "private_key_passphrase": PASSPHRASE}
    lines = pem.splitlines()[1:-1]
    return Way({"extra": extra}, set(), ["canary-of-a-token", PASSPHRASE, *lines], token="canary-of-a-token-c3d4")


WAYS: dict[str, Callable[[], Way]] = {"basic": basic, "bearer": bearer, "client_key": client_key}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]()


@pytest.fixture
def guard(way: Way, devnode: DevNode, connect: Connect, network: Network) -> Iterator[Guard]:
    """A network that wants these credentials, and a connection that has them."""
    with Guard(devnode.api, set(way.takes), way.token, sign=SIGNATURE) as guard:
        extra = {"ipfs_gateway": devnode.gateway, **way.fields.get("extra", {})}
        connect(guard.url, **{**way.fields, "extra": extra})
        yield guard
        assert guard.told == [], "credentials went with a call that is open to all"


@dataclass
class Seen:
    """All that could be seen of a task."""

    records: list[str]
    texts: list[str] = field(default_factory=list)

    def of(self, ran: Ran) -> None:
        """Take what came of a task."""
        self.texts += [repr(ran), json.dumps(through_database(ran.xcoms), default=repr), repr(ran.events)]
        if ran.error is not None:
            self.texts += traceback.format_exception(ran.error)
            error = getattr(ran.error, "error", None)
            self.texts += [repr(vars(ran.error)), repr(error and vars(error))]

    def holds(self, secrets: list[str]) -> list[str]:
        """The places where a secret can be seen."""
        return [text[:300] for text in [*self.records, *self.texts] for secret in secrets if secret in text]


@pytest.fixture
def seen(caplog: pytest.LogCaptureFixture) -> Iterator[Seen]:
    """Every log record that is made from here on, of whatever logger and level, before anybody masks it."""
    seen = Seen([])

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # urllib3 logs addresses, here those with which the test itself asks the server behind.
            seen.records.append(f"{record.name}: {record.getMessage()} {record.exc_info or ''}")

    keeper = Keeper(logging.DEBUG)
    root = logging.getLogger()
    level = root.level
    root.addHandler(keeper)
    root.setLevel(logging.DEBUG)
    yield seen
    root.removeHandler(keeper)
    root.setLevel(level)


def lost(visit: Visit) -> None:
    if visit.path.endswith("/jobs"):
        raise ConnectionError


def forbidden(visit: Visit) -> tuple[int, bytes] | None:
    reason = "user 'ro' does not have the required capability 'write:job'"
    body = {"Message": "Request Forbidden", "Component": "Authorizer", "Details": {"reason": reason}}
    return (403, json.dumps(body).encode()) if visit.method == "POST" else None


def quoting(visit: Visit) -> tuple[int, bytes]:
    return 400, json.dumps({"Message": f"What is {visit.authorization}?", "Component": "APIServer"}).encode()


FAILURES: dict[str, Any] = {
    "not at all": None,
    "connection lost": lost,
    "right missing": forbidden,
    "credentials quoted": quoting,
    "unreadable": lambda visit: (200, b"<html>"),
    "away": lambda visit: (503, b"later"),
    "refused": "refused",
    "job fails": "job fails",
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("failure", FAILURES)
def test_a_task_shows_no_secret_however_it_ends(
    guard: Guard, way: Way, seen: Seen, failure: str, deferrable: bool, network: Network
) -> None:
    spoil = FAILURES[failure]
    if callable(spoil):
        guard.spoil = spoil
    if spoil == "refused":
        guard.takes, guard.is_deaf = set(), True
    code = 3 if spoil == "job fails" else 0
    operator = BacalhauSubmitJobOperator(
        task_id="task", job_spec=exits(code, publisher="local"), poll_interval=0.2, deferrable=deferrable
    )
    ran = run_task(operator)
    assert (ran.error is None) == (failure == "not at all")
    seen.of(ran)
    seen.texts += [str(BacalhauHook().test_connection()), repr(BacalhauHook().settings), repr(operator.__dict__)]
    assert seen.holds(way.secrets) == []


def test_a_signed_address_is_used_and_not_shown(guard: Guard, way: Way, seen: Seen, network: Network) -> None:
    first = run_task(
        BacalhauSubmitJobOperator(task_id="a", job_spec=counts("two words", publisher="local"), poll_interval=0.2)
    )
    second = run_task(
        BacalhauSubmitJobOperator(
            task_id="b",
            job_spec=exits(0),
            inputs=[f"{first.value}:/inputs/a"],
            poll_interval=0.2,
        ),
        FakeTaskInstance(task_id="b"),
    )
    third = run_task(BacalhauGetResultsOperator(task_id="c", job_id=first.value), FakeTaskInstance(task_id="c"))
    fourth = run_task(BacalhauJobSensor(task_id="d", job_id=first.value), FakeTaskInstance(task_id="d"))
    for ran in (first, second, third, fourth):
        seen.of(ran)
    assert third.error is None
    assert SIGNATURE in json.dumps(network.sent(second.value))
    own = [text for text in seen.records if not text.startswith("urllib3.")]
    assert Seen(own, seen.texts).holds([*way.secrets, SIGNATURE]) == []


@pytest.mark.parametrize("way", ["basic", "client_key"], indirect=True)
def test_airflow_keeps_no_secret_of_a_whole_dag(
    guard: Guard, way: Way, run_dag: RunDag, capfd: pytest.CaptureFixture[str]
) -> None:
    ran = run_dag(
        dag_file(
            f"canary_{guard.url.rpartition(':')[2]}",
            """
        common = {"poll_interval": 0.2, "retries": 0}
        a = BacalhauSubmitJobOperator(task_id="a", job_spec=counts("two words", publisher="local"), **common)
        waited = BacalhauJobSensor(task_id="waited", job_id=a.output, poke_interval=0.2, deferrable=True)
        results = BacalhauGetResultsOperator(task_id="results", job_id=waited.output)
        BacalhauSubmitJobOperator(task_id="fails", job_spec=exits(3), deferrable=True, **common)
        a >> BacalhauSubmitJobOperator(
            task_id="chained", job_spec=exits(0), inputs=["{{ ti.xcom_pull('a') }}:/inputs/a"], **common
        )
            """,
        )
    )
    assert {name: task.state for name, task in ran.items()} == {
        "a": "success",
        "waited": "success",
        "results": "success",
        "fails": "failed",
        "chained": "success",
    }
    secrets = [secret.encode() for secret in (*way.secrets, SIGNATURE)]
    out, error = capfd.readouterr()
    assert not [secret for secret in secrets if secret in (out + error).encode()]
    home = Path(os.environ["AIRFLOW_HOME"])
    files = [file for file in home.rglob("*") if file.is_file()]  # its database, and the logs of its tasks
    assert any(file.suffix == ".db" for file in files)
    assert not [(file, secret) for file in files for secret in secrets if secret in file.read_bytes()]
