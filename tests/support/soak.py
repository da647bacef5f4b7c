"""Hundreds of attempts while a network spoils its answers and workers die, drawn from a seed; and the account of it."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_bacalhau.client.naming import Owner
from tests.support.workers import FAILED, GRACE, KILLED, Ended, Mark, Task, Worker, Workers

DEPLOYMENT = "soak"
PLENTY = 10
"""Tries that a task has beside those that are killed: faults use them up as well."""

_AT_ONCE = 6
_PAUSE = 0.01
_DEATHS = [mark for mark in Mark if mark is not Mark.LOGGING]


@dataclass(frozen=True)
class Kill:
    """How one try is to be ended from outside.

    :param name: for the account.
    :param mark: where it kills itself; None when it is killed from outside.
    :param after: seconds from its beginning until it is killed.
    :param gently: SIGTERM, and SIGKILL five seconds later.
    """

    name: str
    mark: Mark | None = None
    after: float = 0.0
    gently: bool = False


@dataclass(frozen=True, eq=False)
class Plan:
    """A task instance and what happens to its first tries.

    :param can_succeed: whether its program does.
    """

    task: Task
    kills: tuple[Kill, ...]
    has_store: bool
    can_succeed: bool

    @property
    def owner(self) -> Owner:
        task = self.task
        return Owner(DEPLOYMENT, task.dag_id, task.run_id, task.task_id, task.map_index, task.max_tries, 1)


@dataclass
class Attempt:
    """One try, under way or over.

    :param began: seconds since the epoch.
    """

    plan: Plan
    try_number: int
    worker: Worker
    began: float
    kill: Kill | None
    told: float | None = None
    ended: Ended | None = None

    def disturb(self, now: float) -> None:
        """Kill it when its time has come."""
        if self.kill is None or self.kill.mark is not None:
            return
        if self.told is None and now - self.began >= self.kill.after:
            self.told = now
            if self.kill.gently:
                self.worker.terminate()
            else:
                self.worker.kill()
        elif self.told is not None and self.kill.gently and now - self.told >= GRACE:
            self.worker.kill()


@dataclass
class Soak:
    """Runs attempts, several at once, until there were enough and every task is at its end.

    :param programs: job specifications of programs that succeed.
    :param failing: one that does not.
    :param seconds: when to give up.
    """

    workers: Workers
    rng: random.Random
    programs: list[dict[str, Any]]
    failing: dict[str, Any]
    seconds: float
    attempts: list[Attempt] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)

    def run(self, attempts: int) -> None:
        """Run so many attempts, and those that the last tasks need beyond.

        :raises AssertionError: when time is over.
        """
        deadline = time.monotonic() + self.seconds
        running: list[Attempt] = []
        waiting: deque[tuple[Plan, int]] = deque()
        while True:
            assert time.monotonic() < deadline, f"{len(self.attempts)} attempts in {self.seconds:.0f} s"
            now = time.time()
            for attempt in running:
                attempt.disturb(now)
            for attempt in [attempt for attempt in running if attempt.worker.is_over]:
                running.remove(attempt)
                attempt.ended = attempt.worker.wait()
                if attempt.ended.state in {FAILED, KILLED} and attempt.try_number <= attempt.plan.task.max_tries:
                    waiting.append((attempt.plan, attempt.try_number + 1))
            while len(running) < _AT_ONCE and (waiting or len(self.attempts) + len(waiting) < attempts):
                plan, number = waiting.popleft() if waiting else (self._plan(), 1)
                running.append(self._start(plan, number))
            if not running:
                return
            time.sleep(_PAUSE)

    def _start(self, plan: Plan, number: int) -> Attempt:
        kill = plan.kills[number - 1] if number <= len(plan.kills) else None
        worker = self.workers.start(plan.task, number, dies_at=kill.mark if kill else None, has_store=plan.has_store)
        self.attempts.append(Attempt(plan, number, worker, time.time(), kill))
        return self.attempts[-1]

    def _plan(self) -> Plan:
        rng = self.rng
        kills = tuple(self._kill() for _ in range(rng.choices((0, 1, 2, 3), (20, 30, 30, 20))[0]))
        can_succeed = rng.random() < 0.9
        arguments = {"job_spec": rng.choice(self.programs) if can_succeed else self.failing, "poll_interval": 0.5}
        task = Task(
            arguments,
            dag_id=f"soak_{len(self.plans) % 7}",
            map_index=len(self.plans),
            max_tries=len(kills) + (PLENTY if can_succeed else 1),
        )
        plan = Plan(task, kills, rng.random() < 0.5, can_succeed)
        self.plans.append(plan)
        return plan

    def _kill(self) -> Kill:
        rng = self.rng
        kind = rng.choice(("mark", "mark", "SIGKILL", "SIGTERM"))
        if kind == "mark":
            mark = rng.choice(_DEATHS)
            return Kill(f"SIGKILL {mark}", mark=mark)
        return Kill(f"{kind} at any time", after=rng.uniform(0.0, 0.8), gently=kind == "SIGTERM")


@dataclass(frozen=True)
class Record:
    """What the network tells of a job in the end.

    :param ended: seconds since the epoch; None for one that lives.
    """

    id: str
    name: str
    key: str
    created: float
    ended: float | None
    succeeded: bool

    def is_usable(self, moment: float) -> bool:
        """Whether an attempt that looked for its job at that moment would have gone on with this one."""
        return self.created <= moment and (self.succeeded or self.ended is None or self.ended > moment)


@dataclass
class Account:
    """Whether attempts and jobs agree.

    :param needed: attempts that needed a job, and lived to submit one.
    :param adopted: attempts that found one.
    :param idle: attempts that needed one, and died before they submitted it.
    :param again: attempts that submitted once more, as the job they had was ended meanwhile.
    :param complaints: what must not be, in words.
    """

    jobs: int = 0
    needed: int = 0
    adopted: int = 0
    idle: int = 0
    again: int = 0
    complaints: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, attempts: Iterable[Attempt], records: Iterable[Record]) -> Account:
        """The account of all tasks."""
        account = cls()
        tries: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in attempts:
            tries[attempt.plan.owner.key].append(attempt)
        jobs: dict[str, list[Record]] = defaultdict(list)
        for record in sorted(records, key=lambda record: record.created):
            jobs[record.key].append(record)
        account.complaints += [f"job of nobody: {jobs[key]}" for key in set(jobs) - set(tries)]
        for key, of_task in tries.items():
            account._add(of_task, jobs[key])
        return account

    def _add(self, tries: list[Attempt], jobs: list[Record]) -> None:
        self.jobs += len(jobs)
        self._judge_end(tries, jobs)
        for before, job in itertools.pairwise(jobs):
            if before.is_usable(job.created):
                self.complaints.append(f"{job} was submitted although there was {before}")
        for attempt, following in zip(tries, [*tries[1:], None], strict=True):
            until = following.began if following else float("inf")
            first = 0.0 if attempt is tries[0] else attempt.began
            submitted = [job for job in jobs if first <= job.created < until]
            found = any(job.is_usable(attempt.began) for job in jobs)
            self.adopted += found
            self.again += max(0, len(submitted) - (not found))
            self.needed += not found and bool(submitted)
            self.idle += not found and not submitted

    def _judge_end(self, tries: list[Attempt], jobs: list[Record]) -> None:
        last = tries[-1]
        told = f"task {last.plan.task.map_index} {jobs}"
        ended = last.ended
        if ended is None or (ended.state == "success") is not last.plan.can_succeed:
            self.complaints.append(f"{ended and (ended.state, ended.error)}: {told}")
        good = [job.id for job in jobs if job.succeeded]
        if good != ([ended.value] if ended and ended.state == "success" else []):
            self.complaints.append(f"lost, or too many: {told}")
        if any(job.ended is None for job in jobs):
            self.complaints.append(f"left running: {told}")
        if len({job.name for job in jobs}) != len(jobs):
            self.complaints.append(f"one name twice: {told}")


def figures(attempts: list[Attempt], account: Account) -> list[str]:
    """What happened, line by line."""
    kills = Counter(attempt.kill.name for attempt in attempts if attempt.kill)
    states = Counter(attempt.ended.state for attempt in attempts if attempt.ended)
    return [
        f"{len(attempts)} attempts of {len({attempt.plan for attempt in attempts})} tasks: {listed(states)}",
        f"{sum(kills.values())} were to be killed: {listed(kills)}",
        f"{account.jobs} jobs: {account.needed} attempts needed one, and {account.again} another, as theirs was ended",
        f"{account.adopted} attempts found one; {account.idle} died before they submitted one",
    ]


def listed(counts: Counter[str]) -> str:
    """Counts in words, the greatest first."""
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())
