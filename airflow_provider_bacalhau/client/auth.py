"""How requests say who sends them: not at all, by user and password, by a key or token, or by a token for a signature.

A method of authentication is two coroutines, ``prepare`` and ``renew``; :func:`with_auth` lays them over an operation
that knows of neither. Source: the servers' code, recordings of nodes v1.3.2, v1.7.0 and v1.9.3 (reference:
bacalhau-orchestrator-api §9). A server that was set up without users takes everything, credentials or not.

Credentials go to the connection's own server only, and never with a public request: under an access policy a server
answers 500 to a token that it cannot read, health checks included.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from airflow_provider_bacalhau.client.dialects.answers import error_of
from airflow_provider_bacalhau.client.dialects.detection import API
from airflow_provider_bacalhau.client.effects import (
    Call,
    Once,
    Operation,
    Request,
    Response,
    TransportError,
    with_requests,
)
from airflow_provider_bacalhau.client.errors import BacalhauError, ConfigurationError, NotAuthorised, UnexpectedAnswer
from airflow_provider_bacalhau.client.identity import find_identity
from airflow_provider_bacalhau.client.offer import Offer, ask_for_offer
from airflow_provider_bacalhau.client.reading import Fields

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client.identity import Identity
    from airflow_provider_bacalhau.client.settings import ClientSettings

T = TypeVar("T")

METHODS = ("auto", "none", "basic", "bearer", "client_key")
"""What a connection's ``auth`` may say."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=:-]{1,8192}")


async def with_auth(operation: Operation[T], auth: Auth) -> T:
    """Run an operation with credentials; once for each request, renew them where the server wants others.

    It lies below the retry rule: ``with_retry(with_auth(operation, auth))``.

    :raises NotAuthorised: naming the credential that was sent, what the server says of it, and which field to mend.
    """

    async def send(request: Request) -> Response:
        if request.public or not request.target.startswith("/"):
            return await request
        sent = await _prepared(request, auth)
        response = await sent
        if not response.ok and await auth.renew(sent, response):
            sent = await _prepared(request, auth)
            response = await sent
        return response if response.ok else _without_echo(response, sent)

    try:
        return await with_requests(operation, send)
    except NotAuthorised as error:
        raise auth.explain(error) from None


async def _prepared(request: Request, auth: Auth) -> Request:
    try:
        return await auth.prepare(request)
    except TransportError as error:
        # Of the request itself no byte has left, whatever happened on the way to a token.
        raise TransportError(error.failure, sent=False, detail=error.detail) from None


def _without_echo(response: Response, sent: Request) -> Response:
    """An unhappy answer without the credentials of the request, which a server may quote in its message."""
    value = sent.headers.get("Authorization", "").partition(" ")[2]
    if not value or not response.body:
        return response
    secrets = [value]
    with contextlib.suppress(ValueError):  # a token is no base64 of a user and a password
        secrets.append(base64.b64decode(value, validate=True).decode().partition(":")[2])
    body = response.body
    for secret in filter(None, secrets):
        for form in {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}:
            body = body.replace(form.encode(), b"***")
    return replace(response, body=body)


def choose_auth(settings: ClientSettings, identity: Callable[[], Identity]) -> Auth:
    """The method of authentication that settings ask for.

    ``auto`` means ``basic`` where there are login and password, ``bearer`` where there is a password alone, and
    otherwise nothing, until a server asks: then a client key that is there already is offered to it. None is made for
    that.

    :param identity: gives the client key for ``client_key``; made if there is none.
    :raises ConfigurationError: for settings that make no sense together.
    """
    method = settings.auth
    if method == "auto" and (settings.login or settings.password):
        method = "basic" if settings.login else "bearer"
    told = settings.on_secret or _nobody
    if method == "basic":
        return _basic(settings, told)
    if method == "bearer":
        return _bearer(settings)
    if method == "client_key":
        return ClientKey(identity, told)
    if method == "auto":
        found = partial(
            find_identity,
            pem=settings.private_key,
            passphrase=settings.private_key_passphrase,
            key_file=settings.key_file,
        )
        return WhenAsked(found, told)
    if method == "none":
        return Auth()
    raise ConfigurationError(f"The connection's auth has to be one of {', '.join(METHODS)}.")


