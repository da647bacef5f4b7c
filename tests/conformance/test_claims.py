"""One attempt, one job: what holds on every server generation, through each API that it serves.

By default these are the versions that the embedded node plays; ``BACALHAU_TEST_ENDPOINT`` names another node instead.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bacalhau.client import BacalhauClient, Job, JobState, StopOutcome
from airflow_provider_bacalhau.client.claims import EXTRA_JOB, OLDER_ATTEMPT, OLDER_SPEC, Finding
from airflow_provider_bacalhau.client.errors import Conflict
from airflow_provider_bacalhau.client.naming import Claim, Owner
from airflow_provider_bacalhau.client.settings import ClientSettings
from airflow_provider_bacalhau.client.spec import read_job_spec, spec_hash

from .conftest import ENDPOINT
from .jobs import PATIENCE, exiting, job
from .programs import sleeps

SERVERS = (
    [(ENDPOINT, "orchestrator")]
    if ENDPOINT
    else [
        ("v0.3.29", "requester"),
        ("v1.3.2", "requester"),
        ("v1.3.2", "orchestrator"),
        ("v1.7.0", "orchestrator"),
        ("v1.9.3", "orchestrator"),
    ]
)
WITH_REASONS = {"v1.7.0", "v1.9.3"}
"""Servers whose stopped jobs say why in their message."""

LASTING = job(sleeps(60))
"""A job that is alive for as long as a test takes."""

SUBMITTERS = 8


@pytest.fixture(scope="module", params=SERVERS, ids=lambda server: "-".join(server))
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientSettings]:
    server, api = request.param
    folder: Path = tmp_path_factory.mktemp("bacalhau")
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("BACALHAU_DIR", str(folder))
        url = ENDPOINT
        if not url:
            from airflow_provider_bacalhau.devnode import DevNode

            url = stack.enter_context(DevNode(emulate=server, nodes=4, queue_backoff=0.2)).api
        yield ClientSettings(url, api=api)


@pytest.fixture(scope="module")
def client(settings: ClientSettings) -> Iterator[BacalhauClient]:
    with BacalhauClient(settings) as found:
        yield found


@dataclass
class Task:
    """A task instance on the network of a test, and its attempts.

    :param ids: of all jobs that it has had.
    """

    client: BacalhauClient
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    ids: list[str] = field(default_factory=list)

    def claim(self, spec: dict[str, Any], **attempt: Any) -> Claim:
        owner = Owner("https://airflow.example", "dag", self.run_id, "task", -1, max_tries=2, try_number=1)
        return Claim(replace(owner, **attempt), "task", spec_hash(spec), "default")

    def find(self, spec: dict[str, Any], *, on_existing: Any = "replace", **attempt: Any) -> Finding:
        return self.client.find_for(self.claim(spec, **attempt), on_existing=on_existing)

    def attempt(self, spec: dict[str, Any], **attempt: Any) -> str:
        """One try: its job's id, found or submitted."""
        found = self.find(spec, **attempt)
        if found.job is not None:
            return found.job.id
        self.ids.append(self.client.submit_for(found.claim, read_job_spec(spec)).job_id)
        return self.ids[-1]

    def finish(self, spec: dict[str, Any], **attempt: Any) -> str:
        """One try, whose job ends."""
        job_id = self.attempt(spec, **attempt)
        self.client.wait(job_id, poll_interval=0.2)
        return job_id

    def job(self, job_id: str) -> Job:
        return self.client.get(job_id)

    def state(self, job_id: str) -> JobState:
        return self.job(job_id).state

    def says(self, job_id: str, reason: str) -> bool:
        """Whether a job was stopped, for this reason if the server tells."""
        found = self.client.get(job_id)
        told = self.client.version().text in WITH_REASONS
        return found.state is JobState.STOPPED and (not told or found.message == reason)


@pytest.fixture
def task(client: BacalhauClient) -> Iterator[Task]:
    made = Task(client)
    yield made
    for job_id in made.ids:
        client.stop(job_id, "the test is over")


