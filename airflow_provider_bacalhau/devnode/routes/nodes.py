"""``/api/v1/orchestrator/nodes``: the compute nodes of the network."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from airflow_provider_bacalhau.devnode import godecode as go
from airflow_provider_bacalhau.devnode import wire
from airflow_provider_bacalhau.devnode.compute import ComputeNode
from airflow_provider_bacalhau.devnode.emulation import Emulation
from airflow_provider_bacalhau.devnode.orchestrator import Orchestrator
from airflow_provider_bacalhau.devnode.routes.errors import ApiError, internal_error, json_response
from airflow_provider_bacalhau.devnode.routes.paging import flag, natural
from airflow_provider_bacalhau.devnode.routes.reading import label_selector, read_body
from airflow_provider_bacalhau.devnode.selectors import matches

_NODE_ACTION = go.struct({"Action": go.string, "Message": go.string, "NodeID": go.string})
_NO_BUILD = {"GitVersion": "", "GitCommit": "", "BuildDate": "0001-01-01T00:00:00Z", "GOOS": "", "GOARCH": ""}


class NodeRoutes:
    """The handlers."""

    def __init__(self, orchestrator: Orchestrator, emulation: Emulation) -> None:
        self._orchestrator = orchestrator
        self._emulation = emulation
        self._started = time.time_ns()

    def routes(self) -> list[web.AbstractRouteDef]:
        """All routes of this part."""
        root = "/api/v1/orchestrator/nodes"
        return [
            web.get(root, self._nodes, allow_head=False),
            web.get(root + "/{id}", self._node, allow_head=False),
            web.put(root + "/{id}", self._update_node),
        ]

    async def _nodes(self, request: web.Request) -> web.Response:
        order = request.query.get("order_by", "")
        keys: Mapping[str, Any] = {
            "": lambda node: node.id,
            "id": lambda node: node.id,
            "type": lambda node: 0,
            "available_cpu": lambda node: -node.view().available.cpu,
            "available_memory": lambda node: -node.view().available.memory,
            "available_disk": lambda node: -node.view().available.disk,
            "available_gpu": lambda node: -node.view().available.gpu,
            "approval": lambda node: 0,
            "status": lambda node: 0,
        }
        requirements = label_selector(request)
        if order not in keys:
            raise ApiError(400, "invalid order_by")
        approval, status = (request.query.get(f"filter-{which}", "").upper() for which in ("approval", "status"))
        nodes = [node for node in self._orchestrator.nodes if matches(requirements, node.labels)]
        if approval not in {"", "APPROVED"} or status not in {"", "CONNECTED"}:
            nodes = []
        nodes.sort(key=keys[order], reverse=flag(request, "reverse"))
        limit = natural(request, "limit")
        shown = [self._node_json(node) for node in (nodes[:limit] if limit else nodes)]
        return json_response({"NextToken": "", "Nodes": shown})

    async def _node(self, request: web.Request) -> web.Response:
        return json_response({"Node": self._node_json(self._find_node(request.match_info["id"]))})

    async def _update_node(self, request: web.Request) -> web.Response:
        body = await read_body(request)
        wanted = _NODE_ACTION(go.parse_json(body) if body else None, "PutNodeRequest")
        if wanted["Action"] not in {"approve", "reject", "delete"}:
            raise internal_error()
        node = self._find_node(request.match_info["id"])
        if wanted["Action"] == "approve":
            raise ApiError(409, f"node {node.id} already approved", code="ConflictNodeState", component="NodesManager")
        raise ApiError(
            501, "the embedded node keeps its compute nodes", code="NotImplemented", component="NodesManager"
        )

    def _find_node(self, prefix: str) -> ComputeNode:
        found = [node for node in self._orchestrator.nodes if node.id.startswith(prefix)]
        exact = [node for node in found if node.id == prefix]
        found = exact or found
        if not found:
            raise ApiError(404, f"node not found: {prefix}", code="NotFound", component="NodesManager")
        if len(found) > 1:
            ids = " ".join(node.id for node in found)
            raise ApiError(
                409,
                f"multiple nodes found for prefix: {prefix}, matching IDs: [{ids}]",
                code="MultipleNodesFound",
                component="NodesManager",
            )
        return found[0]

    def _node_json(self, node: ComputeNode) -> dict[str, Any]:
        if self._emulation.node_shape == "peer":
            return wire.node_info_json(node, self._emulation)
        known = wire.node_state_json(node, self._started, time.time_ns(), self._emulation)
        if not self._emulation.has_config:  # the orchestrator was not told
            known["Info"]["BacalhauVersion"] = _NO_BUILD
        return known
