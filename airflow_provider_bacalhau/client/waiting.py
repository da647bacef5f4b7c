"""How often to look at a job, and for how long to put up with a server that does not answer: pure rules."""

from __future__ import annotations

from logging import Logger
from typing import TYPE_CHECKING

from airflow_provider_bacalhau.client.errors import JobLost
from airflow_provider_bacalhau.client.reading import iso_of

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client.facts import Job

from airflow_provider_bacalhau.client.retry import MAX_ATTEMPTS

DEFAULT_POLL_INTERVAL = 5.0
"""Seconds between two looks at a job that is a minute old."""

FIRST_DELAY = 0.1
"""Seconds before the second look: a quick job takes 0.1-0.25 s on a real node."""

YOUNG = 60.0
"""Age in seconds up to which a job is looked at more often than ``poll_interval``."""

MOST_FAILED_POLLS = 10
"""Looks in a row that may fail, each with its own retries, before the wait gives up: a server may be restarting."""

LOST_AFTER = 20.0
"""Seconds for which a server has to deny a job that was there, until it counts as lost: it may be starting up."""

FORGOTTEN_AFTER = 150.0
"""Seconds without a change, after the server was away, that are suspicious in a job that waits for a node.

More than two back-offs of the scheduler (60 s each): a server that restarts never looks at such jobs again.
"""

_LEAST_TIMEOUT = 1.0
_SHARE_OF_AGE = 0.1
_OLD = 600.0
_SLOWEST = 6.0


def poll_delay(age: float, interval: float, jitter: float) -> float:
    """Seconds until the next look at a job.

    A tenth of its age while it is young, so a quick job is seen to end quickly; ``interval`` from its first minute on;
    up to six times that for jobs that have run for hours, whose end nobody awaits to the second.

    :param age: seconds since the job was created.
    :param interval: the caller's ``poll_interval`` in seconds.
    :param jitter: 0 to 1; spreads waiters that began together.
    """
    interval = max(interval, FIRST_DELAY)
    if age < YOUNG:
        delay = min(interval, max(FIRST_DELAY, age * _SHARE_OF_AGE))
        return delay * (1.0 + 0.2 * jitter)
    stretch = min(_SLOWEST, max(1.0, age / _OLD))
    return interval * stretch * (1.0 + 0.2 * jitter)


def exchange_timeout(seconds: float, left: float | None) -> float:
    """Seconds that one exchange may take, so that a server that hangs holds up a wait for little beyond its deadline.

    A request is sent up to five times, which together is not to take longer than what is left; at least a second each.

    :param seconds: the timeout without a deadline.
    :param left: seconds until the deadline; None for none.
    """
    return seconds if left is None else min(seconds, max(_LEAST_TIMEOUT, left / MAX_ATTEMPTS))


def denied(
    job_id: str, since: float | None, now: float, last: Job | None, seen: float, log: Logger, *, otherwise: str
) -> float:
    """Bear with a server that denies a job which it knew before: for a while.

    :param since: since when it does, in seconds since the epoch; None if it has just begun to.
    :param last: the job as last seen, at ``seen``; None for one that was seen elsewhere, which ``otherwise`` says.
    :param log: is told when it begins.
    :returns: since when it does.
    :raises JobLost: when it has for :data:`LOST_AFTER`.
    """
    if since is None:
        log.warning("The server does not know job %s any more; looking for it for another %.0f s.", job_id, LOST_AFTER)
        return now
    if now - since >= LOST_AFTER:
        known = f"last seen {last.state.value} at {iso_of(seen)}" if last else otherwise
        evidence = (f"it was {known}", f"since {iso_of(since)} the server answers that there is no such job")
        raise JobLost(job_id, evidence) from None
    return since
