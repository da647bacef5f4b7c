"""The hook: an Airflow connection becomes a client of a Bacalhau network."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_bacalhau.client import AsyncBacalhauClient, BacalhauClient, ClientSettings

DEFAULT_CONN_ID = "bacalhau_default"

_TEST_SECONDS = 5.0


@dataclass(frozen=True)
class ConnectionSettings:
    """What a connection of type ``bacalhau`` says.

    :param client: where the network is and how to reach it.
    :param namespace: namespace of jobs that name none themselves.
    :param web_ui_url: address of the network's web pages; empty when it has none.
    """

    client: ClientSettings
    namespace: str = ""
    web_ui_url: str = ""

    def job_url(self, job_id: str) -> str:
        """Where a person can look at a job: its page on the web UI, else its JSON on the API."""
        if self.web_ui_url:
            return f"{self.web_ui_url}/jobs?id={job_id}"
        return f"{self.client.url}/api/v1/orchestrator/jobs/{job_id}"


class BacalhauHook(BaseHook):
    """Connects to a Bacalhau network.

    Nothing is fetched or connected before it is used. When the connection ``bacalhau_default`` is not defined, the
    environment variables of the official tools, ``BACALHAU_API_HOST`` and ``BACALHAU_API_PORT``, are used instead.

    :param bacalhau_conn_id: id of the connection, see ``docs/connection.md``.
    """

    conn_name_attr = "bacalhau_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "bacalhau"
    hook_name = "Bacalhau"

    def __init__(self, bacalhau_conn_id: str = DEFAULT_CONN_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bacalhau_conn_id = bacalhau_conn_id
        self._settings: ConnectionSettings | None = None

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Form fields of the connection, for Airflow 2.11 to 3.1; later versions read provider info."""
        from airflow_provider_bacalhau.connection_form import form_widgets

        return form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Behaviour of the form's fields, for Airflow 2.11 to 3.1; later versions read provider info."""
        from airflow_provider_bacalhau.connection_form import field_behaviour

        return field_behaviour()

    @property
    def settings(self) -> ConnectionSettings:
        """What the connection says, fetched once.

        :raises ConfigurationError: when it is not defined, or its fields make no sense.
        """
        if self._settings is None:
            try:
                connection = self.get_connection(self.bacalhau_conn_id)
            except AirflowNotFoundException:
                self._settings = self._settings_without_connection()
            else:
                self._settings = read_connection(connection, connection.extra_dejson)
        return self._settings

    def get_conn(self) -> BacalhauClient:
        """Return a client; use it as a context manager.

        :raises ConfigurationError: when the connection is not defined, or its fields make no sense.
        """
        from airflow_provider_bacalhau.client import BacalhauClient

        return BacalhauClient(self.settings.client)

    async def get_async_conn(self) -> AsyncBacalhauClient:
        """Return a client for the running event loop, which is not blocked meanwhile; use it as a context manager.

        :raises ConfigurationError: when the connection is not defined, or its fields make no sense.
        """
        from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson

        # Importing aiohttp takes 100 ms, which the triggerer's loop does not have.
        await asyncio.to_thread(import_module, "airflow_provider_bacalhau.client.transport.aio")
        clients = await asyncio.to_thread(import_module, "airflow_provider_bacalhau.client.clients")
        if self._settings is None:
            try:
                connection = await get_async_connection(self.bacalhau_conn_id, hook=self)
            except AirflowNotFoundException:
                self._settings = self._settings_without_connection()
            else:
                self._settings = read_connection(connection, await get_async_extra_dejson(connection))
        client: AsyncBacalhauClient = clients.AsyncBacalhauClient(self._settings.client)
        return client

    def test_connection(self) -> tuple[bool, str]:
        """Ask the server who it is, by calls that need credentials where it wants any.

        :returns: whether it went well, and the version, the number of compute nodes and their engines; or what is
            wrong.
        """
        from airflow_provider_bacalhau.client.errors import BacalhauError
        from airflow_provider_bacalhau.client.operations import Operations
        from airflow_provider_bacalhau.client.transport.sync import SyncTransport

        try:
            settings = replace(self.settings.client, timeout=min(self.settings.client.timeout, _TEST_SECONDS))
            # Not by a client: somebody waits for the answer, and it would try again for a minute.
            with closing(SyncTransport(settings)) as transport:
                greeting = transport.run(Operations(settings, time.time).greet())
        except BacalhauError as error:
            return False, str(error)
        if not greeting.nodes:
            return True, f"Bacalhau {greeting.version} answers, but no compute node is connected: jobs will not run."
        nodes = f"{len(greeting.nodes)} compute node{'s' if len(greeting.nodes) > 1 else ''}"
        return True, f"Bacalhau {greeting.version}, {nodes} connected, engines: {', '.join(greeting.engines)}."

    def _settings_without_connection(self) -> ConnectionSettings:
        from airflow_provider_bacalhau.client.errors import ConfigurationError

        host = os.environ.get("BACALHAU_API_HOST", "")
        is_default = self.bacalhau_conn_id == self.default_conn_name
        if not (is_default and host):
            other_way = ", or set BACALHAU_API_HOST and BACALHAU_API_PORT" if is_default else ""
            raise ConfigurationError(
                f"The connection {self.bacalhau_conn_id!r} is not defined.",
                hint=f"Define it (type bacalhau, host and port of the API){other_way}.",
            )
        port = os.environ.get("BACALHAU_API_PORT") or None
        return _settings({"host": host, "port": port}, "The environment variable BACALHAU_API_")


