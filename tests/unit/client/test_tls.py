"""TLS the same both ways: authorities, refusals, client certificates."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_provider_bacalhau.client.effects import Failure, Request, Response, TransportError
from airflow_provider_bacalhau.client.errors import ConfigurationError
from airflow_provider_bacalhau.client.settings import ClientSettings
from tests.support.both import exchange, run_async, run_sync
from tests.support.server import Server, reply

both = pytest.mark.parametrize("run", [run_sync, run_async], ids=["requests", "aiohttp"])
Run = Callable[..., Any]


@dataclass(frozen=True)
class Issued:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def write(self, folder: Path, name: str, *, password: bytes | None = None) -> tuple[str, str]:
        """Files of the certificate and of its key."""
        encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        key.write_bytes(
            self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        )
        return str(certificate), str(key)


def issue(name: str, by: Issued | None = None) -> Issued:
    """A certificate for 127.0.0.1: an authority's own without ``by``."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
    )
    if by:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return Issued(key, builder.sign(by.key if by else key, hashes.SHA256()))


@dataclass(frozen=True)
class Files:
    authority: str
    other_authority: str
    served: tuple[str, str]
    client: tuple[str, str]
    locked: tuple[str, str]
    folder: Path

    def context(self, *, ask_for_certificate: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.served)
        if ask_for_certificate:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.authority)
        return context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    authority, other = issue("authority"), issue("other authority")
    client = issue("client", authority)
    return Files(
        authority.write(folder, "authority")[0],
        other.write(folder, "other")[0],
        issue("server", authority).write(folder, "server"),
        client.write(folder, "client"),
        client.write(folder, "locked", password=b"word"),
        folder,
    )


def ask(run: Run, server: Server, **settings: Any) -> Response:
    response = run(ClientSettings(server.url, **settings), exchange(Request("GET", "/x?X-Signature=secret")))
    assert isinstance(response, Response)
    return response


def serving(files: Files, *, ask_for_certificate: bool = False) -> Server:
    return Server(lambda peer, _: peer.send(reply(b"{}")), tls=files.context(ask_for_certificate=ask_for_certificate))


@both
def test_a_ca_file_is_trusted(run: Run, files: Files) -> None:
    with serving(files) as server:
        assert ask(run, server, ca_file=files.authority).status == 200


@both
def test_the_authorities_of_the_system_are_trusted(run: Run, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", files.authority)
    with serving(files) as server:
        assert ask(run, server).status == 200


@both
@pytest.mark.parametrize("trusted", ["nobody in particular", "another authority"])
def test_an_authority_that_is_not_trusted_is_said_as_tls_and_nothing_was_sent(
    run: Run, files: Files, trusted: str
) -> None:
    with serving(files) as server, pytest.raises(TransportError, match="the TLS handshake failed") as caught:
        ask(run, server, ca_file=files.other_authority if trusted == "another authority" else "")
    assert (caught.value.failure, caught.value.sent) == (Failure.TLS, False)
    assert server.asked == []
    assert "secret" not in str(caught.value)


@both
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_verification_can_be_switched_off(run: Run, files: Files) -> None:
    with serving(files) as server:
        assert ask(run, server, verify=False).status == 200


@both
def test_a_certificate_for_another_name_is_refused(run: Run, files: Files) -> None:
    with serving(files) as server:
        settings = ClientSettings(server.url.replace("127.0.0.1", "localhost"), ca_file=files.authority)
        with pytest.raises(TransportError) as caught:
            run(settings, exchange(Request("GET", "/x")))
    assert caught.value.failure is Failure.TLS


@both
def test_a_client_certificate_is_shown(run: Run, files: Files) -> None:
    certificate, key = files.client
    with serving(files, ask_for_certificate=True) as server:
        assert ask(run, server, ca_file=files.authority, client_cert=certificate, client_key=key).status == 200


@both
def test_certificate_and_key_may_be_in_one_file(run: Run, files: Files) -> None:
    joint = files.folder / "joint.pem"
    joint.write_text(Path(files.client[0]).read_text() + Path(files.client[1]).read_text())
    with serving(files, ask_for_certificate=True) as server:
        assert ask(run, server, ca_file=files.authority, client_cert=str(joint)).status == 200


@both
def test_a_client_without_a_certificate_may_have_sent_something(run: Run, files: Files) -> None:
    with serving(files, ask_for_certificate=True) as server, pytest.raises(TransportError) as caught:
        ask(run, server, ca_file=files.authority)
    assert caught.value.failure in {Failure.TLS, Failure.LOST}  # whether the alert or the end comes first is a race
    assert caught.value.sent
    assert server.asked == []


@both
def test_tls_to_a_server_that_speaks_none_is_said_as_tls(run: Run) -> None:
    with Server(lambda _, __: None, greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as server:
        settings = ClientSettings(server.url.replace("http", "https"))
        with pytest.raises(TransportError) as caught:
            run(settings, exchange(Request("GET", "/x")))
    assert caught.value.failure is Failure.TLS


@both
def test_a_connection_that_ends_in_the_handshake_is_lost(run: Run) -> None:
    with Server(lambda _, __: None, greeting=b"") as server:
        settings = ClientSettings(server.url.replace("http", "https"))
        with pytest.raises(TransportError) as caught:
            run(settings, exchange(Request("GET", "/x")))
    assert caught.value.failure in {Failure.TLS, Failure.LOST}


@both
@pytest.mark.parametrize("wrong", ["ca_file", "client_cert", "a locked key", "another's key"])
def test_files_that_hold_nothing_of_the_kind_are_the_connections_fault(run: Run, files: Files, wrong: str) -> None:
    junk = files.folder / "junk.pem"
    junk.write_text("-----BEGIN CERTIFICATE-----\nnothing\n")
    settings: dict[str, Any] = {
        "ca_file": {"ca_file": str(junk)},
        "client_cert": {"client_cert": str(junk)},
        "a locked key": {"client_cert": files.locked[0], "client_key": files.locked[1]},
        "another's key": {"client_cert": files.client[0], "client_key": files.served[1]},
    }[wrong]
    with (
        serving(files) as server,
        pytest.raises(ConfigurationError, match="TLS files of the connection cannot be read"),
    ):
        ask(run, server, **settings)
    assert server.connections == 0


@both
def test_no_certificate_file_is_read_for_plain_http(run: Run, files: Files) -> None:
    junk = files.folder / "junk2.pem"
    junk.write_text("nothing")
    with Server(lambda peer, _: peer.send(reply())) as server:
        assert ask(run, server, ca_file=str(junk)).status == 200


@both
def test_connections_over_tls_are_used_again(run: Run, files: Files) -> None:
    async def three() -> None:
        for _ in range(3):
            await Request("GET", "/x")

    with serving(files) as server:
        run(ClientSettings(server.url, ca_file=files.authority), three())
    assert (len(server.asked), server.connections) == (3, 1)
