"""Waiting for a job: looking at it again and again, through whatever happens to the server meanwhile.

How often is in :mod:`~airflow_provider_bacalhau.client.waiting`; here is what each look means for the wait.
"""

from __future__ import annotations

import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_bacalhau.client.diagnosis import JobOutcome
from airflow_provider_bacalhau.client.effects import Operation, Request, Response, Sleep, with_requests
from airflow_provider_bacalhau.client.errors import (
    BacalhauError,
    JobHopeless,
    NotAuthorised,
    NotFound,
    NotSupported,
    ServerUnavailable,
    UnexpectedAnswer,
    Unreachable,
    WaitTimeout,
)
from airflow_provider_bacalhau.client.facts import Job
from airflow_provider_bacalhau.client.placement import has_used_up_its_nodes, is_hopeless
from airflow_provider_bacalhau.client.states import JobState
from airflow_provider_bacalhau.client.success import SuccessPolicy
from airflow_provider_bacalhau.client.waiting import (
    DEFAULT_POLL_INTERVAL,
    FORGOTTEN_AFTER,
    LOST_AFTER,
    MOST_FAILED_POLLS,
    YOUNG,
    denied,
    exchange_timeout,
    poll_delay,
)

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client.dialects.dialect import Dialect

log = logging.getLogger(__name__)

_LOOK_FOR_KILL_EVERY = 0.5
_WAITS = {JobState.PENDING, JobState.QUEUED}


@dataclass
class _Watch:
    """What one wait has seen so far.

    :param begun: when the wait began.
    :param is_known: whether the job was there before that.
    :param last: the job as last seen; ``seen`` is when.
    :param failed: looks in a row that got no answer, the first of them at ``failed_since``.
    :param gone_since: since when the server answers that it knows no such job.
    :param was_away: whether the server was out of reach, and the job has not moved since.
    :param still_since: since when the job was seen to wait unchanged after that, or to be Pending.
    :param has_warned: whether it was said that the server may have forgotten the job.
    :param suspected: whether the last look found that every node tried has had its tries.
    """

    job_id: str
    begun: float
    is_known: bool = False
    last: Job | None = None
    seen: float = 0.0
    failed: int = 0
    failed_since: float = 0.0
    gone_since: float | None = None
    still_since: float | None = None
    was_away: bool = False
    suspected: bool = False
    has_warned: bool = False

    @property
    def was_there(self) -> bool:
        """Whether the server has known the job."""
        return self.is_known or self.last is not None

    def saw(self, job: Job, now: float) -> None:
        """The job was there."""
        if (self.failed or self.gone_since is not None) and not job.state.is_terminal:  # of which the log has told
            log.info("Job %s can be looked at again: it is %s.", self.job_id, job.state.value)
        self.failed, self.gone_since = 0, None
        before, self.last, self.seen = self.last, job, now
        if job.state not in _WAITS or (before and (before.state, before.modified) != (job.state, job.modified)):
            self.was_away, self.still_since = False, None  # it moves, so the server has it on its mind
        elif self.was_away or job.state is JobState.PENDING:  # a job that is queued may be so for hours
            self.still_since = now if self.still_since is None else self.still_since
            self._warn_once(job, now - self.still_since)

    def _warn_once(self, job: Job, seconds: float) -> None:
        if seconds <= FORGOTTEN_AFTER or self.has_warned:
            return
        self.has_warned = True
        log.warning(
            "Job %s is %s and has not changed for %.0f s%s. A server that restarts may forget the jobs that wait in "
            "it, and an input that is nowhere to be found can hold up a node: if this one does not move, stop it and "
            "submit it again (clear the task).",
            self.job_id,
            job.state.value,
            FORGOTTEN_AFTER,
            ", since the server was away" if self.was_away else "",
        )

    def missed(self, error: BacalhauError, asked: float, now: float) -> None:
        """No answer came, or none that can be read: a proxy may answer in the server's place.

        :raises BacalhauError: the error, when it was one too many, or the address never led to the job.
        """
        if isinstance(error, UnexpectedAnswer) and not self.was_there:
            raise error
        self.failed += 1
        self.was_away, self.still_since = True, None
        self.failed_since = asked if self.failed == 1 else self.failed_since
        if self.failed >= MOST_FAILED_POLLS:
            raise error.noted(
                f"Job {self.job_id} may still be running; it was looked for {self.failed} times in "
                f"{now - self.failed_since:.0f} s."
            ) from None

    def did_not_find(self, now: float) -> None:
        """The server answered that it knows no such job, which it knew before.

        :raises JobLost: when it has answered so for long enough.
        """
        self.failed = 0
        self.gone_since = denied(
            self.job_id, self.gone_since, now, self.last, self.seen, log, otherwise="seen before this wait"
        )

    def wants_executions(self, dialect: Dialect) -> bool:
        """Whether the next look is to bring the executions, since they may show that nothing can come of the job.

        They come in the same answer, and only a job that waits is of interest: while it says so by its state or, on
        servers whose jobs do not, always.
        """
        return self.last is not None and (self.last.state in _WAITS or dialect.can.hides_waiting)

    @property
    def stand(self) -> str:
        """Where the job stood, for a message."""
        if self.gone_since is not None:
            return "the server does not know it any more"
        return f"it is {self.last.state.value}" if self.last else "it could not be looked at"

    def age(self, now: float) -> float:
        """The job's age in seconds, for the pace of looking at it."""
        known = now - self.last.created if self.last and self.last.created else 0.0
        # The server's clock may be behind ours: it may tell that a job is not young, but not slow the pace further.
        return max(now - self.begun, min(known, YOUNG))

    def cap(self, delay: float, now: float, deadline: float | None) -> float:
        """The delay, ending no later than the deadline and the job's grace."""
        ends = [] if deadline is None else [deadline]
        ends += [] if self.gone_since is None else [self.gone_since + LOST_AFTER]
        return min([delay, *(max(0.0, end - now) for end in ends)])