# --- Retries ---


def test_a_retry_goes_on_with_the_job_that_is_alive(task: Task) -> None:
    first = task.attempt(LASTING)
    assert task.attempt(LASTING, try_number=2) == first
    assert task.state(first) is not JobState.STOPPED


def test_a_retry_takes_the_job_that_has_succeeded(task: Task) -> None:
    first = task.finish(exiting(0))
    assert task.attempt(exiting(0), try_number=2) == first


@pytest.mark.parametrize("way", ["failed", "stopped"])
def test_a_retry_after_a_job_that_did_not_succeed_submits_another(task: Task, way: str) -> None:
    spec = exiting(3) if way == "failed" else LASTING
    first = task.finish(spec) if way == "failed" else task.attempt(spec)
    task.client.stop(first, "lunch")
    second = task.attempt(spec, try_number=2)
    assert second != first
    assert task.claim(spec).counter_in(task.job(second).name) == 1


def test_a_retry_goes_on_with_the_newest_job(task: Task) -> None:
    first = task.finish(exiting(3))
    second = task.finish(exiting(3), try_number=2)
    third = task.attempt(exiting(3), try_number=3)
    assert len({first, second, third}) == 3
    assert task.claim(exiting(3)).counter_in(task.job(third).name) == 2


def test_an_id_that_was_kept_leads_to_the_job_and_only_if_it_is_the_attempts(task: Task) -> None:
    first = task.attempt(LASTING)
    stranger = Task(task.client)
    found = [
        task.client.find_for(task.claim(LASTING), known_id=first).job,
        task.client.find_for(task.claim(LASTING), known_id=f"j-{uuid.uuid4()}").job,
        stranger.client.find_for(stranger.claim(LASTING), known_id=first).job,
    ]
    assert [one and one.id for one in found] == [first, first, None]


# --- Clears ---


@pytest.mark.parametrize("spec", [LASTING, exiting(0)], ids=["same", "other"])
def test_a_clear_stops_the_old_job_and_submits_anew(task: Task, spec: dict[str, Any]) -> None:
    old = task.attempt(LASTING)
    new = task.attempt(spec, max_tries=3, try_number=2)
    assert new != old
    assert task.says(old, OLDER_ATTEMPT)


def test_a_clear_runs_again_what_has_succeeded(task: Task) -> None:
    old = task.finish(exiting(0))
    assert task.attempt(exiting(0), max_tries=3, try_number=2) != old


def test_the_job_of_a_newer_generation_is_neither_adopted_nor_stopped(task: Task) -> None:
    new = task.attempt(LASTING, max_tries=3, try_number=2)
    assert task.find(LASTING, try_number=2).job is None
    assert not task.state(new).is_terminal


def test_the_job_of_another_deployment_is_neither_adopted_nor_stopped(task: Task) -> None:
    theirs = task.attempt(LASTING, deployment="https://staging.example")
    assert task.find(LASTING, max_tries=3, try_number=2).job is None
    assert not task.state(theirs).is_terminal


def test_the_job_of_another_namespace_is_another_matter(task: Task) -> None:
    theirs = task.attempt(LASTING)
    if task.client.get(theirs).namespace != "default":
        pytest.skip("this API knows no namespaces")
    elsewhere = replace(task.claim(LASTING, max_tries=3, try_number=2), namespace=f"ns-{task.run_id}")
    assert task.client.find_for(elsewhere).job is None
    assert not task.state(theirs).is_terminal


# --- An edited DAG ---


def test_a_live_job_of_an_older_spec_is_replaced(task: Task) -> None:
    old = task.attempt(LASTING)
    new = task.attempt(exiting(0), try_number=2)
    assert new != old
    assert task.says(old, OLDER_SPEC)


def test_a_live_job_of_an_older_spec_may_be_adopted(task: Task) -> None:
    old = task.attempt(LASTING)
    found = task.find(exiting(0), on_existing="adopt", try_number=2).job
    assert found is not None
    assert found.id == old
    assert not task.state(old).is_terminal


