"""How the node spoils its answers by :mod:`..faults`' rules, and ``/devnode``, where tests set these rules."""

from __future__ import annotations

import asyncio
import functools
import hmac
import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from fnmatch import fnmatchcase
from typing import Any, Protocol

from aiohttp import web
from aiohttp.typedefs import Middleware

from airflow_provider_bacalhau.devnode.emulation import Emulation
from airflow_provider_bacalhau.devnode.faults import Fault, FaultError, FaultKind, Faults
from airflow_provider_bacalhau.devnode.gateway import Streamed
from airflow_provider_bacalhau.devnode.generations import GENERATIONS
from airflow_provider_bacalhau.devnode.records import SECOND
from airflow_provider_bacalhau.devnode.routes.errors import ApiError, Handler, error_response, json_response
from airflow_provider_bacalhau.devnode.routes.requester_bodies import plain
from airflow_provider_bacalhau.devnode.store import HIDDEN

CONTROL = "/devnode/"

_BAD_GATEWAY = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>502 Bad Gateway</body>\r\n</html>\r\n"
_LOGIN_PAGE = "<!doctype html>\n<title>Sign in</title>\n<form><input name=user><input type=password></form>\n"
_GARBAGE = b'{"Job": {"ID": "j-\xff\xfe", \x00'
_CHUNK = 64 * 1024
_LONGEST_ABSENCE = 86_400
# Keys of all APIs whose values are times of the node's own clock; numbers are nanoseconds since 1970.
_TIMES = frozenset(
    {
        "ConnectedSince",
        "CreateTime",
        "CreatedAt",
        "DisconnectedSince",
        "LastHeartbeat",
        "ModifyTime",
        "Time",
        "TimeoutAt",
        "Timestamp",
        "UpdateTime",
    }
)
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)((?:\.\d+)?Z)")
_SECONDS = "%Y-%m-%dT%H:%M:%S"


class Restart(Protocol):
    """Brings a restart about, and returns at once."""

    def __call__(self, *, forget: bool = False, away: float = 0.0) -> None:
        """See :meth:`..node.DevNode.restart`."""


def spoil(faults: Faults, emulation: Emulation, restart: Restart) -> Middleware:
    """The middleware around everything else that a node does."""
    spoiler = _Spoiler(emulation, restart)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not faults.rules or request.path.startswith(CONTROL):
            return await handler(request)
        for fault in reversed(faults.due(request.method, request.path)):
            handler = functools.partial(spoiler.serve, fault, handler)
        return await handler(request)

    return middleware


class _Spoiler:
    """Serves one request with one fault; ``work`` is what would serve it otherwise."""

    def __init__(self, emulation: Emulation, restart: Restart) -> None:
        self._emulation = emulation
        self._restart = restart

    async def serve(self, fault: Fault, work: Handler, request: web.Request) -> web.StreamResponse:
        kind = FaultKind.of(fault.kind)
        if kind in _REPLACEMENTS:
            if fault.after_work:
                await work(request)
            return await _REPLACEMENTS[kind](fault, request, self._emulation)
        if kind in _EDITS:
            response = await work(request)
            _EDITS[kind](fault, response)
            return response
        return await self._disturbed(kind, fault, work, request)

    async def _disturbed(
        self, kind: FaultKind, fault: Fault, work: Handler, request: web.Request
    ) -> web.StreamResponse:
        """Faults of time and of connections: the answer is right, if there is one."""
        if kind is FaultKind.REFUSE:
            return _hung_up(request)
        if kind is FaultKind.DELAY:
            await asyncio.sleep(fault.seconds)
        hidden = HIDDEN.set(lambda job_id: fnmatchcase(job_id, fault.jobs)) if kind is FaultKind.FORGOTTEN else None
        try:
            response = await work(request)
        finally:
            if hidden is not None:
                HIDDEN.reset(hidden)
        if kind is FaultKind.DELAY_ANSWER:
            await asyncio.sleep(fault.seconds)
        elif kind is FaultKind.CUT_BEFORE_ANSWER:
            return _hung_up(request)
        elif kind is FaultKind.CUT_IN_ANSWER:
            return await _halved(request, response)
        elif kind is FaultKind.RESTART:
            self._restart(away=fault.seconds)
            return _hung_up(request)
        return response


