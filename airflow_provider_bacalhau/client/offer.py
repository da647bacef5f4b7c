"""The ways in that a server offers to those without credentials: ``GET /auth``, from v1.2.1 on.

Source: the servers' code and recordings of nodes v1.3.2, v1.7.0 and v1.9.3 (reference: bacalhau-orchestrator-api §9.2).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from airflow_provider_bacalhau.client.dialects.answers import error_of
from airflow_provider_bacalhau.client.dialects.detection import API
from airflow_provider_bacalhau.client.effects import Request, Response
from airflow_provider_bacalhau.client.errors import UnexpectedAnswer
from airflow_provider_bacalhau.client.reading import Fields

_OTHER_WAYS = "Fill in an API key or a JWT as the password alone, or use a client key (private_key or key_file)."

# What real servers ask to sign is their node's id. Anything freer, a JSON object above all, could be a job that another
# server then takes for ours.
_PHRASE = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")


@dataclass(frozen=True)
class Offer:
    """What ``GET /auth`` says of the ways in.

    :param is_known: whether the server has such a call at all (v1.2.1 and later).
    :param challenge: name of the method that wants a phrase signed; empty for none.
    :param phrase: that phrase.
    :param people: how the server asks people instead; empty when it does not.
    """

    is_known: bool = True
    challenge: str = ""
    phrase: bytes = b""
    people: str = ""

    @property
    def hint(self) -> str:
        """What to do where there is no challenge, or no key to answer it."""
        if self.people:
            return f"It asks people, by {self.people}, which Airflow cannot answer. {_OTHER_WAYS}"
        ways = "Fill in login and password of the connection, or an API key or token as the password alone"
        return f"{ways}; or give it a client key (private_key or key_file)." if self.challenge else f"{ways}."


async def ask_for_offer() -> Offer:
    """Ask a server for the ways in that it offers: ``GET /auth``, and ``GET /agent/authconfig`` (v1.7 and later).

    :raises UnexpectedAnswer: when the phrase to sign could be something else than a node's id.
    """
    request = Request("GET", f"{API}/auth", public=True)
    response = await request
    if response.status in {404, 405}:
        return Offer(is_known=False)
    if not response.ok:
        raise error_of(request, response)
    methods = Fields(response.json()).fields("Methods")
    for name in sorted(methods.raw, key=lambda name: name.lower() != "clientkey"):
        method = methods.fields(name)
        if method.text("type").lower() == "challenge":
            return Offer(challenge=name, phrase=_phrase(method.fields("params").text("InputPhrase"), request, response))
    if methods:
        return Offer(people=f"the method {min(methods.raw)!r}"[:100])
    return Offer(people="OAuth2" if await _asks_for_oauth2() else "")


async def _asks_for_oauth2() -> bool:
    response = await Request("GET", f"{API}/agent/authconfig", public=True)
    config = Fields(response.json()).fields("Config") if response.ok else Fields(None)
    return bool(config.text("ProviderID") or config.fields("Oauth2", "OAuth2").text("ProviderID"))


def _phrase(text: str, request: Request, response: Response) -> bytes:
    try:
        phrase = base64.b64decode(text, validate=True)
    except ValueError:
        phrase = b""
    if not _PHRASE.fullmatch(phrase):
        raise UnexpectedAnswer(
            "The server wants something signed that is no node's id; the client key signs nothing else.",
            hint="Check host and port of the connection.",
            method=request.method,
            path=request.path,
            status=response.status,
        )
    return phrase