def test_a_live_job_of_an_older_spec_may_be_a_reason_to_fail(task: Task) -> None:
    old = task.attempt(LASTING)
    with pytest.raises(Conflict, match=f"Job {old} of this task is .* submitted for another job specification"):
        task.find(exiting(0), on_existing="fail", try_number=2)
    assert not task.state(old).is_terminal


@pytest.mark.parametrize("on_existing", ["replace", "adopt", "fail"])
def test_a_finished_job_is_never_used_for_another_spec(task: Task, on_existing: str) -> None:
    task.finish(exiting(0))
    found = task.find(exiting(0, env={"OTHER": "1"}), on_existing=on_existing, try_number=2)
    assert (found.job, found.claim.counter) == (None, 0)


# --- Several at once, and kills ---


def test_eight_submitters_of_one_attempt_end_with_one_job(task: Task, settings: ClientSettings) -> None:
    start = threading.Barrier(SUBMITTERS)

    def submit() -> str:
        with BacalhauClient(settings) as one:
            one.version()
            submitter = Task(one, task.run_id)
            start.wait(10)
            return submitter.attempt(LASTING)

    with ThreadPoolExecutor(SUBMITTERS) as pool:
        ids = {future.result() for future in [pool.submit(submit) for _ in range(SUBMITTERS)]}
    task.ids += ids
    [kept] = [job_id for job_id in ids if not task.state(job_id).is_terminal]
    assert all(task.says(job_id, EXTRA_JOB) for job_id in ids - {kept})
    assert task.attempt(LASTING, try_number=2) == kept
    if task.client.run(task.client.operations.dialect()).can.unique_names:
        assert ids == {kept}


def test_a_kill_that_knows_no_id_stops_what_is_alive_of_its_attempt_only(task: Task) -> None:
    other = task.attempt(LASTING, deployment="https://staging.example")
    mine = task.attempt(LASTING)
    owner = task.claim(LASTING).owner
    assert task.client.stop_for(owner, namespace="default", reason=owner.kill_reason) == [(mine, StopOutcome.STOPPED)]
    assert task.says(mine, owner.kill_reason)
    assert not task.state(other).is_terminal
    assert task.client.stop_for(owner, namespace="default", reason="again") == []


def test_a_kill_that_knows_no_id_stops_what_is_left_from_before_a_clear_and_nothing_newer(task: Task) -> None:
    old = task.attempt(LASTING)
    new = task.attempt(LASTING, max_tries=4, try_number=4)
    older = task.client.submit_for(task.claim(LASTING, max_tries=1), read_job_spec(LASTING)).job_id
    task.ids.append(older)
    owner = task.claim(LASTING, max_tries=3, try_number=3).owner
    stopped = task.client.stop_for(owner, namespace="default", reason="why")
    assert stopped == [(older, StopOutcome.STOPPED)]
    assert task.state(old) is JobState.STOPPED  # by the newer attempt
    assert not task.state(new).is_terminal


def test_a_kill_waits_for_the_job_that_is_just_being_submitted_though_an_earlier_one_failed(task: Task) -> None:
    task.finish(exiting(3))
    owner = task.claim(exiting(3)).owner
    submitting = threading.Timer(0.4, task.attempt, [LASTING], {"try_number": 2})
    submitting.start()
    stopped = task.client.stop_for(owner, namespace="default", reason="why", seconds=PATIENCE)
    submitting.join()
    assert stopped == [(task.ids[-1], StopOutcome.STOPPED)]


def test_the_age_of_a_job_is_told_by_the_servers_clock(task: Task) -> None:
    job_id = task.attempt(LASTING)
    assert 0.0 <= task.client.age(task.job(job_id)) <= 5.0
    assert 95.0 <= task.client.age(replace(task.job(job_id), created=task.job(job_id).created - 100)) <= 105.0
    assert task.client.age(replace(task.job(job_id), created=None)) == 0.0
