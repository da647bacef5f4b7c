"""One suite for every Bacalhau node, spoken to by both clients.

By default it judges the embedded node. ``BACALHAU_TEST_ENDPOINT=http://host:port`` names another one, and
``BACALHAU_TEST_IPFS_GATEWAY`` an IPFS gateway that serves its results. What a node cannot do is skipped, with the
reason; which node it is does not matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_bacalhau.client import AsyncBacalhauClient, BacalhauClient
from airflow_provider_bacalhau.client.settings import ClientSettings

from .jobs import Submitter, exiting
from .node import NodeUnderTest
from .wire import Wire

ENDPOINT = os.environ.get("BACALHAU_TEST_ENDPOINT", "").rstrip("/")
GATEWAY = os.environ.get("BACALHAU_TEST_IPFS_GATEWAY", "").rstrip("/")

WIDE = 3
"""Compute nodes that a job of several executions is tried on."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(**capabilities): what the node under test must be able to do")


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeUnderTest]:
    """The node under test."""
    if ENDPOINT:
        yield NodeUnderTest.ask(ENDPOINT, GATEWAY)
        return
    shared = tmp_path_factory.mktemp("shared")
    with _embedded(allow_local_paths=[f"{shared}/*"]) as found:
        yield found


@contextlib.contextmanager
def _embedded(**options: Any) -> Iterator[NodeUnderTest]:
    from airflow_provider_bacalhau.devnode import DevNode

    with DevNode(**options) as embedded:
        yield NodeUnderTest.ask(embedded.api, embedded.gateway)


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest, node: NodeUnderTest) -> None:
    for mark in request.node.iter_markers("needs"):
        if reason := node.why_not(**mark.kwargs):
            pytest.skip(reason)


class _Awaited:
    """The asynchronous client, called as the synchronous one is."""

    def __init__(self, settings: ClientSettings) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncBacalhauClient(settings)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **kwargs: self._runner.run(method(*args, **kwargs))

    def end(self) -> None:
        self.close()
        self._runner.close()


def _settings(node: NodeUnderTest) -> ClientSettings:
    return ClientSettings(node.url, ipfs_gateway=node.gateway)


@contextlib.contextmanager
def spoken_to(settings: ClientSettings, how: str) -> Iterator[Any]:
    """A client of one kind."""
    if how == "sync":
        with BacalhauClient(settings) as client:
            yield client
    else:
        awaited = _Awaited(settings)
        yield awaited
        awaited.end()


@pytest.fixture(scope="session", params=["sync", "async"])
def speaking(request: pytest.FixtureRequest) -> str:
    """Each kind of client in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def client(speaking: str, node: NodeUnderTest) -> Iterator[Any]:
    """A client of the node under test."""
    with spoken_to(_settings(node), speaking) as found:
        yield found


@pytest.fixture
def wide_jobs(speaking: str, node: NodeUnderTest) -> Iterator[Submitter]:
    """Submits jobs to a network of at least three compute nodes: the one under test, or an embedded one made for it."""
    if ENDPOINT and (reason := node.why_not(compute_nodes=WIDE)):
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        wide = node if len(node.nodes) >= WIDE else stack.enter_context(_embedded(nodes=WIDE))
        submitter = Submitter(stack.enter_context(spoken_to(_settings(wide), speaking)), wide.publisher)
        yield submitter
        submitter.clean_up()


@pytest.fixture
def jobs(client: Any, node: NodeUnderTest) -> Iterator[Submitter]:
    """Submits jobs through the client; those still alive at the end are stopped."""
    submitter = Submitter(client, node.publisher)
    yield submitter
    submitter.clean_up()


@pytest.fixture
def wire(node: NodeUnderTest) -> Iterator[Wire]:
    """The API in plain HTTP."""
    with Wire(node.url, node.publisher) as connection:
        yield connection


@pytest.fixture(scope="session")
def _first_version(node: NodeUnderTest) -> int:
    # Submitted by the client, in the words of this server: a v1.1.6 dies of a WebAssembly job in those of today.
    with spoken_to(_settings(node), "sync") as client, Wire(node.url, node.publisher) as connection:
        job_id = Submitter(client, node.publisher).submit(exiting(0))
        return int(connection.get(f"/orchestrator/jobs/{job_id}")["Job"]["Version"])


@pytest.fixture
def versions_of_jobs(_first_version: int) -> None:
    """For what came with versions of jobs: unique names, and the objects, texts and events of today.

    What servers of all generations have in common is in ``test_every_server.py``.
    """
    if _first_version == 0:
        pytest.skip(
            "this server keeps no versions of a job: its names are not unique, its objects and texts are older ones"
        )
