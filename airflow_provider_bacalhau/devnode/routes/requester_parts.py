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
from airflow_provider_bacalhau.devnode.generations import GENERATIONS
from airflow_provider_bacalhau.devnode.orchestrator import Orchestrator
from airflow_provider_bacalhau.devnode.routes.requester import RequesterRoutes, catch_all, withdrawn_routes
from airflow_provider_bacalhau.devnode.routes.requester_logs import RequesterLogs
from airflow_provider_bacalhau.devnode.routes.requester_node import RequesterNodeRoutes
from airflow_provider_bacalhau.devnode.store import Store

# A libp2p public key: type RSA, 294 bytes. What is in it nobody looks at.
_KEY_HEADER, _KEY_SIZE = b"\x08\x00\x12\xa6\x02", 294


@dataclass(frozen=True, slots=True)
class RequesterParts:
    """What to serve, to be added before the routes of newer APIs.

    :param jobs: None where the version has no requester API.
    """

    jobs: RequesterRoutes | None
    routes: list[web.AbstractRouteDef]


def requester_parts(
    orchestrator: Orchestrator, store: Store, workshop: Workshop, emulation: Emulation
) -> RequesterParts:
    """The requester API of a version: whole, withdrawn, or nothing."""
    generation = GENERATIONS.get(emulation.version)
    if generation is None:
        return RequesterParts(None, withdrawn_routes(emulation.version))
    blocks = workshop.blocks

    def pin(content: bytes) -> str:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            return unixfs.add_path(blocks, Path(file.name)).text

    key = hashlib.shake_256(orchestrator.nodes[0].id.encode()).digest(_KEY_SIZE)
    jobs = RequesterRoutes(
        orchestrator,
        store,
        generation,
        oversubscription=emulation.oversubscription,
        public_key=base64.b64encode(_KEY_HEADER + key).decode(),
        pin=pin,
    )
    node = RequesterNodeRoutes(orchestrator, emulation, generation, workshop.folder.parent)
    logs = RequesterLogs(store, generation, workshop.folder)
    return RequesterParts(jobs, [*jobs.routes(), *node.routes(), *logs.routes(), *catch_all(generation)])
