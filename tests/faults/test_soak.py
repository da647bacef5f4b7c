"""Hundreds of attempts with random faults and kills: no job too many, none lost, none left running."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import airflow
import psutil
import pytest
import requests

from airflow_provider_bacalhau.client import BacalhauClient
from airflow_provider_bacalhau.client.naming import KEY_LABEL
from tests.airflow.programs import exits, sleeps
from tests.support.soak import DEPLOYMENT, Account, Record, Soak, figures, listed
from tests.support.standalone import Standalone
from tests.support.workers import Workers

ATTEMPTS = 500
SECONDS = 480.0
SEED = "BACALHAU_SOAK_SEED"
"""Environment variable: the seed from which faults and kills are drawn; ``random`` for one that is drawn itself."""

USUAL_SEED = 500

SUBMIT, LOOK, STOP = ("POST", "*/orchestrator/jobs"), ("GET", "*/orchestrator/jobs*"), ("DELETE", "*")
DENSITY = {SUBMIT: (2, 1000), LOOK: (3, 5000), STOP: (2, 500)}
"""Of each request: one answer in so many is spoiled, and of how many. By count, so that a slow machine has no more."""

# What may happen to an answer, and how often: a fault, its requests, whether the work may have been done before.
FAULTS: tuple[tuple[int, str, tuple[tuple[str, str], ...], dict[str, Any]], ...] = (
    (10, "refuse", (SUBMIT, LOOK, STOP), {}),
    (20, "cut_before_answer", (SUBMIT, LOOK, STOP), {}),
    (8, "cut_in_answer", (SUBMIT, LOOK), {}),
    (10, "delay", (SUBMIT, LOOK, STOP), {"seconds": 0.5}),
    (10, "delay_answer", (SUBMIT, LOOK, STOP), {"seconds": 0.5}),
    (6, "too_many_requests", (SUBMIT, LOOK, STOP), {}),
    (6, "server_timeout", (SUBMIT, LOOK, STOP), {"after_work": True}),
    (6, "server_timeout", (SUBMIT, LOOK, STOP), {}),
    (4, "bad_gateway", (SUBMIT, LOOK, STOP), {"after_work": True}),
    (6, "garbage", (SUBMIT, LOOK, STOP), {"after_work": True}),
    (4, "login_page", (SUBMIT, LOOK, STOP), {"after_work": True}),
    (2, "restart", (SUBMIT, LOOK), {"seconds": 0.3}),
)


class Node:
    """A node that is a process, whose faults are set over HTTP."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "airflow_provider_bacalhau.devnode", "--data-dir", str(folder), "--nodes", "2"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline())
        self.url: str = told["api"]
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {told['token']}"

    def close(self) -> None:
        self._session.close()
        self._process.terminate()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def disturb(self, rng: random.Random) -> None:
        """Spoil answers from now on."""
        for asked, (one_in, most) in DENSITY.items():
            faults = [(weight, kind, options) for weight, kind, for_, options in FAULTS if asked in for_]
            weights = [weight for weight, _, _ in faults]
            for number in range(most):
                if rng.randrange(one_in) == 0:
                    [(_, kind, options)] = rng.choices(faults, weights)
                    rule = {"kind": kind, "method": asked[0], "path": asked[1], "after": number, "times": 1}
                    self._control("POST", {**rule, **options})

    def hits(self) -> Counter[str]:
        """How many answers were spoiled, by kind."""
        hits: Counter[str] = Counter()
        for rule in self._control("GET").json()["rules"]:
            hits[rule["kind"]] += rule["hits"]
        return hits

    def heal(self) -> None:
        self._control("DELETE")

    def _control(self, method: str, body: Any = None) -> requests.Response:
        deadline = time.monotonic() + 10
        while True:
            try:
                answer = self._session.request(method, f"{self.url}/devnode/faults", json=body, timeout=10)
                answer.raise_for_status()
            except requests.ConnectionError:  # it restarts
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                return answer

    def records(self, *, by: str = KEY_LABEL) -> list[Record]:
        """All its jobs.

        :param by: the label that tells whose a job is.
        """
        with BacalhauClient(self.url) as client:
            jobs = client.list(namespace="default", limit=0).items
            return [
                Record(
                    job.id,
                    job.name,
                    job.labels[by],
                    job.created or 0.0,
                    job.modified if job.state.is_terminal else None,
                    client.outcome(job.id).diagnosis is None,
                )
                for job in jobs
            ]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "node")
    yield node
    node.close()


@pytest.fixture
def seed() -> int:
    given = os.environ.get(SEED) or str(USUAL_SEED)
    return random.SystemRandom().randrange(10**9) if given == "random" else int(given)


pytestmark = [pytest.mark.long, pytest.mark.timeout(SECONDS + 60)]


