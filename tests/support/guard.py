"""A server that wants credentials, in front of one that wants none: what it lets through, that one answers."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import requests

OPEN = ("/api/v1/agent/alive", "/api/v1/agent/version", "/api/v1/agent/authconfig", "/api/v1/auth")

Spoil = Callable[["Visit"], "tuple[int, bytes] | None"]
"""Answers a request in place of the server behind, or None to let it through; may raise to drop the connection."""


@dataclass(frozen=True)
class Visit:
    """A request that came with credentials that will do.

    :param authorization: these.
    """

    method: str
    path: str
    authorization: str


@dataclass
class Guard:
    """Listens on a free port of 127.0.0.1 from ``with`` to its end.

    :param behind: address of the server behind.
    :param takes: values of ``Authorization`` that it takes.
    :param token: what it gives for an answer to its challenge, whatever the signature; empty for no challenge.
    :param spoil: answers in place of the server behind.
    :param sign: what it appends to the addresses of results, as a store does that signs them.
    """

    behind: str
    takes: set[str] = field(default_factory=set)
    token: str = ""
    spoil: Spoil = lambda visit: None
    sign: str = ""
    refused: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        guard = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                try:
                    status, content = guard.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
                except ConnectionError:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815  # names that the standard library asks for

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, authorization: str, body: bytes) -> tuple[int, bytes]:
        """Status and body for one request."""
        if path.startswith(OPEN):
            if authorization:
                self.told.append(path)
            return self._ways_in(method, path) if path.startswith("/api/v1/auth") else self._pass(method, path, body)
        if authorization not in self.takes:
            self.refused.append(f"{method} {path}")
            return 401, _unauthorised("Missing Authorization header" if not authorization else "invalid credentials")
        spoiled = self.spoil(Visit(method, path, authorization))
        return spoiled or self._pass(method, path, body)

    def _ways_in(self, method: str, path: str) -> tuple[int, bytes]:
        if method == "POST":
            self.takes.add(f"Bearer {self.token}")
            return 200, json.dumps({"Authentication": {"success": True, "token": self.token}}).encode()
        challenge = {"type": "challenge", "params": {"InputPhrase": base64.b64encode(b"n-guard").decode()}}
        return 200, json.dumps({"Methods": {"clientkey": challenge} if self.token else {}}).encode()

    def _pass(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"}
        answer = requests.request(method, self.behind + path, data=body or None, headers=headers, timeout=30)
        content = answer.content
        if self.sign and path.endswith("/results") and answer.ok:
            content = json.dumps(_signed(answer.json(), self.sign)).encode()
        return answer.status_code, content


def _signed(value: Any, signature: str) -> Any:
    if isinstance(value, dict):
        return {key: f"{item}?{signature}" if key == "URL" else _signed(item, signature) for key, item in value.items()}
    return [_signed(item, signature) for item in value] if isinstance(value, list) else value


def _unauthorised(reason: str) -> bytes:
    return json.dumps(
        {
            "Status": 401,
            "Message": "Request Unauthorized",
            "Code": "Unauthorized",
            "Component": "Authorizer",
            "Details": {"reason": reason},
        }
    ).encode()
