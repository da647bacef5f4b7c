"""From an unhappy answer to the error: every recorded one, and those that no server has given yet."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bacalhau.client import errors
from airflow_provider_bacalhau.client.dialects.answers import error_of, unreachable
from airflow_provider_bacalhau.client.effects import Failure, Request, Response, TransportError
from tests.support.drive import refusal
from tests.support.recorded import RECORDINGS, exchange, recorded

EXPECTED = [line.split("\t") for line in (RECORDINGS / "expected-errors.tsv").read_text().splitlines()]
GET = Request("GET", "/api/v1/orchestrator/jobs/j-1?namespace=secret")


@pytest.mark.parametrize(
    ("source", "version", "label", "kind", "message"), EXPECTED, ids=[" ".join(row[:3]) for row in EXPECTED]
)
def test_every_recorded_refusal_becomes_its_error(
    source: str, version: str, label: str, kind: str, message: str
) -> None:
    one = next(one for one in recorded(source, version) if one.label == label and one.response.status >= 300)
    error = error_of(one.request, one.response)
    assert type(error) is getattr(errors, kind)
    assert error.message == message.replace("\\n", "\n")
    assert (error.method, error.path, error.status) == (one.request.method, one.request.path, one.response.status)
    assert "?" not in error.path


def test_no_recorded_refusal_is_left_out() -> None:
    sources = {(source, version) for source, version, *_ in EXPECTED}
    asked = {(source, version, label) for source, version, label, *_ in EXPECTED}
    for source, version in sources:
        unhappy = {(source, version, one.label) for one in recorded(source, version) if one.response.status >= 300}
        assert unhappy <= asked


def test_an_unchanged_job_is_named() -> None:
    one = exchange("orchestrator", "v1.9.3", "same spec again")
    error = error_of(one.request, one.response)
    assert isinstance(error, errors.JobUnchanged)
    assert error.job_id == "j-0225b794-4dc0-491f-9ca7-d725d0588f00"


def test_an_error_says_what_happened_then_where_then_what_to_do() -> None:
    one = exchange("orchestrator", "v1.9.3", "get unknown")
    error = error_of(one.request, Response(404, {"x-request-id": "abc"}, one.response.body))
    assert str(error) == (
        "No such job on this network: job not found: j-00000000-0000-4000-8000-000000000000"
        " (GET /api/v1/orchestrator/jobs/j-00000000-0000-4000-8000-000000000000: HTTP 404, request abc)."
        " Check the id, the namespace, and that the connection names the network the job was sent to."
    )
    assert error.server_message == "job not found: j-00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("status", [400, 401, 404, 409, 500, 503])
@pytest.mark.parametrize("key", ["Message", "Hint"])
def test_no_signature_or_password_of_an_address_gets_into_an_error(status: int, key: str) -> None:
    signed = "cannot read https://key:pa55@store.example/b/in.csv?X-Amz-Credential=AKIA&X-Amz-Signature=5ec"
    for said in ({"Message": "no", "Details": {"reason": signed}, key: signed}, signed, {"error": signed}):
        error = error_of(GET, refusal(status, said))
        told = f"{error} {error.server_message} {error.hint} {vars(error)}"
        assert not any(secret in told for secret in ("AKIA", "5ec", "pa55"))


def test_a_request_id_cannot_move_the_cursor() -> None:
    assert error_of(GET, refusal(500, x_request_id="a\x1b[2J")).request_id == r"a\x1b[2J"


def test_plain_http_to_a_tls_port_says_what_to_do() -> None:
    one = exchange("tls", "v1.9.3", "plain http on the TLS port")
    assert error_of(one.request, one.response).hint == "Say https in the connection (use_tls)."


# Status, body, headers; class and message.
MADE_UP: list[tuple[Response, type[errors.BacalhauError], str]] = [
    (
        refusal(409, {"Status": 409, "Message": "busy", "Code": "ResourceInUse", "Component": "JobStore"}),
        errors.Conflict,
        "The server refused because of the present state: busy",
    ),
    (
        refusal(
            429, {"Status": 429, "Message": "rate limit exceeded", "Code": "InternalError", "Component": "APIServer"}
        ),
        errors.ServerUnavailable,
        "The server cannot answer now: rate limit exceeded",
    ),
    (refusal(503, "Server Timeout!"), errors.ServerUnavailable, "The server cannot answer now: Server Timeout!"),
    (
        refusal(502, "<html>nginx</html>", content_type="text/html"),
        errors.ServerUnavailable,
        "The server cannot answer now.",
    ),
    (refusal(500), errors.ServerUnavailable, "The server cannot answer now."),
    (refusal(500, "not a bacalhau"), errors.ServerUnavailable, "The server cannot answer now: not a bacalhau"),
    (
        refusal(404, "<html>Not found</html>", content_type="text/html"),
        errors.UnexpectedAnswer,
        "What answers there is not the API of Bacalhau",
    ),
    (refusal(405), errors.UnexpectedAnswer, "What answers there is not the API of Bacalhau"),
    (
        refusal(401, "<html>Log in</html>", content_type="text/html"),
        errors.NotAuthorised,
        "The server wants other credentials: no reason given",
    ),
    (refusal(413, "too large"), errors.RequestRefused, "The server refused the request: too large"),
    (refusal(418, "teapot"), errors.UnexpectedAnswer, "The server gave an answer that cannot be read: teapot"),
    (refusal(400, []), errors.RequestRefused, "The server refused the request: []"),
    (refusal(500, {"Message": {"a": 1}}), errors.RequestRefused, "The server refused the request: {'a': 1}"),
    (
        refusal(400, {"Message": None, "Hint": None, "Details": None}),
        errors.RequestRefused,
        "The server refused the request.",
    ),
    (
        refusal(302, location="https://user:word@login.example:8443/sso?token=secret"),
        errors.UnexpectedAnswer,
        "The server answered with a redirection to https://login.example:8443/sso, which is not followed",
    ),
    (
        refusal(301, location="//other.example/x"),
        errors.UnexpectedAnswer,
        "The server answered with a redirection to http://other.example/x, which is not followed",
    ),
    (
        refusal(301, location="http://h:99999/x"),
        errors.UnexpectedAnswer,
        "The server answered with a redirection to http://h:99999/x, which is not followed",
    ),
    (
        refusal(301, location="http://[::1"),
        errors.UnexpectedAnswer,
        "The server answered with a redirection to an address that is none, which is not followed",
    ),
    (refusal(307), errors.UnexpectedAnswer, "The server answered with a redirection to nowhere, which is not followed"),
]


@pytest.mark.parametrize(("response", "kind", "message"), MADE_UP)
def test_other_answers_become_errors_too(response: Response, kind: type[errors.BacalhauError], message: str) -> None:
    error = error_of(GET, response)
    assert type(error) is kind
    assert error.message == message
    assert "secret" not in str(error)


HOSTILE: list[Any] = [
    None,
    True,
    0,
    -1,
    "",
    "text",
    [],
    [[]],
    {},
    {"Message": []},
    {"message": {}, "error": []},
    {"Details": [1]},
    {"Details": {"reason": {"x": None}}},
]


@pytest.mark.parametrize("status", [300, 304, 400, 401, 403, 404, 409, 410, 422, 429, 500, 501, 503, 599])
@pytest.mark.parametrize("body", HOSTILE, ids=repr)
def test_whatever_the_body_is_an_error_comes_out(status: int, body: object) -> None:
    assert isinstance(error_of(GET, refusal(status, body)), errors.BacalhauError)


def test_remote_texts_are_bounded_and_cannot_forge_log_lines() -> None:
    error = error_of(GET, refusal(400, {"Message": "a\x1b[31m\rb\u202e" + "x" * 10_000_000}))
    assert len(str(error)) < 3000
    assert "a\\x1b[31m\\rb\\u202e" in str(error)
    assert "(10000009 characters)" in error.message


def test_deeply_nested_json_is_no_crash() -> None:
    assert isinstance(error_of(GET, Response(400, {}, b"[" * 100_000)), errors.RequestRefused)


def test_no_answer_is_said_without_the_query() -> None:
    error = unreachable(GET, TransportError(Failure.REFUSED, sent=False, detail="ConnectionError, host:1"))
    assert type(error) is errors.Unreachable
    assert str(error) == (
        "No answer from the Bacalhau server: no connection could be made (ConnectionError, host:1)."
        " (GET /api/v1/orchestrator/jobs/j-1)"
        " Check host, port and TLS settings of the connection, and that the server is up."
    )


def test_an_answer_that_is_too_large_is_no_lost_server() -> None:
    error = unreachable(GET, TransportError(Failure.TOO_LARGE, sent=True, detail="more than 64 bytes"))
    assert type(error) is errors.UnexpectedAnswer
    assert error.message == "The answer is larger than this client takes: more than 64 bytes"
