"""``/api/v1/agent``: what the node says of itself, and the redirects of old health checks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from airflow_provider_bacalhau.devnode import wire
from airflow_provider_bacalhau.devnode.emulation import Emulation
from airflow_provider_bacalhau.devnode.jobspec import DEFAULT_RESOURCES
from airflow_provider_bacalhau.devnode.orchestrator import Orchestrator
from airflow_provider_bacalhau.devnode.routes.errors import Handler, json_response
from airflow_provider_bacalhau.devnode.users import masked

_REDIRECTS = {"/": "/api/v1/agent/version", "/version": "/api/v1/agent/version", "/livez": "/api/v1/agent/alive"}


class AgentRoutes:
    """The handlers.

    :param queue_backoff: seconds, as shown in the configuration.
    :param data_dir: folder of the node, as shown in the configuration.
    :param users: as shown in the configuration.
    """

    def __init__(
        self,
        orchestrator: Orchestrator,
        emulation: Emulation,
        *,
        queue_backoff: float,
        data_dir: str,
        allowed_paths: list[str],
        users: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._users = masked(users)
        self._orchestrator = orchestrator
        self._emulation = emulation
        self._queue_backoff = queue_backoff
        self._data_dir = data_dir
        self._allowed_paths = allowed_paths
        self._started = time.time_ns()
        self.port = 0

    def routes(self) -> list[web.AbstractRouteDef]:
        """All routes of this part."""
        agent = "/api/v1/agent"
        handlers: dict[str, Handler] = {
            f"{agent}/alive": self._alive,
            f"{agent}/version": self._version,
            f"{agent}/node": self._node,
        }
        if self._emulation.has_auth:
            handlers[f"{agent}/debug"] = self._debug
        if self._emulation.has_config:
            handlers[f"{agent}/config"] = self._config
        if self._emulation.has_auth_config:
            handlers[f"{agent}/authconfig"] = self._auth_config
            handlers |= dict.fromkeys(_REDIRECTS, self._redirect)
        return [web.get(path, handler, allow_head=False) for path, handler in handlers.items()]

    async def _alive(self, _: web.Request) -> web.Response:
        return json_response({"Status": "OK"})

    async def _version(self, _: web.Request) -> web.Response:
        return json_response(self._emulation.build_info)

    async def _node(self, _: web.Request) -> web.Response:
        node, emulation = self._orchestrator.nodes[0], self._emulation
        if emulation.agent_shape == "state":
            return json_response(wire.node_state_json(node, self._started, time.time_ns(), emulation))
        return json_response(wire.node_info_json(node, emulation))

    async def _debug(self, _: web.Request) -> web.Response:
        return json_response({"AvailableNodes": [wire.node_info_json(node) for node in self._orchestrator.nodes]})

    async def _auth_config(self, _: web.Request) -> web.Response:
        return json_response({"Version": "1.0.0", "Config": {}})

    async def _redirect(self, request: web.Request) -> web.Response:
        return web.Response(status=301, headers={"Location": _REDIRECTS[request.path]})

    async def _config(self, _: web.Request) -> web.Response:
        batch = {"Task": {"Resources": dict(DEFAULT_RESOURCES), "Publisher": {}, "Timeouts": {}}}
        service = {"Task": {"Resources": dict(DEFAULT_RESOURCES)}}
        config = {
            "API": {
                "Host": "127.0.0.1",
                "Port": self.port,
                "TLS": {"Insecure": False},
                "Auth": {
                    "Methods": {"ClientKey": {"Type": "challenge"}},
                    **({"Users": self._users} if self._users else {}),
                    "Oauth2": {},
                },
            },
            "NameProvider": "puuid",
            "DataDir": self._data_dir,
            "Orchestrator": {
                "Enabled": True,
                "Host": "127.0.0.1",
                "Auth": {},
                "TLS": {},
                "Cluster": {},
                "NodeManager": {"DisconnectTimeout": "1m0s"},
                "Scheduler": {"WorkerCount": 1, "QueueBackoff": go_duration(self._queue_backoff)},
            },
            "Compute": {
                "Enabled": True,
                "Auth": {},
                "AllowListedLocalPaths": self._allowed_paths,
                "TLS": {},
                "Env": {},
            },
            "InputSources": {"Types": {"IPFS": {}}},
            "Publishers": {
                "Types": {"IPFS": {}, "S3": {}, "S3Managed": {}, "Local": {"Address": "127.0.0.1", "Port": self.port}}
            },
            "Engines": {"Disabled": ["docker"], "Types": {"Docker": {}, "WASM": {}}},
            "ResultDownloaders": {"Types": {"IPFS": {}}},
            "JobDefaults": {"Batch": batch, "Ops": batch, "Daemon": service, "Service": service},
            "JobAdmissionControl": {"Locality": "anywhere"},
            "Logging": {"Level": "info", "Mode": "default"},
            "UpdateConfig": {},
            "FeatureFlags": {},
            "DisableAnalytics": True,
        }
        return json_response({"config": config})


def go_duration(seconds: float) -> str:
    """Seconds as the configuration words them: ``1s``, ``1m0s``, ``250ms``."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds / 1000, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