def _hung_up(request: web.Request) -> web.Response:
    """Close the connection. What is returned goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _halved(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Send the head of an answer and half of its body, then hang up."""
    body = response.body if isinstance(response, web.Response) else None
    size = response.content_length or 0
    if response.prepared or request.method == "HEAD" or not size:
        return _hung_up(request)
    half = web.StreamResponse(status=response.status, headers=response.headers)
    half.content_length = size
    await half.prepare(request)
    left = size // 2
    if isinstance(response, Streamed):
        async for chunk in response.chunks:
            await half.write(chunk[:left])
            left -= len(chunk[:left])
            if not left:
                break
    elif isinstance(body, bytes):
        await half.write(body[:left])
    if request.transport is not None:
        request.transport.close()  # sends what it was given, which a reset would take back
    return half


# --- answers instead of the right one --------------------------------------------------------------------------------


async def _too_many_requests(fault: Fault, request: web.Request, emulation: Emulation) -> web.StreamResponse:
    generation = GENERATIONS.get(emulation.version)
    if generation is not None and generation.is_first:
        response = plain("You have reached maximum request limit.", 429)
    else:
        response = error_response(request, ApiError(429, "rate limit exceeded"), emulation)
    if fault.retry_after is not None:
        response.headers["Retry-After"] = str(fault.retry_after)
    return response


async def _server_timeout(_: Fault, __: web.Request, ___: Emulation) -> web.StreamResponse:
    return web.Response(status=503, text="Server Timeout!")


async def _bad_gateway(_: Fault, __: web.Request, ___: Emulation) -> web.StreamResponse:
    return web.Response(status=502, text=_BAD_GATEWAY, content_type="text/html")


async def _login_page(_: Fault, __: web.Request, ___: Emulation) -> web.StreamResponse:
    return web.Response(text=_LOGIN_PAGE, content_type="text/html")


async def _garbage(_: Fault, __: web.Request, ___: Emulation) -> web.StreamResponse:
    return web.Response(body=_GARBAGE, content_type="application/json")


async def _redirect(fault: Fault, _: web.Request, __: Emulation) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": fault.location})


async def _huge(fault: Fault, request: web.Request, _: Emulation) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    start, end = b'{"Items":["', b'"]}'
    left = fault.size - len(start) - len(end)
    chunk = b"x" * _CHUNK
    try:
        await response.write(start)
        while left > 0:
            await response.write(chunk[:left])
            left -= len(chunk)
        await response.write(end)
    except ConnectionError:
        pass  # the client has had enough
    return response


_REPLACEMENTS: dict[FaultKind, Callable[[Fault, web.Request, Emulation], Awaitable[web.StreamResponse]]] = {
    FaultKind.TOO_MANY_REQUESTS: _too_many_requests,
    FaultKind.SERVER_TIMEOUT: _server_timeout,
    FaultKind.BAD_GATEWAY: _bad_gateway,
    FaultKind.LOGIN_PAGE: _login_page,
    FaultKind.GARBAGE: _garbage,
    FaultKind.HUGE: _huge,
    FaultKind.REDIRECT: _redirect,
}


# --- answers that are almost right -----------------------------------------------------------------------------------


def _mistyped(_: Fault, response: web.StreamResponse) -> None:
    if not response.prepared:
        response.headers["Content-Type"] = "application/octet-stream"


def _bewildered(fault: Fault, response: web.StreamResponse) -> None:
    _edit(response, lambda value: with_state(value, fault.state, fault.jobs))


def _stripped(fault: Fault, response: web.StreamResponse) -> None:
    _edit(response, lambda value: without(value, frozenset(fault.fields)))


def _skewed(fault: Fault, response: web.StreamResponse) -> None:
    _edit(response, lambda value: shifted(value, fault.seconds))
    if not response.prepared:
        date = datetime.now(UTC) + timedelta(seconds=fault.seconds)
        response.headers["Date"] = format_datetime(date, usegmt=True)


_EDITS: dict[FaultKind, Callable[[Fault, web.StreamResponse], None]] = {
    FaultKind.WRONG_TYPE: _mistyped,
    FaultKind.UNKNOWN_STATE: _bewildered,
    FaultKind.MISSING_FIELDS: _stripped,
    FaultKind.CLOCK_SKEW: _skewed,
}


def _edit(response: web.StreamResponse, change: Callable[[Any], Any]) -> None:
    """Change the JSON of an answer, whatever it calls itself; other answers stay as they are."""
    if response.prepared or not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return
    try:
        value = json.loads(response.body)
    except ValueError:
        return
    response.body = json.dumps(change(value), separators=(",", ":")).encode() + b"\n"


