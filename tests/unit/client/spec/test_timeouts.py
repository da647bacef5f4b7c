from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.spec import apply_timeouts, read_job_spec

Make = Callable[..., dict[str, Any]]
WEEK = 7 * 24 * 3600


def limits(job: dict[str, Any], **given_limits: Any) -> dict[str, int]:
    wire = apply_timeouts(read_job_spec(job), **given_limits).to_wire()["Tasks"][0]
    return {key.removesuffix("Timeout"): value for key, value in wire.get("Timeouts", {}).items()}


@pytest.mark.parametrize(
    ("written", "given_limits", "sent"),
    [
        ({}, {}, {"Total": WEEK}),
        ({}, {"wait_timeout": 60}, {"Total": 180}),
        ({}, {"wait_timeout": 59.5}, {"Total": 180}),
        ({}, {"wait_timeout": timedelta(minutes=1)}, {"Total": 180}),
        ({}, {"wait_timeout": 0}, {"Total": 120}),
        ({}, {"wait_timeout": 60, "execution_timeout": 600}, {"Execution": 600, "Total": 720}),
        (
            {},
            {"wait_timeout": 60, "execution_timeout": 30, "queue_timeout": 20},
            {"Execution": 30, "Queue": 20, "Total": 180},
        ),
        ({}, {"execution_timeout": WEEK}, {"Execution": WEEK, "Total": WEEK + 120}),
        ({}, {"queue_timeout": 0}, {"Queue": 0, "Total": WEEK}),
        ({}, {"total_timeout": 50, "wait_timeout": 600}, {"Total": 50}),
        ({"TotalTimeout": 50}, {"wait_timeout": 600}, {"Total": 50}),
        ({"TotalTimeout": 50}, {"total_timeout": 70}, {"Total": 70}),
        (
            {"TotalTimeout": 50, "ExecutionTimeout": 20, "QueueTimeout": 30},
            {},
            {"Execution": 20, "Queue": 30, "Total": 50},
        ),
        ({"TotalTimeout": 0}, {}, {"Total": WEEK}),
        ({"ExecutionTimeout": 5}, {"execution_timeout": 6}, {"Execution": 6, "Total": WEEK}),
        (
            {"ExecutionTimeout": 900, "QueueTimeout": 100},
            {"wait_timeout": 60},
            {"Execution": 900, "Queue": 100, "Total": 1120},
        ),
    ],
)
def test_the_limits_of_a_batch_job(
    docker: Make, written: dict[str, int], given_limits: dict[str, Any], sent: dict[str, int]
) -> None:
    assert limits(docker(Timeouts=written), **given_limits) == sent
    assert limits(docker({"Type": "ops"}, Timeouts=written), **given_limits) == sent


@pytest.mark.parametrize("kind", ["service", "daemon"])
def test_a_job_that_does_not_end_has_only_the_limits_that_someone_gave(docker: Make, kind: str) -> None:
    assert limits(docker({"Type": kind})) == {}
    assert limits(docker({"Type": kind}), wait_timeout=60, execution_timeout=5) == {"Execution": 5}


@pytest.mark.parametrize(
    ("written", "given_limits"),
    [
        ({"TotalTimeout": 59, "ExecutionTimeout": 40, "QueueTimeout": 20}, {}),
        ({"TotalTimeout": 59}, {"execution_timeout": 60}),
        ({}, {"total_timeout": 59, "queue_timeout": 60}),
    ],
)
def test_a_total_limit_that_servers_refuse_is_refused(
    docker: Make, written: dict[str, int], given_limits: dict[str, int]
) -> None:
    with pytest.raises(InvalidJobSpec, match="A total limit of 59 s is less than the limits of queue"):
        limits(docker(Timeouts=written), **given_limits)


@pytest.mark.parametrize("name", ["queue", "execution", "total"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), timedelta(seconds=-1), "2s", True, {}])
def test_a_limit_that_is_none_is_refused(docker: Make, name: str, value: Any) -> None:
    with pytest.raises(InvalidJobSpec, match=f"job_{name}_timeout: is .* must be a number of seconds"):
        limits(docker(), **{f"{name}_timeout": value})


SECONDS = st.none() | st.integers(0, 10**8)


@given(wait=SECONDS, queue=SECONDS, execution=SECONDS)
def test_a_limit_that_we_choose_is_one_that_servers_take(
    wait: int | None, queue: int | None, execution: int | None
) -> None:
    job = {"Type": "batch", "Tasks": [{"Engine": {"Type": "docker", "Params": {"Image": "a"}}}]}
    sent = limits(job, wait_timeout=wait, queue_timeout=queue, execution_timeout=execution)
    assert sent["Total"] >= sent.get("Execution", 0) + sent.get("Queue", 0) + 120
    assert wait is None or sent["Total"] >= wait + 120
