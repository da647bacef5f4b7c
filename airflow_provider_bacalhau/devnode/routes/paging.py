"""Query parameters and page tokens."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from aiohttp import web

from airflow_provider_bacalhau.devnode.routes.errors import ApiError

_TRUE = {"1", "t", "T", "true", "TRUE", "True"}
_FALSE = {"", "0", "f", "F", "false", "FALSE", "False"}


@dataclass(frozen=True, slots=True)
class Page:
    """What a page token holds: order, direction, length and the place to go on from."""

    order_by: str
    reverse: bool
    limit: int
    offset: int

    def token(self) -> str:
        """The text that a client sends back."""
        raw = f"{self.order_by}:{'Y' if self.reverse else 'N'}:{self.limit}:{self.offset}"
        return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, token: str) -> Page:
        """Read a token.

        :raises ValueError: with the server's words.
        """
        problem = "failed to decode paging token"
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
            problem = "invalid number of parts"
            order_by, direction, limit, offset = raw.split(":")
            problem = "malformed token"
            return cls(order_by, direction == "Y", _natural(limit), _natural(offset))
        except (ValueError, binascii.Error):
            raise ValueError(f"{problem}: invalid paging token: {token}") from None


def natural(request: web.Request, name: str) -> int:
    """A query parameter that is a number from 0 on; absent is 0.

    :raises ApiError: anything else.
    """
    text = request.query.get(name, "")
    try:
        return _natural(text) if text else 0
    except ValueError:
        raise _unparsable("ParseUint", text) from None


def flag(request: web.Request, name: str) -> bool:
    """A query parameter that is true or false; absent is false.

    :raises ApiError: anything else.
    """
    text = request.query.get(name, "")
    if text not in _TRUE | _FALSE:
        raise _unparsable("ParseBool", text)
    return text in _TRUE


def _natural(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return int(text)


def _unparsable(function: str, text: str) -> ApiError:
    complaint = f'strconv.{function}: parsing "{text}": invalid syntax'
    return ApiError(400, f"code=400, message={complaint}, internal={complaint}")
