"""Errors as v1.9.3 answers them, and what it does to every request before a handler sees it."""

from __future__ import annotations

import json
import logging
import re
import secrets
import string
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

from airflow_provider_bacalhau.devnode.emulation import NEWEST, Emulation
from airflow_provider_bacalhau.devnode.godecode import BodyError
from airflow_provider_bacalhau.devnode.store import AmbiguousError, NotFoundError
from airflow_provider_bacalhau.devnode.users import Refusal, User, authorize

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

API = "/api/v1/"
_SEMVER = re.compile(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?")
_UNKNOWN_VERSIONS = {"", "v0.0.0", "v0.0.0-xxxxxxx"}
_LOCAL_HOSTS = {"127.0.0.1", "localhost"}


class ApiError(Exception):
    """An answer that is an error.

    :param component: the part of the server that complains.
    :param code: the server's error code; not the status.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "InternalError",
        component: str = "APIServer",
        hint: str = "",
        details: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.component = component
        self.hint = hint
        self.details = details or {}


def internal_error() -> ApiError:
    """What the server answers when it does not want to say more."""
    return ApiError(500, "Internal server error", component="Unknown")


def unknown_route(emulation: Emulation = NEWEST) -> ApiError:
    """No such path, or no such method on it. From v1.8 on it is explained."""
    if not emulation.unique_names:
        return ApiError(404, "Not Found")
    return ApiError(
        404,
        "The requested resource/URL was not found.",
        code="NotFound",
        hint="The server version may be older than this CLI version and does not support the endpoint yet.",
        details={
            "cli_usage": "If you are using the CLI, try updating your server to a newer version or check "
            "if the command is supported in your server version."
        },
    )


def json_response(content: Any, status: int = 200, *, escape_html: bool = True) -> web.Response:
    """A JSON answer as Go writes it: no blanks, a newline at the end, ``<``, ``>`` and ``&`` escaped."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    if escape_html:
        text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    body = (text + "\n").encode("utf-8", "surrogatepass")
    return web.Response(body=body, status=status, headers={"Content-Type": "application/json"})


def error_response(request: web.Request, error: ApiError, emulation: Emulation = NEWEST) -> web.Response:
    """An APIError body, or what the web framework of servers before v1.5 makes of an error."""
    if not emulation.api_errors:
        return _framework_error(request, error)
    body: dict[str, Any] = {
        "Status": error.status,
        "Message": str(error),
        "RequestID": request.headers.get("X-Request-ID", ""),
        "Code": error.code,
        "Component": error.component,
    }
    if error.hint:
        body["Hint"] = error.hint
    if error.details:
        body["Details"] = error.details
    response = json_response(body, error.status)
    return web.Response(status=error.status, headers=response.headers) if request.method == "HEAD" else response


def _framework_error(request: web.Request, error: ApiError) -> web.Response:
    text = str(error)
    if error.component == "APIServer":  # refused by the framework or with a status on purpose
        body = {"error": f"code={error.status}, message={text}", "message": text}
        response = json_response(body, error.status)
    else:
        response = json_response({"error": text, "message": "Internal Server Error"}, 500)
    return web.Response(status=response.status, headers=response.headers) if request.method == "HEAD" else response


def refusal_of_foreign_host(request: web.Request) -> web.Response | None:
    """The answer to a request that calls this node by another name than its own; None for all others."""
    host = request.headers.get("Host", "").rpartition(":")[0] or request.headers.get("Host", "")
    if host in _LOCAL_HOSTS:
        return None
    # A page in a browser could otherwise reach the node under a name of its own (DNS rebinding).
    return web.Response(status=403, text="this node answers to 127.0.0.1 and localhost only\n")


def guard(emulation: Emulation, users: Sequence[User] = ()) -> Middleware:
    """The middleware around all routes: host check, size, headers, credentials, client version, errors.

    :param users: who may do what; without any, everybody may do everything.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if (foreign := refusal_of_foreign_host(request)) is not None:
            return foreign
        if not _is_api(request.path):
            return await _answered(request, handler, emulation)
        request_id = request.headers.get("X-Request-ID") or _random_id()
        if request.method == "OPTIONS":
            return web.Response(status=204, headers={"Vary": "Origin"})
        try:
            if users:
                authorize(users, request.method, request.path, request.headers.get("Authorization", ""))
            _check_body(request, emulation)
        except Refusal as refusal:
            response: web.StreamResponse = error_response(request, _refused(refusal, emulation), emulation)
        except ApiError as error:
            response = error_response(request, error, emulation)
        else:
            response = _check_version(request, emulation) or await _answered(request, handler, emulation)
            if not response.prepared:
                response.headers.update(emulation.headers if emulation.has_auth else {})
        if not response.prepared:
            response.headers["Vary"] = "Origin"
            response.headers["X-Request-Id"] = request_id
        return response

    return middleware


def _is_api(path: str) -> bool:
    return path.startswith(API) or path in {"/", "/version", "/livez"}


async def _answered(request: web.Request, handler: Handler, emulation: Emulation) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        return error_response(request, error, emulation)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
        return error_response(request, unknown_route(emulation), emulation)
    except web.HTTPRequestEntityTooLarge:
        return error_response(request, ApiError(413, "Request Entity Too Large"), emulation)
    except web.HTTPException:
        raise
    except NotFoundError as error:
        return error_response(request, _not_found(error, emulation), emulation)
    except AmbiguousError as error:
        ambiguous = ApiError(500, str(error), code="MultipleJobsFound", component="JobStore", hint="Use full job ID")
        return error_response(request, ambiguous, emulation)
    except BodyError as error:
        return error_response(request, ApiError(400, str(error)), emulation)
    except Exception:  # the client gets a 500 as from a real server, the reader of the log gets the reason
        log.exception("%s %s failed", request.method, request.path)
        return error_response(request, internal_error(), emulation)


def _refused(refusal: Refusal, emulation: Emulation) -> ApiError:
    if emulation.users == "errors":
        return ApiError(500, refusal.early)
    status, word, code, hint = (
        (403, "Request Forbidden", "Forbidden", "Check if user have access to this resource.")
        if refusal.is_known
        else (401, "Request Unauthorized", "Unauthorized", "Unauthorized principal.")
    )
    hint = f"{hint} Event has been recorded."
    return ApiError(status, word, code=code, component="Authorizer", hint=hint, details={"reason": str(refusal)})


def _not_found(error: NotFoundError, emulation: Emulation) -> ApiError:
    text = str(error)
    if not emulation.api_errors:
        text = text.replace("job not found: ", "Job not found. ID: ")
    return ApiError(404, text, code="NotFound", component="JobStore")


def _check_body(request: web.Request, emulation: Emulation) -> None:
    if request.content_length is None and request.headers.get("Transfer-Encoding"):
        raise ApiError(
            500,
            "unexpected authorization error",
            component="Authorizer",
            hint="Please check orchestrator logs for more details",
        )
    if (request.content_length or 0) > emulation.body_limit:
        raise ApiError(413, "Request Entity Too Large")


def _check_version(request: web.Request, emulation: Emulation) -> web.Response | None:
    announced = request.headers.get("X-Bacalhau-Git-Version", "")
    if announced in _UNKNOWN_VERSIONS or not emulation.minimum_client:
        return None
    match = _SEMVER.fullmatch(announced)
    if match is None:
        return json_response({"Error": f"Invalid client version {announced}"}, 400)
    version = tuple(int(part or 0) for part in match.groups())
    if version >= tuple(int(part) for part in emulation.minimum_client.split(".")):
        return None
    return json_response(
        {
            "Error": "Client version is outdated. Update your client",
            "MinVersion": emulation.minimum_client,
            "ClientVersion": ".".join(str(part) for part in version),
            "ServerVersion": emulation.version.removeprefix("v"),
        },
        403,
    )


def _random_id() -> str:
    return "".join(secrets.choice(string.ascii_letters) for _ in range(32))
