"""The embedded node for ordinary code: a server on a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from airflow_provider_bacalhau.devnode.faults import Faults
from airflow_provider_bacalhau.devnode.server import NodeServer
from airflow_provider_bacalhau.devnode.settings import NodeSettings


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
        settings = NodeSettings.checked(
            emulate=emulate,
            data_dir=data_dir,
            nodes=nodes,
            queue_backoff=queue_backoff,
            port=port,
            allow_local_paths=allow_local_paths,
            users=users,
        )
        self._server = NodeServer(settings)
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

    @property
    def faults(self) -> Faults:
        """The rules by which the node spoils its answers; none at first."""
        return self._server.faults

    @property
    def token(self) -> str:
        """What ``/devnode/faults`` and ``/devnode/restart`` want as a Bearer token; another one for each node."""
        return self._server.token

    def restart(self, *, forget: bool = False, away: float = 0.0) -> None:
        """Restart the node on its port and its folder, as a crash would; done when it serves again.

        Connections break. Programs that ran are gone; their executions fail with ``Failing due to node restart``
        and new ones start from the beginning. Rules stay as they are.

        :param forget: as a node that lost its records: all jobs are unknown, what they published stays.
        :param away: seconds in which connections are refused.
        :raises RuntimeError: the node does not run.
        """
        if self._loop is None or not self._thread.is_alive():
            raise RuntimeError("the node does not run")
        asyncio.run_coroutine_threadsafe(self._server.restart(forget=forget, away=away), self._loop).result()

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
