"""The API of the embedded node, key by key and word by word against recordings of a real v1.9.3 node."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from airflow_provider_bacalhau.devnode import DevNode
from airflow_provider_bacalhau.devnode.routes.paging import Page

from .specs import Api, recorded, wasm_job

RECORDED = recorded("orchestrator")


def shape(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every path in a JSON value with the kind of what is there; the items of lists are one."""
    if isinstance(value, dict):
        yield path, "object"
        for key, inner in value.items():
            yield from shape(inner, f"{path}.{key}")
    elif isinstance(value, list):
        yield path, "list"
        for inner in value:
            yield from shape(inner, f"{path}[]")
    else:
        yield path, "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def same_shape(ours: Any, label: str) -> None:
    assert set(shape(ours)) == set(shape(RECORDED[label]["response"]["json"]))


@pytest.fixture(scope="session")
def done(node: DevNode) -> dict[str, Any]:
    """The job of the recording, run here."""
    spec = RECORDED["wasm ok"]["request"]["json"]["Job"]
    code = wasm_job()["Tasks"][0]["InputSources"][0]["Source"]["Params"]["URL"]
    spec["Tasks"][0]["InputSources"][0]["Source"]["Params"]["URL"] = code
    return Api(node).run(spec)


def test_a_job_with_its_executions_and_history_has_the_recorded_keys(done: dict[str, Any]) -> None:
    same_shape(done, "wasm ok: get")


def test_the_job_is_stored_as_the_recorded_one(done: dict[str, Any]) -> None:
    recording = RECORDED["wasm ok: get"]["response"]["json"]["Job"]
    for key in ("Name", "Namespace", "Type", "Priority", "Count", "Constraints", "Labels", "Version", "Revision"):
        assert done["Job"][key] == recording[key]
    ours, theirs = done["Job"]["Tasks"][0], recording["Tasks"][0]
    assert list(ours) == list(theirs)
    ours["InputSources"] = theirs["InputSources"]
    assert ours == theirs


def test_keys_come_in_the_recorded_order(done: dict[str, Any]) -> None:
    recording = RECORDED["wasm ok: get"]["response"]["json"]
    assert list(done["Job"]) == list(recording["Job"])
    assert list(done["Executions"]["Items"][0]) == list(recording["Executions"]["Items"][0])
    assert list(done["History"]["Items"][1]) == list(recording["History"]["Items"][1])


@pytest.mark.parametrize(
    ("label", "path"),
    [
        ("agent alive", "/agent/alive"),
        ("agent version", "/agent/version"),
        ("agent node", "/agent/node"),
        ("auth methods", "/auth"),
    ],
)
def test_what_the_node_says_of_itself_has_the_recorded_keys(api: Api, label: str, path: str) -> None:
    same_shape(api.get(path), label)


def test_a_node_in_the_list_has_the_recorded_keys(api: Api) -> None:
    recording = RECORDED["nodes"]["response"]["json"]["Nodes"][0]
    sequence_numbers = {
        (".ConnectionState.LastComputeSeqNum", "number"),
        (".ConnectionState.LastOrchestratorSeqNum", "number"),
    }
    assert set(shape(recording)) - set(shape(api.get("/orchestrator/nodes")["Nodes"][0])) <= sequence_numbers


def test_the_queue_backoff_is_shown_where_a_real_node_shows_it(api: Api) -> None:
    assert api.get("/agent/config")["config"]["Orchestrator"]["Scheduler"]["QueueBackoff"] == "50ms"


UNKNOWN = "/orchestrator/jobs/j-00000000-0000-4000-8000-000000000000"
ERRORS = [
    ("get unknown", "GET", UNKNOWN, {}),
    ("stop unknown", "DELETE", UNKNOWN, {}),
    ("results unknown", "GET", UNKNOWN + "/results", {}),
    ("executions unknown", "GET", UNKNOWN + "/executions", {}),
    ("history unknown", "GET", UNKNOWN + "/history", {}),
    ("unknown route", "GET", "/orchestrator/nope", {}),
    ("put empty", "PUT", "/orchestrator/jobs", {"json": {}}),
    ("put not json", "PUT", "/orchestrator/jobs", {"data": "{nope", "headers": {"Content-Type": "application/json"}}),
    ("put no content type", "PUT", "/orchestrator/jobs", {"data": b"{}"}),
    ("list by bad label", "GET", "/orchestrator/jobs?labels=%21%21%3D%3D%3D", {}),
    ("list bad order", "GET", "/orchestrator/jobs?order_by=zzz&limit=1", {}),
    ("client version old", "GET", "/orchestrator/jobs?limit=1", {"headers": {"X-Bacalhau-Git-Version": "v1.3.0"}}),
    ("client version bad", "GET", "/orchestrator/jobs?limit=1", {"headers": {"X-Bacalhau-Git-Version": "dev"}}),
    *[
        (label, "PUT", "/orchestrator/jobs", {"json": RECORDED[label]["request"].get("json")})
        for label in ("put no type", "put bad type", "put bad timeout", "env lower", "env empty")
    ],
]


