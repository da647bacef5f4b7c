"""What requests carry, when tokens are earned and renewed, and what a refusal says to do."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from airflow_provider_bacalhau.client.auth import METHODS, choose_auth, with_auth
from airflow_provider_bacalhau.client.dialects.answers import error_of
from airflow_provider_bacalhau.client.dialects.orchestrator import OrchestratorDialect
from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
from airflow_provider_bacalhau.client.effects import (
    Effect,
    Failure,
    Operation,
    Request,
    Response,
    TransportError,
)
from airflow_provider_bacalhau.client.errors import (
    ConfigurationError,
    NotAuthorised,
    ServerUnavailable,
    SubmissionUnclear,
    UnexpectedAnswer,
    Unreachable,
)
from airflow_provider_bacalhau.client.gateway import Gateway
from airflow_provider_bacalhau.client.identity import Identity, load_identity
from airflow_provider_bacalhau.client.retry import with_retry
from airflow_provider_bacalhau.client.settings import ClientSettings
from airflow_provider_bacalhau.client.spec import JobSpec, read_job_spec
from airflow_provider_bacalhau.client.transport.aio import AsyncTransport
from tests.support.drive import Script, ok, refusal
from tests.support.recorded import exchange

URL = "http://127.0.0.1:1234"
LIST = Request("GET", "/api/v1/orchestrator/jobs?limit=1")
NODE_ID = "n-ca93e523-9bb2-4b7f-af09-c80abf5f6774"

MISSING = refusal(
    401,
    {
        "Status": 401,
        "Message": "Request Unauthorized",
        "Code": "Unauthorized",
        "Component": "Authorizer",
        "Details": {"reason": "Missing Authorization header"},
    },
)
INVALID_TOKEN = refusal(401, {"error": "code=401, message=Invalid token. ", "message": "Invalid token. "})
DENIED = refusal(403, {"error": "code=403, message=Access denied. ", "message": "Access denied. "})


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return load_identity(folder=tmp_path_factory.mktemp("key"))


@pytest.fixture(autouse=True)
def tools_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BACALHAU_DIR", str(tmp_path / "bacalhau"))
    return tmp_path / "bacalhau"


@dataclass
class Node(Script):
    """Plays a server that wants credentials: a known header, or a token for a signature.

    :param known: the values of ``Authorization`` that it takes.
    :param refuses: what it says to others.
    :param methods: what ``GET /auth`` lists; None for a server without that call.
    :param config: of ``GET /agent/authconfig``.
    :param verdict: what it says to signatures, when not what they deserve.
    :param takes_tokens: whether it takes the tokens that it gave.
    """

    known: set[str] = field(default_factory=set)
    refuses: Response = MISSING
    methods: dict[str, Any] | None = field(
        default_factory=lambda: {"clientkey": {"type": "challenge", "params": {"InputPhrase": _base64(NODE_ID)}}}
    )
    config: dict[str, Any] = field(default_factory=dict)
    verdict: Response | None = None
    takes_tokens: bool = True
    tokens: int = 0

    def perform(self, effect: Effect) -> Any:
        return self.answer(effect) if isinstance(effect, Request) else super().perform(effect)

    def answer(self, request: Request) -> Response:
        self.requests.append(request)
        if request.path == "/api/v1/auth":
            return refusal(404, "404 page not found\n") if self.methods is None else ok({"Methods": self.methods})
        if request.path.startswith("/api/v1/auth/"):
            return self.verdict or self._judge(request)
        if request.path == "/api/v1/agent/authconfig":
            return ok({"Version": "1.0.0", "Config": self.config})
        if request.path in {"/api/v1/agent/version", "/api/v1/agent/alive"}:
            assert "Authorization" not in request.headers, "a token that it cannot read is answered with 500 here"
            return ok({"GitVersion": "v1.9.3", "Status": "OK"})
        return ok({"Items": []}) if request.headers.get("Authorization") in self.known else self.refuses

    def _judge(self, request: Request) -> Response:
        """As the server does: the phrase verifies with the public key that comes along."""
        answer = json.loads(base64.b64decode(json.loads(request.body or b"")["MethodData"]))
        prefix = bytes.fromhex("30820122300d06092a864886f70d01010105000382010f00")
        key = serialization.load_der_public_key(prefix + base64.b64decode(answer["PublicKey"]))
        assert isinstance(key, rsa.RSAPublicKey)
        signature = base64.b64decode(answer["PhraseSignature"])
        try:
            key.verify(signature, NODE_ID.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return refusal(401, {"Authentication": {"success": False, "reason": "crypto/rsa: verification error"}})
        self.tokens += 1
        self.known = {f"Bearer token-{self.tokens}"} if self.takes_tokens else set()
        return ok({"Authentication": {"success": True, "token": f"token-{self.tokens}"}})

    @property
    def sent(self) -> list[str | None]:
        """The ``Authorization`` of each request that came."""
        return [request.headers.get("Authorization") for request in self.requests]


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _no_key() -> Identity:
    raise AssertionError("no key is wanted here")


async def ask(request: Request = LIST) -> Response:
    response = await request
    if not response.ok:
        raise error_of(request, response)
    return response


async def ask_often(times: int) -> None:
    for _ in range(times):
        await ask()


# -- what is sent -----------------------------------------------------------------------------------------------------

BASIC = "Basic " + _base64("airflow:päss:word")

BASIC_QUOTED = _base64('airflow:päss"word')

CARRIED: dict[str, tuple[dict[str, str], str | None]] = {
    "nothing": ({}, None),
    "login and password": ({"login": "airflow", "password": "päss:word"}, BASIC),
    "a password alone": ({"password": "0123456789abcdef"}, "Bearer 0123456789abcdef"),
    "a password with a line end": ({"password": "0123456789abcdef\n"}, "Bearer 0123456789abcdef"),
    "basic": ({"auth": "basic", "login": "airflow", "password": "päss:word"}, BASIC),
    "bearer beside a login": ({"auth": "bearer", "login": "airflow", "password": "key"}, "Bearer key"),
    "none in spite of a password": ({"auth": "none", "login": "airflow", "password": "päss:word"}, None),
}


@pytest.mark.parametrize("what", CARRIED)
def test_requests_carry_what_the_settings_hold(what: str) -> None:
    fields, header = CARRIED[what]
    node = Node(known={header} if header else {None})  # no header at all is known as None
    node.run(with_auth(ask(), choose_auth(ClientSettings(URL, **fields), _no_key)))  # type: ignore[arg-type]
    assert node.sent == [header]


@pytest.mark.parametrize("fields", [fields for fields, header in CARRIED.values() if header])
def test_nothing_is_told_to_other_hosts_and_public_calls(fields: dict[str, str]) -> None:
    async def operation() -> None:
        await ask(Request("GET", "/api/v1/agent/version", public=True))
        await OrchestratorDialect(ServerVersion("v1.9.3")).alive()
        await Gateway("http://127.0.0.1:8080").read(
            "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy", "stdout", max_bytes=100
        )

    script = Script.of(ok({"GitVersion": "v1.9.3"}), ok({"Status": "OK"}), ok())
    script.run(with_auth(operation(), choose_auth(ClientSettings(URL, **fields), _no_key)))  # type: ignore[arg-type]
    assert len(script.requests) == 3
    assert not [request for request in script.requests if "Authorization" in request.headers]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"login": "airflow"}, "no password to log in with"),
        ({"auth": "basic", "password": "secret-word"}, "no login to log in with"),
        ({"auth": "basic"}, "no login"),
        ({"auth": "bearer"}, "no password to send"),
        ({"password": "Bearer secret-word"}, "without Bearer before it"),
        ({"password": "secret\nword"}, "does not belong there"),
        ({"password": "sécret-wörd"}, "does not belong there"),
        ({"login": "air:flow", "password": "secret-word"}, "colon"),
        ({"auth": "oauth2", "password": "secret-word"}, f"one of {', '.join(METHODS)}"),
    ],
)
def test_settings_that_make_no_sense_are_refused_without_showing_them(fields: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)) as caught:
        choose_auth(ClientSettings(URL, **fields), _no_key)  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)


def test_settings_show_no_secret_but_differ_by_each() -> None:
    secrets = {
        "login": "user-1",
        "password": "word-1",
        "private_key": "pem-1",
        "private_key_passphrase": "phrase-1",
    }
    settings = ClientSettings(URL, **secrets)  # type: ignore[arg-type]
    assert not [secret for secret in secrets.values() if secret in repr(settings)]
    for name in secrets:
        assert replace(settings, **{name: "other"}) != settings  # type: ignore[arg-type]


@pytest.mark.parametrize("quote", ["{}", '{{"Status":401,"Message":"not taken: {}"}}'])
@pytest.mark.parametrize(
    ("fields", "secrets"),
    [
        ({"password": "0123456789abcdef"}, ["0123456789abcdef"]),
        (
            {"login": "airflow", "password": 'päss"word'},
            ['päss"word', 'p\\u00e4ss\\"word', 'päss\\"word', BASIC_QUOTED],
        ),
    ],
)
def test_a_server_that_quotes_what_it_refuses_does_not_bring_it_into_the_error(
    fields: dict[str, str], secrets: list[str], quote: str
) -> None:
    for secret in secrets:
        node = Node(refuses=refusal(401, quote.format(secret)), methods={})
        with pytest.raises(NotAuthorised) as caught:
            node.run(on_demand(ask(), **fields))
        assert secret not in str(caught.value) + repr(vars(caught.value))
        assert "***" in str(caught.value)


# -- the client key ---------------------------------------------------------------------------------------------------


def with_key(operation: Operation[Any], identity: Identity, told: Any = None, **fields: str) -> Operation[Any]:
    settings = ClientSettings(URL, auth=fields.pop("auth", "client_key"), on_secret=told, **fields)  # type: ignore[arg-type]
    return with_auth(operation, choose_auth(settings, lambda: identity))


def test_a_client_key_earns_one_token_for_all_requests(identity: Identity) -> None:
    node, told = Node(), list[str]()
    node.run(with_key(ask_often(3), identity, told.append))
    assert [request.path for request in node.requests[:2]] == ["/api/v1/auth", "/api/v1/auth/clientkey"]
    assert node.sent == [None, None, "Bearer token-1", "Bearer token-1", "Bearer token-1"]
    assert told == ["token-1"]


def test_the_method_is_called_as_the_server_calls_it(identity: Identity) -> None:
    challenge = {"type": "challenge", "params": {"InputPhrase": _base64(NODE_ID)}}
    node = Node(methods={"a/b": challenge, "people": {"type": "ask"}})
    node.run(with_key(ask(), identity))
    assert node.requests[1].path == "/api/v1/auth/a%2Fb"


def test_a_refused_token_is_renewed_once(identity: Identity) -> None:
    node = Node(refuses=INVALID_TOKEN)

    async def operation() -> None:
        await ask()
        node.known = set()  # the server restarted with another key
        await ask()

    node.run(with_key(operation(), identity))
    assert node.sent[-2:] == [None, "Bearer token-2"]
    assert node.tokens == 2


def test_a_token_that_is_refused_though_it_is_fresh_is_an_error(identity: Identity) -> None:
    node = Node(refuses=INVALID_TOKEN, takes_tokens=False)
    with pytest.raises(NotAuthorised, match=rf"the client key {identity.client_id}: Invalid token\..*key_file"):
        node.run(with_key(ask(), identity))
    assert node.tokens == 2


def test_a_submission_is_sent_again_after_a_401_since_the_server_did_not_look_at_it(identity: Identity) -> None:
    node = Node(refuses=INVALID_TOKEN)
    body = b"{}"

    async def operation() -> None:
        await ask()
        node.known = set()
        await ask(Request("POST", "/api/v1/orchestrator/jobs", body=body))

    node.run(with_key(operation(), identity))
    assert [request.body for request in node.requests if request.path.endswith("/jobs")][-2:] == [body, body]


def test_a_server_that_knows_no_tokens_is_sent_none(identity: Identity) -> None:
    node = Node(methods=None, known={None})  # no header at all
    node.run(with_key(ask_often(2), identity))
    assert node.sent == [None, None, None]


def test_a_phrase_that_could_be_a_job_is_not_signed(identity: Identity) -> None:
    phrase = json.dumps({"ClientID": identity.client_id, "APIVersion": "V1beta1", "Spec": {}})
    methods = {"clientkey": {"type": "challenge", "params": {"InputPhrase": _base64(phrase)}}}
    node = Node(methods=methods)
    with pytest.raises(UnexpectedAnswer, match="no node's id"):
        node.run(with_key(ask(), identity))
    assert [request.method for request in node.requests] == ["GET"]


@pytest.mark.parametrize("token", ["", "two words", "x" * 10_000, 'a"quote', "line\nend"])
def test_a_token_that_is_none_is_not_sent(identity: Identity, token: str) -> None:
    node = Node(verdict=ok({"Authentication": {"success": True, "token": token}}))
    with pytest.raises(UnexpectedAnswer, match="no token that can be read"):
        node.run(with_key(ask(), identity))


def test_a_key_that_the_server_does_not_take_is_named_by_its_id(identity: Identity) -> None:
    node = Node(verdict=refusal(401, {"Authentication": {"success": False, "reason": "not on the list"}}))
    with pytest.raises(NotAuthorised, match=rf"{identity.client_id}: not on the list.*private_key or key_file"):
        node.run(with_key(ask(), identity))


def test_a_server_that_offers_no_challenge_says_what_it_takes(identity: Identity) -> None:
    with pytest.raises(NotAuthorised, match=r"nothing that a client key could sign.*login and password"):
        Node(methods={}).run(with_key(ask(), identity))


def test_the_way_to_a_token_is_tried_again_like_any_request(identity: Identity) -> None:
    node = Node()
    answers = [refusal(503), refusal(503)]
    judge = node.answer
    node.answer = lambda request: answers.pop() if answers else judge(request)  # type: ignore[method-assign]
    node.run(with_retry(with_key(ask(), identity)))
    assert node.sent[-1] == "Bearer token-1"
    assert len(node.sleeps) == 2


def test_a_server_that_is_away_when_a_token_is_wanted_is_said_to_be_away(identity: Identity) -> None:
    node = Node(verdict=refusal(503, {"Status": 503, "Message": "Server Timeout!"}))
    with pytest.raises(ServerUnavailable):
        node.run(with_key(ask(), identity))


def test_a_connection_lost_on_the_way_to_a_token_leaves_no_doubt_about_the_job(identity: Identity) -> None:
    job = read_job_spec({"Name": "a", "Type": "batch", "Tasks": [{"Name": "b", "Engine": {"Type": "noop"}}]})
    assert isinstance(job, JobSpec)
    lost = TransportError(Failure.LOST, sent=True, detail="ConnectionResetError, 127.0.0.1")
    with pytest.raises(Unreachable) as caught:
        Script.of(lost).run(with_key(OrchestratorDialect(ServerVersion("v1.4.0")).submit(job), identity))
    assert not isinstance(caught.value, SubmissionUnclear)


class Wire(AsyncTransport):
    """Drives operations on an event loop, against a played server."""

    def __init__(self, node: Node) -> None:
        super().__init__(ClientSettings(URL))
        self._node = node

    async def _exchange(self, request: Request) -> Response:
        response = self._node.answer(request)
        for _ in range(3):
            await asyncio.sleep(0)
        return response


@pytest.mark.parametrize("method", ["client_key", "auto"])
async def test_fifty_waiters_earn_one_token_and_renew_it_once(identity: Identity, method: str) -> None:
    node = Node(refuses=INVALID_TOKEN)
    load_identity()
    auth = choose_auth(ClientSettings(URL, auth=method), lambda: identity)
    wire = Wire(node)
    for round_number in (1, 2):
        node.known = set()
        await asyncio.gather(*(wire.run(with_retry(with_auth(ask(), auth))) for _ in range(50)))
        assert node.tokens == round_number


# -- when a server asks -----------------------------------------------------------------------------------------------


def on_demand(operation: Operation[Any], **fields: str) -> Operation[Any]:
    return with_auth(operation, choose_auth(ClientSettings(URL, **fields), _no_key))  # type: ignore[arg-type]


@pytest.mark.parametrize("asks", [MISSING, DENIED], ids=["401", "403 of an access policy"])
def test_a_key_that_is_there_is_offered_to_a_server_that_asks(asks: Response, tools_folder: Path) -> None:
    load_identity()
    node = Node(refuses=asks)
    node.run(on_demand(ask_often(2)))
    assert node.sent == [None, None, None, "Bearer token-1", "Bearer token-1"]
    assert [file.name for file in tools_folder.iterdir()] == ["user_id.pem"]


def test_no_key_is_made_for_a_server_that_asks(tools_folder: Path) -> None:
    node = Node()
    with pytest.raises(NotAuthorised, match=r"none are set: Missing Authorization header.*client key"):
        node.run(on_demand(ask()))
    assert not tools_folder.exists()
    assert [request.path for request in node.requests] == [LIST.path, "/api/v1/auth"]


def test_a_refusal_is_told_even_where_the_way_in_cannot_be_asked_for() -> None:
    node = Node(methods={"clientkey": {"type": "challenge", "params": {"InputPhrase": "no base64"}}})
    with pytest.raises(NotAuthorised, match="none are set: Missing Authorization header"):
        node.run(on_demand(ask()))


def test_a_token_of_before_is_renewed_as_any(tools_folder: Path) -> None:
    load_identity()
    node = Node(refuses=INVALID_TOKEN)

    async def operation() -> None:
        await ask()
        node.known = set()
        await ask()

    node.run(on_demand(operation()))
    assert node.tokens == 2


def test_a_missing_right_earns_no_token(tools_folder: Path) -> None:
    load_identity()
    node = Node(refuses=exchange("auth", "v1.9.3", "right key: /agent/node").response)
    with pytest.raises(NotAuthorised, match="read:agent"):
        node.run(on_demand(ask()))
    assert len(node.requests) == 1


@pytest.mark.parametrize("version", ["v1.7.0", "v1.9.3"])
@pytest.mark.parametrize(
    ("methods", "config", "by"),
    [
        ({"people": {"type": "ask", "params": {"type": "object"}}}, {}, "the method 'people'"),
        ({}, {"ProviderID": "okta", "Issuer": "https://example.org"}, "OAuth2"),
    ],
)
def test_a_server_that_asks_people_leaves_key_token_or_client_key(
    methods: dict[str, Any], config: dict[str, Any], by: str, version: str
) -> None:
    refuses = exchange("auth", version, "none: /agent/node").response
    with pytest.raises(NotAuthorised) as caught:
        Node(methods=methods, config=config, refuses=refuses).run(on_demand(ask()))
    assert f"It asks people, by {by}, which Airflow cannot answer" in caught.value.hint
    assert "API key or a JWT as the password alone, or use a client key" in caught.value.hint


@pytest.mark.parametrize(
    "said",
    [
        "unexpected authorization error",  # v1.9.3
        "tmp/anon.rego:100: eval_builtin_error: io.jwt.decode_verify: encoded JWT had no period separators",  # v1.7.0
    ],
)
def test_a_token_that_an_access_policy_cannot_read_is_a_wrong_credential(said: str) -> None:
    node = Node(refuses=refusal(500, {"Status": 500, "Message": said, "Code": "InternalError"}))
    with pytest.raises(NotAuthorised, match="Mend the connection's password"):
        node.run(on_demand(ask(), password="xyz"))


# -- what a refusal says ----------------------------------------------------------------------------------------------

USER = {"login": "airflow", "password": "not-the-password"}
KEY = {"password": "not-the-key"}

SAID: dict[str, tuple[dict[str, Any], str, str]] = {
    "none: /agent/node": ({}, "none are set", "Fill in login and password of the connection, or an API key"),
    "wrong password: /agent/node": (
        USER,
        "does not take the connection's login and password",
        "Mend the connection's login and password.",
    ),
    "wrong key: /agent/node": (
        KEY,
        "does not take the connection's password as an API key or token",
        "Mend the connection's password.",
    ),
    "jwt-looking: /agent/node": (
        {"password": "a.b.c"},
        "does not take the connection's password",
        "looks like a JWT, and this server takes API keys only. Mend the connection's password.",
    ),
    "right key: /agent/node": (
        KEY,
        "Not allowed with the connection's password as an API key or token",
        "capability read:agent on the server, or change the connection's password.",
    ),
    "read-only: PUT job": (
        USER,
        "Not allowed with the connection's login and password",
        "capability write:job on the server, or change the connection's login and password.",
    ),
    "read-only: PUT job ": (
        {**USER, "from_environment": True},
        "Not allowed with BACALHAU_API_USERNAME and BACALHAU_API_PASSWORD",
        "or change BACALHAU_API_USERNAME and BACALHAU_API_PASSWORD.",
    ),
    "wrong key: /agent/node ": (
        {**KEY, "from_environment": True},
        "does not take BACALHAU_API_KEY as an API key or token",
        "Mend BACALHAU_API_KEY.",
    ),
    "none: /agent/node ": ({**USER, "auth": "none"}, "auth is none", "Set auth to auto"),
}


@pytest.mark.parametrize("version", ["v1.7.0", "v1.9.3"])
@pytest.mark.parametrize("label", SAID)
def test_a_refusal_names_the_credential_the_right_and_the_field(version: str, label: str) -> None:
    fields, message, hint = SAID[label]
    recorded = exchange("auth", version, label.strip())
    node = Node(refuses=recorded.response, methods={})
    with pytest.raises(NotAuthorised) as caught:
        node.run(on_demand(ask(recorded.request), **fields))
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.status == recorded.response.status
    assert caught.value.reason in caught.value.message
    assert "not-the" not in str(caught.value)
    assert caught.value.permanent
