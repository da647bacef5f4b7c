"""What servers say, read right: recorded answers of three versions, and answers as nobody should give them."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_bacalhau.client import states
from airflow_provider_bacalhau.client.dialects.orchestrator import OrchestratorDialect
from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
from airflow_provider_bacalhau.client.effects import Operation, Response
from airflow_provider_bacalhau.client.errors import NotFound, NotSupported, UnexpectedAnswer
from airflow_provider_bacalhau.client.facts import AgentNode, Execution, Job, StopOutcome
from airflow_provider_bacalhau.client.reading import Fields, clean, one_line, seconds_of
from airflow_provider_bacalhau.client.results import refer
from airflow_provider_bacalhau.client.states import ExecutionState, JobState
from tests.support.drive import Script, ok
from tests.support.recorded import VERSIONS, answer, exchange

every_version = pytest.mark.parametrize("version", VERSIONS)


def dialect(version: str) -> OrchestratorDialect:
    return OrchestratorDialect(ServerVersion(version))


def get(version: str, label: str, source: str = "orchestrator") -> Job:
    script = Script.of(answer(version, f"{label}", source))
    return script.run(dialect(version).get("j-1", executions=True, history=True))


def executions(job: Job) -> tuple[Execution, ...]:
    assert job.executions is not None
    return job.executions


@every_version
def test_a_job_is_read(version: str) -> None:
    job = get(version, "wasm ok: get")
    recorded = exchange("orchestrator", version, "wasm ok: get").json["Job"]
    assert (job.id, job.name, job.namespace) == (recorded["ID"], recorded["Name"], "default")
    assert (job.type, job.count, job.state, job.message) == ("batch", 1, JobState.COMPLETED, "")
    assert (job.engine, job.publisher, job.labels) == ("wasm", "local", {"suite": "probe"})
    assert job.created == recorded["CreateTime"] / 1e9
    assert job.modified == recorded["ModifyTime"] / 1e9


@every_version
def test_its_execution_is_read(version: str) -> None:
    job = get(version, "wasm ok: get")
    (one,) = executions(job)
    assert (one.state, one.exit_code, one.partition) == (ExecutionState.COMPLETED, 0, 0)
    assert (one.stdout, one.stderr) == ("hello from wasm code=0", "warn: going to exit 0\n")
    assert (one.stdout_truncated, one.stderr_truncated) == (False, False)
    assert one.job_id == job.id
    assert one.node_id.startswith("n-")
    assert one.published_type == "urlDownload"
    # The message is that of the last event, whatever the state is.
    assert one.message == ("Accepted job" if version == "v1.4.0" else "Running")


@every_version
def test_executions_read_alike_alone_and_with_their_job(version: str) -> None:
    alone = Script.of(answer(version, "wasm ok: executions")).run(dialect(version).executions("j-1"))
    assert alone == get(version, "wasm ok: get").executions


EXIT_CODES = [
    ("wasm ok: get", JobState.COMPLETED, [(ExecutionState.COMPLETED, 0)]),
    ("wasm plain return: get", JobState.COMPLETED, [(ExecutionState.COMPLETED, -1)]),
    ("wasm exit 3: get", JobState.COMPLETED, [(ExecutionState.COMPLETED, 3)]),
    ("count 0: get", JobState.COMPLETED, []),
    ("count 3: get", JobState.FAILED, [(ExecutionState.COMPLETED, 0)]),
    ("unschedulable: get", JobState.FAILED, []),
    ("running: get", JobState.RUNNING, [(ExecutionState.BID_ACCEPTED, None)]),
    ("stopped: get", JobState.STOPPED, [(ExecutionState.CANCELLED, None)]),
    # A failed execution's record says exit code 0 from v1.5 on.
    ("exec timeout: get", JobState.QUEUED, [(ExecutionState.FAILED, None), (ExecutionState.FAILED, None)]),
    ("bad module: get", JobState.QUEUED, [(ExecutionState.FAILED, None), (ExecutionState.FAILED, None)]),
]


@every_version
@pytest.mark.parametrize(("label", "state", "ends"), EXIT_CODES, ids=[label for label, *_ in EXIT_CODES])
def test_states_and_exit_codes_are_those_of_the_version(
    version: str, label: str, state: JobState, ends: list[tuple[ExecutionState, int | None]]
) -> None:
    job = get(version, label)
    assert job.state is state
    assert [(one.state, one.exit_code) for one in executions(job)] == ends


def test_a_dockers_exit_code_and_streams_are_read() -> None:
    (one,) = executions(get("v1.9.3", "docker exit 7: get"))
    assert (one.exit_code, one.stderr) == (7, "bad\n")


def test_a_long_output_says_that_it_is_cut() -> None:
    (one,) = Script.of(answer("v1.9.3", "docker big stdout: executions")).run(dialect("v1.9.3").executions("j-1"))
    assert one.stdout_truncated
    assert len(one.stdout) <= 2048


def test_partitions_are_numbered_from_an_index_that_is_left_out() -> None:
    job = get("v1.9.3", "count 3 of 3 nodes: include=executions,history", "count")
    assert sorted(one.partition for one in executions(job)) == [0, 1, 2]


@every_version
def test_history_has_times_topics_and_executions(version: str) -> None:
    page = Script.of(answer(version, "wasm ok: history")).run(dialect(version).history("j-1"))
    (execution,) = executions(get(version, "wasm ok: get"))
    first = page.items[0]
    assert (first.event.topic, first.event.message, first.execution_id) == ("Submission", "Job submitted", "")
    assert page.next_token == ""
    times = [one.time for one in page.items]
    assert all(times)
    assert times == sorted(times)
    assert {one.execution_id for one in page.items} == {"", execution.id}
    assert any(one.node_id == execution.node_id for one in page.items)


def test_an_item_of_the_old_history_without_an_event_is_no_event_with_a_false_date() -> None:
    page = Script.of(answer("v1.4.0", "wasm ok: history")).run(dialect("v1.4.0").history("j-1"))
    assert [one.event.message for one in page.items if one.event.message] == ["Job submitted", "Accepted job"]
    assert all(one.time and one.time > 1_790_000_000 for one in page.items)


def test_a_failure_brings_code_and_hint() -> None:
    job = get("v1.9.3", "docker no image: get")
    failed = next(one for one in job.history or () if one.event.is_error and one.execution_id)
    assert failed.event.topic == "Exec Scanning"
    assert failed.event.details["ErrorCode"] == "Docker:ImageNotFound"
    assert failed.event.details["Hint"].startswith("To resolve this")


def test_an_unknown_jobs_history_is_an_empty_page_on_v1_7() -> None:
    page = Script.of(answer("v1.7.0", "history unknown")).run(dialect("v1.7.0").history("j-1"))
    assert page.items == ()


@every_version
def test_a_list_is_a_page(version: str) -> None:
    page = Script.of(answer(version, "list by label")).run(dialect(version).list(labels={"suite": "probe"}))
    assert len(page.items) == 2
    assert page.next_token == "Olk6Mjoy"
    assert all(job.labels == {"suite": "probe"} and job.state is JobState.COMPLETED for job in page.items)
    assert all(job.executions is None and job.history is None for job in page.items)


@every_version
def test_nodes_are_read_wrapped_and_bare(version: str) -> None:
    node = Script.of(answer(version, "agent node")).run(dialect(version).node())
    assert (node.kind, node.takes_jobs) == ("Compute", True)
    assert "wasm" in node.engines
    assert "local" in node.publishers
    assert "inline" in node.sources
    nodes = Script.of(answer(version, "nodes")).run(dialect(version).nodes())
    assert nodes[0].id == node.id
    assert [one.takes_jobs for one in nodes] == [one.connection == "CONNECTED" for one in nodes]


@every_version
def test_the_agent_is_alive(version: str) -> None:
    script = Script.of(answer(version, "agent alive"))
    assert script.run(dialect(version).alive()) is True
    assert script.lines == ["GET /api/v1/agent/alive"]


def test_warnings_of_a_submission_are_kept() -> None:
    class Spec:
        name, namespace = "n", None

        def to_wire(self, *, module_sources: bool) -> dict[str, Any]:
            return {}

    said = exchange("orchestrator", "v1.9.3", "warnings").json
    submission = Script.of(answer("v1.9.3", "warnings")).run(dialect("v1.9.3").submit(Spec()))  # type: ignore[arg-type]
    assert submission.job_id == said["JobID"]
    assert list(submission.warnings) == said["Warnings"]
    assert not submission.adopted


STOPS = [
    ("queued: stop", StopOutcome.STOPPED, VERSIONS),
    ("queued: stop again", StopOutcome.ALREADY_STOPPED, VERSIONS),
    ("stop completed", StopOutcome.ALREADY_COMPLETED, VERSIONS),
    ("stop unknown", StopOutcome.NOT_FOUND, VERSIONS),
    ("stop failed", StopOutcome.ALREADY_FAILED, ("v1.7.0", "v1.9.3")),
]


@pytest.mark.parametrize(
    ("version", "label", "outcome"), [(version, label, out) for label, out, versions in STOPS for version in versions]
)
def test_that_a_job_is_over_is_an_answer_to_stop(version: str, label: str, outcome: StopOutcome) -> None:
    script = Script.of(answer(version, label))
    assert script.run(dialect(version).stop("j-1", "no longer wanted")) is outcome
    (request,) = script.requests
    assert (request.method, request.target) == ("DELETE", "/api/v1/orchestrator/jobs/j-1")
    assert json.loads(request.body or b"") == {"reason": "no longer wanted"}
    assert request.headers["Content-Type"] == "application/json"


# -- results and references -------------------------------------------------------------------------------------------


def references(source: str, results: str, runs: str) -> list[dict[str, Any]]:
    one = dialect("v1.9.3")
    found = Script.of(answer("v1.9.3", results, source)).run(one.results("j-1"))
    ran = Script.of(answer("v1.9.3", runs, source)).run(one.executions("j-1"))
    return [reference.to_dict() for reference in refer("j-1", found, ran)]


def test_an_ipfs_result_is_named_by_its_cid() -> None:
    label = "chain: root at /inputs, read /inputs"
    (one,) = references("ipfs", f"{label}: results", f"{label}: executions")
    assert one == {
        "type": "ipfs",
        "job_id": "j-1",
        "execution_id": "e-c8aa0aea-7cf5-4f35-adda-3ad27a3b4dab",
        "cid": "QmbmHZ4SjokWhB5qNrpbSnBtv2EAieUCjvc2gy8ZRnBbup",
    }


@pytest.mark.parametrize("kind", ["s3 gzip", "s3 plain"])
def test_an_s3_result_is_named_by_its_source_and_holds_no_signed_address(kind: str) -> None:
    (one,) = references("s3", f"{kind}: results", f"{kind}: executions")
    assert one["type"] == "s3"
    assert one["execution_id"].startswith("e-")
    assert one["source"]["Bucket"] == "lab"
    assert one["source"]["Key"]
    assert "Signature" not in json.dumps(one)


def test_a_managed_result_is_named_by_its_place() -> None:
    (one,) = references("s3managed", "s3managed: results", "s3managed: executions")
    assert one["type"] == "s3managed"
    assert one["index"] == 0
    assert set(one) == {"type", "job_id", "execution_id", "index"}


@every_version
def test_a_local_result_is_named_by_its_place_and_its_address_is_not_shown(version: str) -> None:
    found = Script.of(answer(version, "wasm ok: results")).run(dialect(version).results("j-1"))
    (one,) = refer("j-1", found, executions(get(version, "wasm ok: get")))
    assert (one.type, one.index) == ("url", 0)
    assert one.execution_id is not None
    assert found[0].url.endswith(f"{one.execution_id}.tar.gz")
    assert found[0].url not in repr(found)
    assert found[0].url not in json.dumps(one.to_dict())


def test_a_signed_address_is_in_no_repr() -> None:
    (one,) = Script.of(answer("v1.9.3", "s3 gzip: results", "s3")).run(dialect("v1.9.3").results("j-1"))
    assert "X-Amz-Signature" in one.url
    assert "X-Amz" not in repr(one)


# -- what is asked for ------------------------------------------------------------------------------------------------


def test_a_listing_sends_what_was_asked_and_nothing_else() -> None:
    script = Script.of(ok({"Items": []}), ok({"Items": None}))
    one = dialect("v1.9.3")
    script.run(one.list())
    script.run(
        one.list(namespace="a b", labels={"k": "v"}, limit=0, order_by="modified_at", reverse=True, next_token="t=")
    )
    assert script.lines == [
        "GET /api/v1/orchestrator/jobs?limit=100&order_by=created_at",
        "GET /api/v1/orchestrator/jobs?namespace=a+b&labels=k%3Dv&order_by=modified_at&reverse=true&next_token=t%3D",
    ]


@pytest.mark.parametrize("body", [{}, {"NextToken": ""}, {"Nodes": []}])
def test_that_there_are_no_jobs_has_to_be_said(body: dict[str, Any]) -> None:
    """A job that is not seen is submitted again."""
    with pytest.raises(UnexpectedAnswer):
        Script.of(ok(body)).run(dialect("v1.9.3").list())


def test_history_pages_are_asked_for_only_where_there_are_any() -> None:
    script = Script.of(ok({}), ok({}))
    script.run(dialect("v1.4.0").history("j-1", next_token="abc", since=5))
    script.run(dialect("v1.7.0").history("j-1", next_token="abc", since=5))
    assert script.lines == [
        "GET /api/v1/orchestrator/jobs/j-1/history?since=5&event_type=all",
        "GET /api/v1/orchestrator/jobs/j-1/history?since=5&event_type=all&next_token=abc",
    ]


def test_a_name_that_looks_like_a_path_stays_one_part_of_it() -> None:
    script = Script.of(ok({"Job": {"ID": "j-1"}}))
    script.run(dialect("v1.9.3").get("../nodes?x=1#y", namespace="n&m"))
    assert script.lines == ["GET /api/v1/orchestrator/jobs/..%2Fnodes%3Fx%3D1%23y?namespace=n%26m"]


@pytest.mark.parametrize("job_id", ["", ".", ".."])
def test_an_id_that_would_name_something_else_is_not_sent(job_id: str) -> None:
    one = dialect("v1.9.3")
    script = Script.of()
    for operation in (one.get(job_id), one.executions(job_id), one.history(job_id), one.results(job_id)):
        with pytest.raises(NotFound, match="nothing was sent"):
            script.run(operation)
    assert script.run(one.stop(job_id, "why")) is StopOutcome.NOT_FOUND
    assert script.requests == []


# -- tolerance --------------------------------------------------------------------------------------------------------


def changed_case(value: Any, change: Any) -> Any:
    if isinstance(value, dict):
        return {change(key): changed_case(item, change) for key, item in value.items()}
    return [changed_case(item, change) for item in value] if isinstance(value, list) else value


@every_version
@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_keys_are_read_in_any_case(version: str, change: Any) -> None:
    body = exchange("orchestrator", version, "wasm ok: get").json
    kept = ("Labels", "Params", "Details")

    # Keys of maps are data, not names of fields.
    def change_fields(key: str) -> str:
        return key if key in kept else str(change(key))

    job = Script.of(ok(changed_case(body, change_fields))).run(dialect(version).get("j-1", executions=True))
    expected = replace(get(version, "wasm ok: get"), history=None)
    assert replace(job, labels={}, executions=None) == replace(expected, labels={}, executions=None)
    assert [(one.state, one.exit_code, one.stdout) for one in executions(job)] == [
        (one.state, one.exit_code, one.stdout) for one in executions(expected)
    ]


def holes(value: Any) -> list[Any]:
    """The value with each of its parts once missing, null, and of another type."""
    if isinstance(value, dict):
        found: list[Any] = []
        for key, item in value.items():
            rest = {other: kept for other, kept in value.items() if other != key}
            others: list[Any] = [None, "x", -1, [], {}, True, 1e400, [None], 10**400]
            found += [rest, *({**rest, key: other} for other in others)]
            found += [{**rest, key: hole} for hole in holes(item)]
        return found
    if isinstance(value, list):
        return [[hole] for item in value[:1] for hole in holes(item)] + [[], [None], ["x", 1, {}]]
    return []


@every_version
def test_nothing_that_is_missing_null_or_of_another_type_is_a_crash(version: str) -> None:
    body = exchange("orchestrator", version, "wasm ok: get").json
    body["Executions"]["Items"][0].pop("Job", None)
    one = dialect(version)
    bodies = holes(body)
    assert len(bodies) > 300
    for changed in bodies:
        response = Response(200, {}, json.dumps(changed).encode())
        try:
            job = Script.of(response).run(one.get("j-1", executions=True, history=True))
        except UnexpectedAnswer:
            continue
        assert isinstance(job.state, JobState)
        assert job.created is None or 0 < job.created < 1e12
        assert all(isinstance(each.state, ExecutionState) for each in executions(job))


@pytest.mark.parametrize(
    "label", ["wasm ok: results", "wasm ok: history", "wasm ok: executions", "nodes", "list by label", "agent node"]
)
def test_lists_with_holes_are_no_crash_either(label: str) -> None:
    one = dialect("v1.9.3")
    read: dict[str, Callable[[str], Operation[Any]]] = {
        "wasm ok: results": one.results,
        "wasm ok: history": one.history,
        "wasm ok: executions": one.executions,
    }
    for changed in holes(exchange("orchestrator", "v1.9.3", label).json):
        script = Script.of(Response(200, {}, json.dumps(changed).encode()))
        if label == "nodes":
            script.run(one.nodes())
        elif label == "agent node":
            script.run(one.node())
        elif label == "list by label":
            with contextlib.suppress(UnexpectedAnswer):  # which a list is that is not there at all
                script.run(one.list())
        else:
            script.run(read[label]("j-1"))


@pytest.mark.parametrize(
    "run_output", [None, {}, {"ExitCode": None}, {"ExitCode": "many"}, {"Stdout": "x"}, {"ExitCode": []}]
)
def test_an_exit_code_that_cannot_be_read_is_not_zero(run_output: object) -> None:
    item = Fields({"ID": "e-1", "ComputeState": {"StateType": 9}, "RunOutput": run_output})
    read = Execution.read(item, ServerVersion("v1.9.3").capabilities.execution_numbers)
    assert read.state is ExecutionState.COMPLETED
    assert read.exit_code is None


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'"x"', b"<html>", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000]
)
def test_an_answer_that_is_no_object_is_unexpected(body: bytes) -> None:
    with pytest.raises(UnexpectedAnswer, match="not the JSON object that belongs there"):
        Script.of(Response(200, {}, body)).run(dialect("v1.9.3").executions("j-1"))


@pytest.mark.parametrize("body", [{}, {"Items": []}, {"Job": None}, {"Job": {}}, {"Job": []}, {"Job": {"ID": ""}}])
def test_an_answer_without_a_job_is_no_job(body: object) -> None:
    with pytest.raises(UnexpectedAnswer):
        Script.of(ok(body)).run(dialect("v1.9.3").get("j-1"))


def test_an_unknown_state_is_waited_on_with_one_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "_warned", set())
    with caplog.at_level(logging.WARNING):
        read = [JobState.read(text) for text in ("Levitating", "Levitating", "levitating ", "Levitating")]
    assert set(read) == {JobState.UNKNOWN}
    assert not JobState.UNKNOWN.is_terminal
    assert [record.getMessage() for record in caplog.records if "Levitating" in record.getMessage()] == [
        "Unknown job state 'Levitating'; treating it as not yet over."
    ]


def test_a_server_that_invents_states_does_not_fill_log_or_memory(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "_warned", set())
    for number in range(500):
        JobState.read(f"{number}" + "x" * 100_000)
    assert len(caplog.records) == 100
    assert max(len(record.getMessage()) for record in caplog.records) < 200


def test_states_are_read_in_any_case_and_undefined_is_known() -> None:
    assert JobState.read("COMPLETED") is JobState.COMPLETED
    assert JobState.read("running") is JobState.RUNNING
    assert JobState.read("Undefined") is JobState.UNKNOWN
    assert JobState.read(None) is JobState.UNKNOWN


NUMBERS = [
    ("v1.4.0", 7, ExecutionState.COMPLETED),
    ("v1.5.1", 7, ExecutionState.COMPLETED),
    ("v1.5.2", 7, ExecutionState.PUBLISHING),
    ("v1.9.3", 6, ExecutionState.RUNNING),
    ("v1.9.3", 9, ExecutionState.COMPLETED),
    ("v1.9.3", 10, ExecutionState.FAILED),
    ("v1.9.3", 11, ExecutionState.CANCELLED),
    ("v1.9.3", 12, ExecutionState.UNKNOWN),
    ("v1.9.3", -1, ExecutionState.UNKNOWN),
    ("v1.9.3", 10**30, ExecutionState.UNKNOWN),
    ("v1.9.3", True, ExecutionState.UNKNOWN),
    ("v1.9.3", None, ExecutionState.UNKNOWN),
    ("v1.9.3", "completed", ExecutionState.COMPLETED),
    ("v0.0.0-abc", 9, ExecutionState.COMPLETED),
    ("", 9, ExecutionState.COMPLETED),
]


@pytest.mark.parametrize(("version", "number", "state"), NUMBERS)
def test_execution_states_are_numbered_by_version(version: str, number: object, state: ExecutionState) -> None:
    assert ExecutionState.read(number, ServerVersion(version).capabilities.execution_numbers) is state


VERSIONS_AND_WHAT_THEY_CAN = [
    # version, pages of history, modules as whole sources, unique names
    ("v1.4.0", False, True, False),
    ("v1.5.0", True, True, False),
    ("v1.6.9", True, True, False),
    ("v1.7.0", True, False, False),
    ("v1.8.0-rc1", True, False, True),
    ("v1.9.3", True, False, True),
    ("v2.0.0", True, False, True),
    ("v0.0.0-xxxxxxx", True, False, True),
    ("unknown", True, False, True),
]


@pytest.mark.parametrize(("text", "pages", "sources", "names"), VERSIONS_AND_WHAT_THEY_CAN)
def test_what_a_version_can_do(text: str, pages: bool, sources: bool, names: bool) -> None:
    can = ServerVersion(text).capabilities
    assert (can.history_pages, can.module_sources, can.unique_names) == (pages, sources, names)


def test_a_server_that_is_too_old_is_refused_by_name() -> None:
    with pytest.raises(NotSupported, match=r"Bacalhau v0\.3\.25"):
        _ = ServerVersion("v0.3.25").capabilities


TIMES = [
    (1_700_000_000_000_000_000, 1_700_000_000.0),
    (1.5e9, 1.5),
    ("2026-11-22T01:49:22.298952758Z", 1795312162.298952),
    ("2026-11-22T02:49:22+01:00", 1795312162.0),
    ("2026-11-22T01:49:22", 1795312162.0),
    ("0001-01-01T00:00:00Z", None),
    ("yesterday", None),
    ("", None),
    (None, None),
    (0, None),
    (-1, None),
    (True, None),
    (10**400, None),
    (float("inf"), None),
    (float("nan"), None),
    ([], None),
    ({}, None),
]


@pytest.mark.parametrize(("value", "seconds"), TIMES)
def test_times_are_seconds_since_the_epoch_or_nothing(value: object, seconds: float | None) -> None:
    assert seconds_of(value) == seconds


NODES = [
    ("Compute", "CONNECTED", "APPROVED", True),
    ("compute", "", "", True),
    ("Compute", "HEALTHY", "APPROVED", True),
    ("Compute", "DISCONNECTED", "APPROVED", False),
    ("Compute", "CONNECTED", "PENDING", False),
    ("Compute", "CONNECTED", "REJECTED", False),
    ("Requester", "CONNECTED", "APPROVED", False),
    ("", "", "", False),
]


@pytest.mark.parametrize(("kind", "connection", "membership", "takes"), NODES)
def test_which_nodes_take_jobs(kind: str, connection: str, membership: str, takes: bool) -> None:
    assert AgentNode("n-1", kind, connection=connection, membership=membership).takes_jobs is takes


ADDRESSES = [
    ("Get https://h/p?a=b: refused", "Get https://h/p?…: refused"),
    ('Get "https://h/p?a=b": refused', 'Get "https://h/p?…": refused'),
    ("(see https://h/p?a=b.)", "(see https://h/p?….)"),
    ("https://h?a=b https://i/?c", "https://h?… https://i/?…"),
    ("HTTPS://u:p@h/p", "HTTPS://h/p"),
    ("http://u@h/p?x", "http://h/p?…"),
    ("https://h/p#token=x", "https://h/p#…"),
    ("s3://bucket/key", "s3://bucket/key"),
    ("https://h/a@b", "https://h/a@b"),
    ("what? a://", "what? a://"),
]


@pytest.mark.parametrize(("text", "shown"), ADDRESSES)
def test_addresses_are_shown_without_what_may_be_secret(text: str, shown: str) -> None:
    assert clean(text) == shown
    assert clean(shown) == shown


def test_an_address_is_stripped_before_the_text_is_cut() -> None:
    assert clean("https://user:password@h/p", 15).startswith("https://h/p")
    assert "sign" not in clean("https://h/path?signature", 20)


@pytest.mark.parametrize("text", ["://" * 200_000, "://" + "a" * 600_000, "://h?" + ")" * 600_000, "a@" * 300_000])
def test_a_long_text_is_cleaned_in_no_time(text: str) -> None:
    began = time.monotonic()
    clean(text)
    assert time.monotonic() - began < 5


def test_a_line_is_one_line() -> None:
    assert one_line(" a\n::endgroup::\r\nb\n") == r"a\n::endgroup::\r\nb"


def test_half_a_character_is_made_fit_for_a_log() -> None:
    """JSON may hold one, and no file takes it."""
    assert clean("a\ud83db") == r"a\ud83db"
