"""Stop a job; imported from :mod:`airflow_provider_bacalhau.operators.bacalhau`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_bacalhau.exceptions import translated
from airflow_provider_bacalhau.hooks.bacalhau import DEFAULT_CONN_ID, BacalhauHook

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class BacalhauStopJobOperator(BaseOperator):
    """Stops the job that it is given; returns what came of it, such as ``stopped`` or ``already completed``.

    :param job_id: id of the job. (templated)
    :param reason: why; kept in the job's history.
    :param namespace: namespace of the job, when ``job_id`` is a name and not an id. (templated)
    :param ignore_missing: whether a job that the network does not know is all right.
    :param bacalhau_conn_id: id of the connection. (templated)
    """

    template_fields: Sequence[str] = ("job_id", "namespace", "bacalhau_conn_id")
    ui_color = "#d9ecff"

    def __init__(
        self,
        *,
        job_id: str,
        reason: str = "Stopped by an Airflow task.",
        namespace: str | None = None,
        ignore_missing: bool = False,
        bacalhau_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.reason = reason
        self.namespace = namespace
        self.ignore_missing = ignore_missing
        self.bacalhau_conn_id = bacalhau_conn_id

    def execute(self, context: Context) -> str:
        """Stop the job."""
        from airflow_provider_bacalhau.client.errors import NotFound
        from airflow_provider_bacalhau.client.facts import StopOutcome

        with translated(), BacalhauHook(self.bacalhau_conn_id).get_conn() as client:
            outcome = client.stop(self.job_id, self.reason, namespace=self.namespace or "")
            if outcome is StopOutcome.NOT_FOUND and not self.ignore_missing:
                raise NotFound(
                    f"There is no job {self.job_id} to stop.",
                    hint="Check the id, or set ignore_missing=True if it may be gone.",
                )
        self.log.info("Job %s: %s.", self.job_id, outcome.value)
        return outcome.value
