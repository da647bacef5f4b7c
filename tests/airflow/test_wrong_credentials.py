"""What a user reads when credentials will not do: in the connection's test, and in a task that failed for good."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bacalhau.hooks.bacalhau import BacalhauHook
from airflow_provider_bacalhau.operators.bacalhau import BacalhauSubmitJobOperator
from tests.support.recorded import exchange

from .conftest import Connect
from .programs import exits
from .running import run_task
from .test_hook import Serve

USER = {"login": "airflow", "password": "not-the-password"}
KEY = {"password": "not-the-key"}

# label of the recorded refusal, fields of the connection, what the message says, what it says to do
WRONG: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "none": ("none: /agent/node", {}, "none are set", "Fill in login and password of the connection"),
    "password": ("wrong password: /agent/node", USER, "does not take", "Mend the connection's login and password."),
    "API key": ("wrong key: /agent/node", KEY, "does not take", "Mend the connection's password."),
    "JWT": ("jwt-looking: /agent/node", {"password": "a.b.c"}, "does not take", "Mend the connection's password."),
    "right of a user": (
        "read-only: PUT job",
        USER,
        "required capability 'write:job'",
        "capability write:job on the server, or change the connection's login and password.",
    ),
    "right of a key": (
        "right key: /agent/node",
        KEY,
        "required capability 'read:agent'",
        "capability read:agent on the server, or change the connection's password.",
    ),
    "off": ("none: /agent/node", {**USER, "extra": {"auth": "none"}}, "auth is none", "Set auth to auto"),
    "client key": (
        "none: /agent/node",
        {"extra": {"auth": "client_key"}},
        "nothing that a client key could sign",
        "Fill in login and password",
    ),
    "half a user": ("none: /agent/node", {"login": "airflow"}, "no password to log in with", "login and password"),
    "word too many": ("none: /agent/node", {"password": "Bearer not-the-key"}, "does not belong", "without Bearer"),
    "unreadable client key": (
        "none: /agent/node",
        {"extra": {"auth": "client_key", "private_key": "not-the-key"}},
        "The connection's private_key is no key in PEM",
        "BEGIN RSA PRIVATE KEY",
    ),
}

CHALLENGE = b'{"Methods": {"clientkey": {"type": "challenge", "params": {"InputPhrase": "bi0x"}}}}'


@pytest.mark.parametrize("version", ["v1.7.0", "v1.9.3"])
@pytest.mark.parametrize("what", WRONG)
def test_wrong_credentials_name_the_field_to_mend(
    what: str, version: str, serve: Serve, connect: Connect, airflow_database: None, caplog: pytest.LogCaptureFixture
) -> None:
    label, fields, message, hint = WRONG[what]
    refusal = exchange("auth", version, label).response

    def answer(path: str) -> tuple[int, bytes]:
        if path.endswith("/agent/version"):
            return 200, f'{{"GitVersion": "{version}"}}'.encode()
        if path.endswith("/auth"):
            return 200, CHALLENGE if "unreadable" in what else b'{"Methods": {}}'
        return (200, b"{}") if path.endswith("/authconfig") else (refusal.status, refusal.body)

    caplog.set_level(logging.ERROR)
    connect(serve(answer), **fields)
    good, tested = BacalhauHook().test_connection()
    assert not good
    failed = run_task(BacalhauSubmitJobOperator(task_id="task", job_spec=exits(0))).error
    assert isinstance(failed, AirflowFailException)  # no retry mends it
    for text in (tested, str(failed)):
        assert message in text
        assert hint in text
        assert "not-the" not in text
    assert "\nConnection: bacalhau_default" in caplog.text
