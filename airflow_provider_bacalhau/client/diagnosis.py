"""Why a job did not succeed: a pure function from what the server says to a category, a sentence and a remedy.

The server's own account is scattered. The job's message often says only that no node is left; the cause is in the
executions, whose exit code means nothing unless they completed; and a program that fails does not fail its job at all.
Texts are those of running nodes v1.4.0–v1.9.3 (recordings); an unknown text is shown, never hidden.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from airflow_provider_bacalhau.client.facts import Event, Execution, HistoryEvent, Job
from airflow_provider_bacalhau.client.reading import clean
from airflow_provider_bacalhau.client.states import ExecutionState, JobState

PLAIN_RETURN = -1
"""What a WebAssembly program that returns from ``_start`` without ``exit()`` reads as. It is success."""


class FailureCategory(StrEnum):
    """Stable names of the reasons why a job failed; part of the public interface (XCom ``failure_category``)."""

    meaning: str

    def __new__(cls, name: str, meaning: str) -> Self:
        """Make a member of its name and what it means."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.meaning = meaning
        return member

    PROGRAM_FAILED = "PROGRAM_FAILED", "A program ended with an exit code that is not success."
    IMAGE_NOT_FOUND = "IMAGE_NOT_FOUND", "The Docker image cannot be had."
    MODULE_INVALID = "MODULE_INVALID", "The WebAssembly module cannot be loaded."
    INPUT_UNAVAILABLE = "INPUT_UNAVAILABLE", "An input cannot be read by the node."
    PUBLISH_FAILED = "PUBLISH_FAILED", "The results cannot be written where the publisher says."
    OUT_OF_MEMORY = "OUT_OF_MEMORY", "The program needed more memory than the task allows."
    EXECUTION_TIMEOUT = "EXECUTION_TIMEOUT", "An execution ran for longer than the task allows."
    QUEUE_TIMEOUT = "QUEUE_TIMEOUT", "The job waited for a node for longer than it may."
    JOB_TIMEOUT = "JOB_TIMEOUT", "The job took longer than its total timeout."
    NO_SUITABLE_NODE = "NO_SUITABLE_NODE", "No node fits what the job asks for, or all are busy and it may not queue."
    ENGINE_NOT_SUPPORTED = "ENGINE_NOT_SUPPORTED", "No node has the engine."
    STOPPED_BY_OTHERS = "STOPPED_BY_OTHERS", "Someone stopped the job."
    NODE_LOST = "NODE_LOST", "The node that ran it went away."
    INCOMPLETE = "INCOMPLETE", "The job is marked completed, but fewer executions completed than it asks for."
    WAIT_TIMEOUT = "WAIT_TIMEOUT", "The job was not over when the task's own timeout had passed."
    UNKNOWN = "UNKNOWN", "None of these; the summary has the server's own words."


@dataclass(frozen=True)
class Diagnosis:
    """Why a job did not succeed.

    :param category: stable name of the reason.
    :param summary: one sentence for a person.
    :param hint: what to do about it; empty when there is nothing better to say.
    :param facts: the lines that led there, such as the executions' messages and the end of stderr.
    """

    category: FailureCategory
    summary: str
    hint: str = ""
    facts: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """The diagnosis as a short block for a log."""
        yield f"{self.category.value}: {self.summary}"
        yield from (f"  {fact}" for fact in self.facts)
        if self.hint:
            yield f"What to do: {self.hint}"


# A category, a pattern in what the server says, and the remedy; the first that is found counts.
_Cause = tuple[FailureCategory, re.Pattern[str], str]


def _cause(category: FailureCategory, pattern: str, hint: str) -> _Cause:
    return category, re.compile(pattern, re.IGNORECASE), hint


