"""A DAG as it was written for ``bacalhau-airflow``, only its import changed: two jobs chained by ``input_volumes``."""

from __future__ import annotations

import base64
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_bacalhau.operators.bacalhau import BacalhauSubmitJobOperator

WORKLOADS = Path(__file__).parent / "workloads"


def module(name: str) -> dict[str, str]:
    """An inline module, as specifications of that time hold it."""
    data = base64.b64encode((WORKLOADS / name).read_bytes()).decode()
    return {"storagesource": "inline", "url": f"data:application/wasm;base64,{data}"}


with DAG("migrated_chain", schedule=None, catchup=False, doc_md=__doc__, tags=["bacalhau", "example"]) as dag:
    # [START howto_migrated]
    count = BacalhauSubmitJobOperator(
        task_id="count",
        api_version="V1beta1",
        job_spec={
            "engine": "Wasm",
            "publisher": "IPFS",
            "wasm": {
                "entrymodule": module("wc.wasm"),
                "entrypoint": "_start",
                "parameters": ["/inputs", "/outputs/count.txt"],
            },
            "inputs": [
                {
                    "storagesource": "inline",
                    "url": "data:text/plain;base64,b25lIHR3byB0aHJlZQ==",
                    "path": "/inputs/a.txt",
                }
            ],
            "outputs": [{"name": "outputs", "path": "/outputs"}],
            "deal": {"concurrency": 1},
        },
    )
    add = BacalhauSubmitJobOperator(
        task_id="add",
        api_version="V1beta1",
        job_spec={
            "engine": "Wasm",
            "publisher": "IPFS",
            "wasm": {
                "entrymodule": module("sum.wasm"),
                "entrypoint": "_start",
                "parameters": ["/inputs", "/outputs/total.txt"],
            },
            "outputs": [{"name": "outputs", "path": "/outputs"}],
            "deal": {"concurrency": 1},
        },
        input_volumes=["{{ task_instance.xcom_pull(task_ids='count', key='cids') }}:/inputs"],
    )
    # [END howto_migrated]
    count >> add