class Watching(ABC):
    """The part of the operations that waits for jobs and judges them."""

    _clock: Callable[[], float]
    _timeout: float

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
        is_known: bool = False,
        fail_fast: bool = False,
    ) -> Job:
        """Wait until a job is over, or the caller loses interest.

        :param job_id: full id.
        :param poll_interval: seconds between two looks at a job older than a minute; see
            :func:`~airflow_provider_bacalhau.client.waiting.poll_delay`.
        :param deadline: seconds since the epoch at which to give up; None for never.
        :param on_change: told the job each time its state differs from the last look.
        :param is_cancelled: asked at least twice a second; once true, the wait ends with the job as last seen.
        :param is_known: whether the caller knows that the job was there: then it is lost if the server denies it.
        :param fail_fast: whether to end the wait as soon as nothing can run the job any more; servers let such a job
            wait until its queue timeout has passed.
        :returns: the job, over unless ``is_cancelled``.
        :raises WaitTimeout: at the deadline, or a few seconds later while the server hangs. The job is left as it is.
        :raises NotFound: for an id that was never seen.
        :raises JobLost: when the server has answered for 20 s that it does not know the job that was there before.
        :raises JobHopeless: by ``fail_fast``. The job is left as it is.
        :raises Unreachable: when ten looks in a row got no answer; the job may still be running.
        :raises ServerUnavailable: the same, with an answer that it cannot answer.
        :raises UnexpectedAnswer: the same, with answers that are not Bacalhau's; at once if the job was never seen.
        """
        watch = _Watch(job_id, self._clock(), is_known=is_known)
        while True:
            asked = self._clock()
            trouble: BacalhauError | None = None
            try:
                job = await self._in_time(self._look(watch, fail_fast=fail_fast), deadline)
            except (Unreachable, ServerUnavailable, UnexpectedAnswer) as error:
                trouble = error
                watch.missed(error, asked, self._clock())
            except NotFound:
                if not watch.was_there:
                    raise
                watch.did_not_find(asked)
            else:
                if on_change is not None and (watch.last is None or job.state is not watch.last.state):
                    on_change(job)
                watch.saw(job, asked)
                if job.state.is_terminal:
                    return job
            now = self._clock()
            if deadline is not None and now >= deadline:
                raise WaitTimeout(
                    f"Job {job_id} was not over in time: {watch.stand} after {now - watch.begun:.0f} s of waiting."
                )
            if watch.failed == 1:
                log.warning("Cannot look at job %s just now, trying on: %s", job_id, trouble)
            delay = watch.cap(poll_delay(watch.age(now), poll_interval, random.random()), now, deadline)  # noqa: S311
            if await self._pause(delay, is_cancelled):
                if watch.last is None:
                    raise WaitTimeout(f"The wait for job {job_id} was given up before it could be looked at.")
                return watch.last

    async def _in_time(self, look: Operation[Job], deadline: float | None) -> Job:
        """Look, but wait for no answer until long after the deadline."""

        async def send(request: Request) -> Response:
            seconds = request.timeout or self._timeout
            left = None if deadline is None else deadline - self._clock()
            return await replace(request, timeout=exchange_timeout(seconds, left))

        return await with_requests(look, send)

    async def _look(self, watch: _Watch, *, fail_fast: bool) -> Job:
        """Look at the job once.

        :raises JobHopeless: when nothing can run it any more, and that is of interest.
        """
        dialect = await self.dialect()
        job = await dialect.get(watch.job_id, executions=fail_fast and watch.wants_executions(dialect))
        if not fail_fast or not has_used_up_its_nodes(job):
            watch.suspected = False
            return job
        # The scheduler's own word counts at once: it looks at all nodes, and the tries are counted besides, so the
        # moment between two tries is no end. Where it gives none (v1.3.2, and jobs that never got beyond Pending), the
        # list of nodes has to do, and a second look that finds the same: the list and the job are two answers.
        is_certain = is_hopeless(job)
        if not is_certain and watch.suspected:
            is_certain = is_hopeless(job, await self._nodes_that_take_jobs(dialect))
        watch.suspected = True
        if not is_certain:
            return job
        job = await dialect.get(watch.job_id, executions=True, history=True)
        if has_used_up_its_nodes(job):
            raise JobHopeless(JobOutcome.of(job, is_hopeless=True))
        return job

    async def _nodes_that_take_jobs(self, dialect: Dialect) -> list[str]:
        """Ids of these nodes; none where they cannot be asked for, which settles nothing."""
        try:
            return [node.id for node in await dialect.nodes() if node.takes_jobs]
        except (NotAuthorised, NotSupported) as error:
            log.debug("Which nodes the network has cannot be asked: %s", error)
            return []

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

    async def outcome(self, job_id: str, *, policy: SuccessPolicy = "all") -> JobOutcome:
        """Read a job with all that is known of it, and judge it.

        :param job_id: full id.
        :param policy: how many of its executions have to succeed; see
            :func:`~airflow_provider_bacalhau.client.success.has_succeeded`.
        :raises NotFound: for an unknown id.
        """
        return JobOutcome.of(await (await self.dialect()).get(job_id, executions=True, history=True), policy)
