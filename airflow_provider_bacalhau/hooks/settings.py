"""From what a connection, or the environment of the official tools, says to the settings of a client."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_bacalhau.client import ClientSettings

EXTRA_FIELDS = (
    "use_tls",
    "verify",
    "ca_file",
    "client_cert",
    "client_key",
    "timeout",
    "ipfs_gateway",
    "api",
    "auth",
    "private_key",
    "private_key_passphrase",
    "key_file",
    "namespace",
    "web_ui_url",
)
"""What a connection's ``extra`` may hold."""

# Which variable of the official tools is which field; the names of newer tools before those of older ones. BACALHAU_DIR
# is read where the client key is (reference: bacalhau-orchestrator-api §9.5).
VARIABLES = {
    "host": ("BACALHAU_API_HOST",),
    "port": ("BACALHAU_API_PORT",),
    "key": ("BACALHAU_API_KEY",),
    "login": ("BACALHAU_API_USERNAME",),
    "password": ("BACALHAU_API_PASSWORD",),
    "use_tls": ("BACALHAU_API_TLS_USETLS", "BACALHAU_API_TLS", "BACALHAU_HTTPS"),
    "insecure": ("BACALHAU_API_TLS_INSECURE", "BACALHAU_API_INSECURE"),
    "ca_file": ("BACALHAU_API_TLS_CAFILE", "BACALHAU_API_CACERT"),
}


@dataclass(frozen=True)
class ConnectionSettings:
    """What a connection of type ``bacalhau`` says.

    :param client: where the network is, how to reach it and what to say there.
    :param namespace: namespace of jobs that name none themselves.
    :param web_ui_url: address of the network's web pages; empty when it has none.
    :param unknown: names in the connection's ``extra`` that mean nothing here.
    """

    client: ClientSettings
    namespace: str = ""
    web_ui_url: str = ""
    unknown: tuple[str, ...] = ()

    def unknown_fields(self) -> Iterator[str]:
        """A warning of each name in ``extra`` that means nothing here, with the one that may be meant."""
        for name in self.unknown:
            near = get_close_matches(name.lower(), EXTRA_FIELDS, n=1, cutoff=0.6)
            yield f"Its extra has {name[:60]!r}, which means nothing" + (f": is it {near[0]}?" if near else ".")

    def job_url(self, job_id: str) -> str:
        """Where a person can look at a job: its page on the web UI, else its JSON on the API."""
        if self.web_ui_url:
            return f"{self.web_ui_url}/jobs?id={job_id}"
        return f"{self.client.url}/api/v1/orchestrator/jobs/{job_id}"


def read_connection(connection: Connection, extra: Mapping[str, Any]) -> ConnectionSettings:
    """Read a connection of type ``bacalhau``.

    :param connection: the connection.
    :param extra: its ``extra``, decoded.
    :raises ConfigurationError: naming the field that makes no sense.
    """
    from airflow_provider_bacalhau.client.auth import METHODS
    from airflow_provider_bacalhau.client.settings import APIS, DEFAULT_TIMEOUT, ClientSettings, api_address

    standard = {name: getattr(connection, name) for name in ("host", "port", "login", "password")}
    said = _Said({**extra, **standard})
    client = ClientSettings(
        url=api_address(said.text("host"), said.number("port"), use_tls=said.flag("use_tls", default=False)),
        verify=said.flag("verify", default=True),
        ca_file=said.text("ca_file"),
        client_cert=said.text("client_cert"),
        client_key=said.text("client_key"),
        timeout=float(said.number("timeout") or DEFAULT_TIMEOUT),
        ipfs_gateway=said.url("ipfs_gateway"),
        api=said.choice("api", APIS),
        auth=said.choice("auth", METHODS),
        login=said.text("login"),
        password=said.text("password"),
        private_key=said.text("private_key"),
        private_key_passphrase=said.text("private_key_passphrase"),
        key_file=said.text("key_file"),
        on_secret=mask,
    )
    unknown = tuple(str(name) for name in extra if name not in EXTRA_FIELDS)
    return ConnectionSettings(client, said.text("namespace"), said.url("web_ui_url"), unknown)


