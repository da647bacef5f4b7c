"""Run ``word_count_chain.py`` through Airflow on an embedded Bacalhau node, and check what came out.

    python example_dags/demo.py

Everything happens on this machine and in a temporary folder. The exit code is 0 only if every task succeeded and the
counts are right; otherwise the folder is kept, with the logs of node and Airflow.
"""

# ruff: noqa: S603, T201  # it starts processes and prints: that is what it is for

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TEXTS = ("moby_dick", "two_cities")


def main() -> int:
    """Run the demo; return the exit code."""
    if sys.argv[1:2] == ["--run-dag"]:
        return run_dag(Path(sys.argv[2]))
    start = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="bacalhau-demo-"))
    try:
        with node(folder) as address:
            print(f"A Bacalhau node in one Python process: {address['api']} (as {address['emulates']})", flush=True)
            tasks = run_airflow(folder, address)
            problems = show(tasks, address)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        problems = [str(error)]
    print(f"\n{time.monotonic() - start:.1f} s in all")
    if problems:
        print("\n".join(f"WRONG: {problem}" for problem in problems), file=sys.stderr)
        print(f"Logs are in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


@contextmanager
def node(folder: Path) -> Iterator[dict[str, str]]:
    """Run an embedded node; yield its addresses."""
    with (
        (folder / "node.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "airflow_provider_bacalhau.devnode"], stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        try:
            line = process.stdout.readline() if process.stdout else b""
            if not line:
                raise RuntimeError(f"The node did not start: {(folder / 'node.log').read_text().strip()}")
            yield json.loads(line)
        finally:
            process.terminate()


def run_airflow(folder: Path, address: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Run the DAG through Airflow, in a process and a home of its own; return what it tells of each task."""
    connection = {"conn_type": "bacalhau", "host": address["api"], "extra": {"ipfs_gateway": address["gateway"]}}
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW_CONN_BACALHAU_DEFAULT": json.dumps(connection),
        "AIRFLOW__CORE__DAGS_FOLDER": str(HERE),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
    }
    print("Airflow makes its database and runs the DAG word_count_chain …", flush=True)
    with (folder / "airflow.log").open("wb") as log:
        for command in (
            [sys.executable, "-m", "airflow", "db", "migrate"],
            [sys.executable, __file__, "--run-dag", str(folder / "report.json")],
        ):
            subprocess.run(command, env=environment, stdout=log, stderr=log, check=True, timeout=300)
    report: dict[str, dict[str, Any]] = json.loads((folder / "report.json").read_text())
    return report


def run_dag(report: Path) -> int:
    """Run the DAG in this process, as Airflow's own ``dag.test()`` does; write down states and XComs."""
    sys.path.insert(0, str(HERE))
    from word_count_chain import dag

    run = dag.test()
    keys = ("bacalhau_job_id", "job_state", "exit_codes", "cids", "return_value")
    report.write_text(
        json.dumps(
            {
                ti.task_id: {
                    "state": str(ti.state),
                    "seconds": ti.duration,
                    **{key: ti.xcom_pull(task_ids=ti.task_id, key=key) for key in keys},
                }
                for ti in run.get_task_instances()
            }
        )
    )
    return 0


def show(tasks: dict[str, dict[str, Any]], address: dict[str, str]) -> list[str]:
    """Print what came out; return what is wrong with it."""
    from airflow_provider_bacalhau.client import BacalhauClient, ClientSettings

    expected = {f"count_{text}": len((HERE / "texts" / f"{text}.txt").read_text().split()) for text in TEXTS}
    expected["add"] = sum(expected.values())
    problems = [f"task {name} is {task['state']}" for name, task in tasks.items() if task["state"] != "success"]
    print(f"\n{'task':<18}{'state':<9}{'job':<40}{'CID of its result':<48}{'words':>6}{'seconds':>9}")
    with BacalhauClient(ClientSettings(address["api"], ipfs_gateway=address["gateway"])) as client:
        for name, words in expected.items():
            task, found = tasks[name], ""
            if task["cids"]:
                path = "outputs/total.txt" if name == "add" else "outputs/count.txt"
                found = client.result_texts(task["bacalhau_job_id"], path)[0].text.strip()
            print(
                f"{name:<18}{task['state']:<9}{task['bacalhau_job_id'] or '':<40}{task['cids'] or '':<48}{found:>6}"
                f"{task['seconds'] or 0:>9.2f}"
            )
            if found != str(words):
                problems.append(f"{name} counted {found or 'nothing'}, and Python {words}")
    total = tasks["show"]["return_value"]
    print(f"\nThe two texts have {total} words, says the DAG's last task.")
    if total != expected["add"]:
        problems.append(f"the last task says {total}, and Python {expected['add']}")
    return problems


if __name__ == "__main__":
    sys.exit(main())