@pytest.mark.parametrize(("label", "method", "path", "options"), ERRORS, ids=[row[0] for row in ERRORS])
def test_an_error_is_answered_as_recorded(
    api: Api, label: str, method: str, path: str, options: dict[str, Any]
) -> None:
    answer = api.ask(method, path, **options)
    assert (answer.status_code, answer.json()) == (
        RECORDED[label]["response"]["status"],
        RECORDED[label]["response"]["json"],
    )


def test_stopping_and_resubmitting_what_is_over_is_answered_as_recorded(api: Api, done: dict[str, Any]) -> None:
    job_id = done["Job"]["ID"]
    stop = api.ask("DELETE", f"/orchestrator/jobs/{job_id}", json={"reason": "late"})
    assert (stop.status_code, stop.json()) == (500, RECORDED["stop completed"]["response"]["json"])
    spec = wasm_job("exitn.wasm", job={"Name": "twice"})
    twice = api.submit(spec)
    answer = api.ask("PUT", "/orchestrator/jobs", json={"Job": spec})
    recording = RECORDED["same spec again"]["response"]["json"]
    message = f"no changes detected for new job spec. Job Name: 'twice', Job Id: '{twice}'"
    assert (answer.status_code, answer.json()) == (500, {**recording, "Message": message})


def test_warnings_are_answered_as_recorded(api: Api) -> None:
    job = wasm_job(job={"ID": "j-mine", "Name": "warned", "Meta": {"bacalhau.org/x": "y"}})
    answer = api.ask("PUT", "/orchestrator/jobs", json={"Job": job}).json()
    assert answer["Warnings"] == RECORDED["warnings"]["response"]["json"]["Warnings"]


def test_the_request_id_is_echoed_only_when_it_was_sent(api: Api) -> None:
    silent = api.ask("GET", UNKNOWN)
    assert (silent.json()["RequestID"], len(silent.headers["X-Request-Id"])) == ("", 32)
    named = api.ask("GET", UNKNOWN, headers={"X-Request-ID": "mine"})
    assert (named.json()["RequestID"], named.headers["X-Request-Id"]) == ("mine", "mine")
    assert named.headers["X-Bacalhau-Git-Version"] == "v1.9.3"


def raw(node: DevNode, request: str) -> str:
    """Bytes on the wire, and the answer."""
    host, port = node.api.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode())
        answer = b""
        while data := connection.recv(1 << 16):
            answer += data
    return answer.decode()


def test_a_body_of_unknown_length_is_refused_as_a_real_node_does(node: DevNode) -> None:
    head = (
        "PUT /api/v1/orchestrator/jobs HTTP/1.1\nHost: 127.0.0.1\nConnection: close\nContent-Type: application/json\n"
    )
    answer = raw(node, f"{head}Transfer-Encoding: chunked\n\n2\n{{}}\n0\n\n")
    assert answer.startswith("HTTP/1.1 500")
    assert '"Message":"unexpected authorization error"' in answer


def test_a_host_of_another_name_is_turned_away(node: DevNode) -> None:
    assert raw(node, "GET /api/v1/agent/alive HTTP/1.1\nHost: evil.example:80\nConnection: close\n\n").startswith(
        "HTTP/1.1 403"
    )
    assert raw(node, "GET /api/v1/agent/alive HTTP/1.1\nHost: localhost:1\nConnection: close\n\n").startswith(
        "HTTP/1.1 200"
    )


def test_a_body_that_is_too_large_is_refused(api: Api) -> None:
    answer = api.ask("PUT", "/orchestrator/jobs", data=b" " * 10_000_001, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["Message"]) == (413, "Request Entity Too Large")


@pytest.mark.parametrize(("path", "target"), [("/", "version"), ("/version", "version"), ("/livez", "alive")])
def test_old_health_checks_are_redirected(api: Api, node: DevNode, path: str, target: str) -> None:
    answer = api.session.get(node.api + path, allow_redirects=False, timeout=10)
    assert (answer.status_code, answer.headers["Location"]) == (301, f"/api/v1/agent/{target}")


# -- lists and pages --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def listed(node: DevNode) -> list[str]:
    """Five jobs in a namespace of their own, the oldest first; others are older."""
    api = Api(node)
    for _ in range(3):
        api.submit(wasm_job())
    made = [
        api.submit(wasm_job(job={"Name": f"n{i}", "Namespace": "pages", "Labels": {"even": str(i % 2 == 0).lower()}}))
        for i in range(5)
    ]
    for job_id in made:
        api.wait(job_id)
    return made


def ids(answer: Any) -> list[str]:
    return [item["ID"] for item in answer["Items"]]


