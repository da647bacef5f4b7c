"""When a request is sent again: one pure rule, and the coroutine that obeys it.

What is behind it (on real nodes, and in the servers' code): a 500 is often an *answer* (a job that is already over, a
spec that did not change), so only the server's own "Internal server error" to a GET is worth repeating; 429 is said
before the handler runs and carries no Retry-After; 503 ``Server Timeout!`` is said while the handler may still be at
work, so after a submission it settles nothing. What is no word of Bacalhau, such as the page of a proxy in its place,
settles nothing either: a submission under a unique name and a stop are asked for again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from airflow_provider_bacalhau.client.dialects.answers import settles_nothing, tells_nothing
from airflow_provider_bacalhau.client.effects import (
    Failure,
    Operation,
    Request,
    Response,
    Sleep,
    TransportError,
    with_requests,
)

T = TypeVar("T")

MAX_ATTEMPTS = 5
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 30.0
_LEAST_TIME = 0.1

_UNSURE_FAILURES = frozenset({Failure.TIMEOUT, Failure.LOST})


def is_harmless_to_repeat(request: Request) -> bool:
    """Whether a request that the server may already have seen can be sent again.

    Reading changes nothing, and stopping a stopped job answers 200. A submission is harmless only where the job's
    unique name makes it so, which its dialect says by ``repeatable``.
    """
    return request.repeatable or request.method in {"GET", "HEAD", "DELETE"}


def pause_before_retry(request: Request, outcome: Response | TransportError, attempt: int) -> float | None:
    """The least seconds to wait before trying again, or None to let the outcome stand.

    :param request: what was sent.
    :param outcome: what came of it.
    :param attempt: how often it has been sent, from 1.
    """
    if attempt >= MAX_ATTEMPTS:
        return None
    pause = min(FIRST_PAUSE * 2.0 ** (attempt - 1), LONGEST_PAUSE)
    if isinstance(outcome, TransportError):
        if outcome.failure is Failure.REFUSED:
            return pause
        unsure = outcome.failure in _UNSURE_FAILURES and (not outcome.sent or is_harmless_to_repeat(request))
        return pause if unsure else None
    if outcome.status == 429:
        return _retry_after(outcome, pause)
    if outcome.status in {502, 503, 504} and is_harmless_to_repeat(request):
        return _retry_after(outcome, pause)
    if outcome.status == 500 and request.method == "GET" and _is_internal(outcome):
        return pause
    return pause if is_harmless_to_repeat(request) and tells_nothing(request, outcome) else None


async def with_retry(operation: Operation[T]) -> T:
    """Run an operation; send again what :func:`pause_before_retry` says is worth it."""
    return await with_requests(operation, _send)


async def in_little_time(operation: Operation[T], clock: Callable[[], float], seconds: float) -> T:
    """Run an operation; send again what is worth it, as long as there is time.

    :param clock: gives the time in seconds.
    :param seconds: for each request, with all its repetitions.
    """

    async def send(request: Request) -> Response:
        until = clock() + seconds
        return await _send(request, lambda: until - clock())

    return await with_requests(operation, send)


async def _send(request: Request, time_left: Callable[[], float] | None = None) -> Response:
    attempt = 0
    may_be_done = False
    outcome: Response | TransportError
    while True:
        attempt += 1
        try:
            outcome = await (request if time_left is None else replace(request, timeout=max(time_left(), _LEAST_TIME)))
        except TransportError as error:
            outcome = error
        pause = pause_before_retry(request, outcome, attempt)
        if pause is None:
            break
        pause *= random.uniform(1.0, 1.5)  # noqa: S311  # spreads clients, guards nothing
        if time_left is not None and time_left() < pause + _LEAST_TIME:
            break
        may_be_done = may_be_done or _may_be_done(request, outcome)
        await Sleep(pause)
        if request.sink is not None:
            request.sink.truncate(0)
    if isinstance(outcome, TransportError):
        raise TransportError(outcome.failure, sent=outcome.sent or may_be_done, detail=outcome.detail)
    is_open = may_be_done and request.repeatable and not (outcome.ok or _may_be_done(request, outcome))
    if is_open and settles_nothing(request, outcome):  # the last word on this sending perhaps, but not on the first
        raise TransportError(Failure.LOST, sent=True, detail=f"and then HTTP {outcome.status} told nothing of it")
    return outcome


def _may_be_done(request: Request, outcome: Response | TransportError) -> bool:
    """Whether the server may have done what it was asked, though this came of it."""
    if isinstance(outcome, TransportError):
        return outcome.sent
    if outcome.status in {404, 405, 429}:  # the first two, if not Bacalhau's, from where there is none; 429 comes first
        return False
    return outcome.status in {502, 503, 504} or tells_nothing(request, outcome)


def _retry_after(response: Response, otherwise: float) -> float:
    value = response.headers.get("retry-after", "")
    return min(float(value), LONGEST_PAUSE) if value.isascii() and value.isdigit() else otherwise


def _is_internal(response: Response) -> bool:
    body = response.json()
    return isinstance(body, dict) and body.get("Message") == "Internal server error"
