"""A small server on loopback that answers as no real one should: bytes as they are given, and what it was asked."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.parser import BytesParser
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Asked:
    """A request as it came over the wire; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Behaviour = Callable[["Peer", Asked], bool | None]
"""Answers a request; returns True when the connection may serve another one."""


class Peer:
    """The client's end of a connection."""

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self._connection = connection
        self._stopping = stopping

    def send(self, content: bytes) -> bool:
        """Send; False when the client is gone."""
        try:
            self._connection.sendall(content)
        except OSError:
            return False
        return True

    def drip(self, content: bytes, pause: float) -> None:
        """Send byte by byte, until the client is gone or the server stops."""
        for byte in content:
            if not self.send(bytes([byte])) or self._stopping.wait(pause):
                return

    def wait(self, seconds: float) -> None:
        """Say nothing for a while."""
        self._stopping.wait(seconds)


def reply(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """A well-formed answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{key.replace('_', '-')}: {value}" for key, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


@dataclass
class Server:
    """Listens on a free port of 127.0.0.1 from ``with`` to its end.

    :param behave: how to answer.
    :param tls: serves over TLS with this context.
    :param greeting: sent to each connection instead of waiting for a request; then it is closed.
    """

    behave: Behaviour
    tls: ssl.SSLContext | None = None
    greeting: bytes | None = None
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> Self:
        self._stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=[connection], daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        self._open.add(connection)
        connection.settimeout(10)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            if self.tls:
                connection = stack.enter_context(self.tls.wrap_socket(connection, server_side=True))
            if self.greeting is not None:
                connection.sendall(self.greeting)
                connection.recv(1)
                return
            for asked in _requests(connection):
                self.asked.append(asked)
                if not self.behave(Peer(connection, self._stopping), asked):
                    return


def _requests(connection: socket.socket) -> Iterator[Asked]:
    with connection.makefile("rb") as stream:
        while line := stream.readline():
            words = line.decode("latin-1").split(" ", 2)
            if len(words) < 3:
                return  # no HTTP
            method, target, _ = words
            head = b""
            while (header := stream.readline()) not in {b"\r\n", b""}:
                head += header
            message = BytesParser().parsebytes(head)
            headers = {key.lower(): str(value) for key, value in message.items()}
            yield Asked(method, target, headers, stream.read(int(headers.get("content-length", 0))))


def free_port() -> int:
    """A port on which nothing listens just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until something is so; fail when it never is."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.005)
