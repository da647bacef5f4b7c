"""What the requester API tells of a job's way: states, executions, results and events.

The node keeps the history of newer servers. Older ones wrote down more steps under other names; :func:`tell` derives
them. Servers at times leave out the step ``AskForBid``; this node always shows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_bacalhau.devnode.generations import Generation
from airflow_provider_bacalhau.devnode.ranking import NodeView
from airflow_provider_bacalhau.devnode.records import (
    SECOND,
    ComputeState,
    DesiredState,
    Execution,
    HistoryItem,
    Job,
    JobState,
    Topic,
)
from airflow_provider_bacalhau.devnode.resources import Resources
from airflow_provider_bacalhau.devnode.wire import timestamp

_JOB_STATES = {
    JobState.PENDING: "New",
    JobState.QUEUED: "New",
    JobState.RUNNING: "InProgress",
    JobState.COMPLETED: "Completed",
    JobState.FAILED: "Error",
    JobState.STOPPED: "Cancelled",
}
_STATES = {
    ComputeState.NEW: "AskForBid",
    ComputeState.ASK_FOR_BID_ACCEPTED: "AskForBidAccepted",
    ComputeState.ASK_FOR_BID_REJECTED: "AskForBidRejected",
    ComputeState.BID_ACCEPTED: "BidAccepted",
    ComputeState.BID_REJECTED: "BidRejected",
    ComputeState.COMPLETED: "Completed",
    ComputeState.FAILED: "Failed",
    ComputeState.CANCELLED: "Cancelled",
}
_ZERO_TIME = "0001-01-01T00:00:00Z"
_STOPPED = "Job requested to stop before completion"
_MODULE_ERROR = re.compile(
    r"failed to load (entry|import) module \S+: (?:failed to compile module at \"[^\"]*\": )?(.*)", re.DOTALL
)
_PLACEMENT = re.compile(
    r"not enough nodes to run job\. requested: (\d+), available: \d+, suitable: (\d+)\.(.*)", re.DOTALL
)
_NODE_LINE = re.compile(r"\n• Node (\S+): (.*)")
_GIGA = 1 << 30


@dataclass(slots=True)
class Story:
    """The events of one job, and how many each execution has had."""

    job: Job
    generation: Generation
    events: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)

    def add(self, execution: Execution | None, new: str, at: int, comment: str = "") -> None:
        """Append an event. The first generation leaves out what is ``New``."""
        key = execution.id if execution else ""
        before = self.states.get(key, "New")
        self.states[key] = new
        self.versions[key] = self.versions.get(key, 0) + 1
        change = {"Previous": before, "New": new}
        if self.generation.is_first:
            change = {name: state for name, state in change.items() if state != "New"}
        event: dict[str, Any] = {"Type": "ExecutionLevel" if execution else "JobLevel", "JobID": self.job.id}
        if execution:
            event |= {"NodeID": execution.node_id, "ComputeReference": execution.id, "ExecutionState": change}
        else:
            event["JobState"] = change
        event["NewVersion"] = self.versions[key]
        if comment:
            event["Comment"] = comment
        self.events.append({**event, "Time": timestamp(at)})


def tell(
    job: Job,
    executions: Sequence[Execution],
    history: Iterable[HistoryItem],
    nodes: Sequence[NodeView],
    generation: Generation,
) -> Story:
    """Derive the events of a job from its history."""
    story = Story(job, generation)
    by_id = {execution.id: execution for execution in executions}
    running: list[int] = []  # the job's own step comes between those of its first execution
    ends: list[tuple[str, int, str]] = []
    for item in history:
        at = item.event.at
        if item.execution_id:
            _tell_execution(story, by_id[item.execution_id], item, running)
        elif item.event.topic == Topic.SUBMISSION:
            _tell_creation(story, at)
        elif item.event.details.get("NewState") == JobState.RUNNING:
            running.append(at)
        elif item.event.topic != Topic.QUEUEING:
            new, comment = _end(story, item, executions, nodes)
            if generation.is_first:
                ends.append((new, at, comment))
            else:
                _flush(story, running)
                story.add(None, new, at, comment)
    _flush(story, running)
    for new, at, comment in ends:
        story.add(None, new, at, comment)
    return story


def _tell_creation(story: Story, at: int) -> None:
    story.add(None, "New", at, story.generation.created_comment)
    if story.generation.is_first:
        for state in ("Queued", "New", "InProgress"):
            story.add(None, state, at)


def _tell_execution(story: Story, execution: Execution, item: HistoryItem, running: list[int]) -> None:
    at, first = item.event.at, story.generation.is_first
    if execution.id not in story.states:
        if not first:
            story.add(execution, "New", at)
        story.add(execution, "AskForBid", at)
        if first:
            story.add(execution, "AskForBidAccepted", at)
        return
    if item.event.message == "Running":
        _tell_acceptance(story, execution, at, running)
        return
    state = _STATES[execution.state]
    if state == "Completed":
        if story.states[execution.id] != "BidAccepted":
            _tell_acceptance(story, execution, at, running)
        for step in ("WaitingVerification", "ResultAccepted") if first else ():
            story.add(execution, step, at)
    stop_comment = item.event.message if story.generation.accepted_comment else ""
    if state == "Cancelled" and not first:
        story.add(execution, story.states[execution.id], at, stop_comment)
    # From v1.0.4 to v1.1 the reason stands with the job, not with the execution.
    tells = state == "Failed" and (first or bool(story.generation.accepted_comment))
    story.add(execution, state, at, failure_text(execution, story.generation) if tells else "")


def _tell_acceptance(story: Story, execution: Execution, at: int, running: list[int]) -> None:
    if not story.generation.is_first:
        story.add(execution, "AskForBidAccepted", at, story.generation.accepted_comment)
        story.add(execution, "AskForBidAccepted", at)
    _flush(story, running)
    story.add(execution, "BidAccepted", at)


def _flush(story: Story, running: list[int]) -> None:
    for at in running:
        if not story.generation.is_first:
            story.add(None, "InProgress", at)
    running.clear()


def _end(
    story: Story, item: HistoryItem, executions: Sequence[Execution], nodes: Sequence[NodeView]
) -> tuple[str, str]:
    generation = story.generation
    if item.event.message == _STOPPED:
        if generation.is_first:
            return "Cancelled", item.event.details.get("Reason", "")
        return "Cancelled", _STOPPED if generation.accepted_comment else "job canceled by user"
    if item.event.details.get("NewState") == JobState.COMPLETED:
        return "Completed", ""
    return "Error", _job_failure(story, item.event.message, executions, nodes)


def _job_failure(story: Story, message: str, executions: Sequence[Execution], nodes: Sequence[NodeView]) -> str:
    """Why a job failed: the placement error, or what its last execution said."""
    generation = story.generation
    if generation.accepted_comment:
        return message
    failed = [execution for execution in executions if execution.state is ComputeState.FAILED]
    match = _PLACEMENT.fullmatch(message)
    if failed and not generation.is_first:
        return failure_text(failed[-1], generation)
    if match is None:
        return message
    text = f"not enough nodes to run job. requested: {match[1]}, available: {match[2]}"
    if generation.is_first:
        causes = [f"; node {e.node_id} failed due to: {failure_text(e, generation)}" for e in failed[-1:]]
        return text + "".join(causes)
    return text + ". " + "".join(_refusals(story.job, match[3], nodes))


def _refusals(job: Job, lines: str, nodes: Sequence[NodeView]) -> Iterator[str]:
    wanted = job.resources
    large = {node.short_id: _too_large(wanted, node) for node in nodes if not wanted.fits(node.capacity)}
    for node, reason in _NODE_LINE.findall(lines):
        yield f"\n\tNode {node[:8]}: {large.get(node, reason)}"


def failure_text(execution: Execution, generation: Generation) -> str:
    """Why an execution failed, in the words of the generation."""
    match = _MODULE_ERROR.fullmatch(execution.message)
    if match and generation.is_first:
        return match[2]
    if match:
        module = execution.job.task["Engine"]["Params"].get("EntryModule") or {}
        kind = module["Source"]["Type"] if isinstance(module, Mapping) and module else "inline"
        return f"execution error: failed to instantiate {match[1]} module module ({kind}): {match[2]}"
    return (
        execution.message.replace("Execution timed out", "execution timed out")
        if generation.is_first
        else execution.message
    )


def _too_large(wanted: Resources, node: NodeView) -> str:
    """How v1.1 says that a job asks for more than a node has."""
    return f"job requires more resources {_amounts(wanted)} than are available per job {_amounts(node.capacity)}"


def _amounts(amounts: Resources) -> str:
    memory, disk = (f"{size / _GIGA:.1f} GB" if size else "0 B" for size in (amounts.memory, amounts.disk))
    return f"{{CPU: {amounts.cpu:f}, Memory: {memory}, Disk: {disk}, GPU: {amounts.gpu}}}"


# --- states and results ----------------------------------------------------------------------------------------------


def job_state(job: Job, generation: Generation) -> str:
    """The state's name. The first generation shows a job as ``InProgress`` from the start."""
    state = _JOB_STATES[job.state]
    return "InProgress" if generation.is_first and state == "New" else state


