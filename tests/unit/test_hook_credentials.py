"""Credentials of a connection and of the official tools' variables, and what Airflow is told to mask."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from airflow_provider_bacalhau.client.auth import choose_auth
from airflow_provider_bacalhau.client.errors import ConfigurationError
from airflow_provider_bacalhau.hooks.settings import (
    VARIABLES,
    ConnectionSettings,
    environment_settings,
    mask,
    mask_all,
    read_connection,
)
from airflow_provider_bacalhau.provider_info import get_provider_info

[CONNECTION] = get_provider_info()["connection-types"]
FIELDS = CONNECTION["conn-fields"]


@pytest.fixture(autouse=True)
def masked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Airflow was told to mask."""
    secrets: list[str] = []

    def mask_secret(secret: str | list[str], name: str | None = None) -> None:
        secrets.extend([secret] if isinstance(secret, str) else secret)

    monkeypatch.setattr("airflow.providers.common.compat.sdk.mask_secret", mask_secret, raising=False)
    return secrets


@pytest.fixture(scope="module")
def pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def read(login: str | None = None, password: str | None = None, **extra: Any) -> ConnectionSettings:
    return read_connection(SimpleNamespace(host="node", port=None, login=login, password=password), extra)


def test_every_field_of_a_credential_reaches_the_client() -> None:
    client = read(
        "airflow", "a-password", auth="basic", private_key="PEM", private_key_passphrase="phrase", api="requester"
    ).client
    assert (client.auth, client.login, client.password) == ("basic", "airflow", "a-password")
    assert (client.private_key, client.private_key_passphrase, client.api) == ("PEM", "phrase", "requester")
    assert read(key_file="/etc/hostname").client.key_file == "/etc/hostname"


@pytest.mark.parametrize("nothing", [None, ""])
def test_empty_fields_are_no_credentials(nothing: str | None) -> None:
    extra = dict.fromkeys(("auth", "private_key", "private_key_passphrase", "key_file"), nothing)
    assert read(nothing, nothing, **extra) == read()


def test_an_extra_field_named_like_a_standard_one_is_not_taken_for_it() -> None:
    connection = SimpleNamespace(host="node", port=None, login=None, password="right")
    assert read_connection(connection, {"login": "smuggled"}).client.login == ""


@pytest.mark.parametrize(
    ("field", "choices"), [("auth", "auto, none, basic, bearer, client_key"), ("api", "auto, orch")]
)
def test_a_choice_that_there_is_not_names_the_field_and_the_choices(field: str, choices: str) -> None:
    with pytest.raises(ConfigurationError, match=f"The connection's {field} has to be one of {choices}"):
        read(**{field: "oauth2"})


@pytest.mark.parametrize("field", ["auth", "api"])
def test_the_form_offers_the_choices_that_are_read(field: str) -> None:
    for choice in FIELDS[field]["schema"]["enum"]:
        read("airflow", "a-password", **{field: choice})


# -- masking ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["private_key", "private_key_passphrase"])
def test_airflow_itself_masks_the_secret_fields_by_their_names(field: str) -> None:
    try:
        from airflow.sdk._shared.secrets_masker import DEFAULT_SENSITIVE_FIELDS
    except ImportError:  # 2.11 and early 3.x
        from airflow.utils.log.secrets_masker import DEFAULT_SENSITIVE_FIELDS
    assert any(word in field for word in DEFAULT_SENSITIVE_FIELDS)
    assert FIELDS[field]["schema"]["format"] == "password"


def test_every_secret_is_masked_and_a_key_also_line_by_line(masked: list[str], pem: str) -> None:
    client = read("airflow", "a-password", private_key=pem, private_key_passphrase="phrase").client
    mask_all(client, by_line=False)
    assert masked == ["a-password", "phrase", pem.strip(), pem.replace("\n", "\\n")]
    mask_all(client, by_line=True)
    lines = pem.splitlines()
    assert set(lines[1:-1]) < set(masked)
    assert not [line for line in lines if line in repr(client)]


def test_a_key_on_one_line_is_masked_as_its_lines_would_be_logged(masked: list[str], pem: str) -> None:
    mask_all(read(private_key=pem.replace("\n", "\\n")).client, by_line=True)
    assert set(pem.splitlines()[1:-1]) < set(masked)


