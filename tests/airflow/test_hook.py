"""From Airflow's connections to clients, and what "test connection" says."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import airflow
import pytest

from airflow_provider_bacalhau.client.errors import ConfigurationError
from airflow_provider_bacalhau.hooks.bacalhau import BacalhauHook

from .conftest import Connect, Network

VERSION = b'{"GitVersion": "v1.9.3"}'
Serve = Callable[[Callable[[str], tuple[int, bytes]]], str]


class TestConnections:
    def test_of_the_default_id_may_come_from_the_official_tools_variables(
        self, airflow_database: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BACALHAU_API_HOST", "elsewhere")
        assert BacalhauHook().settings.client.url == "http://elsewhere:1234"
        monkeypatch.setenv("BACALHAU_API_PORT", "5555")
        assert BacalhauHook().settings.client.url == "http://elsewhere:5555"

    def test_that_are_defined_win_over_the_variables(self, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BACALHAU_API_HOST", "elsewhere")
        connect("here")
        assert BacalhauHook().settings.client.url == "http://here:1234"

    @pytest.mark.parametrize("ask", ["sync", "async"])
    def test_that_are_not_defined_name_both_ways(self, airflow_database: None, ask: str) -> None:
        hook = BacalhauHook()
        with pytest.raises(ConfigurationError) as caught:
            hook.get_conn() if ask == "sync" else asyncio.run(hook.get_async_conn())
        assert str(caught.value) == (
            "The connection 'bacalhau_default' is not defined. Define it (type bacalhau, host and port of the API), "
            "or set BACALHAU_API_HOST and BACALHAU_API_PORT."
        )

    def test_of_another_id_never_come_from_the_variables(
        self, airflow_database: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BACALHAU_API_HOST", "elsewhere")
        with pytest.raises(ConfigurationError) as caught:
            BacalhauHook("another").get_conn()
        assert "'another' is not defined" in str(caught.value)
        assert "BACALHAU_API" not in str(caught.value)

    def test_with_a_wrong_variable_name_it(self, airflow_database: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BACALHAU_API_HOST", "elsewhere")
        monkeypatch.setenv("BACALHAU_API_PORT", "many")
        with pytest.raises(ConfigurationError, match="BACALHAU_API_PORT has to be a whole number"):
            BacalhauHook().get_conn()

    @pytest.mark.parametrize("ask", ["sync", "async"])
    @pytest.mark.parametrize("broken", ['{"conn_type": ', '{"conn_type": "bacalhau", "host": "node", "port": "abc"}'])
    def test_that_cannot_be_read_are_not_said_to_be_undefined(
        self, airflow_database: None, monkeypatch: pytest.MonkeyPatch, ask: str, broken: str
    ) -> None:
        monkeypatch.setenv("BACALHAU_API_HOST", "elsewhere")
        monkeypatch.setenv("AIRFLOW_CONN_BACALHAU_DEFAULT", broken)
        hook = BacalhauHook()
        with pytest.raises(ConfigurationError, match="is defined by AIRFLOW_CONN_BACALHAU_DEFAULT but cannot be read"):
            hook.get_conn() if ask == "sync" else asyncio.run(hook.get_async_conn())

    def test_that_are_not_defined_bring_no_traceback_of_the_look_up(self, airflow_database: None) -> None:
        with pytest.raises(ConfigurationError) as caught:
            BacalhauHook("another").get_conn()
        assert caught.value.__context__ is None

    def test_may_be_written_as_a_uri(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(
            "AIRFLOW_CONN_BACALHAU_DEFAULT", "bacalhau://node:1235/?use_tls=true&verify=false&namespace=team&timeout=5"
        )
        settings = BacalhauHook().settings
        assert settings.client.url == "https://node:1235"
        assert (settings.client.verify, settings.client.timeout, settings.namespace) == (False, 5.0, "team")

    def test_are_made_into_a_hook_by_airflow_itself(self, connect: Connect) -> None:
        conn_id = connect("node", conn_id="mine")
        hook = BacalhauHook(**{BacalhauHook.conn_name_attr: conn_id})
        assert hook.get_conn().settings.url == "http://node:1234"


def test_making_a_hook_fetches_and_connects_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BacalhauHook, "get_connection", lambda *arguments: pytest.fail("fetched"))
    monkeypatch.setattr(socket.socket, "connect", lambda *arguments: pytest.fail("connected"))
    BacalhauHook("nowhere")


def test_both_clients_reach_the_network(network: Network) -> None:
    async def version() -> str:
        async with await BacalhauHook().get_async_conn() as client:
            return (await client.version()).text

    with BacalhauHook().get_conn() as client:
        assert client.version().text == asyncio.run(version())
    assert client.settings == BacalhauHook().settings.client


class TestTestConnection:
    def test_says_what_it_found(self, network: Network) -> None:
        assert BacalhauHook().test_connection() == (
            True,
            "Bacalhau v1.9.3, 1 compute node connected, engines: wasm.",
        )

    def test_warns_of_fields_that_mean_nothing(self, network: Network, connect: Connect) -> None:
        connect(network.url, extra={"ipfs_gatway": "http://127.0.0.1:8080", "colour": "red"})
        good, message = BacalhauHook().test_connection()
        assert good
        assert message.endswith(
            "engines: wasm. Its extra has 'ipfs_gatway', which means nothing: is it ipfs_gateway?"
            " Its extra has 'colour', which means nothing."
        )

    def test_is_not_needed_to_hear_of_fields_that_mean_nothing(
        self, network: Network, connect: Connect, caplog: pytest.LogCaptureFixture
    ) -> None:
        connect(network.url, extra={"namspace": "team-a"}, conn_id="with_a_typo")
        for _ in range(2):
            BacalhauHook("with_a_typo").get_conn().close()
        told = [record.getMessage() for record in caplog.records if "with_a_typo" in record.getMessage()]
        assert told == ["Connection with_a_typo: Its extra has 'namspace', which means nothing: is it namespace?"]

    def test_warns_of_a_network_without_compute_nodes(self, serve: Serve, connect: Connect) -> None:
        connect(serve(lambda path: (200, VERSION if path.endswith("/version") else b'{"Items": [], "Nodes": []}')))
        assert BacalhauHook().test_connection() == (
            True,
            "Bacalhau v1.9.3 answers, but no compute node is connected: jobs will not run.",
        )

    def test_says_that_credentials_are_missing(self, serve: Serve, connect: Connect) -> None:
        body = json.dumps({"Message": "missing authorization header", "Status": 401, "Component": "Auth"}).encode()
        connect(serve(lambda path: (200, VERSION) if path.endswith("/version") else (401, body)))
        good, message = BacalhauHook().test_connection()
        assert not good
        assert "HTTP 401" in message
        assert "missing authorization header" in message

    def test_says_that_nothing_listens(self, connect: Connect, unused_port: int) -> None:
        connect("127.0.0.1", port=unused_port)
        start = time.monotonic()
        good, message = BacalhauHook().test_connection()
        assert not good
        assert "no connection could be made" in message
        assert time.monotonic() - start < 2  # somebody waits for it

    def test_says_that_the_name_is_unknown(self, connect: Connect) -> None:
        connect("no-such-host.invalid")
        good, message = BacalhauHook().test_connection()
        assert not good
        assert "cannot be resolved" in message

    @pytest.mark.parametrize("status", [200, 404])
    @pytest.mark.parametrize("body", [b"<html>Welcome to nginx!</html>", b"{}", b"[]", b""])
    def test_says_that_something_else_answers(self, serve: Serve, connect: Connect, status: int, body: bytes) -> None:
        connect(serve(lambda path: (status, body)))
        good, message = BacalhauHook().test_connection()
        assert not good
        assert "not the API of Bacalhau" in message

    def test_says_that_the_port_speaks_no_tls(self, network: Network, connect: Connect) -> None:
        connect(network.url.replace("http:", "https:"))
        good, message = BacalhauHook().test_connection()
        assert not good
        assert "TLS" in message
        assert "say http:// or leave use_tls out" in message

    def test_gives_up_on_a_silent_server(self, serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_provider_bacalhau.hooks.bacalhau._TEST_SECONDS", 0.3)

        def never(path: str) -> tuple[int, bytes]:
            time.sleep(1)
            return 200, VERSION

        connect(serve(never))
        assert BacalhauHook().test_connection()[0] is False

    def test_does_not_raise_for_a_connection_that_makes_no_sense(self, connect: Connect) -> None:
        connect("node", extra={"timeout": "soon"})
        assert BacalhauHook().test_connection() == (False, "The connection's timeout has to be a whole number.")

    def test_does_not_raise_where_there_is_no_connection(self, airflow_database: None) -> None:
        good, message = BacalhauHook().test_connection()
        assert not good
        assert "is not defined" in message


@pytest.mark.skipif(not airflow.__version__.startswith("2."), reason="Airflow 3.2 and later read provider info instead")
def test_the_form_of_airflow_2_has_fields_for_what_the_hook_reads() -> None:
    widgets: dict[str, Any] = BacalhauHook.get_connection_form_widgets()
    assert {"use_tls", "verify", "ca_file", "client_cert", "client_key", "namespace", "timeout"} <= widgets.keys()
    assert {"ipfs_gateway", "web_ui_url", "api"} <= widgets.keys()
    behaviour = BacalhauHook.get_ui_field_behaviour()
    assert behaviour.keys() == {"hidden_fields", "relabeling", "placeholders"}