def environment_settings(variables: Mapping[str, str]) -> ConnectionSettings:
    """What the variables of the official tools say; see ``VARIABLES``.

    :param variables: the environment.
    :raises ConfigurationError: naming the variable that makes no sense.
    """
    from airflow_provider_bacalhau.client.errors import ConfigurationError
    from airflow_provider_bacalhau.client.settings import ClientSettings, api_address

    names = {field: next(filter(variables.get, of_field), of_field[0]) for field, of_field in VARIABLES.items()}
    said = _Said({field: variables.get(name) for field, name in names.items()}, names)
    if said.text("key") and (said.text("login") or said.text("password")):
        raise ConfigurationError(
            "BACALHAU_API_KEY is set, and a user name or password beside it.",
            hint="Unset the key, or BACALHAU_API_USERNAME and BACALHAU_API_PASSWORD.",
        )
    # Of the official SDK's BACALHAU_HTTPS any value means yes.
    use_tls = names["use_tls"] == "BACALHAU_HTTPS" or said.flag("use_tls", default=False)
    client = ClientSettings(
        url=api_address(said.text("host"), said.number("port"), use_tls=use_tls),
        verify=not said.flag("insecure", default=False),
        ca_file=said.text("ca_file"),
        login=said.text("login"),
        password=said.text("password") or said.text("key"),
        from_environment=True,
        on_secret=mask,
    )
    return ConnectionSettings(client)


def mask(secret: str) -> None:
    """Have Airflow put stars in place of a secret in every log."""
    from airflow.providers.common.compat.sdk import mask_secret

    mask_secret(secret)


def mask_all(client: ClientSettings, *, by_line: bool) -> None:
    """Mask a client's secrets; Airflow does so with a connection's, but knows nothing of the environment's.

    :param by_line: whether to mask each line of a key as well, since a worker's output is looked through line by line.
        That takes Airflow 0.1 s, which the triggerer's loop does not have.
    """
    from airflow.providers.common.compat.sdk import mask_secret

    pem = client.private_key
    secrets = [client.password, client.private_key_passphrase, pem, json.dumps(pem)[1:-1]]
    if by_line:
        secrets += [line for line in pem.replace("\\n", "\n").splitlines() if not line.startswith("-----")]
    mask_secret([secret.strip() for secret in dict.fromkeys(secrets) if secret.strip()])


class _Said:
    """The fields of a source by name, checked as they are read.

    :param values: the fields; empty ones count as missing.
    :param variables: the environment variable of each field; empty where they are a connection's.
    """

    def __init__(self, values: Mapping[str, Any], variables: Mapping[str, str] | None = None) -> None:
        self._values = {name: value for name, value in values.items() if value not in (None, "")}
        self._variables = variables or {}

    def text(self, name: str) -> str:
        return str(self._values.get(name, ""))

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        value = self.text(name) or choices[0]
        if value not in choices:
            raise self._nonsense(name, f"one of {', '.join(choices)}")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._values.get(name, default)
        text = str(value).strip().lower()
        if text in {"true", "1", "yes", "on"}:
            return True
        if text in {"false", "0", "no", "off"}:
            return False
        raise self._nonsense(name, "true or false")

    def number(self, name: str) -> int | None:
        value = self._values.get(name)
        if value is None:
            return None
        try:
            number = int(str(value))
        except ValueError:
            raise self._nonsense(name, "a whole number") from None
        if number <= 0 or (name == "port" and number > 65535):
            raise self._nonsense(
                name, "a number from 1 to 65535" if name == "port" else "a number of seconds above zero"
            )
        return number

    def url(self, name: str) -> str:
        value = self.text(name).rstrip("/")
        if value and not value.startswith(("http://", "https://")):
            raise self._nonsense(name, "a URL that begins with http:// or https://")
        return value

    def _nonsense(self, name: str, wanted: str) -> Exception:
        from airflow_provider_bacalhau.client.errors import ConfigurationError

        owner = f"The environment variable {self._variables[name]}" if self._variables else f"The connection's {name}"
        return ConfigurationError(f"{owner} has to be {wanted}.")