_CAUSES: tuple[_Cause, ...] = (
    _cause(
        FailureCategory.IMAGE_NOT_FOUND,
        r"Docker:ImageNotFound|image not available|manifest unknown|pull access denied",
        "Check the image's name and tag, and that the compute nodes can reach its registry.",
    ),
    _cause(
        FailureCategory.MODULE_INVALID,
        r"Name section not found",
        "Build the module with its name section (do not strip it; wasm-opt -g keeps it).",
    ),
    _cause(
        FailureCategory.MODULE_INVALID,
        r"invalid magic number|failed to (compile module|load entry module|instantiate|parse WebAssembly)"
        r"|invalid (version header|section)",
        "The entry module is no WebAssembly module that a node can load: check what its input source really holds.",
    ),
    _cause(
        FailureCategory.OUT_OF_MEMORY,
        r"memory limit exceeded|out of memory|\bOOM",
        "Give the task more memory (Resources.Memory).",
    ),
    _cause(
        FailureCategory.EXECUTION_TIMEOUT,
        r"Execution timed out",
        "Give the program more time (job_execution_timeout), or more resources.",
    ),
    _cause(FailureCategory.JOB_TIMEOUT, r"Job timed out", "Give the job more time (job_total_timeout)."),
    _cause(
        FailureCategory.NODE_LOST,
        r"node restart|node has (disappeared|been rejected)",
        "The node that ran it went away; run the task again.",
    ),
    # A node looks at the inputs to reckon the job's size, so a missing one comes with these words.
    _cause(
        FailureCategory.INPUT_UNAVAILABLE,
        r"calculating resource usage of job|S3InputSource",
        "Check that the input is there, and that the compute nodes can read it.",
    ),
    _cause(
        FailureCategory.PUBLISH_FAILED,
        r"^Publishing Results:|failed to publish|error publishing|S3Publisher|IPFSPublisher|managed S3 publisher",
        "Check the publisher's parameters and the compute node's rights to write there.",
    ),
    _cause(
        FailureCategory.INPUT_UNAVAILABLE,
        r"failed to (download|prepare|fetch|get)|input source|storage provider|no such (file|key|bucket)"
        r"|invalid cid|NoSuchBucket|NoSuchKey",
        "Check that the input is there, and that the compute nodes can read it.",
    ),
)

_NO_NODE = re.compile(r"not enough nodes")
_UNSUPPORTED = re.compile(r"does not support (\S+), only")
_USED_UP = "job already executed on this node more than once"
_MOST_CAUSES, _LONGEST_CAUSE = 50, 5000
_SCHEDULING, _QUEUEING = "Scheduling", "Queueing"
_REJECTED = {ExecutionState.ASK_FOR_BID_REJECTED, ExecutionState.BID_REJECTED}


def completed_executions(executions: Sequence[Execution]) -> list[Execution]:
    """The executions that ran to their end, in the order of their partitions."""
    return sorted((one for one in executions if one.state is ExecutionState.COMPLETED), key=lambda one: one.partition)


def exit_code_is_good(job: Job, execution: Execution) -> bool:
    """Whether a completed execution's program succeeded: exit code 0, or −1 from WebAssembly."""
    return execution.exit_code == 0 or (job.engine == "wasm" and execution.exit_code == PLAIN_RETURN)


def wanted_executions(job: Job) -> int:
    """How many executions have to complete: the job's count, or at least one of an ops job."""
    return 1 if job.type in {"ops", "daemon"} else max(1, job.count)


def has_succeeded(job: Job, executions: Sequence[Execution]) -> bool:
    """Whether a job did what was wanted, which "Completed" does not say: a program's exit code fails no job.

    :param job: the job.
    :param executions: its executions.
    """
    completed = completed_executions(executions)
    if job.type == "ops" and len(completed) < len([one for one in executions if one.state not in _REJECTED]):
        return False
    return (
        job.state is JobState.COMPLETED
        and len(completed) >= wanted_executions(job)
        and all(exit_code_is_good(job, one) for one in completed)
    )


