"""Which compute nodes may take a job, which should, and why the others may not.

Pure. The reasons are the server's words: they end in the state of a job that no node can take, and people act on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from airflow_provider_bacalhau.devnode.records import ComputeState, Execution, Job
from airflow_provider_bacalhau.devnode.resources import Resources
from airflow_provider_bacalhau.devnode.selectors import SelectorError, constraint, constraints_text, matches

_NEW_NODE_BONUS = 30
_CAPACITY_WEIGHT = 80
_QUEUE_WEIGHT = 20


@dataclass(frozen=True, slots=True)
class NodeView:
    """What the scheduler knows of one compute node.

    :param used: what runs on it now.
    :param queued: what it accepted and has not started. It counts when nodes are compared, not when one is refused:
        a real scheduler sees it a heartbeat late, which is why bursts of small jobs are taken there as well.
    """

    id: str
    labels: Mapping[str, str]
    engines: Sequence[str]
    publishers: Sequence[str]
    storages: Sequence[str]
    capacity: Resources
    used: Resources = field(default_factory=Resources)
    queued: Resources = field(default_factory=Resources)

    @property
    def short_id(self) -> str:
        """The node as messages name it: ``n-07b71d7b``."""
        return short_id(self.id)

    @property
    def available(self) -> Resources:
        """Capacity that nothing runs on."""
        return self.capacity - self.used


@dataclass(frozen=True, slots=True)
class Ranking:
    """Nodes that can take a job, the best first, and the reasons of the others in the order of the nodes."""

    suitable: tuple[NodeView, ...]
    reasons: tuple[tuple[NodeView, str], ...]

    @property
    def available(self) -> int:
        """Connected nodes, suitable or not."""
        return len(self.suitable) + len(self.reasons)

    def refusals(self) -> str:
        """The reasons as bullet lines, equal ones counted."""
        by_reason: dict[str, list[NodeView]] = {}
        if self.suitable:
            by_reason[""] = list(self.suitable)
        for node, reason in self.reasons:
            by_reason.setdefault(reason, []).append(node)
        lines = []
        for reason, nodes in by_reason.items():
            who = f"{len(nodes)} of {self.available} nodes" if len(nodes) > 1 else f"Node {nodes[0].short_id}"
            lines.append(f"\n• {who}: {reason}")
        return "".join(lines)


def short_id(identifier: str) -> str:
    """An id as messages shorten it: prefix and the first part of the UUID."""
    prefix, dash, rest = identifier.partition("-")
    if len(prefix) == 1 and dash:
        return f"{prefix}-{rest.split('-')[0]}"
    return prefix if len(identifier) == 36 else identifier


def rank(job: Job, executions: Sequence[Execution], nodes: Sequence[NodeView], oversubscription: float) -> Ranking:
    """Sort the nodes for one job.

    :param executions: those of the job's current version.
    :param oversubscription: the multiple of a node's capacity up to which it takes jobs.
    :raises SelectorError: a constraint that cannot be matched at all; the server then leaves the job alone.
    """
    suitable: list[tuple[int, int, NodeView]] = []
    reasons: list[tuple[NodeView, str]] = []
    best_capacity = max((node.available.cpu for node in nodes), default=0.0)
    longest_queue = max((node.queued.cpu for node in nodes), default=0.0)
    for position, node in enumerate(nodes):
        reason = _refusal(job, executions, node, oversubscription)
        if reason:
            reasons.append((node, reason))
            continue
        score = 0 if any(e.node_id == node.id for e in executions) else _NEW_NODE_BONUS
        score += round(_CAPACITY_WEIGHT * node.available.cpu / best_capacity) if best_capacity else 0
        score -= round(_QUEUE_WEIGHT * node.queued.cpu / longest_queue) if longest_queue else 0
        suitable.append((-score, position, node))
    suitable.sort(key=lambda entry: entry[:2])
    return Ranking(tuple(node for _, _, node in suitable), tuple(reasons))


def _refusal(job: Job, executions: Sequence[Execution], node: NodeView, oversubscription: float) -> str:
    """Why a node may not take a job. Every check is made and the last one that fails speaks, as on a real server."""
    task = job.task
    reason = _unsupported([task["Engine"]["Type"]], node.engines)
    publisher = task["Publisher"]["Type"]
    reason = _unsupported([publisher] if publisher else [], node.publishers) or reason
    reason = _unsupported([s["Source"]["Type"] for s in task.get("InputSources", ())], node.storages) or reason
    constraints = job.spec["Constraints"]
    if constraints and not matches([constraint(entry) for entry in constraints], node.labels):
        labels = " ".join(f"{key}:{value}" for key, value in sorted(node.labels.items()))
        reason = f"labels map[{labels}] don't match required selectors {constraints_text(constraints)}"
    wanted = job.resources
    if not wanted.fits(node.capacity):
        reason = _too_large(wanted, node.capacity)
    if not (node.used + wanted).fits(node.capacity.times(oversubscription)):
        reason = f"node busy with available capacity {node.available}"
    return _tried(executions, node) or reason


def _unsupported(wanted: Sequence[str], offered: Sequence[str]) -> str:
    folded = {name.casefold() for name in offered}
    for name in wanted:
        if name.casefold() not in folded:
            return f"does not support {name}, only {', '.join(offered)}"
    return ""


def _too_large(wanted: Resources, capacity: Resources) -> str:
    whole, limit = str(wanted), str(capacity)
    parts = []
    if wanted.cpu > capacity.cpu:
        parts.append(f"more CPU ({wanted.cpu:g}) than the maximum available ({capacity.cpu:g})")
    for key, word in (("Memory", "memory"), ("Disk", "disk")):
        if getattr(wanted, word) > getattr(capacity, word):
            parts.append(f"more {word} ({_amount(whole, key)}) than the maximum available ({_amount(limit, key)})")
    if wanted.gpu > capacity.gpu:
        parts.append(f"more GPUs ({wanted.gpu}) than the maximum available ({capacity.gpu})")
    return "job requires " + " and ".join(parts)


def _amount(text: str, key: str) -> str:
    return text.split(f"{key}: ")[1].split(",", maxsplit=1)[0]


def _tried(executions: Sequence[Execution], node: NodeView) -> str:
    """Two tries on a node are all a job gets; while one runs, ran well or was refused there, it gets no other."""
    here = [execution for execution in executions if execution.node_id == node.id]
    if len(here) > 1:
        return "job already executed on this node more than once"
    if any(not e.state.is_discarded or e.state is ComputeState.ASK_FOR_BID_REJECTED for e in here):
        return "job rejected"
    return ""


__all__ = ["NodeView", "Ranking", "SelectorError", "rank", "short_id"]
