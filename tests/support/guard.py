"""A server that wants credentials, in front of one that wants none: what it lets through, that one answers."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import requests

from tests.support.answering import Answer, answering
from tests.support.server import Asked

OPEN = ("/api/v1/agent/alive", "/api/v1/agent/version", "/api/v1/agent/authconfig", "/api/v1/auth")

Spoil = Callable[["Visit"], "Answer | None"]
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
    :param is_deaf: whether it says nothing to who asks for the ways in.
    """

    behind: str
    takes: set[str] = field(default_factory=set)
    token: str = ""
    spoil: Spoil = lambda visit: None
    sign: str = ""
    is_deaf: bool = False
    refused: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.url = stack.enter_context(answering(self.answer))
            self._serving = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._serving.close()

    def answer(self, asked: Asked) -> Answer:
        """Answer one request."""
        method, path, authorization = asked.method, asked.target, asked.headers.get("authorization", "")
        if self.is_deaf and "/auth" in path:
            return 200, b"{}"
        if path.startswith(OPEN):
            if authorization:
                self.told.append(path)
            return self._ways_in(method) if path.startswith("/api/v1/auth") else self._pass(asked)
        if authorization not in self.takes:
            self.refused.append(f"{method} {path}")
            return 401, _unauthorised("Missing Authorization header" if not authorization else "invalid credentials")
        spoiled = self.spoil(Visit(method, path, authorization))
        return spoiled or self._pass(asked)

    def _ways_in(self, method: str) -> Answer:
        if method == "POST":
            self.takes.add(f"Bearer {self.token}")
            return 200, json.dumps({"Authentication": {"success": True, "token": self.token}}).encode()
        challenge = {"type": "challenge", "params": {"InputPhrase": base64.b64encode(b"n-guard").decode()}}
        return 200, json.dumps({"Methods": {"clientkey": challenge} if self.token else {}}).encode()

    def _pass(self, asked: Asked) -> Answer:
        headers = {"Content-Type": "application/json"}
        url = self.behind + asked.target
        answer = requests.request(asked.method, url, data=asked.body or None, headers=headers, timeout=30)
        content = answer.content
        if self.sign and asked.target.endswith("/results") and answer.ok:
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
