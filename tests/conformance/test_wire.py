"""The API as it is on the wire: keys, numbers and texts, whatever the client makes of them.

The values are those that a running v1.9.3 gave. An emulator that shared the client's mistakes would pass the other
files; it does not pass this one.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from . import programs
from .jobs import busy, changed, exiting, job, unique
from .node import NodeUnderTest
from .wire import Wire

pytestmark = pytest.mark.needs(engine="wasm", source="inline")

UNKNOWN_ID = "j-00000000-0000-4000-8000-000000000000"
UNKNOWN_JOB = f"/orchestrator/jobs/{UNKNOWN_ID}"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")

JOB_KEYS = {
    *("ID", "Name", "Namespace", "Type", "Priority", "Count", "Constraints", "Meta", "Labels", "Tasks", "State"),
    *("Version", "Revision", "CreateTime", "ModifyTime"),
}
EXECUTION_KEYS = {
    *("ID", "Namespace", "EvalID", "Name", "NodeID", "JobID", "Job", "JobVersion", "AllocatedResources"),
    *("DesiredState", "ComputeState", "PublishedResult", "RunOutput", "PreviousExecution", "NextExecution"),
    *("FollowupEvalID", "Revision", "CreateTime", "ModifyTime"),
}
NO_OUTPUT = {
    "Stdout": "",
    "StdoutTruncated": False,
    "stderr": "",
    "StderrTruncated": False,
    "ExitCode": 0,
    "ErrorMsg": "",
}

COMPLETED, FAILED, CANCELLED = 9, 10, 11
DESIRED_STOPPED = 2


@pytest.fixture(autouse=True)
def _versions_of_jobs(wire: Wire) -> None:
    if wire.get(f"/orchestrator/jobs/{wire.submit(exiting(0))['JobID']}")["Job"]["Version"] == 0:
        pytest.skip("this server keeps no versions of a job, and its objects have other keys")


# -- the agent --------------------------------------------------------------------------------------------------------


def test_agent_answers(wire: Wire) -> None:
    assert wire.get("/agent/alive") == {"Status": "OK"}
    version = wire.get("/agent/version")
    assert set(version) == {"Major", "Minor", "GitVersion", "GitCommit", "BuildDate", "GOOS", "GOARCH"}
    assert all(isinstance(value, str) for value in version.values())
    assert set(wire.get("/agent/config")) == {"config"}


def test_node_objects(wire: Wire) -> None:
    agent = wire.get("/agent/node")
    assert set(agent) == {"NodeID", "NodeType", "Labels", "SupportedProtocols", "ComputeNodeInfo", "BacalhauVersion"}
    listed = wire.get("/orchestrator/nodes")
    assert set(listed) == {"NextToken", "Nodes"}
    for state in listed["Nodes"]:
        assert set(state) == {"Info", "Membership", "Connection", "ConnectionState"}
        assert {"Status", "LastHeartbeat", "ConnectedSince", "DisconnectedSince"} <= set(state["ConnectionState"])
        assert set(state["Info"]) == set(agent)
        assert state["Info"]["Labels"]["name"] == state["Info"]["NodeID"]
        compute = state["Info"]["ComputeNodeInfo"]
        assert set(compute) == {
            *("ExecutionEngines", "Publishers", "StorageSources", "MaxCapacity", "QueueCapacity"),
            *("AvailableCapacity", "MaxJobRequirements", "RunningExecutions", "EnqueuedExecutions", "address"),
        }
        assert {"CPU", "Memory", "Disk"} <= set(compute["MaxCapacity"])
        one = wire.get(f"/orchestrator/nodes/{state['Info']['NodeID']}")
        assert one["Node"]["Info"]["NodeID"] == state["Info"]["NodeID"]


def test_every_answer_names_the_server_and_the_request(wire: Wire) -> None:
    version = wire.get("/agent/version")
    for path in (
        "/agent/alive",
        "/orchestrator/jobs?limit=1",
        "/orchestrator/nope",
        UNKNOWN_JOB,
    ):
        answer = wire.call("GET", path)
        assert answer.headers["X-Bacalhau-Git-Version"] == version["GitVersion"]
        assert answer.headers["X-Request-Id"]
        assert answer.headers["Content-Type"].startswith("application/json")
        assert wire.call("GET", path, headers={"X-Request-ID": "mine"}).headers["X-Request-Id"] == "mine"


# -- objects of a job -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_submitting_answers_with_ids(wire: Wire, method: str) -> None:
    taken = wire.submit(exiting(0), method)
    assert set(taken) == {"JobID", "EvaluationID", "Warnings"}
    assert re.fullmatch(f"j-{UUID}", taken["JobID"])
    assert re.fullmatch(UUID, taken["EvaluationID"])
    assert taken["Warnings"] is None


def test_the_job_object(wire: Wire) -> None:
    spec = exiting(0, name=unique("object"), labels={"a": "b"}, env={"FOO": "bar"}, outputs=["out"])
    spec["Meta"] = {"mine": "kept"}
    answer = wire.finish(spec)
    assert set(answer) == {"Job", "History", "Executions"}
    found = answer["Job"]
    assert set(found) == JOB_KEYS
    assert found["Name"] == spec["Name"]
    assert (found["Namespace"], found["Type"], found["Priority"], found["Count"]) == ("default", "batch", 0, 1)
    assert (found["Version"], found["Labels"], found["Constraints"]) == (1, {"a": "b"}, [])
    assert found["Meta"]["mine"] == "kept"
    assert {"bacalhau.org/orchestrator.id", "bacalhau.org/requester.id"} <= set(found["Meta"])
    assert found["State"] == {"StateType": "Completed"}
    assert 10**18 < found["CreateTime"] < found["ModifyTime"]
    (task,) = found["Tasks"]
    (given,) = spec["Tasks"]
    assert set(task) == {
        *("Name", "Engine", "Publisher", "Env", "InputSources", "ResultPaths", "Resources", "Network", "Timeouts"),
    }
    assert task["Engine"] == given["Engine"]
    assert task["InputSources"] == [{**given["InputSources"][0], "Alias": ""}]
    assert (task["Env"], task["ResultPaths"]) == ({"FOO": "bar"}, [{"Name": "out", "Path": "/out"}])
    assert task["Resources"] == {"CPU": "0.1", "Memory": "64mb"}
    assert task["Network"] == {"Type": "Default"}
    assert task["Timeouts"] == given["Timeouts"]


def test_defaults_are_filled_in(wire: Wire) -> None:
    spec = exiting(0)
    del spec["Tasks"][0]["Resources"], spec["Count"]
    (task,) = wire.get(f"/orchestrator/jobs/{wire.submit(spec)['JobID']}")["Job"]["Tasks"]
    assert set(task) == {"Name", "Engine", "Publisher", "InputSources", "Resources", "Network", "Timeouts"}
    assert task["Resources"] == {"CPU": "500m", "Memory": "512mb"}


def test_a_count_that_is_left_out_is_1_and_0_runs_nothing(wire: Wire) -> None:
    spec = exiting(0)
    del spec["Count"]
    assert wire.get(f"/orchestrator/jobs/{wire.submit(spec)['JobID']}")["Job"]["Count"] == 1
    answer = wire.finish({**spec, "Count": 0})
    assert answer["Job"]["State"] == {"StateType": "Completed"}
    assert answer["Executions"]["Items"] == []


def test_keys_are_read_in_any_case_and_unknown_ones_are_ignored(wire: Wire) -> None:
    def lowered(value: Any) -> Any:
        if isinstance(value, dict):
            return {key.lower(): lowered(item) for key, item in value.items()}
        return [lowered(item) for item in value] if isinstance(value, list) else value

    spec = lowered(changed(exiting(0), "Tasks", 0, "Publisher", to={"Type": "noop"}))
    answer = wire.call("POST", "/orchestrator/jobs", json={"job": {**spec, "taks": []}, "nosuch": 1})
    assert answer.status_code == 200, answer.text
    assert wire.until_over(answer.json()["JobID"])["Executions"]["Items"][0]["RunOutput"]["ExitCode"] == 0


def test_the_execution_object_of_a_completed_execution(wire: Wire) -> None:
    answer = wire.finish(exiting(3))
    listed = wire.get(f"/orchestrator/jobs/{answer['Job']['ID']}/executions")
    assert listed == answer["Executions"]
    assert set(listed) == {"NextToken", "Items"}
    assert listed["NextToken"] == ""
    (execution,) = listed["Items"]
    assert set(execution) == EXECUTION_KEYS
    assert re.fullmatch(f"e-{UUID}", execution["ID"])
    assert execution["JobID"] == answer["Job"]["ID"]
    assert (execution["JobVersion"], execution["Namespace"], execution["Name"]) == (1, "default", "")
    assert execution["AllocatedResources"] == {"Tasks": {}}
    assert execution["DesiredState"] == {"StateType": DESIRED_STOPPED, "Message": "execution completed"}
    assert execution["ComputeState"] == {"StateType": COMPLETED, "Message": "Running"}
    assert execution["RunOutput"] == {
        **NO_OUTPUT,
        "Stdout": "hello from wasm code=3",
        "stderr": "warn: going to exit 3\n",
        "ExitCode": 3,
    }
    assert set(execution["PublishedResult"]) == {"Type", "Params"}
    assert (execution["PreviousExecution"], execution["NextExecution"], execution["FollowupEvalID"]) == ("", "", "")
    assert answer["Job"]["CreateTime"] < execution["CreateTime"] < execution["ModifyTime"]


def test_an_execution_embeds_the_whole_job_as_it_was_when_it_began(wire: Wire) -> None:
    answer = wire.finish(exiting(0))
    embedded = answer["Executions"]["Items"][0]["Job"]
    assert set(embedded) == JOB_KEYS
    assert embedded["Tasks"] == answer["Job"]["Tasks"]
    assert embedded["State"] == {"StateType": "Pending"}


def test_the_execution_object_of_a_failed_execution(wire: Wire) -> None:
    answer = wire.finish(job(programs.BROKEN, queue_timeout=0))
    for execution in answer["Executions"]["Items"]:
        assert set(execution) == EXECUTION_KEYS
        assert execution["DesiredState"] == {"StateType": DESIRED_STOPPED, "Message": "execution failed"}
        assert execution["ComputeState"]["StateType"] == FAILED
        assert execution["PublishedResult"] == {"Type": ""}
        assert execution["RunOutput"] == NO_OUTPUT


def test_the_execution_object_of_a_stopped_execution(wire: Wire) -> None:
    job_id = wire.running(busy())
    answer = wire.call("DELETE", f"/orchestrator/jobs/{job_id}", json={"reason": "enough"})
    assert answer.status_code == 200
    assert set(answer.json()) == {"EvaluationID"}
    stopped = wire.until(job_id, lambda seen: seen["Executions"]["Items"][0]["ComputeState"]["StateType"] == CANCELLED)
    assert stopped["Job"]["State"] == {"StateType": "Stopped", "Message": "enough"}
    (execution,) = stopped["Executions"]["Items"]
    said = "Execution stop requested because job has been stopped"
    assert execution["DesiredState"] == {"StateType": DESIRED_STOPPED, "Message": said}
    assert execution["ComputeState"] == {"StateType": CANCELLED, "Message": said}
    assert execution["RunOutput"] == NO_OUTPUT


def test_history_objects(wire: Wire) -> None:
    answer = wire.finish(exiting(0))
    job_id = answer["Job"]["ID"]
    listed = wire.get(f"/orchestrator/jobs/{job_id}/history")
    assert listed == answer["History"]
    assert listed["NextToken"] == ""
    (execution,) = answer["Executions"]["Items"]
    assert [item["SeqNum"] for item in listed["Items"]] == [1, 2, 3, 4, 5, 6]
    for item in listed["Items"]:
        of_execution = item["Type"] == "ExecutionLevel"
        keys = {"SeqNum", "Type", "JobID", "JobVersion", "Event", "Time"}
        assert set(item) == (keys | {"ExecutionID"} if of_execution else keys)
        assert (item["JobID"], item["JobVersion"]) == (job_id, 1)
        assert item.get("ExecutionID", execution["ID"]) == execution["ID"]
        assert RFC_3339.fullmatch(item["Time"])
        assert RFC_3339.fullmatch(item["Event"]["Timestamp"])
        assert {"Message", "Topic", "Timestamp"} <= set(item["Event"]) <= {"Message", "Topic", "Timestamp", "Details"}
    assert [(item["Type"], item["Event"].get("Details")) for item in listed["Items"]] == [
        ("JobLevel", None),
        ("ExecutionLevel", {"NodeID": execution["NodeID"]}),
        ("JobLevel", {"NewState": "Running"}),
        ("ExecutionLevel", None),
        ("ExecutionLevel", None),
        ("JobLevel", {"NewState": "Completed"}),
    ]


def test_the_last_event_of_a_job_without_a_node_counts_them(wire: Wire, node: NodeUnderTest) -> None:
    answer = wire.finish(exiting(0, queue_timeout=0, resources={"CPU": "10000"}))
    last = answer["History"]["Items"][-1]["Event"]
    assert (last["Topic"], last["Message"]) == ("Scheduling", answer["Job"]["State"]["Message"])
    assert last["Details"] == {
        "IsError": "true",
        "NodesAvailable": str(len(node.nodes)),
        "NodesRequested": "1",
        "NodesSuitable": "0",
    }


@pytest.mark.needs(publisher="local")
def test_result_objects(wire: Wire) -> None:
    spec = changed(exiting(0), "Tasks", 0, "Publisher", to={"Type": "local"})
    answer = wire.finish(spec)
    listed = wire.get(f"/orchestrator/jobs/{answer['Job']['ID']}/results")
    assert set(listed) == {"NextToken", "Items"}
    (execution,) = answer["Executions"]["Items"]
    assert listed["Items"] == [execution["PublishedResult"]]
    assert set(listed["Items"][0]) == {"Type", "Params"}
    assert listed["Items"][0]["Type"] == "urlDownload"
    assert set(listed["Items"][0]["Params"]) == {"URL"}


def test_a_list_holds_whole_jobs(wire: Wire) -> None:
    labels = {"suite": unique("wire")}
    first = wire.finish(exiting(0, labels=labels))["Job"]
    second = wire.finish(exiting(0, labels=labels))["Job"]
    listed = wire.get("/orchestrator/jobs", labels=f"suite={labels['suite']}")
    assert listed == {"NextToken": "", "Items": [first, second]}
    assert wire.get("/orchestrator/jobs", labels=["suite=nothing", "kind"]) == {"NextToken": "", "Items": []}


def test_selectors_of_labels(wire: Wire) -> None:
    suite = unique("selectors")
    for number in ("1", "2", "3"):
        wire.submit(exiting(0, labels={"suite": suite, "number": number}))

    def numbers(*selectors: str) -> list[str]:
        found = wire.get("/orchestrator/jobs", labels=[f"suite={suite}", *selectors])
        return [item["Labels"]["number"] for item in found["Items"]]

    assert numbers() == ["1", "2", "3"]
    assert numbers("number=2") == ["2"]
    assert numbers("number!=2") == ["1", "3"]
    assert numbers("number in (1,3)") == ["1", "3"]
    assert numbers("number notin (1,3)") == ["2"]
    assert numbers("number") == ["1", "2", "3"]
    assert numbers("!number") == []
    assert numbers("number>1") == ["2", "3"]
    assert numbers("number in (1,3)", "number!=1") == ["3"]
    assert numbers("number in (1,3),number!=1") == ["3"]


def test_a_page_token_forgets_labels(wire: Wire) -> None:
    labels = {"suite": unique("forgets")}
    for _ in range(3):
        wire.submit(exiting(0, labels=labels))
    selector = f"suite={labels['suite']}"
    first = wire.get("/orchestrator/jobs", labels=selector, limit=2)
    assert len(first["Items"]) == 2
    again = wire.get("/orchestrator/jobs", labels=selector, next_token=first["NextToken"])
    assert len(again["Items"]) == 1
    assert again["NextToken"] == ""
    newest_first = wire.get("/orchestrator/jobs", limit=1, reverse="true")
    other = wire.get("/orchestrator/jobs", next_token=newest_first["NextToken"])
    assert len(other["Items"]) == 1


def test_pages_of_a_history(wire: Wire) -> None:
    job_id = wire.finish(exiting(0))["Job"]["ID"]
    seen, token = [], ""
    for _ in range(4):
        page = wire.get(f"/orchestrator/jobs/{job_id}/history", limit=2, next_token=token)
        seen.append([item["SeqNum"] for item in page["Items"]])
        token = page["NextToken"]
        if not token:
            break
    assert [number for numbers in seen for number in numbers] == [1, 2, 3, 4, 5, 6]
    assert all(len(numbers) <= 2 for numbers in seen)


# -- names ------------------------------------------------------------------------------------------------------------


def test_the_same_spec_again_is_refused_with_the_jobs_id(wire: Wire) -> None:
    spec = changed(exiting(0, name=unique("again")), "Tasks", 0, "Publisher", to={"Type": "noop"})
    job_id = wire.submit(spec)["JobID"]
    assert wire.refusal(spec) == {
        "Status": 500,
        "Message": f"no changes detected for new job spec. Job Name: '{spec['Name']}', Job Id: '{job_id}'",
        "RequestID": "",
        "Code": "",
        "Component": "Bacalhau",
        "Hint": "Use the --force flag to override this warning",
    }


def test_force_runs_the_same_spec_again(wire: Wire) -> None:
    spec = exiting(0, name=unique("forced"))
    first = wire.finish(spec)
    again = wire.submit(spec, Force=True)
    assert again["JobID"] == first["Job"]["ID"]
    second = wire.until_over(again["JobID"])
    assert second["Job"]["Version"] == 2
    assert {item["JobVersion"] for item in second["History"]["Items"]} == {2}
    assert [item["JobVersion"] for item in second["Executions"]["Items"]] == [2]
    every = wire.get(f"/orchestrator/jobs/{again['JobID']}/executions", all_job_versions="true")
    assert sorted(item["JobVersion"] for item in every["Items"]) == [1, 2]


# -- errors -----------------------------------------------------------------------------------------------------------


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
