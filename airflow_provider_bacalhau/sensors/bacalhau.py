"""Wait for a job that another task, or somebody else, has submitted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, BaseSensorOperator, PokeReturnValue, conf

from airflow_provider_bacalhau.exceptions import translated
from airflow_provider_bacalhau.hooks.bacalhau import DEFAULT_CONN_ID, BacalhauHook
from airflow_provider_bacalhau.links.bacalhau import BacalhauJobLink
from airflow_provider_bacalhau.reporting import push_job, report_outcome, told
from airflow_provider_bacalhau.triggers.bacalhau import BacalhauJobTrigger, check_event

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bacalhau.client import BacalhauClient

_GRACE = 60.0


class BacalhauJobSensor(BaseSensorOperator):
    """Waits until a job has succeeded; a job that ends otherwise fails the sensor for good, with a diagnosis.

    It only looks: whatever happens to the sensor, the job goes on. ``timeout``, ``poke_interval`` and ``soft_fail``
    mean what they mean for every sensor, in both modes. Its return value is the job's id; ``job_state`` and
    ``exit_codes`` are pushed beside it.

    :param job_id: id of the job. (templated)
    :param namespace: namespace of the job, when ``job_id`` is a name and not an id. (templated)
    :param bacalhau_conn_id: id of the connection. (templated)
    :param deferrable: whether to wait in the triggerer instead of a worker.
    """

    template_fields: Sequence[str] = ("job_id", "namespace", "bacalhau_conn_id")
    operator_extra_links = (BacalhauJobLink(),)
    ui_color = "#d9ecff"

    def __init__(
        self,
        *,
        job_id: str,
        namespace: str | None = None,
        bacalhau_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.namespace = namespace
        self.bacalhau_conn_id = bacalhau_conn_id
        self.deferrable = deferrable
        self.job_url: str | None = None  # for the link
        self._has_seen_job = False

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Look at the job once; while it is not over, hand over to the triggerer where that is asked for.

        The first look is the same in both modes and made by Airflow's own ``execute``, so ``soft_fail`` and its like
        mean the same to both. A server that answered before may be away for a while.
        """
        from airflow_provider_bacalhau.client.errors import ServerUnavailable, Unreachable

        hook = BacalhauHook(self.bacalhau_conn_id)
        with translated(others_job=True, in_sensor=True), told(context, self), hook.get_conn() as client:
            try:
                job = client.get(self.job_id, namespace=self.namespace or "")
            except (Unreachable, ServerUnavailable) as error:
                if not self._has_seen_job:
                    raise
                self.log.warning("Cannot look at job %s just now, trying on: %s", self.job_id, error)
                return False
            if not self._has_seen_job:
                self.job_url = push_job(context, hook, job.id)
                self._has_seen_job = True
            if job.state.is_terminal:
                return PokeReturnValue(is_done=True, xcom_value=self._finish(context, client, job.id))
        if self.deferrable:
            self._hand_over(job.id)
        return False

    def _hand_over(self, job_id: str) -> None:
        self.defer(
            # Airflow's own limit is the net, for when no triggerer is left to see the deadline pass: not every version
            # raises a sensor's timeout at it.
            timeout=timedelta(seconds=self.timeout + _GRACE),
            trigger=BacalhauJobTrigger(
                job_id=job_id,
                bacalhau_conn_id=self.bacalhau_conn_id,
                poll_interval=float(self.poke_interval),
                deadline=time.time() + self.timeout,
            ),
            method_name="execute_complete",
        )

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """Come back from the triggerer and judge the job."""
        from airflow_provider_bacalhau.client.errors import JobLost, WatchFailed

        ended = check_event(event)
        job_id, message = ended["job_id"], ended["message"]
        if ended["status"] == "timeout":
            raise AirflowSensorTimeout(message)
        hook = BacalhauHook(self.bacalhau_conn_id)
        with translated(others_job=True, in_sensor=True), told(context, self), hook.get_conn() as client:
            self.job_url = hook.settings.job_url(job_id)
            if ended["status"] == "lost":
                raise JobLost(job_id, [message])
            if ended["status"] == "failed":
                raise WatchFailed(message, permanent=ended["permanent"], category=ended["category"])
            push_job(context, hook, job_id)
            return self._finish(context, client, job_id)

    def _finish(self, context: Context, client: BacalhauClient, job_id: str) -> str:
        report_outcome(context, client.outcome(job_id), self.log, log_output=False)
        self.log.info("Job %s succeeded.", job_id)
        return job_id
