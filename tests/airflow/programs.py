"""Jobs that the tasks of these tests submit: small WebAssembly programs, as plain job specifications."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from airflow_provider_bacalhau.client.spec import local_file, wasm_job
from airflow_provider_bacalhau.client.spec.data_urls import encode_data_url

PLAIN_RETURN = -99
"""Argument of ``exitn.wasm`` with which its main function returns instead of exiting."""

WORKLOADS = Path(__file__).parents[2] / "example_dags" / "workloads"


def exits(code: int = 0, **options: Any) -> dict[str, Any]:
    """Writes a line to stdout and one to stderr, then exits."""
    return wasm_job(local_file(str(WORKLOADS / "exitn.wasm")), [str(code)], **options)


def sleeps(seconds: int, **options: Any) -> dict[str, Any]:
    """Sleeps, then returns. Modules of different lengths are different programs."""
    return wasm_job(encode_data_url(_sleeping(seconds), "application/wasm"), **options)


@functools.cache
def _sleeping(seconds: int) -> bytes:
    import wasmtime

    # Named functions make the assembler write the section without which servers refuse a module.
    return bytes(
        wasmtime.wat2wasm(f"""
            (module
              (import "wasi_snapshot_preview1" "poll_oneoff"
                (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
              (memory (export "memory") 1)
              (func $main (export "_start")
                (i32.store (i32.const 16) (i32.const 1))
                (i64.store (i32.const 24) (i64.const {seconds * 10**9}))
                (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))
        """)
    )
