"""``data:`` URLs (RFC 2397), the form in which a job specification holds the bytes of a file."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes

GZIP = "application/gzip"
"""The one media type that servers treat in a special way: its bytes are unpacked as a .tar.gz, into a folder."""


def encode_data_url(data: bytes, media_type: str) -> str:
    """The bytes as a ``data:`` URL in base64."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def decode_data_url(url: str) -> tuple[str, bytes]:
    """Media type, without its parameters, and bytes of a ``data:`` URL.

    :raises ValueError: when it is none; the message says why and does not repeat the data.
    """
    head, comma, body = url.partition(",")
    if not head.lower().startswith("data:") or not comma:
        raise ValueError("is not a `data:` URL, such as `data:text/plain;base64,aGVsbG8=`")
    media_type, *parameters = head[len("data:") :].split(";")
    if "base64" not in parameters:
        return media_type.lower(), unquote_to_bytes(body)
    try:
        return media_type.lower(), base64.b64decode(unquote_to_bytes(body), validate=True)
    except binascii.Error:
        raise ValueError("is a `data:` URL whose base64 is broken") from None