def diagnose(job: Job, executions: Sequence[Execution], history: Sequence[HistoryEvent] = ()) -> Diagnosis:
    """Say why a job did not succeed.

    :param job: the job, in whatever state.
    :param executions: its executions.
    :param history: its events, where they were read; they hold error codes and hints.
    """
    facts = tuple(_facts(job, executions, history))
    if job.state is JobState.STOPPED:
        reason = clean(job.message or _stop_reason(history), 300)
        said = f" saying {reason!r}" if reason else " without a reason"
        return Diagnosis(
            FailureCategory.STOPPED_BY_OTHERS,
            f"Job {job.id} was stopped{said}.",
            "Ask whoever stopped it; running the task again submits a new job.",
            facts,
        )
    if job.state is JobState.COMPLETED:
        return _diagnose_completed(job, executions, facts)
    causes = _causes(job, executions, history)
    for category, pattern, hint in _CAUSES:
        for topic, message in causes:
            if pattern.search(f"{topic}: {message}"):
                summary = f"Job {job.id} failed: {_first_line(message)}."
                return Diagnosis(category, summary, _server_hint(history) or hint, facts)
    if not causes and _NO_NODE.search(job.message):
        return _diagnose_no_node(job, history, facts)
    why = _first_line(causes[0][1] if causes else job.message) or "the server gives no reason"
    verb = "ended as" if job.state.is_terminal else "is not over, it is"
    return Diagnosis(
        FailureCategory.UNKNOWN, f"Job {job.id} {verb} {job.state.value}: {why}.", _server_hint(history), facts
    )


def _diagnose_completed(job: Job, executions: Sequence[Execution], facts: tuple[str, ...]) -> Diagnosis:
    completed = completed_executions(executions)
    bad = [one for one in completed if not exit_code_is_good(job, one)]
    if bad:
        codes = ", ".join("unknown" if one.exit_code is None else str(one.exit_code) for one in bad)
        many = f" in {len(bad)} of {len(completed)} executions" if len(completed) > 1 else ""
        return Diagnosis(
            FailureCategory.PROGRAM_FAILED,
            f"Job {job.id}: the program failed with exit code {codes}{many}.",
            "Read its output; the exit code is the program's own.",
            facts,
        )
    return Diagnosis(
        FailureCategory.INCOMPLETE,
        f"Job {job.id} is marked completed, but {len(completed)} of {wanted_executions(job)} executions completed.",
        "Check the job's Count, and that no one updated the job under its name.",
        facts,
    )


def _diagnose_no_node(job: Job, history: Sequence[HistoryEvent], facts: tuple[str, ...]) -> Diagnosis:
    lines = [line.strip("• ") for line in job.message.splitlines()[1:]]
    nodes = [clean(line, 300) for line in lines if line and not line.endswith(":")]
    why = f" ({'; '.join(nodes[:3])})" if nodes else ""
    summary = f"Job {job.id} found no suitable node: {_first_line(job.message)}{why}."
    unsupported = [found[1].lower() if (found := _UNSUPPORTED.search(node)) else "" for node in nodes]
    if unsupported and all(unsupported):
        if unsupported[0] == job.engine:
            hint = "No node offers that engine: choose one of those it names, or add a node that has it."
            return Diagnosis(FailureCategory.ENGINE_NOT_SUPPORTED, summary, hint, facts)
        what = "publisher" if unsupported[0] == job.publisher else "type of input source"
        hint = f"No node offers that {what}: choose one of those it names, or add a node that has it."
        return Diagnosis(FailureCategory.NO_SUITABLE_NODE, summary, hint, facts)
    category = FailureCategory.NO_SUITABLE_NODE
    # The message of a job that has waited for too long is that of one that was not to wait at all.
    if job.state is JobState.FAILED and any(one.event.topic == _QUEUEING for one in history):
        category = FailureCategory.QUEUE_TIMEOUT
        summary = summary.replace("found no suitable node", "waited in the queue for too long", 1)
    queue = "queue for longer" if category is FailureCategory.QUEUE_TIMEOUT else "queue"
    hint = f"Ask for less (Resources, Constraints, Count), let it {queue} (job_queue_timeout), or add nodes."
    return Diagnosis(category, summary, hint, facts)


