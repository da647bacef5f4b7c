"""The two clients: the same operations, run by ``requests`` or by ``aiohttp``.

What each operation does, takes and raises is documented once, where it is written: the primitive ones on
:class:`~airflow_provider_bacalhau.client.dialects.dialect.Dialect`, the composed ones on
:class:`~airflow_provider_bacalhau.client.operations.Operations`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing, suppress
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from airflow_provider_bacalhau.client.auth import with_auth
from airflow_provider_bacalhau.client.dialects.answers import unreachable
from airflow_provider_bacalhau.client.dialects.dialect import Dialect
from airflow_provider_bacalhau.client.effects import Operation, TransportError
from airflow_provider_bacalhau.client.errors import BacalhauError, ConfigurationError, InvalidJobSpec
from airflow_provider_bacalhau.client.facts import StopOutcome
from airflow_provider_bacalhau.client.operations import Operations
from airflow_provider_bacalhau.client.retry import in_little_time, with_retry
from airflow_provider_bacalhau.client.settings import ClientSettings, api_address

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client.dialects.logs import LogChunk, LogsRequest
    from airflow_provider_bacalhau.client.transport.aio import AsyncTransport

P = ParamSpec("P")
T = TypeVar("T")
LOG_SECONDS = 60.0
"""How long a log is listened to, if nobody says otherwise."""
_MOST_TAIL = 16 * 1024

_Composed = Callable[Concatenate[Operations, P], Operation[T]]


def _primitive(
    method: Callable[Concatenate[Dialect, P], Operation[T]],
) -> Callable[Concatenate[Operations, P], Operation[T]]:
    """A dialect's operation as one of the operations': find out what the server speaks, then speak it."""

    @functools.wraps(method)
    async def operation(operations: Operations, /, *args: P.args, **kwargs: P.kwargs) -> T:
        spoken: Callable[P, Operation[T]] = getattr(await operations.dialect(), method.__name__)
        return await spoken(*args, **kwargs)

    return operation


def _checked(
    name: str, check: Callable[[object], None], operation: Callable[Concatenate[Operations, P], Operation[T]]
) -> Callable[Concatenate[Operations, P], Operation[T]]:
    """The operation, its first argument checked before anything is asked; ``name`` is what the user calls that."""

    @functools.wraps(operation)
    async def checked(operations: Operations, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if args or name in kwargs:
            check(args[0] if args else kwargs[name])
        return await operation(operations, *args, **kwargs)

    return checked


def _of_job(operation: _Composed[P, T]) -> _Composed[P, T]:
    return _checked("job_id", _check_job_id, operation)


def _of_spec(operation: _Composed[P, T]) -> _Composed[P, T]:
    return _checked("spec", _check_spec, operation)


def _check_job_id(value: object) -> None:
    """Refuse what cannot be a job's id, before anything is asked.

    :raises InvalidJobSpec: for nothing, for ``None`` as a template renders it, and for what is no text.
    """
    if value is None or (isinstance(value, str) and value.strip() in {"", "None"}):
        raise InvalidJobSpec("job_id is empty: the task that should have given it pushed nothing.")
    if not isinstance(value, str):
        raise InvalidJobSpec(f"must be the text of a job's id, not {type(value).__name__}.", place="job_id")


def _check_spec(spec: object) -> None:
    if not hasattr(spec, "to_wire"):
        raise InvalidJobSpec(
            f"A client submits a JobSpec, not {type(spec).__name__}.",
            hint="Read it first: client.submit(read_job_spec(...)), from airflow_provider_bacalhau.client.spec.",
        )


def _sync(operation: _Composed[P, T]) -> Callable[Concatenate[BacalhauClient, P], T]:
    @functools.wraps(operation)
    def method(client: BacalhauClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return client.run(operation(client.operations, *args, **kwargs))

    return method


def _async(
    operation: _Composed[P, T],
) -> Callable[Concatenate[AsyncBacalhauClient, P], Coroutine[Any, Any, T]]:
    @functools.wraps(operation)
    async def method(client: AsyncBacalhauClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await client.run(operation(client.operations, *args, **kwargs))

    return method


class BacalhauClient:
    """A Bacalhau network, spoken to synchronously. A context manager; nothing connects before the first operation.

    :param server: settings, or just the server's address, such as ``http://127.0.0.1:1234``.
    :param sleep: how to pause between tries and looks; takes seconds.
    """

    def __init__(self, server: ClientSettings | str, *, sleep: Callable[[float], object] = time.sleep) -> None:
        from airflow_provider_bacalhau.client.transport.sync import SyncTransport

        self.settings = _settings(server)
        self.operations = Operations(self.settings, time.time)
        self._transport = SyncTransport(self.settings, sleep)

    def run(self, operation: Operation[T]) -> T:
        """Run any operation on this client's connections, with its credentials and its retry rule."""
        return self._transport.run(with_retry(with_auth(operation, self.operations.auth)))

    def stop_quickly(self, job_id: str, reason: str, *, seconds: float = 2.0) -> StopOutcome:
        """Stop a job from a signal handler; see :meth:`quickly`.

        :param seconds: for each request.
        """
        return self.quickly(_primitive(Dialect.stop)(self.operations, job_id, reason), seconds=seconds)

    def quickly(self, operation: Operation[T], *, seconds: float = 2.0) -> T:
        """Run an operation from a signal handler, on a connection of its own, in little time.

        Airflow kills a process five seconds after it has told it to end, and the client's own connection may be in
        the middle of a request.

        :param seconds: for each request; within them it is sent again where that is worth it.
        """
        from airflow_provider_bacalhau.client.transport.sync import SyncTransport

        transport = SyncTransport(replace(self.settings, timeout=seconds))
        try:
            return transport.run(in_little_time(with_auth(operation, self.operations.auth), time.monotonic, seconds))
        finally:
            transport.close()

    def log_tail(self, job_id: str, *, seconds: float) -> str:
        """What a job's latest execution has written so far, as far as the server tells; see :meth:`quickly`.

        It is a favour, asked of a job that is about to be stopped: what goes wrong leaves it short, or empty.

        :param seconds: how long to listen. Servers send a log from its beginning; of a long one this may be too short
            to come to the end, which the last line says.
        """
        from airflow_provider_bacalhau.client.transport.websocket import in_thread

        try:
            wanted = self.quickly(self.operations.logs_request(job_id, follow=False), seconds=seconds)
        except BacalhauError:
            return ""
        return "".join(in_thread(lambda: _tail(self.settings, wanted, seconds)))

    def logs(
        self, job_id: str, execution_id: str = "", *, follow: bool = True, seconds: float = LOG_SECONDS
    ) -> Iterator[LogChunk]:
        """Listen to the log of one execution, as long as the server keeps it up; see :meth:`Operations.logs_request`.

        :param seconds: how long to listen at most; then it ends as if the log did.
        :returns: what is written, piece by piece.
        :raises ResultUnavailable: when the server says why there is no log.
        :raises Unreachable: when the connection breaks.
        """
        from airflow_provider_bacalhau.client.transport.websocket import in_thread

        wanted = self.run(self.operations.logs_request(job_id, execution_id, follow=follow))
        yield from in_thread(lambda: _chunks(self.settings, wanted, seconds))

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    submit = _sync(_of_spec(_primitive(Dialect.submit)))
    get = _sync(_of_job(_primitive(Dialect.get)))
    list = _sync(_primitive(Dialect.list))
    stop = _sync(_of_job(_primitive(Dialect.stop)))
    executions = _sync(_of_job(_primitive(Dialect.executions)))
    history = _sync(_of_job(_primitive(Dialect.history)))
    results = _sync(_of_job(_primitive(Dialect.results)))
    alive = _sync(_primitive(Dialect.alive))
    node = _sync(_primitive(Dialect.node))
    nodes = _sync(_primitive(Dialect.nodes))
    version = _sync(Operations.version)
    greet = _sync(Operations.greet)
    submit_once = _sync(_of_spec(Operations.submit_once))
    find_for = _sync(Operations.find_for)
    submit_for = _sync(Operations.submit_for)
    stop_for = _sync(Operations.stop_for)
    age = _sync(Operations.age)
    wait = _sync(_of_job(Operations.wait))
    outcome = _sync(_of_job(Operations.outcome))
    references = _sync(_of_job(Operations.references))
    result_url = _sync(Operations.result_url)
    result_texts = _sync(_of_job(Operations.result_texts))
    resolve_inputs = _sync(Operations.resolve_inputs)


