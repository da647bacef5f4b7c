"""A job that is alive for as long as a test wants, and then succeeds."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from airflow_provider_bacalhau.client.spec import wasm_job
from airflow_provider_bacalhau.client.spec.data_urls import encode_data_url

_END = "end"
_TARGET = "/gate"


def lasts(folder: str, **options: Any) -> dict[str, Any]:
    """Runs until :func:`end` is called for this folder, which the node must allow (``allow_local_paths``).

    :param folder: path on the node's machine; may be a template that Airflow fills in.
    """
    source = {"Type": "localDirectory", "Params": {"SourcePath": folder}}
    return wasm_job(_module(), inputs=[{"Source": source, "Target": _TARGET}], **options)


def end(folder: Path) -> None:
    """Let the jobs of this folder succeed, within a quarter of a second."""
    (folder / _END).touch()


# The folder is file 4: the root comes before it. Named functions make the assembler write the section without which
# servers refuse a module.
_LASTS = f"""
    (module
      (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_filestat_get"
        (func $path_filestat_get (param i32 i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 1024) "{_END}")
      (func $main (export "_start")
        (i32.store (i32.const 16) (i32.const 1))
        (i64.store (i32.const 24) (i64.const 250000000))
        (loop $again
          (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
          (br_if $again
            (call $path_filestat_get
              (i32.const 4) (i32.const 0) (i32.const 1024) (i32.const {len(_END)}) (i32.const 256))))))
"""


@functools.cache
def _module() -> str:
    import wasmtime

    return encode_data_url(bytes(wasmtime.wat2wasm(_LASTS)), "application/wasm")
