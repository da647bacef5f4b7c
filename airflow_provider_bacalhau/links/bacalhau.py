"""The link from a task to its job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from airflow_provider_bacalhau.xcom import JOB_URL

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey


class BacalhauJobLink(BaseOperatorLink):
    """Leads to the job's page on the network's web UI when the connection names one, else to its JSON on the API.

    It is there while the task still runs: the operators push the address as soon as they know the job.
    """

    name = "Bacalhau job"
    xcom_key = JOB_URL

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address that the task has pushed, or an empty text while there is none.

        A task that has just run knows it by itself; looking up an XCom that is not there would log an error.
        """
        if hasattr(operator, "job_url"):  # not on the operators that Airflow makes of a serialized DAG
            return str(operator.job_url or "")
        return XCom.get_value(key=JOB_URL, ti_key=ti_key) or ""


# Airflow 2.11 finds a serialized link's class by its module, and accepts only the path that provider info registers
# (it begins with airflow.providers). Can go with 2.11; 3.x reads the XCom and needs no class.
BacalhauJobLink.__module__ = "airflow.providers.bacalhau.links.bacalhau"
