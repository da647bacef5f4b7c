"""Two thin drivers: they perform the effects that an operation asks for, and decide nothing."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from airflow_provider_bacalhau import __version__
from airflow_provider_bacalhau.client.effects import Failure, Request, Response, TransportError
from airflow_provider_bacalhau.client.errors import ConfigurationError
from airflow_provider_bacalhau.client.settings import ClientSettings

CHUNK = 64 * 1024

USER_AGENT = f"apache-airflow-providers-bacalhau/{__version__}"


def address(base: str, target: str) -> str:
    """The whole address of a request's target."""
    return base + target if target.startswith("/") else target


def headers_of(request: Request) -> dict[str, str]:
    """The headers of a request. No ``X-Bacalhau-Git-Version``: servers refuse the versions that they do not expect."""
    return {
        "Accept": "application/json",
        # A compressed body could grow beyond every bound before it is counted.
        "Accept-Encoding": "identity",
        "User-Agent": USER_AGENT,
        "X-Request-ID": uuid.uuid4().hex,
        **request.headers,
    }


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address, or None.

    :raises ConfigurationError: for a proxy that is not spoken to over HTTP.
    """
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy:
        return None
    scheme, separator, _ = proxy.partition("://")
    if not separator:
        return f"http://{proxy}"
    if scheme not in {"http", "https"}:
        raise ConfigurationError(
            f"The environment names a {scheme} proxy, and only http and https proxies can be used.",
            hint="Set HTTP_PROXY or HTTPS_PROXY to one, or NO_PROXY for the Bacalhau server's host.",
        )
    return proxy


def tls_context(settings: ClientSettings) -> ssl.SSLContext:
    """How to check the server's certificate and show our own, the same for both drivers.

    Without a CA file it trusts the operating system's authorities (``SSL_CERT_FILE`` names others). It reads files,
    which takes tens of milliseconds.

    :raises ConfigurationError: when a file of the connection holds no certificate or key.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if not settings.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if settings.client_cert:
            # A key with a password would otherwise ask for it on the terminal, and hang.
            context.load_cert_chain(settings.client_cert, settings.client_key or None, password=lambda: b"")
    except OSError as error:
        raise ConfigurationError(
            f"The TLS files of the connection cannot be read ({type(error).__name__}).",
            hint="Check ca_file, client_cert and client_key.",
        ) from None
    return context


class Body:
    """Takes an answer's body chunk by chunk, within the request's bound, into memory or into the request's sink.

    :ivar sink_error: what the sink raised: a full disk is no lost connection, and goes to the caller as it is.
    """

    def __init__(self, request: Request, status: int, headers: Mapping[str, str]) -> None:
        is_good = 200 <= status < 300
        self._sink = request.sink if is_good else None
        # An error or a redirection says so in a few words, however small the thing that was asked for.
        self._most = request.max_bytes if is_good else max(request.max_bytes, CHUNK)
        self._status = status
        self._headers = headers
        self._chunks: list[bytes] = []
        self._size = 0
        self.sink_error: OSError | None = None

    def take(self, chunk: bytes) -> None:
        """Take the next chunk."""
        self._size += len(chunk)
        if self._size > self._most:
            raise TransportError(Failure.TOO_LARGE, sent=True, detail=f"more than {self._most:,} bytes")
        if self._sink is None:
            self._chunks.append(chunk)
        else:
            try:
                self._sink.write(chunk)
            except OSError as error:
                self.sink_error = error
                raise

    def response(self) -> Response:
        """The whole answer."""
        return Response(self._status, self._headers, b"".join(self._chunks))
