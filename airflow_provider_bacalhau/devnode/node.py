"""The embedded node as a whole: what it is made of, and how it starts and ends."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeGuard

from aiohttp import web

from airflow_provider_bacalhau.devnode.blocks import BlockStore
from airflow_provider_bacalhau.devnode.compute import ComputeNode, Workshop
from airflow_provider_bacalhau.devnode.emulation import Emulation, emulation
from airflow_provider_bacalhau.devnode.engine import WasmEngine
from airflow_provider_bacalhau.devnode.gateway import Archives, Gateway, drop_extra_headers
from airflow_provider_bacalhau.devnode.generations import GENERATIONS
from airflow_provider_bacalhau.devnode.inputs import Inputs, read_allowed_path
from airflow_provider_bacalhau.devnode.orchestrator import Orchestrator
from airflow_provider_bacalhau.devnode.publishers import Publishers
from airflow_provider_bacalhau.devnode.resources import Resources
from airflow_provider_bacalhau.devnode.routes.agent import AgentRoutes
from airflow_provider_bacalhau.devnode.routes.auth import AuthRoutes
from airflow_provider_bacalhau.devnode.routes.errors import guard
from airflow_provider_bacalhau.devnode.routes.orchestrator import OrchestratorRoutes
from airflow_provider_bacalhau.devnode.routes.requester_first import first_guard
from airflow_provider_bacalhau.devnode.routes.requester_parts import peer_key, requester_parts
from airflow_provider_bacalhau.devnode.scheduler import SECOND, Settings
from airflow_provider_bacalhau.devnode.store import Store, sole_use
from airflow_provider_bacalhau.devnode.users import read_users

_MINIMUM_CPU = 4.0
_SHARE = 0.8
_SCANNERS = 4
_RUNNERS = 256
_ADDRESS = "127.0.0.1"
_LAST_PORT = 65535


class SettingError(ValueError):
    """A setting that a node cannot have. The message begins with its name.

    :param setting: the keyword argument.
    :param complaint: the sentence that goes on from there.
    """

    def __init__(self, setting: str, complaint: str) -> None:
        super().__init__(f"{setting} {complaint}")
        self.setting = setting
        self.complaint = complaint


class NodeServer:
    """A node on the running event loop. Use :class:`DevNode` from ordinary code.

    :param data_dir: folder that outlives the node; None for one that does not.
    :param nodes: compute nodes of the emulated network.
    :param queue_backoff: seconds between two looks at a queued job.
    :param allow_local_paths: globs of host paths that jobs may read, with ``:rw`` at the end also write.
    :param users: see :class:`DevNode`.
    :raises SettingError: a setting that cannot be; :raises ValueError: a version that cannot be emulated, or users that
        it cannot have.
    """

    def __init__(
        self,
        *,
        emulate: str = "v1.9.3",
        data_dir: str | os.PathLike[str] | None = None,
        nodes: int = 1,
        queue_backoff: float = 1.0,
        port: int = 0,
        allow_local_paths: Sequence[str] = (),
        users: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.emulation: Emulation = emulation(emulate)
        self._port = _check_port(port)
        self._count = _check_nodes(nodes)
        self._queue_backoff = _check_seconds("queue_backoff", queue_backoff)
        self._allowed = _check_allowed(allow_local_paths)
        self._users_shown = list(users)
        self._users = read_users(users)
        if users and not self.emulation.users:
            raise ValueError(f"{emulate} has no built-in users")
        self._wanted_dir = None if data_dir is None else _check_folder(data_dir)
        self._closing = contextlib.AsyncExitStack()
        self.data_dir = Path()
        self.url = ""

    async def start(self) -> None:
        """Serve.

        :raises OSError: the port or the folder cannot be used, or another node uses it.
        """
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            self._closing = stack.pop_all()

    async def close(self) -> None:
        """End everything that runs and stop serving; programs are stopped, not waited for."""
        await self._closing.aclose()

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        if self._wanted_dir is None:
            self.data_dir = Path(tempfile.mkdtemp(prefix="bacalhau-devnode-"))
            stack.callback(shutil.rmtree, self.data_dir, ignore_errors=True)
        else:
            self.data_dir = Path.cwd() / self._wanted_dir
            self.data_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(sole_use(self.data_dir))
        store = Store(self.data_dir / "node.sqlite", unique_names=self.emulation.unique_names)
        stack.callback(store.close)
        workshop = self._workshop(stack)
        orchestrator = self._orchestrator(store, workshop)
        stack.callback(orchestrator.close)
        await self._serve(stack, orchestrator, store, workshop)
        orchestrator.resume()

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
            inputs=Inputs(blocks, self._allowed),
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
        ids = [store.meta(f"node-{number}", new_id) for number in range(self._count)]
        meta = {"bacalhau.org/requester.id": ids[0]}
        if self.emulation.node_shape == "peer":
            meta["bacalhau.org/requester.publicKey"] = peer_key(ids[0])
        if self.emulation.has_config:
            meta["bacalhau.org/orchestrator.id"] = ids[0]
            meta["bacalhau.org/server.instance.id"] = hashlib.sha256(ids[0].encode()).hexdigest()
        settings = Settings(
            round(self._queue_backoff * SECOND),
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
        self, stack: contextlib.AsyncExitStack, orchestrator: Orchestrator, store: Store, workshop: Workshop
    ) -> None:
        jobs = OrchestratorRoutes(orchestrator, store, self.emulation)
        agent = AgentRoutes(
            orchestrator,
            self.emulation,
            queue_backoff=self._queue_backoff,
            data_dir=str(self.data_dir),
            allowed_paths=self._allowed,
            users=self._users_shown,
        )
        requester = requester_parts(orchestrator, store, workshop, self.emulation)
        generation = GENERATIONS.get(self.emulation.version)
        is_first = generation is not None and generation.is_first
        middleware = first_guard() if is_first else guard(self.emulation, self._users)
        app = web.Application(middlewares=[middleware], client_max_size=self.emulation.body_limit + 1)
        app.add_routes(requester.routes)
        auth = AuthRoutes(orchestrator.nodes[0].id, self.emulation, offers_challenge=not self._users)
        parts = () if is_first else (jobs, agent, auth)
        for part in (*parts, Gateway(workshop.blocks), Archives(self.data_dir / "archives")):
            app.add_routes(part.routes())
        app.on_response_prepare.append(drop_extra_headers)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handle_signals=False)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, _ADDRESS, self._port)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"http://{_ADDRESS}:{port}"
        jobs.base, agent.port = self.url, port
        if requester.jobs is not None and requester.handlers is not None:
            requester.jobs.base = self.url
            requester.handlers.resume()
            stack.callback(requester.handlers.close)


class DevNode:
    """A Bacalhau node in this process, served on 127.0.0.1 by a thread of its own.

    ::

        with DevNode() as node:
            client = BacalhauClient(node.api)

    :param emulate: the server version to play.
    :param data_dir: folder for jobs, blocks and archives, which a later node on it finds again; without it they go with
        the node.
    :param nodes: compute nodes of the emulated network; a job of ``Count`` N needs N of them.
    :param queue_backoff: seconds between two looks at a queued job (60 on a real node); shown in ``/agent/config``.
    :param port: 0 for a free one.
    :param allow_local_paths: globs of host paths that jobs may read through ``local`` and ``localDirectory`` inputs;
        with ``:rw`` at the end also write.
    :param users: who may do what, as the server's ``API.Auth.Users`` words it (v1.7.0 and v1.9.3); without any,
        everybody may do everything.
    :raises ValueError: a setting that a node cannot have, named in the message.
    """

    def __init__(
        self,
        *,
        emulate: str = "v1.9.3",
        data_dir: str | os.PathLike[str] | None = None,
        nodes: int = 1,
        queue_backoff: float = 1.0,
        port: int = 0,
        allow_local_paths: Sequence[str] = (),
        users: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._server = NodeServer(
            emulate=emulate,
            data_dir=data_dir,
            nodes=nodes,
            queue_backoff=queue_backoff,
            port=port,
            allow_local_paths=allow_local_paths,
            users=users,
        )
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._main, name="devnode", daemon=True)

    @property
    def api(self) -> str:
        """Address of the API, without a path."""
        return self._server.url

    @property
    def gateway(self) -> str:
        """Address of the IPFS gateway, without a path."""
        return self._server.url

    @property
    def data_dir(self) -> Path:
        """Folder of the node."""
        return self._server.data_dir

    def start(self) -> Self:
        """Start serving; done when it serves.

        :raises OSError: the port or the folder cannot be used, or another node uses it.
        """
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def close(self) -> None:
        """End everything that runs and stop serving. Closing twice does nothing."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _main(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            await self._server.start()
        except BaseException as failure:  # noqa: BLE001 - it is raised again in the thread that waits
            self._failure = failure
            return
        finally:
            self._ready.set()
        await self._stop.wait()
        await self._server.close()


def _check_port(value: object) -> int:
    if not _is_whole(value) or not 0 <= value <= _LAST_PORT:
        raise SettingError("port", f"is a whole number from 0 to {_LAST_PORT}, not {value!r}")
    return value


def _check_nodes(value: object) -> int:
    if not _is_whole(value) or value < 1:
        raise SettingError("nodes", f"is a whole number, 1 or more, not {value!r}")
    return value


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_seconds(setting: str, value: object) -> float:
    # A server's durations are nanoseconds in 64 bits. With none at all the scheduler would do nothing but look.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value * SECOND < 1 << 63:
        raise SettingError(setting, f"is a number of seconds above 0 and below 9.2e9, not {value!r}")
    return value


def _check_folder(value: object) -> Path:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str) or not path or "\0" in path:
        raise SettingError("data_dir", f"is the path of a folder, not {value!r}")
    return Path(path)


def _check_allowed(value: object) -> list[str]:
    globs = None if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    if globs is None or not all(isinstance(glob, str) for glob in globs):
        raise SettingError("allow_local_paths", f"is a list of path globs (str), not {value!r}")
    for glob in globs:
        try:
            read_allowed_path(glob)
        except ValueError as error:
            raise SettingError("allow_local_paths", str(error)) from None
    return globs


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
