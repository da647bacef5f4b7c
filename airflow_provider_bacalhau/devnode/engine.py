"""Running WASI programs with wasmtime: bounded, interruptible, seeing nothing but what was staged for them.

What was measured and decided:

* One engine for each run. Its epoch is the only thing that ends a busy program, and it ends every run of that engine.
* The epoch does not end a call into the host, so ``poll_oneoff`` (sleeping) is replaced by one that waits on the
  run's own event, and ``proc_exit`` by one that keeps codes above 125 (:mod:`.wasi`).
* Standard output and error go through pipes: a reader keeps what the limit allows and drains the rest.
* Nothing limits what a program writes to its folders, so one watchdog thread looks at deadline, disk and stop requests
  of all runs every 20 ms; it sleeps while nothing runs.
* Compiled code is kept in memory only: it is native code, and whoever could write it to a file could run anything.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wasmtime

from airflow_provider_bacalhau.devnode.control import Control, Watchdog
from airflow_provider_bacalhau.devnode.modules import check_module, module_path
from airflow_provider_bacalhau.devnode.outputs import Outputs
from airflow_provider_bacalhau.devnode.wasi import define_poll, define_proc_exit

DISK_LIMIT = 1 << 30

_CACHED_MODULES = 64
_WASI = "wasi_snapshot_preview1"

_TRAPS = {
    "unreachable": "wasm error: unreachable",
    "out of bounds memory access": "wasm error: out of bounds memory access",
    "undefined element: out of bounds table access": "wasm error: invalid table access",
    "uninitialized element": "wasm error: invalid table access",
    "indirect call type mismatch": "wasm error: indirect call type mismatch",
    "integer overflow": "wasm error: integer overflow",
    "integer divide by zero": "wasm error: integer divide by zero",
    "invalid conversion to integer": "wasm error: invalid conversion to integer",
    "call stack exhausted": "stack overflow",
}


class ProgramError(Exception):
    """A program that could not be loaded or that broke; the message is what the server says."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run.

    :param modules: paths of the entry module and of the modules it imports from, as guests name them.
    :param entry: name of the function to call.
    :param folders: host folders, the paths guests see them at, and whether they may be written.
    :param memory: bytes the program may use, 0 for no limit but WebAssembly's own.
    :param scratch: folder whose size is limited.
    :param stdout: file for the standard output; :param stderr: file for the standard error.
    """

    root: Path
    entry_module: str
    import_modules: Sequence[str]
    entry: str
    arguments: Sequence[str]
    environment: Sequence[tuple[str, str]]
    folders: Sequence[tuple[Path, str, bool]]
    memory: int
    scratch: Path
    stdout: Path
    stderr: Path


class WasmEngine:
    """Runs programs, each in the thread that asks for it. Shared by all threads; close it when done."""

    def __init__(self, disk_limit: int = DISK_LIMIT, *, needs_names: bool = True) -> None:
        self._needs_names = needs_names
        self._cache: OrderedDict[bytes, bytes] = OrderedDict()
        self._cache_lock = threading.Lock()
        self._watchdog = Watchdog(disk_limit)

    def close(self) -> None:
        """Stop the watchdog. Runs should have ended."""
        self._watchdog.close()

    def run(self, program: Program, control: Control) -> int:
        """Run a program to its end.

        :returns: its exit code, 0 to 4294967295, or -1 when the entry function simply returned.
        :raises ProgramError: it cannot be loaded, or it broke; :raises InterruptedRunError: it was ended.
        """
        config = wasmtime.Config()
        config.epoch_interruption = True
        engine = wasmtime.Engine(config)
        store = wasmtime.Store(engine)
        store.set_epoch_deadline(1)
        if program.memory:
            store.set_limits(memory_size=program.memory)
        with self._watchdog.watching(control, program.scratch):
            control.attach(engine)
            with Outputs(program.stdout, program.stderr) as outputs:
                store.set_wasi(_wasi_config(program, outputs))
                try:
                    return self._call(program, control, engine, store)
                finally:
                    # The store holds the program's ends of the pipes; the reader ends when it lets go of them.
                    store.close()

    def _call(self, program: Program, control: Control, engine: wasmtime.Engine, store: wasmtime.Store) -> int:
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        linker.allow_shadowing = True
        define_poll(linker, control.event)
        exited = define_proc_exit(linker, store)
        try:
            _guarded(lambda: self._enter(program, linker, store, control), control)
        except ProgramError:
            if exited.code is None:
                raise
        # A program that slept when it was interrupted may have come to its end since.
        control.check()
        return -1 if exited.code is None else exited.code

    def _enter(self, program: Program, linker: wasmtime.Linker, store: wasmtime.Store, control: Control) -> None:
        """Load the modules and call the entry function."""
        known = [_WASI]
        for name in program.import_modules:
            module = self._load(program, linker.engine, name, "import")
            instance = _instantiate(linker, store, module, f"failed to load import module {name}", known, control)
            linker.define_instance(store, name, instance)
            known.append(name)
        name = program.entry_module
        module = self._load(program, linker.engine, name, "entry")
        instance = _instantiate(linker, store, module, f"failed to load entry module {name}", known, control)
        entry = instance.exports(store).get(program.entry)
        if not isinstance(entry, wasmtime.Func):
            raise ProgramError(f"unable to find the entrypoint '{program.entry}' in the WASM module")
        wanted = len(entry.type(store).params)
        if wanted:
            raise ProgramError(f"expected {wanted} params, but passed 0")
        entry(store)

    def _load(self, program: Program, engine: wasmtime.Engine, name: str, role: str) -> wasmtime.Module:
        prefix = f"failed to load {role} module {name}: "
        path = module_path(program.root, name)
        if path is None:
            raise ProgramError(f'{prefix}module not found: "{name}"')
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ProgramError(f'{prefix}failed to load module at "{name}": {error.strerror}') from None
        if path.name != Path(name).name:
            name = f"{name.rstrip('/')}/{path.name}"
        try:
            check_module(data, program.memory, needs_names=self._needs_names)
            return self._compile(engine, data)
        except ValueError as error:
            raise ProgramError(f'{prefix}failed to compile module at "{name}": {error}') from None

    def _compile(self, engine: wasmtime.Engine, data: bytes) -> wasmtime.Module:
        key = hashlib.sha256(data).digest()
        with self._cache_lock:
            compiled = self._cache.get(key)
            if compiled is not None:
                self._cache.move_to_end(key)
        if compiled is not None:
            return wasmtime.Module.deserialize(engine, compiled)
        try:
            module = wasmtime.Module(engine, data)
        except wasmtime.WasmtimeError as error:
            raise ValueError(str(error).strip().splitlines()[0]) from None
        with self._cache_lock:
            self._cache[key] = bytes(module.serialize())
            while len(self._cache) > _CACHED_MODULES:
                self._cache.popitem(last=False)
        return module


def _wasi_config(program: Program, outputs: Outputs) -> wasmtime.WasiConfig:
    wasi = wasmtime.WasiConfig()
    wasi.argv = ["", *program.arguments]
    wasi.env = list(program.environment)
    wasi.stdout_file = outputs.stdout
    wasi.stderr_file = outputs.stderr
    wasi.preopen_dir(str(program.root), "/", False)
    for folder, guest_path, writable in program.folders:
        wasi.preopen_dir(str(folder), guest_path, writable)
    return wasi


def _is_defined(linker: wasmtime.Linker, store: wasmtime.Store, wanted: wasmtime.ImportType) -> bool:
    try:
        linker.get(store, wanted.module, wanted.name or "")
    except wasmtime.WasmtimeError:
        return False
    return True


def _instantiate(
    linker: wasmtime.Linker,
    store: wasmtime.Store,
    module: wasmtime.Module,
    complaint: str,
    modules: Sequence[str],
    control: Control,
) -> wasmtime.Instance:
    """Link a module against WASI and the modules before it, named by ``modules``."""
    for wanted in module.imports:
        if wanted.module not in modules:
            raise ProgramError(f'{complaint}: unknown module "{wanted.module}"')
        if not _is_defined(linker, store, wanted):
            missing = f'"{wanted.name}" is not exported in module "{wanted.module}"'
            raise ProgramError(f"{complaint}: failed to load module at {_quoted_path(complaint)}: {missing}")
    try:
        instance: wasmtime.Instance = _guarded(lambda: linker.instantiate(store, module), control)
    except ProgramError as error:
        raise ProgramError(f"{complaint}: failed to load module at {_quoted_path(complaint)}: {error}") from None
    return instance


def _quoted_path(complaint: str) -> str:
    return f'"{complaint.split(" module ", 1)[1]}"'


def _guarded(call: Callable[[], Any], control: Control) -> Any:
    """Call into a program and put wasmtime's complaints into the server's words."""
    try:
        return call()
    except wasmtime.Trap as trap:
        control.check()
        raise ProgramError(_trap_text(trap)) from None
    except wasmtime.WasmtimeError as error:
        control.check()
        raise ProgramError(str(error).strip().splitlines()[0]) from None


def _trap_text(trap: wasmtime.Trap) -> str:
    text = trap.message
    summary = next((words for start, words in _TRAPS.items() if start in text), None)
    if summary is None:
        return f"wasm error: {text.strip().splitlines()[-1].strip()}"
    if summary == "stack overflow":
        return summary
    frames = "".join(
        f"\n\t{frame.module_name or ''}.{frame.func_name or f'${frame.func_index}'}()" for frame in trap.frames
    )
    return f"{summary}\nwasm stack trace:{frames}" if frames else summary
