"""Where a server is, from what a connection holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bacalhau.client.errors import ConfigurationError
from airflow_provider_bacalhau.client.settings import ClientSettings, api_address

# Host, port, TLS; address.
ADDRESSES: list[tuple[str, int | None, bool, str]] = [
    ("host", None, False, "http://host:1234"),
    ("host", None, True, "https://host:1234"),
    ("host", 80, False, "http://host:80"),
    ("host", 0, False, "http://host:1234"),
    (" host ", None, False, "http://host:1234"),
    ("host:5678", None, False, "http://host:5678"),
    ("host:5678", 80, False, "http://host:5678"),
    ("HOST.Example", None, False, "http://host.example:1234"),
    ("10.0.0.1", 65535, False, "http://10.0.0.1:65535"),
    # The port is that of the URL, else the port field, else that of its scheme.
    ("http://host", None, False, "http://host:80"),
    ("https://host", None, False, "https://host:443"),
    ("http://host", None, True, "http://host:80"),
    ("https://host", 8443, False, "https://host:8443"),
    ("https://host:5678", 8443, False, "https://host:5678"),
    ("HTTPS://Host/", None, False, "https://host:443"),
    # A path is kept, but for the one that every request has.
    ("https://host/behind/proxy", None, False, "https://host:443/behind/proxy"),
    ("https://host/behind/proxy/", None, False, "https://host:443/behind/proxy"),
    ("http://host:1234/api/v1", None, False, "http://host:1234"),
    ("http://host:1234/api/v1/", None, False, "http://host:1234"),
    ("http://host/a/api/v1", None, False, "http://host:80/a"),
    ("host/a", None, False, "http://host:1234/a"),
    # IPv6, bare and in brackets.
    ("::1", None, False, "http://[::1]:1234"),
    ("[::1]", None, False, "http://[::1]:1234"),
    ("[::1]:5678", None, False, "http://[::1]:5678"),
    ("fe80::1", 80, True, "https://[fe80::1]:80"),
    ("http://[2001:db8::1]:5678/x", None, False, "http://[2001:db8::1]:5678/x"),
]


@pytest.mark.parametrize(("host", "port", "use_tls", "address"), ADDRESSES)
def test_addresses(host: str, port: int | None, use_tls: bool, address: str) -> None:
    assert api_address(host, port, use_tls=use_tls) == address
    assert ClientSettings(address).host == address.split("/")[2]


# Host, port; what is said.
REFUSED: list[tuple[str, int | None, str]] = [
    ("", None, "The connection has no host."),
    ("  ", None, "The connection has no host."),
    ("me:word@host", None, "The connection's host holds more than an address."),
    ("me:wo:rd@host", None, "host"),
    ("https://me:word@host:1234", None, "The connection's host holds more than an address."),
    ("https://word@host", None, "The connection's host holds more than an address."),
    ("https://host?token=word", None, "The connection's host holds more than an address."),
    ("https://host#word", None, "The connection's host holds more than an address."),
    ("ftp://me:word@host", None, "The connection's host is not an address that can be used: it begins with ftp://."),
    ("http://", None, "The connection's host is not an address that can be used: it begins with http://."),
    ("http://host:word", None, "The connection's host is not a host name, address or URL."),
    ("http://host:99999", None, "The connection's host is not a host name, address or URL."),
    ("http://[::1", None, "The connection's host is not a host name, address or URL."),
    ("ho st", None, "The connection's host is not a host name, address or URL."),
    ("ho\nst", None, "The connection's host is not a host name, address or URL."),
    ("ho\x00st", None, "The connection's host is not a host name, address or URL."),
    ("host", 70000, "The connection's port is not one: 70000."),
    ("host", -1, "The connection's port is not one: -1."),
]


@pytest.mark.parametrize(("host", "port", "message"), REFUSED)
def test_what_is_no_address_is_refused_without_showing_secrets(host: str, port: int | None, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        api_address(host, port)
    assert message in str(caught.value)
    assert "word" not in str(caught.value)
    assert caught.value.permanent


@pytest.mark.parametrize("name", ["ca_file", "client_cert", "client_key"])
def test_files_that_are_not_there_are_named(name: str, tmp_path: Path) -> None:
    missing: dict[str, Any] = {name: str(tmp_path / "no.pem")}
    with pytest.raises(ConfigurationError, match=rf"{name} names no file on this machine: .*no\.pem"):
        ClientSettings("http://host", **missing)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_is_none_is_refused(timeout: float) -> None:
    with pytest.raises(ConfigurationError, match="timeout is not a number of seconds"):
        ClientSettings("http://host", timeout=timeout)


@pytest.mark.parametrize(
    "gateway", ["127.0.0.1:8080", "ftp://h", "http://", "http://me:word@h", "http://h?word", "http://[::1", "/ipfs"]
)
def test_a_gateway_that_is_no_address_is_refused_without_showing_it(gateway: str) -> None:
    with pytest.raises(ConfigurationError, match="ipfs_gateway is not an address that can be used") as caught:
        ClientSettings("http://host", ipfs_gateway=gateway)
    assert "word" not in str(caught.value)


def test_settings_can_be_compared_and_kept_by() -> None:
    assert ClientSettings("http://host") == ClientSettings("http://host")
    assert len({ClientSettings("http://host"), ClientSettings("http://host"), ClientSettings("http://other")}) == 2
