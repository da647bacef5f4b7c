"""What differs between the Airflow versions that are supported: the one place for it, each with when it can go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def airflow_address() -> str:
    """The address of this Airflow: of its web pages, or where its workers report to; empty when neither is configured.

    It is the same in all processes of a deployment that is set up as Airflow's documentation says.
    """
    from airflow import __version__
    from airflow.providers.common.compat.sdk import conf

    # Airflow 3 moved the option; asking it for the old one brings a warning. Can go with 2.11.
    section = "webserver" if __version__.startswith("2.") else "api"
    pages = str(conf.get(section, "base_url", fallback="") or "")
    return pages or str(conf.get("core", "execution_api_server_url", fallback="") or "")


class TaskNow(NamedTuple):
    """How a task instance stands at this moment, whichever its attempt.

    :param state: as Airflow names it; ``GONE`` when there is no such task instance any more.
    :param xcom: the value that was asked for, of its newest attempt; None when it is not there.
    """

    state: str | None
    xcom: Any


GONE: Final = "gone"


def triggers_hear_of_kills() -> bool:
    """Whether the triggerer calls a trigger's ``on_kill``: from 3.3 on. Can go with 3.2."""
    from airflow.triggers.base import BaseTrigger

    return hasattr(BaseTrigger, "on_kill")


async def task_now(task_instance: Any, xcom_key: str) -> TaskNow:
    """Ask Airflow, from within the triggerer, how a task stands.

    :param task_instance: the trigger's own, of any Airflow version; only what identifies it is used.
    :param xcom_key: key of the XCom to read beside the state.
    :raises Exception: whatever Airflow raises when it cannot tell.
    """
    from asgiref.sync import sync_to_async  # below 3.3 no other thread can talk to the triggerer's supervisor

    return await sync_to_async(_task_now)(task_instance, xcom_key)


def _task_now(task_instance: Any, xcom_key: str) -> TaskNow:
    from airflow import __version__
    from airflow.providers.common.compat.sdk import XCom

    # Airflow 3 has no database for triggers. Can go with 2.11.
    state = (_state_from_database if __version__.startswith("2.") else _state_from_supervisor)(task_instance)
    if state == GONE:
        return TaskNow(GONE, None)
    value = XCom.get_one(
        key=xcom_key,
        dag_id=task_instance.dag_id,
        task_id=task_instance.task_id,
        run_id=task_instance.run_id,
        map_index=task_instance.map_index,
    )
    return TaskNow(state, value)


def _state_from_supervisor(task_instance: Any) -> str | None:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(
        dag_id=task_instance.dag_id,
        task_ids=[task_instance.task_id],
        run_ids=[task_instance.run_id],
        map_index=task_instance.map_index,
    )
    if not states:
        return GONE
    mapped = "" if task_instance.map_index < 0 else f"_{task_instance.map_index}"
    state: str | None = states[task_instance.run_id][f"{task_instance.task_id}{mapped}"]
    return state


def _state_from_database(task_instance: Any) -> str | None:
    from airflow.models import TaskInstance
    from airflow.utils.session import create_session

    names = ("dag_id", "task_id", "run_id", "map_index")
    with create_session() as session:
        query = session.query(TaskInstance.state).filter_by(**{name: getattr(task_instance, name) for name in names})
        row = query.one_or_none()
    return GONE if row is None else row[0]


def was_rescheduled(context: Context) -> bool:
    """Whether an earlier process of this try has asked to be started again.

    Nothing that it left could tell: Airflow clears the XComs of a task whenever it starts it.
    """
    from airflow import __version__

    if not __version__.startswith("2."):
        return bool(context.get("task_reschedule_count"))
    # Airflow 2 counts in its database only. Can go with 2.11.
    from airflow.models.taskreschedule import TaskReschedule
    from airflow.utils.session import create_session

    with create_session() as session:
        return session.scalar(TaskReschedule.stmt_for_task_instance(ti=context["ti"]).limit(1)) is not None
