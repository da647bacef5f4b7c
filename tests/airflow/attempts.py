"""What tests of a task's tries need: the task instance, its store, and a last try."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_bacalhau.client import Job
from airflow_provider_bacalhau.client.naming import label_value
from airflow_provider_bacalhau.operators.bacalhau import BacalhauSubmitJobOperator

from .conftest import Network
from .programs import sleeps
from .running import FakeTaskInstance, Ran, run_task

LASTING = sleeps(60)


class Store(dict[str, Any]):
    """Airflow's store of task state, as tasks use it."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


@dataclass
class Instance:
    """A task instance, and the tries that Airflow makes of it.

    :param deferrable: whether its tries that wait do so in the triggerer.
    """

    network: Network
    deferrable: bool
    run_id: str = field(default_factory=lambda: f"run-{uuid.uuid4()}")
    store: Any = None

    def ti(self, number: int = 1, *, max_tries: int = 2, **fields: Any) -> FakeTaskInstance:
        return FakeTaskInstance(run_id=self.run_id, try_number=number, max_tries=max_tries, store=self.store, **fields)

    def operator(self, job_spec: Any, **arguments: Any) -> BacalhauSubmitJobOperator:
        given = {"task_id": "task", "poll_interval": 0.2, "deferrable": self.deferrable, **arguments}
        return BacalhauSubmitJobOperator(job_spec=job_spec, **given)

    def attempt(self, job_spec: Any, ti: FakeTaskInstance | None = None, **arguments: Any) -> Ran:
        return run_task(self.operator(job_spec, **arguments), ti or self.ti())

    def left(self, job_spec: Any, ti: FakeTaskInstance | None = None, **arguments: Any) -> str:
        """The job of a try whose worker died right after it had submitted it."""
        ran = self.attempt(job_spec, ti, wait_for_completion=False, **arguments)
        assert ran.error is None
        return str(ran.value)

    @property
    def jobs(self) -> list[Job]:
        """All jobs of the task instance, the oldest first."""
        page = self.network.client.list(labels={"airflow-run": label_value(self.run_id)}, limit=0)
        return sorted(page.items, key=lambda job: job.created or 0.0)

    @property
    def states(self) -> list[str]:
        return [job.state.value for job in self.jobs]


def is_final(ran: Ran) -> bool:
    assert isinstance(ran.error, AirflowException)
    return isinstance(ran.error, AirflowFailException)


def last(ti: FakeTaskInstance | None = None, **arguments: Any) -> Ran:
    operator = BacalhauSubmitJobOperator(**{"task_id": "task", "poll_interval": 0.2, "job_spec": LASTING, **arguments})
    return run_task(operator, ti or FakeTaskInstance(max_tries=0))
