"""What servers with the requester API say of themselves: ``/version``, ``/id``, ``/livez``, ``/node_info``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from aiohttp import web

from airflow_provider_bacalhau.devnode.compute import ENGINES, ComputeNode
from airflow_provider_bacalhau.devnode.emulation import Emulation
from airflow_provider_bacalhau.devnode.generations import Generation
from airflow_provider_bacalhau.devnode.inputs import STORAGES
from airflow_provider_bacalhau.devnode.orchestrator import Orchestrator
from airflow_provider_bacalhau.devnode.publishers import PUBLISHERS
from airflow_provider_bacalhau.devnode.routes.requester_bodies import answer

_NO_VERSION = {"GitVersion": "", "GitCommit": "", "BuildDate": "0001-01-01T00:00:00Z", "GOOS": "", "GOARCH": ""}
_FIRST_NAMES = {
    "wasm": "Wasm", "ipfs": "Ipfs", "noop": "Noop", "urldownload": "URLDownload", "inline": "Inline",
    "localdirectory": "LocalDirectory",
}  # fmt: skip


class RequesterNodeRoutes:
    """The handlers.

    :param folder: where free space is looked for.
    """

    def __init__(self, orchestrator: Orchestrator, emulation: Emulation, generation: Generation, folder: Path) -> None:
        self._orchestrator = orchestrator
        self._emulation = emulation
        self._generation = generation
        self._folder = folder

    def routes(self) -> list[web.AbstractRouteDef]:
        """All routes of this part."""
        first = self._generation.is_first
        handlers = {
            "version": ("POST", self._version),
            "id": ("GET", self._id),
            "livez": ("GET", self._livez),
            "healthz": ("GET", self._healthz),
            "node_info": ("GET", self._node_info),
        }
        if self._generation.names_key:
            handlers["peers"] = ("GET", self._peers)
        routes: list[web.AbstractRouteDef] = [
            web.route("*" if first else method, f"{root}/{name}", handler)
            for root in self._generation.roots
            for name, (method, handler) in handlers.items()
        ]
        if not first:
            routes += [web.route("GET", prefix + "/nodes", self._nodes) for prefix in self._generation.prefixes]
        return routes

    async def _version(self, _: web.Request) -> web.Response:
        return answer({"build_version_info": self._build_info()}, self._generation)

    async def _id(self, _: web.Request) -> web.Response:
        name = self._orchestrator.nodes[0].id
        return answer(name, self._generation) if self._generation.is_first else _text(name)

    async def _livez(self, _: web.Request) -> web.Response:
        return _text("OK")

    async def _healthz(self, _: web.Request) -> web.Response:
        usage = shutil.disk_usage(self._folder)
        space = {"All": usage.total, "Used": usage.used, "Free": usage.free}
        mounts = {"IPFSMount": dict.fromkeys(space, 0), "tmp": space, "root": space}
        response = answer({"FreeSpace": mounts}, self._generation)
        response.headers["Content-Type"] = "application/json"
        return response

    async def _peers(self, _: web.Request) -> web.Response:
        return answer([], self._generation)

    async def _node_info(self, _: web.Request) -> web.Response:
        return answer(self._node_json(self._orchestrator.nodes[0], self._build_info()), self._generation)

    async def _nodes(self, _: web.Request) -> web.Response:
        # The last generation knows of other nodes only what they can do.
        build = self._build_info() if self._generation.names_key else _NO_VERSION
        return answer([self._node_json(node, build) for node in self._orchestrator.nodes], self._generation)

    def _build_info(self) -> dict[str, str]:
        info = self._emulation.build_info
        return {key.lower(): value for key, value in info.items()} if self._generation.is_first else info

    def _node_json(self, node: ComputeNode, build: dict[str, str]) -> dict[str, Any]:
        peer = {"PeerInfo": {"ID": node.id, "Addrs": []}}
        compute = self._compute_json(node)
        if self._generation.is_first:
            return {"BacalhauVersion": build, **peer, "NodeType": 1, "Labels": node.labels, "ComputeNodeInfo": compute}
        about = {"NodeType": "Compute", "Labels": node.labels, "ComputeNodeInfo": compute, "BacalhauVersion": build}
        if self._generation.names_key:
            return {**peer, **about}
        return {"Info": {"NodeID": node.id, **about}, "Membership": "APPROVED", "Connection": "CONNECTED"}

    def _compute_json(self, node: ComputeNode) -> dict[str, Any]:
        view, first = node.view(), self._generation.is_first
        running, enqueued = node.counts()
        capacity = view.capacity.as_json()
        publishers = [name for name in PUBLISHERS if name in {"ipfs", "noop"} or not self._generation.names_key]
        storages = [name for name in STORAGES if name != "local"]

        def named(names: Any) -> list[str]:
            return [_FIRST_NAMES[name] if first else name for name in names]

        return {
            "ExecutionEngines": named(ENGINES),
            **({"Verifiers": ["Noop"]} if first else {}),
            "Publishers": named(name for name in publishers if name != "s3managed"),
            "StorageSources": ["IPFS" if name == "Ipfs" else name for name in named(storages)],
            "MaxCapacity": capacity,
            **({} if self._generation.names_key else {"QueueCapacity": view.queued.as_json()}),
            "AvailableCapacity": view.available.as_json(),
            "MaxJobRequirements": capacity,
            "RunningExecutions": running,
            "EnqueuedExecutions": enqueued,
        }


def _text(text: str) -> web.Response:
    return web.Response(body=text.encode(), headers={"Content-Type": "text/plain"})