def test_every_attempt_that_needed_a_job_has_one_whatever_dies(
    node: Node, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    connection = json.dumps({"conn_type": "bacalhau", "host": node.url})
    environment = {"AIRFLOW_CONN_BACALHAU_DEFAULT": connection, "AIRFLOW__BACALHAU__DEPLOYMENT_ID": DEPLOYMENT}
    programs = [exits(0), exits(0), sleeps(1)]
    with Workers(tmp_path / "attempts", environment) as workers:
        soak = Soak(workers, random.Random(seed), programs, exits(3), SECONDS)
        node.disturb(soak.rng)
        soak.run(ATTEMPTS)
    hits = node.hits()
    node.heal()
    account = Account.of(soak.attempts, node.records())
    lines = [
        f"soak, {SEED}={seed}, {time.monotonic() - began:.0f} s:",
        *figures(soak.attempts, account),
        f"{sum(hits.values())} answers spoiled: {listed(hits)}",
    ]
    with capsys.disabled():
        print("", *lines, sep="\n  ")
    assert not account.complaints, "\n".join([*lines, *account.complaints])
    assert account.jobs == account.needed + account.again
    assert len(soak.attempts) >= ATTEMPTS


TASKS = 20
RETRIES = 15
MOST_KILLS = 3
"""Of one task: whatever is slow would be killed until it has no tries left."""

DAG = """
import json
from pathlib import Path

from airflow.sdk import DAG

from airflow_provider_bacalhau.operators.bacalhau import BacalhauSubmitJobOperator

given = json.loads((Path(__file__).parent / "given.txt").read_text())

with DAG("soak", schedule=None) as dag:
    for number in range(given["tasks"]):
        BacalhauSubmitJobOperator(
            task_id=f"task_{number}",
            job_spec=given["job"],
            deferrable=number % 2 == 1,
            poll_interval=1.0,
            retries=given["retries"],
            retry_delay=1.0,
        )
"""


@pytest.mark.skipif(airflow.__version__.startswith("2."), reason="needs the REST API of Airflow 3")
def test_twenty_tasks_of_a_whole_airflow_have_their_jobs_whatever_dies(
    node: Node, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    home, dags = tmp_path / "airflow", tmp_path / "dags"
    home.mkdir()
    dags.mkdir()
    job = sleeps(2, labels={"test-task": "{{ task.task_id }}"}, resources={"CPU": "0.01"})
    (dags / "given.txt").write_text(json.dumps({"tasks": TASKS, "retries": RETRIES, "job": job}))
    (dags / "soak.py").write_text(DAG)
    connection = {"AIRFLOW_CONN_BACALHAU_DEFAULT": json.dumps({"conn_type": "bacalhau", "host": node.url})}
    rng, killed = random.Random(seed), Counter[str]()
    with Standalone(home, dags, connection, parallelism=4) as whole:
        whole.wait_until_ready("soak")
        node.disturb(rng)
        whole.trigger("soak", "run")
        deadline = time.monotonic() + SECONDS - 120
        while whole.run("soak", "run") not in {"success", "failed"}:
            assert time.monotonic() < deadline, whole.tail("soak", "run")
            if rng.random() < 0.3:
                killed.update(kill_one(whole, rng, spared={task for task in killed if killed[task] >= MOST_KILLS}))
            time.sleep(rng.uniform(0.2, 0.6))
        hits = node.hits()
        node.heal()
        states = whole.tasks("soak", "run")
        assert set(states.values()) == {"success"}, whole.tail("soak", "run")
        values = {task: whole.xcom("soak", "run", task, "return_value") for task in states}
        tries = sum(whole.task("soak", "run", task).try_number for task in states)
    records = node.records(by="test-task")
    with capsys.disabled():
        print(
            "",
            f"whole Airflow, {SEED}={seed}, {time.monotonic() - began:.0f} s:",
            f"{TASKS} tasks in {tries} tries, {killed.total()} of them killed; {len(records)} jobs",
            f"{sum(hits.values())} answers spoiled: {listed(hits)}",
            sep="\n  ",
        )
    assert [record for record in records if record.ended is None] == []
    assert {record.key: record.id for record in records if record.succeeded} == values
    assert len([record for record in records if record.succeeded]) == TASKS


def kill_one(whole: Standalone, rng: random.Random, *, spared: set[str]) -> list[str]:
    """SIGKILL to the process of a task that runs; which task that was, if any."""
    running = {task for task, state in whole.tasks("soak", "run").items() if state == "running"}
    if not (victims := sorted(running - spared)):
        return []
    task = rng.choice(victims)
    pid = whole.task("soak", "run", task).pid
    try:
        process = psutil.Process(pid) if pid is not None else None
        if process is None or "airflow" not in " ".join(process.cmdline()):
            return []
        process.kill()
    except psutil.NoSuchProcess:  # it has ended meanwhile
        return []
    return [task]
