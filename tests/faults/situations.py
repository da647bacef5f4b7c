"""What can happen to a task while it waits for its job, and what must come of it."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.reliability import BY_CHANCE, BY_USERS, Case

from .stage import TIMEOUT, Look, Stage

STOP_BOUND = 15.0
"""Seconds within which a job is stopped when a user ends its task. A worker notices at its next heartbeat (up to five
seconds; one here), a triggerer within about three."""

SAME_RUN = 12.0
"""Seconds after which a run of the same id is another one: the provider allows for clocks that differ, and Airflow
takes what its executor says of the old run for the new one's."""

COMES_BACK = 6.0
"""Seconds for which a task should be deferred; Airflow takes one that comes back sooner for lost."""

QUIET = 8.0
"""Seconds for which what came of it must stay so: an old attempt's kill can come after the new attempt's submission."""


@dataclass(frozen=True)
class Situation:
    """Something that happens while a task waits.

    :param name: in words, for the table.
    :param dag_id: which task; one of ``stage.DAGS``.
    :param act: does it; returns the moment that counts, if that is not its own beginning.
    :param after: what must be there afterwards, and stay.
    :param state: the task's in the end, after the jobs that still ran have succeeded.
    :param is_alone: whether it would disturb others, so that it comes after them.
    """

    group: str
    name: str
    dag_id: str
    act: Callable[[Stage], float | None]
    after: Look
    state: str
    is_alone: bool = False

    @property
    def run_id(self) -> str:
        """Short enough for a label's value."""
        words = re.sub("[^a-z0-9]+", "-", self.name.lower())
        return f"{words[:50].strip('-')}-{zlib.crc32(self.name.encode()):08x}"

    @property
    def case(self) -> Case:
        """What must come of it."""
        return Case(self.group, self.name, self.after.jobs, self.after.live, self.state)


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    :param seconds: until the last job was stopped; None if none was.
    :param state: the task's in the end.
    """

    after: Look
    seconds: float | None
    state: str | None


def play(stage: Stage, situation: Situation) -> Outcome:
    """Bring a task to the point, let it happen, and see what comes of it."""
    stage.start()
    began = time.time()
    moment = situation.act(stage) or began
    after = stage.settled(situation.after, QUIET)
    seconds = stage.stopped_after(moment)
    if after == situation.after:
        stage.end(situation.state)
    return Outcome(after, seconds, stage.task().state)


def _set_task(state: str) -> Callable[[Stage], None]:
    return lambda stage: stage.set_task(state)


def _let_time_out(stage: Stage) -> float:
    """The moment at which the task's timeout passes."""
    return float(stage.jobs()[0]["CreateTime"]) / 1e9 + TIMEOUT


def _let_airflow_time_out(stage: Stage) -> float:
    """The moment at which the task's ``execution_timeout`` passes."""
    started = stage.task().started
    assert started is not None
    return started + TIMEOUT


def _succeed(stage: Stage) -> None:
    time.sleep(COMES_BACK)
    stage.end()
    # The scheduler ends a run by what it saw of its tasks, and leaves one alone that is cleared in that moment.
    stage.wait(lambda: stage.airflow.run(stage.dag_id, stage.run_id) == "success", "the run to end")


def _clear_when_over(stage: Stage) -> None:
    _succeed(stage)
    stage.reopen()
    stage.clear()


def _create_again(stage: Stage) -> None:
    _succeed(stage)
    time.sleep(SAME_RUN)
    stage.create_again()


def _replace_triggerer(stage: Stage, *, gracefully: bool) -> None:
    theatre, former = stage.theatre, stage.task().triggerer
    if gracefully:
        theatre.triggerer.stop()
    else:
        theatre.triggerer.kill()
    theatre.triggerer = stage.airflow.start_triggerer()
    stage.wait_for_other_triggerer(former)


def _lose_one_of_two(stage: Stage) -> None:
    theatre, former = stage.theatre, stage.task().triggerer
    second = stage.airflow.start_triggerer()
    stage.wait_for_later_triggerer(former)
    theatre.triggerer.kill()
    theatre.triggerer = second
    stage.wait_for_other_triggerer(former)


def _hang(stage: Stage) -> None:
    """The first triggerer finds, once it goes on, that its trigger is another's; Airflow takes that for a kill."""
    theatre, former = stage.theatre, stage.task().triggerer
    first, theatre.triggerer = theatre.triggerer, stage.airflow.start_triggerer()
    first.freeze()
    try:
        stage.wait_for_other_triggerer(former)
    finally:
        first.thaw()
    stage.wait(lambda: stage.has_logged("Trigger cancelled by user action"), "the first triggerer to notice")
    time.sleep(QUIET)  # in which it could stop the job
    first.kill()


