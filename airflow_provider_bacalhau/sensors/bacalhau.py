"""Wait for a job that another task, or somebody else, has submitted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseSensorOperator, PokeReturnValue, conf

from airflow_provider_bacalhau.exceptions import translated
from airflow_provider_bacalhau.hooks.bacalhau import DEFAULT_CONN_ID, BacalhauHook
from airflow_provider_bacalhau.links.bacalhau import BacalhauJobLink
from airflow_provider_bacalhau.reporting import push_job, report_outcome
from airflow_provider_bacalhau.triggers.bacalhau import BacalhauJobTrigger, check_event

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bacalhau.client import BacalhauClient, Job


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
        self._has_seen_job = False

    def execute(self, context: Context) -> Any:
        """Wait in this worker, or hand over to the triggerer unless the job is over already."""
        if not self.deferrable:
            return super().execute(context)
        hook = BacalhauHook(self.bacalhau_conn_id)
        with translated(watching=True), hook.get_conn() as client:
            job = self._look(client)
            if job.state.is_terminal:
                return self._finish(context, hook, client, job.id)
        self.defer(
            # The sensor's own timeout is Airflow's to enforce; it arrives here as AirflowSensorTimeout.
            timeout=timedelta(seconds=self.timeout),
            trigger=BacalhauJobTrigger(
                job_id=job.id, bacalhau_conn_id=self.bacalhau_conn_id, poll_interval=float(self.poke_interval)
            ),
            method_name="execute_complete",
        )
        return None

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Look at the job once; a server that answered before may be away for a while."""
        from airflow_provider_bacalhau.client.errors import ServerUnavailable, Unreachable

        hook = BacalhauHook(self.bacalhau_conn_id)
        with translated(watching=True), hook.get_conn() as client:
            try:
                job = self._look(client)
            except (Unreachable, ServerUnavailable) as error:
                if not self._has_seen_job:
                    raise
                self.log.warning("Cannot look at job %s just now, trying on: %s", self.job_id, error)
                return False
            self._has_seen_job = True
            if not job.state.is_terminal:
                return False
            return PokeReturnValue(is_done=True, xcom_value=self._finish(context, hook, client, job.id))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """Come back from the triggerer and judge the job."""
        from airflow_provider_bacalhau.client.errors import WatchFailed

        told = check_event(event)
        hook = BacalhauHook(self.bacalhau_conn_id)
        with translated(watching=True), hook.get_conn() as client:
            if told["status"] != "over":
                raise WatchFailed(told["message"], permanent=told["permanent"])
            return self._finish(context, hook, client, told["job_id"])

    def _look(self, client: BacalhauClient) -> Job:
        return client.get(self.job_id, namespace=self.namespace or "")

    def _finish(self, context: Context, hook: BacalhauHook, client: BacalhauClient, job_id: str) -> str:
        push_job(context, hook, job_id)
        report_outcome(context, client.outcome(job_id), self.log, log_output=False)
        return job_id