def test_pages_follow_each_other_and_forget_the_namespace(api: Api, listed: list[str]) -> None:
    first = api.get("/orchestrator/jobs?namespace=pages&limit=2")
    assert (ids(first), first["NextToken"]) == (listed[:2], "Ok46Mjoy")
    token = first["NextToken"]
    assert ids(api.get(f"/orchestrator/jobs?namespace=pages&next_token={token}")) == listed[2:4]
    assert ids(api.get(f"/orchestrator/jobs?next_token={token}")) != listed[2:4]
    assert ids(api.get("/orchestrator/jobs?namespace=pages&reverse=true&limit=2")) == listed[:2:-1]


def test_labels_filter_before_the_page_is_cut(api: Api, listed: list[str]) -> None:
    even = api.get("/orchestrator/jobs?namespace=pages&labels=even%3Dtrue&limit=2")
    assert (ids(even), bool(even["NextToken"])) == (listed[0:3:2], True)
    both = api.get("/orchestrator/jobs?namespace=pages&labels=even%3Dtrue&labels=even%20notin%20(true)")
    assert both == {"NextToken": "", "Items": []}


def test_a_job_is_found_by_name_by_id_and_by_the_beginning_of_its_id(api: Api, listed: list[str]) -> None:
    job_id = listed[0]
    for name in ("n0?namespace=pages", job_id, job_id[:12]):
        assert api.get(f"/orchestrator/jobs/{name}")["Job"]["ID"] == job_id
    assert api.ask("GET", "/orchestrator/jobs/n0").status_code == 404
    ambiguous = api.ask("GET", "/orchestrator/jobs/j-")
    assert (ambiguous.status_code, ambiguous.json()["Code"]) == (500, "MultipleJobsFound")


def test_history_is_paged_as_recorded(api: Api, done: dict[str, Any]) -> None:
    path = f"/orchestrator/jobs/{done['Job']['ID']}/history"
    first = api.get(f"{path}?limit=2")
    assert first["NextToken"] == RECORDED["history paged"]["response"]["json"]["NextToken"]
    rest = api.get(f"{path}?next_token={first['NextToken']}&limit=100")
    assert [item["SeqNum"] for item in first["Items"] + rest["Items"]] == [1, 2, 3, 4, 5, 6]
    assert rest["NextToken"] == ""
    assert [item["SeqNum"] for item in api.get(f"{path}?event_type=job")["Items"]] == [1, 3, 6]
    bad = api.ask("GET", f"{path}?event_type=zzz")
    assert bad.json() == RECORDED["history events bad"]["response"]["json"]


def test_a_history_token_is_unchanged_while_nothing_is_new(api: Api) -> None:
    job_id = api.submit(wasm_job(Resources={"CPU": "64000"}, Timeouts={"QueueTimeout": 60}))
    api.wait(job_id, "Queued")
    path = f"/orchestrator/jobs/{job_id}/history"
    first = api.get(path)
    assert first["NextToken"] == Page("", False, 0, 3).token()
    again = api.get(f"{path}?next_token={first['NextToken']}")
    assert (again["NextToken"], again["Items"]) == (first["NextToken"], [])
    api.ask("DELETE", f"/orchestrator/jobs/{job_id}")
    assert api.get(f"{path}?next_token={first['NextToken']}")["NextToken"] == ""


# -- logs -------------------------------------------------------------------------------------------------------------


async def test_logs_of_a_queued_job_are_the_recorded_error(api: Api, node: DevNode) -> None:
    name = "logless"
    job_id = api.submit(wasm_job(Resources={"CPU": "64000"}, Timeouts={"QueueTimeout": 60}, job={"Name": name}))
    recording = RECORDED["queued: logs"]["frames"][0]["text"]
    wanted = recording.replace("j-b9c2d751-ca70-417e-9731-56573bc5e6ae", job_id).replace("bigq-e78cf233", name)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{node.api}/api/v1/orchestrator/jobs/{job_id}/logs") as ws,
    ):
        assert await ws.receive_str() == wanted
        assert (await ws.receive()).data == 1000
    api.ask("DELETE", f"/orchestrator/jobs/{job_id}")


async def test_logs_of_a_finished_program_stay_silent(node: DevNode, done: dict[str, Any]) -> None:
    url = f"{node.api}/api/v1/orchestrator/jobs/{done['Job']['ID']}/logs"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
        with pytest.raises(asyncio.TimeoutError):
            await ws.receive(timeout=0.2)


def test_answers_are_compact_json_with_html_escaped_except_results(api: Api) -> None:
    job_id = api.submit(wasm_job(job={"Labels": {"a": "<b>&c"}}))
    assert "\\u003cb\\u003e\\u0026c" in api.ask("GET", f"/orchestrator/jobs/{job_id}").text
    assert json.loads(api.ask("GET", f"/orchestrator/jobs/{job_id}").text)["Job"]["Labels"] == {"a": "<b>&c"}
