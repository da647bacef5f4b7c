"""Answers spoiled by rule: what a client without any defence gets to see, kind by kind."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests

from airflow_provider_bacalhau.devnode import DevNode, Fault
from airflow_provider_bacalhau.devnode.faults import FaultError, FaultKind

from .requester_api import emulated, wasm_spec
from .requester_replay import Client
from .specs import ASLEEP, Api, execution, inline, messages, wasm_job

JOBS = "/orchestrator/jobs"
SUBMIT: dict[str, Any] = {"method": "PUT", "path": "*/orchestrator/jobs"}


@pytest.fixture(scope="module")
def faulty() -> Iterator[DevNode]:
    with DevNode(queue_backoff=0.05) as node:
        yield node


@pytest.fixture
def node(faulty: DevNode) -> Iterator[DevNode]:
    yield faulty
    faulty.faults.clear()


def named(name: str) -> dict[str, Any]:
    return wasm_job("exitn.wasm", "0", job={"Name": name})


def exists(api: Api, name: str) -> bool:
    return api.ask("GET", f"{JOBS}/{name}").status_code == 200


# -- connections and time ---------------------------------------------------------------------------------------------


def test_a_refused_submission_was_not_looked_at(node: DevNode, api: Api) -> None:
    rule = node.faults.add(Fault("refuse", **SUBMIT))
    with pytest.raises(requests.ConnectionError):
        api.submit(named("refused"))
    assert (rule.matched, rule.hits) == (1, 1)
    assert not exists(api, "refused")


@pytest.mark.parametrize("kind", ["cut_before_answer", "cut_in_answer"])
def test_a_submission_that_is_cut_off_was_accepted(node: DevNode, api: Api, kind: str) -> None:
    node.faults.add(Fault(kind, **SUBMIT))
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        api.submit(named(kind.replace("_", "-")))
    assert exists(api, kind.replace("_", "-"))


def test_half_of_an_answer_comes_before_the_cut(node: DevNode, api: Api) -> None:
    whole = api.ask("GET", "/agent/node").content
    node.faults.add(Fault("cut_in_answer"))
    with api.session.get(f"{node.api}/api/v1/agent/node", stream=True, timeout=10) as answer:
        assert int(answer.headers["Content-Length"]) == len(whole)
        assert answer.raw.read1(len(whole)) == whole[: len(whole) // 2]


def test_a_file_of_the_gateway_is_cut_in_half_as_well(node: DevNode, api: Api) -> None:
    cid = api.cid(
        wasm_job("wc.wasm", "/inputs", "/outputs/n", inputs=[inline(b"a b", "/inputs/a")], outputs=["outputs"])
    )
    url = f"{node.gateway}/ipfs/{cid}/outputs/n"
    whole = requests.get(url, timeout=10).content
    assert len(whole) > 1
    node.faults.add(Fault("cut_in_answer", path="/ipfs/*"))
    with requests.get(url, stream=True, timeout=10) as answer:
        assert answer.raw.read1(100) == whole[: len(whole) // 2]
        assert int(answer.headers["Content-Length"]) == len(whole)


@pytest.mark.parametrize(("kind", "is_there"), [("delay", False), ("delay_answer", True)])
def test_a_delay_comes_before_the_work_or_before_the_answer(node: DevNode, api: Api, kind: str, is_there: bool) -> None:
    name = kind.replace("_", "-")
    node.faults.add(Fault(kind, seconds=60, **SUBMIT))
    with pytest.raises(requests.ReadTimeout):
        requests.put(f"{node.api}/api/v1{JOBS}", json={"Job": named(name)}, timeout=0.3)
    assert exists(api, name) is is_there


# -- other answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status", "content_type", "text"),
    [
        ("too_many_requests", 429, "application/json", "rate limit exceeded"),
        ("server_timeout", 503, "text/plain; charset=utf-8", "Server Timeout!"),
        ("bad_gateway", 502, "text/html; charset=utf-8", "<h"),
        ("login_page", 200, "text/html; charset=utf-8", "Sign in"),
        ("garbage", 200, "application/json", "Job"),
        ("redirect", 302, "application/octet-stream", ""),
    ],
)
@pytest.mark.parametrize("after_work", [False, True])
def test_another_answer_comes_with_or_without_the_work(
    node: DevNode, api: Api, kind: str, status: int, content_type: str, text: str, after_work: bool
) -> None:
    name = f"{kind}-{after_work}".lower().replace("_", "-")
    node.faults.add(Fault(kind, after_work=after_work, **SUBMIT))
    answer = api.ask("PUT", JOBS, json={"Job": named(name)}, allow_redirects=False)
    assert (answer.status_code, answer.headers.get("Content-Type", "application/octet-stream")) == (
        status,
        content_type,
    )
    assert text in answer.text
    assert exists(api, name) is after_work


def test_429_is_as_recorded_and_has_a_retry_after_only_when_it_is_wanted(node: DevNode, api: Api) -> None:
    node.faults.add(Fault("too_many_requests", times=1))
    node.faults.add(Fault("too_many_requests", retry_after=7))
    first, second = (api.ask("GET", JOBS, headers={"X-Request-ID": "me"}) for _ in range(2))
    assert first.json() == {
        "Status": 429,
        "Message": "rate limit exceeded",
        "RequestID": "me",
        "Code": "InternalError",
        "Component": "APIServer",
    }
    assert (first.headers.get("Retry-After"), second.headers.get("Retry-After")) == (None, "7")


def test_garbage_is_no_json(node: DevNode, api: Api) -> None:
    node.faults.add(Fault("garbage"))
    with pytest.raises(ValueError, match=r"codec|Expecting|Invalid"):
        json.loads(api.ask("GET", JOBS).content)


def test_huge_json_is_well_formed_and_of_the_size_that_was_asked_for(node: DevNode, api: Api) -> None:
    node.faults.add(Fault("huge", size=300_000))
    answer = api.ask("GET", JOBS)
    assert len(answer.content) == 300_000
    assert list(answer.json()) == ["Items"]


def test_who_hangs_up_on_huge_json_leaves_a_node_that_serves(
    node: DevNode, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    node.faults.add(Fault("huge", times=1, size=10**12))
    with api.session.get(f"{node.api}/api/v1{JOBS}", stream=True, timeout=10) as answer:
        assert len(answer.raw.read(1000)) == 1000
    assert api.ask("GET", "/agent/alive").status_code == 200
    # The node is shared: jobs of earlier tests may end meanwhile, and say so as INFO.
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_redirection_leads_where_the_rule_says(node: DevNode, api: Api) -> None:
    node.faults.add(Fault("redirect", location="http://127.0.0.1:1/trap"))
    answer = api.ask("GET", JOBS, allow_redirects=False)
    assert answer.headers["Location"] == "http://127.0.0.1:1/trap"


# -- answers that are almost right ------------------------------------------------------------------------------------


def test_a_wrong_type_leaves_the_body_as_it_is(node: DevNode, api: Api) -> None:
    right = api.ask("GET", "/agent/alive")
    node.faults.add(Fault("wrong_type"))
    wrong = api.ask("GET", "/agent/alive")
    assert (wrong.content, wrong.headers["Content-Type"]) == (right.content, "application/octet-stream")


def test_states_are_replaced_in_jobs_and_lists_and_not_in_executions(node: DevNode, api: Api) -> None:
    job_id = api.run(named("state"))["Job"]["ID"]
    other = api.run(named("other-state"))["Job"]["ID"]
    node.faults.add(Fault("unknown_state", state="Dreaming", jobs=job_id))
    seen = api.look(job_id)
    assert seen["Job"]["State"] == {"StateType": "Dreaming"}
    assert execution(seen)["ComputeState"]["StateType"] == 9
    listed = {job["ID"]: job["State"]["StateType"] for job in api.get(JOBS)["Items"]}
    assert (listed[job_id], listed[other]) == ("Dreaming", "Completed")


def test_fields_are_missing_wherever_they_are(node: DevNode, api: Api) -> None:
    job_id = api.run(named("stripped"))["Job"]["ID"]
    node.faults.add(Fault("missing_fields", fields=("State", "JobID")))
    seen = api.look(job_id)
    assert not {"State", "JobID"} & {*seen["Job"], *execution(seen), *seen["History"]["Items"][0]}
    assert seen["Job"]["ID"] == job_id


@pytest.mark.parametrize("version", ["v1.9.3", "v1.7.0", "v1.4.0", "v1.3.2"])
def test_a_forgotten_job_is_unknown_in_the_words_of_each_version(version: str) -> None:
    with DevNode(emulate=version) as node:
        api = Api(node)
        job_id, other = api.submit(wasm_job()), api.submit(wasm_job())
        unknown = api.ask("GET", f"{JOBS}/{job_id[:-12]}000000000000")
        rule = node.faults.add(Fault("forgotten", jobs=job_id))
        forgotten = api.ask("GET", f"{JOBS}/{job_id}")
        assert forgotten.status_code == unknown.status_code >= 400
        ours = forgotten.text.replace(job_id, "JOB").replace(forgotten.headers.get("X-Request-Id", "?"), "")
        assert ours == unknown.text.replace(f"{job_id[:-12]}000000000000", "JOB")
        listed = api.get(JOBS)
        assert [job["ID"] for job in listed.get("Items", listed.get("Jobs"))] == [other]
        assert api.ask("GET", f"{JOBS}/{other}").status_code == 200
        node.faults.remove(rule)
        assert api.ask("GET", f"{JOBS}/{job_id}").status_code == 200


@pytest.mark.parametrize("version", ["v0.3.29", "v1.0.3", "v1.1.6", "v1.3.2"])
def test_the_requester_api_forgets_jobs_too(version: str) -> None:
    with emulated(version, Client()) as requester:
        job_id = requester.start(wasm_spec())
        stranger = f"{job_id[:-12]}000000000000"
        unknown = requester.about("states", stranger)
        rule = requester.node.faults.add(Fault("forgotten"))
        forgotten = requester.about("states", job_id)
        assert (forgotten.status_code, forgotten.text) == (500, unknown.text.replace(stranger, job_id))
        assert requester.listed(client_id="", return_all=True) == []
        requester.node.faults.remove(rule)
        assert requester.about("states", job_id).status_code == 200


@pytest.mark.parametrize("version", ["v0.3.29", "v1.3.2"])
def test_states_and_times_of_the_requester_api_are_spoilt_too(version: str) -> None:
    with emulated(version, Client()) as requester:
        job_id = requester.start(wasm_spec())
        right = requester.wait(job_id)
        requester.node.faults.add(Fault("unknown_state", state="Dreaming"))
        requester.node.faults.add(Fault("clock_skew", seconds=86_400 * 400))
        wrong = requester.about("states", job_id).json()["state"]
        assert wrong["State"] == "Dreaming"
        assert wrong["Executions"][0]["State"] == right["Executions"][0]["State"]
        assert int(wrong["CreateTime"][:4]) > int(right["CreateTime"][:4])


def test_a_skewed_clock_shows_in_records_events_and_the_date(node: DevNode, api: Api) -> None:
    right = api.run(named("late"))
    job_id = right["Job"]["ID"]
    node.faults.add(Fault("clock_skew", seconds=-3600))
    answer = api.ask("GET", f"{JOBS}/{job_id}?include=executions,history")
    wrong = answer.json()
    hour = 3600 * 10**9
    assert wrong["Job"]["CreateTime"] == right["Job"]["CreateTime"] - hour
    assert execution(wrong)["ModifyTime"] == execution(right)["ModifyTime"] - hour
    times = [seen["History"]["Items"][0]["Time"] for seen in (right, wrong)]
    assert times[0][13:] == times[1][13:], "minutes and fractions stay"
    assert times[0] > times[1]
    off = time.time() - parsedate_to_datetime(answer.headers["Date"]).timestamp()
    assert off == pytest.approx(3600, abs=30)
    assert wrong["Job"]["Tasks"] == right["Job"]["Tasks"]


# -- restarts ---------------------------------------------------------------------------------------------------------


def is_up(node: DevNode) -> bool:
    try:
        return control(node, "GET", "faults").status_code == 200
    except requests.ConnectionError:
        return False


def back(node: DevNode) -> None:
    """Wait until the node serves again."""
    deadline = time.monotonic() + 10
    while not is_up(node):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_after_a_restart_a_program_starts_again_and_the_port_is_the_same(node: DevNode, api: Api) -> None:
    job_id = api.submit(wasm_job(ASLEEP, Timeouts={"ExecutionTimeout": 60}))
    before = api.wait(job_id, "Running")
    address = node.api
    node.restart()
    assert node.api == address
    after = api.wait(job_id, "Running")
    while len(after["Executions"]["Items"]) < 2:
        after = api.look(job_id)
    first, second = after["Executions"]["Items"]
    assert first["ID"] == execution(before)["ID"] != second["ID"]
    assert first["ComputeState"] == {"StateType": 10, "Message": "Failing due to node restart"}
    assert "Failing due to node restart" in messages(after)
    api.ask("DELETE", f"{JOBS}/{job_id}")


def test_a_request_that_restarts_the_node_is_carried_out_and_not_answered(node: DevNode, api: Api) -> None:
    rule = node.faults.add(Fault("restart", times=1, **SUBMIT))
    with pytest.raises(requests.ConnectionError):
        api.submit(named("restarting"))
    back(node)
    assert api.wait("restarting")["Job"]["State"]["StateType"] == "Completed"
    assert rule.hits == 1, "rules outlast a restart"


def test_while_a_node_is_away_connections_are_refused_and_others_break(node: DevNode) -> None:
    node.faults.add(Fault("delay", path="*/agent/node", seconds=30))
    broken: list[BaseException] = []

    def ask() -> None:
        try:
            requests.get(f"{node.api}/api/v1/agent/node", timeout=20)
        except requests.ConnectionError as error:
            broken.append(error)

    waiting = threading.Thread(target=ask)
    waiting.start()
    while not node.faults.rules[0].hits:
        time.sleep(0.005)
    restarting = threading.Thread(target=node.restart, kwargs={"away": 0.5})
    restarting.start()
    waiting.join(5)
    assert len(broken) == 1
    with pytest.raises(requests.ConnectionError, match="refused"):
        requests.get(f"{node.api}/api/v1/agent/alive", timeout=5)
    restarting.join(5)
    assert requests.get(f"{node.api}/api/v1/agent/alive", timeout=5).status_code == 200


def test_a_node_can_lose_its_records_but_not_what_was_published(node: DevNode, api: Api) -> None:
    seen = api.run(named("lost"))
    cid = execution(seen)["PublishedResult"]["Params"]["CID"]
    node.restart(forget=True)
    assert api.ask("GET", f"{JOBS}/{seen['Job']['ID']}").status_code == 404
    assert api.get(JOBS)["Items"] == []
    assert requests.get(f"{node.gateway}/ipfs/{cid}/exitCode", timeout=10).text == "0"


def test_a_node_can_be_closed_while_it_is_away() -> None:
    node = DevNode().start()
    restarting = threading.Thread(target=node.restart, kwargs={"away": 60})
    restarting.start()
    while is_up(node):
        time.sleep(0.005)
    node.close()
    restarting.join(5)
    assert not restarting.is_alive()
    with pytest.raises(RuntimeError, match="does not run"):
        node.restart()


# -- rules ------------------------------------------------------------------------------------------------------------


def test_a_rule_lets_some_through_spoils_some_and_counts_all(node: DevNode, api: Api) -> None:
    rule = node.faults.add(Fault("bad_gateway", method="get", path="*/agent/alive", after=1, times=2))
    seen = [api.ask("GET", "/agent/alive").status_code for _ in range(5)]
    assert seen == [200, 502, 502, 200, 200]
    assert (rule.matched, rule.hits) == (5, 2)
    assert api.ask("GET", "/agent/version").status_code == 200
    assert rule.matched == 5


def test_several_rules_apply_from_the_outermost_in(node: DevNode, api: Api) -> None:
    slow = node.faults.add(Fault("delay", seconds=0.05))
    skewed = node.faults.add(Fault("clock_skew", seconds=60))
    full = node.faults.add(Fault("too_many_requests"))
    began = time.monotonic()
    assert api.ask("GET", "/agent/alive").status_code == 429
    assert time.monotonic() - began > 0.05
    assert (slow.hits, skewed.hits, full.hits) == (1, 1, 1)


@pytest.fixture(scope="module")
def nodes() -> Iterator[dict[str, DevNode]]:
    with contextlib.ExitStack() as stack:
        yield {version: stack.enter_context(DevNode(emulate=version)) for version in ("v0.3.29", "v1.1.6", "v1.4.0")}


@pytest.mark.parametrize("kind", list(FaultKind))
@pytest.mark.parametrize("version", ["v0.3.29", "v1.1.6", "v1.4.0"])
def test_every_kind_passes_on_every_generation(version: str, kind: FaultKind, nodes: dict[str, DevNode]) -> None:
    node = nodes[version]

    def ask() -> requests.Response:
        if version == "v1.4.0":
            return requests.get(f"{node.api}/api/v1{JOBS}", timeout=10, allow_redirects=False)
        question = {"client_id": "", "return_all": True}
        return requests.post(f"{node.api}/requester/list", json=question, timeout=10, allow_redirects=False)

    rule = node.faults.add(fault_of(kind))
    with contextlib.suppress(requests.RequestException):
        ask()
    node.faults.clear()
    assert rule.hits == 1
    back(node)
    assert ask().status_code == 200


def fault_of(kind: FaultKind) -> Fault:
    needed: dict[FaultKind, dict[str, Any]] = {
        FaultKind.DELAY: {"seconds": 0.01},
        FaultKind.DELAY_ANSWER: {"seconds": 0.01},
        FaultKind.CLOCK_SKEW: {"seconds": 60},
        FaultKind.MISSING_FIELDS: {"fields": ["State"]},
        FaultKind.HUGE: {"size": 1000},
    }
    return Fault(kind, **needed.get(kind, {}))


@pytest.mark.parametrize("kind", list(FaultKind))
def test_a_fault_goes_through_json_unchanged(kind: FaultKind) -> None:
    fault = fault_of(kind)
    assert Fault.from_json(json.loads(json.dumps(fault.as_json()))) == fault


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({}, "kind"),
        ({"kind": "nonsense"}, "kind"),
        ({"kind": "refuse", "colour": 1}, "colour"),
        ({"kind": "refuse", "seconds": 1}, "seconds"),
        ({"kind": "refuse", "method": 3}, "method"),
        ({"kind": "refuse", "path": "jobs"}, "path"),
        ({"kind": "refuse", "path": ""}, "path"),
        ({"kind": "refuse", "times": 0}, "times"),
        ({"kind": "refuse", "times": True}, "times"),
        ({"kind": "refuse", "after": -1}, "after"),
        ({"kind": "refuse", "after": None}, "after"),
        ({"kind": "delay"}, "seconds"),
        ({"kind": "delay", "seconds": "1"}, "seconds"),
        ({"kind": "delay", "seconds": float("nan")}, "seconds"),
        ({"kind": "restart", "seconds": -1}, "seconds"),
        ({"kind": "clock_skew"}, "seconds"),
        ({"kind": "clock_skew", "seconds": 1e300}, "seconds"),
        ({"kind": "missing_fields"}, "fields"),
        ({"kind": "missing_fields", "fields": "State"}, "fields"),
        ({"kind": "garbage", "after_work": 1}, "after_work"),
        ({"kind": "too_many_requests", "retry_after": -1}, "retry_after"),
        ({"kind": "huge", "size": 1}, "size"),
        ({"kind": "redirect", "location": "http://a\r\nb"}, "location"),
        ([], "fault"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_by_its_field(wrong: Any, field: str) -> None:
    with pytest.raises(FaultError, match=rf"^{field} ") as refused:
        Fault.from_json(wrong)
    assert refused.value.field == field


# -- over HTTP --------------------------------------------------------------------------------------------------------


def control(node: DevNode, method: str, path: str, *, token: str | None = None, **options: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {node.token if token is None else token}", **options.pop("headers", {})}
    return requests.request(method, f"{node.api}/devnode/{path}", headers=headers, timeout=10, **options)


@pytest.mark.parametrize("version", ["v1.9.3", "v1.1.6", "v0.3.29"])
def test_rules_are_added_listed_and_removed_over_http(version: str, nodes: dict[str, DevNode], faulty: DevNode) -> None:
    node = nodes.get(version, faulty)
    added = control(node, "POST", "faults", json={"kind": "bad_gateway", "path": "*/agent/*", "times": 3})
    assert added.status_code == 201
    requests.get(f"{node.api}/api/v1/agent/alive", timeout=10)
    (rule,) = control(node, "GET", "faults").json()["rules"]
    assert rule == {**added.json(), "matched": 1, "hits": 1}
    assert control(node, "DELETE", "faults/99").status_code == 404
    assert control(node, "DELETE", f"faults/{rule['id']}").status_code == 204
    assert control(node, "POST", "faults", json={"kind": "refuse", "path": "/nowhere"}).status_code == 201
    assert control(node, "DELETE", "faults").status_code == 204
    assert node.faults.rules == ()


def test_rules_do_not_spoil_the_way_to_them(node: DevNode) -> None:
    rule = node.faults.add(Fault("refuse"))
    assert control(node, "GET", "faults").status_code == 200
    assert rule.matched == 0


def test_who_has_no_token_changes_nothing(node: DevNode) -> None:
    for method, path in (("GET", "faults"), ("POST", "faults"), ("DELETE", "faults"), ("POST", "restart")):
        for token in ("", "wrong", node.token + "x"):
            assert control(node, method, path, token=token, json={"kind": "refuse"}).status_code == 401
    assert requests.get(f"{node.api}/devnode/faults", timeout=10).status_code == 401
    assert control(node, "GET", "faults", headers={"Host": "evil.example"}).status_code == 403
    assert node.faults.rules == ()


def test_tokens_differ_from_node_to_node(nodes: dict[str, DevNode]) -> None:
    assert len({node.token for node in nodes.values()}) == len(nodes)
    assert all(len(node.token) >= 32 for node in nodes.values())


def test_a_bad_rule_is_400_and_names_the_field(node: DevNode) -> None:
    refused = control(node, "POST", "faults", json={"kind": "refuse", "times": "often"})
    assert refused.status_code == 400
    assert refused.json() == {"error": "times is a whole number, 1 or more, not 'often'", "field": "times"}
    assert control(node, "POST", "faults", data=b"{").status_code == 400
    wrongs: list[Any] = [{"away": -1}, {"away": True}, {"forget": 1}, {"now": True}, []]
    for wrong in wrongs:
        assert control(node, "POST", "restart", json=wrong).status_code == 400


def test_a_node_restarts_over_http(node: DevNode, api: Api) -> None:
    job_id = api.submit(named("http"))
    assert control(node, "POST", "restart").json() == {"restarting": True}
    back(node)
    assert exists(api, job_id)
    assert control(node, "POST", "restart", json={"forget": True, "away": 0.05}).status_code == 202
    back(node)
    assert not exists(api, job_id)
