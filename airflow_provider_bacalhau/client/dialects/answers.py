"""From an unhappy answer to the error that a caller can act on: one pure function.

Shapes read (reference: bacalhau-orchestrator-api §7, and the recordings): the ``APIError`` object of v1.5 and later,
the web framework's ``{"message", "error"}`` of v1.4, the client-version check's ``{"Error"}``, JSON strings, plain
text, and the HTML of proxies. Status alone does not tell: not-found and already-over also come as 500, v1.7 says every
authorisation failure with 500, and a 404 may mean the job or the whole operation.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_bacalhau.client.effects import Failure, Request, Response, TransportError
from airflow_provider_bacalhau.client.errors import (
    BacalhauError,
    Conflict,
    JobOver,
    JobUnchanged,
    NotAuthorised,
    NotFound,
    NotSupported,
    RequestRefused,
    ServerUnavailable,
    UnexpectedAnswer,
    Unreachable,
)
from airflow_provider_bacalhau.client.reading import Fields, clean

_UNCHANGED = re.compile(r"no changes detected for new job spec.*Job Id: '([^']+)'", re.DOTALL)
_OVER = re.compile(
    r"cannot stop job in state |is in terminal state \w+ and cannot transition|already in a terminal state"
)
_MISSING = re.compile(r"job not found|bucket not found|execution not found|node not found|no job found", re.IGNORECASE)
_UNAUTHORISED_AS_500 = re.compile(
    r"missing authorization header|authentication failed|does not have the required capability|unsupported authen"
    r"|authorization not configured|unexpected authorization error|io\.jwt\.decode_verify"
)


def unreachable(request: Request, error: TransportError) -> BacalhauError:
    """The error for a request that got no answer that can be used."""
    if error.failure is Failure.TOO_LARGE:
        return UnexpectedAnswer(
            f"The answer is larger than this client takes: {error.detail}",
            hint="Ask for less at once.",
            method=request.method,
            path=request.path,
        )
    hint = "Check host, port and TLS settings of the connection, and that the server is up."
    if error.failure is Failure.TLS:
        hint = (
            "If the server speaks plain HTTP, say http:// or leave use_tls out; otherwise check its certificate, and "
            "ca_file and verify of the connection."
        )
    return Unreachable(
        f"No answer from the Bacalhau server: {error}.",
        hint=hint,
        method=request.method,
        path=request.path,
    )


def error_of(request: Request, response: Response) -> BacalhauError:
    """The error that an answer outside 2xx means.

    :param request: what was asked.
    :param response: what was answered.
    """
    status = response.status
    body = _Body(response)
    said = f": {body.message}" if body.message else "."
    facts: dict[str, Any] = {
        "method": request.method,
        "path": request.path,
        "status": status,
        "server_message": body.message,
        "request_id": clean(response.headers.get("x-request-id", ""), 100),
    }
    if 300 <= status < 400:
        return UnexpectedAnswer(
            f"The server answered with a redirection to {_place(response)}, which is not followed",
            hint="Name the address that really serves the API as the connection's host.",
            **facts,
        )
    if not body.is_bacalhau and status in {404, 405, 200}:
        return _not_bacalhau(facts)
    refused = status in {401, 403} and not body.is_version_check
    if refused or (status == 500 and _UNAUTHORISED_AS_500.search(body.message)):
        return _not_authorised(body, facts)
    if unchanged := _UNCHANGED.search(body.message):
        return JobUnchanged(
            f"A job of this name and spec is already there: {unchanged[1]}",
            job_id=unchanged[1],
            method=request.method,
            path=request.path,
            status=status,
        )
    if _OVER.search(body.message):
        return JobOver(f"The job is already over{said}", **facts)
    if status in {404, 410} or (status == 500 and _MISSING.search(body.message)):
        return _missing(body, facts)
    if status == 409:
        return Conflict(f"The server refused because of the present state{said}", hint=body.hint, **facts)
    if status in {429, 502, 503, 504} or (status >= 500 and not body.is_answer):
        return ServerUnavailable(f"The server cannot answer now{said}", hint="Try again later.", **facts)
    if status in {400, 403, 413, 415, 422, 500, 501}:
        hint = "Say https in the connection (use_tls)." if "to an HTTPS server" in body.message else body.hint
        return RequestRefused(f"The server refused the request{said}", hint=hint, **facts)
    return UnexpectedAnswer(f"The server gave an answer that cannot be read{said}", **facts)


def settles_nothing(request: Request, response: Response) -> bool:
    """Whether an answer outside 2xx leaves open what became of an *earlier* sending of the same request.

    Only Bacalhau's own word on what was asked settles that: neither that it has no time or wants other credentials,
    nor what a proxy says.
    """
    error = error_of(request, response)
    if isinstance(error, RequestRefused):
        return not _Body(response).is_answer
    return isinstance(error, ServerUnavailable | UnexpectedAnswer | NotAuthorised | NotSupported)


def tells_nothing(request: Request, response: Response) -> bool:
    """Whether an answer is no word of Bacalhau on what was asked: a proxy's page, or an error without a reason.

    Only for requests that say by ``answer_key`` what a good answer holds.
    """
    if not request.answer_key:
        return False
    if response.ok:
        return not Fields(response.json()).has(request.answer_key)
    return isinstance(error_of(request, response), ServerUnavailable | UnexpectedAnswer)


class _Body:
    """What the body of an unhappy answer says, whichever shape it has."""

    def __init__(self, response: Response) -> None:
        value = response.json()
        fields = Fields(value)
        details = fields.texts("Details")
        text = (
            fields.get("error") if fields.text("message") == "Internal Server Error" else fields.get("Message", "error")
        )
        if isinstance(value, str):
            text = value
        elif not fields and "html" not in response.headers.get("content-type", ""):
            text = response.text()
        self.message = clean(str(text or ""))
        self.reason = clean(details.get("reason", ""))
        self.hint = clean(fields.text("Hint"), 500)
        self.code = fields.text("Code")
        self.component = fields.text("Component")
        self.is_version_check = "Error" in fields.raw and not self.component
        self.is_bacalhau = bool(fields.get("Message", "Error")) or isinstance(value, str)
        # "Internal server error" is what v1.5 and later say instead of the cause; every other text of a 500 is an
        # answer.
        self.is_answer = self.is_bacalhau and self.message.lower() not in {"", "internal server error"}


def _missing(body: _Body, facts: dict[str, Any]) -> BacalhauError:
    is_about_a_thing = body.component in {"JobStore", "BoltDB"} or _MISSING.search(body.message)
    if is_about_a_thing:
        kind = (
            found[1].lower()
            if (found := re.match(r"(node|execution) not found", body.message, re.IGNORECASE))
            else "job"
        )
        return NotFound(
            f"No such {kind} on this network: {body.message}",
            hint="Check the id, the namespace, and that the connection names the network the job was sent to.",
            **facts,
        )
    return NotSupported(
        f"This server has no such operation: {body.message}",
        hint="Its version may be too old for it, or too new.",
        **facts,
    )


def _not_authorised(body: _Body, facts: dict[str, Any]) -> NotAuthorised:
    why = body.reason or body.message or "no reason given"
    if "capability" in why:
        return NotAuthorised(
            f"The credentials lack a right: {why}",
            hint="Ask for that capability, or use other credentials.",
            reason=why,
            **facts,
        )
    return NotAuthorised(
        f"The server wants other credentials: {why}",
        hint="Check login, password and client key of the connection.",
        reason=why,
        **facts,
    )


def _not_bacalhau(facts: dict[str, Any]) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        "What answers there is not the API of Bacalhau",
        hint="Check host and port of the connection; the API listens on port 1234 by default.",
        **facts,
    )


def _place(response: Response) -> str:
    try:
        parts = urlsplit(response.headers.get("location", ""))
    except ValueError:
        return "an address that is none"
    host = f"{parts.scheme or 'http'}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else ""
    return clean(host + parts.path, 200) or "nowhere"
