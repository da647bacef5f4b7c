"""Jobs for the node under test, and how to hand them over."""

from __future__ import annotations

import base64
import copy
import io
import re
import tarfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_bacalhau.client.spec import read_job_spec, wasm_job
from airflow_provider_bacalhau.client.states import JobState

from . import programs

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client.diagnosis import JobOutcome
    from airflow_provider_bacalhau.client.facts import Job

PATIENCE = 30.0
"""Seconds until which anything that should happen has happened."""


UNKNOWN_ID = "j-00000000-0000-4000-8000-000000000000"
"""Has the form of a job's id, and is nobody's."""

SETTLING = 0.5
"""Seconds after which a job that began is at work, and a quick one is over."""


class Unchecked:
    """A job that goes to the server as it is. The client's own models would refuse it first.

    :param wire: the job in the server's form.
    """

    def __init__(self, wire: Mapping[str, Any]) -> None:
        self.wire = wire
        self.name = wire.get("Name", "")
        self.namespace = wire.get("Namespace", "")

    def to_wire(self, *, module_sources: bool = False) -> Mapping[str, Any]:
        return _with_module_in_engine(self.wire) if module_sources else self.wire


def _with_module_in_engine(wire: Mapping[str, Any]) -> Mapping[str, Any]:
    """The job with its module where servers up to v1.6 look for it; one without such an input is left as it is."""
    task: Mapping[str, Any] = next(iter(wire.get("Tasks") or ()), {})
    params = task.get("Engine", {}).get("Params", {})
    inputs = task.get("InputSources") or []
    modules = [source for source in inputs if source.get("Target") == params.get("EntryModule")]
    if not modules:
        return wire
    others = [source for source in inputs if source not in modules]
    renamed = {"EntryPoint" if key == "Entrypoint" else key: value for key, value in params.items()}
    moved = changed(wire, "Tasks", 0, "Engine", "Params", to={**renamed, "EntryModule": modules[0]})
    return changed(moved, "Tasks", 0, "InputSources", to=others)


def unique(readable: str) -> str:
    """A name that nothing else on the network has."""
    return f"{readable}-{uuid.uuid4().hex[:12]}"


def inline(content: bytes, target: str, media_type: str = "text/plain") -> dict[str, Any]:
    """An input source that holds its bytes."""
    url = f"data:{media_type};base64,{base64.b64encode(content).decode()}"
    return {"Source": {"Type": "inline", "Params": {"URL": url}}, "Target": target}


def from_ipfs(cid: str, target: str) -> dict[str, Any]:
    """An input source that is named by its CID."""
    return {"Source": {"Type": "ipfs", "Params": {"CID": cid}}, "Target": target}


def job(module: bytes, *args: str, queue_timeout: int = 60, **options: Any) -> dict[str, Any]:
    """A job in the server's form that needs little, so that many run beside each other.

    :param module: the program.
    :param args: its arguments.
    :param queue_timeout: seconds that it may wait for a node; 0 lets it fail at once, once no node is left.
    :param options: those of :func:`~airflow_provider_bacalhau.client.spec.wasm_job`.
    """
    options.setdefault("resources", {"CPU": "0.1", "Memory": "64Mb"})
    options.setdefault("execution_timeout", 60)
    timeout: dict[str, Any] = {"queue_timeout": queue_timeout} if queue_timeout else {}
    module_source = inline(module, "/mod/entry.wasm", "application/wasm")
    return wasm_job(module_source, list(args), **options, **timeout)


def exiting(code: int | str = 0, **options: Any) -> dict[str, Any]:
    """A job whose program prints a line to each stream and exits."""
    return job(programs.exits(), str(code), **options)


def busy(seconds: int = 60, **options: Any) -> dict[str, Any]:
    """A job whose program keeps a processor busy."""
    return job(programs.exits(), "0", str(seconds), **options)


