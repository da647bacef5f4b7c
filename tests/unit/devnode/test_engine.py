"""The engine alone: what ends a run that does not end itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import wasmtime

from airflow_provider_bacalhau.devnode.control import Control, InterruptedRunError, Interruption
from airflow_provider_bacalhau.devnode.engine import Program, ProgramError, WasmEngine

from .specs import ASLEEP, BUSY, module, wat

FILLS_THE_DISK = bytes(
    wasmtime.wat2wasm("""(module $test
      (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 4)
      (data (i32.const 32) "f")
      (func $start (export "_start")
        (drop (call $open (i32.const 4) (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 1)
          (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 16)))
        (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 65536))
        (loop $on
          (drop (call $write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 20)))
          (br $on))))""")
)


@pytest.fixture
def engine() -> Iterator[WasmEngine]:
    made = WasmEngine(disk_limit=4 << 20)
    yield made
    made.close()


def program(folder: Path, code: bytes, *arguments: str) -> Program:
    root = folder / "root"
    (root / "out").mkdir(parents=True)
    (root / "m.wasm").write_bytes(code)
    return Program(
        root=root,
        entry_module="/m.wasm",
        import_modules=(),
        entry="_start",
        arguments=arguments,
        environment=(),
        folders=[(root / "out", "/out", True)],
        memory=64 << 20,
        scratch=root,
        stdout=folder / "stdout",
        stderr=folder / "stderr",
    )


def test_a_program_that_fills_the_disk_is_ended(engine: WasmEngine, tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError) as ended:
        engine.run(program(tmp_path, FILLS_THE_DISK), Control(timeout=20))
    assert ended.value.reason is Interruption.DISK_FULL


@pytest.mark.parametrize("code", [BUSY, ASLEEP], ids=["busy", "asleep"])
@pytest.mark.parametrize("reason", [Interruption.STOPPED, Interruption.TIMED_OUT])
def test_an_interruption_ends_a_run_within_a_moment(
    engine: WasmEngine, tmp_path: Path, code: bytes, reason: Interruption
) -> None:
    control = Control(timeout=0.2 if reason is Interruption.TIMED_OUT else None)
    if reason is Interruption.STOPPED:
        threading.Timer(0.2, control.interrupt, (reason,)).start()
    before = time.monotonic()
    with pytest.raises(InterruptedRunError) as ended:
        engine.run(program(tmp_path, code), control)
    assert ended.value.reason is reason
    assert time.monotonic() - before < 2


def test_an_interruption_before_the_start_is_not_lost(engine: WasmEngine, tmp_path: Path) -> None:
    control = Control()
    control.interrupt(Interruption.STOPPED)
    with pytest.raises(InterruptedRunError):
        engine.run(program(tmp_path, BUSY), control)


def test_memory_beyond_the_limit_is_not_given(engine: WasmEngine, tmp_path: Path) -> None:
    grows = wat("(call $exit (i32.eq (memory.grow (i32.const 2000)) (i32.const -1)))")
    assert engine.run(program(tmp_path, grows), Control()) == 1


def test_a_run_leaves_no_open_files(engine: WasmEngine, tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("no /proc here")
    (tmp_path / "warm").mkdir()
    engine.run(program(tmp_path / "warm", module("exitn.wasm"), "0"), Control())
    before = len(list(descriptors.iterdir()))
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        engine.run(program(folder, module("exitn.wasm"), "0"), Control())
        (tmp_path / f"broken{number}").mkdir()
        with pytest.raises(ProgramError):
            engine.run(program(tmp_path / f"broken{number}", b"no module"), Control())
    # Another node in this process may open and close files of its own meanwhile; a leak would be one for each run.
    assert len(list(descriptors.iterdir())) < before + 20