class AsyncBacalhauClient:
    """A Bacalhau network, spoken to on an event loop. An async context manager.

    Clients of equal settings on one loop share their connections and what is known of the server; the last one to
    leave closes them.

    :param server: settings, or just the server's address, such as ``http://127.0.0.1:1234``.
    """

    def __init__(self, server: ClientSettings | str) -> None:
        self.settings = _settings(server)
        self._shared: tuple[AsyncTransport, Operations] | None = None

    @property
    def operations(self) -> Operations:
        """The operations, to be run by :meth:`run`."""
        return self._joined()[1]

    async def run(self, operation: Operation[T]) -> T:
        """Run any operation on this client's connections, with its credentials and its retry rule."""
        transport, operations = self._joined()
        return await transport.run(with_retry(with_auth(operation, operations.auth)))

    def _joined(self) -> tuple[AsyncTransport, Operations]:
        if self._shared is None:
            from airflow_provider_bacalhau.client.transport import aio

            self._shared = aio.acquire(self.settings, lambda: Operations(self.settings, time.time))
        return self._shared

    async def logs(
        self, job_id: str, execution_id: str = "", *, follow: bool = True, seconds: float = LOG_SECONDS
    ) -> AsyncGenerator[LogChunk, None]:
        """Listen to the log of one execution, as long as the server keeps it up; see :meth:`Operations.logs_request`.

        :param seconds: how long to listen at most; then it ends as if the log did.
        :returns: what is written, piece by piece.
        :raises ResultUnavailable: when the server says why there is no log.
        :raises Unreachable: when the connection breaks.
        """
        wanted = await self.run(self.operations.logs_request(job_id, execution_id, follow=follow))
        async with aclosing(_chunks(self.settings, wanted, seconds)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def close(self) -> None:
        """Leave the shared connections."""
        if self._shared is not None:
            from airflow_provider_bacalhau.client.transport import aio

            self._shared = None
            await aio.release(self.settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    submit = _async(_of_spec(_primitive(Dialect.submit)))
    get = _async(_of_job(_primitive(Dialect.get)))
    list = _async(_primitive(Dialect.list))
    stop = _async(_of_job(_primitive(Dialect.stop)))
    executions = _async(_of_job(_primitive(Dialect.executions)))
    history = _async(_of_job(_primitive(Dialect.history)))
    results = _async(_of_job(_primitive(Dialect.results)))
    alive = _async(_primitive(Dialect.alive))
    node = _async(_primitive(Dialect.node))
    nodes = _async(_primitive(Dialect.nodes))
    version = _async(Operations.version)
    greet = _async(Operations.greet)
    submit_once = _async(_of_spec(Operations.submit_once))
    find_for = _async(Operations.find_for)
    submit_for = _async(Operations.submit_for)
    stop_for = _async(Operations.stop_for)
    age = _async(Operations.age)
    wait = _async(_of_job(Operations.wait))
    outcome = _async(_of_job(Operations.outcome))
    references = _async(_of_job(Operations.references))
    result_url = _async(Operations.result_url)
    result_texts = _async(_of_job(Operations.result_texts))
    resolve_inputs = _async(Operations.resolve_inputs)


def _settings(server: ClientSettings | str) -> ClientSettings:
    if isinstance(server, ClientSettings):
        return server
    if not isinstance(server, str):
        raise ConfigurationError(
            f"A client takes ClientSettings or an address, not {type(server).__name__}.",
            hint="Give a URL such as http://127.0.0.1:1234.",
        )
    if "://" not in server:
        raise ConfigurationError(f"Not an address: {server!r}.", hint="Give a URL such as http://127.0.0.1:1234.")
    return ClientSettings(api_address(server))


async def _tail(settings: ClientSettings, wanted: LogsRequest, seconds: float) -> AsyncGenerator[str, None]:
    """The end of a log as one text. It is put together here, as handing on each line takes longer than reading it."""
    text, begun = "", time.monotonic()
    with suppress(BacalhauError):
        async with aclosing(_chunks(settings, wanted, seconds)) as chunks:
            async for chunk in chunks:
                text += chunk.text
                if len(text) > 2 * _MOST_TAIL:
                    text = text[-_MOST_TAIL:]
    if text and time.monotonic() - begun >= seconds:
        text = text.rstrip("\n") + f"\n… there may be more: the log was read for {seconds:g} s"
    yield text[-_MOST_TAIL:]


async def _chunks(settings: ClientSettings, wanted: LogsRequest, seconds: float) -> AsyncGenerator[LogChunk, None]:
    from airflow_provider_bacalhau.client.transport.websocket import listen

    try:
        async with aclosing(listen(settings, wanted.request, wanted.first_message, seconds=seconds)) as messages:
            async for message in messages:
                if (chunk := wanted.read(message)) is not None:
                    yield chunk
    except TransportError as error:
        raise unreachable(wanted.request, error) from None
