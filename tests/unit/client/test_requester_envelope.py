"""The signed envelope, looked at as the server does it: only the raw bytes of the payload count."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_public_key

from airflow_provider_bacalhau.client.dialects.envelope import envelope
from airflow_provider_bacalhau.client.identity import Identity, load_identity
from tests.support.requester import VERSIONS, logs, recorded


def open_envelope(body: str) -> tuple[bytes, RSAPublicKey, bytes]:
    """Raw payload, key and signature of an envelope, as Go's decoder sees them: the payload is not decoded."""
    members: dict[str, Any] = {}
    place = body.index("{") + 1
    decoder = json.JSONDecoder()
    while True:
        name, place = decoder.raw_decode(body, _skip(body, place))
        start = _skip(body, _skip(body, place, ":"))
        value, place = decoder.raw_decode(body, start)
        members[name] = body[start:place].encode() if name == "payload" else value
        place = _skip(body, place)
        if body[place] == "}":
            break
        place += 1
    key = load_der_public_key(base64.b64decode(members["client_public_key"], validate=True))
    assert isinstance(key, RSAPublicKey)
    return members["payload"], key, base64.b64decode(members["signature"], validate=True)


def _skip(text: str, place: int, also: str = "") -> int:
    while text[place] in " \t\r\n" + also:
        place += 1
    return place


def verifies(body: str) -> bool:
    payload, key, signature = open_envelope(body)
    try:
        key.verify(signature, payload, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True


def client_id(key: RSAPublicKey) -> str:
    modulus = key.public_numbers().n
    return hashlib.sha256(modulus.to_bytes((modulus.bit_length() + 7) // 8, "big")).hexdigest()


SIGNED = [
    pytest.param(version, one.label, one.body, id=f"{version} {one.label}")
    for version in VERSIONS
    for one in recorded(version)
    if one.body and '"signature"' in one.body
]


@pytest.mark.parametrize(("version", "label", "body"), SIGNED)
def test_a_recorded_signature_verifies_unless_it_was_spoilt(version: str, label: str, body: str) -> None:
    assert verifies(body) is (label != "submit bad signature")


def test_the_recordings_hold_signed_requests() -> None:
    assert len(SIGNED) > 60


@pytest.mark.parametrize("version", VERSIONS[:3])
def test_the_recorded_first_message_of_logs_verifies(version: str) -> None:
    assert verifies(logs(version)["sent"])


@pytest.fixture(scope="module")
def identity() -> Identity:
    key = generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return load_identity(pem=pem.decode())


PAYLOADS: list[dict[str, Any]] = [
    {"JobID": "x"},
    {"Reason": 'says "stop" & <goes>\n\t\\ ü 漢字 😀', "Spec": {"Outputs": [], "Timeout": 30, "DoNotTrack": False}},
    {"Spec": {"payload": {"signature": "a", "client_public_key": "b"}, "x": '","signature":"'}},
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_we_send_verifies_and_says_what_was_asked(identity: Identity, payload: dict[str, Any]) -> None:
    body = envelope(identity, {"ClientID": identity.client_id, **payload}).decode()
    assert verifies(body)
    raw, key, _ = open_envelope(body)
    assert json.loads(raw) == {"ClientID": client_id(key), **payload}
    assert set(json.loads(body)) == {"payload", "signature", "client_public_key"}


def test_a_payload_that_was_changed_on_the_way_does_not_verify(identity: Identity) -> None:
    body = envelope(identity, {"JobID": "a", "Reason": "b"}).decode()
    assert not verifies(body.replace('"JobID":"a"', '"JobID":"c"'))
    assert not verifies(body.replace('"JobID":"a"', '"JobID": "a"'))


def test_space_around_the_payload_does_not_matter(identity: Identity) -> None:
    body = envelope(identity, {"JobID": "a"}).decode()
    assert verifies(body.replace('{"payload":{', '{ "payload" :\n {'))


def test_numbers_that_json_does_not_have_are_not_sent(identity: Identity) -> None:
    with pytest.raises(ValueError, match="JSON"):
        envelope(identity, {"Timeout": float("nan")})
