"""Performs effects with ``requests``."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter

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


class SyncTransport:
    """Runs operations to their end, one session for all of them.

    :param settings: where and how.
    :param sleep: how to pause; takes seconds.
    """

    def __init__(self, settings: ClientSettings, sleep: Callable[[float], object] = time.sleep) -> None:
        self._settings = settings
        self._sleep = sleep
        self._flights: dict[str, Future[Any]] = {}
        self._lock = threading.Lock()
        session = requests.Session()
        self._tls = _TlsAdapter(settings)
        session.mount("https://", self._tls)
        self._session = session

    def close(self) -> None:
        """Close the session's connections."""
        self._session.close()

    def run(self, operation: Operation[T]) -> T:
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
                    answer = self._perform(effect)
                except TransportError as failed:
                    error = failed
        finally:
            operation.close()

    def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Request):
            return self._exchange(effect)
        if isinstance(effect, Sleep):
            return self._sleep(effect.seconds)
        if isinstance(effect, Call):
            return effect.make()
        return self._once(effect)

    def _once(self, effect: Once[T]) -> T:
        while True:
            with self._lock:
                flight = self._flights.get(effect.key)
                if flight is None:
                    mine: Future[T] = Future()
                    self._flights[effect.key] = mine
                    break
            try:
                landed: T = flight.result()
            except CancelledError:
                continue  # whoever flew was interrupted: that is no answer to the others
            return landed
        return self._fly(effect, mine)

    def _fly(self, effect: Once[T], flight: Future[T]) -> T:
        try:
            result = self.run(effect.make())
        except Exception as error:
            self._land(effect.key)
            flight.set_exception(error)
            raise
        except BaseException:
            self._land(effect.key)
            flight.cancel()
            raise
        self._land(effect.key)
        flight.set_result(result)
        return result

    def _land(self, key: str) -> None:
        with self._lock:
            del self._flights[key]

    def _exchange(self, request: Request) -> Response:
        url = address(self._settings.url, request.target)
        seconds = request.timeout or self._settings.timeout
        headers = headers_of(request)
        proxy = proxy_for(url)
        if url.startswith("https"):
            self._tls.load()
        start = time.monotonic()
        body: Body | None = None
        try:
            with self._send(request, url, headers, seconds, proxy) as answer:
                body = Body(request, answer.status_code, {key.lower(): value for key, value in answer.headers.items()})
                # Not iter_content: it waits for a whole chunk, so a server that drips would pass by the deadline.
                while chunk := answer.raw.read1(CHUNK, decode_content=False):
                    if time.monotonic() > start + seconds:
                        raise TransportError(Failure.TIMEOUT, sent=True, detail=f"after {seconds:g} s")
                    body.take(chunk)
        except (OSError, urllib3.exceptions.HTTPError) as error:
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

    def _send(
        self, request: Request, url: str, headers: dict[str, str], seconds: float, proxy: str | None
    ) -> requests.Response:
        prepared = requests.Request(request.method, url, headers=headers, data=request.body).prepare()
        prepared.url = url  # encoded once, by the operation
        # Not the session's own methods: they put credentials of a netrc file in place of ours, keep cookies, and read
        # the whole body of a redirection, however large, even when it is not to be followed.
        return self._session.get_adapter(url).send(
            prepared,
            timeout=(min(CONNECT_TIMEOUT, seconds), seconds),
            stream=True,
            proxies={"http": proxy, "https": proxy} if proxy else {},
        )


class _TlsAdapter(HTTPAdapter):
    """Checks certificates as the other driver does, and not as requests does, which brings its own authorities."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._context: ssl.SSLContext | None = None
        super().__init__()

    def load(self) -> None:
        """Read the certificate files, at the first request that needs them."""
        if self._context is None:
            self._context = tls_context(self._settings)

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: object, cert: object = None
    ) -> Any:
        """Give connections the context of these settings; ``verify`` and ``cert`` are requests' own ways to do so."""
        host, _ = super().build_connection_pool_key_attributes(request, verify=False)
        return host, {"ssl_context": self._context}

    def cert_verify(self, conn: object, url: object, verify: object, cert: object) -> None:
        """Leave the connection with the context it has."""


def _translate(error: Exception, host: str) -> TransportError:
    """The failure behind a library's error; its text is left out, since it may quote a signed address."""
    cause = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    reason = getattr(cause, "reason", None)
    if isinstance(reason, Exception):
        cause = reason
    detail = f"{type(cause).__name__}, {host}"
    if isinstance(cause, urllib3.exceptions.NameResolutionError | urllib3.exceptions.LocationValueError):
        return TransportError(Failure.RESOLVE, sent=False, detail=detail)
    if isinstance(error, requests.exceptions.SSLError) or isinstance(cause, urllib3.exceptions.SSLError):
        inner = cause.args[0] if cause.args else cause
        # Any other failure of TLS may come after the request: with TLS 1.3 a client may be refused after it sent.
        return TransportError(Failure.TLS, sent=not isinstance(inner, ssl.SSLCertVerificationError), detail=detail)
    if isinstance(error, requests.exceptions.ProxyError) or isinstance(cause, urllib3.exceptions.NewConnectionError):
        return TransportError(Failure.REFUSED, sent=False, detail=detail)
    if isinstance(error, requests.ConnectTimeout) or isinstance(cause, urllib3.exceptions.ConnectTimeoutError):
        return TransportError(Failure.TIMEOUT, sent=False, detail=detail)
    if isinstance(error, requests.Timeout) or isinstance(cause, urllib3.exceptions.TimeoutError):
        return TransportError(Failure.TIMEOUT, sent=True, detail=detail)
    return TransportError(Failure.LOST, sent=True, detail=detail)
