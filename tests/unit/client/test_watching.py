"""Waiting for a job that is lost, forgotten, or that nothing can run any more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_provider_bacalhau.client.diagnosis import FailureCategory, JobOutcome
from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
from airflow_provider_bacalhau.client.effects import Effect, Failure, Request, Response, Sleep, TransportError
from airflow_provider_bacalhau.client.errors import (
    JobHopeless,
    JobLost,
    NotFound,
    UnexpectedAnswer,
    Unreachable,
    WaitTimeout,
)
from airflow_provider_bacalhau.client.facts import Execution, Job
from airflow_provider_bacalhau.client.retry import with_retry
from airflow_provider_bacalhau.client.states import ExecutionState, JobState
from airflow_provider_bacalhau.client.waiting import FORGOTTEN_AFTER, LOST_AFTER
from tests.support.drive import Script, ok, refusal, version
from tests.support.network import LOST, job, operations
from tests.support.recorded import answer

GONE = refusal(404, {"Status": 404, "Message": "job not found: j-1", "Code": "NotFound", "Component": "JobStore"})
NOON = 1_795_348_800.0  # 2026-11-22T12:00:00Z
QUEUED = (
    "Job queued. not enough nodes to run job. requested: 1, available: 1, suitable: 0.\n"
    "• Node n-1: job already executed on this node more than once"
)


def there(state: str = "Running", message: str = "", **other: Any) -> Response:
    return ok({"Job": job(state, **{"State": {"StateType": state, "Message": message}, **other})})


def with_executions(*executions: dict[str, Any], state: str = "Queued", message: str = QUEUED) -> Response:
    said = job(state, State={"StateType": state, "Message": message})
    return ok({"Job": said, "Executions": {"Items": list(executions)}})


def failed(number: int, node: str = "n-1", state: int = 10) -> dict[str, Any]:
    return {
        "ID": f"e-{number}",
        "NodeID": node,
        "ComputeState": {"StateType": state, "Message": "invalid magic number"},
    }


@dataclass
class Passing(Script):
    """A script in which time passes while one sleeps.

    :param forever: the answer to what the script does not foresee.
    """

    now: float = NOON
    forever: Response | None = None
    _told: list[str] = field(default_factory=list)

    def perform(self, effect: Effect) -> Any:
        if isinstance(effect, Sleep):
            self.now += effect.seconds
        elif not self.answers and self.forever is not None:
            self.answers.append(self.forever)
        return super().perform(effect)

    def wait(self, **options: Any) -> Job:
        return self.run(operations(clock=lambda: self.now).wait("j-1", **options))


def script(*answers: Response | TransportError, forever: Response | None = None) -> Passing:
    return Passing([version(), *answers], forever=forever)


# -- lost -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("poll_interval", [0.1, 5, 600])
def test_a_job_that_vanishes_is_lost_after_a_grace_period(poll_interval: float) -> None:
    played = script(there(), forever=GONE)
    with pytest.raises(JobLost) as caught:
        played.wait(poll_interval=poll_interval)
    assert LOST_AFTER <= played.now - NOON < LOST_AFTER + 1
    assert not caught.value.permanent
    last, since = caught.value.evidence
    assert last == "it was last seen Running at 2026-11-22T12:00:00Z"
    assert since == "since 2026-11-22T12:00:00Z the server answers that there is no such job"
    assert "the task that submitted it runs it again" in str(caught.value)


def test_an_id_that_was_never_seen_is_not_found_at_once() -> None:
    played = script(GONE)
    with pytest.raises(NotFound):
        played.wait()
    assert played.sleeps == []


def test_a_job_that_the_caller_saw_before_is_lost_as_well() -> None:
    played = script(forever=GONE)
    with pytest.raises(JobLost, match="it was seen before this wait"):
        played.wait(is_known=True)
    assert played.now - NOON >= LOST_AFTER


def test_a_job_that_comes_back_within_the_grace_period_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    played = script(there(), GONE, GONE, there(), GONE, LOST, GONE, there(), GONE, there("Completed"))
    assert played.wait().state is JobState.COMPLETED
    assert caplog.text.count("does not know job j-1 any more") == 3
    assert caplog.text.count("Job j-1 can be looked at again: it is Running.") == 2


def test_a_grace_period_begins_anew_when_the_job_was_seen_again() -> None:
    played = script(there(), GONE, there(), forever=GONE)
    with pytest.raises(JobLost):
        played.wait(poll_interval=15)
    assert played.now - NOON >= LOST_AFTER + 0.1


def test_the_deadline_counts_in_the_grace_period_too() -> None:
    played = script(there(), forever=GONE)
    with pytest.raises(WaitTimeout, match="the server does not know it any more"):
        played.wait(deadline=NOON + 5)


def test_a_server_that_is_away_does_not_lose_a_job() -> None:
    played = script(there(), GONE, *[LOST] * 20)
    with pytest.raises(Unreachable, match="may still be running"):
        played.wait(poll_interval=30)


# -- answers that are none ---------------------------------------------------------------------------------------------

HTML = {"content-type": "text/html"}
TOO_LARGE = TransportError(Failure.TOO_LARGE, sent=True, detail="host")
SPOILT: list[Response | TransportError] = [
    Response(200, HTML, b"<html>Please log in</html>"),
    Response(404, HTML, b"<html>Not here</html>"),
    Response(200, {}, b"\x00garbage"),
    refusal(302, location="/login"),
    ok({}),
    ok({"Job": {}}),
    TOO_LARGE,
]
spoilt = pytest.mark.parametrize("answered", SPOILT, ids=["page", "404", "garbage", "login", "{}", "no id", "huge"])


@spoilt
def test_an_answer_that_is_none_is_a_look_that_failed(answered: Response | TransportError) -> None:
    played = script(there(), *[answered] * 9, there(), *[answered] * 9, there("Completed"))
    assert played.wait().state is JobState.COMPLETED


@spoilt
def test_the_tenth_in_a_row_ends_the_wait_with_its_error(answered: Response | TransportError) -> None:
    played = script(there(), *[answered] * 10)
    with pytest.raises(UnexpectedAnswer, match="may still be running"):
        played.wait()
    assert played.answers == []


@spoilt
def test_a_job_that_was_never_seen_is_not_looked_for_behind_such_answers(answered: Response | TransportError) -> None:
    with pytest.raises(UnexpectedAnswer) as caught:
        script(answered).wait()
    assert "may still be running" not in str(caught.value)
    assert script(answered, there("Completed")).wait(is_known=True).state is JobState.COMPLETED


def test_a_known_job_is_waited_for_though_not_even_the_version_can_be_read_at_first() -> None:
    played = Passing([Response(200, HTML, b"<html>"), version(), there("Completed")])
    assert played.wait(is_known=True).state is JobState.COMPLETED


# -- a server that hangs ----------------------------------------------------------------------------------------------


@dataclass
class Hanging(Passing):
    """A server that takes every request and answers none, so that each lasts as long as it may."""

    def perform(self, effect: Effect) -> Any:
        if isinstance(effect, Request):
            self.now += effect.timeout or 30.0
            raise TransportError(Failure.TIMEOUT, sent=True, detail="host")
        return super().perform(effect)


@pytest.mark.parametrize("seconds", [0.0, 3.0, 20.0, 100.0, 151.0, 400.0])
def test_a_server_that_hangs_holds_up_a_wait_for_little_beyond_its_deadline(seconds: float) -> None:
    played = Hanging([])
    waiting = operations(clock=lambda: played.now).wait("j-1", deadline=NOON + seconds, is_known=True)
    with pytest.raises(WaitTimeout):
        played.run(with_retry(waiting))
    assert seconds <= played.now - NOON < seconds + 12


def test_without_a_deadline_an_exchange_has_the_connections_time() -> None:
    played = script(there(), there("Completed"))
    played.wait()
    assert {request.timeout for request in played.requests} == {30.0}


# -- forgotten in the queue -------------------------------------------------------------------------------------------

FORGETS = "may forget the jobs that wait in it"


@pytest.mark.parametrize("state", ["Pending", "Queued"])
def test_a_job_that_does_not_move_after_the_server_was_away_may_be_forgotten(
    state: str, caplog: pytest.LogCaptureFixture
) -> None:
    played = script(there(state), LOST, forever=there(state))
    with pytest.raises(WaitTimeout):
        played.wait(deadline=NOON + 4 * FORGOTTEN_AFTER)
    assert caplog.text.count(FORGETS) == 1


@pytest.mark.parametrize(
    "after",
    [
        (there("Running"),),
        (there("Queued", ModifyTime=5), there("Queued", ModifyTime=6)),
        (there("Queued"), there("Running"), there("Queued")),
    ],
)
def test_a_job_that_moves_is_not_forgotten(after: tuple[Response, ...], caplog: pytest.LogCaptureFixture) -> None:
    first = there("Queued", ModifyTime=5)
    played = script(first, LOST, *after, forever=after[-1])
    with pytest.raises(WaitTimeout):
        played.wait(deadline=NOON + 3 * FORGOTTEN_AFTER)
    assert FORGETS not in caplog.text


def test_a_job_that_stays_pending_may_be_forgotten_though_nobody_saw_the_server_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A restart takes a tenth of a second, less than the pause between two looks."""
    with pytest.raises(WaitTimeout):
        script(forever=there("Pending")).wait(deadline=NOON + 4 * FORGOTTEN_AFTER)
    assert caplog.text.count(FORGETS) == 1


