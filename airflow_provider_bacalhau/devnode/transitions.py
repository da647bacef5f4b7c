"""The history as servers before v1.5 tell it: changes of state, one for each step of the job and of its executions.

The node keeps the events of newer servers. Older ones wrote down more steps: an execution was asked for, accepted,
approved. They are derived from the events, with the times of the events they lead to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_bacalhau.devnode.emulation import Emulation
from airflow_provider_bacalhau.devnode.records import ComputeState, Event, Execution, HistoryItem, Job, Topic
from airflow_provider_bacalhau.devnode.wire import timestamp

NUMBERS = {
    ComputeState.NEW: 2,  # the node has been asked by then
    ComputeState.ASK_FOR_BID_ACCEPTED: 3,
    ComputeState.ASK_FOR_BID_REJECTED: 4,
    ComputeState.BID_ACCEPTED: 5,
    ComputeState.BID_REJECTED: 6,
    ComputeState.COMPLETED: 7,
    ComputeState.FAILED: 8,
    ComputeState.CANCELLED: 9,
}
"""States of executions up to v1.5.1."""

_NEW, _ASKED, _ACCEPTED, _RUNS, _COMPLETED, _FAILED, _CANCELLED = 1, 2, 3, 5, 7, 8, 9
_NO_EVENT = {"Message": "", "Topic": "", "Timestamp": "0001-01-01T00:00:00Z"}
_PLACEMENT = re.compile(r"not enough nodes to run job\. requested: (\d+), available: \d+, suitable: (\d+)\.")
_OUT_OF_TIME = {"Hint": "Increase the task timeout or allocate more resources"}
_MODULE = re.compile(
    r"failed to load (entry|import) module \S+: (?:failed to compile module at \"[^\"]*\": )?(.*)", re.DOTALL
)


def failure_text(message: str, execution: Execution) -> str:
    """What an execution says of a module that cannot be loaded, in the words of servers before v1.7."""
    match = _MODULE.fullmatch(message)
    if match is None:
        return message
    source = (execution.job.task["Engine"]["Params"].get("EntryModule") or {}) if match[1] == "entry" else {}
    kind = source["Source"]["Type"] if isinstance(source, Mapping) and source else "inline"
    return f"execution error: failed to instantiate {match[1]} module module ({kind}): {match[2]}"


def revision(execution: Execution) -> int:
    """How often an execution was written, with the steps that newer servers do not have."""
    steps = {1: 2, 2: 3, 3: 5}.get(execution.revision, execution.revision + 2)
    return steps + (execution.state is ComputeState.CANCELLED)


@dataclass(slots=True)
class _Story:
    job: Job
    executions: Mapping[str, Execution]
    emulation: Emulation
    items: list[dict[str, Any]] = field(default_factory=list)
    states: dict[str, str | int] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)

    def add(self, key: str, new: str | int, at: int, event: Event | None = None, comment: str = "") -> None:
        """Append a change of the job (an empty key) or of an execution."""
        before = self.states.get(key, _NEW if key else "Pending")
        self.states[key] = new
        self.revisions[key] = self.revisions.get(key, 0) + 1
        item: dict[str, Any] = {"Type": "ExecutionLevel" if key else "JobLevel", "JobID": self.job.id}
        if key:
            item |= {"NodeID": self.executions[key].node_id, "ExecutionID": key}
        item["ExecutionState" if key else "JobState"] = {"Previous": before, "New": new}
        item["NewRevision"] = self.revisions[key]
        if comment:
            item["Comment"] = comment
        if self.emulation.history_events:
            item["Event"] = _event_json(event, comment) if event else dict(_NO_EVENT)
        self.items.append({**item, "Time": timestamp(at)})


def _event_json(event: Event, message: str) -> dict[str, Any]:
    shown: dict[str, Any] = {"Message": message, "Topic": str(event.topic), "Timestamp": timestamp(event.at)}
    return {**shown, "Details": dict(event.details)} if event.details else shown


def transitions(
    job: Job, history: Iterable[HistoryItem], executions: Iterable[Execution], emulation: Emulation
) -> list[dict[str, Any]]:
    """All changes of a job, in the server's JSON."""
    story = _Story(job, {execution.id: execution for execution in executions}, emulation)
    running: list[HistoryItem] = []  # the job's own step comes between those of its first execution
    for item in history:
        if item.execution_id:
            _execution_step(story, item, running)
        elif item.event.details.get("NewState") == "Running":
            running.append(item)
        else:
            _job_step(story, item.event)
    return story.items


