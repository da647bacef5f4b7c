"""Wait for a job that another task, or somebody else, has submitted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, BaseSensorOperator, PokeReturnValue, conf

from airflow_provider_bacalhau import version_compat
from airflow_provider_bacalhau.exceptions import translated
from airflow_provider_bacalhau.hooks.bacalhau import DEFAULT_CONN_ID, BacalhauHook
from airflow_provider_bacalhau.links.bacalhau import BacalhauJobLink
from airflow_provider_bacalhau.reporting import push_job, report_outcome, reporting_failure
from airflow_provider_bacalhau.triggers.bacalhau import BacalhauJobTrigger, check_event, error_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bacalhau.client import BacalhauClient, Job
    from airflow_provider_bacalhau.client.diagnosis import JobOutcome
    from airflow_provider_bacalhau.client.errors import BacalhauError

_LOOK_AGAIN_AFTER = 2.0


class BacalhauJobSensor(BaseSensorOperator):
    """Waits until a job has succeeded; a job that ends otherwise fails the sensor for good, with a diagnosis.

    It only looks: whatever happens to the sensor, the job goes on. ``timeout``, ``poke_interval`` and ``soft_fail``
    mean what they mean for every sensor, in each mode. A server that has shown the job once may be away for a while; a
    job that it has denied for 20 s since is lost. Its return value is the job's id; ``job_state`` and ``exit_codes``
    are pushed beside it.

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
        self._last: Job | None = None
        self._seen = 0.0
        self._gone_since: float | None = None

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Look at the job; while it is not over, hand over to the triggerer where that is asked for.

        The first look is the same in all modes and made by Airflow's own ``execute``, so ``soft_fail`` and its like
        mean the same to all.
        """
        from airflow_provider_bacalhau.client.diagnosis import JobOutcome

        hook = BacalhauHook(self.bacalhau_conn_id)
        with translated(others_job=True, in_sensor=True), reporting_failure(context, self), hook.get_conn() as client:
            job = self._look(context, hook, client)
            if job is None:
                return False
            if job.state.is_terminal:
                return PokeReturnValue(is_done=True, xcom_value=self._finish(context, JobOutcome.of(job)))
        if self.deferrable:
            self._hand_over(job.id)
        return False

    def _look(self, context: Context, hook: BacalhauHook, client: BacalhauClient) -> Job | None:
        """Look at the job, at all that is known of it once it is over; None if it was there but is not to be seen now.

        :raises JobLost: when the server has denied for long enough what it showed before.
        """
        from airflow_provider_bacalhau.client.errors import NotFound, ServerUnavailable, UnexpectedAnswer, Unreachable

        while True:
            try:
                job = client.get(self.job_id, namespace=self.namespace or "")
                if self._last is None:
                    self.job_url = push_job(context, hook, job.id)
                self._last, self._seen = job, time.time()
                if job.state.is_terminal:
                    job = client.get(job.id, executions=True, history=True)
            except (NotFound, ServerUnavailable, UnexpectedAnswer, Unreachable) as error:
                if not self._was_there(context):
                    raise
                self.job_url = self.job_url or hook.settings.job_url(self.job_id)
                self._missed(error)
            else:
                self._gone_since = None
                return job
            if not self.reschedule or self._gone_since is None:
                return None
            time.sleep(_LOOK_AGAIN_AFTER)  # the next process would not know since when it is gone

    def _was_there(self, context: Context) -> bool:
        """Whether the job was seen, by this process or an earlier one of this try."""
        if self._last is not None:
            return True
        # Only a job that was seen makes a process ask for the next one, unless failures are to be passed over.
        return self.reschedule and not self.silent_fail and version_compat.was_rescheduled(context)

    def _missed(self, error: BacalhauError) -> None:
        from airflow_provider_bacalhau.client.errors import NotFound
        from airflow_provider_bacalhau.client.waiting import denied

        job_id = self._last.id if self._last else self.job_id
        if isinstance(error, NotFound):
            self._gone_since = denied(
                job_id, self._gone_since, time.time(), self._last, self._seen, self.log, otherwise="seen before"
            )
        else:
            self._gone_since = None  # it may be starting up next
            self.log.warning("Cannot look at job %s just now, trying on: %s", job_id, error)

    def _hand_over(self, job_id: str) -> None:
        trigger = BacalhauJobTrigger(
            job_id=job_id,
            bacalhau_conn_id=self.bacalhau_conn_id,
            poll_interval=float(self.poke_interval),
            deadline=time.time() + self.timeout,
        )
        # The deadline comes first: not every version of Airflow raises a sensor's timeout at its own limit.
        self.defer(trigger=trigger, method_name="execute_complete", timeout=trigger.net)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """Come back from the triggerer and judge the job."""
        ended = check_event(event)
        job_id = ended["job_id"]
        if ended["status"] == "timeout":
            raise AirflowSensorTimeout(ended["message"])
        hook = BacalhauHook(self.bacalhau_conn_id)
        with translated(others_job=True, in_sensor=True), reporting_failure(context, self), hook.get_conn() as client:
            self.job_url = hook.settings.job_url(job_id)
            if (error := error_of(ended)) is not None:
                raise error
            push_job(context, hook, job_id)
            return self._finish(context, _outcome(client, job_id))

    def _finish(self, context: Context, outcome: JobOutcome) -> str:
        report_outcome(context, outcome, self.log, log_output=False)
        self.log.info("Job %s succeeded.", outcome.job.id)
        return outcome.job.id


def _outcome(client: BacalhauClient, job_id: str) -> JobOutcome:
    """How a job ended that was seen to be over, be it that the server has forgotten it since.

    :raises JobLost: then.
    """
    from airflow_provider_bacalhau.client.errors import NotFound
    from airflow_provider_bacalhau.client.waiting import LOST_AFTER

    try:
        return client.outcome(job_id)
    except NotFound:
        client.wait(job_id, deadline=time.time() + 2 * LOST_AFTER, is_known=True)
        return client.outcome(job_id)
