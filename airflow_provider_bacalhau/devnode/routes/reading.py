"""What the orchestrator API's handlers read from requests."""

from __future__ import annotations

from aiohttp import web

from airflow_provider_bacalhau.devnode.routes.errors import ApiError
from airflow_provider_bacalhau.devnode.selectors import Requirement, SelectorError, parse_selector


async def read_body(request: web.Request) -> bytes:
    """The body of a request that sends JSON; empty without one.

    :raises ApiError: a body that does not say that it is JSON.
    """
    body = await request.read()
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if body and kind not in {"application/json", "application/x-www-form-urlencoded", "multipart/form-data"}:
        raise ApiError(400, "code=415, message=Unsupported Media Type")
    # Forms are taken and hold nothing that the server looks for.
    return body if kind == "application/json" else b""


def label_selector(request: web.Request) -> list[Requirement]:
    """What the labels of those that are asked for have to fulfil.

    :raises ApiError: a selector that cannot be read.
    """
    try:
        return parse_selector(",".join(request.query.getall("labels", [])))
    except SelectorError as error:
        raise ApiError(400, str(error)) from None
