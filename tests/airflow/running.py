"""Runs one task as a worker and the triggerer would, without Airflow's database: quick, and everything is at hand."""

from __future__ import annotations

import asyncio
import copy
import functools
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_bacalhau.triggers.bacalhau import BacalhauJobTrigger

MODES = ("worker", "triggerer")
"""Where a task waits: with ``deferrable=False``, or with ``deferrable=True``."""

ABSENT = "j-00000000-0000-4000-8000-000000000000"
"""Id of a job that no server knows."""


if TYPE_CHECKING:
    from airflow_provider_bacalhau.client import BacalhauClient

LOG = logging.getLogger("airflow.task")
"""Log of the tasks; by default Airflow 3 and 2 log in different ways, which pytest would have to tell apart."""


@dataclass
class FakeTaskInstance:
    """What the tasks use of Airflow's task instance."""

    task_id: str = "task"
    dag_id: str = "dag"
    run_id: str = field(default_factory=lambda: f"manual__{uuid.uuid4()}")
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    xcoms: dict[str, Any] = field(default_factory=dict)
    on_push: Callable[[str, Any], object] = lambda key, value: None
    store: Any = None
    """Airflow's store of task state: kept over tries and clears, from 3.3 on."""

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value
        self.on_push(key, value)

    @property
    def job_id(self) -> str:
        job_id: str = self.xcoms["bacalhau_job_id"]
        return job_id


@dataclass
class Ran:
    """What came of a task.

    :param value: what its last leg returned.
    :param error: what it raised.
    :param events: of its triggers.
    """

    ti: FakeTaskInstance
    value: Any = None
    error: BaseException | None = None
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def xcoms(self) -> dict[str, Any]:
        return self.ti.xcoms


def context_of(ti: FakeTaskInstance) -> Any:
    context = {"ti": ti, "task_instance": ti}
    return context if ti.store is None else {**context, "task_state_store": ti.store}


def run_task(operator: Any, ti: FakeTaskInstance | None = None) -> Ran:
    """Run a task to its end. A deferred one goes on in a fresh operator, with a trigger that was stored meanwhile."""
    ran = Ran(ti or FakeTaskInstance(task_id=operator.task_id))
    with patch.object(type(operator), "log", LOG), patch.object(BacalhauJobTrigger, "log", LOG):
        try:
            ran.value = _run_legs(operator, ran)
        except Exception as error:  # noqa: BLE001  # the test judges it
            ran.error = error
    return ran


def _run_legs(operator: Any, ran: Ran) -> Any:
    fresh = copy.copy(operator)
    leg = functools.partial(operator.execute, context_of(ran.ti))
    while True:
        try:
            return leg()
        except TaskDeferred as deferred:
            trigger, method = deferred.trigger, deferred.method_name
        event = through_database(asyncio.run(first_event(stored(trigger))))
        ran.events.append(event)
        leg = functools.partial(copy.copy(fresh).resume_execution, method, {"event": event}, context_of(ran.ti))


def submitted(client: BacalhauClient, job_spec: dict[str, Any]) -> str:
    """The id of a job that no task has submitted."""
    from airflow_provider_bacalhau.client.spec import read_job_spec

    return client.submit(read_job_spec(job_spec, base=Path.cwd())).job_id


async def first_event(trigger: Any) -> dict[str, Any]:
    """The event of a trigger that yields one."""
    events = [event async for event in trigger.run()]
    assert len(events) == 1
    payload: dict[str, Any] = events[0].payload
    return payload


def stored(trigger: Any) -> Any:
    """The trigger as the triggerer makes it of what the database holds of it."""
    path, arguments = trigger.serialize()
    module, _, name = path.rpartition(".")
    return getattr(__import__(module, fromlist=[name]), name)(**through_database(arguments))


def through_database(value: Any) -> Any:
    """The value as Airflow writes it to its database and reads it back."""
    try:
        from airflow.sdk.serde import deserialize, serialize
    except ImportError:  # 2.11 and early 3.x
        from airflow.serialization.serialized_objects import BaseSerialization

        return BaseSerialization.deserialize(BaseSerialization.serialize(value))
    return deserialize(serialize(value))
