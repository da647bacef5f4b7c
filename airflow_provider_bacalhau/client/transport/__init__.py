"""Two thin drivers: they perform the effects that an operation asks for, and decide nothing."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from airflow_provider_bacalhau import __version__
from airflow_provider_bacalhau.client.effects import Failure, Request, Response, TransportError

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
    """The proxy that the environment names for an address, or None."""
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


class Body:
    """Takes an answer's body chunk by chunk, within the request's bound, into memory or into the request's sink."""

    def __init__(self, request: Request, status: int, headers: Mapping[str, str]) -> None:
        self._sink = request.sink if 200 <= status < 300 else None
        self._most = request.max_bytes
        self._status = status
        self._headers = headers
        self._chunks: list[bytes] = []
        self._size = 0

    def take(self, chunk: bytes) -> None:
        """Take the next chunk."""
        self._size += len(chunk)
        if self._size > self._most:
            raise TransportError(Failure.TOO_LARGE, sent=True, detail=f"more than {self._most:,} bytes")
        if self._sink is None:
            self._chunks.append(chunk)
        else:
            self._sink.write(chunk)

    def response(self) -> Response:
        """The whole answer."""
        return Response(self._status, self._headers, b"".join(self._chunks))
