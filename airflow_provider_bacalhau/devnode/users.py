"""Built-in users of v1.7 and later: who sends a request, and whether they may.

Pure: from a request's method, path and ``Authorization`` header to the reason why it is refused. The reasons are the
servers' words, as recorded with nodes that had users.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_API = "/api/v1/"
_OPEN = {f"{_API}agent/alive", f"{_API}agent/version", f"{_API}agent/authconfig", f"{_API}version", f"{_API}auth"}
_RESOURCES = (("orchestrator/jobs", "job"), ("orchestrator/nodes", "node"), ("agent", "agent"))
_UNKNOWN = "write:node"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may use a node, by a password or by an API key.

    :param name: what refusals call them.
    :param actions: ``read:job``, ``write:*``, ``*`` and the like.
    """

    name: str
    username: str
    password: str
    api_key: str
    actions: frozenset[str]

    def may(self, capability: str) -> bool:
        """Whether a capability such as ``read:job`` is given."""
        verb = capability.partition(":")[0]
        return bool(self.actions & {"*", f"{verb}:*", capability})


class Refusal(Exception):
    """A request that is refused.

    :param is_known: the user is known and lacks a right; else nobody is known.
    :param early: what v1.7 says, where it differs.
    """

    def __init__(self, reason: str, *, is_known: bool = False, early: str = "") -> None:
        super().__init__(reason)
        self.is_known = is_known
        self.early = early or reason


def read_users(entries: Sequence[Mapping[str, Any]]) -> list[User]:
    """Users as the server's configuration ``API.Auth.Users`` words them.

    :raises ValueError: a user without a credential or without capabilities, or with both kinds of credential.
    """
    users = []
    for entry in entries:
        by_name = bool(entry.get("Username") and entry.get("Password"))
        if by_name == bool(entry.get("APIKey")):
            raise ValueError("a user has a Username and a Password, or an APIKey")
        actions = frozenset(action for given in entry.get("Capabilities", ()) for action in given["Actions"])
        if not actions:
            raise ValueError("a user has at least one capability")
        name = entry.get("Alias") or entry.get("Username") or "API key"
        users.append(User(name, entry.get("Username", ""), entry.get("Password", ""), entry.get("APIKey", ""), actions))
    return users


def masked(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Users as ``/agent/config`` shows them."""
    return [{key: "********" if key in {"Password", "APIKey"} else value for key, value in e.items()} for e in entries]


def authorize(users: Sequence[User], method: str, path: str, authorization: str) -> None:
    """Let a request pass.

    :raises Refusal: credentials or rights are missing.
    """
    if method == "OPTIONS" or path in _OPEN or path.startswith(f"{_API}auth/"):
        return
    user = _user(users, authorization)
    needed = needed_capability(method, path)
    if not user.may(needed):
        reason = f"user '{user.name}' does not have the required capability '{needed}'"
        raise Refusal(reason, is_known=True)


def needed_capability(method: str, path: str) -> str:
    """The right that a request takes: GET reads, everything else writes, and what is unknown takes ``write:node``."""
    verb = "read" if method == "GET" else "write"
    for start, resource in _RESOURCES:
        whole = _API + start
        if path == whole or path.startswith(f"{whole}/"):
            return f"{verb}:{resource}"
    return _UNKNOWN


def _user(users: Sequence[User], authorization: str) -> User:
    if not authorization:
        raise Refusal("Missing Authorization header", early="missing authorization header")
    scheme, _, credential = authorization.partition(" ")
    if scheme == "Basic" and credential:
        return _by_password(users, credential)
    if scheme == "Bearer" and credential:
        return _by_key(users, credential)
    raise Refusal("unsupported authentication method")


def _by_password(users: Sequence[User], credential: str) -> User:
    try:
        name, _, password = base64.b64decode(credential, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        reason = "failed to decode basic auth credentials"
        raise Refusal(reason, early=f"authentication failed: {reason}: illegal base64 data at input byte 0") from None
    for user in users:
        if user.username and user.username.lower() == name.lower() and _same(user.password, password):
            return user
    reason = "invalid basic auth credentials"
    raise Refusal(reason, early=f"authentication failed: {reason}")


def _by_key(users: Sequence[User], key: str) -> User:
    if _is_token(key):
        reason = "OAuth2 authentication not configured on server"
        raise Refusal(reason, early="JWT authorization not configured")
    for user in users:
        if user.api_key and _same(user.api_key, key):
            return user
    raise Refusal("invalid API key", early="authentication failed: invalid API key")


def _is_token(text: str) -> bool:
    """Whether a key looks like a JWT: three parts, the first two of them JSON."""
    parts = text.split(".")
    if len(parts) != 3:
        return False
    try:
        for part in parts[:2]:
            json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError:
        return False
    return True


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
