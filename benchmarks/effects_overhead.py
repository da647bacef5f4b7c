"""What the effect loop of the clients costs for each request: microseconds, beside a bare loop of awaits.

An operation is run with its retry rule by the drivers' own ``run``; only the exchange itself is replaced by a ready
answer. Run it with ``python benchmarks/effects_overhead.py``.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

from airflow_provider_bacalhau.client.effects import Request, Response
from airflow_provider_bacalhau.client.retry import with_retry
from airflow_provider_bacalhau.client.settings import ClientSettings
from airflow_provider_bacalhau.client.transport.aio import AsyncTransport
from airflow_provider_bacalhau.client.transport.sync import SyncTransport

REQUESTS = 20_000
ROUNDS = 5
SETTINGS = ClientSettings("http://127.0.0.1:1")
ANSWER = Response(200, {}, b"{}")


class ReadySync(SyncTransport):
    """Answers without a network."""

    def _exchange(self, request: Request) -> Response:
        return ANSWER


class ReadyAsync(AsyncTransport):
    """Answers without a network."""

    async def _exchange(self, request: Request) -> Response:
        return ANSWER


async def operation() -> None:
    for _ in range(REQUESTS):
        await Request("GET", "/api/v1/agent/alive")


async def exchange(request: Request) -> Response:
    return ANSWER


async def bare() -> None:
    for _ in range(REQUESTS):
        await exchange(Request("GET", "/api/v1/agent/alive"))


def microseconds(run: Callable[[], object]) -> float:
    """The median time for one request."""
    rounds = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        run()
        rounds.append((time.perf_counter() - begun) / REQUESTS * 1e6)
    return statistics.median(rounds)


def main() -> None:
    baseline = microseconds(lambda: asyncio.run(bare()))
    print(f"a bare loop of awaits            {baseline:6.2f} microseconds for each request")
    ways: dict[str, Callable[[], object]] = {
        "sync driver": lambda: ReadySync(SETTINGS).run(operation()),
        "sync driver with the retry rule": lambda: ReadySync(SETTINGS).run(with_retry(operation())),
        "async driver": lambda: asyncio.run(ReadyAsync(SETTINGS).run(operation())),
        "async driver with the retry rule": lambda: asyncio.run(ReadyAsync(SETTINGS).run(with_retry(operation()))),
    }
    for name, run in ways.items():
        took = microseconds(run)
        print(f"{name:32} {took:6.2f}, {took - baseline:5.2f} more, {took / baseline:4.1f} times as much")


if __name__ == "__main__":
    main()