def _basic(settings: ClientSettings, told: Callable[[str], object]) -> Auth:
    if not settings.login or not settings.password:
        missing = "password" if settings.login else "login"
        raise ConfigurationError(
            f"There is no {missing} to log in with.",
            hint="A user needs both, login and password; an API key or a token is a password without a login.",
        )
    if ":" in settings.login:
        raise ConfigurationError("The login holds a colon, which no user name may.")
    value = base64.b64encode(f"{settings.login}:{settings.password}".encode()).decode()
    told(value)
    place = "BACALHAU_API_USERNAME and BACALHAU_API_PASSWORD"
    if not settings.from_environment:
        place = "the connection's login and password"
    return Fixed(f"Basic {value}", place, place)


def _bearer(settings: ClientSettings) -> Auth:
    token = settings.password.strip()
    if not token:
        raise ConfigurationError(
            "There is no password to send as an API key or token.", hint="Fill in the key as the password."
        )
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigurationError(
            "The password cannot be an API key or token: it holds a space or another character that does not belong "
            "there.",
            hint="Give the key alone, without Bearer before it; for a user fill in the login as well.",
        )
    place = "BACALHAU_API_KEY" if settings.from_environment else "the connection's password"
    return Fixed(f"Bearer {token}", f"{place} as an API key or token", place)


class Auth:
    """Sends no credentials; what other methods do beyond that, they say themselves."""

    async def prepare(self, request: Request) -> Request:
        """The request with what it must carry."""
        return request

    async def renew(self, sent: Request, response: Response) -> bool:
        """Whether it is worth sending the request once more, freshly prepared.

        :param sent: the request as it was sent.
        :param response: an unhappy answer to it.
        """
        return False

    def explain(self, error: NotAuthorised) -> NotAuthorised:
        """The same error in terms of the connection: which credential, which right, which field to mend."""
        return error.restated(
            f"The server wants credentials, and auth is none: {error.reason}",
            "Set auth to auto, and fill in login and password, or an API key or token as the password alone.",
        )


class Fixed(Auth):
    """Sends the same header with every request.

    :param header: value of ``Authorization``.
    :param credential: what it is, for errors.
    :param place: where it comes from, for hints.
    """

    def __init__(self, header: str, credential: str, place: str) -> None:
        self._header = header
        self._credential = credential
        self._place = place

    async def prepare(self, request: Request) -> Request:
        """The request with the header."""
        return replace(request, headers={**request.headers, "Authorization": self._header})

    def explain(self, error: NotAuthorised) -> NotAuthorised:
        """The same error, naming this credential."""
        if error.capability:
            return _lacking(error, self._credential, self._place)
        hint = f"Mend {self._place}."
        if re.search("(OAuth2 authentication|JWT authorization) not configured", error.reason):
            hint = f"It looks like a JWT, and this server takes API keys only. {hint}"
        return error.restated(f"The server does not take {self._credential}: {error.reason}", hint)