def _job_step(story: _Story, event: Event) -> None:
    message = event.message
    if event.topic == Topic.SUBMISSION:
        comment = message if story.emulation.history_events else "Job created"
        story.add("", "Pending", event.at, event, comment)
    elif "NewState" in event.details:
        story.add("", event.details["NewState"], event.at)
    elif event.topic == Topic.QUEUEING:
        story.add("", "Queued", event.at, event, message)
    elif "Reason" in event.details:
        comment = message if story.emulation.history_events else event.details["Reason"]
        story.add("", "Stopped", event.at, event, comment)
    else:
        story.add(
            "", "Failed", event.at, event, message if story.emulation.history_events else _early_failure(story, message)
        )


def _early_failure(story: _Story, message: str) -> str:
    """Why a job failed, as v1.1 says it: what its last execution says, or how many nodes were missing."""
    failed = [e for e in story.executions.values() if e.state is ComputeState.FAILED]
    if failed:
        return failure_text(failed[-1].message, failed[-1])
    match = _PLACEMENT.match(message)
    return f"not enough nodes to run job. requested: {match[1]}, available: {match[2]}. " if match else message


def _execution_step(story: _Story, item: HistoryItem, running: list[HistoryItem]) -> None:
    key, event = item.execution_id, item.event
    if event.topic == Topic.SCHEDULING and "NodeID" in event.details:
        story.add(key, _NEW, event.at)
        story.add(key, _ASKED, event.at)
    elif event.topic == Topic.EXECUTION and event.message == "Running":
        accepted = Event("Accepted job", Topic.REQUESTING, event.at)
        story.add(key, _ACCEPTED, event.at, accepted, "Accepted job" if story.emulation.history_events else "")
        story.add(key, _ACCEPTED, event.at)
        for held in running:
            story.add("", held.event.details["NewState"], held.event.at)
        running.clear()
        story.add(key, _RUNS, event.at)
    elif event.topic == Topic.EXECUTION and event.message == "Completed successfully":
        story.add(key, _COMPLETED, event.at)
    elif event.topic == Topic.SCHEDULING:
        comment = event.message if story.emulation.history_events else ""
        story.add(key, story.states.get(key, _NEW), event.at, event, comment)
        story.add(key, _CANCELLED, event.at)
    else:
        text = failure_text(event.message, story.executions[key]) if story.emulation.history_events else ""
        if text.startswith("Execution timed out"):
            event = replace(event, details={**_OUT_OF_TIME, **event.details, "Retryable": "true"})
        story.add(key, _FAILED, event.at, event, text)


def early_execution(shown: Mapping[str, Any], execution: Execution, emulation: Emulation) -> dict[str, Any]:
    """An execution's JSON as servers up to v1.5.1 write it."""
    state = execution.state
    accepted = "Accepted job" if emulation.history_events else ""
    message = {ComputeState.NEW: "", ComputeState.FAILED: failure_text(execution.message, execution)}.get(
        state, accepted
    )
    desired = "" if execution.desired_message == "Running" else execution.desired_message
    changed = {
        "DesiredState": _state(int(execution.desired), desired),
        "ComputeState": _state(NUMBERS[state], message),
        "Revision": revision(execution),
    }
    if not emulation.history_events:
        changed["EvalID"] = ""
        if state is ComputeState.CANCELLED:
            changed["DesiredState"] = _state(int(execution.desired), "execution not needed due to job update")
    if state is not ComputeState.COMPLETED:
        changed |= {"PublishedResult": None, "RunOutput": None}
    return {key: changed.get(key, value) for key, value in shown.items() if key != "PartitionIndex"}


def _state(number: int, message: str) -> dict[str, Any]:
    return {"StateType": number, "Message": message} if message else {"StateType": number}
