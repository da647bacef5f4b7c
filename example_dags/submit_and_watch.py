"""Submit a job without waiting for it, watch it from another task, and stop it when it takes too long."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_bacalhau.client.spec import local_file, wasm_job
from airflow_provider_bacalhau.operators.bacalhau import BacalhauStopJobOperator, BacalhauSubmitJobOperator
from airflow_provider_bacalhau.sensors.bacalhau import BacalhauJobSensor

with DAG("submit_and_watch", schedule=None, catchup=False, doc_md=__doc__, tags=["bacalhau", "example"]) as dag:
    submit = BacalhauSubmitJobOperator(
        task_id="submit",
        job_spec=wasm_job(local_file("workloads/exitn.wasm"), ["0"]),
        wait_for_completion=False,
    )

    # [START howto_sensor_bacalhau_job]
    watch = BacalhauJobSensor(task_id="watch", job_id=submit.output, poke_interval=1, timeout=600)
    # [END howto_sensor_bacalhau_job]

    # [START howto_operator_bacalhau_stop]
    stop = BacalhauStopJobOperator(
        task_id="stop", job_id=submit.output, reason="It took too long.", trigger_rule="all_done"
    )
    # [END howto_operator_bacalhau_stop]

    watch >> stop
