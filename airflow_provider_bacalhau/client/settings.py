"""Where a Bacalhau network is and how to reach it: what both transports need to know."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from airflow_provider_bacalhau.client.errors import ConfigurationError

DEFAULT_PORT = 1234
"""Port of the API in every server version."""

DEFAULT_TIMEOUT = 30.0
"""Seconds for one exchange; servers themselves give up after 30."""

APIS = ("auto", "orchestrator", "requester")
"""What a connection's ``api`` may say."""

CONNECT_TIMEOUT = 10.0
"""Seconds to connect, where the whole exchange may take longer."""


@dataclass(frozen=True)
class ClientSettings:
    """Settings of a client.

    :param url: address of the server without ``/api/v1``, such as ``http://127.0.0.1:1234``; see :func:`api_address`.
    :param verify: whether to verify the server's TLS certificate.
    :param ca_file: file of the certificate authority that signed it, when it is not a public one.
    :param client_cert: certificate file to identify this client with, where a proxy asks for it.
    :param client_key: key file of that certificate; empty when it is in the same file.
    :param timeout: seconds for one exchange, from connecting to the last byte.
    :param ipfs_gateway: address of an IPFS gateway, such as ``http://127.0.0.1:8080``; empty for none.
    :param api: ``auto``, ``orchestrator`` or ``requester``: which of Bacalhau's two APIs to speak.
    :param auth: ``auto``, ``none``, ``basic``, ``bearer`` or ``client_key``: how to identify oneself; see
        :func:`~airflow_provider_bacalhau.client.auth.choose_auth`.
    :param login: user name.
    :param password: password of that user; without a user, an API key or a token.
    :param private_key: client key in PEM; see :func:`~airflow_provider_bacalhau.client.identity.load_identity`.
    :param private_key_passphrase: of an encrypted client key.
    :param key_file: file of the client key.
    :param from_environment: whether these come from the variables of the official tools, so that errors name those.
    :param on_secret: told each secret that is made of these, such as a token, before it is used.
    """

    url: str
    verify: bool = True
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""
    timeout: float = DEFAULT_TIMEOUT
    ipfs_gateway: str = ""
    api: str = "auto"
    auth: str = "auto"
    login: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)
    private_key_passphrase: str = field(default="", repr=False)
    key_file: str = ""
    from_environment: bool = False
    on_secret: Callable[[str], object] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse what no library could use, before one of them says so in the middle of a request."""
        if self.api not in APIS:
            raise ConfigurationError(f"The connection's api has to be one of {', '.join(APIS)}.")
        if not 0 < self.timeout < float("inf"):
            raise ConfigurationError(f"The connection's timeout is not a number of seconds: {self.timeout}.")
        if self.ipfs_gateway:
            _check_gateway(self.ipfs_gateway)
        for name in ("ca_file", "client_cert", "client_key"):
            path = getattr(self, name)
            if path and not Path(path).is_file():
                raise ConfigurationError(
                    f"The connection's {name} names no file on this machine: {path}",
                    hint="Every Airflow worker, triggerer and API server needs that file.",
                )

    @property
    def host(self) -> str:
        """Host and port, for logs and errors."""
        return urlsplit(self.url).netloc


def _check_gateway(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.username is None and not parts.query
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(
            "The connection's ipfs_gateway is not an address that can be used.",
            hint="Give a URL without credentials, such as http://127.0.0.1:8080.",
        )


def api_address(host: str, port: int | None = None, *, use_tls: bool = False) -> str:
    """The address of a server's API from what a connection holds.

    The port is that of a full URL, else ``port``, else 443 or 80 for a full URL, else 1234.

    :param host: a host name or address, or a full ``http(s)://`` URL (a path in it is kept, for servers behind a
        proxy).
    :param port: port number.
    :param use_tls: whether to use https; a full URL says so itself.
    :returns: an address without a slash at its end and without ``/api/v1``.
    :raises ConfigurationError: for a host that is none.
    """
    host = host.strip()
    if not host:
        raise ConfigurationError("The connection has no host.", hint="Give the name or the URL of the Bacalhau server.")
    is_url = "://" in host
    if any(character.isspace() or not character.isprintable() for character in host):
        raise ConfigurationError("The connection's host is not a host name, address or URL.")
    if port is not None and not 0 <= port <= 65535:
        raise ConfigurationError(f"The connection's port is not one: {port}.", hint="Give a number up to 65535.")
    if not is_url and host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    try:
        parts = urlsplit(host if is_url else f"{'https' if use_tls else 'http'}://{host}")
        given_port, name = parts.port, parts.hostname
    except ValueError:
        raise ConfigurationError("The connection's host is not a host name, address or URL.") from None
    if parts.scheme not in {"http", "https"} or not name:
        raise ConfigurationError(
            f"The connection's host is not an address that can be used: it begins with {parts.scheme}://.",
            hint="Give a host name, or a URL that begins with http:// or https://.",
        )
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ConfigurationError(
            "The connection's host holds more than an address.",
            hint="Leave credentials, query and fragment out of it.",
        )
    default = (443 if parts.scheme == "https" else 80) if is_url else DEFAULT_PORT
    number = given_port or port or default
    shown = f"[{name}]" if ":" in name else name
    path = parts.path.rstrip("/").removesuffix("/api/v1")
    return f"{parts.scheme}://{shown}:{number}{path}"


def is_loopback(url: str) -> bool:
    """Whether an address is one of this machine alone; an empty one, which nobody else can name, counts as such."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return False
    if host in {"", "localhost"} or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
        return address.is_loopback or address.is_unspecified
    except ValueError:
        return False
