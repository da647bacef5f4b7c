"""Running WASI programs with wasmtime: bounded, interruptible, seeing nothing but what was staged for them.

What was measured and decided:

* One engine for each run. Its epoch is the only thing that ends a busy program, and it ends every run of that engine.
* The epoch does not end a call into the host, so ``poll_oneoff`` (sleeping) is replaced by one that waits on the
  run's own event, and ``proc_exit`` by one that keeps codes above 125, which wasmtime's own does not.
* Standard output and error go through pipes: a reader keeps what the limit allows and drains the rest.
* Nothing limits what a program writes to its folders, so one watchdog thread looks at deadline, disk and stop requests
  of all runs every 20 ms; it sleeps while nothing runs.
* Compiled code is kept in memory only: it is native code, and whoever could write it to a file could run anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import selectors
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import wasmtime

from airflow_provider_bacalhau.devnode.wasi import ProgramExit, define_poll, define_proc_exit

DISK_LIMIT = 1 << 30
OUTPUT_LIMIT = 1_000_000_000

_WATCH_SECONDS = 0.02
_DISK_LOOK_SECONDS = 0.1
_CACHED_MODULES = 64
_MAGIC, _VERSION = b"\0asm", b"\x01\0\0\0"
_WASI = "wasi_snapshot_preview1"
_PAGE = 65_536

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


class Interruption(Enum):
    """Why a run was ended from outside."""

    STOPPED = "stopped"
    TIMED_OUT = "timed out"
    DISK_FULL = "disk full"


class ProgramError(Exception):
    """A program that could not be loaded or that broke; the message is what the server says."""


class InterruptedRunError(Exception):
    """A run that was ended from outside."""

    def __init__(self, reason: Interruption) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(slots=True)
class Control:
    """How others end a run: from any thread, at any time, before or while it runs.

    :param timeout: seconds the run may take once it is started, none without limit.
    """

    timeout: float | None = None
    event: threading.Event = field(default_factory=threading.Event)
    reason: Interruption | None = None
    _engines: list[wasmtime.Engine] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def interrupt(self, reason: Interruption) -> None:
        """End the run; the first reason counts."""
        with self._lock:
            if self.reason is None:
                self.reason = reason
            self.event.set()
            for engine in self._engines:
                engine.increment_epoch()

    def attach(self, engine: wasmtime.Engine) -> None:
        """Let interruptions reach an engine, whose store must have its epoch deadline set already.

        :raises InterruptedRunError: the run was ended before.
        """
        with self._lock:
            self._engines.append(engine)
        self.check()

    def check(self) -> None:
        """Between steps that cannot be interrupted.

        :raises InterruptedRunError: the run is to end.
        """
        if self.reason is not None:
            raise InterruptedRunError(self.reason)


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

    def __init__(self, disk_limit: int = DISK_LIMIT) -> None:
        self._cache: OrderedDict[bytes, bytes] = OrderedDict()
        self._cache_lock = threading.Lock()
        self._watchdog = _Watchdog(disk_limit)

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
            with _Outputs(program.stdout, program.stderr) as outputs:
                store.set_wasi(_wasi_config(program, outputs))
                try:
                    return self._call(program, control, engine, store)
                finally:
                    # The store holds the program's ends of the pipes; the reader ends when it lets go of them.
                    store.close()

    def _call(self, program: Program, control: Control, engine: wasmtime.Engine, store: wasmtime.Store) -> int:
        try:
            linker = wasmtime.Linker(engine)
            linker.define_wasi()
            linker.allow_shadowing = True
            define_poll(linker, control.event)
            define_proc_exit(linker)
            known = [_WASI]
            for name in program.import_modules:
                module = self._load(program, engine, name, "import")
                instance = _instantiate(linker, store, module, f"failed to load import module {name}", known, control)
                linker.define_instance(store, name, instance)
                known.append(name)
            name = program.entry_module
            module = self._load(program, engine, name, "entry")
            instance = _instantiate(linker, store, module, f"failed to load entry module {name}", known, control)
            entry = instance.exports(store).get(program.entry)
            if not isinstance(entry, wasmtime.Func):
                raise ProgramError(f"unable to find the entrypoint '{program.entry}' in the WASM module")
            wanted = len(entry.type(store).params)
            if wanted:
                raise ProgramError(f"expected {wanted} params, but passed 0")
            _guarded(lambda: entry(store), control)
        except ProgramExit as exit_:
            code = exit_.code
        else:
            code = -1
        # A program that slept when it was interrupted may have come to its end since.
        control.check()
        return code

    def _load(self, program: Program, engine: wasmtime.Engine, name: str, role: str) -> wasmtime.Module:
        prefix = f"failed to load {role} module {name}: "
        path = _module_path(program.root, name)
        if path is None:
            raise ProgramError(f'{prefix}module not found: "{name}"')
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ProgramError(f'{prefix}failed to load module at "{name}": {error.strerror}') from None
        if path.name != Path(name).name:
            name = f"{name.rstrip('/')}/{path.name}"
        try:
            _check_module(data, program.memory)
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


def _wasi_config(program: Program, outputs: _Outputs) -> wasmtime.WasiConfig:
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


def _module_path(root: Path, name: str) -> Path | None:
    """The file behind a module's target: a file, or a folder that holds exactly one ``.wasm``."""
    path = root / os.path.normpath("/" + name).lstrip("/")
    if path.is_dir():
        found = [entry for entry in path.iterdir() if entry.suffix == ".wasm" and entry.is_file()]
        return found[0] if len(found) == 1 else None
    return path if path.is_file() else None


