"""One job for a task, whatever users do to it and whatever dies: on a whole Airflow, with real processes and jobs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import airflow
import pytest

from tests.support.reliability import Case, record

from .situations import SITUATIONS, STOP_BOUND, Outcome, Situation, play
from .stage import AT_ONCE, Stage, Theatre

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(airflow.__version__.startswith("2."), reason="needs the REST API and the triggers of Airflow 3"),
    pytest.mark.timeout(1200),
]

Played = dict[Situation, tuple[Stage, "Future[Outcome]"]]


@pytest.fixture(scope="module")
def played(whole_airflow: Theatre) -> Iterator[Played]:
    """Every situation, under way or over: side by side, then one by one those that would disturb the others."""
    stages = {situation: Stage(whole_airflow, situation.dag_id, situation.run_id) for situation in SITUATIONS}
    together = [situation for situation in SITUATIONS if not situation.is_alone]
    # No more at once than Airflow runs tasks: none waits for its turn while time is measured.
    with ThreadPoolExecutor(AT_ONCE) as pool, ThreadPoolExecutor(1) as alone:
        # The last ones of the table take longest, so they come first.
        futures = {situation: pool.submit(play, stages[situation], situation) for situation in reversed(together)}
        alone.submit(wait, list(futures.values()))
        futures |= {
            situation: alone.submit(play, stages[situation], situation)
            for situation in SITUATIONS
            if situation.is_alone
        }
        try:
            yield {situation: (stages[situation], future) for situation, future in futures.items()}
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            alone.shutdown(wait=False, cancel_futures=True)


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.run_id)
def test_a_task_has_one_job_and_nothing_is_left_running(situation: Situation, played: Played) -> None:
    stage, future = played[situation]
    outcome = future.result()
    assert outcome.after == situation.after, stage.evidence()
    assert outcome.state == situation.state, stage.evidence()
    [key] = stage.task_keys()
    assert key, stage.evidence()
    assert stage.job_id() == stage.jobs()[-1]["ID"], stage.evidence()
    within = None
    if outcome.seconds is not None:
        within = STOP_BOUND
        assert outcome.seconds < within, stage.evidence()
    found = Case(situation.group, situation.name, outcome.after.jobs, outcome.after.live, outcome.state)
    record(found, seconds=outcome.seconds, within=within)
