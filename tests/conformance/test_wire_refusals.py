"""Refusals as they are on the wire: statuses, bodies and texts, as a running v1.9.3 gave them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .jobs import UNKNOWN_ID, busy, changed, exiting
from .wire import UUID, Wire

pytestmark = [pytest.mark.needs(engine="wasm", source="inline"), pytest.mark.usefixtures("versions_of_jobs")]

UNKNOWN_JOB = f"/orchestrator/jobs/{UNKNOWN_ID}"
NOT_JSON = "invalid character 'n' looking for beginning of object key string"


def error(status: int, message: str, code: str, component: str, **more: Any) -> dict[str, Any]:
    return {"Status": status, "Message": message, "RequestID": "", "Code": code, "Component": component, **more}


@pytest.mark.parametrize("path", ["", "/executions", "/history", "/results"])
def test_an_unknown_job(wire: Wire, path: str) -> None:
    answer = wire.call("GET", UNKNOWN_JOB + path)
    assert answer.status_code == 404
    assert answer.json() == error(404, f"job not found: {UNKNOWN_ID}", "NotFound", "JobStore")


def test_a_request_id_comes_back_in_an_error(wire: Wire) -> None:
    answer = wire.call("GET", UNKNOWN_JOB, headers={"X-Request-ID": "mine"})
    assert answer.json()["RequestID"] == "mine"


def test_an_unknown_route(wire: Wire) -> None:
    answer = wire.call("GET", "/orchestrator/nope")
    assert answer.status_code == 404
    said = answer.json()
    assert {key: said[key] for key in ("Status", "Message", "Code", "Component")} == {
        "Status": 404,
        "Message": "The requested resource/URL was not found.",
        "Code": "NotFound",
        "Component": "APIServer",
    }


def test_the_old_api_is_gone(wire: Wire) -> None:
    assert wire.call("POST", "/requester/submit", json={}).status_code == 404


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"json": {}}, "empty/nil job"),
        (
            {"data": b"{nope", "headers": {"Content-Type": "application/json"}},
            f"code=400, message=Syntax error: offset=2, error={NOT_JSON}, internal={NOT_JSON}",
        ),
        ({"data": b"{}"}, "code=415, message=Unsupported Media Type"),
        ({"json": {"Job": {"Count": 1, "Tasks": []}}}, "missing job type\nmissing job tasks"),
    ],
    ids=["empty", "not json", "no content type", "no type"],
)
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_body_that_is_no_job(wire: Wire, method: str, options: dict[str, Any], message: str) -> None:
    answer = wire.call(method, "/orchestrator/jobs", **options)
    assert answer.status_code == 400
    assert answer.json() == error(400, message, "InternalError", "APIServer")


def test_a_body_over_10_mb(wire: Wire) -> None:
    body = b'{"Job": {"Name": "' + b"x" * 10_500_000 + b'"}}'
    answer = wire.call("POST", "/orchestrator/jobs", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.needs(no_default_publisher=True)
def test_a_result_path_without_a_publisher(wire: Wire) -> None:
    refused = wire.refusal(changed(exiting(0, outputs=["out"]), "Tasks", 0, "Publisher", to={"Type": ""}))
    assert refused["Status"] == 400
    assert "publisher must be set if result paths are set" in refused["Message"]
    assert (refused["Code"], refused["Component"]) == ("BadRequest", "JobStore")


def test_a_list_in_no_order(wire: Wire) -> None:
    answer = wire.call("GET", "/orchestrator/jobs?order_by=zzz&limit=1")
    assert answer.status_code == 500
    assert answer.json() == error(500, "Internal server error", "InternalError", "Unknown")


def test_a_selector_that_is_none(wire: Wire) -> None:
    answer = wire.call("GET", "/orchestrator/jobs", params={"labels": "!!==="})
    assert answer.status_code == 400
    message = "unable to parse requirement: found '!=', expected: identifier"
    assert answer.json() == error(400, message, "InternalError", "APIServer")


def test_a_history_of_no_kind(wire: Wire) -> None:
    job_id = wire.submit(exiting(0))["JobID"]
    answer = wire.call("GET", f"/orchestrator/jobs/{job_id}/history?event_type=zzz")
    message = "Key: 'ListJobHistoryRequest.EventType' Error:Field validation for 'EventType' failed on the 'oneof' tag"
    assert answer.json() == error(400, message, "InternalError", "APIServer")


def test_stopping_what_is_over(wire: Wire) -> None:
    completed = wire.finish(exiting(0))["Job"]["ID"]
    answer = wire.call("DELETE", f"/orchestrator/jobs/{completed}", json={"reason": "late"})
    assert answer.status_code == 500
    assert answer.json() == error(500, "cannot stop job in state Completed", "", "Bacalhau")
    failed = wire.finish(exiting(0, queue_timeout=0, resources={"CPU": "10000"}))["Job"]["ID"]
    answer = wire.call("DELETE", f"/orchestrator/jobs/{failed}", json={"reason": "late"})
    message = f"job {failed} is in terminal state Failed and cannot transition to Stopped"
    assert answer.status_code == 500
    assert answer.json() == error(500, message, "ConflictJobState", "JobStore")
    unknown = wire.call("DELETE", UNKNOWN_JOB, json={"reason": "late"})
    assert unknown.status_code == 404
    assert unknown.json() == error(404, f"job not found: {UNKNOWN_ID}", "NotFound", "JobStore")


def test_stopping_twice(wire: Wire) -> None:
    job_id = wire.running(busy())
    first = wire.call("DELETE", f"/orchestrator/jobs/{job_id}")
    assert re.fullmatch(UUID, first.json()["EvaluationID"])
    second = wire.call("DELETE", f"/orchestrator/jobs/{job_id}")
    assert second.status_code == 200
    assert second.json() == {"EvaluationID": ""}


def test_a_reason_to_stop_is_read_from_the_body_only(wire: Wire) -> None:
    job_id = wire.running(busy())
    wire.call("DELETE", f"/orchestrator/jobs/{job_id}?reason=query")
    assert "query" not in str(wire.get(f"/orchestrator/jobs/{job_id}")["Job"]["State"])


def test_the_beginning_of_an_id(wire: Wire) -> None:
    job_id = wire.submit(exiting(0))["JobID"]
    assert wire.get(f"/orchestrator/jobs/{job_id[:14]}")["Job"]["ID"] == job_id
    wire.submit(exiting(0))
    answer = wire.call("GET", "/orchestrator/jobs/j-")
    assert answer.status_code == 500
    assert answer.json()["Code"] == "MultipleJobsFound"


@pytest.mark.parametrize(
    ("announced", "status"), [("v1.3.0", 403), ("dev", 400), ("v1.4.0", 200), ("v0.0.0", 200), ("v0.0.0-xxxxxxx", 200)]
)
def test_a_client_that_announces_its_version(wire: Wire, announced: str, status: int) -> None:
    headers = {"X-Bacalhau-Git-Version": announced}
    answer = wire.call("GET", "/orchestrator/jobs?limit=1", headers=headers)
    assert answer.status_code == status
    if status == 403:
        said = answer.json()
        assert set(said) == {"Error", "MinVersion", "ClientVersion", "ServerVersion"}
        assert said["Error"] == "Client version is outdated. Update your client"
    if status == 400:
        assert answer.json() == {"Error": "Invalid client version dev"}


@pytest.mark.parametrize(("path", "to"), [("/", "/api/v1/agent/version"), ("/livez", "/api/v1/agent/alive")])
def test_short_addresses_lead_to_the_agent(wire: Wire, path: str, to: str) -> None:
    answer = wire.call("GET", path, outside_api=True)
    assert answer.status_code == 301
    assert answer.headers["Location"] == to
