"""The limits that a job is sent with, and durations as users give them."""

from __future__ import annotations

import math
from datetime import timedelta

from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.spec.models import JobSpec, Timeouts

GRACE = 120
"""Seconds by which the server's limit lies beyond what it must allow for, so that it is the net and not the trap."""

DEFAULT_TOTAL = 7 * 24 * 3600
"""Seconds that a job may take when nobody says anything: v1.4 would otherwise end it after 30 minutes, and later
servers would let it queue and run for ever."""

_ENDING = ("batch", "ops")


def apply_timeouts(
    spec: JobSpec,
    *,
    wait_timeout: float | timedelta | None = None,
    queue_timeout: float | timedelta | None = None,
    execution_timeout: float | timedelta | None = None,
    total_timeout: float | timedelta | None = None,
) -> JobSpec:
    """The job with its limits, in seconds. What is given here wins over the specification.

    A batch or ops job without a total limit gets one: ``wait_timeout`` and two minutes, or seven days; in any case two
    minutes more than its queue and execution limits together, since servers refuse less than their sum. The queue limit
    is sent only when someone gives it.

    :param wait_timeout: how long the caller waits for the job.
    :param queue_timeout: how long the job may wait for a node.
    :param execution_timeout: how long one execution may take.
    :param total_timeout: how long the job may take, retries included.
    :raises InvalidJobSpec: for a negative limit, and when a total limit that someone gave is below the sum of the
        others.
    """
    old = spec.task.timeouts or Timeouts()
    queue = _choose("job_queue_timeout", queue_timeout, old.queue_timeout)
    execution = _choose("job_execution_timeout", execution_timeout, old.execution_timeout)
    total = _choose("job_total_timeout", total_timeout, old.total_timeout)
    needed = (queue or 0) + (execution or 0)
    if total and total < needed:
        raise InvalidJobSpec(
            f"A total limit of {total} s is less than the limits of queue ({queue or 0} s) and execution "
            f"({execution or 0} s) together, and servers refuse that.",
            place="Tasks[0].Timeouts.TotalTimeout",
            hint="Raise it, or leave it out.",
        )
    if not total and spec.type in _ENDING:
        wait = _seconds("timeout", wait_timeout)
        total = max(DEFAULT_TOTAL if wait is None else wait + GRACE, needed + GRACE)
    limits = {"queue_timeout": queue, "execution_timeout": execution, "total_timeout": total}
    return spec.with_task(timeouts=old.model_copy(update=limits))


def _choose(name: str, given: float | timedelta | None, written: int | None) -> int | None:
    return written if given is None else _seconds(name, given)


def _seconds(name: str, value: float | timedelta | None) -> int | None:
    """Whole seconds, rounded up."""
    return None if value is None else math.ceil(check_seconds(value, name))


def check_seconds(value: object, name: str, *, above_zero: bool = False) -> float:
    """A duration as somebody gave it, in seconds.

    :param value: a number of seconds, or a timedelta.
    :param name: what the user calls it, for the error.
    :param above_zero: whether zero makes no sense either.
    :raises InvalidJobSpec: for anything else.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, int | float) and not isinstance(seconds, bool):
        if math.isfinite(seconds) and (seconds > 0 or (seconds == 0 and not above_zero)):
            return float(seconds)
        shown = str(value)
    else:
        shown = repr(value)[:60]
    bound = "above zero" if above_zero else "that is not negative"
    raise InvalidJobSpec(f"is {shown}, and must be a number of seconds {bound}, or a timedelta.", place=name)
