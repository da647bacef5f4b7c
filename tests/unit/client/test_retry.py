"""What is sent again, after how long, and what never is."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_bacalhau.client.dialects.orchestrator import OrchestratorDialect
from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
from airflow_provider_bacalhau.client.effects import Failure, Once, Operation, Request, Response, TransportError
from airflow_provider_bacalhau.client.errors import (
    BacalhauError,
    Conflict,
    InvalidJobSpec,
    JobUnchanged,
    NotAuthorised,
    RequestRefused,
    ServerUnavailable,
    SubmissionUnclear,
    UnexpectedAnswer,
    Unreachable,
)
from airflow_provider_bacalhau.client.facts import StopOutcome
from airflow_provider_bacalhau.client.retry import MAX_ATTEMPTS, in_little_time, pause_before_retry, with_retry
from tests.support.drive import Script, ok, refusal
from tests.support.recorded import answer

GET, DELETE = Request("GET", "/x"), Request("DELETE", "/x")
POST, NAMED = Request("POST", "/x"), Request("POST", "/x", repeatable=True)

INTERNAL = refusal(500, {"Status": 500, "Message": "Internal server error"})
OVER = refusal(500, {"Status": 500, "Message": "cannot stop job in state Completed"})
OLD = refusal(500, {"message": "Internal Server Error", "error": "Job not found. ID: j-1"})
BARE = refusal(500)
HTML = {"content-type": "text/html"}
PROXY = Response(500, HTML, b"<html>An error occurred</html>")
PAGE = Response(200, HTML, b"<html>Please log in</html>")


def lost(failure: Failure = Failure.LOST, *, sent: bool = True) -> TransportError:
    return TransportError(failure, sent=sent, detail="Error, host")


# Request, what came of it; the least pause before the second send, or None.
RULE: list[tuple[Request, Response | TransportError, float | None]] = [
    (GET, ok({}), None),
    (GET, refusal(302), None),
    (GET, refusal(400), None),
    (GET, refusal(401), None),
    (GET, refusal(404), None),
    (GET, refusal(409), None),
    # 429 is said before the handler runs: anything may be sent again.
    (GET, refusal(429), 0.25),
    (POST, refusal(429), 0.25),
    (POST, refusal(429, retry_after="3"), 3.0),
    (GET, refusal(429, retry_after="9" * 400), 30.0),
    (GET, refusal(429, retry_after="-3"), 0.25),
    (GET, refusal(429, retry_after="٣"), 0.25),
    (GET, refusal(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), 0.25),
    # 502, 503, 504 leave open whether the handler ran.
    (GET, refusal(502), 0.25),
    (DELETE, refusal(503), 0.25),
    (GET, refusal(504, retry_after="7"), 7.0),
    (POST, refusal(503, "Server Timeout!"), None),
    (NAMED, refusal(503, "Server Timeout!"), 0.25),
    # A 500 is an answer, but for the one that says nothing, and only to a reader.
    (GET, INTERNAL, 0.25),
    (DELETE, INTERNAL, None),
    (POST, INTERNAL, None),
    (NAMED, INTERNAL, None),
    (GET, OVER, None),
    (DELETE, OVER, None),
    (GET, OLD, None),
    (GET, BARE, None),
    # Nothing has left: anything may be sent again.
    (POST, lost(Failure.REFUSED, sent=False), 0.25),
    (POST, lost(Failure.TIMEOUT, sent=False), 0.25),
    (GET, lost(), 0.25),
    (GET, lost(Failure.TIMEOUT), 0.25),
    (DELETE, lost(), 0.25),
    (NAMED, lost(), 0.25),
    (POST, lost(), None),
    (POST, lost(Failure.TIMEOUT), None),
    # Waiting mends none of these.
    (GET, lost(Failure.TLS, sent=False), None),
    (GET, lost(Failure.RESOLVE, sent=False), None),
    (GET, lost(Failure.TOO_LARGE), None),
]


@pytest.mark.parametrize(("request_", "outcome", "pause"), RULE)
def test_the_rule(request_: Request, outcome: Response | TransportError, pause: float | None) -> None:
    assert pause_before_retry(request_, outcome, 1) == pause


def test_pauses_double_and_end() -> None:
    pauses = [pause_before_retry(GET, lost(), attempt) for attempt in range(1, MAX_ATTEMPTS + 2)]
    assert pauses == [0.25, 0.5, 1.0, 2.0, None, None]


async def one_request(request: Request) -> Response:
    return await request


def test_a_server_that_comes_back_is_asked_again_after_pauses_no_shorter_than_the_rules() -> None:
    script = Script.of(lost(), refusal(429, retry_after="3"), refusal(503), ok({"a": 1}))
    assert script.run(with_retry(one_request(GET))).json() == {"a": 1}
    assert len(script.requests) == 4
    assert [least <= slept <= 1.5 * least for least, slept in zip([0.25, 3.0, 1.0], script.sleeps, strict=True)] == [
        True
    ] * 3


def test_the_last_outcome_stands() -> None:
    script = Script.of(*[refusal(503)] * MAX_ATTEMPTS)
    assert script.run(with_retry(one_request(GET))).status == 503
    script = Script.of(*[lost()] * MAX_ATTEMPTS)
    with pytest.raises(TransportError):
        script.run(with_retry(one_request(GET)))
    assert len(script.sleeps) == MAX_ATTEMPTS - 1


def test_a_sink_is_emptied_before_another_try() -> None:
    sink = io.BytesIO()

    class HalfADownload(Script):
        def perform(self, effect: Any) -> Any:
            if isinstance(effect, Request) and len(self.requests) < 2:
                self.requests.append(effect)
                sink.seek(0, io.SEEK_END)
                sink.write(b"half of ")
                raise lost()
            return super().perform(effect)

    script = HalfADownload([Response(200, {}, b"whole")])

    class Truncating:
        def write(self, chunk: bytes) -> None:
            sink.write(chunk)

        def truncate(self, size: int) -> None:
            sink.seek(size)
            sink.truncate()

    script.run(with_retry(one_request(Request("GET", "/x", sink=Truncating()))))
    assert sink.getvalue() == b"whole"


def test_what_is_asked_once_for_all_is_tried_again_too() -> None:
    async def operation() -> Response:
        return await Once("key", lambda: one_request(GET))

    script = Script.of(lost(), refusal(503), ok({"GitVersion": "v1.9.3"}))
    assert script.run(with_retry(operation())).status == 200
    assert script.flights == ["key"]
    assert len(script.requests) == 3


# -- submitting -------------------------------------------------------------------------------------------------------


@dataclass
class Spec:
    name: str | None = "n-1"
    namespace: str | None = None
    size: int = 0
    sources: list[bool] | None = None

    def to_wire(self, *, module_sources: bool) -> dict[str, Any]:
        if self.sources is not None:
            self.sources.append(module_sources)
        return {"Name": self.name, "Meta": "x" * self.size}


def submitting(version: str, spec: Spec | None = None) -> Operation[Any]:
    return with_retry(OrchestratorDialect(ServerVersion(version)).submit(spec or Spec()))  # type: ignore[arg-type]


TAKEN = ok({"JobID": "j-1", "EvaluationID": "e", "Warnings": None})

PAGES = [PAGE, ok({}), ok([]), Response(200), Response(201, {}, b"{")]
"""Answers that are good but for what they say."""

TOO_LARGE = lost(Failure.TOO_LARGE)

UNCLEAR: list[Response | TransportError] = [
    lost(),
    lost(Failure.TIMEOUT),
    TOO_LARGE,
    refusal(502),
    refusal(503, "Server Timeout!"),
    refusal(504),
    INTERNAL,
    BARE,
    refusal(500, {"message": "Internal Server Error"}),
    PROXY,
    refusal(502, {"Message": "bad gateway"}),
    Response(501, HTML, b"<html>"),
    Response(520, HTML, b"<html>"),
    refusal(302, location="/login"),
    refusal(307),
    Response(408, HTML, b"<html>"),
]


@pytest.mark.parametrize("outcome", [*UNCLEAR, *PAGES], ids=str)
@pytest.mark.parametrize("version", ["v1.4.0", "v1.7.0"])
def test_where_names_are_not_unique_an_unclear_submission_is_said_and_never_sent_again(
    version: str, outcome: Response | TransportError
) -> None:
    script = Script.of(outcome)
    with pytest.raises(SubmissionUnclear):
        script.run(submitting(version))
    assert script.lines == ["POST /api/v1/orchestrator/jobs"]
    assert script.sleeps == []


@pytest.mark.parametrize("outcome", [*filter(lambda one: one != TOO_LARGE, UNCLEAR), *PAGES], ids=str)
@pytest.mark.parametrize("version", ["v1.8.0", "v1.9.3"])
def test_where_names_are_unique_a_named_submission_is_sent_again(
    version: str, outcome: Response | TransportError
) -> None:
    script = Script.of(outcome, TAKEN)
    assert script.run(submitting(version)).job_id == "j-1"
    assert len(script.requests) == 2
    assert script.requests[0].body == script.requests[1].body


def test_a_job_without_a_name_is_never_sent_again() -> None:
    script = Script.of(lost())
    with pytest.raises(SubmissionUnclear):
        script.run(submitting("v1.9.3", Spec(name=None)))
    assert len(script.requests) == 1


def test_a_named_submission_that_stays_unclear_says_so() -> None:
    script = Script.of(*[lost()] * MAX_ATTEMPTS)
    with pytest.raises(SubmissionUnclear) as caught:
        script.run(submitting("v1.9.3"))
    assert str(caught.value) == (
        "The job was sent, but whether the server took it is not known: the connection was lost (Error, host)."
        " (POST /api/v1/orchestrator/jobs) Look for it on the network before submitting it again."
    )


CLEAR: list[tuple[Response | TransportError, type[BacalhauError]]] = [
    (lost(Failure.TLS, sent=False), Unreachable),
    (lost(Failure.RESOLVE, sent=False), Unreachable),
    (refusal(400, {"Message": "missing job type"}), RequestRefused),
    (refusal(500, {"message": "Internal Server Error", "error": "failed to read spec"}), RequestRefused),
    (refusal(429), ServerUnavailable),
    (Response(404, HTML, b"<html>"), UnexpectedAnswer),
    (refusal(403, {"Message": "no"}), NotAuthorised),
    (refusal(409, {"Message": "busy", "Code": "ResourceInUse"}), Conflict),
    (answer("v1.9.3", "same spec again"), JobUnchanged),
]


@pytest.mark.parametrize(("outcome", "kind"), CLEAR, ids=[kind.__name__ for _, kind in CLEAR])
@pytest.mark.parametrize("version", ["v1.4.0", "v1.9.3"])
def test_a_submission_that_was_clearly_not_taken_is_not_unclear(
    version: str, outcome: Response | TransportError, kind: type[BacalhauError]
) -> None:
    script = Script.of(*[outcome] * MAX_ATTEMPTS)
    with pytest.raises(BacalhauError) as caught:
        script.run(submitting(version))
    assert type(caught.value) is kind


@pytest.mark.parametrize("version", ["v1.4.0", "v1.9.3"])
def test_what_never_left_is_sent_again_on_every_version(version: str) -> None:
    script = Script.of(lost(Failure.REFUSED, sent=False), refusal(429), TAKEN)
    assert script.run(submitting(version)).job_id == "j-1"


@pytest.mark.parametrize("body", [{}, {"JobID": ""}, {"JobID": None}, [], None, "<html>"])
def test_a_submission_answered_without_an_id_is_unclear(body: object) -> None:
    with pytest.raises(SubmissionUnclear):
        Script.of(*[ok(body)] * MAX_ATTEMPTS).run(submitting("v1.9.3"))


def test_a_request_over_the_limit_is_not_sent() -> None:
    script = Script.of()
    with pytest.raises(InvalidJobSpec, match=r"the job is 10,000,0\d\d bytes long, and servers take 10,000,000"):
        script.run(submitting("v1.9.3", Spec(size=10_000_000)))
    assert script.requests == []


def test_a_request_just_under_the_limit_is_sent() -> None:
    script = Script.of(TAKEN)
    script.run(submitting("v1.9.3", Spec(size=9_999_900)))
    assert len(script.requests[0].body or b"") <= 10_000_000


def test_the_spec_is_written_in_the_shape_of_the_version() -> None:
    shapes: list[bool] = []
    for version in ("v1.6.9", "v1.7.0"):
        Script.of(TAKEN).run(submitting(version, Spec(sources=shapes)))
    assert shapes == [True, False]


# -- stopping ---------------------------------------------------------------------------------------------------------


def stopping(version: str) -> Operation[StopOutcome]:
    return with_retry(OrchestratorDialect(ServerVersion(version)).stop("j-1", "why"))


STOPPED = ok({"EvaluationID": "e"})


@pytest.mark.parametrize(
    "outcome", [*filter(lambda one: one != TOO_LARGE, UNCLEAR), *PAGES, Response(404, HTML, b"<html>")], ids=str
)
@pytest.mark.parametrize("version", ["v1.4.0", "v1.9.3"])
def test_a_stop_that_got_no_word_of_the_server_is_asked_for_again(
    version: str, outcome: Response | TransportError
) -> None:
    script = Script.of(outcome, STOPPED)
    assert script.run(stopping(version)) is StopOutcome.STOPPED
    assert len(script.requests) == 2


@pytest.mark.parametrize("answer_", [OVER, OLD, refusal(403, {"Message": "no"}), refusal(400, {"Message": "bad"})])
def test_a_stop_that_got_its_answer_is_not_asked_for_again(answer_: Response) -> None:
    script = Script.of(answer_)
    with contextlib.suppress(BacalhauError):
        script.run(stopping("v1.9.3"))
    assert len(script.requests) == 1


class Clocked(Script):
    """A script in which sleeping and asking take time."""

    now = 0.0
    takes = 0.0

    def perform(self, effect: Any) -> Any:
        if isinstance(effect, Request):
            assert effect.timeout is not None
            self.now += min(self.takes, effect.timeout)
        self.now += getattr(effect, "seconds", 0.0)
        return super().perform(effect)

    def stop(self) -> StopOutcome:
        stop = OrchestratorDialect(ServerVersion("v1.9.3")).stop("j-1", "why")
        return self.run(in_little_time(stop, lambda: self.now, 2.0))


@pytest.mark.parametrize("outcome", [PAGE, refusal(502), lost(), lost(Failure.REFUSED, sent=False)], ids=str)
def test_in_little_time_a_stop_is_asked_for_again_as_well(outcome: Response | TransportError) -> None:
    script = Clocked([outcome, outcome, STOPPED])
    assert script.stop() is StopOutcome.STOPPED
    assert script.now < 2.0


@pytest.mark.parametrize("takes", [0.0, 0.3, 0.9, 1.95, 5.0])
@pytest.mark.parametrize("outcome", [PAGE, refusal(429, retry_after="9"), lost(Failure.TIMEOUT)], ids=str)
def test_in_little_time_all_repetitions_together_end_in_time(outcome: Response | TransportError, takes: float) -> None:
    script = Clocked([outcome] * MAX_ATTEMPTS)
    script.takes = takes
    with pytest.raises(BacalhauError):
        script.stop()
    assert script.now <= 2.0


def test_a_submission_posts_json() -> None:
    script = Script.of(TAKEN)
    script.run(submitting("v1.9.3"))
    (request,) = script.requests
    assert json.loads(request.body or b"") == {"Job": {"Name": "n-1", "Meta": ""}}
    assert request.headers == {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "then",
    [
        [lost(Failure.REFUSED, sent=False)] * (MAX_ATTEMPTS - 1),
        [lost(Failure.RESOLVE, sent=False)],
        [refusal(429)] * (MAX_ATTEMPTS - 1),
        [refusal(401, {"Message": "token expired"})],
        [refusal(403, {"Message": "no"})],
        [refusal(404, {"Message": "Not Found"})],
        [refusal(302, location="/login")] * (MAX_ATTEMPTS - 1),
        [INTERNAL] * (MAX_ATTEMPTS - 1),
        [PROXY] * (MAX_ATTEMPTS - 1),
        [PAGE] * (MAX_ATTEMPTS - 1),
        [Response(404, HTML, b"<html>")] * (MAX_ATTEMPTS - 1),
        [Response(400, HTML, b"<html>")],
        [Response(413, HTML, b"<html>")],
    ],
    ids=lambda then: str(getattr(then[0], "status", "lost")),
)
@pytest.mark.parametrize("first", [lost(), refusal(503, "Server Timeout!")], ids=["lost", "503"])
def test_a_submission_that_once_left_stays_unclear_whatever_its_repetitions_meet(
    first: Response | TransportError, then: list[Response | TransportError]
) -> None:
    with pytest.raises(SubmissionUnclear):
        Script.of(first, *then).run(submitting("v1.9.3"))


@pytest.mark.parametrize(
    ("then", "kind"),
    [
        (answer("v1.9.3", "same spec again"), JobUnchanged),
        (refusal(409, {"Message": "busy", "Code": "ResourceInUse"}), Conflict),
        (refusal(400, {"Message": "missing job type"}), RequestRefused),
    ],
    ids=["unchanged", "busy", "refused"],
)
@pytest.mark.parametrize("first", [lost(), refusal(503, "Server Timeout!")], ids=["lost", "503"])
def test_an_answer_to_the_submission_itself_settles_what_was_open(
    first: Response | TransportError, then: Response, kind: type[BacalhauError]
) -> None:
    with pytest.raises(kind):
        Script.of(first, then).run(submitting("v1.9.3"))
