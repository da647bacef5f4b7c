"""Waiting for a job in the triggerer, the event that tells how it went, and the stop when the task is killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, cast, get_args

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_bacalhau import version_compat, xcom
from airflow_provider_bacalhau.hooks.bacalhau import BacalhauHook

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client.errors import BacalhauError

ASK_SECONDS: Final = 60.0
"""How long Airflow may take to tell how the task stands, before the job of a killed task is left alone. The first
question of a fresh triggerer was seen to take 14 s on a busy machine."""

STOP_SECONDS: Final = 10.0
"""How long stopping a job may take."""

GRACE: Final = 60.0
"""Seconds by which Airflow's own limit of a wait lies beyond the trigger's."""

LEAST_SECONDS: Final = 3.0
"""How long a wait takes at least. Airflow fails a task that is queued again before its scheduler has heard that the
worker is done with it ("finished with state success, but the task instance's state attribute is queued"): of tasks with
quick jobs 6 in 350, on a busy machine with Airflow 3.3.2 and its LocalExecutor; with the pause none in 330."""

_MOST_FACTS: Final = 10
_LONGEST_FACT: Final = 350  # one may quote 300 characters of a server's, and tell how many there were

EventStatus = Literal["over", "timeout", "hopeless", "lost", "failed"]


class JobEvent(TypedDict):
    """What the trigger tells the task that it wakes; stored in Airflow's database and shown, so it holds no secret.

    ``status`` is one of:

    - ``over``: the job has ended, in success or not.
    - ``timeout``: the deadline has passed first. The job is as it was.
    - ``hopeless``: no node can run the job any more, though the server still holds it for waiting; with ``fail_fast``
      only. The job is as it was.
    - ``lost``: the server knew the job and does not any longer.
    - ``failed``: the job could not be watched any longer, and may be running. ``permanent`` tells whether to watch it
      again would fail again, and ``category`` of which ``FailureCategory`` that is.

    ``message`` says why, for all but ``over``; ``hint`` what to do about it, and ``facts`` are the lines that a task
    shows between the two.
    """

    status: EventStatus
    job_id: str
    message: str
    hint: str
    facts: list[str]
    permanent: bool
    category: str


def check_event(event: Mapping[str, Any] | None) -> JobEvent:
    """Return the event, or fail loudly: a task must never go green for want of one.

    Triggers of older releases may be at work yet; what they do not tell is empty.

    :raises ValueError: when it is none of this trigger's.
    """
    if not event or event.get("status") not in get_args(EventStatus) or not event.get("job_id"):
        raise ValueError(f"The trigger ended without telling how its job did: {event!r}")
    return cast(JobEvent, {"message": "", "hint": "", "facts": [], "permanent": False, "category": "", **event})


def error_of(event: JobEvent) -> BacalhauError | None:
    """The error that the wait ended with, as a wait in the task itself would have raised it or told of it.

    :param event: as ``check_event`` returns it.
    :returns: ``WaitTimeout``, ``JobLost`` or ``WatchFailed``; None where the job has to be looked at: it is over, or
        nothing can run it any more.
    """
    from airflow_provider_bacalhau.client.errors import JobLost, WaitTimeout, WatchFailed

    told, facts = event["message"], event["facts"]
    match event["status"]:
        case "timeout":
            return WaitTimeout(told, hint=event["hint"], facts=facts)
        case "lost":
            return JobLost(event["job_id"], facts or [told])
        case "failed":
            return WatchFailed(
                told, hint=event["hint"], facts=facts, permanent=event["permanent"], category=event["category"]
            )
    return None


def may_be_stopped(job_id: str, task: version_compat.TaskNow) -> bool:
    """Whether the job of a trigger that was cancelled is nobody's any more, as far as its task tells.

    A trigger is also cancelled when another triggerer has taken it over, and its task may be in a newer attempt that
    has adopted the job. In doubt the answer is no: a job that runs on by mistake ends with its total timeout, and a
    newer attempt finds it; a job that is stopped by mistake has worked for nothing.

    :param task: with the id of the job that its newest attempt waits for, None while it has not got one.
    """
    if task.state in _RETRIED:
        return False
    if task.state == "deferred":
        # Every attempt leaves its job's id before it defers: with ours it waits for our job, by another trigger.
        return task.xcom not in (None, job_id)
    if task.state == "running":
        # An attempt begins without that id; with ours it has adopted our job, or has come back from its trigger.
        return bool(task.xcom != job_id)
    # Ended, gone, or cleared and not yet begun. Where another triggerer has told it that the job is over, a stop does
    # not change that any more.
    return True


_RETRIED: Final = ("up_for_retry", "up_for_reschedule", "restarting")
"""States after which the next attempt adopts the job. Clearing a deferred task leads into none of them."""


class BacalhauJobTrigger(BaseTrigger):
    """Waits until a job is over, without a worker.

    One client is shared by all triggers of a connection in one triggerer. State changes are logged, looks are not. A
    server that restarts is waited for. When the triggerer is stopped, or another one takes over, the job is left alone.

    :param job_id: id of the job, which exists or has existed.
    :param bacalhau_conn_id: id of the connection.
    :param poll_interval: seconds between two looks at a job that is older than a minute; younger ones are looked at
        more often, much older ones less.
    :param deadline: seconds since the epoch at which to give up; None for never. Wall-clock, since a trigger moves from
        one triggerer to another.
    :param fail_fast: whether to give up a job as soon as no node can run it any more.
    :param kill_reason: what to stop the job with when a person ends or clears the task; None leaves it running.
    """

    def __init__(
        self,
        job_id: str,
        bacalhau_conn_id: str,
        poll_interval: float = 5.0,
        deadline: float | None = None,
        fail_fast: bool = False,
        kill_reason: str | None = None,
    ) -> None:
        super().__init__()
        self.job_id = job_id
        self.bacalhau_conn_id = bacalhau_conn_id
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.fail_fast = fail_fast
        self.kill_reason = kill_reason
        self._has_fired = False

    @property
    def net(self) -> timedelta | None:
        """Airflow's own limit of the wait, for when no triggerer is left to see the deadline pass."""
        return None if self.deadline is None else timedelta(seconds=max(0.0, self.deadline - time.time()) + GRACE)

    @cached_property
    def _hook(self) -> BacalhauHook:
        return BacalhauHook(self.bacalhau_conn_id)  # the kill finds the connection as the watch has read it

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to make this trigger again: plain values, and the connection by its id."""
        arguments: dict[str, Any] = {
            "job_id": self.job_id,
            "bacalhau_conn_id": self.bacalhau_conn_id,
            "poll_interval": self.poll_interval,
            "deadline": self.deadline,
        }
        # Left out where they say nothing, so that a triggerer with an older release of this package can load it.
        if self.fail_fast:
            arguments["fail_fast"] = True
        if self.kill_reason is not None:
            arguments["kill_reason"] = self.kill_reason
        return "airflow_provider_bacalhau.triggers.bacalhau.BacalhauJobTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then yield one event."""
        begun = time.monotonic()
        # The client is closed before the event: what a trigger awaits after it can be taken for a kill of the task.
        try:
            event = await self._watch()
        except asyncio.CancelledError:
            # Ctrl-C under dag.test(), which runs a trigger without a triggerer, and calls neither of the two below.
            if self.task_instance is None and self.kill_reason is not None:
                await self._stop(self.kill_reason)
            raise
        if self.task_instance is not None:  # there is a scheduler
            await asyncio.sleep(begun + LEAST_SECONDS - time.monotonic())
        self._has_fired = True
        yield TriggerEvent(event)

    async def on_kill(self) -> None:
        """Stop the job, when a person has ended or cleared the task; Airflow 3.3 and later call it. Never raises."""
        if self.kill_reason is None and not self._has_fired:
            self.log.info("The task's wait has been ended; job %s runs on.", self.job_id)
        await _finished(self._stop_unless_needed())

    async def cleanup(self) -> None:
        """Stop the job, when a person has ended or cleared the task: below Airflow 3.3, which have no ``on_kill``.

        They call it whenever a trigger ends, at the triggerer's own end as well; the task's state tells them apart.
        Can go with 3.2.
        """
        if not version_compat.triggers_hear_of_kills():
            await _finished(self._stop_unless_needed())

    async def _watch(self) -> JobEvent:
        from airflow_provider_bacalhau.client.errors import (
            BacalhauError,
            JobHopeless,
            JobLost,
            WaitTimeout,
            WatchFailed,
        )

        try:
            # Airflow may look the connection up in a thread, through which the word of a kill does not come back: the
            # triggerer would take it for its own end, and not call on_kill.
            async with await asyncio.shield(self._hook.get_async_conn()) as client:
                await client.wait(
                    self.job_id,
                    poll_interval=self.poll_interval,
                    deadline=self.deadline,
                    on_change=lambda job: self.log.info("Job %s is %s", job.id, job.standing),
                    is_known=True,
                    fail_fast=self.fail_fast,
                )
        except WaitTimeout as error:
            return self._event("timeout", error)
        except JobHopeless as error:
            return self._event("hopeless", error)
        except JobLost as error:
            return self._event("lost", error)
        except BacalhauError as error:
            # With the request's id, which the task does not get to know.
            self.log.warning("Job %s cannot be watched any longer: %s", self.job_id, error)
            return self._event("failed", error)
        except Exception as error:  # else Airflow fails the task outside of its own code, which has a job to think of
            self.log.exception("Job %s cannot be watched any longer.", self.job_id)
            told = (
                f"Watching job {self.job_id} broke off with {type(error).__name__}; the task's log has the traceback."
            )
            return self._event("failed", WatchFailed(told))  # without the error's text, which may hold anything
        return self._event("over")

    def _event(self, status: EventStatus, error: BacalhauError | None = None) -> JobEvent:
        from airflow_provider_bacalhau.client.diagnosis import diagnosis_of
        from airflow_provider_bacalhau.client.errors import JobLost

        if error is None:
            return check_event({"status": status, "job_id": self.job_id})
        diagnosis = diagnosis_of(error)
        # The task reads a hopeless job again; its facts hold what programs have written, which is not to be stored.
        facts = () if status == "hopeless" else diagnosis.facts
        return {
            "status": status,
            "job_id": self.job_id,
            "message": "; ".join(error.evidence) if isinstance(error, JobLost) else diagnosis.summary,
            "hint": diagnosis.hint,
            "facts": [fact[:_LONGEST_FACT] for fact in facts[:_MOST_FACTS]],
            "permanent": error.permanent,
            "category": diagnosis.category.value,
        }

    async def _stop_unless_needed(self) -> None:
        # After the event the task decides; a trigger that lingers then is cancelled as if its task was killed.
        if self.kill_reason is not None and not self._has_fired and await self._may_stop():
            await self._stop(self.kill_reason)

    async def _may_stop(self) -> bool:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                task = await version_compat.task_now(self.task_instance, xcom.JOB_ID)
        except Exception:  # whatever keeps Airflow from telling; see may_be_stopped for why it means no
            self.log.warning(
                "Job %s is left running, since Airflow does not tell how its task stands.", self.job_id, exc_info=True
            )
            return False
        is_free = may_be_stopped(self.job_id, task)
        if not is_free:
            self.log.info("Job %s is left running: its task is %s and needs it.", self.job_id, task.state)
        return is_free

    async def _stop(self, reason: str) -> None:
        from airflow_provider_bacalhau.client.errors import BacalhauError

        trouble = "The task was killed, but job %s could not be stopped and may run on: %s"
        try:
            async with asyncio.timeout(STOP_SECONDS), await self._hook.get_async_conn() as client:
                outcome = await client.stop(self.job_id, reason)
        except TimeoutError:
            self.log.warning(trouble, self.job_id, f"no answer within {STOP_SECONDS:g} s.")
        except BacalhauError as error:  # a right that is missing is named in it
            self.log.warning(trouble, self.job_id, error)
        except Exception:  # nobody is left to act on it
            self.log.warning(trouble, self.job_id, "see below.", exc_info=True)
        else:
            self.log.info("The task was killed; job %s: %s.", self.job_id, outcome.value)


async def _finished(work: Coroutine[Any, Any, None]) -> None:
    """Do the work to its end, and only then be cancelled.

    The triggerer cancels a trigger that is to go again each time it looks, about once a second, whatever the trigger is
    at: its own 30 s for ``on_kill`` are not to be had. The work has to limit its own time.
    """
    task = asyncio.create_task(work)
    _at_work.add(task)  # asyncio itself holds on to no task
    task.add_done_callback(_at_work.discard)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


_at_work: Final[set[asyncio.Task[None]]] = set()
