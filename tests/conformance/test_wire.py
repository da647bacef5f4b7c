"""The API as it is on the wire: keys, numbers and texts, whatever the client makes of them.

The values are those that a running v1.9.3 gave. An emulator that shared the client's mistakes would pass the other
files; it does not pass this one.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from . import programs
from .jobs import UNKNOWN_ID, busy, changed, exiting, job, unique
from .node import NodeUnderTest
from .wire import UUID, Wire

pytestmark = [pytest.mark.needs(engine="wasm", source="inline"), pytest.mark.usefixtures("versions_of_jobs")]

UNKNOWN_JOB = f"/orchestrator/jobs/{UNKNOWN_ID}"
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
