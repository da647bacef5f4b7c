"""The programs that the jobs of this suite run, as WebAssembly modules.

The example DAGs' modules do for most; the rest is WebAssembly text, so that each does one thing and nothing else. Every
function has a name: that makes the assembler write the ``name`` section which servers want.
"""

from __future__ import annotations

import functools
from pathlib import Path

_WORKLOADS = Path(__file__).parents[2] / "example_dags" / "workloads"

PLAIN_RETURN = "-99"
"""Argument with which :func:`exits` returns from its main function instead of exiting."""

BROKEN = b"not wasm at all"

_IMPORTS = """
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
"""


def exits() -> bytes:
    """Arguments: exit code (or :data:`PLAIN_RETURN`), and for how many seconds to be busy before."""
    return _workload("exitn")


def counts_words() -> bytes:
    """Arguments: a folder of text files, and the file that the number of their words is written to."""
    return _workload("wc")


def sums() -> bytes:
    """Arguments: a folder, in which every ``count.txt`` at any depth is added up, and the file for the sum."""
    return _workload("sum")


def stripped() -> bytes:
    """A program that would exit with 0, but has no ``name`` section."""
    return _assemble('(module (memory (export "memory") 1) (func (export "_start")))')


def writes(*pieces: bytes) -> bytes:
    """Writes each piece to stdout and to stderr, by a call of its own."""
    at, places, calls = 64, {}, []
    for piece in pieces:
        places[at] = piece
        calls += [f"(call $write (i32.const {stream}) (i32.const {at}) (i32.const {len(piece)}))" for stream in (1, 2)]
        at += len(piece)
    return _program(
        f"""
        (func $write (param $stream i32) (param $at i32) (param $size i32)
          (i32.store (i32.const 0) (local.get $at))
          (i32.store (i32.const 4) (local.get $size))
          (drop (call $fd_write (local.get $stream) (i32.const 0) (i32.const 1) (i32.const 8))))
        (func $main (export "_start")
          {" ".join(calls)}
          (call $proc_exit (i32.const 0)))
        """,
        data=places,
    )


def shows_arguments() -> bytes:
    """Prints its arguments, ``argv[0]`` first, each ended by a NUL; in one write, since more may not be recorded."""
    return _prints("args")


def shows_environment() -> bytes:
    """Prints its environment, each variable ended by a NUL; in one write."""
    return _prints("environ")


def lists_root() -> bytes:
    """Prints the names in ``/``, one a line, in one write."""
    return _program(
        """
        (func $main (export "_start") (local $at i32) (local $end i32) (local $out i32) (local $size i32)
          (drop (call $fd_readdir (i32.const 3) (i32.const 4096) (i32.const 16384) (i64.const 0) (i32.const 16)))
          (local.set $at (i32.const 4096))
          (local.set $end (i32.add (i32.const 4096) (i32.load (i32.const 16))))
          (local.set $out (i32.const 32768))
          (block $done (loop $next
            (br_if $done (i32.ge_u (i32.add (local.get $at) (i32.const 24)) (local.get $end)))
            (local.set $size (i32.load (i32.add (local.get $at) (i32.const 16))))
            (local.set $at (i32.add (local.get $at) (i32.const 24)))
            (memory.copy (local.get $out) (local.get $at) (local.get $size))
            (local.set $at (i32.add (local.get $at) (local.get $size)))
            (local.set $out (i32.add (local.get $out) (local.get $size)))
            (i32.store8 (local.get $out) (i32.const 10))
            (local.set $out (i32.add (local.get $out) (i32.const 1)))
            (br $next)))
          (i32.store (i32.const 0) (i32.const 32768))
          (i32.store (i32.const 4) (i32.sub (local.get $out) (i32.const 32768)))
          (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
          (call $proc_exit (i32.const 0)))
        """
    )


def creates(path: str) -> bytes:
    """Creates a file below the first opened folder, which is ``/``; exits with WASI's error number, 0 for none."""
    write_right, create = 0x40, 1
    return _program(
        f"""
        (func $main (export "_start")
          (call $proc_exit (call $path_open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const {len(path)})
            (i32.const {create}) (i64.const {write_right}) (i64.const 0) (i32.const 0) (i32.const 16))))
        """,
        data={64: path.encode()},
    )


def sleeps(seconds: int) -> bytes:
    """Sleeps, then exits with 0. A sleeping program is in the host's hands, where a busy one is not."""
    nanoseconds, timeout_at, monotonic = seconds * 10**9, 24, 1
    return _program(
        f"""
        (func $main (export "_start")
          (i32.store (i32.const 16) (i32.const {monotonic}))
          (i64.store (i32.const {timeout_at}) (i64.const {nanoseconds}))
          (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
          (call $proc_exit (i32.const 0)))
        """
    )


def grows(pages: int) -> bytes:
    """Asks for more memory, in pages of 64 KiB; exits with 0 when it got it, with 1 when not."""
    return _program(
        f"""
        (func $main (export "_start")
          (call $proc_exit (i32.eq (memory.grow (i32.const {pages})) (i32.const -1))))
        """
    )


def needs(pages: int) -> bytes:
    """Has that much memory from its beginning, in pages of 64 KiB; returns."""
    return _assemble(f'(module (memory (export "memory") {pages}) (func $main (export "_start")))')


def traps() -> bytes:
    """Runs into an ``unreachable``."""
    return _program('(func $main (export "_start") unreachable)')


@functools.cache
def _workload(name: str) -> bytes:
    return (_WORKLOADS / f"{name}.wasm").read_bytes()


def _prints(what: str) -> bytes:
    """A program that prints its ``args`` or ``environ`` as WASI hands them out: one after the other, NUL-terminated."""
    return _program(
        f"""
        (func $main (export "_start")
          (drop (call ${what}_sizes_get (i32.const 16) (i32.const 20)))
          (drop (call ${what}_get (i32.const 1024) (i32.const 8192)))
          (i32.store (i32.const 0) (i32.const 8192))
          (i32.store (i32.const 4) (i32.load (i32.const 20)))
          (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
          (call $proc_exit (i32.const 0)))
        """
    )


def _program(functions: str, data: dict[int, bytes] | None = None) -> bytes:
    segments = "".join(f'(data (i32.const {at}) "{_escaped(content)}")' for at, content in (data or {}).items())
    return _assemble(f'(module {_IMPORTS} (memory (export "memory") 2) {segments} {functions})')


def _escaped(content: bytes) -> str:
    return "".join(f"\\{byte:02x}" for byte in content)


@functools.cache
def _assemble(text: str) -> bytes:
    import wasmtime

    return bytes(wasmtime.wat2wasm(text))
