"""What the client shows to the world, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_provider_bacalhau import client
from airflow_provider_bacalhau.client import errors

PUBLIC = [
    "AgentNode",
    "AsyncBacalhauClient",
    "BacalhauClient",
    "ClientSettings",
    "Diagnosis",
    "Execution",
    "ExecutionState",
    "FailureCategory",
    "HistoryEvent",
    "Job",
    "JobState",
    "LogChunk",
    "Page",
    "ResultReference",
    "StopOutcome",
    "Submission",
    "diagnose",
]


def test_the_public_names_are_these() -> None:
    assert client.__all__ == PUBLIC
    assert all(getattr(client, name) for name in PUBLIC)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        _ = client.Nonsense


@pytest.mark.parametrize(
    "statement",
    [
        "import airflow_provider_bacalhau.client",
        "from airflow_provider_bacalhau.client import ClientSettings, Job, JobState, StopOutcome",
        "from airflow_provider_bacalhau.client import Diagnosis, FailureCategory, ResultReference, diagnose",
        "from airflow_provider_bacalhau.client import BacalhauClient, AsyncBacalhauClient",
        "from airflow_provider_bacalhau.client import AsyncBacalhauClient as A; A('http://h:1')",
    ],
)
def test_importing_it_brings_in_no_http_client_nor_pydantic(statement: str) -> None:
    heavy = ["aiohttp", "airflow", "asyncio", "libipld", "pydantic", "requests", "ssl", "urllib3", "wasmtime", "yaml"]
    code = f"import sys; {statement}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_both_clients_offer_the_same_operations() -> None:
    def offered(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    in_signal_handlers = {"stop_quickly", "quickly", "log_tail"}
    assert offered(client.BacalhauClient) - in_signal_handlers == offered(client.AsyncBacalhauClient) - {"operations"}
    for name in offered(client.AsyncBacalhauClient) - {"operations", "run", "close"}:
        assert getattr(client.BacalhauClient, name).__doc__ == getattr(client.AsyncBacalhauClient, name).__doc__
        assert getattr(client.BacalhauClient, name).__doc__


def test_the_error_tree_is_the_one_that_is_drawn() -> None:
    drawn = {line.split("─ ")[1].split()[0] for line in (errors.__doc__ or "").splitlines() if "─ " in line}
    kinds = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert drawn == {name for name, kind in kinds.items() if issubclass(kind, errors.BacalhauError)} - {"BacalhauError"}


PERMANENT = ["InvalidJobSpec", "ConfigurationError", "NotAuthorised", "KeyRefused", "RequestRefused", "NotFound"]
PERMANENT += ["NotSupported"]


def test_what_fails_again_however_often_is_permanent() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.BacalhauError)
    ]
    assert sorted(kind.__name__ for kind in kinds if kind.permanent) == sorted(PERMANENT)
