"""Finding out what answers, with one to three harmless, unsigned requests (reference: bacalhau-requester-api §10)."""

from __future__ import annotations

import json

from airflow_provider_bacalhau.client.dialects.answers import error_of, unreachable
from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
from airflow_provider_bacalhau.client.effects import Request, Response, TransportError
from airflow_provider_bacalhau.client.errors import UnexpectedAnswer
from airflow_provider_bacalhau.client.reading import Fields, clean

API = "/api/v1"

_JSON = {"Content-Type": "application/json"}
_LONGEST_VERSION = 100


async def detect_version() -> ServerVersion:
    """Ask the server for its version, in the way of new servers and then in that of old ones.

    ``GET /api/v1/agent/version`` is open without credentials from v1.0.4 on; earlier there is ``POST /version``. A
    development build does not say its version: there the requester API tells, by being there.

    :returns: the version, which says what the server serves and how.
    :raises Unreachable: when nothing answers.
    :raises UnexpectedAnswer: when what answers is not Bacalhau.
    """
    asked = Request("GET", f"{API}/agent/version", public=True)
    answer = await _ask(asked)
    if answer.ok and (text := _version(Fields(answer.json()))) is not None:
        return await _recognised(text, like="v1.3.2")
    if answer.ok:
        raise _not_bacalhau(asked, answer, _shown(asked, answer))
    if answer.status != 404:
        raise error_of(asked, answer)
    body = json.dumps({"client_id": ""}).encode()
    asked_again = Request("POST", "/version", headers=_JSON, body=body, repeatable=True, public=True)
    second = await _ask(asked_again)
    if second.ok and (text := _version(Fields(second.json()).fields("build_version_info"))) is not None:
        return await _recognised(text, like="v1.0.3", otherwise="v0.3.29")
    raise _not_bacalhau(asked, answer, f"{_shown(asked, answer)}, and {_shown(asked_again, second)}")


async def _recognised(text: str, *, like: str, otherwise: str = "") -> ServerVersion:
    """A version; of a build that names none, the one that it is like.

    :param like: with a requester API below ``/api/v1``.
    :param otherwise: without one; empty for the newest.
    """
    version = ServerVersion(text)
    if version.is_release:
        return version
    body = json.dumps({"client_id": "", "max_jobs": 1}).encode()
    answer = await _ask(Request("POST", f"{API}/requester/list", headers=_JSON, body=body, repeatable=True))
    return ServerVersion(text, like=like if answer.ok else otherwise)


async def _ask(request: Request) -> Response:
    try:
        return await request
    except TransportError as error:
        raise unreachable(request, error) from None


def _version(fields: Fields) -> str | None:
    version = fields.get("GitVersion")
    return None if version is None else clean(str(version), _LONGEST_VERSION)


def _not_bacalhau(request: Request, response: Response, shown: str) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        f"What answers there is not the API of Bacalhau: {shown}",
        hint="Check host and port of the connection; the API listens on port 1234 by default.",
        method=request.method,
        path=request.path,
        status=response.status,
    )


def _shown(request: Request, response: Response) -> str:
    """A question and its answer in a few words."""
    kind = clean(response.headers.get("content-type", "").partition(";")[0], 50)
    server = clean(response.headers.get("server", ""), 50)
    said = f"HTTP {response.status}{f' with {kind}' if kind else ''}{f' from {server}' if server else ''}"
    return f"{request.method} {request.path} gave {said}"