def _fail_without_triggerer(stage: Stage) -> None:
    former = stage.task().triggerer
    stage.theatre.triggerer.kill()
    stage.set_task("failed")
    stage.theatre.triggerer = stage.airflow.start_triggerer()
    stage.wait_for_later_triggerer(former)


def _restart_server(stage: Stage) -> None:
    stage.theatre.network.close()
    time.sleep(5)  # long enough for several looks in vain
    stage.theatre.network.start()


SITUATIONS: tuple[Situation, ...] = (
    *(
        situation
        for mode, waiting in (("worker", "running"), ("triggerer", "deferred"))
        for situation in (
            Situation(
                BY_USERS,
                f"Set to failed while it waits in the {mode}",
                f"plain_{mode}",
                _set_task("failed"),
                Look(1, 0, "failed"),
                "failed",
            ),
            Situation(
                BY_USERS,
                f"Marked as success while it waits in the {mode}",
                f"plain_{mode}",
                _set_task("success"),
                Look(1, 0, "success"),
                "success",
            ),
            Situation(
                BY_USERS,
                f"Cleared while it waits in the {mode}",
                f"plain_{mode}",
                Stage.clear,
                Look(2, 1, waiting),
                "success",
            ),
            Situation(
                BY_USERS,
                f"Dag run set to failed while it waits in the {mode}",
                f"plain_{mode}",
                lambda stage: stage.set_run("failed"),
                Look(1, 0, "failed"),
                "failed",
            ),
            Situation(
                BY_USERS,
                f"Set to failed with cancel_on_kill=False while it waits in the {mode}",
                f"kept_{mode}",
                _set_task("failed"),
                Look(1, 1, "failed"),
                "failed",
            ),
            Situation(
                BY_USERS,
                f"Its timeout passes while it waits in the {mode}",
                f"limited_{mode}",
                _let_time_out,
                Look(1, 0, "failed"),
                "failed",
            ),
            Situation(
                BY_USERS,
                f"Cleared after success (waited in the {mode})",
                f"plain_{mode}",
                _clear_when_over,
                Look(2, 1, waiting),
                "success",
            ),
        )
    ),
    Situation(
        BY_USERS,
        "Airflow's execution_timeout passes while it waits in the worker",
        "bounded_worker",
        _let_airflow_time_out,
        Look(1, 0, "failed"),
        "failed",
    ),
    Situation(
        BY_USERS,
        "Dag run deleted after success and created again under the same id",
        "plain_triggerer",
        _create_again,
        Look(2, 1, "deferred"),
        "success",
    ),
    Situation(
        BY_CHANCE,
        "Process of the task killed (SIGKILL), retried",
        "retried_worker",
        Stage.kill_task,
        Look(1, 1, "running"),
        "success",
    ),
    Situation(
        BY_CHANCE,
        "Worker and task killed (SIGKILL), retried",
        "retried_worker",
        Stage.kill_worker,
        Look(1, 1, "running"),
        "success",
    ),
    Situation(
        BY_CHANCE,
        "Triggerer ended (SIGTERM), another one started",
        "plain_triggerer",
        lambda stage: _replace_triggerer(stage, gracefully=True),
        Look(1, 1, "deferred"),
        "success",
        is_alone=True,
    ),
    Situation(
        BY_CHANCE,
        "Triggerer killed (SIGKILL), another one started",
        "plain_triggerer",
        lambda stage: _replace_triggerer(stage, gracefully=False),
        Look(1, 1, "deferred"),
        "success",
        is_alone=True,
    ),
    Situation(
        BY_CHANCE,
        "The triggerer that watches, one of two, killed (SIGKILL)",
        "plain_triggerer",
        _lose_one_of_two,
        Look(1, 1, "deferred"),
        "success",
        is_alone=True,
    ),
    Situation(
        BY_CHANCE,
        "The triggerer that watches hangs until another has taken over, then goes on",
        "plain_triggerer",
        _hang,
        Look(1, 1, "deferred"),
        "success",
        is_alone=True,
    ),
    Situation(
        BY_CHANCE,
        "Set to failed while no triggerer runs",
        "plain_triggerer",
        _fail_without_triggerer,
        Look(1, 1, "failed"),
        "failed",
        is_alone=True,
    ),
    *(
        Situation(
            BY_CHANCE,
            f"Server restarted while the task waits in the {mode}",
            f"plain_{mode}",
            _restart_server,
            Look(1, 1, waiting),
            "success",
            is_alone=True,
        )
        for mode, waiting in (("worker", "running"), ("triggerer", "deferred"))
    ),
)
