"""The requester API as a whole: what of it a version serves."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from airflow_provider_bacalhau.devnode import unixfs
from airflow_provider_bacalhau.devnode.compute import Workshop
from airflow_provider_bacalhau.devnode.emulation import Emulation
from airflow_provider_bacalhau.devnode.generations import GENERATIONS, WITHDRAWN, Generation
from airflow_provider_bacalhau.devnode.legacy_jobs import RequesterJobs
from airflow_provider_bacalhau.devnode.orchestrator import Orchestrator
from airflow_provider_bacalhau.devnode.routes.requester import RequesterRoutes
from airflow_provider_bacalhau.devnode.routes.requester_bodies import echo, quoted
from airflow_provider_bacalhau.devnode.routes.requester_logs import RequesterLogs
from airflow_provider_bacalhau.devnode.routes.requester_node import RequesterNodeRoutes
from airflow_provider_bacalhau.devnode.store import Store

_GONE = (
    "This endpoint is deprecated. See the migration guide at "
    "https://docs.bacalhau.org/references/cli-reference/command-migration for more information"
)
# A libp2p public key: type RSA, 294 bytes. What is in it nobody looks at.
_KEY_HEADER, _KEY_SIZE = b"\x08\x00\x12\xa6\x02", 294


def peer_key(node_id: str) -> str:
    """What nodes that are named by their libp2p id show as their public key."""
    key = hashlib.shake_256(node_id.encode()).digest(_KEY_SIZE)
    return base64.b64encode(_KEY_HEADER + key).decode()


@dataclass(frozen=True, slots=True)
class RequesterParts:
    """What to serve, to be added before the routes of newer APIs.

    :param jobs: and ``handlers`` are None where the version has no requester API.
    """

    jobs: RequesterJobs | None
    handlers: RequesterRoutes | None
    routes: list[web.AbstractRouteDef]


def requester_parts(
    orchestrator: Orchestrator, store: Store, workshop: Workshop, emulation: Emulation
) -> RequesterParts:
    """The requester API of a version: whole, withdrawn, or nothing."""
    generation = GENERATIONS.get(emulation.version)
    if generation is None:
        return RequesterParts(None, None, _withdrawn_routes(emulation.version))
    blocks = workshop.blocks

    def pin(content: bytes) -> str:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            return unixfs.add_path(blocks, Path(file.name)).text

    jobs = RequesterJobs(orchestrator, store, generation, peer_key(orchestrator.nodes[0].id))
    handlers = RequesterRoutes(
        orchestrator, store, generation, oversubscription=emulation.oversubscription, jobs=jobs, pin=pin
    )
    node = RequesterNodeRoutes(orchestrator, emulation, generation, workshop.folder.parent)
    logs = RequesterLogs(store, generation, workshop.folder)
    return RequesterParts(jobs, handlers, [*handlers.routes(), *node.routes(), *logs.routes(), *_catch_all(generation)])


def _catch_all(generation: Generation) -> list[web.AbstractRouteDef]:
    """What answers where the requester API has nothing; it comes after everything else."""

    async def handle(_: web.Request) -> web.StreamResponse:
        return echo("Not Found", 404)

    if generation.is_first:
        return []
    return [web.route("*", prefix + "/{rest:.*}", handle) for prefix in generation.prefixes]


def _withdrawn_routes(version: str) -> list[web.AbstractRouteDef]:
    """The paths of a version that has withdrawn the requester API and says so; none where they are just gone."""

    async def handle(_: web.Request) -> web.StreamResponse:
        return quoted(_GONE, 410)

    if version not in WITHDRAWN:
        return []
    names = ("submit", "cancel", "list", "states", "results", "events", "debug")
    return [
        route
        for prefix in ("/requester", "/api/v1/requester")
        for route in (
            *(web.post(f"{prefix}/{name}", handle) for name in names),
            web.get(f"{prefix}/nodes", handle, allow_head=False),
        )
    ]