def _causes(job: Job, executions: Sequence[Execution], history: Sequence[HistoryEvent]) -> list[tuple[str, str]]:
    """What the server said of the failure, the most telling first: error events with their topics, executions, the job.

    That no node is left is the consequence of a failure, and no cause.
    """
    failed = [("", one.message) for one in executions if one.state is ExecutionState.FAILED and one.message]
    events = [
        (one.event.topic, _coded(one.event))
        for one in history
        if one.event.is_error and one.event.message and one.event.topic != _SCHEDULING
    ]
    said = [("", job.message)] if job.message and not _NO_NODE.search(job.message) else []
    found = [*events[:1], *failed, *events[1:]][:_MOST_CAUSES] + said
    return [(topic[:100], message[:_LONGEST_CAUSE]) for topic, message in found]


def _coded(event: Event) -> str:
    code = event.details.get("ErrorCode", "")
    return f"{event.message} [{code}]" if code.rpartition(":")[2] else event.message


def _server_hint(history: Sequence[HistoryEvent]) -> str:
    hints = [one.event.details["Hint"] for one in history if one.event.is_error and one.event.details.get("Hint")]
    return clean(" ".join(hints[-1].split()), 500) if hints else ""


def _stop_reason(history: Sequence[HistoryEvent]) -> str:
    return next((one.event.details["Reason"] for one in reversed(history) if one.event.details.get("Reason")), "")


def _first_line(text: str) -> str:
    return clean(text.strip().splitlines()[0].rstrip("."), 300) if text.strip() else ""


def _facts(job: Job, executions: Sequence[Execution], history: Sequence[HistoryEvent]) -> Iterator[str]:
    yield clean(f"job {job.id} ({job.name}) in namespace {job.namespace}: {job.state.value}", 300)
    if job.message and _USED_UP not in job.message:
        yield from (f"job says: {clean(line, 300)}" for line in job.message.splitlines()[:10] if line.strip())
    shown = set()
    for alike in _alike(executions)[-5:]:
        one, ended = alike[0], alike[0].state is ExecutionState.COMPLETED
        # A completed execution's message is that of an earlier event, such as "Running".
        why = "" if ended or not one.message else f": {_first_line(one.message)}"
        exit_code = f", exit code {one.exit_code}" if one.exit_code is not None else ""
        yield f"{_who(alike)}: {one.state.value}{exit_code}{why}"
        yield from (f"  stderr {clean(f'| {line}', 300)}" for line in one.stderr.splitlines()[-20:])
        shown.add(one.message)
    errors = [one.event for one in history if one.event.is_error and one.event.message not in shown]
    for event in errors[-5:]:
        if not _NO_NODE.search(event.message):  # the job says so itself
            yield f"event {clean(event.topic, 100)}: {_first_line(_coded(event))}"


def _alike(executions: Sequence[Execution]) -> list[list[Execution]]:
    """The executions, those of the same fate together: a job that cannot run fails twice on each node."""
    groups: dict[object, list[Execution]] = {}
    for one in executions:
        groups.setdefault((one.state, one.exit_code, one.message, one.stderr), []).append(one)
    return list(groups.values())


def _who(alike: Sequence[Execution]) -> str:
    nodes = {one.node_id for one in alike}
    if len(alike) == 1:
        return f"execution {alike[0].id} on node {alike[0].node_id}"
    return f"{len(alike)} executions on {f'{len(nodes)} nodes' if len(nodes) > 1 else f'node {alike[0].node_id}'}"


@dataclass(frozen=True)
class JobOutcome:
    """How a job ended.

    :param job: the job, with its executions and history.
    :param diagnosis: why it did not succeed; None when it did.
    """

    job: Job
    diagnosis: Diagnosis | None

    @classmethod
    def of(cls, job: Job) -> JobOutcome:
        """Judge a job that was read with its executions and history."""
        executions = job.executions or ()
        if has_succeeded(job, executions):
            return cls(job, None)
        return cls(job, diagnose(job, executions, job.history or ()))

    @property
    def exit_codes(self) -> list[int]:
        """Exit codes of the completed executions, in the order of their partitions."""
        return [one.exit_code for one in completed_executions(self.job.executions or ()) if one.exit_code is not None]