def test_without_trouble_a_long_queue_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(WaitTimeout):
        script(forever=there("Queued")).wait(deadline=NOON + 3 * FORGOTTEN_AFTER)
    assert caplog.text == ""


# -- hopeless ---------------------------------------------------------------------------------------------------------


def test_a_job_that_nothing_can_run_any_more_ends_the_wait() -> None:
    both = with_executions(failed(1), failed(2))
    played = script(there(), there("Queued", QUEUED), both, both)
    told: list[JobState] = []
    with pytest.raises(JobHopeless) as caught:
        played.wait(fail_fast=True, on_change=lambda seen: told.append(seen.state))
    assert played.now - NOON < 2
    assert told == [JobState.RUNNING, JobState.QUEUED]
    outcome = caught.value.outcome
    assert outcome.is_hopeless
    assert outcome.diagnosis is not None
    assert outcome.diagnosis.category is FailureCategory.MODULE_INVALID
    assert str(caught.value).startswith("Job j-1 failed on every node that could run it: invalid magic number.")
    assert [line.rpartition("?")[2] for line in played.lines[-2:]] == [
        "include=executions",
        "include=executions%2Chistory",
    ]


def test_only_who_asks_for_it_is_told_and_pays_for_it() -> None:
    both = with_executions(failed(1), failed(2))
    played = script(there("Queued", QUEUED), both, both, there("Failed"))
    assert played.wait().state is JobState.FAILED
    assert not any("include" in line for line in played.lines)


