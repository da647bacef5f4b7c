"""The two transports behind one face, so that one test says the same of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from airflow_provider_bacalhau.client.effects import Operation, Request, Response
from airflow_provider_bacalhau.client.settings import ClientSettings

T = TypeVar("T")

Runner = Callable[[ClientSettings, Operation[T]], T]


def run_sync(settings: ClientSettings, operation: Operation[T]) -> T:
    """Run one operation with ``requests``."""
    from airflow_provider_bacalhau.client.transport.sync import SyncTransport

    transport = SyncTransport(settings)
    try:
        return transport.run(operation)
    finally:
        transport.close()


def run_async(settings: ClientSettings, operation: Operation[T]) -> T:
    """Run one operation with ``aiohttp``, on a loop of its own."""
    from airflow_provider_bacalhau.client.transport.aio import AsyncTransport

    async def run() -> T:
        transport = AsyncTransport(settings)
        try:
            return await transport.run(operation)
        finally:
            await transport.close()

    return asyncio.run(run(), debug=False)


async def exchange(request: Request) -> Response:
    """One request and nothing else."""
    return await request
