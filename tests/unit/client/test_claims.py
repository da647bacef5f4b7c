"""One attempt, one job: what is asked of the server, in which order, and what is made of unclear answers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_bacalhau.client.claims import EXTRA_JOB, UNCLEAR_SECONDS
from airflow_provider_bacalhau.client.effects import Effect, Failure, Response, Sleep, TransportError
from airflow_provider_bacalhau.client.errors import Conflict, NotAuthorised, SubmissionUnclear
from airflow_provider_bacalhau.client.facts import Job
from airflow_provider_bacalhau.client.naming import Claim, Owner
from airflow_provider_bacalhau.client.operations import Operations
from airflow_provider_bacalhau.client.retry import with_retry
from airflow_provider_bacalhau.client.spec import docker_job, read_job_spec
from airflow_provider_bacalhau.client.states import JobState
from tests.support.drive import Script, ok, refusal, version
from tests.support.network import LOST, RAN, job, operations

OWNER = Owner("https://airflow.example", "dag", "run", "task", -1, max_tries=2, try_number=1)
CLAIM = Claim(OWNER, "task", "0123456789abcdef", "default")
RETRY = replace(CLAIM, owner=replace(OWNER, try_number=2))
SPEC = read_job_spec(docker_job("alpine", labels={"team": "words"}))

JOBS = "/api/v1/orchestrator/jobs"
LIST = f"GET {JOBS}?namespace=default&labels=airflow-task-key%3D{OWNER.task_key}"
UNSENT = TransportError(Failure.REFUSED, sent=False, detail="Error, host")
UNKNOWN = refusal(404, {"Status": 404, "Message": "job not found", "Code": "NotFound", "Component": "JobStore"})
UNCHANGED = "no changes detected for new job spec. Job Name: '{name}', Job Id: 'j-7'"


def by_name(counter: int = 0) -> str:
    return f"GET {JOBS}/{replace(CLAIM, counter=counter).name}?namespace=default"


def ours(
    state: str = "Running", *, counter: int = 0, created: float = 1.0, owner: Owner = OWNER, **other: Any
) -> dict[str, Any]:
    """A job of the attempt, as the server tells of it."""
    name = replace(CLAIM, owner=owner, counter=counter).name
    return job(state, Name=name, Labels=owner.labels, CreateTime=int(created * 10**9), **other)


def one(found: dict[str, Any], *executions: dict[str, Any]) -> Response:
    return ok({"Job": found, "Executions": {"Items": list(executions)}, "History": {"Items": []}})


def several(*found: dict[str, Any]) -> Response:
    return ok({"Items": list(found)})


SUBMITTED = ok({"JobID": "j-1", "EvaluationID": "e"})
STOPPED = ok({"EvaluationID": "e"})


def asked(script: Script) -> list[str]:
    """What was asked after the version, without the lists' bounds and order."""
    return [line.partition("&limit")[0].partition("&order_by")[0] for line in script.lines[1:]]


class Clocked(Script):
    """A script in which sleeping takes time."""

    now = 1000.0

    def perform(self, effect: Effect) -> Any:
        self.now += effect.seconds if isinstance(effect, Sleep) else 0.0
        return super().perform(effect)

    def submit(self, claim: Claim = CLAIM) -> Any:
        return self.run(with_retry(operations(clock=lambda: self.now).submit_for(claim, SPEC)))


# --- What is asked ---


def test_the_first_try_asks_by_name_only_since_lists_are_dear() -> None:
    script = Script.of(version(), UNKNOWN)
    found = script.run(operations().find_for(CLAIM))
    assert (found.job, found.claim) == (None, CLAIM)
    assert asked(script) == [by_name()]


def test_the_first_try_asks_by_label_as_well_when_told_to_look_everywhere() -> None:
    script = Script.of(version(), UNKNOWN, several())
    assert script.run(operations().find_for(CLAIM, thorough=True)).job is None
    assert asked(script) == [by_name(), LIST]


def test_a_later_try_asks_by_name_and_by_label_with_the_namespace() -> None:
    script = Script.of(version(), UNKNOWN, several())
    assert script.run(operations().find_for(RETRY)).job is None
    assert asked(script) == [by_name(), LIST]


def test_a_list_that_comes_in_pages_is_read_to_its_end() -> None:
    pages = [ok({"Items": [ours("Failed", ID="j-1")], "NextToken": "t"}), several(ours(counter=1, ID="j-2"))]
    script = Script.of(version("v1.7.0"), *pages)
    found = script.run(operations().find_for(CLAIM))
    assert found.job is not None
    assert found.job.id == "j-2"
    assert "next_token=t" in script.lines[-1]
    assert LIST in script.lines[-1]


