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


def counts(text: str, **options: Any) -> dict[str, Any]:
    """Counts the words of a text into ``outputs/count.txt``."""
    return wasm_job(
        local_file(str(WORKLOADS / "wc.wasm")),
        ["/inputs", "/outputs/count.txt"],
        inputs=[holds(text, "/inputs/text.txt")],
        outputs=["outputs"],
        **options,
    )


def adds(**options: Any) -> dict[str, Any]:
    """Adds up every ``count.txt`` below ``/inputs`` into ``outputs/total.txt``."""
    return wasm_job(
        local_file(str(WORKLOADS / "sum.wasm")), ["/inputs", "/outputs/total.txt"], outputs=["outputs"], **options
    )


def holds(text: str, target: str) -> dict[str, Any]:
    """An input that is this text."""
    url = encode_data_url(text.encode(), "text/plain")
    return {"Source": {"Type": "inline", "Params": {"URL": url}}, "Target": target}


def prints(size: int, **options: Any) -> dict[str, Any]:
    """Writes so many letters to stdout, in one piece."""
    return wasm_job(_module(_PRINTS.format(size=size)), **options)


def sleeps(seconds: int, **options: Any) -> dict[str, Any]:
    """Sleeps, then returns."""
    return wasm_job(_module(_SLEEPS.format(nanoseconds=seconds * 10**9)), **options)


# Named functions make the assembler write the section without which servers refuse a module.
_PRINTS = """
    (module
      (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 2)
      (func $main (export "_start")
        (memory.fill (i32.const 64) (i32.const 120) (i32.const {size}))
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.const {size}))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
"""
_SLEEPS = """
    (module
      (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func $main (export "_start")
        (i32.store (i32.const 16) (i32.const 1))
        (i64.store (i32.const 24) (i64.const {nanoseconds}))
        (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))
"""


@functools.cache
def _module(text: str) -> str:
    import wasmtime

    return encode_data_url(bytes(wasmtime.wat2wasm(text)), "application/wasm")
