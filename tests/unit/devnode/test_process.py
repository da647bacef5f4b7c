"""The node as a process: how it starts, what it leaves, how it ends; and what it remembers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from airflow_provider_bacalhau.devnode import DevNode
from airflow_provider_bacalhau.devnode.emulation import EMULATIONS

from .specs import ASLEEP, BUSY, Api, execution, messages, wasm_job

COMMAND = [sys.executable, "-m", "airflow_provider_bacalhau.devnode"]
ROOT = Path(__file__).parents[3]


class Started:
    """A node in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self.process.stdout is not None
        self.line = json.loads(self.process.stdout.readline())
        self.api = str(self.line["api"])


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[Started]:
    node = Started(*arguments)
    try:
        yield node
    finally:
        node.process.kill()
        node.process.communicate()


def submit(api: str, job: object) -> str:
    answer = requests.put(f"{api}/api/v1/orchestrator/jobs", json={"Job": job}, timeout=10)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["JobID"])


def running(api: str, count: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        info = requests.get(f"{api}/api/v1/agent/node", timeout=10).json()["ComputeNodeInfo"]
        if info["RunningExecutions"] == count:
            return
        assert time.monotonic() < deadline, info
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_within_a_second_whatever_runs(number: signal.Signals) -> None:
    with started() as node:
        assert node.line.pop("token")
        assert node.line == {"api": node.api, "gateway": node.api, "emulates": "v1.9.3"}
        for program in (BUSY, ASLEEP, BUSY, ASLEEP):
            submit(node.api, wasm_job(program, Resources={"CPU": "0.1"}))
        running(node.api, 4)
        before = time.monotonic()
        node.process.send_signal(number)
        _, complaints = node.process.communicate(timeout=10)
        assert time.monotonic() - before < 2  # one second, and what a loaded machine adds
        assert node.process.returncode == 0
        assert complaints == ""


def test_nothing_is_left_behind_without_a_data_folder(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert [path.name[:17] for path in tmp_path.iterdir()] == ["bacalhau-devnode-"]
        process.terminate()
        process.wait(10)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_version_is_refused_with_those_that_are_known() -> None:
    refused = subprocess.run(
        [*COMMAND, "--emulate", "v9"], capture_output=True, text=True, cwd=ROOT, check=False, timeout=30
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"devnode: cannot emulate 'v9'; what can be emulated: {', '.join(EMULATIONS)}\n"


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path) -> None:
    blocker = "import sys, runpy; sys.modules['wasmtime'] = None; sys.argv = ['devnode']\n"
    blocker += "runpy.run_module('airflow_provider_bacalhau.devnode', run_name='__main__')"
    refused = subprocess.run(
        [sys.executable, "-c", blocker], capture_output=True, text=True, cwd=ROOT, check=False, timeout=30
    )
    assert refused.returncode == 2
    assert "pip install 'apache-airflow-providers-bacalhau[devnode]'" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_importing_the_package_brings_in_nothing() -> None:
    check = "import sys, airflow_provider_bacalhau.devnode\n"
    check += "assert not {'aiohttp', 'wasmtime', 'sqlite3', 'requests', 'airflow'} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True, timeout=30)


def test_the_node_imports_nothing_of_airflow_and_nothing_of_the_client() -> None:
    check = "import sys, airflow_provider_bacalhau.devnode.node\n"
    check += "ours = 'airflow_provider_bacalhau.client'\n"
    check += "found = [m for m in sys.modules if m.split('.')[0] == 'airflow' or m.startswith(ours)]\n"
    check += "assert not found, found"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True, timeout=30)


def test_jobs_blocks_and_archives_survive_a_restart(tmp_path: Path) -> None:
    with DevNode(data_dir=tmp_path) as node:
        first = Api(node).run(wasm_job("exitn.wasm", "0"))
        archived = Api(node).run(wasm_job("exitn.wasm", "0", publisher="local"))
    with DevNode(data_dir=tmp_path) as node:
        api = Api(node)
        assert api.look(first["Job"]["ID"]) == first
        cid = execution(first)["PublishedResult"]["Params"]["CID"]
        assert requests.get(f"{node.gateway}/ipfs/{cid}/exitCode", timeout=10).text == "0"
        (result,) = api.get(f"/orchestrator/jobs/{archived['Job']['ID']}/results")["Items"]
        assert requests.get(result["Params"]["URL"], timeout=10).status_code == 200


def test_a_job_that_ran_at_a_restart_starts_from_the_beginning(tmp_path: Path) -> None:
    with started("--data-dir", str(tmp_path)) as node:
        job_id = submit(node.api, wasm_job(ASLEEP, Timeouts={"ExecutionTimeout": 60}))
        running(node.api, 1)
    with DevNode(data_dir=tmp_path) as again:
        api = Api(again)
        running(again.api, 1)
        seen = api.look(job_id)
        assert seen["Job"]["State"]["StateType"] == "Running"
        assert [e["ComputeState"]["StateType"] for e in seen["Executions"]["Items"]] == [10, 5]
        assert "Failing due to node restart" in messages(seen)


def test_a_port_in_use_is_an_error_of_the_caller() -> None:
    with DevNode() as node:
        port = int(node.api.rpartition(":")[2])
        with pytest.raises(OSError, match="address already in use"), DevNode(port=port):
            pass