def state_json(story: Story, executions: Sequence[Execution], base: str, timeout: float) -> dict[str, Any]:
    """A JobState.

    :param base: address of the node, for results that it serves.
    :param timeout: seconds until the job should be over.
    """
    job, generation = story.job, story.generation
    # Executions are kept by id from v1.0.4 on.
    ordered = executions if generation.is_first else sorted(executions, key=lambda execution: execution.id)
    shown: list[dict[str, Any]] | None = [_execution_json(story, execution, base) for execution in ordered]
    if generation.is_first and not executions:
        shown = None
    due = job.created + round(timeout * SECOND)
    return {
        "JobID": job.id,
        "Executions": shown,
        "State": job_state(job, generation),
        "Version": story.versions.get("", 1),
        "CreateTime": timestamp(job.created),
        "UpdateTime": timestamp(job.modified),
        "TimeoutAt": _ZERO_TIME if generation.is_first else timestamp(due),
    }


def _execution_json(story: Story, execution: Execution, base: str) -> dict[str, Any]:
    generation, first = story.generation, story.generation.is_first
    shown: dict[str, Any] = {
        "JobID": execution.job.id,
        "NodeId": execution.node_id,
        "ComputeReference": execution.id,
        "State": _STATES[execution.state],
    }
    completed = execution.state is ComputeState.COMPLETED
    if first:
        shown["AcceptedAskForBid"] = True
        if execution.state is ComputeState.FAILED:
            shown["Status"] = failure_text(execution, generation)
        elif execution.state is ComputeState.CANCELLED and story.job.message:
            shown["Status"] = story.job.message
        shown["VerificationResult"] = {"Complete": True, "Result": True} if completed else {}
    else:
        shown["Status"] = _status(execution, generation)
        if execution.desired is not DesiredState.PENDING:
            shown["DesiredState"] = int(execution.desired)
    shown["PublishedResults"] = published_json(execution, generation, base)
    if completed:
        output = execution.output
        shown["RunOutput"] = {
            "stdout": output.stdout,
            "stdouttruncated": output.stdout_truncated,
            "stderr": output.stderr,
            "stderrtruncated": output.stderr_truncated,
            "exitCode": output.exit_code,
            "runnerError": "",
        }
    times = (execution.created, execution.modified)
    # The first generation mixes the two up.
    created, updated = reversed(times) if first else times
    return {
        **shown,
        "Version": story.versions.get(execution.id, 1),
        "CreateTime": timestamp(created),
        "UpdateTime": timestamp(updated),
    }


def _status(execution: Execution, generation: Generation) -> str:
    """What is observed and what is wanted, joined by a full stop even when there is neither."""
    observed = "" if execution.state is ComputeState.NEW else generation.accepted_comment
    wanted = execution.desired_message if execution.desired is DesiredState.STOPPED else ""
    if execution.state is ComputeState.FAILED:
        observed = failure_text(execution, generation)
    elif execution.state is ComputeState.ASK_FOR_BID_REJECTED:
        observed = execution.message
    elif execution.state is ComputeState.CANCELLED and not generation.accepted_comment:
        wanted = "execution not needed due to job update"
    return f"{observed}. {wanted}"


def published_json(execution: Execution, generation: Generation, base: str) -> dict[str, Any]:
    """A published result as a StorageSpec, empty when there is none."""
    published: Mapping[str, Any] = execution.published
    if not published:
        return {}
    params = published["Params"]
    if published["Type"] == "ipfs":
        if generation.is_first:
            return {"StorageSource": "IPFS", "Name": f"ipfs://{params['CID']}", "CID": params["CID"]}
        return {"StorageSource": "ipfs", "CID": params["CID"]}
    url = str(params["URL"])
    return {"StorageSource": "urlDownload", "URL": base + url if url.startswith("/") else url}
