"""Performs effects with ``requests``."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import requests
import urllib3.exceptions

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
from airflow_provider_bacalhau.client.transport import CHUNK, Body, address, headers_of, proxy_for

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
        session.trust_env = False  # it would also read netrc, and put what it finds there in place of our credentials
        session.verify = (settings.ca_file or True) if settings.verify else False
        if settings.client_cert:
            session.cert = (settings.client_cert, settings.client_key) if settings.client_key else settings.client_cert
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
        with self._lock:
            flight = self._flights.get(effect.key)
            is_first = flight is None
            if flight is None:
                flight = self._flights[effect.key] = Future()
        if is_first:
            try:
                flight.set_result(self.run(effect.make()))
            except BaseException as error:
                flight.set_exception(error)
                raise
            finally:
                with self._lock:
                    del self._flights[effect.key]
        result: T = flight.result()
        return result

    def _exchange(self, request: Request) -> Response:
        url = address(self._settings.url, request.target)
        seconds = request.timeout or self._settings.timeout
        headers = headers_of(request)
        start = time.monotonic()
        try:
            response = self._send(request, url, headers, seconds, start + seconds)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            failed = _translate(error, self._settings.host if request.target.startswith("/") else "another host")
            log.debug("%s %s: %s", request.method, request.path, failed)
            raise failed from None
        log.debug(
            "%s %s: %d in %.0f ms (%s)",
            request.method,
            request.path,
            response.status,
            (time.monotonic() - start) * 1000,
            headers["X-Request-ID"],
        )
        return response

    def _send(self, request: Request, url: str, headers: dict[str, str], seconds: float, deadline: float) -> Response:
        proxy = proxy_for(url)
        prepared = requests.Request(request.method, url, headers=headers, data=request.body, auth=_no_auth).prepare()
        prepared.url = url  # encoded once, by the operation
        with self._session.send(
            prepared,
            timeout=(min(CONNECT_TIMEOUT, seconds), seconds),
            allow_redirects=False,
            stream=True,
            verify=self._session.verify,
            cert=self._session.cert,
            proxies={"http": proxy, "https": proxy} if proxy else {},
        ) as answer:
            body = Body(request, answer.status_code, {key.lower(): value for key, value in answer.headers.items()})
            for chunk in answer.iter_content(CHUNK):
                if time.monotonic() > deadline:
                    raise TransportError(Failure.TIMEOUT, sent=True, detail=f"after {seconds:g} s")
                body.take(chunk)
            return body.response()


def _no_auth(prepared: requests.PreparedRequest) -> requests.PreparedRequest:
    """Without an ``auth``, requests takes credentials out of a netrc file, to public calls as well."""
    return prepared


def _translate(error: Exception, host: str) -> TransportError:
    """The failure behind a library's error; its text is left out, since it may quote a signed address."""
    cause = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    reason = getattr(cause, "reason", None)
    if isinstance(reason, Exception):
        cause = reason
    detail = f"{type(cause).__name__}, {host}"
    if isinstance(cause, urllib3.exceptions.NameResolutionError):
        return TransportError(Failure.RESOLVE, sent=False, detail=detail)
    if isinstance(error, requests.exceptions.SSLError) or isinstance(cause, urllib3.exceptions.SSLError):
        return TransportError(Failure.TLS, sent=False, detail=detail)
    if isinstance(error, requests.exceptions.ProxyError) or isinstance(cause, urllib3.exceptions.NewConnectionError):
        return TransportError(Failure.REFUSED, sent=False, detail=detail)
    if isinstance(error, requests.ConnectTimeout) or isinstance(cause, urllib3.exceptions.ConnectTimeoutError):
        return TransportError(Failure.TIMEOUT, sent=False, detail=detail)
    if isinstance(error, requests.Timeout) or isinstance(cause, urllib3.exceptions.TimeoutError):
        return TransportError(Failure.TIMEOUT, sent=True, detail=detail)
    return TransportError(Failure.LOST, sent=True, detail=detail)
