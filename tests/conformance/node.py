"""What the node under test can do, asked of it in plain HTTP so that no mistake of the client hides here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION_PART = re.compile(r"([\d.]+)(h|ms|m|s|us|µs|ns)")
_UNKNOWN_BACKOFF = 60.0


@dataclass(frozen=True)
class NodeUnderTest:
    """A Bacalhau network behind one API.

    :param url: address without ``/api/v1``.
    :param gateway: address of an IPFS gateway that serves its results; empty for none.
    :param nodes: compute nodes that are connected and approved, as the API shows them.
    :param queue_backoff: seconds between two looks at a queued job.
    :param default_publisher: what batch jobs that name no publisher get; empty for none.
    :param local_folder: a folder here whose folders jobs may read in place; empty for none.
    :param queues: whether a job may wait for a node (from v1.3.2 on).
    :param is_modern: whether a job that waits says so, and a WebAssembly program that takes too long is ended (from
        v1.4.0 on).
    """

    url: str
    gateway: str
    nodes: tuple[Mapping[str, Any], ...]
    queue_backoff: float
    default_publisher: str
    local_folder: str = ""
    queues: bool = True
    is_modern: bool = True

    @classmethod
    def ask(cls, url: str, gateway: str = "") -> NodeUnderTest:
        nodes = requests.get(f"{url}/api/v1/orchestrator/nodes", timeout=10).json()["Nodes"]
        ready = tuple(
            node.get("Info", node)  # bare up to v1.3.0, where every listed node takes jobs
            for node in nodes
            if node.get("Info", node)["NodeType"] == "Compute"
            and node.get("Connection", "CONNECTED") == "CONNECTED"
            and node.get("Membership", "APPROVED") == "APPROVED"
        )
        answer = requests.get(f"{url}/api/v1/agent/config", timeout=10)
        config = answer.json()["config"] if answer.ok else {}
        version = requests.get(f"{url}/api/v1/agent/version", timeout=10).json()["GitVersion"]
        return cls(
            url,
            gateway,
            ready,
            _queue_backoff(config),
            _default_publisher(config),
            _local_folder(config),
            queues=not re.match(r"v1\.([12]\.|3\.[01]\b)", version),
            is_modern=not re.match(r"v1\.[123]\.", version),
        )

    def why_not(
        self,
        *,
        engine: str = "",
        publisher: str = "",
        source: str = "",
        compute_nodes: int = 0,
        queue_backoff: float | None = None,
        gateway: bool = False,
        same_machine: bool = False,
        no_default_publisher: bool = False,
        local_folder: bool = False,
        queue: bool = False,
        modern: bool = False,
    ) -> str:
        """Why a test with these needs cannot be run here; empty when it can."""
        if engine and engine not in self.offers("ExecutionEngines"):
            return f"no compute node has the engine {engine!r}"
        if publisher and publisher not in self.offers("Publishers"):
            return f"no compute node has the publisher {publisher!r}"
        if source and source.lower() not in self.offers("StorageSources"):
            return f"no compute node reads inputs of type {source!r}"
        if len(self.nodes) < compute_nodes:
            return f"it takes {compute_nodes} compute nodes, and there are {len(self.nodes)}"
        if queue_backoff is not None and self.queue_backoff > queue_backoff:
            return f"queued jobs are looked at every {self.queue_backoff:g} s only; it takes {queue_backoff:g} or less"
        if queue and not self.queues:
            return "here a job that finds no node fails at once"
        if modern and not self.is_modern:
            return "here a job that waits is Running, and a WebAssembly program runs on when its time is up"
        if gateway and not self.gateway:
            return "there is no IPFS gateway (BACALHAU_TEST_IPFS_GATEWAY)"
        if same_machine and urlsplit(self.url).hostname != "127.0.0.1":
            return "the node may be on another machine, which cannot reach a server of this one"
        if local_folder and not self.local_folder:
            return "the node shares no folder of this machine with its jobs"
        if no_default_publisher and self.default_publisher:
            return f"jobs that name no publisher get the publisher {self.default_publisher!r}"
        return ""

    def offers(self, what: str) -> set[str]:
        """What every compute node has: ``ExecutionEngines``, ``Publishers`` or ``StorageSources``, in lower case."""
        sets = [{word.lower() for word in node["ComputeNodeInfo"][what]} for node in self.nodes]
        return set.intersection(*sets) if sets else set()

    @property
    def publisher(self) -> str:
        """A publisher that keeps results."""
        kept = [name for name in ("local", "ipfs") if name in self.offers("Publishers")]
        return kept[0] if kept else "noop"


def _queue_backoff(config: Mapping[str, Any]) -> float:
    if not config:
        return _UNKNOWN_BACKOFF
    text = config["Orchestrator"]["Scheduler"]["QueueBackoff"]
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text))


def _default_publisher(config: Mapping[str, Any]) -> str:
    task = config.get("JobDefaults", {}).get("Batch", {}).get("Task", {})
    return str(task.get("Publisher", {}).get("Type", ""))


def _local_folder(config: Mapping[str, Any]) -> str:
    """The first allowed pattern of the form ``/folder/*`` or ``/folder/**`` that names a folder of this machine."""
    for entry in config.get("Compute", {}).get("AllowListedLocalPaths") or ():
        folder, _, rest = entry.removesuffix(":rw").removesuffix(":ro").rpartition("/")
        if rest in {"*", "**"} and Path(folder).is_dir():
            return folder
    return ""
