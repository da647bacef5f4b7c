"""The signed envelope of the requester API, checked as servers check it.

The signature is over the bytes of ``payload`` as they stand in the body, whatever their spacing; nothing is written
again. The order of the checks and their texts are the server's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from airflow_provider_bacalhau.devnode import godecode as go

_BLANK = " \t\r\n"
_INVALID = "error verifying request signature: client's signature is invalid: "
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*")
_INTEGER, _SEQUENCE = 0x02, 0x30
_ENVELOPE = go.struct({"payload": go.anything, "signature": go.string, "client_public_key": go.string})


class EnvelopeError(ValueError):
    """An envelope that is refused; the message is the server's."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A payload whose signature is right.

    :param payload: decoded JSON.
    :param client_id: who the key belongs to: SHA-256 of its modulus.
    """

    payload: Any
    client_id: str


def open_envelope(body: bytes) -> Signed:
    """Check a signed body.

    :raises EnvelopeError: with the server's text.
    """
    # Surrogates stand for bytes that are no UTF-8, so that the payload's bytes come back unchanged.
    text = body.decode("utf-8", "surrogateescape")
    try:
        parsed = _parsed(body)
        envelope = _ENVELOPE(parsed, "envelope")
    except go.BodyError as error:
        raise EnvelopeError(f"error unmarshalling envelope: {go_text(error)}") from None
    raw = _raw_member(text, "payload").encode("utf-8", "surrogateescape") if parsed else b""
    if raw in {b"", b"null"}:
        raise EnvelopeError("no payload contained in signed message")
    key = public_key(envelope["client_public_key"])
    try:
        signature = _base64(envelope["signature"])
    except ValueError as error:
        raise EnvelopeError(f"{_INVALID}failed to decode signature: {error}") from None
    try:
        key.verify(signature, raw, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise EnvelopeError(f"{_INVALID}crypto/rsa: verification error") from None
    return Signed(envelope["payload"], client_id_of(key))


def client_id_of(key: rsa.RSAPublicKey) -> str:
    """The client that a key belongs to."""
    modulus = key.public_numbers().n
    return hashlib.sha256(modulus.to_bytes((modulus.bit_length() + 7) // 8, "big")).hexdigest()


def check_client(signed: Signed, claimed: str) -> None:
    """Compare the client that a payload names with the one who signed it.

    :raises EnvelopeError: they differ, or none is named.
    """
    if not claimed:
        raise EnvelopeError("error validating request: payload must contain a client ID")
    if claimed != signed.client_id:
        raise EnvelopeError("error validating request: client's public key does not match client ID")


def go_text(error: go.BodyError) -> str:
    """What the decoder of a server says, without what the orchestrator API puts around it."""
    return str(error).rpartition(", internal=")[2]


def _parsed(body: bytes) -> Any:
    if not body.strip():
        raise go.BodyError("EOF")
    return go.parse_json(body)


def _raw_member(text: str, name: str) -> str:
    """The text of a member's value in a JSON object that is known to be one; the last of several counts."""
    decoder = json.JSONDecoder()
    at = _skip(text, 0) + 1
    found = ""
    while True:
        at = _skip(text, at)
        if at >= len(text) or text[at] == "}":
            return found
        key, at = decoder.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, at = decoder.raw_decode(text, start)
        if key.casefold() == name:
            found = text[start:at]
        at = _skip(text, at)
        if at < len(text) and text[at] == ",":
            at += 1


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at


def _base64(text: str) -> bytes:
    """Standard, padded base64.

    :raises ValueError: with Go's words.
    """
    data = text.encode()
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        match = _BASE64.match(data)
        raise ValueError(f"illegal base64 data at input byte {match.end() if match else 0}") from None


def public_key(text: str) -> rsa.RSAPublicKey:
    """A client's key: base64 of its PKCS#1 form.

    :raises EnvelopeError: with the server's text.
    """
    prefix = f"{_INVALID}failed to decode public key: "
    try:
        der = _base64(text)
    except ValueError as error:
        raise EnvelopeError(f"{prefix}failed to decode public key: {error}") from None
    try:
        tag, content, _ = _element(der)
        if tag != _SEQUENCE:
            raise ValueError("asn1: structure error: tags don't match")
        first, modulus, rest = _element(content)
        if first == _SEQUENCE:
            raise ValueError("x509: failed to parse public key (use ParsePKIXPublicKey instead for this key format)")
        second, exponent, _ = _element(rest)
        if (first, second) != (_INTEGER, _INTEGER):
            raise ValueError("asn1: structure error: tags don't match")
        numbers = rsa.RSAPublicNumbers(int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big"))
        return numbers.public_key()
    except ValueError as error:
        raise EnvelopeError(f"{prefix}{error}") from None


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag, content and what follows of the first DER element."""
    if len(data) < 2:
        raise ValueError("asn1: syntax error: sequence truncated")
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if len(data) < start + length:
        raise ValueError("asn1: syntax error: data truncated")
    return tag, data[start : start + length], data[start + length :]
