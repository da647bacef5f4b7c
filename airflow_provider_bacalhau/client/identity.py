"""The user's key: who signs, and to whom jobs on the requester API belong.

Kept as the official tools keep it: RSA-2048 in PKCS#1 PEM, ``user_id.pem`` in ``$BACALHAU_DIR`` (by default
``~/.bacalhau``), for its owner's eyes only. A key made by either side is taken by the other (reference:
bacalhau-requester-api §2.4, bacalhau-orchestrator-api §9.4). No error and no log line here holds a part of a key.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_bacalhau.client.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

log = logging.getLogger(__name__)

KEY_NAME = "user_id.pem"
"""Name of the key's file in the folder of the official tools."""

KEY_BITS = 2048
"""Size of the keys made here, and the smallest that is taken."""

_LONGEST_PEM = 64 * 1024
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_PEM_HEADERS = re.compile(
    r"\s*Proc-Type:\s*4,ENCRYPTED\s*DEK-Info:\s*(AES-\d+-CBC,[0-9A-F]{32}|DES-(?:EDE3-)?CBC,[0-9A-F]{16})(.*)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Identity:
    """A client of Bacalhau networks.

    :param client_id: hex SHA-256 of the key's modulus; jobs on the requester API belong to it.
    :param public_key_der: the public key, PKCS#1 DER.
    """

    client_id: str
    public_key_der: bytes = field(repr=False)
    _key: RSAPrivateKey = field(repr=False, compare=False)

    def sign(self, data: bytes) -> bytes:
        """Sign these bytes: RSASSA-PKCS1-v1_5 with SHA-256."""
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        return self._key.sign(data, PKCS1v15(), SHA256())


def load_identity(*, pem: str = "", passphrase: str = "", key_file: str = "", folder: Path | None = None) -> Identity:
    """The key from the first of: ``pem``, ``key_file``, ``user_id.pem`` in the folder; made there if there is none.

    It reads files, and making a key takes some tenths of a second: not for an event loop.

    :param pem: the key itself, in PEM, PKCS#1 or PKCS#8 (which the official tools refuse). Line breaks may be lost or
        escaped, as forms and environment variables do it.
    :param passphrase: of an encrypted key.
    :param key_file: file of the key. It may be a link, as Kubernetes mounts secrets, but not open to all.
    :param folder: of the official tools; None for ``$BACALHAU_DIR``, by default ``~/.bacalhau``.
    :raises ConfigurationError: for a key that cannot be used, or whose file others can read.
    """
    found = find_identity(pem=pem, passphrase=passphrase, key_file=key_file, folder=folder)
    return found or _make(folder or tools_folder(), passphrase)


def find_identity(
    *, pem: str = "", passphrase: str = "", key_file: str = "", folder: Path | None = None
) -> Identity | None:
    """The key from the first of these places, as :func:`load_identity`, but None where that would make one."""
    if pem.strip():
        return _read(pem, passphrase, "The connection's private_key")
    if key_file:
        path = Path(key_file).expanduser()
        what = f"The connection's key_file {path}"
        return _read(_content(path, what, is_ours=False), passphrase, what)
    path = (folder or tools_folder()) / KEY_NAME
    try:
        text = _content(path, f"The key {path}", is_ours=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _read(text, passphrase, f"The key {path}")


def tools_folder() -> Path:
    """The folder of the official tools.

    :raises ConfigurationError: when there is no home folder to look in.
    """
    named = os.environ.get("BACALHAU_DIR", "").strip()
    try:
        return Path(named).expanduser() if named else Path.home() / ".bacalhau"
    except RuntimeError:
        raise ConfigurationError(
            "There is no home folder to keep a client key in.", hint=f"Set BACALHAU_DIR; or {_NAME_ONE}"
        ) from None


_NAME_ONE = "give the connection one by private_key or key_file."


def _content(path: Path, what: str, *, is_ours: bool) -> str:
    """A key file's text, after a look at who else can read it: at the opened file, so that nothing can be swapped.

    :param is_ours: whether it lies in the folder of the official tools, where ssh's rules hold.
    :raises FileNotFoundError, NotADirectoryError: for a file of ours that is not there.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_NOFOLLOW if is_ours else 0))
    except (FileNotFoundError, NotADirectoryError):
        if is_ours:
            raise
        raise ConfigurationError(
            f"{what} is not there on this machine.", hint="Every Airflow worker and triggerer needs that file."
        ) from None
    except OSError as error:
        if is_ours and error.errno in {errno.ELOOP, errno.EMLINK}:
            raise ConfigurationError(
                f"{what} is a link, which is not followed.",
                hint="Put the key itself there, or name the linked file as key_file on the connection.",
            ) from None
        raise ConfigurationError(f"{what} cannot be read: {os.strerror(error.errno or 0)}.") from None
    with os.fdopen(file, "rb") as opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{what} is not a file.")
        others = (stat.S_IRWXG | stat.S_IRWXO) if is_ours else stat.S_IRWXO
        if status.st_mode & others:
            raise ConfigurationError(
                f"{what} is open to others (mode {stat.S_IMODE(status.st_mode):04o}).",
                hint=f"chmod 600 {path}" if is_ours else "Take it from all others: mode 0600, or 0440 with a group.",
            )
        content = opened.read(_LONGEST_PEM + 1)
    if len(content) > _LONGEST_PEM:
        raise ConfigurationError(f"{what} is too large to be a key.")
    return content.decode("utf-8", "replace")


def _read(text: str, passphrase: str, what: str) -> Identity:
    """The identity behind a PEM text.

    :param what: the key, as errors call it.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    kind, pem = _pem(text, what)
    is_encrypted = kind == "ENCRYPTED PRIVATE KEY" or "\nDEK-Info:" in pem
    if is_encrypted and not passphrase:
        raise ConfigurationError(
            f"{what} is encrypted, and there is no passphrase.", hint="Set private_key_passphrase on the connection."
        )
    try:
        key = load_pem_private_key(pem.encode(), passphrase.encode() if is_encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(
            f"{what} cannot be decrypted: the passphrase is wrong, or the key is damaged."
            if is_encrypted
            else f"{what} cannot be read: it is damaged or cut off.",
            hint="Check private_key_passphrase on the connection." if is_encrypted else "Copy the whole key again.",
        ) from None
    if not isinstance(key, RSAPrivateKey):
        raise ConfigurationError(
            f"{what} is no RSA key, and servers take no other.",
            hint="openssl genrsa -traditional -out user_id.pem 2048",
        )
    if key.key_size < KEY_BITS:
        raise ConfigurationError(f"{what} has {key.key_size} bits, and {KEY_BITS} is the least.")
    return _identity(key)


def _identity(key: RSAPrivateKey) -> Identity:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = key.public_key()
    modulus = public.public_numbers().n
    client_id = hashlib.sha256(modulus.to_bytes((modulus.bit_length() + 7) // 8, "big")).hexdigest()
    return Identity(client_id, public.public_bytes(Encoding.DER, PublicFormat.PKCS1), key)


def _pem(text: str, what: str) -> tuple[str, str]:
    """Kind of the first private key in a text, and its PEM with the line breaks that forms and variables lose."""
    kind = ""
    for found in _PEM.finditer(text.replace("\\n", "\n").replace("\r", "")):
        kind, body = found[1], found[2]
        if kind == "OPENSSH PRIVATE KEY":
            raise ConfigurationError(
                f"{what} is in the format of OpenSSH.", hint="Rewrite it as PEM: ssh-keygen -p -m PEM -f FILE"
            )
        if kind.endswith("PRIVATE KEY"):
            headers = _PEM_HEADERS.fullmatch(body)
            above = f"Proc-Type: 4,ENCRYPTED\nDEK-Info: {headers[1]}\n\n" if headers else ""
            letters = "".join((headers[2] if headers else body).split())
            lines = "\n".join(letters[start : start + 64] for start in range(0, len(letters), 64))
            return kind, f"-----BEGIN {kind}-----\n{above}{lines}\n-----END {kind}-----\n"
    if kind:
        raise ConfigurationError(f"{what} is a {kind.lower()}, and no private key.")
    if "-----BEGIN" in text:
        raise ConfigurationError(f"{what} cannot be read: it is damaged or cut off.", hint="Copy the whole key again.")
    raise ConfigurationError(
        f"{what} is no key in PEM.",
        hint="It begins with -----BEGIN RSA PRIVATE KEY----- or -----BEGIN PRIVATE KEY-----.",
    )


def _make(folder: Path, passphrase: str) -> Identity:
    """Make a key in a folder, in one step for all to see: of two processes at once, both end with the same key."""
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path = folder / KEY_NAME
    key = generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_first = _write_new(path, pem)
    except OSError as error:
        raise ConfigurationError(
            f"No client key can be made in {folder}: {os.strerror(error.errno or 0)}.",
            hint=f"Set BACALHAU_DIR to a folder that can be written to; or {_NAME_ONE}",
        ) from None
    if not is_first:
        return _read(_content(path, f"The key {path}", is_ours=True), passphrase, f"The key {path}")
    made = _identity(key)
    log.info("Made a client key for Bacalhau in %s; its client id is %s.", path, made.client_id)
    log.warning(
        "Without a shared home each Airflow machine makes a client key of its own, and jobs on old servers belong to "
        "one key: %s",
        _NAME_ONE,
    )
    return made


def _write_new(path: Path, content: bytes) -> bool:
    """Write a file that only its owner can read, whole from the first moment; False when another is there already."""
    file, name = tempfile.mkstemp(prefix=f".{KEY_NAME}-", dir=path.parent)  # made with mode 0600
    try:
        with os.fdopen(file, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        os.link(name, path)
    except FileExistsError:
        return False
    else:
        return True
    finally:
        Path(name).unlink(missing_ok=True)
