"""The logs websocket of the requester API: a signed first message, then what the program writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from airflow_provider_bacalhau.devnode import godecode as go
from airflow_provider_bacalhau.devnode.generations import Generation
from airflow_provider_bacalhau.devnode.legacy import CLIENT_META
from airflow_provider_bacalhau.devnode.records import ComputeState, Execution
from airflow_provider_bacalhau.devnode.signatures import EnvelopeError, check_client, go_text, open_envelope
from airflow_provider_bacalhau.devnode.store import Store

_LOOK = 0.05
_CHUNK = 1 << 16
_TAGS = {"stdout": 1, "stderr": 2}
_REQUEST = go.struct(
    {
        "ClientID": go.string,
        "JobID": go.string,
        "ExecutionID": go.string,
        "WithHistory": go.boolean,
        "Follow": go.boolean,
    }
)


class LogsError(ValueError):
    """Logs that cannot be read; the message is the server's."""


class RequesterLogs:
    """The websocket.

    :param runs: folder with one folder for each execution that runs.
    """

    def __init__(self, store: Store, generation: Generation, runs: Path) -> None:
        self._store = store
        self._generation = generation
        self._runs = runs

    def routes(self) -> list[web.AbstractRouteDef]:
        """The route, where the version has it."""
        if not self._generation.has_logs:
            return []
        return [web.get(prefix + "/logs", self._serve, allow_head=False) for prefix in self._generation.prefixes]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        message = await socket.receive()
        if message.type is not WSMsgType.TEXT:
            await socket.close()
            return socket
        try:
            wanted = self._wanted(message.data.encode("utf-8", "surrogatepass"))
            execution = self._execution(wanted)
        except LogsError as error:
            await self._refuse(socket, str(error))
            return socket
        listening = asyncio.ensure_future(_ended(socket))
        try:
            async for name, data in self._output(execution, listening, follow=wanted["Follow"]):
                await self._send(socket, _TAGS[name], data)
        except ConnectionError:
            pass  # the reader is gone
        finally:
            listening.cancel()
        await socket.close(code=1000)
        return socket

    def _wanted(self, message: bytes) -> dict[str, Any]:
        try:
            signed = open_envelope(message)
            wanted: dict[str, Any] = _REQUEST(signed.payload, "LogsPayload")
            check_client(signed, wanted["ClientID"])
        except EnvelopeError as error:
            raise LogsError(str(error)) from None
        except go.BodyError as error:
            raise LogsError(f"error unmarshalling payload: {go_text(error)}") from None
        return wanted

    def _execution(self, wanted: dict[str, Any]) -> Execution:
        job_id, execution_id = wanted["JobID"], wanted["ExecutionID"]
        try:
            job = self._store.job(job_id)
        except LookupError:
            raise LogsError(f"failed to find job: {job_id}") from None
        # Ownership is looked at by the first generation only.
        if self._generation.is_first and job.spec["Meta"].get(CLIENT_META, "") != wanted["ClientID"]:
            raise LogsError(f"mismatched client id: {wanted['ClientID']}")
        found = [execution for execution in self._store.executions(job.id) if execution.id == execution_id]
        if not found:
            raise LogsError(f"read logs failure: unable to find execution {execution_id} in job {job.id}")
        return found[0]

    async def _refuse(self, socket: web.WebSocketResponse, text: str) -> None:
        """The first generation only closes: its reason does not get through."""
        if not self._generation.is_first:
            error = {"Code": "error-unknown-server-error", "Message": text, "Details": {}, "Err": text}
            frame = {"Tag": 0, "Data": "", "ErrorMessage": json.dumps(error, separators=(",", ":"))}
            await socket.send_str(json.dumps(frame, separators=(",", ":")) + "\n")
        await socket.close(code=1011 if self._generation.is_first else 1000)

    async def _output(
        self, execution: Execution, listening: asyncio.Future[None], *, follow: bool
    ) -> AsyncIterator[tuple[str, bytes]]:
        """What there is, then what comes, until the execution or the reader is gone."""
        folder = self._runs / execution.id / "results"
        seen = dict.fromkeys(_TAGS, 0)
        while True:
            over = self._store.execution(execution.id).is_terminal
            for name in _TAGS:
                for data in _new_lines(folder / name, seen[name]):
                    seen[name] += len(data)
                    yield name, data
            if over and not any(seen.values()):
                for name, data in _stored(self._store.execution(execution.id)):
                    yield name, data
            if over or not follow or listening.done():
                return
            await asyncio.wait([listening], timeout=_LOOK)

    async def _send(self, socket: web.WebSocketResponse, tag: int, data: bytes) -> None:
        frame: dict[str, Any] = {"Tag": tag, "Data": data.decode("utf-8", "replace")}
        if not self._generation.is_first:
            frame["ErrorMessage"] = ""
        await socket.send_str(json.dumps(frame, separators=(",", ":"), ensure_ascii=False) + "\n")


async def _ended(socket: web.WebSocketResponse) -> None:
    async for _ in socket:
        pass


def _new_lines(path: Path, position: int) -> list[bytes]:
    try:
        with path.open("rb") as file:
            file.seek(position)
            data = file.read(_CHUNK)
    except OSError:
        return []
    return [data] if data else []


def _stored(execution: Execution) -> list[tuple[str, bytes]]:
    """What the record keeps of a program that ended."""
    if execution.state is not ComputeState.COMPLETED:
        return []
    texts = (("stdout", execution.output.stdout), ("stderr", execution.output.stderr))
    return [(name, text.encode()) for name, text in texts if text]
