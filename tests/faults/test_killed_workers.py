"""A worker that dies, at whichever point, leaves one job for its retry; one that is told to end leaves none."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_provider_bacalhau.client import BacalhauClient, ClientSettings, Job
from airflow_provider_bacalhau.client.identity import load_identity
from airflow_provider_bacalhau.devnode import DevNode, Fault
from airflow_provider_bacalhau.devnode.faults import Rule
from tests.airflow.programs import exits, sleeps
from tests.support.reliability import WORKER_DIES, WORKER_ENDS, Case, record
from tests.support.server import until
from tests.support.workers import KILLED, SUCCESS, Ended, Mark, Task, Worker, Workers

from .deaths import (
    CASES,
    DEATHS,
    IN_EVERY_TRY,
    MOMENTS,
    SERVERS,
    WHILE_LOGGING,
    WHILE_WAITING,
    WHILE_WAITING_AGAIN,
    Moment,
    Server,
    killed_at,
)

pytestmark = pytest.mark.long


@dataclass(frozen=True)
class Stage:
    """A network of one kind, and workers that submit to it."""

    server: Server
    node: DevNode
    client: BacalhauClient
    workers: Workers
    submission: str

    def task(self, run_id: str, seconds: int = 0, **arguments: object) -> Task:
        """A task whose program takes so long; all its jobs are known by a label that the provider knows nothing of."""
        labels = {"test-run": run_id}
        job = sleeps(seconds, labels=labels) if seconds else exits(0, labels=labels)
        return Task({"job_spec": job, "poll_interval": 0.5, **arguments}, run_id=run_id)

    def jobs(self, task: Task) -> list[Job]:
        """Every job of a task, oldest first."""
        page = self.client.list(namespace="default", labels={"test-run": task.run_id}, limit=0)
        return sorted(page.items, key=lambda job: job.created or 0.0)

    def live(self, task: Task) -> list[Job]:
        return [job for job in self.jobs(task) if not job.state.is_terminal]

    def judge(
        self, task: Task, group: str, situation: str, state: str, *, took: float | None = None, within: float = 0.0
    ) -> None:
        """Look what there is of a task's jobs, and keep it when it is as it must be."""
        found = Case(group, situation, len(self.jobs(task)), len(self.live(task)), state, str(self.server))
        assert found in CASES, found
        if took is not None:
            assert took < within
        record(found, seconds=took, within=None if took is None else within)

    def spoil(self, kind: str, *, times: int = 1, seconds: float = 0.0) -> Rule:
        """Spoil the next submissions."""
        return self.node.faults.add(Fault(kind, path=self.submission, method="POST", times=times, seconds=seconds))


@pytest.fixture(scope="module", params=SERVERS, ids=str)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    server: Server = request.param
    api = server.api
    folder: Path = tmp_path_factory.mktemp("workers")
    load_identity(folder=folder)  # makes the key that all workers have in common
    key = folder / "user_id.pem"
    with DevNode(emulate=server.version) as node:
        connection = {
            "conn_type": "bacalhau",
            "host": node.api,
            "extra": {"api": api, "ipfs_gateway": node.gateway, "key_file": str(key)},
        }
        environment = {"AIRFLOW_CONN_BACALHAU_DEFAULT": json.dumps(connection)}
        submission = "*/orchestrator/jobs" if api == "orchestrator" else "*/submit"
        settings = ClientSettings(node.api, api=api, key_file=str(key))
        with BacalhauClient(settings) as client, Workers(folder / "attempts", environment) as workers:
            yield Stage(server, node, client, workers, submission)


@pytest.fixture(autouse=True)
def _no_faults_left(stage: Stage) -> Iterator[None]:
    yield
    stage.node.faults.clear()


@pytest.mark.parametrize("mark", DEATHS)
def test_a_retry_finds_the_job_of_the_worker_that_was_killed(stage: Stage, mark: Mark) -> None:
    # On an Airflow with a task state store, and on one without.
    tasks = {stage.task(f"{mark.name.lower()}-{store}", 0 if mark is Mark.SUCCEEDED else 1): store for store in (1, 0)}
    if mark is Mark.ANSWER_LOST:
        stage.spoil("cut_before_answer", times=len(tasks))
    first = {task: stage.workers.start(task, 1, dies_at=mark, has_store=bool(tasks[task])) for task in tasks}
    assert [worker.wait().state for worker in first.values()] == [KILLED, KILLED]
    left = {task: [job.id for job in stage.jobs(task)] for task in tasks}
    assert [len(jobs) for jobs in left.values()] == [int(mark is not Mark.BEFORE_SUBMIT)] * 2
    second = {task: stage.workers.start(task, 2, has_store=bool(tasks[task])) for task in tasks}
    for task, worker in second.items():
        ended = worker.wait()
        assert ended.state == SUCCESS, ended.log
        assert [job.id for job in stage.jobs(task)] == [ended.value] == (left[task] or [ended.value])
        stage.judge(task, WORKER_DIES, killed_at(mark), ended.state)


def test_a_worker_killed_in_every_try_still_has_one_job(stage: Stage) -> None:
    task = stage.task("every-try", 3)
    for number, mark in enumerate((Mark.ANSWERED, Mark.STORED, Mark.WAITING), start=1):
        assert stage.workers.start(task, number, dies_at=mark).wait().state == KILLED
    ended = stage.workers.start(task, 4).wait()
    assert ended.state == SUCCESS, ended.log
    stage.judge(task, WORKER_DIES, IN_EVERY_TRY, ended.state)


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.situation)
def test_a_worker_that_is_told_to_end_while_it_submits_leaves_nothing_running(stage: Stage, moment: Moment) -> None:
    task = stage.task(f"ended-{moment.kind}-{moment.seconds}", 60)
    rule = stage.spoil(moment.kind, seconds=moment.seconds)
    worker = stage.workers.start(task, 1)
    until(lambda: rule.hits == 1, 30)
    ended, took = stop(worker)
    assert [job.state for job in stage.jobs(task)] == ["Stopped"], ended.log
    stage.judge(task, WORKER_ENDS, moment.situation, ended.state, took=took, within=6)


def test_a_worker_that_is_told_to_end_stops_its_job_and_the_retry_has_another(stage: Stage) -> None:
    task = stage.task("ended-waiting", 60)
    for number, situation in enumerate((WHILE_WAITING, WHILE_WAITING_AGAIN), start=1):
        worker = stage.workers.start(task, number)
        wait_until_it_waits(worker)
        ended, took = stop(worker)
        assert [job.state for job in stage.jobs(task)] == ["Stopped"] * number, ended.log
        stage.judge(task, WORKER_ENDS, situation, ended.state, took=took, within=5)


def test_a_worker_that_is_told_to_end_in_the_middle_of_a_line_to_its_log_stops_its_job_first(stage: Stage) -> None:
    task = stage.task("ended-logging", 60)
    worker = stage.workers.start(task, 1, dies_at=Mark.LOGGING)
    until(lambda: "submitted" in worker.log, 30)
    began = time.monotonic()
    until(lambda: not stage.live(task), 4)
    took = time.monotonic() - began
    worker.kill()  # its log's lock, that is held, keeps it from coming to an end
    stage.judge(task, WORKER_ENDS, WHILE_LOGGING, worker.wait().state, took=took, within=5)


def wait_until_it_waits(worker: Worker) -> None:
    until(lambda: "is Running" in worker.log, 30)


def stop(worker: Worker) -> tuple[Ended, float]:
    """End an attempt as Airflow does; what came of it, and the seconds that it took."""
    began = time.monotonic()
    return worker.stop(), time.monotonic() - began