def test_a_running_job_is_looked_at_without_its_executions() -> None:
    played = script(*[there()] * 5, there("Completed"))
    played.wait(fail_fast=True)
    assert not any("include" in line for line in played.lines)


def test_a_second_try_that_begins_in_between_is_no_end() -> None:
    both, again = with_executions(failed(1), failed(2)), with_executions(failed(1), failed(2), failed(3, "n-2", 5))
    played = script(there("Queued", QUEUED), both, again, there("Running"), there("Completed"))
    assert played.wait(fail_fast=True).state is JobState.COMPLETED


def test_a_job_that_is_over_by_then_is_over() -> None:
    both = with_executions(failed(1), failed(2))
    played = script(there("Queued", QUEUED), both, with_executions(failed(1), failed(2), state="Failed"))
    assert played.wait(fail_fast=True).state is JobState.FAILED


def nodes(*ids: str) -> Response:
    info = ({"NodeID": one, "NodeType": "Compute", "ComputeNodeInfo": {"ExecutionEngines": ["wasm"]}} for one in ids)
    return ok({"Nodes": [{"Info": one, "Connection": "CONNECTED"} for one in info]})


def test_a_job_that_never_got_beyond_pending_is_judged_by_the_list_of_nodes_in_a_second_look() -> None:
    both = with_executions(failed(1), failed(2), state="Pending", message="")
    played = script(there("Pending"), both, both, nodes("n-1"), both)
    with pytest.raises(JobHopeless):
        played.wait(fail_fast=True)
    assert played.answers == []


