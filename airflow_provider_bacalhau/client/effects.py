"""The brain's side of input and output: what an operation may ask for.

Everything that decides (which request comes next, what an answer means, whether to try again) is written once, as
coroutines that await *effects*. They run without an event loop: a driver calls ``send()``, performs the effect that
comes out, and sends the answer back in. :mod:`~airflow_provider_bacalhau.client.transport.sync` does so with
``requests``,
:mod:`~airflow_provider_bacalhau.client.transport.aio` with ``aiohttp``; the tests do it with recorded answers.

The rules that make this safe:

* A driver throws nothing but :class:`TransportError` into an operation; an HTTP status never raises there.
* Whatever else happens to a driver (cancellation, a task timeout, Ctrl-C) closes the operation and goes on
  unchanged. So an operation has no ``await`` in a ``finally`` or in an ``except BaseException``.
* This module, the dialects and the composed operations import no clock, no event loop and no HTTP library
  (kept by import-linter).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

T = TypeVar("T")

MAX_REQUEST_BYTES = 10_000_000
"""Servers refuse larger bodies with 413 (reference: bacalhau-orchestrator-api §1.6)."""

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""Bound on an answer that is held in memory: 10,000 listed jobs are 12 MB, with inline modules more."""


class Failure(Enum):
    """Why no answer came."""

    RESOLVE = "the host name cannot be resolved"
    REFUSED = "no connection could be made"
    TLS = "the TLS handshake failed"
    TIMEOUT = "the server did not answer in time"
    LOST = "the connection was lost"
    TOO_LARGE = "the answer is larger than allowed"


class TransportError(Exception):
    """No usable answer came from the server.

    :param failure: why.
    :param sent: whether a byte of the request may have left; ``False`` only when certainly none has.
    :param detail: class of the library's error and the host. Never its text: that may hold a signed address.
    """

    def __init__(self, failure: Failure, *, sent: bool, detail: str) -> None:
        super().__init__(f"{failure.value} ({detail})")
        self.failure = failure
        self.sent = sent
        self.detail = detail


class Sink(Protocol):
    """Takes the body of a successful answer, in chunks of at most 64 KiB."""

    def write(self, chunk: bytes, /) -> object:
        """Take the next chunk."""

    def truncate(self, size: int, /) -> object:
        """Forget what was written: the request is tried again."""


@dataclass(frozen=True)
class Response:
    """An answer, whatever its status.

    :param status: HTTP status.
    :param headers: header names in lower case.
    :param body: the body; empty when it went into a sink.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def text(self) -> str:
        """The body as text; undecodable bytes are replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON, or None when it is none (an HTML page of a proxy, say)."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


@dataclass(frozen=True)
class Request:
    """Ask for one HTTP exchange; answers a :class:`Response` or throws :class:`TransportError`.

    :param method: HTTP method.
    :param target: path and query below the API's address, already encoded; or a whole ``http(s)://`` address elsewhere.
    :param headers: headers beside those that the transport sets.
    :param body: bytes of a JSON body; always sent with a Content-Length, since servers refuse chunked bodies.
    :param repeatable: whether sending it twice is harmless although the method does not promise so.
    :param answer_key: a key that every good answer holds; an answer without it is not the API's.
    :param timeout: seconds for the whole exchange; None takes the connection's.
    :param max_bytes: bound on the answer's body.
    :param sink: takes the body of a 2xx answer instead of memory.
    :param public: whether it goes without credentials, where servers give an answer to all and stumble over some
        credentials (health, version, the way to a token).
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    repeatable: bool = False
    answer_key: str = ""
    timeout: float | None = None
    max_bytes: int = MAX_RESPONSE_BYTES
    sink: Sink | None = None
    public: bool = False

    def __await__(self) -> Generator[Request, Response, Response]:
        return (yield self)

    @property
    def path(self) -> str:
        """The target without its query, for logs and errors (a query may hold a signature)."""
        return self.target.partition("?")[0]


@dataclass(frozen=True)
class Sleep:
    """Ask for a pause.

    :param seconds: how long.
    """

    seconds: float

    def __await__(self) -> Generator[Sleep, None, None]:
        yield self


@dataclass(frozen=True)
class Once(Generic[T]):
    """Ask that one flight is made for all who want the same thing now: fifty waiters, one token.

    :param key: names the thing.
    :param make: starts the flight; called for the first waiter only.
    """

    key: str
    make: Callable[[], Operation[T]]

    def __await__(self) -> Generator[Once[T], T, T]:
        return (yield self)


@dataclass(frozen=True)
class Call(Generic[T]):
    """Ask for a plain call that reads files or takes its time; on an event loop it is made in a thread.

    :param make: the call.
    """

    make: Callable[[], T]

    def __await__(self) -> Generator[Call[T], T, T]:
        return (yield self)


Effect: TypeAlias = Request | Sleep | Once[Any] | Call[Any]
Operation: TypeAlias = Coroutine[Effect, Any, T]


async def with_requests(operation: Operation[T], handle: Callable[[Request], Operation[Response]]) -> T:
    """Run an operation, but let ``handle`` perform each of its requests.

    This is how retrying (and, around it, authentication) is laid over every operation without any of them knowing.
    """
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
                answer = await _performed(effect, handle)
            except TransportError as failed:
                error = failed
    finally:
        operation.close()


def _performed(effect: Effect, handle: Callable[[Request], Operation[Response]]) -> Awaitable[Any]:
    if isinstance(effect, Request):
        return handle(effect)
    if isinstance(effect, Once):  # what it starts is an operation like any other
        return Once(effect.key, lambda: with_requests(effect.make(), handle))
    return effect
