"""Content identifiers (CIDs), read by a real library and never by pattern.

A wrong CID is worth catching early: a compute node that looks for content nobody has is blocked for minutes, and its
other jobs with it.
"""

from __future__ import annotations

_LIBP2P_KEY = 0x72
"""The codec of an IPNS name: a key, under which different content may be published from day to day."""


def normalise_cid(text: str) -> str:
    """The usual spelling of a CID: version 0 as it is (``Qm…``), version 1 in base32 (``bafy…``).

    :param text: a bare CID of version 0 or 1, version 1 in any base.
    :raises ValueError: when it is no CID of content; the message says why.
    """
    import libipld

    if not text.isascii() or not text.replace("-", "").replace("_", "").isalnum():  # both occur in base64url
        raise ValueError("a CID holds only letters and digits")
    try:
        decoded = libipld.decode_cid(text)
        usual = str(libipld.encode_cid(text))
    except ValueError:
        raise ValueError("it cannot be decoded as a CID of version 0 or 1") from None
    if decoded["codec"] == _LIBP2P_KEY:
        raise ValueError("it is an IPNS name, which has no fixed content")
    if decoded["version"] == 0 and usual != text:
        raise ValueError("a CID of version 0 has no prefix that names its base")
    return usual


def is_cid(text: str) -> bool:
    """Whether the text is a bare CID of content."""
    try:
        normalise_cid(text)
    except ValueError:
        return False
    return True
