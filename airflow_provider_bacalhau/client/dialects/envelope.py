"""The signed envelope of the requester API: three members around the very bytes that were signed.

The server keeps ``payload`` as it stands in the body and hashes the bytes between its first and its last character, so
the payload is written once, signed, and put into the body unchanged (reference: bacalhau-requester-api §2). There is no
nonce and no expiry: whoever holds an envelope can send it again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client.identity import Identity


def envelope(identity: Identity, payload: Mapping[str, Any]) -> bytes:
    """The body of a signed request.

    :param identity: signs it; its client id belongs into the payload as ``ClientID``.
    :param payload: what is asked.
    :returns: a JSON object ``{"payload", "signature", "client_public_key"}``: the signature is RSASSA-PKCS1-v1_5 with
        SHA-256, the key a PKCS#1 ``RSAPublicKey``, both in standard base64.
    """
    signed = json.dumps(payload, separators=(",", ":"), allow_nan=False).encode()
    signature = base64.b64encode(identity.sign(signed))
    key = base64.b64encode(identity.public_key_der)
    return b'{"payload":' + signed + b',"signature":"' + signature + b'","client_public_key":"' + key + b'"}'
