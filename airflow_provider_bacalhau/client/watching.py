"""Waiting for a job: looking at it again and again, through whatever happens to the server meanwhile.

How often is in :mod:`~airflow_provider_bacalhau.client.waiting`; here is what each look means for the wait.
"""

from __future__ import annotations

import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_provider_bacalhau.client.diagnosis import JobOutcome
from airflow_provider_bacalhau.client.effects import Sleep
from airflow_provider_bacalhau.client.errors import BacalhauError, ServerUnavailable, Unreachable, WaitTimeout
from airflow_provider_bacalhau.client.facts import Job
from airflow_provider_bacalhau.client.waiting import DEFAULT_POLL_INTERVAL, MOST_FAILED_POLLS, YOUNG, poll_delay

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client.dialects.dialect import Dialect

log = logging.getLogger(__name__)

_LOOK_FOR_KILL_EVERY = 0.5


class Watching(ABC):
    """The part of the operations that waits for jobs and judges them."""

    _clock: Callable[[], float]

    @abstractmethod
    async def dialect(self) -> Dialect:
        """The API that the server speaks."""

    async def wait(
        self,
        job_id: str,
        *,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        deadline: float | None = None,
        on_change: Callable[[Job], object] | None = None,
        is_cancelled: Callable[[], bool] | None = None,
    ) -> Job:
        """Wait until a job is over, or the caller loses interest.

        :param job_id: full id.
        :param poll_interval: seconds between two looks at a job older than a minute; see
            :func:`~airflow_provider_bacalhau.client.waiting.poll_delay`.
        :param deadline: seconds since the epoch at which to give up; None for never.
        :param on_change: told the job each time its state differs from the last look.
        :param is_cancelled: asked at least twice a second; once true, the wait ends with the job as last seen.
        :returns: the job, over unless ``is_cancelled``.
        :raises WaitTimeout: at the deadline. The job is left as it is.
        :raises NotFound: for an unknown id.
        :raises Unreachable: when ten looks in a row got no answer; the job may still be running.
        """
        begun = self._clock()
        failed_since, failed_polls = begun, 0
        trouble: BacalhauError | None = None
        last: Job | None = None
        while True:
            asked = self._clock()
            try:
                job = await (await self.dialect()).get(job_id)
            except (Unreachable, ServerUnavailable) as error:
                failed_polls += 1
                trouble = error
                failed_since = asked if failed_polls == 1 else failed_since
                if failed_polls >= MOST_FAILED_POLLS:
                    tried = self._clock() - failed_since
                    raise error.noted(
                        f"Job {job_id} may still be running; it was looked for {failed_polls} times in {tried:.0f} s."
                    ) from None
            else:
                failed_polls = 0
                if on_change is not None and (last is None or job.state is not last.state):
                    on_change(job)
                last = job
                if job.state.is_terminal:
                    return job
            now = self._clock()
            if deadline is not None and now >= deadline:
                where = f"it is {last.state.value}" if last else "it could not be looked at"
                raise WaitTimeout(f"Job {job_id} was not over in time: {where} after {now - begun:.0f} s of waiting.")
            if failed_polls == 1:
                log.warning("Cannot look at job %s just now, trying on: %s", job_id, trouble)
            delay = poll_delay(self._age(last, begun, now), poll_interval, random.random())  # noqa: S311
            if deadline is not None:
                delay = min(delay, max(0.0, deadline - now))
            if await self._pause(delay, is_cancelled):
                if last is None:
                    raise WaitTimeout(f"The wait for job {job_id} was given up before it could be looked at.")
                return last

    @staticmethod
    def _age(job: Job | None, begun: float, now: float) -> float:
        """A job's age in seconds, for the pace of looking at it."""
        known = now - job.created if job and job.created else 0.0
        # The server's clock may be behind ours: it may tell that a job is not young, but not slow the pace further.
        return max(now - begun, min(known, YOUNG))

    async def _pause(self, seconds: float, is_cancelled: Callable[[], bool] | None) -> bool:
        """Sleep; whether the caller lost interest meanwhile."""
        if is_cancelled is None:
            await Sleep(seconds)
            return False
        while seconds > 0 and not is_cancelled():
            part = min(seconds, _LOOK_FOR_KILL_EVERY)
            await Sleep(part)
            seconds -= part
        return is_cancelled()

    async def outcome(self, job_id: str) -> JobOutcome:
        """Read a job with all that is known of it, and judge it.

        :param job_id: full id.
        :raises NotFound: for an unknown id.
        """
        return JobOutcome.of(await (await self.dialect()).get(job_id, executions=True, history=True))
