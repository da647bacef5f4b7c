"""Runs operations without a network: scripted answers in, the requests that come out are kept."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, TypeVar

from airflow_provider_bacalhau.client.effects import (
    Call,
    Effect,
    Once,
    Operation,
    Request,
    Response,
    Sleep,
    TransportError,
)

T = TypeVar("T")


def ok(body: Any = None, **headers: str) -> Response:
    """A good answer with this JSON body."""
    return Response(200, {key.replace("_", "-"): value for key, value in headers.items()}, json.dumps(body).encode())


def refusal(status: int, body: Any = None, **headers: str) -> Response:
    """An unhappy answer; text is sent as it is, anything else as JSON."""
    content = body.encode() if isinstance(body, str) else b"" if body is None else json.dumps(body).encode()
    return Response(status, {key.replace("_", "-"): value for key, value in headers.items()}, content)


def version(text: str = "v1.9.3") -> Response:
    """The answer to the question for the server's version."""
    return ok({"GitVersion": text})


@dataclass
class Script:
    """Plays a server that gives these answers, one for each request, and keeps what happens.

    :param answers: what comes of each request in turn.
    """

    answers: list[Response | TransportError] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    sleeps: list[float] = field(default_factory=list)
    flights: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, *answers: Response | TransportError) -> Script:
        """A script of these answers."""
        return cls(list(answers))

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end, as a driver does."""
        answer: Any = None
        error: TransportError | None = None
        try:
            while True:
                try:
                    effect = operation.send(answer) if error is None else operation.throw(error)
                except StopIteration as done:
                    result: T = done.value
                    return result
                answer, error = None, None
                try:
                    answer = self.perform(effect)
                except TransportError as failed:
                    error = failed
        finally:
            operation.close()

    def perform(self, effect: Effect) -> Any:
        """Answer one effect from the script."""
        if isinstance(effect, Sleep):
            self.sleeps.append(effect.seconds)
            return None
        if isinstance(effect, Call):
            return effect.make()
        if isinstance(effect, Once):
            self.flights.append(effect.key)
            return self.run(effect.make())
        assert self.answers, f"the script has no answer to {effect.method} {effect.target}"
        self.requests.append(effect)
        outcome = self.answers.pop(0)
        if isinstance(outcome, TransportError):
            raise outcome
        if effect.sink is not None and outcome.ok:
            effect.sink.write(outcome.body)
        return outcome

    @property
    def lines(self) -> list[str]:
        """The requests as ``METHOD target``."""
        return [f"{request.method} {request.target}" for request in self.requests]
