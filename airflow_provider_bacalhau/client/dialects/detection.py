"""Finding out what answers, with one harmless request."""

from __future__ import annotations

from airflow_provider_bacalhau.client.dialects.answers import error_of, unreachable
from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
from airflow_provider_bacalhau.client.effects import Request, TransportError
from airflow_provider_bacalhau.client.errors import UnexpectedAnswer
from airflow_provider_bacalhau.client.reading import Fields

API = "/api/v1"


async def detect_version() -> ServerVersion:
    """Ask the server for its version: ``GET /agent/version``, open without credentials on every version.

    :returns: the version; :attr:`ServerVersion.capabilities` says what it can do.
    :raises Unreachable: when nothing answers.
    :raises UnexpectedAnswer: when what answers is not Bacalhau.
    """
    request = Request("GET", f"{API}/agent/version", public=True)
    try:
        response = await request
    except TransportError as error:
        raise unreachable(request, error) from None
    if not response.ok:
        raise error_of(request, response)
    version = Fields(response.json())
    if version.get("GitVersion") is None:
        raise UnexpectedAnswer(
            "What answers there is not the API of Bacalhau",
            hint="Check host and port of the connection; the API listens on port 1234 by default.",
            method=request.method,
            path=request.path,
            status=response.status,
        )
    return ServerVersion(version.text("GitVersion")[:100])
