"""What a connection's fields mean."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_bacalhau.client.errors import ConfigurationError
from airflow_provider_bacalhau.hooks.settings import EXTRA_FIELDS, ConnectionSettings, read_connection


def read(host: str | None = "node", port: int | None = None, **extra: Any) -> ConnectionSettings:
    return read_connection(SimpleNamespace(host=host, port=port, login=None, password=None), extra)


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "node"}, "http://node:1234"),
        ({"host": "node", "port": 8080}, "http://node:8080"),
        ({"host": "node", "use_tls": True}, "https://node:1234"),
        ({"host": "node", "use_tls": "true"}, "https://node:1234"),
        ({"host": "node", "use_tls": "False"}, "http://node:1234"),
        ({"host": "https://node"}, "https://node:443"),
        ({"host": "http://node"}, "http://node:80"),
        ({"host": "https://node", "port": 8443}, "https://node:8443"),
        ({"host": "https://node:9", "port": 8443}, "https://node:9"),
        ({"host": "http://node/bacalhau/"}, "http://node:80/bacalhau"),
        ({"host": "http://node", "use_tls": True}, "http://node:80"),
        ({"host": "127.0.0.1"}, "http://127.0.0.1:1234"),
        ({"host": "::1"}, "http://[::1]:1234"),
        ({"host": " node "}, "http://node:1234"),
    ],
)
def test_the_address_is_made_of_host_port_and_tls(fields: dict[str, Any], url: str) -> None:
    assert read(**fields).client.url == url


@pytest.mark.parametrize("nothing", [None, ""])
def test_an_empty_field_is_no_field(nothing: str | None) -> None:
    empty: dict[str, Any] = dict.fromkeys(
        ("use_tls", "verify", "timeout", "namespace", "ipfs_gateway", "web_ui_url", "api"), nothing
    )
    assert read(**empty) == read()
    assert (read().client.verify, read().client.timeout, read().namespace) == (True, 30.0, "")


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("1", True), ("Yes", True), (" on ", True), ("false", False), ("0", False)]
)
def test_flags_may_be_texts_as_in_a_uri(text: str, value: bool) -> None:
    assert read(verify=text).client.verify is value


def test_other_fields_are_taken_over() -> None:
    settings = read(timeout="7", namespace="team", ipfs_gateway="http://gw:8080/", web_ui_url="https://ui/")
    assert settings.client.timeout == 7.0
    assert settings.client.ipfs_gateway == "http://gw:8080"
    assert (settings.namespace, settings.web_ui_url) == ("team", "https://ui")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"host": ""}, "no host"),
        ({"host": None}, "no host"),
        ({"port": 70000}, "port"),
        ({"use_tls": "perhaps"}, "use_tls has to be true or false"),
        ({"verify": 3}, "verify has to be true or false"),
        ({"timeout": "soon"}, "timeout has to be a whole number"),
        ({"timeout": 0}, "timeout has to be a number of seconds above zero"),
        ({"ipfs_gateway": "gw:8080"}, "ipfs_gateway has to be a URL"),
        ({"web_ui_url": "javascript:alert(1)"}, "web_ui_url has to be a URL"),
        ({"api": "rest"}, "api has to be one of auto, orchestrator, requester"),
        ({"host": "ftp://node"}, "ftp"),
        ({"host": "http://user:secret@node"}, "credentials"),
        ({"ca_file": "/nowhere/ca.pem", "use_tls": True}, "ca_file"),
    ],
)
def test_what_makes_no_sense_names_the_field(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(**fields)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_job_is_looked_at_on_the_web_ui_or_else_on_the_api() -> None:
    assert read(web_ui_url="http://ui:8438").job_url("j-1") == "http://ui:8438/jobs?id=j-1"
    assert read().job_url("j-1") == "http://node:1234/api/v1/orchestrator/jobs/j-1"


def test_every_field_that_is_read_is_a_known_one() -> None:
    from airflow_provider_bacalhau.provider_info import get_provider_info

    [connection_type] = get_provider_info()["connection-types"]
    assert set(EXTRA_FIELDS) == set(connection_type["conn-fields"])
    assert read(**dict.fromkeys(EXTRA_FIELDS)).unknown == ()
