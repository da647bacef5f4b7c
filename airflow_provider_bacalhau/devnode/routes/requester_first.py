"""What servers up to v1.0.3 do around every request: plain Go HTTP, without the web framework that came later."""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.typedefs import Middleware

from airflow_provider_bacalhau.devnode.routes.errors import Handler, refusal_of_foreign_host
from airflow_provider_bacalhau.devnode.routes.requester_bodies import bacerror, plain

log = logging.getLogger(__name__)


def first_guard() -> Middleware:
    """The middleware around all routes: host check, rate limit headers, errors."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if (foreign := refusal_of_foreign_host(request)) is not None:
            return foreign
        try:
            response = await handler(request)
        except web.HTTPRequestEntityTooLarge:
            response = bacerror("error unmarshalling envelope: http: request body too large", 400)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
            return plain("404 page not found", 404)
        except web.HTTPException:
            raise
        except Exception:  # the client gets a 500, the reader of the log gets the reason
            log.exception("%s %s failed", request.method, request.path)
            response = plain("internal error", 500)
        if not response.prepared and not request.path.startswith("/ipfs/"):
            response.headers["X-Rate-Limit-Limit"] = "1000.00"
            response.headers["X-Rate-Limit-Duration"] = "1"
            response.headers["X-Rate-Limit-Request-Remote-Addr"] = _peer(request)
        return response

    return middleware


def _peer(request: web.Request) -> str:
    name = request.transport.get_extra_info("peername") if request.transport else None
    return f"{name[0]}:{name[1]}" if name else ""
