"""The requester dialect: every recorded answer, what is asked for it, and answers that no server has given yet."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_bacalhau.client.diagnosis import FailureCategory, JobOutcome
from airflow_provider_bacalhau.client.dialects import requester_answers
from airflow_provider_bacalhau.client.dialects.requester import RequesterDialect
from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
from airflow_provider_bacalhau.client.effects import MAX_REQUEST_BYTES, Call, Failure, Request, Response, TransportError
from airflow_provider_bacalhau.client.errors import (
    BacalhauError,
    InvalidJobSpec,
    NotAuthorised,
    NotSupported,
    RequestRefused,
    ServerUnavailable,
    SubmissionUnclear,
    UnexpectedAnswer,
    Unreachable,
)
from airflow_provider_bacalhau.client.facts import Job, StopOutcome
from airflow_provider_bacalhau.client.reading import Fields
from airflow_provider_bacalhau.client.results import refer
from airflow_provider_bacalhau.client.retry import MAX_ATTEMPTS, with_retry
from airflow_provider_bacalhau.client.spec import read_job_spec
from airflow_provider_bacalhau.client.spec.legacy_shape import TASK_NAME, name_annotation
from airflow_provider_bacalhau.client.states import ExecutionState, JobState
from tests.support.drive import Script, ok, refusal
from tests.support.requester import RECORDINGS, VERSIONS, FakeIdentity, exchange, recorded
from tests.support.requester_cases import NOT_ASKED, dialect, play, told

EXPECTED = [line.split("\t") for line in (RECORDINGS / "requester-expected.tsv").read_text().splitlines()]
AFTERWARDS = {
    ("v0.3.29", "probe /agent/version"): [exchange("v0.3.29", "probe /version").response],
    ("v1.0.3", "probe /agent/version"): [exchange("v1.0.3", "probe /version").response],
}
HOW_IT_ENDED = {"cancel cancelled": "Cancelled", "cancel completed": "Completed", "cancel failed": "Error"}

SPEC = read_job_spec(
    {
        "Type": "batch",
        "Name": "count-me",
        "Labels": {"dag": "a", "plain": ""},
        "Tasks": [{"Engine": {"Type": "docker", "Params": {"Image": "busybox", "Entrypoint": ["ls"]}}}],
    }
)
LOST = TransportError(Failure.LOST, sent=True, detail="LostError, host")
REFUSED = TransportError(Failure.REFUSED, sent=False, detail="RefusedError, host")
SUBMITTED = ok({"job": {"Metadata": {"ID": "a-b"}}})


def sent(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.body or b"{}")
    return found


def state(name: str) -> Response:
    return ok({"state": {"State": name}})


@pytest.mark.parametrize(("version", "label", "expected"), EXPECTED, ids=[" ".join(row[:2]) for row in EXPECTED])
def test_every_recorded_answer_is_understood(version: str, label: str, expected: str) -> None:
    one = exchange(version, label)
    ended = [state(HOW_IT_ENDED[label])] if label in HOW_IT_ENDED else []
    value, script = play(version, one, *AFTERWARDS.get((version, label), ended))
    assert told(value) == expected
    if "requester" in one.path:
        assert f"{one.method} {one.path}" in script.lines
    if isinstance(value, BacalhauError) and not isinstance(value, Unreachable):
        assert (value.method, value.path, value.status) == (one.method, one.path, one.response.status)


def test_no_recorded_answer_is_left_out() -> None:
    left_out = NOT_ASKED | {"nodes"}  # v0.3 and v1.0 have no list of nodes, and are not asked for it
    asked = {(version, label) for version, label, _ in EXPECTED}
    for version in VERSIONS:
        assert {one.label for one in recorded(version)} - {label for v, label in asked if v == version} <= left_out


# -- submitting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "path", "api_version"),
    [
        ("v0.3.29", "/requester/submit", "V1beta1"),
        ("v1.0.3", "/api/v1/requester/submit", "V1beta1"),
        ("v1.1.6", "/api/v1/requester/submit", "V1beta2"),
        ("v1.3.2", "/api/v1/requester/submit", "V1beta2"),
    ],
)
def test_a_job_is_submitted_signed_and_in_the_servers_own_words(version: str, path: str, api_version: str) -> None:
    script = Script.of(SUBMITTED)
    assert script.run(dialect(version).submit(SPEC)).job_id == "a-b"
    (request,) = script.requests
    assert (request.method, request.target) == ("POST", path)
    assert request.headers["Content-Type"] == "application/json"
    payload = sent(request)["payload"]
    assert (payload["ClientID"], payload["APIVersion"]) == (FakeIdentity().client_id, api_version)
    spec = payload["Spec"]
    assert spec["PublisherSpec"]["Type"] == spec["Publisher"]
    assert ("Verifier" in spec) is version.startswith(("v0", "v1.0"))
    assert set(spec["Annotations"]) == {"dag=a", "plain", name_annotation("count-me")}


def test_a_submission_is_sent_once() -> None:
    script = Script.of(SUBMITTED)
    script.run(dialect("v1.1.6").submit(SPEC))
    assert not script.requests[0].repeatable


UNCLEAR: list[Response | TransportError] = [
    LOST,
    refusal(502, "bad gateway"),
    refusal(503, "Server Timeout!"),
    refusal(504),
    refusal(500),
    Response(500, {"content-type": "text/html"}, b"<html>"),
    Response(520, {"content-type": "text/html"}, b"<html>"),
    refusal(302, location="/login"),
    ok({}),
    Response(200, {}, b"<html>"),
]


@pytest.mark.parametrize("outcome", UNCLEAR)
def test_a_submission_that_may_have_arrived_is_unclear(outcome: Response | TransportError) -> None:
    script = Script.of(outcome)
    with pytest.raises(SubmissionUnclear):
        script.run(dialect("v1.3.2").submit(SPEC))


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (REFUSED, Unreachable),
        (refusal(429, {"message": "rate limit exceeded"}), ServerUnavailable),
        (refusal(413, {"message": "Request Entity Too Large"}), RequestRefused),
        (exchange("v1.3.2", "submit bad engine").response, RequestRefused),
    ],
)
def test_a_submission_that_was_not_taken_is_not_unclear(
    outcome: Response | TransportError, kind: type[BacalhauError]
) -> None:
    with pytest.raises(kind) as raised:
        Script.of(outcome).run(dialect("v1.3.2").submit(SPEC))
    assert not isinstance(raised.value, SubmissionUnclear)


def test_a_job_that_is_too_large_is_not_sent() -> None:
    script = Script.of()
    spec = SPEC.model_copy(update={"labels": {"big": "x" * MAX_REQUEST_BYTES}})
    with pytest.raises(InvalidJobSpec, match="bytes long"):
        script.run(dialect("v1.3.2").submit(spec))


@pytest.mark.parametrize("version", ["v0.3.29", "v1.0.3"])
def test_a_job_that_old_servers_refuse_but_keep_as_failed_is_a_job(version: str) -> None:
    refused = exchange(version, "unschedulable").response
    submission = Script.of(refused).run(dialect(version).submit(SPEC))
    assert submission.job_id == refused.headers["x-bacalhau-job-id"]
    assert submission.warnings == ("not enough nodes to run job. requested: 1, available: 0",)


# -- the key ----------------------------------------------------------------------------------------------------------


def no_key() -> Any:
    raise AssertionError("the key was asked for")


def test_reading_needs_no_key() -> None:
    server = RequesterDialect(ServerVersion("v1.1.6"), no_key)
    item = exchange("v1.1.6", "wasm ok: list").response
    events = exchange("v1.1.6", "wasm ok: events").response
    script = Script.of(item, events, item, state("New"), events, ok({"results": []}), ok([]))
    script.run(server.get("j", executions=True, history=True))
    script.run(server.list())
    script.run(server.executions("j"))
    script.run(server.history("j"))
    script.run(server.results("j"))
    script.run(server.nodes())
    assert all(request.repeatable or request.method == "GET" for request in script.requests)


def test_the_key_is_asked_for_off_the_loop() -> None:
    operation = dialect("v1.1.6").submit(SPEC)
    assert isinstance(operation.send(None), Call)
    operation.close()


def test_checking_a_connection_proves_the_key_on_a_job_that_cannot_exist() -> None:
    script = Script.of(ok({"jobs": []}), exchange("v1.1.6", "cancel unknown").response)
    script.run(dialect("v1.1.6").check())
    assert sent(script.requests[1])["payload"]["JobID"] == "00000000-0000-4000-8000-000000000000"


def test_a_key_that_is_not_accepted_shows_when_checking() -> None:
    script = Script.of(ok({"jobs": []}), exchange("v1.1.6", "submit bad signature").response)
    with pytest.raises(NotAuthorised) as raised:
        script.run(dialect("v1.1.6").check())
    assert "private_key" in raised.value.hint


# -- stopping ---------------------------------------------------------------------------------------------------------


def test_stopping_sends_the_reason_signed() -> None:
    script = Script.of(exchange("v0.3.29", "cancel running").response)
    assert script.run(dialect("v0.3.29").stop("j", "because")) is StopOutcome.STOPPED
    payload = sent(script.requests[0])["payload"]
    assert payload == {"ClientID": FakeIdentity().client_id, "JobID": "j", "Reason": "because"}
    assert script.requests[0].repeatable


@pytest.mark.parametrize("version", ["v1.1.6", "v1.3.2"])
def test_a_stopped_job_is_told_from_one_that_is_stopped_now(version: str) -> None:
    script = Script.of(exchange(version, "cancelled: states").response)
    assert script.run(dialect(version).stop("j", "because")) is StopOutcome.ALREADY_STOPPED
    script = Script.of(exchange(version, "long: states").response, exchange(version, "cancel running").response)
    assert script.run(dialect(version).stop("j", "because")) is StopOutcome.STOPPED


@pytest.mark.parametrize("version", ["v0.3.29", "v1.0.3"])
@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        ("Completed", StopOutcome.ALREADY_COMPLETED),
        ("Error", StopOutcome.ALREADY_FAILED),
        ("Cancelled", StopOutcome.ALREADY_STOPPED),
    ],
)
def test_old_servers_are_asked_how_a_job_ended(version: str, how: str, outcome: StopOutcome) -> None:
    script = Script.of(exchange(version, "cancel completed").response, state(how))
    assert script.run(dialect(version).stop("j", "because")) is outcome


@pytest.mark.parametrize("page", [ok({}), ok({"status": "ok"}), Response(200, {}, b"<html>"), refusal(500, "<html>")])
def test_a_stop_that_something_else_has_answered_is_asked_for_again_and_never_believed(page: Response) -> None:
    done = exchange("v0.3.29", "cancel running").response
    assert Script.of(page, done).run(with_retry(dialect("v0.3.29").stop("j", "because"))) is StopOutcome.STOPPED
    with pytest.raises((UnexpectedAnswer, ServerUnavailable)):
        Script.of(*[page] * MAX_ATTEMPTS).run(with_retry(dialect("v0.3.29").stop("j", "because")))


def test_a_job_that_is_gone_before_it_is_stopped_is_not_found() -> None:
    script = Script.of(exchange("v1.3.2", "states unknown").response)
    assert script.run(dialect("v1.3.2").stop("j", "because")) is StopOutcome.NOT_FOUND


def test_a_job_of_another_key_says_which_field_to_mend() -> None:
    script = Script.of(state("InProgress"), exchange("v1.3.2", "cancel by other").response)
    with pytest.raises(NotAuthorised) as raised:
        script.run(dialect("v1.3.2").stop("j", "because"))
    assert "key_file" in raised.value.hint


# -- listing ----------------------------------------------------------------------------------------------------------


def item(number: int, *annotations: str, modified: int = 0) -> dict[str, Any]:
    return {
        "Job": {
            "Metadata": {"ID": f"j{number}", "CreatedAt": f"2026-01-01T00:00:{number:02d}Z"},
            "Spec": {"Annotations": list(annotations)},
        },
        "State": {"State": "New", "UpdateTime": f"2026-01-01T00:01:{modified:02d}Z"},
    }


def ids(jobs: tuple[Job, ...]) -> list[str]:
    return [job.id for job in jobs]


def test_jobs_must_carry_all_labels_though_the_server_finds_any() -> None:
    answer = ok({"jobs": [item(1, "a=1", "b=2", "c"), item(2, "a=1"), item(3, "a=1", "b=3"), item(4, "b=2", "a=1")]})
    script = Script.of(answer)
    page = script.run(dialect("v1.1.6").list(labels={"a": "1", "b": "2"}, limit=1))
    assert ids(page.items) == ["j1"]
    assert page.next_token == "1"
    query = sent(script.requests[0])
    assert query["include_tags"] == ["a=1", "b=2"]
    assert query["max_jobs"] == 0


def test_labels_are_told_apart_by_letter_case_though_the_server_does_not() -> None:
    script = Script.of(ok({"jobs": [item(1, "Dag=a"), item(2, "dag=A"), item(3, "dag=a")]}))
    page = script.run(dialect("v1.3.2").list(labels={"dag": "a"}, limit=1))
    assert (ids(page.items), page.next_token) == (["j3"], "")
    assert sent(script.requests[0])["max_jobs"] == 0


def test_pages_are_cut_from_the_front_of_the_list() -> None:
    jobs = [item(number) for number in range(1, 6)]
    script = Script.of(ok({"jobs": jobs[:3]}), ok({"jobs": jobs[:5]}), ok({"jobs": jobs}))
    server, seen, token = dialect("v1.3.2"), [], ""
    for _ in range(3):
        page = script.run(server.list(limit=2, next_token=token))
        seen += ids(page.items)
        token = page.next_token
    assert seen == ["j1", "j2", "j3", "j4", "j5"]
    assert token == ""
    assert [sent(request)["max_jobs"] for request in script.requests] == [3, 5, 7]


def test_servers_that_cut_before_they_sort_are_asked_for_everything() -> None:
    script = Script.of(ok({"jobs": [item(2), item(3), item(1)]}))
    page = script.run(dialect("v0.3.29").list(limit=2, reverse=True))
    assert ids(page.items) == ["j3", "j2"]
    assert sent(script.requests[0]) == {
        "client_id": "",
        "return_all": True,
        "max_jobs": 0,
        "sort_by": "created_at",
        "sort_reverse": True,
    }


@pytest.mark.parametrize(("version", "sort_by", "most"), [("v1.1.6", "created_at", 0), ("v1.3.2", "modified_at", 3)])
def test_the_order_of_change_is_made_here_where_servers_have_none(version: str, sort_by: str, most: int) -> None:
    script = Script.of(ok({"jobs": [item(1, modified=3), item(2, modified=1)]}))
    page = script.run(dialect(version).list(order_by="modified_at", limit=2))
    assert ids(page.items) == ["j2", "j1"]
    assert (sent(script.requests[0])["sort_by"], sent(script.requests[0])["max_jobs"]) == (sort_by, most)


def test_name_and_labels_are_read_from_annotations() -> None:
    named = item(1, name_annotation("a-b"), f"{TASK_NAME}=t", "dag=x=y", "plain")
    (job,) = Script.of(ok({"jobs": [named]})).run(dialect("v1.1.6").list()).items
    assert job.name == "a-b"
    assert job.labels == {"dag": "x=y", "plain": ""}


def test_history_can_be_filtered() -> None:
    script = Script.of(ok({"events": []}), ok({"events": None}))
    assert script.run(dialect("v1.1.6").history("j", since=7, event_type="job")).items == ()
    script.run(dialect("v1.1.6").history("j", event_type="execution"))
    first, second = (sent(request)["filters"] for request in script.requests)
    assert first == {"since": 7, "exclude_execution_level": True, "exclude_job_level": False}
    assert second == {"since": 0, "exclude_execution_level": False, "exclude_job_level": True}


# -- judging ----------------------------------------------------------------------------------------------------------


def outcome(version: str, label: str) -> JobOutcome:
    answers = exchange(version, f"{label}: list").response, exchange(version, f"{label}: events").response
    return JobOutcome.of(Script.of(*answers).run(dialect(version).get("j", executions=True, history=True)))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("label", "category", "exit_codes"),
    [
        ("wasm ok", None, [0]),
        ("wasm plain return", None, [-1]),
        ("word count", None, [-1]),
        ("wasm exit 3", FailureCategory.PROGRAM_FAILED, [3]),
        ("bad module", FailureCategory.MODULE_INVALID, []),
        ("cancelled", FailureCategory.STOPPED_BY_OTHERS, []),
    ],
)
def test_jobs_are_judged_as_everywhere(
    version: str, label: str, category: FailureCategory | None, exit_codes: list[int]
) -> None:
    ended = outcome(version, label)
    assert (ended.diagnosis.category if ended.diagnosis else None) is category
    assert ended.exit_codes == exit_codes


@pytest.mark.parametrize("version", VERSIONS[2:])
def test_that_no_node_fits_is_read_from_the_events(version: str) -> None:
    ended = outcome(version, "unschedulable")
    assert ended.diagnosis is not None
    assert ended.diagnosis.category is FailureCategory.NO_SUITABLE_NODE
    assert ended.job.message.startswith("not enough nodes to run job. requested: 1")


def test_a_timeout_that_looks_like_a_cancellation_is_said_to_be_perhaps_one() -> None:
    ended = outcome("v1.1.6", "timeout")
    assert ended.job.state is JobState.STOPPED
    assert ended.job.message == "job canceled by user, or timed out: it was given 3 s and ended after 16 s"
    assert outcome("v1.1.6", "cancelled").job.message == "job canceled by user"


@pytest.mark.parametrize("version", VERSIONS[:2])
def test_a_timeout_of_old_servers_is_a_failure(version: str) -> None:
    ended = outcome(version, "timeout")
    assert ended.diagnosis is not None
    assert ended.diagnosis.category is FailureCategory.EXECUTION_TIMEOUT


@pytest.mark.parametrize("version", VERSIONS)
def test_a_job_says_what_it_is(version: str) -> None:
    recorded_job = json.loads(exchange(version, "wasm ok: list").response.body)["jobs"][0]
    job = outcome(version, "wasm ok").job
    about = recorded_job["Job"]["Metadata"]
    assert (job.id, job.name, job.namespace) == (about["ID"], about["ID"], about["ClientID"])
    assert (job.type, job.count, job.engine, job.publisher) == ("batch", 1, "wasm", "ipfs")
    assert job.labels == {"suite-probe": ""}
    assert job.created is not None
    assert job.modified is not None
    assert job.created < job.modified
    (one,) = job.executions or ()
    assert one.id.startswith("e-")
    assert (one.job_id, one.node_id) == (job.id, recorded_job["State"]["Executions"][0]["NodeId"])


@pytest.mark.parametrize("version", VERSIONS)
def test_results_are_traced_to_their_executions(version: str) -> None:
    job = outcome(version, "wasm ok").job
    results = Script.of(exchange(version, "wasm ok: results").response).run(dialect(version).results("j"))
    (reference,) = refer(job.id, results, job.executions or ())
    assert reference.cid == "QmRNmZCoujKHMqgXypPfKkYJCDV4r8WogVoDVSrLmwEoFR"
    assert reference.execution_id == (job.executions or ())[0].id


def test_results_of_every_publisher_are_read() -> None:
    answer = ok(
        {
            "results": [
                {"NodeID": "n", "Data": {"StorageSource": "IPFS", "Name": "ipfs://Qm", "CID": "Qm"}},
                {"NodeID": "n", "Data": {}},
                {"NodeID": "n", "Data": {"StorageSource": "s3", "S3": {"Bucket": "b", "Key": "k"}}},
                {"NodeID": "n", "Data": {"StorageSource": "urldownload", "URL": "http://n/e.tgz"}},
            ]
        }
    )
    first, second, third = Script.of(answer).run(dialect("v1.3.2").results("j"))
    assert (first.type, first.params, first.index) == ("ipfs", {"CID": "Qm"}, 0)
    assert (second.type, second.params, second.index) == ("s3", {"Bucket": "b", "Key": "k"}, 2)
    assert (third.type, third.url, third.index) == ("urlDownload", "http://n/e.tgz", 3)


# -- answers that no server has given yet -----------------------------------------------------------------------------


def test_a_job_that_partly_completed_has_failed() -> None:
    found = {"jobs": [{"Job": {"Metadata": {"ID": "j"}}, "State": {"State": "CompletedPartially", "Executions": None}}]}
    job = Script.of(ok(found)).run(dialect("v0.3.29").get("j", executions=True))
    assert (job.state, job.executions) == (JobState.FAILED, ())
    assert "CompletedPartially" in job.message


def test_a_job_on_every_node_is_an_ops_job() -> None:
    found = {"jobs": [{"Job": {"Metadata": {"ID": "j"}, "Spec": {"Deal": {"TargetingMode": True}}}, "State": {}}]}
    job = Script.of(ok(found)).run(dialect("v1.1.6").get("j"))
    assert (job.type, job.count, job.executions) == ("ops", 0, None)


@pytest.mark.parametrize("answer", [ok({"jobs": []}), ok({}), ok([]), ok(None), Response(200, {}, b"<html>")])
def test_a_good_answer_that_holds_no_job_is_unexpected(answer: Response) -> None:
    with pytest.raises(UnexpectedAnswer):
        Script.of(answer).run(dialect("v1.1.6").get("j"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", ExecutionState.NEW),
        ("WaitingVerification", ExecutionState.RUNNING),
        ("ResultRejected", ExecutionState.FAILED),
        ("cancelled", ExecutionState.CANCELLED),
        ("Undefined", ExecutionState.UNKNOWN),
        ("Frobbed", ExecutionState.UNKNOWN),
    ],
)
def test_states_of_executions_have_names(name: str, expected: ExecutionState) -> None:
    assert requester_answers.execution_state(name) is expected


def test_an_exit_code_that_cannot_be_read_is_not_success() -> None:
    execution = {"State": "Completed", "RunOutput": {"exitCode": "zero"}}
    (one,) = Script.of(ok({"state": {"Executions": [execution]}})).run(dialect("v1.1.6").executions("j"))
    assert one.exit_code is None


def test_a_server_that_retired_the_api_names_the_remedy() -> None:
    gone = "This endpoint is deprecated. See the migration guide at https://docs.bacalhau.org/"
    with pytest.raises(NotSupported, match="has retired the requester API") as raised:
        Script.of(refusal(410, json.dumps(gone))).run(dialect("v1.4.0").list())
    assert "`api`" in raised.value.hint


@pytest.mark.parametrize("answer", [refusal(404, "404 page not found\n"), refusal(404, {"message": "Not Found"})])
def test_a_server_without_the_api_names_the_remedy(answer: Response) -> None:
    with pytest.raises(NotSupported, match="does not serve the requester API") as raised:
        Script.of(answer).run(dialect("v1.1.6").list())
    assert "`api`" in raised.value.hint


def test_a_page_of_something_else_is_not_taken_for_bacalhau() -> None:
    with pytest.raises(UnexpectedAnswer):
        Script.of(refusal(404, "<html>", content_type="text/html")).run(dialect("v1.1.6").list())


@pytest.mark.parametrize(
    "answer", [refusal(502, "<html>", content_type="text/html"), refusal(503, "Server Timeout!"), refusal(429)]
)
def test_a_server_that_cannot_answer_now_is_asked_again_later(answer: Response) -> None:
    with pytest.raises(ServerUnavailable):
        Script.of(answer).run(dialect("v1.1.6").executions("j"))


def test_a_lost_answer_is_unreachable() -> None:
    with pytest.raises(Unreachable):
        Script.of(LOST).run(dialect("v1.1.6").executions("j"))


HOSTILE: list[Any] = [None, True, 7, "x", [], [None], {}, {"State": {}}, {"Executions": [[], None, {"RunOutput": 3}]}]


@pytest.mark.parametrize("value", HOSTILE)
def test_nothing_that_a_server_says_breaks_the_reading(value: Any) -> None:
    fields = Fields(value)
    requester_answers.read_executions(fields)
    requester_answers.read_event(fields)
    requester_answers.read_node(fields)
    requester_answers.read_results([fields])
    requester_answers.read_job(Fields({"Job": value, "State": value}), executions=True)


def test_old_servers_describe_only_the_node_that_answers() -> None:
    script = Script.of(exchange("v0.3.29", "probe /node_info").response)
    (node,) = script.run(dialect("v0.3.29").nodes())
    assert node.takes_jobs
    assert node.id == "QmQLFErrZx2kZMW7SvNd5qt3AsYQRAh6tEVrCT2tWwA9Dj"
    assert script.lines == ["GET /node_info"]
