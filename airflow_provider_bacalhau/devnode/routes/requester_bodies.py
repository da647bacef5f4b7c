"""The shapes of the requester API's answers: five for errors alone, by version and operation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from airflow_provider_bacalhau.devnode.generations import Generation

TEXT = "text/plain; charset=utf-8"
_NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}


def answer(
    content: Any, generation: Generation, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """JSON: indented as the newer servers write it, in one line and called text as the first generation does."""
    kind = TEXT if generation.is_first else "application/json"
    text = json.dumps(content, ensure_ascii=False, **_layout(generation))
    return _response(text + "\n", kind, status, headers)


def plain(text: str, status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error as text."""
    return _response(text + "\n", TEXT, status, {**(headers or {}), **_NO_SNIFFING})


def bacerror(
    text: str,
    status: int,
    headers: Mapping[str, str] | None = None,
    *,
    code: str = "error-unknown-server-error",
    details: Mapping[str, str] | None = None,
) -> web.Response:
    """An error as JSON that says it were text."""
    body = {"Code": code, "Message": text, "Details": dict(details or {}), "Err": text}
    return plain(json.dumps(body, ensure_ascii=False, separators=(",", ":")), status, headers)


def echo(
    text: str,
    status: int,
    headers: Mapping[str, str] | None = None,
    *,
    error: str = "",
    kind: str = "application/json",
) -> web.Response:
    """An error of the web framework of v1.0.4 and later."""
    body = {"error": error or f"code={status}, message={text}", "message": text}
    return _response(json.dumps(body, ensure_ascii=False, indent=2) + "\n", kind, status, headers)


def quoted(text: str, status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error that is a JSON string."""
    return _response(json.dumps(text, ensure_ascii=False) + "\n", "application/json", status, headers)


def _layout(generation: Generation) -> dict[str, Any]:
    return {"separators": (",", ":")} if generation.is_first else {"indent": 2}


def _response(text: str, kind: str, status: int, headers: Mapping[str, str] | None) -> web.Response:
    body = text.encode("utf-8", "surrogatepass")
    return web.Response(body=body, status=status, headers={"Content-Type": kind, **(headers or {})})