def read_connection(connection: Connection, extra: Mapping[str, Any]) -> ConnectionSettings:
    """Read a connection of type ``bacalhau``.

    :param connection: the connection.
    :param extra: its ``extra``, decoded.
    :raises ConfigurationError: naming the field that makes no sense.
    """
    fields = {key: value for key, value in extra.items() if value not in (None, "")}
    return _settings({**fields, "host": connection.host or "", "port": connection.port}, "The connection's ")


def _settings(fields: Mapping[str, Any], owner: str) -> ConnectionSettings:
    from airflow_provider_bacalhau.client.settings import DEFAULT_TIMEOUT, ClientSettings, api_address

    if str(fields.get("api", "auto")) not in {"auto", "orchestrator"}:
        raise _nonsense("api", owner, "auto or orchestrator: this release speaks no other API")
    client = ClientSettings(
        url=api_address(
            str(fields["host"]), _number(fields, "port", owner), use_tls=_flag(fields, "use_tls", owner, default=False)
        ),
        verify=_flag(fields, "verify", owner, default=True),
        ca_file=str(fields.get("ca_file", "")),
        client_cert=str(fields.get("client_cert", "")),
        client_key=str(fields.get("client_key", "")),
        timeout=float(_number(fields, "timeout", owner) or DEFAULT_TIMEOUT),
        ipfs_gateway=_url(fields, "ipfs_gateway", owner),
    )
    return ConnectionSettings(client, str(fields.get("namespace", "")), _url(fields, "web_ui_url", owner))


def _flag(fields: Mapping[str, Any], name: str, owner: str, *, default: bool) -> bool:
    value = fields.get(name, default)
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in {"true", "1", "yes", "on"}:
        return True
    if text in {"false", "0", "no", "off"}:
        return False
    raise _nonsense(name, owner, "true or false")


def _number(fields: Mapping[str, Any], name: str, owner: str) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    try:
        number = int(str(value))
    except ValueError:
        raise _nonsense(name, owner, "a whole number") from None
    if number <= 0 or (name == "port" and number > 65535):
        raise _nonsense(name, owner, "a port number" if name == "port" else "a number of seconds above zero")
    return number


def _url(fields: Mapping[str, Any], name: str, owner: str) -> str:
    value = str(fields.get(name, "")).rstrip("/")
    if value and not value.startswith(("http://", "https://")):
        raise _nonsense(name, owner, "a URL that begins with http:// or https://")
    return value


def _nonsense(name: str, owner: str, wanted: str) -> Exception:
    from airflow_provider_bacalhau.client.errors import ConfigurationError

    shown = name.upper() if owner.endswith("_") else name
    return ConfigurationError(f"{owner}{shown} has to be {wanted}.")
