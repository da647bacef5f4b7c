"""The user's key: where it comes from, how it is made, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from airflow_provider_bacalhau.client.errors import ConfigurationError
from airflow_provider_bacalhau.client.identity import Identity, find_identity, load_identity

# Of a recorded challenge: the public key that was sent to a v1.3.2 node, and the id that the node put in the token.
RECORDED_KEY = (
    "MIIBCgKCAQEApW7oGb4b5DC0imX7LC9qwLPDIoGx5M0kp1t5bX0RMCtxFH5KMmJWYonA2n+95vQr/8hS/XjiRSyg8wxPLXzlxTluxoiJFhM3hMp6EERo"
    "Mjf+d76mARh3jUBC2JHS3dhExxTmV32MfaiAR7d/O5xkJFusyue7mqmZuOZVQkTEecyR0Hsq7hnYE/C2q3NEENb5RMREMNDFumhRJouxNZZ9TES8NFPr"
    "CbxmDBsvGq96ToW6nkv83Fta1qjOcKfvuCflIISZhTuprYE6Q0csq6uipQQv6euyTvdS31wk6n3mAILxOGhf/ht/1ROetKYIiitto13621H9YoXhmrom"
    "lOMz8wIDAQAB"
)
RECORDED_ID = "f3b05fa5cf78dbb4a72f13e6d22f883efcfc4c3d1b72cc061d51bc2b5d20851a"


@pytest.fixture(scope="session")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("BACALHAU_DIR", raising=False)
    return tmp_path / "home"


def pem_of(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    form: serialization.PrivateFormat = serialization.PrivateFormat.TraditionalOpenSSL,
    passphrase: str = "",
) -> str:
    locked: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        locked = serialization.BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(serialization.Encoding.PEM, form, locked).decode()


def key_in(folder: Path, pem: str, mode: int = 0o600) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "user_id.pem"
    path.write_text(pem)
    path.chmod(mode)
    return path


def id_of(public_key: rsa.RSAPublicKey) -> str:
    """As a server computes it."""
    n = public_key.public_numbers().n
    return hashlib.sha256(n.to_bytes((n.bit_length() + 7) // 8, "big")).hexdigest()


def test_the_oracle_of_these_tests_agrees_with_a_real_server() -> None:
    # PKCS#1, wrapped as SubjectPublicKeyInfo for the library.
    prefix = bytes.fromhex("30820122300d06092a864886f70d01010105000382010f00")
    public = serialization.load_der_public_key(prefix + base64.b64decode(RECORDED_KEY))
    assert isinstance(public, rsa.RSAPublicKey)
    assert id_of(public) == RECORDED_ID


def test_an_identity_is_the_id_the_public_key_and_signatures_that_it_verifies(key: rsa.RSAPrivateKey) -> None:
    identity = load_identity(pem=pem_of(key))
    assert identity.client_id == id_of(key.public_key())
    assert identity.public_key_der == key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.PKCS1
    )
    key.public_key().verify(identity.sign(b"phrase"), b"phrase", padding.PKCS1v15(), hashes.SHA256())


def test_what_is_shown_of_an_identity_is_its_id_only(key: rsa.RSAPrivateKey) -> None:
    identity = load_identity(pem=pem_of(key))
    assert repr(identity) == f"Identity(client_id='{identity.client_id}')"


# -- where it comes from ----------------------------------------------------------------------------------------------


def test_the_key_itself_goes_before_the_file_and_the_file_before_the_folder(
    key: rsa.RSAPrivateKey, tmp_path: Path
) -> None:
    other, third = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    file = key_in(tmp_path / "named", pem_of(other))
    folder = key_in(tmp_path / "folder", pem_of(third)).parent
    assert load_identity(pem=pem_of(key), key_file=str(file), folder=folder).client_id == id_of(key.public_key())
    assert load_identity(key_file=str(file), folder=folder).client_id == id_of(other.public_key())
    assert load_identity(folder=folder).client_id == id_of(third.public_key())


def test_the_folder_is_that_of_the_official_tools(
    key: rsa.RSAPrivateKey, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_in(home / ".bacalhau", pem_of(key))
    assert load_identity().client_id == id_of(key.public_key())
    monkeypatch.setenv("BACALHAU_DIR", str(tmp_path / "elsewhere"))
    assert load_identity().client_id != id_of(key.public_key())
    assert (tmp_path / "elsewhere" / "user_id.pem").exists()


def test_looking_for_a_key_makes_none(home: Path) -> None:
    assert find_identity() is None
    assert not home.exists()


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda pem: pem.replace("\n", "\r\n"), id="line ends of Windows"),
        pytest.param(lambda pem: pem.replace("\n", "\\n"), id="escaped line ends"),
        pytest.param(lambda pem: pem.replace("\n", ""), id="a form that drops line ends"),
        pytest.param(lambda pem: pem.replace("\n", " "), id="a form that puts blanks there"),
        pytest.param(lambda pem: f"\n  {pem}\n\n", id="blanks around"),
    ],
)
@pytest.mark.parametrize("passphrase", ["", "open sesame"])
@pytest.mark.parametrize("form", [serialization.PrivateFormat.TraditionalOpenSSL, serialization.PrivateFormat.PKCS8])
def test_a_key_is_read_in_whatever_way_it_was_pasted(
    key: rsa.RSAPrivateKey, form: serialization.PrivateFormat, passphrase: str, spoil: object
) -> None:
    assert callable(spoil)
    identity = load_identity(pem=spoil(pem_of(key, form, passphrase)), passphrase=passphrase)
    assert identity.client_id == id_of(key.public_key())


def test_a_passphrase_too_many_does_no_harm(key: rsa.RSAPrivateKey) -> None:
    assert load_identity(pem=pem_of(key), passphrase="unused").client_id == id_of(key.public_key())


def test_a_named_file_may_be_a_link_as_kubernetes_mounts_secrets(key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    file = key_in(tmp_path / "..data", pem_of(key), mode=0o440)
    link = tmp_path / "user_id.pem"
    link.symlink_to(file)
    assert load_identity(key_file=str(link)).client_id == id_of(key.public_key())


# -- how it is made ---------------------------------------------------------------------------------------------------


def test_a_key_is_made_where_there_is_none_as_the_official_tools_make_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = tmp_path / "new"
    identity = load_identity(folder=folder)
    file = folder / "user_id.pem"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [file.name for file in folder.iterdir()] == ["user_id.pem"]
    assert file.read_text().startswith("-----BEGIN RSA PRIVATE KEY-----\n")
    made = serialization.load_pem_private_key(file.read_bytes(), None)
    assert isinstance(made, rsa.RSAPrivateKey)
    assert (made.key_size, id_of(made.public_key())) == (2048, identity.client_id)
    information, warning = caplog.records
    assert information.levelno == logging.INFO
    assert identity.client_id in information.getMessage()
    assert warning.levelno == logging.WARNING
    assert "private_key or key_file" in warning.getMessage()

    caplog.clear()
    assert load_identity(folder=folder).client_id == identity.client_id
    assert caplog.records == []


def test_of_many_processes_at_once_all_end_with_one_key(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from airflow_provider_bacalhau.client.identity import load_identity\n"
        "sys.stdin.read(1); print(load_identity(folder=Path(sys.argv[1])).client_id)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "shared")]
    many = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in many:  # let them all go at the same moment
        assert process.stdin is not None
        process.stdin.write("!")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0] for process in many]
    assert len(set(answers)) == 1
    assert len(answers[0].strip()) == 64
    assert [file.name for file in (tmp_path / "shared").iterdir()] == ["user_id.pem"]


def test_a_key_that_appears_meanwhile_is_not_written_over(
    key: rsa.RSAPrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def another_was_faster(source: str, target: Path) -> None:
        key_in(target.parent, pem_of(key))
        link(source, target)

    monkeypatch.setattr(os, "link", another_was_faster)
    assert load_identity(folder=tmp_path).client_id == id_of(key.public_key())
    assert [file.name for file in tmp_path.iterdir()] == ["user_id.pem"]


def test_where_no_key_can_be_made_the_other_ways_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"BACALHAU_DIR .*private_key or key_file"):
        load_identity(folder=tmp_path / "file" / "below")


def test_importing_makes_no_key_and_loads_no_cryptography(home: Path) -> None:
    program = (
        "import sys, airflow_provider_bacalhau.client.operations, airflow_provider_bacalhau.client.auth\n"
        "print('cryptography' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
    assert not home.exists()


# -- what is refused --------------------------------------------------------------------------------------------------


def short(key: rsa.RSAPrivateKey) -> str:
    return pem_of(rsa.generate_private_key(public_exponent=65537, key_size=1024))


REFUSED = {
    "elliptic curve": (lambda key: pem_of(ec.generate_private_key(ec.SECP256R1())), "no RSA key"),
    "too short": (short, "1024 bits"),
    "encrypted": (lambda key: pem_of(key, passphrase="sesame"), "private_key_passphrase"),
    "encrypted PKCS#8": (
        lambda key: pem_of(key, serialization.PrivateFormat.PKCS8, "sesame"),
        "private_key_passphrase",
    ),
    "OpenSSH": (lambda key: pem_of(key, serialization.PrivateFormat.OpenSSH), "ssh-keygen -p -m PEM"),
    "without its end": (lambda key: pem_of(key)[:800], "damaged or cut off"),
    "without its middle": (lambda key: pem_of(key)[:300] + pem_of(key)[600:], "damaged or cut off"),
    "a public key": (
        lambda key: (
            key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        ),
        "no private key",
    ),
    "no PEM": (lambda key: "sesame open", "no key in PEM"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("place", ["private_key", "key_file", "user_id.pem"])
def test_a_key_that_cannot_be_used_is_refused_and_not_shown(
    key: rsa.RSAPrivateKey, what: str, place: str, tmp_path: Path
) -> None:
    make, says = REFUSED[what]
    pem = make(key)
    file = key_in(tmp_path, pem)
    source = {"private_key": {"pem": pem}, "key_file": {"key_file": str(file)}, "user_id.pem": {"folder": tmp_path}}
    with pytest.raises(ConfigurationError, match=says) as caught:
        load_identity(**source[place])
    assert place in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    lines = [line for line in pem.splitlines() if line and not line.startswith("-----")]
    assert not [line for line in lines if line in str(caught.value)]


def test_a_wrong_passphrase_is_said_to_be_one(key: rsa.RSAPrivateKey) -> None:
    with pytest.raises(ConfigurationError, match="passphrase is wrong") as caught:
        load_identity(pem=pem_of(key, passphrase="sesame"), passphrase="barley")
    assert "barley" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_key_of_the_tools_that_others_can_read_is_refused_as_ssh_does(
    key: rsa.RSAPrivateKey, tmp_path: Path, mode: int
) -> None:
    file = key_in(tmp_path, pem_of(key), mode)
    with pytest.raises(ConfigurationError, match=f"open to others .mode {mode:04o}.*chmod 600 {file}"):
        load_identity(folder=tmp_path)


@pytest.mark.parametrize("mode", [0o644, 0o602])
def test_a_named_file_that_all_can_read_is_refused(key: rsa.RSAPrivateKey, tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigurationError, match="open to others"):
        load_identity(key_file=str(key_in(tmp_path, pem_of(key), mode)))


@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_in_the_folder_of_the_tools_is_refused(key: rsa.RSAPrivateKey, tmp_path: Path, dangling: bool) -> None:
    file = key_in(tmp_path / "elsewhere", pem_of(key))
    if dangling:
        file.unlink()
    (tmp_path / "user_id.pem").symlink_to(file)
    with pytest.raises(ConfigurationError, match=r"is a link.*key_file"):
        load_identity(folder=tmp_path)


def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "user_id.pem", 0o600)
    with pytest.raises(ConfigurationError, match="not a file"):
        load_identity(folder=tmp_path)


def test_a_named_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"not there on this machine.*worker"):
        load_identity(key_file=str(tmp_path / "no.pem"))


def test_an_endless_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="too large"):
        load_identity(key_file=str(key_in(tmp_path, "-----BEGIN" + "A" * 100_000)))


def test_identities_of_one_key_are_equal(key: rsa.RSAPrivateKey) -> None:
    assert load_identity(pem=pem_of(key)) == load_identity(pem=pem_of(key, serialization.PrivateFormat.PKCS8))
    assert isinstance(load_identity(pem=pem_of(key)), Identity)
