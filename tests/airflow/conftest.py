"""Airflow for the tests that need its database, and a Bacalhau network for those that run jobs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from .running import MODES

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client import BacalhauClient
    from airflow_provider_bacalhau.devnode import DevNode

DEFAULT_CONNECTION = "AIRFLOW_CONN_BACALHAU_DEFAULT"


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """A migrated, empty metadata database in this process's AIRFLOW_HOME."""
    from airflow.utils.db import initdb

    initdb()


@dataclass(frozen=True)
class Network:
    """The network that the connection ``bacalhau_default`` leads to.

    :param client: looks at it, past Airflow.
    """

    url: str
    gateway: str
    client: BacalhauClient

    def sent(self, job_id: str) -> dict[str, Any]:
        """The job as the server holds it."""
        import requests

        job: dict[str, Any] = requests.get(f"{self.url}/api/v1/orchestrator/jobs/{job_id}", timeout=10).json()["Job"]
        return job

    def state(self, job_id: str) -> str:
        """The job's state once it is over."""
        import time

        return self.client.wait(job_id, deadline=time.time() + 20).state.value


Connect = Callable[..., str]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Defines the connection ``bacalhau_default`` for one test; fields as in its JSON form."""

    def define(host: str, conn_id: str = "bacalhau_default", **fields: Any) -> str:
        connection = {"conn_type": "bacalhau", "host": host, **fields}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
        return conn_id

    return define


@pytest.fixture(scope="session")
def network_client(devnode: DevNode) -> Iterator[BacalhauClient]:
    from airflow_provider_bacalhau.client import BacalhauClient, ClientSettings

    with BacalhauClient(ClientSettings(devnode.api, ipfs_gateway=devnode.gateway)) as client:
        yield client


@pytest.fixture
def network(devnode: DevNode, network_client: BacalhauClient, connect: Connect) -> Network:
    """A running network, and a connection to it."""
    connect(devnode.api, extra={"ipfs_gateway": devnode.gateway})
    return Network(devnode.api, devnode.gateway, network_client)


@pytest.fixture(params=MODES)
def deferrable(request: pytest.FixtureRequest) -> bool:
    """Both modes: everything that a task shows must be the same in them."""
    return bool(request.param == "triggerer")


@pytest.fixture
def unused_port() -> int:
    """A port of this machine where nothing listens."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


Answer = tuple[int, bytes]


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[str], Answer]], str]]:
    """Starts HTTP servers that answer every path as they are told, and that know nothing of Bacalhau."""
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    servers = []

    def start(answer: Callable[[str], Answer]) -> str:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, body = answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815  # names that the standard library asks for

            def log_message(self, *arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client tries again as often as ever, but at once."""
    monkeypatch.setattr("airflow_provider_bacalhau.client.retry.FIRST_PAUSE", 0.001)