class ClientKey(Auth):
    """Earns a token by signing the server's phrase, and keeps it in memory until it is refused.

    The token says itself how long it holds, but in microseconds where seconds belong; so nobody looks at that.

    :param key: gives the client key; may read files.
    :param told: told the token before it is used.
    """

    def __init__(self, key: Callable[[], Identity | None], told: Callable[[str], object]) -> None:
        self._key = key
        self._told = told
        self._token: str | None = None  # empty where none is to be had
        self._client_id = ""

    async def prepare(self, request: Request) -> Request:
        """The request with a token; all who want one at the same time wait for the same."""
        if self._token is None:
            await Once("token", self._log_in)
        return self._carrying_token(request)

    async def renew(self, sent: Request, response: Response) -> bool:
        """After a 401: forget the token, unless another request did so meanwhile."""
        if response.status != 401 or self._token == "":
            return False
        if sent.headers == self._carrying_token(sent).headers:
            self._token = None
        return True

    def explain(self, error: NotAuthorised) -> NotAuthorised:
        """The same error, naming the key."""
        credential, place = f"the client key {self._client_id}", "the connection's private_key or key_file"
        if error.capability:
            return _lacking(error, credential, place)
        return error.restated(
            f"The server does not allow this to {credential}: {error.reason}",
            f"Have its access policy allow it to that client id, or mend {place}.",
        )

    def _carrying_token(self, request: Request) -> Request:
        if not self._token:
            return request
        return replace(request, headers={**request.headers, "Authorization": f"Bearer {self._token}"})

    async def _log_in(self) -> None:
        offer = await ask_for_offer()
        key = await Call(self._key) if offer.challenge else None
        if offer.is_known and key is None:
            raise NotAuthorised("The server offers nothing that a client key could sign.", hint=offer.hint)
        self._token = "" if key is None else await self._answer(offer, key)

    async def _answer(self, offer: Offer, key: Identity) -> str:
        """Sign the phrase, and take the token for it."""
        self._client_id = key.client_id
        answer = {"PhraseSignature": _base64(key.sign(offer.phrase)), "PublicKey": _base64(key.public_key_der)}
        request = Request(
            "POST",
            f"{API}/auth/{quote(offer.challenge, safe='')}",
            headers={"Content-Type": "application/json"},
            body=json.dumps({"MethodData": _base64(json.dumps(answer).encode())}).encode(),
            repeatable=True,
            public=True,
        )
        response = await request
        said = Fields(response.json()).fields("Authentication")
        if response.status in {401, 403}:
            refused = NotAuthorised("", reason=said.text("reason") or "no reason given", **_facts(request, response))
            raise self.explain(refused)
        if not response.ok:
            raise error_of(request, response)
        token = said.text("token")
        if not _TOKEN.fullmatch(token):
            raise UnexpectedAnswer("The server gave no token that can be read.", **_facts(request, response))
        self._told(token)
        return token


class WhenAsked(ClientKey):
    """Sends nothing, until a server asks for credentials: then it gets a token for a client key, if there is one."""

    def __init__(self, key: Callable[[], Identity | None], told: Callable[[str], object]) -> None:
        super().__init__(key, told)
        self._offer = Offer()
        self._has_way_in: bool | None = None  # None before a server asked

    async def prepare(self, request: Request) -> Request:
        """The request, with a token once one was asked for."""
        return await super().prepare(request) if self._has_way_in else request

    async def renew(self, sent: Request, response: Response) -> bool:
        """After the first refusal: look for a way in; afterwards as with a client key."""
        if self._has_way_in:
            return "Authorization" not in sent.headers or await super().renew(sent, response)
        error = error_of(sent, response)
        if self._has_way_in is False or not isinstance(error, NotAuthorised) or error.capability:
            return False
        await Once("token", self._log_in)
        return bool(self._token)

    def explain(self, error: NotAuthorised) -> NotAuthorised:
        """The same error, saying what the server would take."""
        if self._has_way_in:
            return super().explain(error)
        return error.restated(f"The server wants credentials, and none are set: {error.reason}", self._offer.hint)

    async def _log_in(self) -> None:
        # Where that goes wrong as well, the refusal is the better thing to tell.
        with contextlib.suppress(BacalhauError):
            self._offer = await ask_for_offer()
        key = await Call(self._key) if self._offer.challenge else None
        self._token = "" if key is None else await self._answer(self._offer, key)
        self._has_way_in = bool(self._token)


def _lacking(error: NotAuthorised, credential: str, place: str) -> NotAuthorised:
    return error.restated(
        f"Not allowed with {credential}: {error.reason}",
        f"Give that user the capability {error.capability} on the server, or change {place}.",
    )


def _facts(request: Request, response: Response) -> dict[str, Any]:
    return {"method": request.method, "path": request.path, "status": response.status}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _nobody(secret: str) -> None:
    """Nobody wants to be told."""
