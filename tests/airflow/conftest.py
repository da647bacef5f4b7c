"""Airflow for the tests that need its database, and a Bacalhau network for those that run jobs."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import textwrap
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.answering import Answer, answering

from .running import LOG, MODES

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client import BacalhauClient
    from airflow_provider_bacalhau.devnode import DevNode

    from .attempts import Instance

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


@pytest.fixture(autouse=True)
def the_node_is_quiet() -> Iterator[None]:
    """The node runs in this process, and would tell of the ends of earlier tests' jobs in the logs of later ones."""
    log = logging.getLogger("airflow_provider_bacalhau.devnode")
    before = log.level
    log.setLevel(logging.WARNING)
    yield
    log.setLevel(before)


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


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[str], Answer]], str]]:
    """Starts HTTP servers that answer every path as they are told, and that know nothing of Bacalhau."""
    with contextlib.ExitStack() as stack:
        yield lambda answer: stack.enter_context(answering(lambda asked: answer(asked.target)))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client tries again as often as ever, but at once."""
    monkeypatch.setattr("airflow_provider_bacalhau.client.retry.FIRST_PAUSE", 0.001)


@dataclass(frozen=True)
class TaskRun:
    """What is left of a task of a DAG that ran.

    :param xcoms: by key; those of this provider's tasks, and the return value.
    """

    state: str
    xcoms: dict[str, Any]


_LOCAL_BUNDLE = "airflow.dag_processing.bundles.local.LocalDagBundle"
_KEYS = ("return_value", "bacalhau_job_id", "job_url", "job_state", "exit_codes", "results", "cids", "failure_category")


@pytest.fixture
def run_dag(
    airflow_database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, TaskRun]]:
    """Runs a DAG file through Airflow, deferred tasks included, and gives its tasks: by id, or ``id[map index]``."""

    import airflow

    if airflow.__version__.startswith("2."):  # its sensors ask for the executor, which must go with SQLite
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "SequentialExecutor")

    def run(source: str | Path, **files: str) -> dict[str, TaskRun]:
        if isinstance(source, Path):
            path = source
        else:
            path = tmp_path / f"dag_{uuid.uuid4().hex}.py"
            path.write_text(textwrap.dedent(source))
        for name, content in files.items():
            (path.parent / name.replace("_", ".")).write_text(content)
        # Airflow 3 runs a DAG only if it finds it in its own folder.
        bundle = {"name": "dags-folder", "classpath": _LOCAL_BUNDLE, "kwargs": {"path": str(path.parent)}}
        monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
        module = _load(path)
        tasks = {}
        for ti in module.dag.test().get_task_instances():
            name = ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]"
            pulled = {
                key: ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index if ti.map_index >= 0 else None)
                for key in _KEYS
            }
            # Airflow itself leaves an empty text for a link that leads nowhere.
            xcoms = {key: value for key, value in pulled.items() if value not in (None, "")}
            tasks[name] = TaskRun(str(ti.state), xcoms)
        return tasks

    return run


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def instance(network: Network, deferrable: bool) -> Iterator[Instance]:
    from .attempts import Instance

    made = Instance(network, deferrable)
    yield made
    for job in made.jobs:
        network.client.stop(job.id, "test is over")


@pytest.fixture
def waiting_here(network: Network) -> Iterator[Instance]:
    """One that waits in a worker."""
    from .attempts import Instance

    made = Instance(network, deferrable=False)
    yield made
    for job in made.jobs:
        network.client.stop(job.id, "test is over")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """What the task has told."""
    caplog.set_level(logging.INFO)
    return lambda: "\n".join(record.getMessage() for record in caplog.records if record.name == LOG.name)


@pytest.fixture
def disturbed(connect: Connect, impatient: None) -> Iterator[tuple[DevNode, BacalhauClient]]:
    """A node of its own, whose answers a test may spoil."""
    from airflow_provider_bacalhau.client import BacalhauClient
    from airflow_provider_bacalhau.devnode import DevNode

    with DevNode() as node, BacalhauClient(node.api) as client:
        connect(node.api)
        yield node, client
