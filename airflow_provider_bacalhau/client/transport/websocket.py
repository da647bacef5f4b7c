"""Listens to a websocket until it ends or a time is over; with ``aiohttp``, for both clients.

Servers never read from the socket once it is open: they answer no ping and no farewell, so none is waited for.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from airflow_provider_bacalhau.client.effects import Failure, Request, TransportError
from airflow_provider_bacalhau.client.errors import (
    BacalhauError,
    NotAuthorised,
    NotSupported,
    ServerUnavailable,
)
from airflow_provider_bacalhau.client.settings import CONNECT_TIMEOUT, ClientSettings
from airflow_provider_bacalhau.client.transport import address, headers_of, proxy_for, tls_context

T = TypeVar("T")

MOST_BYTES = 1024 * 1024
"""Bound on one message."""

_FAREWELL = 0.1
_MOST_WAITING = 100


async def listen(
    settings: ClientSettings, request: Request, first_message: bytes, *, seconds: float
) -> AsyncGenerator[bytes, None]:
    """The messages that come, until the server ends them or the time is over.

    :param request: opens the websocket; only its target and headers count.
    :param first_message: sent first, as text; empty for nothing.
    :param seconds: for all of it.
    :raises TransportError: when there is no connection, or it breaks.
    :raises BacalhauError: when the server does not open a websocket there.
    """
    url = address(settings.url, request.target)
    proxy = proxy_for(url)
    context = await asyncio.to_thread(tls_context, settings) if url.startswith("https") else True
    end = asyncio.get_running_loop().time() + seconds
    connecting = aiohttp.ClientTimeout(total=None, sock_connect=min(CONNECT_TIMEOUT, seconds))
    async with aiohttp.ClientSession(trust_env=False, timeout=connecting) as session:
        try:
            async with asyncio.timeout_at(end):
                socket = await session.ws_connect(
                    URL(url, encoded=True),
                    headers=headers_of(request),
                    proxy=proxy,
                    ssl=context,
                    max_msg_size=MOST_BYTES,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_FAREWELL),
                )
                if first_message:
                    await socket.send_str(first_message.decode())
        except aiohttp.WSServerHandshakeError as error:
            raise _not_opened(request, error.status) from None
        except TimeoutError:
            return
        except (aiohttp.ClientError, OSError) as error:
            raise _broken(settings, error) from None
        # A message that is there already is taken without a pause, and without a pause no timeout strikes.
        while asyncio.get_running_loop().time() < end:
            try:
                async with asyncio.timeout_at(end):
                    message = await socket.receive()
            except TimeoutError:
                return
            if message.type is aiohttp.WSMsgType.TEXT:
                yield message.data.encode()
            elif message.type is aiohttp.WSMsgType.BINARY:
                yield message.data
            elif message.type is aiohttp.WSMsgType.ERROR:
                raise _broken(settings, message.data)
            else:
                return


def in_thread(make: Callable[[], AsyncGenerator[T, None]]) -> Iterator[T]:
    """The items of an asynchronous generator, which an event loop in a thread of its own runs.

    Closing this iterator closes that one.
    """
    items: queue.Queue[tuple[bool, Any]] = queue.Queue()
    loop = asyncio.new_event_loop()
    places = asyncio.Semaphore(_MOST_WAITING)

    def tell(what: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop may have come to its end meanwhile
            loop.call_soon_threadsafe(what)

    async def pump() -> None:
        try:
            async with aclosing(make()) as source:
                async for item in source:
                    await places.acquire()
                    items.put((False, item))
        except Exception as error:  # noqa: BLE001  # raised again where the items are taken
            items.put((True, error))
        else:
            items.put((True, None))

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()

    task = loop.create_task(pump())
    thread = threading.Thread(target=run, name="bacalhau-logs", daemon=True)
    thread.start()
    try:
        while True:
            is_end, item = items.get()
            if not is_end:
                tell(places.release)
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        tell(task.cancel)
        thread.join()


def _not_opened(request: Request, status: int) -> BacalhauError:
    """The error for an answer that opens no websocket; its body is lost."""
    facts: dict[str, Any] = {"method": request.method, "path": request.path, "status": status}
    if status in {401, 403}:
        return NotAuthorised("The server does not open the log", reason="no reason given", **facts)
    if status in {404, 410}:
        return NotSupported("This server gives no logs", hint="Read stdout and stderr of the job's results.", **facts)
    return ServerUnavailable("The server does not open the log", hint="Try again later.", **facts)


def _broken(settings: ClientSettings, error: object) -> TransportError:
    return TransportError(Failure.LOST, sent=True, detail=f"{type(error).__name__}, {settings.host}")