def with_state(value: Any, state: str, jobs: str) -> Any:
    """JSON of either API with other states of jobs; executions keep theirs.

    :param jobs: glob over the ids of those meant.
    """
    if isinstance(value, list):
        return [with_state(item, state, jobs) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: with_state(item, state, jobs) for key, item in value.items()}
    old = value.get("State")
    if isinstance(old, dict) and "StateType" in old and fnmatchcase(str(value.get("ID")), jobs):
        changed["State"] = {**old, "StateType": state}
    elif isinstance(old, str) and "Executions" in value and fnmatchcase(str(value.get("JobID")), jobs):
        changed["State"] = state
    return changed


def without(value: Any, names: frozenset[str]) -> Any:
    """JSON without some keys of its objects."""
    if isinstance(value, list):
        return [without(item, names) for item in value]
    if isinstance(value, dict):
        return {key: without(item, names) for key, item in value.items() if key not in names}
    return value


def shifted(value: Any, seconds: float, key: str = "") -> Any:
    """JSON of either API with its times shifted; that of no event (year 1) stays."""
    if isinstance(value, list):
        return [shifted(item, seconds, key) for item in value]
    if isinstance(value, dict):
        return {name: shifted(item, seconds, name) for name, item in value.items()}
    if key not in _TIMES:
        return value
    if isinstance(value, int):
        return value + round(seconds * SECOND)
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[1].startswith("0001"):
        return value
    moved = datetime.strptime(match[1], _SECONDS).replace(tzinfo=UTC) + timedelta(seconds=round(seconds))
    return moved.strftime(_SECONDS) + match[2]


# --- /devnode --------------------------------------------------------------------------------------------------------


class FaultRoutes:
    """``/devnode/faults`` and ``/devnode/restart``, for tests in other processes; no real node has them.

    :param token: what callers show as a Bearer token.
    """

    def __init__(self, faults: Faults, token: str, restart: Restart) -> None:
        self._faults = faults
        self._authorization = f"Bearer {token}".encode()
        self._restart = restart

    def routes(self) -> list[web.AbstractRouteDef]:
        """All routes of this part."""
        return [
            web.get(CONTROL + "faults", self._guarded(self._list), allow_head=False),
            web.post(CONTROL + "faults", self._guarded(self._add)),
            web.delete(CONTROL + "faults", self._guarded(self._clear)),
            web.delete(CONTROL + "faults/{id}", self._guarded(self._remove)),
            web.post(CONTROL + "restart", self._guarded(self._start_again)),
        ]

    def _guarded(self, handler: Handler) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            shown = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(shown, self._authorization):
                return _refused(401, "this needs the node's token: Authorization: Bearer TOKEN")
            try:
                return await handler(request)
            except FaultError as error:
                return _refused(400, str(error), error.field)

        return handle

    async def _list(self, _: web.Request) -> web.Response:
        return json_response({"rules": [rule.as_json() for rule in self._faults.rules]})

    async def _add(self, request: web.Request) -> web.Response:
        rule = self._faults.add(Fault.from_json(await _read_json(request)))
        return json_response(rule.as_json(), 201)

    async def _clear(self, _: web.Request) -> web.Response:
        self._faults.clear()
        return web.Response(status=204)

    async def _remove(self, request: web.Request) -> web.Response:
        wanted = request.match_info["id"]
        for rule in self._faults.rules:
            if str(rule.id) == wanted:
                self._faults.remove(rule)
                return web.Response(status=204)
        return _refused(404, f"there is no rule {wanted}")

    async def _start_again(self, request: web.Request) -> web.Response:
        wanted = await _read_json(request) if request.body_exists else {}
        if not isinstance(wanted, dict) or not set(wanted) <= {"forget", "away"}:
            raise FaultError("restart", "takes nothing, or a JSON object with forget (bool), away (seconds) or both")
        forget, away = wanted.get("forget", False), wanted.get("away", 0.0)
        if not isinstance(forget, bool):
            raise FaultError("forget", f"is true or false, not {forget!r}")
        if isinstance(away, bool) or not isinstance(away, int | float) or not 0 <= away < _LONGEST_ABSENCE:
            raise FaultError("away", f"is a number of seconds from 0 to {_LONGEST_ABSENCE}, not {away!r}")
        self._restart(forget=forget, away=away)
        response = json_response({"restarting": True}, 202)
        response.force_close()
        return response


async def _read_json(request: web.Request) -> Any:
    try:
        return json.loads(await request.read())
    except ValueError as error:
        raise FaultError("body", f"is no JSON: {error}") from None


def _refused(status: int, message: str, field: str = "") -> web.Response:
    return json_response({"error": message, **({"field": field} if field else {})}, status)
