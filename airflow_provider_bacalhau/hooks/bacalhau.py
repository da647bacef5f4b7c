"""The hook: an Airflow connection becomes a client of a Bacalhau network."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from contextlib import closing
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_bacalhau.hooks.settings import ConnectionSettings, environment_settings, mask_all, read_connection

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client import AsyncBacalhauClient, BacalhauClient
    from airflow_provider_bacalhau.client.operations import Greeting

DEFAULT_CONN_ID = "bacalhau_default"

_TEST_SECONDS = 5.0

log = logging.getLogger(__name__)


class BacalhauHook(BaseHook):
    """Connects to a Bacalhau network.

    Nothing is fetched or connected before it is used. When the connection ``bacalhau_default`` is not defined, the
    environment variables of the official tools (``BACALHAU_API_HOST`` and its kin) are used instead.

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
            # Not within the handlers: what is raised there would drag the look-up's own traceback along.
            try:
                connection = self.get_connection(self.bacalhau_conn_id)
            except AirflowNotFoundException:
                connection = None
            if connection is None:
                self._settings = self._settings_without_connection()
            else:
                self._settings = read_connection(connection, connection.extra_dejson)
            mask_all(self._settings.client, by_line=True)
        return self._settings

    def get_conn(self) -> BacalhauClient:
        """Return a client; use it as a context manager.

        :raises ConfigurationError: when the connection is not defined, or its fields make no sense.
        """
        from airflow_provider_bacalhau.client import BacalhauClient

        for warning in self.settings.unknown_fields():
            _warn_of(self.bacalhau_conn_id, warning)
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
                connection = None
            if connection is None:
                self._settings = self._settings_without_connection()
            else:
                self._settings = read_connection(connection, await get_async_extra_dejson(connection))
            mask_all(self._settings.client, by_line=False)
        client: AsyncBacalhauClient = clients.AsyncBacalhauClient(self._settings.client)
        return client

    def test_connection(self) -> tuple[bool, str]:
        """Ask the server who it is, by calls that need credentials where it wants any.

        :returns: whether it went well, and the version, the number of compute nodes and their engines; or what is
            wrong.
        """
        from airflow_provider_bacalhau.client.auth import with_auth
        from airflow_provider_bacalhau.client.errors import BacalhauError
        from airflow_provider_bacalhau.client.operations import Operations
        from airflow_provider_bacalhau.client.transport.sync import SyncTransport

        try:
            settings = replace(self.settings.client, timeout=min(self.settings.client.timeout, _TEST_SECONDS))
            # Not by a client: somebody waits for the answer, and it would try again for a minute.
            with closing(SyncTransport(settings)) as transport:
                operations = Operations(settings, time.time)
                greeting = transport.run(with_auth(operations.greet(), operations.auth))
        except BacalhauError as error:
            return False, str(error)
        return True, " ".join((_told(greeting), *self.settings.unknown_fields()))

    def _settings_without_connection(self) -> ConnectionSettings:
        from airflow_provider_bacalhau.client.errors import ConfigurationError

        if not self.bacalhau_conn_id:
            raise ConfigurationError(
                f"bacalhau_conn_id is {self.bacalhau_conn_id!r}, and must be the id of a connection.",
                hint=f"Leave it out for {self.default_conn_name!r}.",
            )
        variable = f"AIRFLOW_CONN_{self.bacalhau_conn_id.upper()}"
        if os.environ.get(variable):  # Airflow takes what it cannot read for nothing
            raise ConfigurationError(
                f"The connection {self.bacalhau_conn_id!r} is defined by {variable} but cannot be read.",
                hint="It has to be a JSON object or a URI, its port a whole number.",
            )
        host = os.environ.get("BACALHAU_API_HOST", "")
        is_default = self.bacalhau_conn_id == self.default_conn_name
        if not (is_default and host):
            other_way = ", or set BACALHAU_API_HOST and BACALHAU_API_PORT" if is_default else ""
            raise ConfigurationError(
                f"The connection {self.bacalhau_conn_id!r} is not defined.",
                hint=f"Define it (type bacalhau, host and port of the API){other_way}.",
            )
        return environment_settings(os.environ)


@functools.cache
def _warn_of(conn_id: str, warning: str) -> None:
    """Warn once in a process."""
    log.warning("Connection %s: %s", conn_id, warning)


def _told(greeting: Greeting) -> str:
    """What a server says of itself, in a sentence."""
    if greeting.nodes is None:
        return f"Bacalhau {greeting.version} takes these credentials; its nodes they may not see."
    if not greeting.nodes:
        return f"Bacalhau {greeting.version} answers, but no compute node is connected: jobs will not run."
    nodes = f"{len(greeting.nodes)} compute node{'s' if len(greeting.nodes) > 1 else ''}"
    return f"Bacalhau {greeting.version}, {nodes} connected, engines: {', '.join(greeting.engines)}."