@pytest.mark.parametrize("generation", [OWNER.max_tries, OWNER.max_tries + 1])
def test_a_list_that_never_ends_is_not_read_for_ever(generation: int) -> None:
    page = ok({"Items": [ours(owner=replace(OWNER, max_tries=generation))], "NextToken": "t"})
    script = Script.of(version("v1.7.0"), page, page)
    script.run(operations().find_for(CLAIM))
    assert script.answers == []


def test_where_names_are_not_unique_even_the_first_try_asks_by_label_and_never_by_name() -> None:
    script = Script.of(version("v1.7.0"), several())
    assert script.run(operations().find_for(CLAIM)).job is None
    assert asked(script) == [LIST]


def test_a_job_that_is_found_by_name_needs_no_list() -> None:
    script = Script.of(version(), one(ours()), UNKNOWN)
    found = script.run(operations().find_for(RETRY)).job
    assert found is not None
    assert asked(script) == [by_name(), by_name(1)]


def test_an_id_that_was_kept_is_the_only_question() -> None:
    script = Script.of(version(), one(ours()))
    assert script.run(operations().find_for(RETRY, known_id="j-1")).job
    assert asked(script) == [f"GET {JOBS}/j-1"]


@pytest.mark.parametrize(
    "kept",
    [
        UNKNOWN,
        refusal(500, {"Message": "multiple jobs found for id j-", "Code": "MultipleJobsFound"}),
        one(ours("Stopped")),
        one(ours(owner=replace(OWNER, task_id="other"))),
        one(ours(owner=replace(OWNER, max_tries=1))),
        one(job(Name=replace(CLAIM, spec_hash="f" * 16).name, Labels=OWNER.labels)),
    ],
    ids=["gone", "half an id", "stopped", "another task's", "from before a clear", "another spec's"],
)
def test_an_id_that_was_kept_is_not_trusted(kept: Response) -> None:
    script = Script.of(version(), kept, UNKNOWN, several())
    assert script.run(operations().find_for(RETRY, known_id="j-1")).job is None


def test_names_are_counted_until_there_is_none() -> None:
    script = Script.of(version(), one(ours("Failed")), one(ours("Stopped", counter=1)), UNKNOWN)
    found = script.run(operations().find_for(CLAIM))
    assert (found.job, found.claim.counter) == (None, 2)
    assert asked(script) == [by_name(0), by_name(1), by_name(2)]


def test_the_newest_job_counts() -> None:
    script = Script.of(version(), one(ours("Failed")), one(ours(counter=1, ID="j-2")), UNKNOWN)
    found = script.run(operations().find_for(RETRY))
    assert found.job is not None
    assert (found.job.id, found.claim.counter) == ("j-2", 1)


def test_a_job_that_somebody_else_gave_the_name_is_not_the_attempts() -> None:
    script = Script.of(version(), one({**ours(), "Labels": {}}), UNKNOWN)
    assert script.run(operations().find_for(CLAIM)).job is None


def test_whether_a_job_has_succeeded_is_a_matter_of_the_policy() -> None:
    half = [RAN, {**RAN, "ID": "e-2", "RunOutput": {"ExitCode": 3}}]
    for policy, is_taken in (("all", False), ("any", True), (1, True), (2, False)):
        failed = ours("Failed", Count=2)
        script = Script.of(version(), one(failed), UNKNOWN, one(failed, *half), several(), one(failed, *half))
        found = script.run(operations().find_for(RETRY, policy=policy))  # type: ignore[arg-type]  # mypy widens it
        assert (found.job is not None) is is_taken


def test_of_several_live_jobs_of_a_spec_all_but_the_newest_are_stopped() -> None:
    twins = several(ours(ID="j-2", created=2), ours(ID="j-3", created=3), ours(ID="j-1", created=1))
    script = Script.of(version("v1.7.0"), twins, STOPPED, STOPPED)
    found = script.run(operations().find_for(RETRY)).job
    assert found is not None
    assert found.id == "j-3"
    assert sorted(asked(script)[1:]) == [f"DELETE {JOBS}/j-1", f"DELETE {JOBS}/j-2"]
    assert all(EXTRA_JOB.encode() in (request.body or b"") for request in script.requests[2:])


