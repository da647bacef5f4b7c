"""Both ways say the same: results, errors and bytes on the wire, whatever the server does."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bacalhau import __version__
from airflow_provider_bacalhau.client.effects import Failure, Request, Response, TransportError
from airflow_provider_bacalhau.client.errors import ConfigurationError
from airflow_provider_bacalhau.client.settings import ClientSettings
from tests.support.both import exchange, run_async, run_sync
from tests.support.server import Asked, Behaviour, Peer, Server, free_port, reply

SECRET = "X-Signature=secret"
both = pytest.mark.parametrize("run", [run_sync, run_async], ids=["requests", "aiohttp"])
Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def always(content: bytes) -> Behaviour:
    return lambda peer, _: peer.send(content)


def ask(run: Run, url: str, request: Request, **settings: Any) -> Response:
    response = run(ClientSettings(url, **settings), exchange(request))
    assert isinstance(response, Response)
    return response


def get(run: Run, behave: Behaviour, **request: Any) -> Response:
    with Server(behave) as server:
        return ask(run, server.url, Request("GET", f"/api/v1/x?{SECRET}", **request))


# -- answers ----------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "500 Internal Server Error", "503 Nope", "302 Found"])
def test_any_status_is_an_answer(run: Run, status: str) -> None:
    answer = get(run, always(reply(b'{"a": 1}', status, X_Request_ID="abc", Location="/elsewhere")))
    assert answer.status == int(status[:3])
    assert answer.json() == {"a": 1}
    assert answer.headers["x-request-id"] == "abc"


@both
def test_a_redirection_is_not_followed(run: Run) -> None:
    with Server(always(reply(b"", "302 Found", Location="/elsewhere"))) as server:
        assert ask(run, server.url, Request("GET", "/x")).status == 302
        assert [asked.target for asked in server.asked] == ["/x"]


@both
def test_chunked_and_endless_answers_are_read(run: Run) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert get(run, always(chunked)).body == b"abcde"
    assert get(run, lambda peer, _: peer.send(b"HTTP/1.1 200 OK\r\n\r\nabc") and False).body == b"abc"


@both
def test_a_compressed_body_is_not_unpacked(run: Run) -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    answer = get(run, always(reply(bomb, Content_Encoding="gzip")), max_bytes=100_000)
    assert answer.body == bomb


# How the server behaves; why no answer came, and whether anything may have been sent.
Hostile = tuple[str, Behaviour, set[Failure]]


def cut_headers(peer: Peer, _: Asked) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Le")


def cut_body(peer: Peer, _: Asked) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")


def cut_chunk(peer: Peer, _: Asked) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nabc")


HOSTILE: list[Hostile] = [
    ("closes without a word", lambda _, __: None, {Failure.LOST}),
    ("closes in the body", cut_body, {Failure.LOST}),
    ("closes in a chunk", cut_chunk, {Failure.LOST}),
    ("speaks no HTTP", lambda peer, _: peer.send(b"SSH-2.0-OpenSSH_9.2\r\n") and False, {Failure.LOST}),
    (
        "sends a length that is none",
        always(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"),
        {Failure.LOST, Failure.TIMEOUT},
    ),
    ("sends a status that is none", always(b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n"), {Failure.LOST}),
    (
        "sends a chunk that is none",
        always(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        {Failure.LOST},
    ),
    ("sends endless headers", always(b"HTTP/1.1 200 OK\r\n" + b"A: " + b"x" * 200_000 + b"\r\n\r\n"), {Failure.LOST}),
    ("says nothing", lambda peer, _: peer.wait(10), {Failure.TIMEOUT}),
    (
        "drips its body",
        lambda peer, _: peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n") and peer.drip(b"x" * 1000, 0.05),
        {Failure.TIMEOUT},
    ),
    (
        "drips its chunks",
        lambda peer, _: (
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            and peer.drip(b"1\r\nx\r\n" * 1000, 0.02)
        ),
        {Failure.TIMEOUT},
    ),
    ("sends too much", always(reply(b"x" * 200_000)), {Failure.TOO_LARGE}),
    (
        "sends too much without saying how much",
        lambda peer, _: peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000) and False,
        {Failure.TOO_LARGE},
    ),
    ("says an error with too many words", always(reply(b"x" * 200_000, "500 Oh")), {Failure.TOO_LARGE}),
]


@both
@pytest.mark.parametrize(("behave", "failures"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_a_hostile_server_is_a_transport_error_in_bounded_time(
    run: Run, behave: Behaviour, failures: set[Failure]
) -> None:
    begun = time.monotonic()
    with pytest.raises(TransportError) as caught:
        get(run, behave, timeout=1.0, max_bytes=100_000)
    assert caught.value.failure in failures
    assert caught.value.sent
    assert time.monotonic() - begun < 8
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@both
def test_headers_that_are_cut_are_no_answer(run: Run) -> None:
    with contextlib.suppress(TransportError):  # requests takes them for the headers of an answer without a body
        assert get(run, cut_headers).json() is None


@both
def test_a_timeout_of_the_connection_holds_where_the_request_has_none(run: Run) -> None:
    with Server(lambda peer, _: peer.wait(10)) as server, pytest.raises(TransportError) as caught:
        ask(run, server.url, Request("GET", "/x"), timeout=0.2)
    assert caught.value.failure is Failure.TIMEOUT


UNREACHABLE = [
    ("http://127.0.0.1:{port}", Failure.REFUSED),
    ("http://no-such-host.invalid:1234", Failure.RESOLVE),
    ("http://a..b:1234", Failure.RESOLVE),
    (f"http://{'x' * 70}.invalid:1234", Failure.RESOLVE),
]


@both
@pytest.mark.parametrize(("url", "failure"), UNREACHABLE, ids=[url[:20] for url, _ in UNREACHABLE])
def test_what_was_never_sent_is_known(run: Run, url: str, failure: Failure) -> None:
    with pytest.raises(TransportError) as caught:
        ask(run, url.format(port=free_port()), Request("POST", f"/x?{SECRET}", body=b"{}"))
    assert (caught.value.failure, caught.value.sent) == (failure, False)
    assert "secret" not in str(caught.value)


@both
def test_an_error_names_the_host_but_not_another_ones(run: Run) -> None:
    port = free_port()
    with pytest.raises(TransportError, match=f"127.0.0.1:{port}"):
        ask(run, f"http://127.0.0.1:{port}", Request("GET", "/x"))
    with pytest.raises(TransportError, match="another host") as caught:
        ask(run, "http://elsewhere.invalid", Request("GET", f"http://127.0.0.1:{port}/bucket?{SECRET}"))
    assert str(port) not in str(caught.value)


@both
def test_logs_hold_the_path_and_no_query(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="airflow_provider_bacalhau"):
        get(run, always(reply()))
        with pytest.raises(TransportError):
            get(run, lambda _, __: None)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("airflow_provider_bacalhau")]
    assert any(line.startswith("GET /api/v1/x: 200 in ") for line in said)
    assert not any("secret" in line for line in said)


# -- sinks ------------------------------------------------------------------------------------------------------------


class Chunks(io.BytesIO):
    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def write(self, chunk: Any) -> int:
        self.sizes.append(len(chunk))
        return super().write(chunk)


@both
def test_a_sink_gets_good_answers_in_small_chunks_and_no_others(run: Run) -> None:
    sink = Chunks()
    answer = get(run, always(reply(b"x" * 500_000)), sink=sink)
    assert (answer.body, len(sink.getvalue())) == (b"", 500_000)
    assert max(sink.sizes) <= 64 * 1024
    sink = Chunks()
    assert get(run, always(reply(b"no", "404 Not Found")), sink=sink).body == b"no"
    assert sink.sizes == []


@both
def test_a_full_disk_is_no_lost_connection(run: Run) -> None:
    class Full(Chunks):
        def write(self, chunk: Any) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        get(run, always(reply(b"x")), sink=Full())
    assert caught.value.errno == 28


@both
def test_a_short_error_is_read_however_small_the_thing_that_was_asked_for(run: Run) -> None:
    assert get(run, always(reply(b"x" * 100, "404 Not Found")), max_bytes=0).body == b"x" * 100
    with pytest.raises(TransportError, match=r"more than 0 bytes"):
        get(run, always(reply(b"x")), max_bytes=0)


# -- what goes over the wire ------------------------------------------------------------------------------------------


@both
def test_headers_say_who_asks_and_nothing_of_versions(run: Run) -> None:
    with Server(always(reply())) as server:
        ask(run, server.url, Request("GET", "/x"))
        ask(run, server.url, Request("GET", "/x", headers={"Accept": "*/*"}))
    first, second = (asked.headers for asked in server.asked)
    assert first["user-agent"] == f"apache-airflow-providers-bacalhau/{__version__}"
    assert len(first["x-request-id"]) == 32
    assert first["x-request-id"] != second["x-request-id"]
    assert (first["accept"], second["accept"]) == ("application/json", "*/*")
    assert first["accept-encoding"] == "identity"
    assert not {"x-bacalhau-git-version", "authorization", "cookie"} & set(first)
    assert {name: value for name, value in first.items() if name != "x-request-id"}.keys() <= {
        "host", "user-agent", "accept", "accept-encoding", "connection",
    }  # fmt: skip


@both
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_bodies_have_a_length_and_are_never_chunked(run: Run, method: str) -> None:
    body = json.dumps({"Job": "x" * 300_000}).encode()
    with Server(always(reply())) as server:
        ask(run, server.url, Request(method, "/x", headers={"Content-Type": "application/json"}, body=body))
    (asked,) = server.asked
    assert asked.body == body
    assert asked.headers["content-length"] == str(len(body))
    assert asked.headers["content-type"] == "application/json"
    assert "transfer-encoding" not in asked.headers
    assert "expect" not in asked.headers


@both
@pytest.mark.parametrize(
    "target", ["/a%2Fb?x=%20y", "/%41", "/a+b?labels=k%3Dv%2Cw%21%3Dx", "/..%2Fx", "/%E4", "/a/../b"]
)
def test_a_target_goes_out_as_the_operation_wrote_it(run: Run, target: str) -> None:
    with Server(always(reply())) as server:
        ask(run, server.url, Request("GET", target))
    assert server.asked[0].target == target


@both
def test_a_path_of_the_servers_address_is_kept(run: Run) -> None:
    with Server(always(reply())) as server:
        ask(run, f"{server.url}/behind/proxy", Request("GET", "/api/v1/x"))
        ask(run, f"{server.url}/behind/proxy", Request("GET", f"{server.url}/ipfs/x"))
    assert [asked.target for asked in server.asked] == ["/behind/proxy/api/v1/x", "/ipfs/x"]


@both
def test_a_lost_answer_to_a_post_is_not_asked_for_again_by_a_library(run: Run) -> None:
    def once_then_lost(peer: Peer, asked: Asked) -> bool:
        return asked.method == "GET" and peer.send(reply())

    async def get_then_post() -> None:
        await Request("GET", "/x")  # the connection that the POST then takes is one that is kept open
        await Request("POST", "/x", body=b"{}")

    with Server(once_then_lost) as server, pytest.raises(TransportError) as caught:
        run(ClientSettings(server.url), get_then_post())
    assert caught.value.sent
    assert [asked.method for asked in server.asked] == ["GET", "POST"]


@both
def test_connections_are_used_again(run: Run) -> None:
    async def five() -> None:
        for _ in range(5):
            await Request("GET", "/x")

    with Server(always(reply(b"{}"))) as server:
        run(ClientSettings(server.url), five())
    assert (len(server.asked), server.connections) == (5, 1)


@both
def test_cookies_are_not_sent_back(run: Run) -> None:
    async def two() -> None:
        await Request("GET", "/x")
        await Request("GET", "/x")

    with Server(always(reply(b"", Set_Cookie="session=1; Path=/"))) as server:
        run(ClientSettings(server.url.replace("127.0.0.1", "localhost")), two())
    assert "cookie" not in server.asked[1].headers


@both
def test_a_netrc_for_the_host_is_not_used(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password word\ndefault login me password word\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_bytes(netrc.read_bytes())
    with Server(always(reply())) as server:
        ask(run, server.url, Request("GET", "/x"))
        ask(run, server.url, Request("GET", "/x", headers={"Authorization": "Bearer ours"}))
    assert [asked.headers.get("authorization") for asked in server.asked] == [None, "Bearer ours"]


# -- proxies ----------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_used(run: Run, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(always(reply(b"{}"))) as proxy:
        monkeypatch.setenv(name, proxy.url)
        assert ask(run, "http://bacalhau.invalid:1234", Request("GET", "/api/v1/x?a=%20")).status == 200
    assert proxy.asked[0].target == "http://bacalhau.invalid:1234/api/v1/x?a=%20"


@both
def test_a_proxy_may_be_named_without_a_scheme_and_with_a_password(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(always(reply(b"{}"))) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{proxy.port}")
        ask(run, "http://bacalhau.invalid:1234", Request("GET", "/x"))
        monkeypatch.setenv("HTTP_PROXY", f"http://me:word@127.0.0.1:{proxy.port}")
        ask(run, "http://bacalhau.invalid:1234", Request("GET", "/x"))
    first, second = (asked.headers.get("proxy-authorization") for asked in proxy.asked)
    assert first is None
    assert second == "Basic " + base64.b64encode(b"me:word").decode()


@both
@pytest.mark.parametrize("exempt", ["127.0.0.1", "*", "127.0.0.1:{port}"])
def test_no_proxy_is_honoured(run: Run, exempt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(always(reply(b"{}"))) as server, Server(always(reply(b"{}"))) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", exempt.format(port=server.port))
        ask(run, server.url, Request("GET", "/x"))
    assert (len(server.asked), len(proxy.asked)) == (1, 0)


@both
def test_a_proxy_that_is_down_or_refuses_is_no_unclear_request(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TransportError) as caught:
        ask(run, "http://bacalhau.invalid", Request("POST", "/x", body=b"{}"))
    assert (caught.value.failure, caught.value.sent) == (Failure.REFUSED, False)
    with Server(always(reply(b"no", "403 Forbidden"))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(TransportError) as caught:
            ask(run, "https://bacalhau.invalid", Request("POST", "/x", body=b"{}"))
    assert (caught.value.failure, caught.value.sent) == (Failure.REFUSED, False)


@both
def test_a_proxy_that_is_not_http_is_said_to_be_unusable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(ConfigurationError, match="names a socks5 proxy"):
        ask(run, "http://bacalhau.invalid", Request("GET", "/x"))


@both
def test_what_is_not_a_transport_error_goes_on_unchanged_and_closes_the_operation(run: Run) -> None:
    closed = []

    class Stop(BaseException):
        pass

    class Bomb(Chunks):
        def write(self, chunk: Any) -> int:
            raise Stop

    async def operation() -> None:
        try:
            await Request("GET", "/x", sink=Bomb())
        finally:
            closed.append(True)

    with Server(always(reply(b"x"))) as server, pytest.raises(Stop):
        run(ClientSettings(server.url), operation())
    assert closed == [True]