def test_what_is_derived_of_secrets_is_masked_when_it_is_made(masked: list[str]) -> None:
    client = read("airflow", "a-password").client
    assert client.on_secret is mask
    client.on_secret("a-token")
    assert masked[-1] == "a-token"


# -- the official tools' variables ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "fields"),
    [
        ({}, {"url": "http://node:1234"}),
        ({"BACALHAU_API_PORT": "80"}, {"url": "http://node:80"}),
        ({"BACALHAU_API_KEY": "a-key"}, {"login": "", "password": "a-key", "auth": "auto"}),
        (
            {"BACALHAU_API_USERNAME": "airflow", "BACALHAU_API_PASSWORD": "a-password"},
            {"login": "airflow", "password": "a-password"},
        ),
        ({"BACALHAU_API_TLS_USETLS": "true"}, {"url": "https://node:1234", "verify": True}),
        ({"BACALHAU_API_TLS": "1"}, {"url": "https://node:1234"}),
        ({"BACALHAU_API_TLS_USETLS": "false", "BACALHAU_API_TLS": "1"}, {"url": "http://node:1234"}),
        ({"BACALHAU_HTTPS": "whatever"}, {"url": "https://node:1234"}),
        ({"BACALHAU_API_TLS_INSECURE": "true"}, {"verify": False}),
        ({"BACALHAU_API_INSECURE": "true"}, {"verify": False}),
        ({"BACALHAU_API_TLS_CAFILE": "/etc/hostname"}, {"ca_file": "/etc/hostname"}),
        ({"BACALHAU_API_CACERT": "/etc/hostname"}, {"ca_file": "/etc/hostname"}),
    ],
)
def test_variables_are_read_as_the_official_tools_read_them(variables: dict[str, str], fields: dict[str, Any]) -> None:
    client = environment_settings({"BACALHAU_API_HOST": "node", **variables}).client
    assert {name: getattr(client, name) for name in fields} == fields


@pytest.mark.parametrize("other", ["BACALHAU_API_USERNAME", "BACALHAU_API_PASSWORD"])
def test_a_key_beside_a_user_is_an_error(other: str) -> None:
    with pytest.raises(ConfigurationError, match=f"BACALHAU_API_KEY is set.*{other}") as caught:
        environment_settings({"BACALHAU_API_HOST": "node", "BACALHAU_API_KEY": "a-secret", other: "a-secret"})
    assert "a-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "variable", ["BACALHAU_API_PORT", "BACALHAU_API_TLS_USETLS", "BACALHAU_API_TLS", "BACALHAU_API_INSECURE"]
)
def test_a_variable_that_makes_no_sense_is_named(variable: str) -> None:
    with pytest.raises(ConfigurationError, match=f"The environment variable {variable} has to be"):
        environment_settings({"BACALHAU_API_HOST": "node", variable: "perhaps"})


def test_secrets_in_variables_are_masked(masked: list[str]) -> None:
    mask_all(environment_settings({"BACALHAU_API_HOST": "node", "BACALHAU_API_KEY": "a-key"}).client, by_line=True)
    assert masked == ["a-key"]


# -- the documentation ------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "connection.md").read_text()
EXAMPLES = re.findall(r"AIRFLOW_CONN_BACALHAU_DEFAULT='(\{.*?\})'$", PAGE, re.DOTALL | re.MULTILINE)
WAYS = ("WhenAsked", "Fixed", "Fixed", "Fixed", "ClientKey", "WhenAsked")
"""How each example of the documentation authenticates, in its order."""


def test_variables_and_fields_are_in_the_documentation() -> None:
    names = [name for of_field in VARIABLES.values() for name in of_field]
    assert [name for name in [*names, "BACALHAU_DIR", *FIELDS] if f"`{name}`" not in PAGE] == []


@pytest.mark.parametrize(("example", "way"), list(zip(EXAMPLES, WAYS, strict=True)))
def test_examples_of_the_documentation_are_read_as_they_say(example: str, way: str) -> None:
    fields = {"login": None, "password": None, "port": None, **json.loads(example)}
    settings = read_connection(SimpleNamespace(**fields), fields.get("extra", {})).client
    auth = choose_auth(settings, lambda: pytest.fail("no key is wanted yet"))
    assert type(auth).__name__ == way
