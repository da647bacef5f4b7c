"""A compute node: looks at what it is offered, runs what fits, queues the rest.

All methods are called on the node's event loop; inputs, programs and results are handled in threads, and their end
wakes the loop: nothing polls. Capacity is counted while a program runs. An execution that does not fit waits in line;
its execution timeout counts from its start.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from airflow_provider_bacalhau.devnode.blocks import BlockStore
from airflow_provider_bacalhau.devnode.control import Control, InterruptedRunError, Interruption
from airflow_provider_bacalhau.devnode.emulation import Emulation
from airflow_provider_bacalhau.devnode.engine import Program, ProgramError, WasmEngine
from airflow_provider_bacalhau.devnode.godecode import BodyError
from airflow_provider_bacalhau.devnode.inputs import STORAGES, InputError, Inputs, Stage
from airflow_provider_bacalhau.devnode.jobspec import UnreadableParamsError, modernised, wasm_params
from airflow_provider_bacalhau.devnode.publishers import PUBLISHERS, PublishError, Publishers
from airflow_provider_bacalhau.devnode.ranking import NodeView
from airflow_provider_bacalhau.devnode.records import Execution, RunOutput, Topic
from airflow_provider_bacalhau.devnode.resources import Resources
from airflow_provider_bacalhau.devnode.validation import duration

ENGINES = ("wasm",)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an execution failed: the message, and topic and details of the event that tells it."""

    message: str
    topic: Topic
    details: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ended:
    """What is left of an execution that ran to its end."""

    published: Mapping[str, Any]
    output: RunOutput


@dataclass(frozen=True, slots=True)
class Reports:
    """What a compute node tells the orchestrator, on the event loop."""

    bid_accepted: Callable[[str], None]
    bid_rejected: Callable[[str, str], None]
    ended: Callable[[str, Ended], None]
    failed: Callable[[str, Problem], None]


@dataclass(frozen=True, slots=True)
class Workshop:
    """What the compute nodes of one process share."""

    engine: WasmEngine
    inputs: Inputs
    publishers: Publishers
    emulation: Emulation
    folder: Path
    blocks: BlockStore
    scanners: ThreadPoolExecutor
    runners: ThreadPoolExecutor


@dataclass(slots=True)
class _Task:
    execution: Execution
    resources: Resources
    control: Control
    running: bool = False


