"""Why no node takes a job, and whether any ever will: read from the scheduler's words and the executions.

A failing job does not fail while it may queue. A real scheduler tries it twice on each node; when all have had their
tries it leaves the job waiting until ``QueueTimeout`` has passed, though nothing can come of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

from airflow_provider_bacalhau.client.facts import Execution, Job
from airflow_provider_bacalhau.client.states import ExecutionState, JobState

NO_NODE = re.compile(r"not enough nodes")
"""Is in what a job says that no node takes (any more)."""

USED_UP = "job already executed on this node more than once"
"""What the scheduler says of a node that has had its tries."""

_TRIES_PER_NODE = 2
_REFUSAL = re.compile(r"• [^:]+: (?P<why>.+)")
# What waiting does not mend. "node busy …" and whatever is unknown may pass.
_LASTING = re.compile(
    rf"{USED_UP}|does not support \S+, only|than the maximum available|labels map\[.*don't match required selectors"
)
_REJECTED = "job rejected"
_IN_VAIN = {ExecutionState.FAILED, ExecutionState.ASK_FOR_BID_REJECTED}


def is_hopeless(job: Job, nodes: Collection[str] = ()) -> bool:
    """Whether nothing can run a job any more, though the server still waits.

    Sure, or False: a job whose second try is about to be made, that may follow on a node that is busy now, or that
    gets its several executions one by one has hope.

    :param job: a batch job with its executions.
    :param nodes: ids of the compute nodes that take jobs, where the server's words do not settle it.
    """
    if not has_used_up_its_nodes(job):
        return False
    return _says_that_no_node_is_left(job) or (bool(nodes) and set(nodes) <= _used_up(_current(job)))


def has_used_up_its_nodes(job: Job) -> bool:
    """Whether every node that a job was tried on has had its tries or refused it, and nothing of it is alive.

    Without it a job is not hopeless; what remains to be known is whether there are other nodes.

    :param job: a job with its executions.
    """
    executions = _current(job)
    return (
        job.type == "batch"
        and not job.state.is_terminal
        and any(one.state in _IN_VAIN for one in executions)
        and all(one.state.is_terminal for one in executions)
        and {one.node_id for one in executions} <= _used_up(executions)
    )


def _current(job: Job) -> list[Execution]:
    """The executions of the job's present version: one that was changed or run again begins anew."""
    return [one for one in job.executions or () if one.job_version in {0, job.version}]


def _used_up(executions: Collection[Execution]) -> set[str]:
    """Nodes that are not tried again: they had two tries, or refused a bid once.

    They are counted, whatever the server says: its words may be older than the latest execution.
    """
    tries = Counter(one.node_id for one in executions)
    rejecting = {one.node_id for one in executions if one.state is ExecutionState.ASK_FOR_BID_REJECTED}
    return {node for node, count in tries.items() if count >= _TRIES_PER_NODE} | rejecting


def _says_that_no_node_is_left(job: Job) -> bool:
    lines = [line for line in job.message.splitlines() if line.strip()]
    if job.state is not JobState.QUEUED or not lines or not NO_NODE.search(lines[0]):
        return False
    reasons = [found["why"] if (found := _REFUSAL.match(line.strip())) else "" for line in lines[1:]]
    # A node also "rejects" a job that has an execution on it; only a bid that it has refused itself is final.
    has_completed = any(one.state is ExecutionState.COMPLETED for one in _current(job))
    return any(reason in {USED_UP, _REJECTED} for reason in reasons) and all(
        _LASTING.search(reason) or (reason == _REJECTED and not has_completed) for reason in reasons
    )