def test_a_job_that_may_not_be_stopped_is_not_passed_over() -> None:
    old = ours(owner=replace(OWNER, max_tries=1))
    refused = refusal(403, {"Message": "user 'u' does not have the required capability 'write:job'"})
    script = Script.of(version(), UNKNOWN, several(old), refused)
    with pytest.raises(NotAuthorised):
        script.run(operations().find_for(RETRY))


# --- Jobs that are older than the run, or kept nothing ---


def served(date: str = "Thu, 01 Jan 1970 00:10:00 GMT") -> Response:
    """The server is alive, ten minutes after the epoch."""
    return ok({"Status": "OK"}, date=date)


@pytest.mark.parametrize("claim", [CLAIM, RETRY], ids=["first try", "later try"])
def test_a_job_that_is_older_than_its_run_belongs_to_a_run_that_was_deleted(claim: Claim) -> None:
    later = [] if claim is CLAIM else [several()]
    script = Script.of(version(), one(ours(created=1.0)), UNKNOWN, served(), STOPPED, *later)
    found = script.run(operations().find_for(claim, max_age=60.0))
    assert (found.job, found.claim.counter) == (None, 1)
    assert f"DELETE {JOBS}/j-1" in asked(script)


@pytest.mark.parametrize("claim", [CLAIM, RETRY], ids=["first try", "later try"])
def test_a_job_that_is_as_young_as_the_run_is_gone_on_with(claim: Claim) -> None:
    script = Script.of(version(), one(ours(created=590.0)), UNKNOWN, served())
    assert script.run(operations().find_for(claim, max_age=60.0)).job


@pytest.mark.parametrize(
    ("publisher", "results", "is_taken"),
    [("ipfs", [], False), ("ipfs", [{"Type": "ipfs", "Params": {"CID": "Qm"}}], True), ("noop", [], True)],
)
def test_a_job_that_should_have_kept_results_and_has_not_is_run_again(
    publisher: str, results: list[Any], is_taken: bool
) -> None:
    done = ours("Completed", Tasks=[{"Publisher": {"Type": publisher}}])
    answers = [one(done), UNKNOWN, one(done, RAN)]
    if publisher != "noop":
        answers += [ok({"Items": results}), *([ok({"Items": [RAN]})] if results else [])]
    script = Script.of(version(), *answers, several())
    found = script.run(operations().find_for(RETRY, wants_results=True))
    assert (found.job is not None) is is_taken
    assert script.answers == []


def test_a_job_that_kept_only_some_of_its_results_is_run_again() -> None:
    done, runs = ours("Completed", Count=2, Tasks=[{"Publisher": {"Type": "ipfs"}}]), [RAN, {**RAN, "ID": "e-2"}]
    some = [ok({"Items": [{"Type": "ipfs", "Params": {"CID": "Qm"}}]}), ok({"Items": runs})]
    script = Script.of(version(), one(done), UNKNOWN, one(done, *runs), *some, several())
    assert script.run(operations().find_for(RETRY, wants_results=True)).job is None


def test_a_job_that_succeeded_before_the_dag_was_edited_and_edited_back_is_taken_and_the_one_in_between_stopped() -> (
    None
):
    other = {**ours(ID="j-2", created=2), "Name": replace(CLAIM, spec_hash="f" * 16).name}
    done = ours("Completed")
    script = Script.of(version(), one(done), UNKNOWN, one(done, RAN), several(done, other), STOPPED)
    found = script.run(operations().find_for(RETRY))
    assert found.job is not None
    assert found.job.id == "j-1"
    assert script.lines[-1] == f"DELETE {JOBS}/j-2"


def test_a_name_that_a_job_of_somebody_else_has_is_left_to_it() -> None:
    """Sending it with another body would restart that job."""
    strangers = one(job(Name=CLAIM.name, Labels={}))
    found = Script.of(version(), strangers, UNKNOWN).run(operations().find_for(CLAIM))
    assert found.job is None
    assert found.claim.counter == 1


def test_a_job_that_was_kept_and_failed_is_not_submitted_again_under_its_name() -> None:
    failed = ours("Failed")
    script = Script.of(version(), one(failed), one(failed), one(failed), UNKNOWN, one(failed))
    found = script.run(operations().find_for(CLAIM, known_id="j-1"))
    assert (found.job, found.claim.counter) == (None, 1)


# --- What is sent ---


def sent(script: Script) -> list[dict[str, Any]]:
    """The jobs that were sent."""
    bodies = [request.body for request in script.requests if request.method in {"PUT", "POST"}]
    return [json.loads(body)["Job"] for body in bodies if body]


