from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from airflow_provider_bacalhau.devnode.signatures import EnvelopeError, check_client, open_envelope

from .requester_replay import Client

INVALID = "error verifying request signature: client's signature is invalid: "
SPKI_HEADER = bytes.fromhex("30820122300d06092a864886f70d01010105000382010f00")


@pytest.fixture(scope="module")
def client() -> Client:
    return Client()


def changed(client: Client, **members: Any) -> bytes:
    return json.dumps({**json.loads(client.envelope({"JobID": "x"})), **members}).encode()


def refusal(body: bytes) -> str:
    with pytest.raises(EnvelopeError) as caught:
        open_envelope(body)
    return str(caught.value)


def test_a_payload_is_verified_as_it_stands_in_the_body(client: Client) -> None:
    signed = open_envelope(client.envelope({"JobID": "ü <&> \\u00fc"}).encode())
    assert signed.payload == {"JobID": "ü <&> \\u00fc", "ClientID": client.id}
    assert signed.client_id == client.id


def test_the_same_payload_in_other_words_is_not_what_was_signed(client: Client) -> None:
    body = client.envelope({"JobID": "x"})
    assert refusal(body.replace('"JobID": "x"', '"JobID":"x"').encode()) == f"{INVALID}crypto/rsa: verification error"


def test_blanks_around_the_payload_and_the_order_of_members_do_not_count(client: Client) -> None:
    body = client.envelope({"JobID": "x"})
    head, _, rest = body.partition(',"signature":')
    payload = head.removeprefix('{"payload":')
    reordered = '{"signature":' + rest.removesuffix("}") + f' ,\n "PAYLOAD" :\t{payload} }}'
    assert open_envelope(reordered.encode()).payload["JobID"] == "x"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "error unmarshalling envelope: EOF"),
        (b'{"payload":', "error unmarshalling envelope: unexpected EOF"),
        (b"{nope", "error unmarshalling envelope: invalid character 'n' looking for beginning of object key string"),
        (b"{}", "no payload contained in signed message"),
        (b"null", "no payload contained in signed message"),
        (b'{"payload": null}', "no payload contained in signed message"),
    ],
)
def test_what_is_no_envelope_is_refused_in_the_words_of_the_server(body: bytes, text: str) -> None:
    assert refusal(body) == text


def test_a_key_or_signature_that_is_none_is_refused_in_the_words_of_the_server(client: Client) -> None:
    key = base64.b64decode(json.loads(client.envelope({}))["client_public_key"])
    spki = base64.b64encode(SPKI_HEADER + key).decode()
    assert refusal(changed(client, signature="AAAA-AAA")) == (
        f"{INVALID}failed to decode signature: illegal base64 data at input byte 4"
    )
    assert refusal(changed(client, client_public_key="AA_A")) == (
        f"{INVALID}failed to decode public key: failed to decode public key: illegal base64 data at input byte 2"
    )
    assert refusal(changed(client, client_public_key="")).startswith(f"{INVALID}failed to decode public key: asn1: ")
    assert refusal(changed(client, client_public_key=spki)) == (
        f"{INVALID}failed to decode public key: x509: failed to parse public key "
        "(use ParsePKIXPublicKey instead for this key format)"
    )


def test_the_client_that_a_payload_names_has_to_be_the_one_who_signed(client: Client) -> None:
    signed = open_envelope(client.envelope({}).encode())
    check_client(signed, client.id)
    with pytest.raises(EnvelopeError, match="payload must contain a client ID"):
        check_client(signed, "")
    with pytest.raises(EnvelopeError, match="client's public key does not match client ID"):
        check_client(signed, "0" * 64)
