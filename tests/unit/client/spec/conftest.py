from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def workloads() -> Path:
    return Path(__file__).parents[4] / "example_dags" / "workloads"


@pytest.fixture(scope="session")
def word_count(workloads: Path) -> bytes:
    """A real module, with names."""
    return (workloads / "wc.wasm").read_bytes()


@pytest.fixture(scope="session")
def word_count_url(word_count: bytes) -> str:
    return "data:application/wasm;base64," + base64.b64encode(word_count).decode()


@pytest.fixture
def docker() -> Callable[..., dict[str, Any]]:
    """Makes a small valid Docker job, with other keys of the job or of its task."""

    def make(job: dict[str, Any] | None = None, **task: Any) -> dict[str, Any]:
        engine = {"Type": "docker", "Params": {"Image": "alpine:3.20"}}
        return {"Type": "batch", "Tasks": [{"Name": "main", "Engine": engine, **task}], **(job or {})}

    return make


@pytest.fixture
def wasm(word_count_url: str) -> Callable[..., dict[str, Any]]:
    """Makes a WebAssembly job in the newer shape, with other keys of its task or parameters of its engine."""

    def make(params: dict[str, Any] | None = None, **task: Any) -> dict[str, Any]:
        module = {"Source": {"Type": "inline", "Params": {"URL": word_count_url}}, "Target": "/mod/wc.wasm"}
        engine = {"Type": "wasm", "Params": {"EntryModule": "/mod/wc.wasm", **(params or {})}}
        inputs = [module, *task.pop("InputSources", [])]
        return {"Type": "batch", "Tasks": [{"Name": "main", "Engine": engine, "InputSources": inputs, **task}]}

    return make


@pytest.fixture
def old_wasm(word_count_url: str) -> Callable[..., dict[str, Any]]:
    """Makes the same job in the shape of servers up to v1.6."""

    def make(params: dict[str, Any] | None = None, **task: Any) -> dict[str, Any]:
        module = {"Source": {"Type": "inline", "Params": {"URL": word_count_url}}, "Target": "/mod/wc.wasm"}
        engine = {"Type": "wasm", "Params": {"EntryModule": module, "EntryPoint": "_start", **(params or {})}}
        return {"Type": "batch", "Tasks": [{"Name": "main", "Engine": engine, **task}]}

    return make