@dataclass(slots=True)
class ComputeNode:
    """One node of the emulated network."""

    id: str
    capacity: Resources
    workshop: Workshop
    reports: Reports
    loop: asyncio.AbstractEventLoop
    _tasks: dict[str, _Task] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, str]:
        """Labels that constraints are matched against."""
        emulation = self.workshop.emulation
        if emulation.labels is not None:
            return dict(emulation.labels)
        info = emulation.build_info
        return {"name": self.id, "os_arch": info["GOARCH"], "os_type": info["GOOS"]}

    def view(self) -> NodeView:
        """The node as the scheduler sees it."""
        used, queued = Resources(), Resources()
        for task in self._tasks.values():
            if task.running:
                used += task.resources
            else:
                queued += task.resources
        return NodeView(self.id, self.labels, ENGINES, PUBLISHERS, STORAGES, self.capacity, used, queued)

    def counts(self) -> tuple[int, int]:
        """Executions that run, and that wait."""
        running = sum(task.running for task in self._tasks.values())
        return running, len(self._tasks) - running

    def ask(self, execution: Execution) -> None:
        """Look whether an execution can be run, and report it as a bid."""
        self._scan(execution, lambda: self.reports.bid_accepted(execution.id))

    def run(self, execution: Execution, *, scan_first: bool = False) -> None:
        """Run an execution as soon as there is room."""
        if scan_first:
            self._scan(execution, lambda: self._enqueue(execution))
        else:
            self._enqueue(execution)

    def cancel(self, execution_id: str) -> None:
        """End an execution, waiting or running; nothing is reported of it any more."""
        task = self._tasks.get(execution_id)
        if task is None:
            return
        task.control.interrupt(Interruption.STOPPED)
        if not task.running:
            del self._tasks[execution_id]

    def close(self) -> None:
        """End everything."""
        for execution_id in list(self._tasks):
            self.cancel(execution_id)

    def _scan(self, execution: Execution, accepted: Callable[[], None]) -> None:
        def done(outcome: str | Problem) -> None:
            if isinstance(outcome, Problem):
                self.reports.failed(execution.id, outcome)
            elif outcome:
                self.reports.bid_rejected(execution.id, outcome)
            else:
                accepted()

        self._in_thread(self.workshop.scanners, lambda: scan(self.workshop, execution), done)

    def _enqueue(self, execution: Execution) -> None:
        is_endless = execution.job.is_long_running or not self.workshop.emulation.ends_programs
        timeout = 0 if is_endless else execution.job.execution_timeout
        self._tasks[execution.id] = _Task(execution, execution.job.resources, Control(timeout or None))
        self._start_what_fits()

    def _start_what_fits(self) -> None:
        free = self.view().available
        for task in list(self._tasks.values()):
            if not task.running and task.resources.fits(free):
                free -= task.resources
                task.running = True
                self._start(task)

    def _start(self, task: _Task) -> None:
        def done(outcome: Ended | Problem | None) -> None:
            del self._tasks[task.execution.id]
            if isinstance(outcome, Ended):
                self.reports.ended(task.execution.id, outcome)
            elif outcome is not None:
                self.reports.failed(task.execution.id, outcome)
            self._start_what_fits()

        self._in_thread(self.workshop.runners, lambda: run(self.workshop, task.execution, task.control), done)

    def _in_thread(self, pool: ThreadPoolExecutor, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        def job() -> None:
            try:
                outcome = work()
            except Exception as error:  # noqa: BLE001 - whatever breaks here must not leave the job running for ever
                text = f"the embedded node failed: {type(error).__name__}: {error}"
                outcome = Problem(text, Topic.RUNNING, {"IsError": "true"})
            if not self.loop.is_closed():
                self.loop.call_soon_threadsafe(done, outcome)

        pool.submit(job)


# --- the work, in threads --------------------------------------------------------------------------------------------


def scan(workshop: Workshop, execution: Execution) -> str | Problem:
    """What a node looks at before it bids. Empty when it takes the execution, else the reason why it does not."""
    task = modernised(execution.job.task)
    for name, value in task.get("Env", {}).items():
        if value.startswith("env:"):
            source = value.removeprefix("env:")
            return (
                f"rejected bid: this node does not resolve environment variable {name}: "
                f"environment variable '{source}' is not in allowed patterns"
            )
    for source in task["InputSources"]:
        try:
            workshop.inputs.measure(source)
        except InputError as error:
            details = {"ErrorCode": "Bacalhau:", **error.details, "IsError": "true"}
            return Problem(str(error), Topic.SCANNING, dict(sorted(details.items())))
    return ""


def run(workshop: Workshop, execution: Execution, control: Control) -> Ended | Problem | None:
    """Bring the inputs, run the program, publish what it left. None when the execution was stopped."""
    folder = workshop.folder / execution.id
    topic = Topic.RUNNING
    try:
        folder.mkdir(parents=True)
        output = _run_program(workshop, execution, control, folder)
        control.check()
        topic = Topic.PUBLISHING
        kind = execution.job.task["Publisher"]["Type"]
        return Ended(workshop.publishers.publish(kind, execution.id, folder / "results"), output)
    except InterruptedRunError as error:
        message = _interruption_text(error.reason, execution)
        return Problem(message, topic, {"IsError": "true"}) if message else None
    except (InputError, ProgramError, PublishError, OSError) as error:
        return Problem(_error_text(error), topic, {"IsError": "true"})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_program(workshop: Workshop, execution: Execution, control: Control, folder: Path) -> RunOutput:
    try:
        task = modernised(execution.job.task)
    except UnreadableParamsError as error:
        raise ProgramError(f"invalid WASM spec: {error}") from None
    stage = Stage(folder / "stage")
    results = folder / "results"
    stage.root.mkdir()
    results.mkdir(mode=0o700)
    for source in task.get("InputSources", ()):
        workshop.inputs.stage(source, stage, control)
    names = _result_names(task)
    for name in names:
        stage.place(name).mkdir(exist_ok=True)
        stage.mounts.append((stage.root / name, f"/{name}", True))
    try:
        params = wasm_params(task["Engine"])
    except BodyError as error:
        raise ProgramError(f"invalid WASM spec: {error}") from None
    if not params["EntryModule"]:
        raise ProgramError("invalid WASM spec: invalid wasm engine entry module. target path cannot be empty")
    program = Program(
        root=stage.root,
        entry_module=params["EntryModule"],
        import_modules=params["ImportModules"],
        entry=params["Entrypoint"],
        arguments=params["Parameters"],
        environment=_environment(execution, task, announced=workshop.emulation.announces_jobs),
        folders=stage.mounts,
        memory=execution.job.resources.memory,
        scratch=stage.root,
        stdout=results / "stdout",
        stderr=results / "stderr",
    )
    code = workshop.engine.run(program, control)
    for name in names:
        (stage.root / name).rename(results / name)
    (results / "exitCode").write_text(str(code)[: workshop.emulation.exit_code_digits])
    return _output(results, code, workshop.emulation.output_limit)


def _result_names(task: Mapping[str, Any]) -> list[str]:
    """Where the program may write: a result path of a WebAssembly task is mounted at its name, not at its path."""
    targets = {source["Target"] for source in task.get("InputSources", ())}
    names = []
    for entry in task.get("ResultPaths", ()):
        name = entry["Name"]
        if name in targets:
            raise ProgramError(f'output configuration error: output name "{name}" conflicts with input target')
        if "/" in name or name in {".", ".."} or "\0" in name:
            raise ProgramError(f'filesystem error at "{name}": mkdir results/{name}: no such file or directory')
        if name in {"stdout", "stderr", "exitCode"}:
            raise ProgramError(f"open results/{name}: is a directory")
        names.append(name)
    return names


def _environment(execution: Execution, task: Mapping[str, Any], *, announced: bool) -> list[tuple[str, str]]:
    job = execution.job
    own = {
        "BACALHAU_EXECUTION_ID": execution.id,
        "BACALHAU_JOB_ID": job.id,
        "BACALHAU_JOB_TYPE": job.type,
        "BACALHAU_PARTITION_COUNT": str(job.count),
        "BACALHAU_PARTITION_INDEX": str(execution.partition),
    }
    return sorted({**task.get("Env", {}), **(own if announced else {})}.items())


def _output(results: Path, code: int, limit: int) -> RunOutput:
    """The beginning of what the program wrote. A real node cuts the last newline of stdout, not of stderr, and may
    keep only the program's first write; this one keeps all that fits.
    """
    output = RunOutput(exit_code=code)
    for name in ("stdout", "stderr"):
        with (results / name).open("rb") as file:
            data = file.read(limit + 1)
        text, truncated = data[:limit].decode("utf-8", "replace"), len(data) > limit
        if name == "stdout":
            text = text if truncated else text.removesuffix("\n")
            output = replace(output, stdout=text, stdout_truncated=truncated)
        else:
            output = replace(output, stderr=text, stderr_truncated=truncated)
    return output


def _interruption_text(reason: Interruption, execution: Execution) -> str:
    if reason is Interruption.TIMED_OUT:
        return f"Execution timed out after {duration(execution.job.execution_timeout)}"
    return "no space left on device" if reason is Interruption.DISK_FULL else ""


def _error_text(error: Exception) -> str:
    """Without host paths: they mean nothing outside this process."""
    return f"filesystem error: {error.strerror}" if isinstance(error, OSError) else str(error)
