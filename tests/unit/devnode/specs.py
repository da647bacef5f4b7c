"""Jobs for the tests of the embedded node, in the raw form of the API, and what is needed to run them."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import requests
import wasmtime

from airflow_provider_bacalhau.devnode import DevNode

DATA = Path(__file__).parent / "data"
WORKLOADS = Path(__file__).parents[3] / "example_dags" / "workloads"
OVER = {"Completed", "Failed", "Stopped"}


def module(name: str) -> bytes:
    return (WORKLOADS / name).read_bytes()


def wat(body: str) -> bytes:
    """A module with a name section, memory, ``proc_exit`` and a ``_start`` of the given body."""
    text = f"""(module $test
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1)
      (func $start (export "_start") {body}))"""
    return bytes(wasmtime.wat2wasm(text))


BUSY = wat("(loop $on br $on)")
ASLEEP = bytes(
    wasmtime.wat2wasm("""(module $test
      (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func $start (export "_start")
        (i64.store (i32.const 24) (i64.const 60000000000))
        (drop (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)))))""")
)


def data_url(data: bytes, mime: str = "application/wasm") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def inline(data: bytes, target: str, mime: str = "text/plain") -> dict[str, Any]:
    return {"Source": {"Type": "inline", "Params": {"URL": data_url(data, mime)}}, "Target": target}


def wasm_job(
    program: bytes | str = "exitn.wasm",
    *parameters: str,
    inputs: list[dict[str, Any]] | None = None,
    outputs: list[str] | None = None,
    publisher: str = "ipfs",
    job: dict[str, Any] | None = None,
    **task: Any,
) -> dict[str, Any]:
    code = module(program) if isinstance(program, str) else program
    params = {"EntryModule": "/mod/m.wasm", "Entrypoint": "_start", "Parameters": list(parameters)}
    spec = {
        "Name": "main",
        "Engine": {"Type": "wasm", "Params": params},
        "InputSources": [inline(code, "/mod/m.wasm", "application/wasm"), *(inputs or [])],
        "ResultPaths": [{"Name": name, "Path": f"/{name}"} for name in outputs or []],
        "Publisher": {"Type": publisher},
        **task,
    }
    return {"Type": "batch", "Count": 1, "Tasks": [spec], **(job or {})}


class Api:
    """A node's API, without any client of ours between."""

    def __init__(self, node: DevNode) -> None:
        self.node = node
        self.session = requests.Session()

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.session.request(method, f"{self.node.api}/api/v1{path}", timeout=20, **options)

    def get(self, path: str) -> Any:
        return self.ask("GET", path).json()

    def submit(self, job: dict[str, Any], **request: Any) -> str:
        response = self.ask("PUT", "/orchestrator/jobs", json={"Job": job, **request})
        assert response.status_code == 200, response.text
        return str(response.json()["JobID"])

    def look(self, job_id: str) -> dict[str, Any]:
        answer = self.get(f"/orchestrator/jobs/{job_id}?include=executions,history")
        assert isinstance(answer, dict)
        return answer

    def wait(self, job_id: str, *states: str, seconds: float = 20) -> dict[str, Any]:
        wanted = set(states) or OVER
        deadline = time.monotonic() + seconds
        while (seen := self.look(job_id))["Job"]["State"]["StateType"] not in wanted:
            assert time.monotonic() < deadline, seen["Job"]["State"]
            time.sleep(0.005)
        return seen

    def run(self, job: dict[str, Any], *states: str) -> dict[str, Any]:
        return self.wait(self.submit(job), *states)

    def cid(self, job: dict[str, Any]) -> str:
        seen = self.run(job)
        assert seen["Job"]["State"]["StateType"] == "Completed", seen["Job"]["State"]
        return str(execution(seen)["PublishedResult"]["Params"]["CID"])


def execution(seen: dict[str, Any]) -> dict[str, Any]:
    only: list[dict[str, Any]] = seen["Executions"]["Items"]
    assert len(only) == 1
    return only[0]


def failure(seen: dict[str, Any]) -> str:
    """What the first failed execution says."""
    return str(seen["Executions"]["Items"][0]["ComputeState"]["Message"])


def messages(seen: dict[str, Any]) -> list[str]:
    return [item["Event"]["Message"] for item in seen["History"]["Items"]]


def recorded(file: str) -> dict[str, dict[str, Any]]:
    """Exchanges with a real node, by label."""
    return {entry["label"]: entry for entry in json.loads((DATA / f"{file}.json").read_text())}
