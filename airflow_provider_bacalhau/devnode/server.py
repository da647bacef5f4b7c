"""The embedded node as a whole: what it is made of, how it starts, starts again and ends."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import shutil
import socket
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aiohttp import web

from airflow_provider_bacalhau.devnode.blocks import BlockStore
from airflow_provider_bacalhau.devnode.compute import ComputeNode, Workshop
from airflow_provider_bacalhau.devnode.engine import WasmEngine
from airflow_provider_bacalhau.devnode.faults import Faults
from airflow_provider_bacalhau.devnode.gateway import Archives, Gateway, drop_extra_headers
from airflow_provider_bacalhau.devnode.generations import GENERATIONS
from airflow_provider_bacalhau.devnode.inputs import Inputs
from airflow_provider_bacalhau.devnode.orchestrator import Orchestrator
from airflow_provider_bacalhau.devnode.publishers import Publishers
from airflow_provider_bacalhau.devnode.records import SECOND
from airflow_provider_bacalhau.devnode.resources import Resources
from airflow_provider_bacalhau.devnode.routes.agent import AgentRoutes
from airflow_provider_bacalhau.devnode.routes.auth import AuthRoutes
from airflow_provider_bacalhau.devnode.routes.errors import guard
from airflow_provider_bacalhau.devnode.routes.faults import FaultRoutes, spoil
from airflow_provider_bacalhau.devnode.routes.nodes import NodeRoutes
from airflow_provider_bacalhau.devnode.routes.orchestrator import OrchestratorRoutes
from airflow_provider_bacalhau.devnode.routes.requester_first import first_guard
from airflow_provider_bacalhau.devnode.routes.requester_parts import peer_key, requester_parts
from airflow_provider_bacalhau.devnode.scheduler import Settings
from airflow_provider_bacalhau.devnode.settings import NodeSettings
from airflow_provider_bacalhau.devnode.store import Store, sole_use

log = logging.getLogger(__name__)

_MINIMUM_CPU = 4.0
_SHARE = 0.8
_SCANNERS = 4
_RUNNERS = 256
_ADDRESS = "127.0.0.1"
_DATABASE = "node.sqlite"
_TURNS_TO_ACCEPT = 3


class NodeServer:
    """A node on the running event loop. Use :class:`.node.DevNode` from ordinary code."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self.emulation = settings.emulation
        self._closing = contextlib.AsyncExitStack()
        self._running = contextlib.AsyncExitStack()
        self._changing = asyncio.Lock()
        self._restarts: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self.faults = Faults()
        self.token = secrets.token_urlsafe(24)
        self.data_dir = Path()
        self.url = ""

    async def start(self) -> None:
        """Serve.

        :raises OSError: the port or the folder cannot be used, or another node uses it.
        """
        async with contextlib.AsyncExitStack() as stack:
            self._take_folder(stack)
            await self._run(_bound_socket(self._settings.port))
            stack.push_async_callback(self._end)
            self._closing = stack.pop_all()

    async def restart(self, *, forget: bool = False, away: float = 0.0) -> None:
        """See :meth:`.node.DevNode.restart`."""
        async with self._changing:
            if self._over.is_set():
                return
            # Bound but not listening: who connects meanwhile is refused, and nobody else gets the port.
            held = await self._hang_up()
            try:
                await self._end()
                if forget:
                    for file in self.data_dir.glob(_DATABASE + "*"):
                        file.unlink()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._over.wait(), away)
                    held.close()
                    return
                await self._run(held)
            except BaseException:
                held.close()
                raise

    async def _hang_up(self) -> socket.socket:
        """Accept no connections any more and break those that there are.

        :returns: another socket on the same port.
        """
        # A connection that asyncio accepted takes some turns until it is known; closing the socket before that leaves
        # it open for ever, without anybody who reads it.
        asyncio.get_running_loop().remove_reader(self._socket)
        for _ in range(_TURNS_TO_ACCEPT):
            await asyncio.sleep(0)
        runner = self._runner
        port = self._socket.getsockname()[1]
        for site in list(runner.sites):
            await site.stop()
        held = _bound_socket(port)
        for connection in runner.server.connections if runner.server else ():
            if connection.transport is not None and not connection.transport.is_closing():
                connection.transport.abort()
        return held

    def restart_soon(self, *, forget: bool = False, away: float = 0.0) -> None:
        """Restart, but not before whoever asks for it is done."""
        task = asyncio.get_running_loop().create_task(self.restart(forget=forget, away=away))
        self._restarts.add(task)
        task.add_done_callback(self._restarted)

    def _restarted(self, task: asyncio.Task[None]) -> None:
        self._restarts.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the node could not start again", exc_info=error)

    async def close(self) -> None:
        """End everything that runs and stop serving; programs are stopped, not waited for."""
        self._over.set()
        async with self._changing:
            await self._closing.aclose()

    def _take_folder(self, stack: contextlib.AsyncExitStack) -> None:
        if self._settings.folder is None:
            self.data_dir = Path(tempfile.mkdtemp(prefix="bacalhau-devnode-"))
            stack.callback(shutil.rmtree, self.data_dir, ignore_errors=True)
        else:
            self.data_dir = Path.cwd() / self._settings.folder
            self.data_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(sole_use(self.data_dir))

    async def _run(self, listening: socket.socket) -> None:
        """Serve what the folder holds, on a socket that is bound to its port."""
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(listening.close)
            store = Store(self.data_dir / _DATABASE, unique_names=self.emulation.unique_names)
            stack.callback(store.close)
            workshop = self._workshop(stack)
            orchestrator = self._orchestrator(store, workshop)
            stack.callback(orchestrator.close)
            await self._serve(stack, orchestrator, store, workshop, listening)
            orchestrator.resume()
            self._running = stack.pop_all()

    async def _end(self) -> None:
        await self._running.aclose()

    def _workshop(self, stack: contextlib.AsyncExitStack) -> Workshop:
        runs = self.data_dir / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        blocks = BlockStore(self.data_dir / "blocks")
        engine = WasmEngine(needs_names=self.emulation.needs_name_section)
        stack.callback(engine.close)
        pools = [
            ThreadPoolExecutor(size, thread_name_prefix=f"devnode-{name}")
            for name, size in (("scan", _SCANNERS), ("run", _RUNNERS))
        ]
        for pool in pools:
            stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        return Workshop(
            engine=engine,
            inputs=Inputs(blocks, self._settings.allowed_paths),
            publishers=Publishers(blocks, self.data_dir / "archives"),
            emulation=self.emulation,
            folder=runs,
            blocks=blocks,
            scanners=pools[0],
            runners=pools[1],
        )

    def _orchestrator(self, store: Store, workshop: Workshop) -> Orchestrator:
        generation = GENERATIONS.get(self.emulation.version)
        new_id = generation.new_node_id if generation else lambda: f"n-{uuid.uuid4()}"
        ids = [store.meta(f"node-{number}", new_id) for number in range(self._settings.nodes)]
        meta = {"bacalhau.org/requester.id": ids[0]}
        if self.emulation.node_shape == "peer":
            meta["bacalhau.org/requester.publicKey"] = peer_key(ids[0])
        if self.emulation.has_config:
            meta["bacalhau.org/orchestrator.id"] = ids[0]
            meta["bacalhau.org/server.instance.id"] = hashlib.sha256(ids[0].encode()).hexdigest()
        settings = Settings(
            round(self._settings.queue_backoff * SECOND),
            self.emulation.oversubscription,
            has_queue=self.emulation.has_queue,
            tells_reason=self.emulation.tells_reason,
        )
        orchestrator = Orchestrator(store, settings, meta)
        capacity = host_capacity(self.data_dir)
        loop = asyncio.get_running_loop()
        for node_id in ids:
            orchestrator.connect(ComputeNode(node_id, capacity, workshop, orchestrator.reports, loop))
        return orchestrator

    async def _serve(
        self,
        stack: contextlib.AsyncExitStack,
        orchestrator: Orchestrator,
        store: Store,
        workshop: Workshop,
        listening: socket.socket,
    ) -> None:
        jobs = OrchestratorRoutes(orchestrator, store, self.emulation)
        agent = AgentRoutes(
            orchestrator,
            self.emulation,
            queue_backoff=self._settings.queue_backoff,
            data_dir=str(self.data_dir),
            allowed_paths=self._settings.allowed_paths,
            users=self._settings.user_entries,
        )
        requester = requester_parts(orchestrator, store, workshop, self.emulation)
        generation = GENERATIONS.get(self.emulation.version)
        is_first = generation is not None and generation.is_first
        middleware = first_guard() if is_first else guard(self.emulation, self._settings.users)
        spoiling = spoil(self.faults, self.emulation, self.restart_soon)
        app = web.Application(middlewares=[spoiling, middleware], client_max_size=self.emulation.body_limit + 1)
        app.add_routes(FaultRoutes(self.faults, self.token, self.restart_soon).routes())
        app.add_routes(requester.routes)
        auth = AuthRoutes(orchestrator.nodes[0].id, self.emulation, offers_challenge=not self._settings.users)
        parts = () if is_first else (jobs, NodeRoutes(orchestrator, self.emulation), agent, auth)
        for part in (*parts, Gateway(workshop.blocks), Archives(self.data_dir / "archives")):
            app.add_routes(part.routes())
        app.on_response_prepare.append(drop_extra_headers)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handle_signals=False)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        self._socket, self._runner = listening, runner
        await web.SockSite(runner, listening).start()
        port = runner.addresses[0][1]
        self.url = f"http://{_ADDRESS}:{port}"
        jobs.base, agent.port = self.url, port
        if requester.jobs is not None and requester.handlers is not None:
            requester.jobs.base = self.url
            requester.handlers.resume()
            stack.callback(requester.handlers.close)


def _bound_socket(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((_ADDRESS, port))
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"port {port} cannot be used: {str(error.strerror).lower()}") from None
    return bound


def host_capacity(folder: Path) -> Resources:
    """What each emulated compute node has to give: 80 % of the machine, as a real node takes, and at least four cores.

    Programs on a laptop are small and many; a machine of two cores would otherwise run three at a time.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Resources(
        cpu=round(max(_MINIMUM_CPU, _SHARE * (os.cpu_count() or 1)), 2),
        memory=int(_SHARE * memory),
        disk=int(_SHARE * shutil.disk_usage(folder).free),
    )
