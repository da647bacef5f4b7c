"""Count the words of two texts on a Bacalhau network, and add the counts up: jobs chained by CID.

Two WebAssembly jobs each count the words of a text file that lies beside this DAG, and publish the count to IPFS. A
third takes both results as its inputs, by CID, and adds them. The network needs the WebAssembly engine and IPFS; the
connection ``bacalhau_default`` needs an ``ipfs_gateway`` to read the total. ``make demo`` runs this very file on the
embedded node.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_bacalhau.client.spec import local_file, wasm_job
from airflow_provider_bacalhau.operators.bacalhau import BacalhauGetResultsOperator, BacalhauSubmitJobOperator

with DAG("word_count_chain", schedule=None, catchup=False, doc_md=__doc__, tags=["bacalhau", "example"]) as dag:
    # [START howto_operator_bacalhau_submit]
    counts = [
        BacalhauSubmitJobOperator(
            task_id=f"count_{text}",
            job_spec=wasm_job(
                local_file("workloads/wc.wasm"),
                ["/inputs", "/outputs/count.txt"],
                inputs=[local_file(f"texts/{text}.txt", f"/inputs/{text}.txt")],
                outputs=["outputs"],
                publisher="ipfs",
            ),
            job_queue_timeout=600,
        )
        for text in ("moby_dick", "two_cities")
    ]
    # [END howto_operator_bacalhau_submit]

    # [START howto_operator_bacalhau_chain]
    add = BacalhauSubmitJobOperator(
        task_id="add",
        job_spec=wasm_job(
            local_file("workloads/sum.wasm"), ["/inputs", "/outputs/total.txt"], outputs=["outputs"], publisher="ipfs"
        ),
        inputs=[count.output for count in counts],  # the results of both jobs, at /inputs/0 and /inputs/1
        job_queue_timeout=600,
    )
    # [END howto_operator_bacalhau_chain]

    # [START howto_operator_bacalhau_results]
    total = BacalhauGetResultsOperator(task_id="total", job_id=add.output, read="outputs/total.txt")
    # [END howto_operator_bacalhau_results]

    @task
    def show(results: list[dict[str, Any]]) -> int:
        """Show the total in this task's log."""
        words = int(results[0]["text"])
        print(f"The two texts have {words} words.")  # noqa: T201  # a task's log
        return words

    show(total.output)
