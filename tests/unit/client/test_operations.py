"""The composed operations, step by step: recorded and made-up answers in, requests out."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from typing import Any

import pytest

from airflow_provider_bacalhau.client.effects import (
    Effect,
    Failure,
    Response,
    Sleep,
    TransportError,
)
from airflow_provider_bacalhau.client.errors import (
    BacalhauError,
    ConfigurationError,
    Conflict,
    NotFound,
    ResultUnavailable,
    ServerUnavailable,
    UnexpectedAnswer,
    Unreachable,
    WaitTimeout,
)
from airflow_provider_bacalhau.client.facts import Job
from airflow_provider_bacalhau.client.results import ResultReference
from airflow_provider_bacalhau.client.retry import with_retry
from airflow_provider_bacalhau.client.spec.inputs import IpfsPathInput, JobInput, ResultInput
from airflow_provider_bacalhau.client.states import JobState
from airflow_provider_bacalhau.client.waiting import MOST_FAILED_POLLS
from tests.support.drive import Script, ok, refusal, version
from tests.support.network import CID, FOLDER, GATEWAY, IPFS, LOCAL, LOST, RAN, SPEC, job, operations

# -- detection --------------------------------------------------------------------------------------------------------


def test_the_version_is_asked_once_and_kept() -> None:
    network = operations()
    script = Script.of(version("v1.7.0"), ok({"Items": []}), ok({"Items": []}))

    async def two_lists() -> None:
        for _ in range(2):
            await (await network.dialect()).list()

    script.run(two_lists())
    assert [line.partition("?")[0] for line in script.lines] == [
        "GET /api/v1/agent/version",
        "GET /api/v1/orchestrator/jobs",
        "GET /api/v1/orchestrator/jobs",
    ]
    assert script.run(network.version()).text == "v1.7.0"


def test_a_version_that_could_not_be_had_is_asked_for_again() -> None:
    network = operations()
    with pytest.raises(Unreachable):
        Script.of(LOST).run(network.version())
    assert Script.of(version()).run(network.version()).text == "v1.9.3"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (ok({}), UnexpectedAnswer),
        (ok({"GitVersion": None}), UnexpectedAnswer),
        (Response(200, {}, b"<html>Welcome</html>"), UnexpectedAnswer),
    ],
)
def test_what_answers_has_to_be_bacalhau(answer: Response, kind: type[BacalhauError]) -> None:
    with pytest.raises(kind):
        Script.of(answer).run(operations().version())


def test_greeting_asks_what_needs_credentials() -> None:
    script = Script.of(
        version(),
        ok({"Items": []}),
        ok(
            {
                "Nodes": [
                    {"Info": {"NodeID": "n", "NodeType": "Compute", "ComputeNodeInfo": {"ExecutionEngines": ["wasm"]}}}
                ]
            }
        ),
    )
    greeting = script.run(operations().greet())
    assert (greeting.version, len(greeting.nodes), greeting.engines) == ("v1.9.3", 1, ("wasm",))


# -- submitting once --------------------------------------------------------------------------------------------------


def test_a_job_that_an_earlier_send_made_is_adopted() -> None:
    said = "no changes detected for new job spec. Job Name: 'n-1', Job Id: 'j-7'"
    script = Script.of(version(), LOST, refusal(500, {"Message": said, "Component": "Bacalhau"}))
    submission = script.run(with_retry(operations().submit_once(SPEC)))
    assert (submission.job_id, submission.adopted) == ("j-7", True)


def test_a_job_that_is_being_made_this_moment_is_looked_up_by_name() -> None:
    script = Script.of(
        version(), refusal(409, {"Message": "in use", "Code": "ResourceInUse"}), ok({"Job": job(ID="j-8")})
    )
    submission = script.run(with_retry(operations().submit_once(SPEC)))
    assert (submission.job_id, submission.adopted) == ("j-8", True)
    assert script.lines[-1] == "GET /api/v1/orchestrator/jobs/n-1?namespace=default"


def test_a_conflict_without_unique_names_is_the_callers() -> None:
    script = Script.of(version("v1.7.0"), refusal(409, {"Message": "in use"}))
    with pytest.raises(Conflict):
        script.run(with_retry(operations().submit_once(SPEC)))


# -- waiting ----------------------------------------------------------------------------------------------------------


def over(state: str) -> Response:
    return ok({"Job": job(state)})


def test_changes_of_state_are_told_once_each_and_states_may_go_back() -> None:
    told: list[JobState] = []

    def tell(one: Job) -> None:
        told.append(one.state)

    states = ["Pending", "Running", "Running", "Queued", "Queued", "Running", "Completed"]
    script = Script.of(version(), *map(over, states))
    done = script.run(with_retry(operations().wait("j-1", on_change=tell)))
    assert done.state is JobState.COMPLETED
    assert [state.value for state in told] == ["Pending", "Running", "Queued", "Running", "Completed"]


def test_an_unknown_state_is_waited_on() -> None:
    script = Script.of(version(), over("Dreaming"), over("Completed"))
    assert script.run(operations().wait("j-1")).state is JobState.COMPLETED


def test_a_server_that_restarts_is_waited_for() -> None:
    failed: list[Any] = [LOST, refusal(503), refusal(500, {"Message": "Internal server error"})] * 3
    script = Script.of(version(), over("Running"), *failed, over("Completed"))
    assert script.run(operations().wait("j-1")).state is JobState.COMPLETED


@pytest.mark.parametrize(("outcome", "kind"), [(LOST, Unreachable), (refusal(503), ServerUnavailable)])
def test_ten_looks_in_a_row_that_fail_end_the_wait(
    outcome: Response | TransportError, kind: type[BacalhauError]
) -> None:
    script = Script.of(version(), over("Running"), *[outcome] * MOST_FAILED_POLLS)
    with pytest.raises(kind):
        script.run(operations().wait("j-1"))
    assert script.answers == []


def test_a_job_that_is_gone_ends_the_wait_at_once() -> None:
    gone = refusal(404, {"Status": 404, "Message": "job not found: j-1", "Code": "NotFound", "Component": "JobStore"})
    with pytest.raises(NotFound):
        Script.of(version(), gone).run(operations().wait("j-1"))


def test_the_deadline_ends_the_wait_and_leaves_the_job_alone() -> None:
    now = [1000.0]

    class Passing(Script):
        def perform(self, effect: Effect) -> Any:
            now[0] += effect.seconds if isinstance(effect, Sleep) else 0.0
            return super().perform(effect)

    script = Passing([version(), *[over("Running")] * 50])
    with pytest.raises(WaitTimeout, match=r"Job j-1 was not over in time: it is Running after 20 s of waiting\."):
        script.run(operations(clock=lambda: now[0]).wait("j-1", poll_interval=5, deadline=1020.0))
    assert {request.method for request in script.requests} == {"GET"}
    assert now[0] == pytest.approx(1020.0)
    assert sum(script.sleeps) == pytest.approx(20.0)


@pytest.mark.parametrize(("deadline", "told"), [(999.0, False), (9e9, True)])
def test_that_it_tries_on_is_said_only_if_it_does(
    caplog: pytest.LogCaptureFixture, deadline: float, told: bool
) -> None:
    script = Script.of(version(), LOST, over("Completed"))
    with contextlib.suppress(WaitTimeout):
        script.run(operations(clock=lambda: 1000.0).wait("j-1", deadline=deadline))
    assert ("trying on" in caplog.text) is told


def test_a_caller_who_leaves_gets_the_job_as_last_seen() -> None:
    asked = itertools.count()
    script = Script.of(version(), over("Running"))
    last = script.run(operations().wait("j-1", poll_interval=60, is_cancelled=lambda: next(asked) >= 1))
    assert last.state is JobState.RUNNING
    assert all(pause <= 0.5 for pause in script.sleeps)


# -- results and inputs -----------------------------------------------------------------------------------------------


def test_the_text_of_an_ipfs_result_comes_through_the_gateway() -> None:
    script = Script.of(version(), ok({"Items": [IPFS]}), ok({"Items": [RAN]}), Response(200, {}, "größer\n".encode()))
    (one,) = script.run(operations().result_texts("j-1", "/outputs/a b.txt"))
    assert (one.text, one.is_partial) == ("größer\n", False)
    assert script.lines[-1] == f"GET {GATEWAY}/ipfs/{CID}/outputs/a%20b.txt"


def test_without_a_gateway_only_the_records_streams_can_be_read() -> None:
    answers = (version(), ok({"Items": [LOCAL]}), ok({"Items": [RAN]}), ok({"Items": [RAN]}))
    (one,) = Script.of(*answers).run(operations(gateway="").result_texts("j-1", "stdout"))
    assert (one.text, one.is_partial) == ("said", True)
    with pytest.raises(ResultUnavailable, match="cannot be read from here"):
        Script.of(*answers).run(operations(gateway="").result_texts("j-1", "outputs/x"))


def test_a_file_that_is_no_text_is_said_to_be_none() -> None:
    script = Script.of(version(), ok({"Items": [IPFS]}), ok({"Items": [RAN]}), Response(200, {}, b"\xff\xfe"))
    with pytest.raises(ResultUnavailable, match="is not UTF-8 text"):
        script.run(operations().result_texts("j-1", "stdout"))


def test_a_file_that_is_too_large_is_said_to_be_so() -> None:
    too_large = TransportError(Failure.TOO_LARGE, sent=True, detail="more than 10 bytes")
    script = Script.of(version(), ok({"Items": [IPFS]}), ok({"Items": [RAN]}), too_large)
    with pytest.raises(ResultUnavailable, match="larger than the 10 bytes that can be handed on as text"):
        script.run(operations().result_texts("j-1", "stdout", max_bytes=10))


def test_a_folder_is_no_text_but_has_a_cid() -> None:
    moved = refusal(301, location=f"/ipfs/{CID}/outputs/")
    script = Script.of(version(), ok({"Items": [IPFS]}), ok({"Items": [RAN]}), moved)
    with pytest.raises(ResultUnavailable, match=f"{CID}/outputs is a folder"):
        script.run(operations().result_texts("j-1", "outputs"))
    script = Script.of(moved, Response(200, {"x-ipfs-roots": f"{CID},{FOLDER}"}))
    (one,) = script.run(operations().resolve_inputs([IpfsPathInput(CID, "outputs", "/in", "inputs")]))
    assert one.source == {"Type": "ipfs", "Params": {"CID": FOLDER}}
    assert script.lines == [f"HEAD {GATEWAY}/ipfs/{CID}/outputs", f"HEAD {GATEWAY}/ipfs/{CID}/outputs/"]


@pytest.mark.parametrize(
    "location",
    [
        "http://other.example/x",
        "//other.example/x",
        f"https{GATEWAY[4:]}/x",
        "http://gateway.example:81/x",
        "http://[::1",
        "http://gateway.example:8080@evil/",
    ],
)
def test_a_gateway_that_points_elsewhere_is_not_followed(location: str) -> None:
    script = Script.of(refusal(301, location=location))
    with pytest.raises(ResultUnavailable, match="redirects to another host, which is not followed"):
        script.run(operations().resolve_inputs([IpfsPathInput(CID, "x", None, "inputs")]))
    assert len(script.requests) == 1


def test_a_gateway_is_followed_once() -> None:
    script = Script.of(refusal(301, location="/a"), refusal(301, location="/b"))
    with pytest.raises(ResultUnavailable, match=r"has nothing at .*: HTTP 301"):
        script.run(operations().resolve_inputs([IpfsPathInput(CID, "x", None, "inputs")]))


def test_a_redirection_cannot_break_the_request_line() -> None:
    script = Script.of(refusal(301, location="/a b\tc ü%20"), Response(200, {"x-ipfs-roots": CID}))
    script.run(operations().resolve_inputs([IpfsPathInput(CID, "x", None, "inputs")]))
    assert script.requests[1].target.isascii()
    assert " " not in script.requests[1].target
    assert script.requests[1].target.endswith("%20")


@pytest.mark.parametrize("roots", ["", "not-a-cid", f"{CID},", f"{CID},../x"])
def test_a_gateway_that_does_not_say_the_cid_is_not_believed(roots: str) -> None:
    script = Script.of(Response(200, {"x-ipfs-roots": roots}))
    with pytest.raises(ResultUnavailable, match="does not say which CID"):
        script.run(operations().resolve_inputs([IpfsPathInput(CID, "x", None, "inputs")]))


def test_a_server_cannot_point_the_gateway_elsewhere_by_its_cids() -> None:
    hostile = {"Type": "ipfs", "Params": {"CID": "../api/v0/shutdown?x#"}}
    script = Script.of(version(), ok({"Items": [hostile]}), ok({"Items": [RAN]}), Response(200, {}, b"x"))
    script.run(operations().result_texts("j-1", "stdout"))
    assert script.lines[-1] == f"GET {GATEWAY}/ipfs/..%2Fapi%2Fv0%2Fshutdown%3Fx%23/stdout"


def test_a_path_without_a_gateway_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="Set ipfs_gateway on the connection"):
        Script.of().run(operations(gateway="").resolve_inputs([IpfsPathInput(CID, "x", None, "inputs")]))


def test_a_job_as_an_input_becomes_all_its_results() -> None:
    script = Script.of(
        version(),
        ok({"Job": job("Completed"), "Executions": {"Items": [RAN]}}),
        ok({"Items": [IPFS, {"Type": "ipfs", "Params": {"CID": FOLDER}}]}),
        ok({"Items": [RAN]}),
    )
    ready = script.run(operations().resolve_inputs([JobInput("j-1", None, "inputs")]))
    assert [one.source["Params"]["CID"] for one in ready] == [CID, FOLDER]


def test_a_job_without_results_is_named() -> None:
    succeeded = ok({"Job": job("Completed"), "Executions": {"Items": [RAN]}})
    script = Script.of(version(), succeeded, ok({"Items": []}))
    with pytest.raises(ResultUnavailable, match=r"inputs\[1\]: job j-1 has no results to take as an input"):
        script.run(operations().resolve_inputs([JobInput("j-1", None, "inputs[1]")]))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("Running", "job j-1 is Running, so it has no results to take yet"),
        ("Failed", "the results of a job that did not succeed are no input. Job j-1"),
        ("Stopped", "the results of a job that did not succeed are no input. Job j-1"),
    ],
)
def test_a_job_that_is_no_success_is_no_input_whatever_it_published(state: str, words: str) -> None:
    script = Script.of(version(), ok({"Job": job(state), "Executions": {"Items": [RAN]}}))
    with pytest.raises(ResultUnavailable, match=re.escape(f"inputs[1]: {words}")):
        script.run(operations().resolve_inputs([JobInput("j-1", None, "inputs[1]")]))


def test_a_local_result_is_given_a_fresh_address() -> None:
    script = Script.of(version(), ok({"Items": [LOCAL]}))
    (one,) = script.run(operations().resolve_inputs([ResultInput("j-2", 0, "/in", "inputs")]))
    assert json.loads(json.dumps(one.source)) == {"Type": "urlDownload", "Params": {"URL": LOCAL["Params"]["URL"]}}  # type: ignore[index]


@pytest.mark.parametrize("index", [1, 10**9])
def test_a_result_that_is_gone_is_said_to_be(index: int) -> None:
    with pytest.raises(ResultUnavailable, match=f"has no result number {index}"):
        Script.of(version(), ok({"Items": [LOCAL]})).run(
            operations().result_url(ResultReference("url", "j-2", index=index))
        )


def test_a_result_is_found_by_its_execution_when_the_server_lists_in_another_order() -> None:
    published = {one: {"Type": "urlDownload", "Params": {"URL": f"http://n/{one}.tar.gz"}} for one in ("e-1", "e-2")}
    script = Script.of(
        version(),
        ok({"Items": [published["e-2"], published["e-1"]]}),
        ok({"Items": [{"ID": one, "PublishedResult": result} for one, result in published.items()]}),
    )
    url = script.run(operations().result_url(ResultReference("url", "j-1", "e-1", index=0)))
    assert url == "http://n/e-1.tar.gz"


def test_a_wait_that_nobody_wants_any_more_ends_before_the_job_was_seen() -> None:
    script = Script.of(LOST)
    with pytest.raises(WaitTimeout, match="given up before it could be looked at"):
        script.run(operations().wait("j-1", is_cancelled=lambda: True))
