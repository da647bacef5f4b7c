"""Speaks to a Bacalhau network; knows nothing of Airflow.

::

    from airflow_provider_bacalhau.client import BacalhauClient

    with BacalhauClient("http://127.0.0.1:1234") as client:
        job = client.submit(read_job_spec(...))
        client.wait(job.job_id)

:class:`BacalhauClient` and :class:`AsyncBacalhauClient` offer the same operations; each is written once, in
:mod:`~airflow_provider_bacalhau.client.operations` and the dialects, and documented there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client.clients import AsyncBacalhauClient, BacalhauClient
    from airflow_provider_bacalhau.client.diagnosis import Diagnosis, FailureCategory, diagnose
    from airflow_provider_bacalhau.client.dialects.logs import LogChunk
    from airflow_provider_bacalhau.client.facts import (
        AgentNode,
        Execution,
        HistoryEvent,
        Job,
        Page,
        StopOutcome,
        Submission,
    )
    from airflow_provider_bacalhau.client.results import ResultReference
    from airflow_provider_bacalhau.client.settings import ClientSettings
    from airflow_provider_bacalhau.client.states import ExecutionState, JobState

# Names are resolved on first use: requests, aiohttp and pydantic cost 100-250 ms each.
_HOMES = {
    "AgentNode": "facts",
    "AsyncBacalhauClient": "clients",
    "BacalhauClient": "clients",
    "ClientSettings": "settings",
    "Diagnosis": "diagnosis",
    "Execution": "facts",
    "ExecutionState": "states",
    "FailureCategory": "diagnosis",
    "HistoryEvent": "facts",
    "Job": "facts",
    "JobState": "states",
    "LogChunk": "dialects.logs",
    "Page": "facts",
    "ResultReference": "results",
    "StopOutcome": "facts",
    "Submission": "facts",
    "diagnose": "diagnosis",
}

__all__ = [
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


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
