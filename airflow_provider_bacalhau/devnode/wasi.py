"""Two WASI calls of our own, in place of wasmtime's: sleeping that can be ended, and exit codes of 32 bits."""

from __future__ import annotations

import struct
import threading
import time
from dataclasses import dataclass
from functools import cache

import wasmtime

_MODULE = "wasi_snapshot_preview1"
_SUBSCRIPTION = 48
_EVENT = 32
_CLOCK, _REALTIME = 0, 0
_ABSOLUTE = 1
_SUCCESS, _INVALID = 0, 28
_I32 = wasmtime.ValType.i32


# wasmtime's Python binding keeps the exception of a callback in one variable for the whole process, where runs in other
# threads pick it up. So no callback raises: `proc_exit` notes the code and ends the program by a trap, in WebAssembly.
_EXIT_SHIM = """
(module
  (import "devnode" "exiting" (func $exiting (param i32)))
  (func (export "proc_exit") (param i32)
    (call $exiting (local.get 0))
    unreachable))
"""


@dataclass(slots=True)
class ProgramExit:
    """Whether a program called ``proc_exit``, and with which code (0 to 4294967295)."""

    code: int | None = None


@cache
def _exit_shim() -> bytes:
    """Compiled once; the code fits every engine that can be interrupted."""
    config = wasmtime.Config()
    config.epoch_interruption = True
    return bytes(wasmtime.Module(wasmtime.Engine(config), _EXIT_SHIM).serialize())


def define_proc_exit(linker: wasmtime.Linker, store: wasmtime.Store) -> ProgramExit:
    """Let ``proc_exit`` keep the whole code; wasmtime's own refuses codes above 125.

    :returns: where to look for the code when the program has ended, by a trap or otherwise.
    """
    seen = ProgramExit()

    def exiting(code: int) -> None:
        seen.code = code & 0xFFFFFFFF

    linker.define_func("devnode", "exiting", wasmtime.FuncType([_I32()], []), exiting)
    shim = linker.instantiate(store, wasmtime.Module.deserialize(linker.engine, _exit_shim()))
    linker.define(store, _MODULE, "proc_exit", shim.exports(store)["proc_exit"])
    return seen


def define_poll(linker: wasmtime.Linker, interrupted: threading.Event) -> None:
    """Let ``poll_oneoff`` wait for the earliest clock, or until the run is interrupted.

    Subscriptions to files are reported ready at once: everything a program can open here is a file or a pipe with a
    reader. After an interruption the call returns as if the time were over, and the epoch ends the program.
    """

    def poll_oneoff(caller: wasmtime.Caller, given: int, events: int, count: int, stored: int) -> int:
        memory = caller.get("memory")
        if not isinstance(memory, wasmtime.Memory) or count <= 0:
            return _INVALID
        size = memory.data_len(caller)
        given, events, stored, count = (value & 0xFFFFFFFF for value in (given, events, stored, count))
        if given + count * _SUBSCRIPTION > size or events + count * _EVENT > size or stored + 4 > size:
            return _INVALID
        subscriptions = bytes(memory.read(caller, given, given + count * _SUBSCRIPTION))
        answers = _answers(subscriptions, interrupted)
        memory.write(caller, b"".join(answers), events)
        memory.write(caller, struct.pack("<I", len(answers)), stored)
        return _SUCCESS

    signature = wasmtime.FuncType([_I32(), _I32(), _I32(), _I32()], [_I32()])
    linker.define_func(_MODULE, "poll_oneoff", signature, poll_oneoff, access_caller=True)


def _answers(subscriptions: bytes, interrupted: threading.Event) -> list[bytes]:
    clocks: list[tuple[float, bytes]] = []
    ready: list[bytes] = []
    for at in range(0, len(subscriptions), _SUBSCRIPTION):
        userdata, kind = struct.unpack_from("<QB", subscriptions, at)
        answer = struct.pack("<QHB21x", userdata, 0, kind)
        if kind == _CLOCK:
            clock, timeout, _, flags = struct.unpack_from("<I4xQQH", subscriptions, at + 16)
            if flags & _ABSOLUTE:
                timeout -= time.time_ns() if clock == _REALTIME else time.monotonic_ns()
            clocks.append((max(0, timeout) / 1e9, answer))
        else:
            ready.append(answer)
    if ready:
        return ready
    wait = min(seconds for seconds, _ in clocks)
    interrupted.wait(min(wait, threading.TIMEOUT_MAX))
    return [answer for seconds, answer in clocks if seconds <= wait]