def _check_module(data: bytes, memory: int) -> None:
    """What a real node refuses before it compiles: wasmtime would take text, and modules without names.

    :raises ValueError: with the server's words.
    """
    if data[:4] != _MAGIC:
        raise ValueError("invalid magic number")
    if data[4:8] != _VERSION:
        raise ValueError("invalid version header")
    has_names = False
    position = 8
    while position < len(data):
        kind = data[position]
        size, position = _leb128(data, position + 1)
        end = position + size
        if end > len(data):
            raise ValueError("unexpected EOF")
        if kind == 0:
            length, start = _leb128(data, position)
            has_names = has_names or data[start : start + length] == b"name"
        elif kind == 5 and memory:
            _check_memories(data, position, memory)
        position = end
    if not has_names:
        raise ValueError("Name section not found")


def _check_memories(data: bytes, position: int, memory: int) -> None:
    count, position = _leb128(data, position)
    if count:
        minimum, _ = _leb128(data, position + 1)
        limit = -(-memory // _PAGE)
        if minimum > limit:
            raise ValueError(
                f"section memory: min {minimum} pages ({_pages(minimum)}) over limit of {limit} pages ({_pages(limit)})"
            )


def _pages(count: int) -> str:
    size = count * _PAGE
    for unit, scale in (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if size >= scale:
            return f"{size // scale} {unit}"
    return str(size)


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("unexpected EOF")


class _Outputs:
    """Two pipes and the thread that empties them into two files, each up to the limit."""

    def __init__(self, stdout: Path, stderr: Path) -> None:
        self._pipes: list[tuple[int, int]] = []
        self._files: list[int] = []
        self._thread = threading.Thread(target=self._drain, name="devnode-output", daemon=True)
        try:
            for path in (stdout, stderr):
                self._pipes.append(os.pipe())
                self._files.append(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644))
        except BaseException:
            self._close_all()
            raise

    @property
    def stdout(self) -> str:
        """Path by which wasmtime opens the program's end of the standard output."""
        return f"/dev/fd/{self._pipes[0][1]}"

    @property
    def stderr(self) -> str:
        """The same for the standard error."""
        return f"/dev/fd/{self._pipes[1][1]}"

    def __enter__(self) -> _Outputs:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()
        self._close_all()

    def finish(self) -> None:
        """Close our copies of the program's ends and wait until everything written has arrived."""
        for number, (read, write) in enumerate(self._pipes):
            if write >= 0:
                os.close(write)
                self._pipes[number] = (read, -1)
        self._thread.join()

    def _drain(self) -> None:
        left = dict.fromkeys(range(len(self._pipes)), OUTPUT_LIMIT)
        with selectors.DefaultSelector() as selector:
            for number, (read, _) in enumerate(self._pipes):
                selector.register(read, selectors.EVENT_READ, number)
            while selector.get_map():
                for key, _ in selector.select():
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fd)
                        continue
                    kept = data[: left[key.data]]
                    left[key.data] -= len(kept)
                    _write_all(self._files[key.data], kept)

    def _close_all(self) -> None:
        for descriptor in [*self._files, *(end for pipe in self._pipes for end in pipe)]:
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._files.clear()
        self._pipes.clear()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@dataclass(slots=True)
class _Watched:
    control: Control
    folder: Path
    deadline: float
    disk_look: float


class _Watchdog:
    """One thread that ends runs which take too long or write too much; it sleeps while nothing runs."""

    def __init__(self, disk_limit: int) -> None:
        self._disk_limit = disk_limit
        self._watched: list[_Watched] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    @contextlib.contextmanager
    def watching(self, control: Control, folder: Path) -> Any:
        now = time.monotonic()
        deadline = now + control.timeout if control.timeout is not None else float("inf")
        entry = _Watched(control, folder, deadline, now + _DISK_LOOK_SECONDS)
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._watch, name="devnode-watchdog", daemon=True)
                self._thread.start()
            self._watched.append(entry)
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._watched.remove(entry)

    def _watch(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._watched)
                if self._closed:
                    return
                watched = list(self._watched)
            now = time.monotonic()
            for entry in watched:
                if now >= entry.deadline:
                    entry.control.interrupt(Interruption.TIMED_OUT)
                elif now >= entry.disk_look:
                    # Walking a large folder takes long; looks are spaced by ten times what the last one took.
                    if _folder_size(entry.folder, self._disk_limit) > self._disk_limit:
                        entry.control.interrupt(Interruption.DISK_FULL)
                    took = time.monotonic() - now
                    entry.disk_look = time.monotonic() + max(_WATCH_SECONDS, 10 * took)
            with self._changed:
                self._changed.wait_for(lambda: self._closed, timeout=_WATCH_SECONDS)


def _folder_size(folder: Path, enough: int) -> int:
    """Bytes on disk in a folder; stops counting beyond ``enough``. Links are not followed."""
    total = 0
    pending = [str(folder)]
    while pending and total <= enough:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        status = entry.stat(follow_symlinks=False)
                        total += min(status.st_size, status.st_blocks * 512)
        except OSError:
            continue  # the program removed it meanwhile
    return total