def changed(spec: Mapping[str, Any], *path: str | int, to: Any) -> dict[str, Any]:
    """A copy of a job with another value at a path."""
    copied = copy.deepcopy(dict(spec))
    place: Any = copied
    for step in path[:-1]:
        place = place.setdefault(step, {}) if isinstance(step, str) else place[step]
    place[path[-1]] = to
    return copied


@dataclass
class Submitter:
    """Submits jobs through a client and leaves none of them behind.

    :param client: either client.
    :param publisher: what results are published to unless a job says otherwise.
    """

    client: Any
    publisher: str
    _ids: list[str] = field(default_factory=list)

    def submit(self, spec: Mapping[str, Any], *, unchecked: bool = False) -> str:
        """Submit a job; its id."""
        task = spec["Tasks"][0] if spec.get("Tasks") else {}
        if task and "Publisher" not in task:
            spec = changed(spec, "Tasks", 0, "Publisher", to={"Type": self.publisher})
        submission = self.client.submit(Unchecked(spec) if unchecked else read_job_spec(spec))
        self._ids.append(submission.job_id)
        return submission.job_id

    def finish(self, spec: Mapping[str, Any], *, unchecked: bool = False) -> JobOutcome:
        """Submit a job and wait until it is over."""
        return self.outcome(self.submit(spec, unchecked=unchecked))

    def outcome(self, job_id: str) -> JobOutcome:
        """Wait until a job is over, and judge it."""
        self.client.wait(job_id, poll_interval=0.2, deadline=time.time() + PATIENCE)
        return self.client.outcome(job_id)

    def until(self, job_id: str, holds: Callable[[Job], bool]) -> Job:
        """Look at a job, with its executions and history, until something holds of it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            seen = self.client.get(job_id, executions=True, history=True)
            if holds(seen):
                return seen
            assert time.monotonic() < deadline, f"still not so after {PATIENCE} s: {seen}"
            time.sleep(0.05)

    def running(self, job_id: str) -> Job:
        """Wait until a job's program is certainly at work.

        A job is Running a moment before its program is, and a v1.9.3 that is told to stop it in that moment dies (nil
        pointer in its WebAssembly executor).
        """
        job = self.until(job_id, lambda seen: seen.state is JobState.RUNNING)
        time.sleep(SETTLING)
        return job

    def adopt(self, job_id: str) -> None:
        """Count a job that was submitted by other means as one of these."""
        self._ids.append(job_id)

    def clean_up(self) -> None:
        """Stop whatever does not end by itself."""
        deadline = time.monotonic() + SETTLING
        for job_id in self._ids:
            while not (job := self.client.get(job_id)).state.is_terminal and time.monotonic() < deadline:
                time.sleep(0.02)
            if not job.state.is_terminal:
                self.client.stop(job_id, "the test is over")


def archive(url: str) -> dict[str, bytes | None]:
    """The members of an archive of the local publisher: a file's content, None for a folder."""
    answer = requests.get(url, timeout=10)
    answer.raise_for_status()
    found: dict[str, bytes | None] = {}
    with tarfile.open(fileobj=io.BytesIO(answer.content), mode="r:gz") as members:
        for member in members:
            content = members.extractfile(member)
            found[member.name.removeprefix("./")] = content.read() if content else None
    return found


_NODES_WITH_A_REASON = re.compile(r"• (?:Node n-[0-9a-f]{8}|(?P<alike>\d+) of \d+ nodes): (?P<reason>.*)")


def reasons(message: str) -> dict[str, int]:
    """Why nodes cannot take a job, and how many say so; nodes that say the same share a line."""
    found: dict[str, int] = {}
    for line in message.splitlines()[1:]:
        parts = _NODES_WITH_A_REASON.fullmatch(line)
        assert parts, line
        found[parts["reason"]] = found.get(parts["reason"], 0) + int(parts["alike"] or 1)
    return found


def events(history: Sequence[Any]) -> list[tuple[str, str]]:
    """Topic and message of each event."""
    return [(item.event.topic, item.event.message) for item in history]
