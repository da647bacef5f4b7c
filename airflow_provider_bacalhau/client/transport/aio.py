"""Performs effects with ``aiohttp``; one session per event loop and settings, shared by all who use them.

The triggerer waits for thousands of jobs in one loop: they share connections, TLS context and what is known about the
server.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import aiohttp
from yarl import URL

from airflow_provider_bacalhau.client.effects import (
    Call,
    Effect,
    Failure,
    Once,
    Operation,
    Request,
    Response,
    Sleep,
    TransportError,
)
from airflow_provider_bacalhau.client.settings import CONNECT_TIMEOUT, ClientSettings
from airflow_provider_bacalhau.client.transport import CHUNK, Body, address, headers_of, proxy_for, tls_context

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_CONNECTIONS = 32
"""Connections of one session to one server; at 32 submitting costs 0.4 ms of CPU each (measured)."""


class AsyncTransport:
    """Runs operations on the running event loop.

    :param settings: where and how.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | None = None
        self._flights: dict[str, asyncio.Task[Any]] = {}

    async def close(self) -> None:
        """Close the session's connections."""
        for flight in self._flights.values():
            flight.cancel()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def run(self, operation: Operation[T]) -> T:
        """Run an operation; anything but a TransportError that happens on the way closes it and goes on."""
        answer: Any = None
        error: TransportError | None = None
        try:
            while True:
                try:
                    effect = operation.send(answer) if error is None else operation.throw(error)
                except StopIteration as done:
                    return done.value  # type: ignore[no-any-return]  # StopIteration is not generic
                answer, error = None, None
                try:
                    answer = await self._perform(effect)
                except TransportError as failed:
                    error = failed
        finally:
            operation.close()

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Request):
            return await self._exchange(effect)
        if isinstance(effect, Sleep):
            return await asyncio.sleep(effect.seconds)
        if isinstance(effect, Call):
            return await asyncio.to_thread(effect.make)
        return await self._once(effect)

    async def _once(self, effect: Once[T]) -> T:
        flight = self._flights.get(effect.key)
        if flight is None:
            flight = self._flights[effect.key] = asyncio.create_task(self.run(effect.make()))
            flight.add_done_callback(functools.partial(self._landed, effect.key))
        # One waiter that is cancelled must not take the flight from the others.
        return await asyncio.shield(flight)

    def _landed(self, key: str, flight: asyncio.Task[Any]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # all who waited may be gone, and asyncio complains of errors that nobody takes

    async def _exchange(self, request: Request) -> Response:
        url = address(self._settings.url, request.target)
        seconds = request.timeout or self._settings.timeout
        headers = headers_of(request)
        proxy, context = proxy_for(url), await self._context(url)
        body: Body | None = None
        start = time.monotonic()
        try:
            async with self._open().request(
                request.method,
                URL(url, encoded=True),
                headers=headers,
                data=request.body,
                allow_redirects=False,
                proxy=proxy,
                ssl=context,
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=min(CONNECT_TIMEOUT, seconds)),
            ) as answer:
                body = Body(request, answer.status, {key.lower(): value for key, value in answer.headers.items()})
                async for chunk in answer.content.iter_chunked(CHUNK):
                    body.take(chunk)
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            if body is not None and error is body.sink_error:
                raise
            failed = _translate(error, self._settings.host if request.target.startswith("/") else "another host")
            log.debug("%s %s: %s", request.method, request.path, failed)
            raise failed from None
        response = body.response()
        log.debug(
            "%s %s: %d in %.0f ms (%s)",
            request.method,
            request.path,
            response.status,
            (time.monotonic() - start) * 1000,
            headers["X-Request-ID"],
        )
        return response

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MOST_CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                # A compressed body could grow beyond every bound before it is counted.
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    async def _context(self, url: str) -> ssl.SSLContext | bool:
        if not url.startswith("https"):
            return True
        if self._tls is None:
            # Reading certificate files takes tens of milliseconds, which the triggerer's loop does not have.
            context = await asyncio.to_thread(tls_context, self._settings)
            if self._tls is None:  # another waiter may have been faster, and connections are kept by context
                self._tls = context
        return self._tls


@dataclass
class _Shared:
    transport: AsyncTransport
    companion: object
    users: int = 0


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[ClientSettings, _Shared]] = WeakKeyDictionary()


def acquire(settings: ClientSettings, make: Callable[[], T]) -> tuple[AsyncTransport, T]:
    """Join those who use these settings on this loop; each must :func:`release` once.

    :param make: makes what they share beside the transport, for the first of them.
    """
    users = _shared.setdefault(asyncio.get_running_loop(), {})
    if settings not in users:
        users[settings] = _Shared(AsyncTransport(settings), make())
    shared = users[settings]
    shared.users += 1
    return shared.transport, shared.companion  # type: ignore[return-value]  # one module makes all companions


async def release(settings: ClientSettings) -> None:
    """Leave; the last one closes the connections."""
    users = _shared.get(asyncio.get_running_loop(), {})
    shared = users.get(settings)
    if shared is None:
        return
    shared.users -= 1
    if shared.users == 0:
        del users[settings]
        await shared.transport.close()


def _translate(error: Exception, host: str) -> TransportError:
    """The failure behind a library's error; its text is left out, since it may quote a signed address."""
    detail = f"{type(error).__name__}, {host}"
    if isinstance(error, aiohttp.ClientConnectorDNSError | aiohttp.InvalidURL | UnicodeError):
        return TransportError(Failure.RESOLVE, sent=False, detail=detail)
    if isinstance(error, aiohttp.ClientSSLError):
        return TransportError(Failure.TLS, sent=False, detail=detail)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return TransportError(Failure.TIMEOUT, sent=False, detail=detail)
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionResetError):
        return TransportError(Failure.LOST, sent=False, detail=detail)  # in the TLS handshake
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError):
        return TransportError(Failure.REFUSED, sent=False, detail=detail)
    if isinstance(error, OSError) and "SSL" in str(error.strerror):
        # After the handshake: with TLS 1.3 a client without a certificate is refused when it has sent its request.
        return TransportError(Failure.TLS, sent=True, detail=detail)
    if isinstance(error, TimeoutError):
        return TransportError(Failure.TIMEOUT, sent=True, detail=detail)
    return TransportError(Failure.LOST, sent=True, detail=detail)