def test_a_job_is_sent_with_its_name_namespace_and_labels_beside_the_users() -> None:
    script = Script.of(version(), SUBMITTED)
    claim = replace(CLAIM, namespace="team", counter=2)
    assert script.run(operations().submit_for(claim, SPEC)).job_id == "j-1"
    [body] = sent(script)
    assert (body["Name"], body["Namespace"]) == (claim.name, "team")
    assert body["Labels"] == {"team": "words", **OWNER.labels}


def test_users_cannot_take_the_labels_of_an_attempt_for_their_own() -> None:
    script = Script.of(version(), SUBMITTED)
    script.run(operations().submit_for(CLAIM, read_job_spec(docker_job("alpine", labels={"airflow-key": "mine"}))))
    assert sent(script)[0]["Labels"] == OWNER.labels


def test_two_tries_send_the_same_bytes_under_one_name_for_other_bytes_would_restart_the_job() -> None:
    bodies = []
    for claim in (CLAIM, RETRY, replace(CLAIM, owner=replace(OWNER, try_number=3))):
        script = Script.of(version(), SUBMITTED)
        script.run(operations().submit_for(claim, SPEC))
        bodies.append(script.requests[-1].body)
    assert len(set(bodies)) == 1


# --- Unclear answers ---


def test_under_a_unique_name_a_lost_answer_is_asked_for_again() -> None:
    there = refusal(500, {"Message": UNCHANGED.format(name=CLAIM.name), "Component": "Bacalhau"})
    script = Script.of(version(), LOST, there, one(ours(ID="j-7")))
    submission = script.run(with_retry(operations().submit_for(CLAIM, SPEC)))
    assert (submission.job_id, submission.adopted) == ("j-7", True)
    assert asked(script) == [f"POST {JOBS}", f"POST {JOBS}", f"GET {JOBS}/j-7"]
    first, second = sent(script)
    assert first == second


def test_a_job_that_is_being_made_this_moment_is_adopted_by_its_name() -> None:
    in_use = refusal(409, {"Message": "in use", "Code": "ResourceInUse"})
    script = Script.of(version(), in_use, one(ours(ID="j-8")), one(ours(ID="j-8")))
    assert script.run(with_retry(operations().submit_for(CLAIM, SPEC))).adopted


def test_a_name_that_is_in_use_though_no_job_has_it_yet_is_asked_for_again() -> None:
    in_use = refusal(409, {"Message": "in use", "Code": "ResourceInUse"})
    script = Script.of(version(), in_use, UNKNOWN, in_use, UNKNOWN, SUBMITTED)
    assert script.run(with_retry(operations().submit_for(CLAIM, SPEC))).job_id == "j-1"
    assert len(set(map(str, sent(script)))) == 1
    script = Script.of(version(), *[in_use, UNKNOWN] * 4)
    with pytest.raises(Conflict) as raised:
        script.run(with_retry(operations().submit_for(CLAIM, SPEC)))
    assert not raised.value.permanent


@pytest.mark.parametrize(
    "theirs",
    [{}, replace(OWNER, deployment="other").labels, replace(OWNER, max_tries=3).labels],
    ids=["nobody's", "another deployment's", "a newer generation's"],
)
def test_a_job_of_the_name_that_is_not_the_attempts_is_a_conflict(theirs: dict[str, str]) -> None:
    there = refusal(500, {"Message": UNCHANGED.format(name=CLAIM.name), "Component": "Bacalhau"})
    script = Script.of(version(), there, one({**ours(ID="j-7"), "Labels": theirs}))
    with pytest.raises(Conflict, match=r"Job j-7 has the name .*, but not the labels of this Airflow task"):
        script.run(with_retry(operations().submit_for(CLAIM, SPEC)))


def test_on_older_servers_a_lost_answer_is_never_sent_again_but_looked_for() -> None:
    script = Clocked([version("v1.7.0"), LOST, several(), several(), several(ours(ID="j-9"))])
    submission = script.submit()
    assert (submission.job_id, submission.adopted) == ("j-9", True)
    assert len(sent(script)) == 1
    assert asked(script) == [f"POST {JOBS}", LIST, LIST, LIST]


def test_on_older_servers_a_job_that_never_appears_stays_unclear() -> None:
    script = Clocked([version("v1.7.0"), LOST, *[several()] * 100])
    with pytest.raises(SubmissionUnclear):
        script.submit()
    assert len(sent(script)) == 1
    assert UNCLEAR_SECONDS <= script.now - 1000.0 <= UNCLEAR_SECONDS + 2


