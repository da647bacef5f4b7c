"""Take the results of a job; imported from :mod:`airflow_provider_bacalhau.operators.bacalhau`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_bacalhau.exceptions import translated
from airflow_provider_bacalhau.hooks.bacalhau import DEFAULT_CONN_ID, BacalhauHook
from airflow_provider_bacalhau.links.bacalhau import BacalhauJobLink
from airflow_provider_bacalhau.reporting import push_job, push_results, report_outcome, reporting_failure

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class BacalhauGetResultsOperator(BaseOperator):
    """Returns references to a job's results, and on request the text of a small file in each.

    The return value is a list of dicts, also when it is one: ``.expand(inputs=results.output)`` gives each mapped task
    one of them. The job has to be over; one that did not succeed fails the task with its diagnosis.

    :param job_id: id of the job. (templated)
    :param namespace: namespace of the job, when ``job_id`` is a name and not an id. (templated)
    :param read: a path in each result whose text is added to its reference under ``text``, such as
        ``outputs/total.txt`` or ``stdout``. IPFS results are read through the connection's gateway; of others there is
        only ``stdout`` and ``stderr`` from the execution's record, which may hold no more than the program's first
        write: ``is_partial`` is true then. At most 48 KB.
    :param allow_empty: whether a job without results is all right. It gives an empty list, and what is mapped over
        that is skipped.
    :param bacalhau_conn_id: id of the connection. (templated)
    """

    template_fields: Sequence[str] = ("job_id", "namespace", "bacalhau_conn_id")
    operator_extra_links = (BacalhauJobLink(),)
    ui_color = "#d9ecff"

    def __init__(
        self,
        *,
        job_id: str,
        namespace: str | None = None,
        read: str | None = None,
        allow_empty: bool = False,
        bacalhau_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.namespace = namespace
        self.read = read
        self.allow_empty = allow_empty
        self.bacalhau_conn_id = bacalhau_conn_id
        self.job_url: str | None = None

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Judge the job, then return its results."""
        from airflow_provider_bacalhau.client.errors import ResultUnavailable

        hook = BacalhauHook(self.bacalhau_conn_id)
        with translated(others_job=True), reporting_failure(context, self), hook.get_conn() as client:
            job = client.get(self.job_id, namespace=self.namespace or "")
            self.job_url = push_job(context, hook, job.id)
            if not job.state.is_terminal:
                raise ResultUnavailable(
                    f"Job {job.id} is {job.state.value}, so it has no results yet.",
                    hint="Wait for it first, with BacalhauJobSensor or wait_for_completion.",
                )
            report_outcome(context, client.outcome(job.id), self.log, log_output=False)
            references = push_results(context, client, job.id)
            if not references and not self.allow_empty:
                raise ResultUnavailable(
                    f"Job {job.id} has no results.",
                    hint="Give its task a Publisher, or set allow_empty=True if that is as it should be.",
                )
            if not self.read:
                return references
            texts = client.result_texts(job.id, self.read)
            return [one.to_dict() for one in texts]
