"""The requester API without any client of ours between: specs in its raw form, requests, waiting."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests

from airflow_provider_bacalhau.devnode import DevNode

from .requester_replay import Client
from .specs import data_url, module

OVER = {"Completed", "CompletedPartially", "Error", "Cancelled"}


def wasm_spec(*parameters: str, **changes: Any) -> dict[str, Any]:
    """A ``Spec`` that every version takes; a change to None takes a key away."""
    entry = {"StorageSource": "Inline", "Name": "entry", "URL": data_url(module("exitn.wasm"))}
    spec = {
        "Engine": "Wasm",
        "Verifier": "Noop",
        "Publisher": "ipfs",
        "PublisherSpec": {"Type": "ipfs"},
        "Wasm": {"EntryModule": entry, "EntryPoint": "_start", "Parameters": list(parameters or ["0"])},
        "Deal": {"Concurrency": 1},
        **changes,
    }
    return {key: value for key, value in spec.items() if value is not None}


class Requester:
    """One client of one node."""

    def __init__(self, node: DevNode, key: Client, prefix: str = "/requester") -> None:
        self.node = node
        self.key = key
        self.prefix = prefix

    def ask(self, operation: str, body: Any = None, **options: Any) -> requests.Response:
        how = {"json": body} if isinstance(body, Mapping) else {"data": body}
        method = options.pop("method", "POST")
        return requests.request(method, f"{self.node.api}{self.prefix}/{operation}", timeout=20, **how, **options)

    def submit(self, spec: dict[str, Any], **payload: Any) -> requests.Response:
        return self.ask("submit", self.key.envelope({"APIVersion": "V1beta2", "Spec": spec, **payload}))

    def start(self, spec: dict[str, Any]) -> str:
        answer = self.submit(spec)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["job"]["Metadata"]["ID"])

    def cancel(self, job_id: str) -> requests.Response:
        return self.ask("cancel", self.key.envelope({"JobID": job_id, "Reason": "enough"}))

    def about(self, operation: str, job_id: str, **more: Any) -> requests.Response:
        return self.ask(operation, {"client_id": self.key.id, "job_id": job_id, **more})

    def listed(self, **question: Any) -> list[str]:
        return [item["Job"]["Metadata"]["ID"] for item in self.ask("list", question).json()["jobs"]]

    def wait(self, job_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while (state := self.about("states", job_id).json()["state"])["State"] not in OVER:
            assert time.monotonic() < deadline, state
            time.sleep(0.01)
        return dict(state)

    def run(self, spec: dict[str, Any]) -> dict[str, Any]:
        return self.wait(self.start(spec))


@contextmanager
def emulated(version: str, key: Client, **options: Any) -> Iterator[Requester]:
    with DevNode(emulate=version, queue_backoff=0.05, **options) as node:
        yield Requester(node, key)
