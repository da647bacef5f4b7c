"""Waiting for a job in the triggerer, and the event that tells how it went."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal, TypedDict, cast

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_bacalhau.hooks.bacalhau import BacalhauHook


class JobEvent(TypedDict):
    """What the trigger tells the task that it wakes.

    ``over``: the job has ended, in success or not. ``timeout``: the deadline has passed first. ``failed``: the job
    could not be watched any longer. It is stored in Airflow's database and shown, so it is small and holds no secret.
    """

    status: Literal["over", "timeout", "failed"]
    job_id: str
    message: str
    permanent: bool


def check_event(event: Mapping[str, Any] | None) -> JobEvent:
    """Return the event, or fail loudly: a task must never go green for want of one.

    :raises ValueError: when it is none of this trigger's.
    """
    if not event or event.get("status") not in {"over", "timeout", "failed"} or not event.get("job_id"):
        raise ValueError(f"The trigger ended without telling how its job did: {event!r}")
    return cast(JobEvent, {"message": "", "permanent": False, **event})


class BacalhauJobTrigger(BaseTrigger):
    """Waits until a job is over, without a worker.

    One client is shared by all triggers of a connection in one triggerer. State changes are logged, looks are not. A
    server that restarts is waited for.

    :param job_id: id of the job.
    :param bacalhau_conn_id: id of the connection.
    :param poll_interval: seconds between two looks at a job that is older than a minute; younger ones are looked at
        more often, much older ones less.
    :param deadline: seconds since the epoch at which to give up; None for never. Wall-clock, since a trigger moves from
        one triggerer to another.
    """

    def __init__(
        self, job_id: str, bacalhau_conn_id: str, poll_interval: float = 5.0, deadline: float | None = None
    ) -> None:
        super().__init__()
        self.job_id = job_id
        self.bacalhau_conn_id = bacalhau_conn_id
        self.poll_interval = poll_interval
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to make this trigger again: plain values, and the connection by its id."""
        return (
            "airflow_provider_bacalhau.triggers.bacalhau.BacalhauJobTrigger",
            {
                "job_id": self.job_id,
                "bacalhau_conn_id": self.bacalhau_conn_id,
                "poll_interval": self.poll_interval,
                "deadline": self.deadline,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then yield one event."""
        # The client is closed before the event: what a trigger awaits after it can be taken for a kill of the task.
        event = await self._watch()
        yield TriggerEvent(event)

    async def _watch(self) -> JobEvent:
        from airflow_provider_bacalhau.client.errors import BacalhauError, WaitTimeout

        try:
            async with await BacalhauHook(self.bacalhau_conn_id).get_async_conn() as client:
                await client.wait(
                    self.job_id,
                    poll_interval=self.poll_interval,
                    deadline=self.deadline,
                    on_change=lambda job: self.log.info("Job %s is %s.", job.id, job.state.value),
                )
        except WaitTimeout as error:
            return self._event("timeout", str(error))
        except BacalhauError as error:
            return self._event("failed", str(error), permanent=error.permanent)
        return self._event("over")

    def _event(
        self, status: Literal["over", "timeout", "failed"], message: str = "", *, permanent: bool = False
    ) -> JobEvent:
        return {"status": status, "job_id": self.job_id, "message": message, "permanent": permanent}
