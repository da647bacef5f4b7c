"""``/api/v1/auth``: the challenge by which servers since v1.2.1 know a client's key, and the tokens it leads to.

A client signs the phrase that it was given (the name of the node) and gets a token. A node without an access policy
looks at no token, so anything passes; neither does this one.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from functools import cached_property
from typing import Any

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from airflow_provider_bacalhau.devnode import godecode as go
from airflow_provider_bacalhau.devnode.emulation import Emulation
from airflow_provider_bacalhau.devnode.routes.errors import ApiError, json_response, unknown_route
from airflow_provider_bacalhau.devnode.routes.reading import read_body
from airflow_provider_bacalhau.devnode.routes.requester_bodies import echo
from airflow_provider_bacalhau.devnode.signatures import EnvelopeError, client_id_of, public_key

_ROOT = "/api/v1/auth"
_METHOD = "clientkey"
_MONTH = 30 * 24 * 3600
_MICROSECONDS = 1e6
_KEY_SIZE = 2048
_OWN, _OTHERS = 15, 5  # read, write, download and cancel; read and download
_ANSWER = go.struct({"PhraseSignature": go.string, "PublicKey": go.string})


def _bytes(value: Any, path: str) -> str:
    try:
        return go.string(value, path)
    except go.BodyError as error:
        raise go.BodyError(
            str(error).replace("expected=string", "expected=[]uint8").replace("type string", "type []uint8")
        ) from None


_REQUEST = go.struct({"MethodData": _bytes})


class AuthRoutes:
    """The handlers.

    :param node_id: the phrase to sign.
    :param offers_challenge: false where users are configured, who leave no other method.
    """

    def __init__(self, node_id: str, emulation: Emulation, *, offers_challenge: bool) -> None:
        self._node_id = node_id
        self._emulation = emulation
        self._offers_challenge = offers_challenge

    def routes(self) -> list[web.AbstractRouteDef]:
        """All routes of this part."""
        if not self._emulation.has_auth:
            return [web.get(_ROOT, self._absent, allow_head=False)]
        return [
            web.get(_ROOT, self._methods, allow_head=False),
            web.get(_ROOT + "/{name}", self._method, allow_head=False),
            web.post(_ROOT + "/{name}", self._answer),
        ]

    async def _absent(self, _: web.Request) -> web.Response:
        """As v1.1.6: JSON under the name of text."""
        return web.Response(body=echo("Not Found", 404).body, status=404, headers={"Content-Type": "text/plain"})

    async def _methods(self, _: web.Request) -> web.Response:
        methods = {_METHOD: self._challenge()} if self._offers_challenge else {}
        return json_response({"NextToken": "", "Methods": methods})

    async def _method(self, request: web.Request) -> web.Response:
        self._check_name(request)
        return json_response(self._challenge())

    async def _answer(self, request: web.Request) -> web.Response:
        self._check_name(request)
        body = await read_body(request)
        sent = _REQUEST(go.parse_json(body) if body else None, "AuthnRequest")["MethodData"]
        try:
            data = base64.b64decode(sent, validate=True)
        except binascii.Error:
            complaint = "illegal base64 data at input byte 0"
            raise ApiError(400, f"code=400, message={complaint}, internal={complaint}") from None
        try:
            client = self._client(_ANSWER(_parsed(data), "response"))
        except InvalidSignature:
            return _outcome(401, {"success": False, "reason": "crypto/rsa: verification error"})
        except (EnvelopeError, ValueError) as error:
            raise ApiError(500, f"invalid authentication data: {error}") from None
        return _outcome(200, {"success": True, "token": self._token(client)})

    def _check_name(self, request: web.Request) -> None:
        if request.match_info["name"] != _METHOD or not self._offers_challenge:
            raise unknown_route(self._emulation)

    def _challenge(self) -> dict[str, Any]:
        phrase = base64.b64encode(self._node_id.encode()).decode()
        return {"type": "challenge", "params": {"InputPhrase": phrase}}

    def _client(self, answer: dict[str, str]) -> str:
        """Who signed the phrase."""
        key = public_key(answer["PublicKey"])
        signature = base64.b64decode(answer["PhraseSignature"], validate=True)
        key.verify(signature, self._node_id.encode(), padding.PKCS1v15(), hashes.SHA256())
        return client_id_of(key)

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        """Made when the first token is asked for; tokens of an earlier run are worth nothing."""
        return rsa.generate_private_key(public_exponent=65537, key_size=_KEY_SIZE)

    def _token(self, client: str) -> str:
        now = time.time()
        claims = {
            "aud": [self._node_id],
            # In microseconds, as the servers write them.
            "exp": (now + _MONTH) * _MICROSECONDS,
            "iat": now * _MICROSECONDS,
            "iss": self._node_id,
            "ns": {"*": _OTHERS, client: _OWN},
            "sub": client,
        }
        signed = f"{_encoded({'alg': 'RS256', 'typ': 'JWT'})}.{_encoded(claims)}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_text(signature)}"


def _outcome(status: int, authentication: dict[str, Any]) -> web.Response:
    return json_response({"Authentication": authentication}, status)


def _parsed(data: bytes) -> Any:
    """The JSON inside the method's data.

    :raises ValueError: with Go's words where they are known.
    """
    if not data.strip():
        raise ValueError("unexpected end of JSON input")
    try:
        return json.loads(data)
    except json.JSONDecodeError:
        text = data.decode(errors="replace").strip()
        for word in ("null", "true", "false"):
            if text[0] == word[0]:
                at = next((n for n, (one, other) in enumerate(zip(text, word, strict=False)) if one != other), 0)
                raise ValueError(f"invalid character '{text[at]}' in literal {word} (expecting '{word[at]}')") from None
        raise ValueError(f"invalid character '{text[0]}' looking for beginning of value") from None


def _encoded(content: dict[str, Any]) -> str:
    return _text(json.dumps(content, separators=(",", ":")).encode())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
