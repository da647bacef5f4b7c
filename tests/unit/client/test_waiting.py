"""How often a job is looked at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bacalhau.client.waiting import FIRST_DELAY, YOUNG, poll_delay

AGE = st.floats(0, 1e7)
INTERVAL = st.floats(0.1, 3600)
JITTER = st.floats(0, 1)


@given(AGE, INTERVAL, JITTER)
def test_a_delay_is_bounded_and_never_none_at_all(age: float, interval: float, jitter: float) -> None:
    delay = poll_delay(age, interval, jitter)
    assert FIRST_DELAY <= delay <= interval * 6 * 1.2 + 1e-9


@given(st.floats(YOUNG, 1e7), INTERVAL, JITTER)
def test_a_job_older_than_a_minute_is_never_looked_at_faster_than_asked(
    age: float, interval: float, jitter: float
) -> None:
    assert poll_delay(age, interval, jitter) >= interval


@given(AGE, AGE, INTERVAL, JITTER)
def test_an_older_job_is_not_looked_at_more_often(one: float, other: float, interval: float, jitter: float) -> None:
    younger, older = sorted([one, other])
    assert poll_delay(younger, interval, jitter) <= poll_delay(older, interval, jitter)


@given(AGE, JITTER)
def test_an_interval_of_nothing_is_no_busy_loop(age: float, jitter: float) -> None:
    for interval in (0.0, -1.0):
        assert poll_delay(age, interval, jitter) >= FIRST_DELAY


def test_a_quick_job_is_seen_to_end_quickly_and_a_long_one_is_left_in_peace() -> None:
    looks, now = [], 0.0
    while now < 3600:
        looks.append(now)
        now += poll_delay(now, 5.0, 0.0)
    assert sum(look < 1.0 for look in looks) >= 8
    assert sum(look < 60.0 for look in looks) <= 60
    assert len(looks) < 400