def test_a_server_that_is_away_while_the_job_is_looked_for_is_looked_at_again() -> None:
    away: list[Any] = [UNSENT, refusal(503), refusal(502, "<html>")]
    script = Clocked([version("v1.7.0"), LOST, *away * 3, several(ours(ID="j-9"))])
    assert script.submit().job_id == "j-9"
    assert len(sent(script)) == 1


@pytest.mark.parametrize("state", ["Completed", "Failed", "Running"])
def test_the_job_that_was_looked_for_may_have_ended_meanwhile(state: str) -> None:
    script = Clocked([version("v1.7.0"), LOST, several(ours(state, ID="j-9"))])
    assert script.submit().job_id == "j-9"


@pytest.mark.parametrize(
    "other",
    [ours("Failed", counter=1), ours(owner=replace(OWNER, max_tries=1), counter=2)],
    ids=["of an earlier count", "from before a clear"],
)
def test_another_job_is_not_taken_for_the_one_that_is_looked_for(other: dict[str, Any]) -> None:
    script = Clocked([version("v1.7.0"), LOST, *[several(other)] * 100])
    with pytest.raises(SubmissionUnclear):
        script.submit(replace(CLAIM, counter=2))


def test_what_never_left_may_be_sent_again_on_any_server() -> None:
    script = Clocked([version("v1.7.0"), UNSENT, SUBMITTED, several(ours(ID="j-1"))])
    assert script.submit().job_id == "j-1"
    assert len(sent(script)) == 2


# --- Several submitters where names are not unique ---


def newest(*found: dict[str, Any], stops: int) -> tuple[Any, list[str]]:
    script = Script.of(version("v1.7.0"), SUBMITTED, several(*found), *[STOPPED] * stops)
    submission = script.run(operations().submit_for(CLAIM, SPEC))
    assert script.answers == []
    return submission, [line.partition("?")[0].rpartition("/")[2] for line in asked(script) if "DELETE" in line]


def test_the_newest_job_wins_and_the_others_are_stopped() -> None:
    mine, theirs = ours(ID="j-1", created=2), ours(ID="j-2", created=1)
    submission, stopped = newest(mine, theirs, stops=1)
    assert (submission.job_id, submission.adopted, stopped) == ("j-1", False, ["j-2"])


def test_a_submitter_that_was_not_the_last_stops_its_own_job_and_adopts() -> None:
    mine, theirs = ours(ID="j-1", created=1), ours(ID="j-2", created=2)
    submission, stopped = newest(mine, theirs, stops=1)
    assert (submission.job_id, submission.adopted, stopped) == ("j-2", True, ["j-1"])


def test_jobs_of_the_same_moment_have_one_newest_for_all() -> None:
    for order in itertools.permutations([ours(ID="j-1"), ours(ID="j-2"), ours(ID="j-3")]):
        submission, stopped = newest(*order, stops=2)
        assert (submission.job_id, sorted(stopped)) == ("j-3", ["j-1", "j-2"])


def test_a_list_that_does_not_have_the_job_yet_leaves_it_alone() -> None:
    assert newest(stops=0)[0].job_id == "j-1"


def test_a_server_that_goes_away_right_after_it_took_the_job_has_taken_it() -> None:
    script = Script.of(version("v1.7.0"), SUBMITTED, LOST)
    assert script.run(operations().submit_for(CLAIM, SPEC)).job_id == "j-1"


# --- Time ---


def aged(date: str, created: float | None, clock: Callable[[], float]) -> float:
    known: Operations = operations(clock=clock)
    found = Job("j-1", "n", "default", "batch", 1, JobState.RUNNING, created=created)
    return Script.of(version(), ok({"Status": "OK"}, date=date)).run(known.age(found))


def test_a_jobs_age_is_by_the_servers_clock_and_never_below_nothing() -> None:
    epoch = 1_767_225_600.0  # 2026-01-01T00:00:00Z
    for clock in (lambda: 0.0, lambda: 9e9):
        assert aged("Thu, 01 Jan 2026 00:01:40 GMT", epoch, clock) == 100.0
        assert aged("Thu, 01 Jan 2026 00:00:00 GMT", epoch + 0.7, clock) == 0.0


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 99 Jan 2026"])
def test_a_server_without_a_clock_makes_every_job_new(date: str) -> None:
    assert aged(date, 1.0, lambda: 9e9) == 0.0