@pytest.mark.parametrize(
    "listed",
    [nodes("n-1", "n-2"), nodes(), refusal(403, {"Message": "no"}), refusal(401, {"Message": "no"})],
    ids=["another node", "no node", "forbidden", "unknown"],
)
def test_a_list_of_nodes_that_does_not_prove_it_is_no_proof(listed: Response) -> None:
    both = with_executions(failed(1), failed(2), state="Pending", message="")
    played = script(there("Pending"), both, both, listed, there("Completed"))
    assert played.wait(fail_fast=True).state is JobState.COMPLETED


def test_what_looks_hopeless_but_once_is_not() -> None:
    both = with_executions(failed(1), failed(2), state="Pending", message="")
    alive = with_executions(failed(1), failed(2), failed(3, "n-2", 1), state="Pending", message="")
    played = script(there("Pending"), both, alive, both, alive, there("Completed"))
    assert played.wait(fail_fast=True).state is JobState.COMPLETED
    assert not any("nodes" in line for line in played.lines)


def test_a_server_that_is_away_while_nodes_are_asked_for_is_waited_for() -> None:
    both = with_executions(failed(1), failed(2), state="Pending", message="")
    played = script(there("Pending"), both, both, LOST, both, nodes("n-1"), both)
    with pytest.raises(JobHopeless):
        played.wait(fail_fast=True)


@pytest.mark.parametrize("text", ["v1.1.6", "v1.2.2", "v1.4.0", "v1.9.3"])
def test_where_waiting_shows_or_nothing_waits_a_running_job_costs_one_plain_request_a_look(text: str) -> None:
    played = Passing([version(text), *[there()] * 3, there("Completed")])
    played.wait(fail_fast=True)
    assert played.lines[1:] == ["GET /api/v1/orchestrator/jobs/j-1"] * 4


@pytest.mark.parametrize(
    ("text", "orchestrator", "requester"),
    [
        ("v1.1.6", False, False),
        ("v1.3.1", False, False),
        ("v1.3.2", True, True),
        ("v1.4.0", False, True),
        ("v1.9.3", False, True),
    ],
)
def test_only_v1_3_2_hides_that_a_job_waits(text: str, orchestrator: bool, requester: bool) -> None:
    server = ServerVersion(text)
    assert server.capabilities.hides_waiting is orchestrator
    assert server.requester.hides_waiting is requester


def test_v1_3_leaves_such_a_job_running_so_its_executions_are_always_asked_for() -> None:
    stuck = answer("v1.3.2", "bad module: get")
    played = Passing([version("v1.3.2"), stuck, stuck, stuck, answer("v1.3.2", "nodes"), stuck])
    with pytest.raises(JobHopeless) as caught:
        played.wait(fail_fast=True)
    assert caught.value.outcome.job.state is JobState.RUNNING
    assert caught.value.outcome.diagnosis is not None
    assert caught.value.outcome.diagnosis.category is FailureCategory.MODULE_INVALID
    assert "include" not in played.lines[1]
    assert played.lines[2].endswith("include=executions")


@pytest.mark.parametrize("recorded", ["v1.4.0", "v1.7.0", "v1.9.3"])
@pytest.mark.parametrize(
    ("label", "category"),
    [
        ("bad module: get", FailureCategory.MODULE_INVALID),
        ("exec timeout: get", FailureCategory.EXECUTION_TIMEOUT),
    ],
)
def test_recorded_jobs_end_the_wait_with_their_cause(recorded: str, label: str, category: FailureCategory) -> None:
    stuck = answer(recorded, label)
    played = Passing([version(recorded), stuck, stuck, stuck])
    with pytest.raises(JobHopeless) as caught:
        played.wait(fail_fast=True)
    assert caught.value.outcome.diagnosis is not None
    assert caught.value.outcome.diagnosis.category is category


def test_whether_another_try_may_help_depends_on_the_cause() -> None:
    assert not JobLost("j-1", ["it is gone"]).permanent
    for message, is_final in (("invalid magic number", True), ("manifest unknown", False), ("never heard of", False)):
        runs = tuple(Execution("e", "j-1", "n-1", ExecutionState.FAILED, message) for _ in range(2))
        stuck = Job("j-1", "n", "default", "batch", 1, JobState.QUEUED, executions=runs)
        assert JobHopeless(JobOutcome.of(stuck, is_hopeless=True)).permanent is is_final
