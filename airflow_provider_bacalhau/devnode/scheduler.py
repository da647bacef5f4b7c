"""What happens next to a job: a pure transition function on an injected clock.

Nothing here runs, waits, stores or asks the time. A caller hands over the job with its executions, what happened, the
time and the nodes as they are; the answer is a :class:`.changes.Change`: the new records, the events for the history,
and what to do. The rules, their order and their words are those of the v1.9.3 orchestrator (its batch, ops and daemon
schedulers); the tests replay recorded histories of real nodes against them and against :mod:`.messages`.

The life of an execution: made (*New*) → the node is asked and accepts (*AskForBidAccepted*) → approved, it runs
(*BidAccepted*) → *Completed*, *Failed* or *Cancelled*. Executions of ops and daemon jobs are wanted from the start,
without bid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from airflow_provider_bacalhau.devnode.changes import AskForBid, Cancel, Change, LookAgain, Run, Trigger, with_state
from airflow_provider_bacalhau.devnode.ranking import NodeView, Ranking, rank
from airflow_provider_bacalhau.devnode.records import (
    SECOND,
    ComputeState,
    DesiredState,
    Event,
    Execution,
    Job,
    JobState,
    Topic,
)
from airflow_provider_bacalhau.devnode.validation import duration

_TIMEOUT_HINT = "Increase the task timeout or allocate more resources"
_ERROR = {"IsError": "true"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator of a real node sets.

    :param queue_backoff: nanoseconds between two looks at a queued job.
    :param oversubscription: see :func:`.ranking.rank`.
    :param has_queue: a job that waits for a node says so.
    :param tells_reason: a stopped job's message is the reason that was given.
    """

    queue_backoff: int
    oversubscription: float
    has_queue: bool = True
    tells_reason: bool = True


def evaluate(
    job: Job,
    executions: Sequence[Execution],
    nodes: Sequence[NodeView],
    trigger: Trigger,
    settings: Settings,
    now: int,
    new_id: Callable[[], str],
) -> Change:
    """Bring a job's executions closer to what the job wants.

    :param executions: of all versions of the job, in the order they were made.
    :param new_id: makes UUIDs for evaluations and executions.
    :raises .selectors.SelectorError: constraints that cannot be matched; the job stays as it is.
    """
    return _Evaluation(job, executions, nodes, trigger, settings, now, new_id).decide()


class _Evaluation:
    """One look at one job; collects a :class:`Change`."""

    def __init__(
        self,
        job: Job,
        executions: Sequence[Execution],
        nodes: Sequence[NodeView],
        trigger: Trigger,
        settings: Settings,
        now: int,
        new_id: Callable[[], str],
    ) -> None:
        self.job = job
        self.nodes = nodes
        self.trigger = trigger
        self.settings = settings
        self.now = now
        self.new_id = new_id
        self.eval_id = new_id()
        self.change = Change(job)
        self.current = [e for e in executions if e.job.version == job.version]
        self.active = [e for e in executions if not e.is_terminal]
        self.planned: list[Execution] = []
        self.approved: list[Execution] = []

    def decide(self) -> Change:
        if self.job.state.is_terminal:
            self._cancel(self.active, "Execution stop requested because job has been stopped")
            return self.change
        if self._is_out_of_time():
            return self.change
        outdated = [e for e in self.active if e.job.version != self.job.version]
        self._cancel(outdated, "Execution stopped for job update")
        self.active = [e for e in self.active if e not in outdated]
        if self.job.type in {"ops", "daemon"}:
            self._decide_everywhere()
        else:
            self._decide_partitions()
        return self.change

    # batch and service: one execution for each partition

    def _decide_partitions(self) -> None:
        self._approve()
        completed = {e.partition for e in self.current if e.state is ComputeState.COMPLETED}
        kept = {e.partition for e in self.active} | (completed if self.job.type == "batch" else set())
        missing = [partition for partition in range(self.job.count) if partition not in kept]
        if missing and not self._place(missing):
            return
        if self.job.type == "batch" and len(completed) >= self.job.count:
            self._end(JobState.COMPLETED)
        elif self.change.job.state is self.job.state:
            self._run_if_eligible()

    def _approve(self) -> None:
        for execution in self.active:
            if execution.state is ComputeState.ASK_FOR_BID_ACCEPTED:
                running = replace(
                    execution,
                    state=ComputeState.BID_ACCEPTED,
                    message="Running",
                    desired=DesiredState.RUNNING,
                    desired_message="Running",
                )
                running = self._update(running, Event("Running", Topic.EXECUTION, self.now))
                self.approved.append(running)
                self.change.effects.append(Run(running))

    def _place(self, missing: list[int]) -> bool:
        """Make executions for the missing partitions as far as nodes go. False when the job failed for want of them."""
        ranking = rank(self.job, self.current, self.nodes, self.settings.oversubscription)
        if len(ranking.suitable) < len(missing):
            problem = _not_enough_nodes(len(missing), ranking)
            waited = self.now - self.job.created
            if waited >= self.job.timeout("QueueTimeout") * SECOND:
                self._fail_for_want_of_nodes(len(missing), ranking, problem)
                return False
            self.change.effects.append(LookAgain(self.now + self.settings.queue_backoff, Trigger.BACKOFF_OVER))
            if (
                self.settings.has_queue
                and not ranking.suitable
                and (self.job.state is JobState.RUNNING or self.trigger is Trigger.REGISTERED)
            ):
                text = f"Job queued. {problem}"
                self._set_job(JobState.QUEUED, text, Event(text, Topic.QUEUEING, self.now))
        for partition, node in zip(missing, ranking.suitable, strict=False):
            self.change.effects.append(AskForBid(self._create(node, partition, DesiredState.PENDING)))
        return True

    def _fail_for_want_of_nodes(self, wanted: int, ranking: Ranking, problem: str) -> None:
        details = {
            **_ERROR,
            "NodesAvailable": str(ranking.available),
            "NodesRequested": str(wanted),
            "NodesSuitable": str(len(ranking.suitable)),
        }
        self._fail(Event(problem, Topic.SCHEDULING, self.now, details))

    # ops and daemon: one execution on each matching node

    def _decide_everywhere(self) -> None:
        ranking = rank(self.job, self.current, self.nodes, self.settings.oversubscription)
        is_ops = self.job.type == "ops"
        present = self.current if is_ops else self.active
        if is_ops and not ranking.suitable and not present:
            text = f"not matching nodes to run job out of {ranking.available} available nodes.{ranking.refusals()}"
            self._fail(Event(text, Topic.SCHEDULING, self.now, {**_ERROR, "NodesAvailable": str(ranking.available)}))
            return
        taken = {execution.node_id for execution in present}
        for node in ranking.suitable:
            if node.id not in taken:
                execution = self._create(node, 0, DesiredState.RUNNING)
                self.change.effects.append(Run(execution, bid=True))
        if is_ops and not self.active and not self.planned:
            if any(e.state is ComputeState.FAILED for e in self.current):
                text = "Job failed because one or more executions failed"
                self._fail(Event(text, Topic.SCHEDULING, self.now))
            else:
                self._end(JobState.COMPLETED)
        else:
            self._run_if_eligible()

    # steps

    def _is_out_of_time(self) -> bool:
        total = self.job.timeout("TotalTimeout")
        if self.job.is_long_running or not total or self.now - self.job.created < total * SECOND:
            return False
        text = f"Job timed out. Job took longer than {duration(total)}"
        details = {**_ERROR, "Hint": _TIMEOUT_HINT, "FailsExecution": "true"}
        self._fail(Event(text, Topic.JOB_TIMEOUT, self.now, details))
        return True

    def _create(self, node: NodeView, partition: int, desired: DesiredState) -> Execution:
        execution = Execution(
            id=f"e-{self.new_id()}",
            job=self.job,
            node_id=node.id,
            eval_id=self.eval_id,
            created=self.now,
            modified=self.now,
            partition=partition,
            desired=desired,
        )
        self.planned.append(execution)
        self.change.executions[execution.id] = execution
        event = Event(f"Requested execution on {node.short_id}", Topic.SCHEDULING, self.now, {"NodeID": node.id})
        self.change.execution_events.append((execution.id, event))
        return execution

    def _update(self, execution: Execution, event: Event) -> Execution:
        execution = replace(execution, revision=execution.revision + 1, modified=self.now)
        self.change.executions[execution.id] = execution
        self.change.execution_events.append((execution.id, event))
        return execution

    def _cancel(self, executions: Sequence[Execution], message: str) -> None:
        for execution in executions:
            cancelled = replace(
                execution,
                state=ComputeState.CANCELLED,
                message=message,
                desired=DesiredState.STOPPED,
                desired_message=message,
            )
            self._update(cancelled, Event(message, Topic.SCHEDULING, self.now))
            self.change.effects.append(Cancel(cancelled))

    def _run_if_eligible(self) -> None:
        starts = bool(self.approved) or any(e.desired is DesiredState.RUNNING for e in self.planned)
        if starts and self.job.state in {JobState.PENDING, JobState.QUEUED}:
            self._end(JobState.RUNNING)

    def _end(self, state: JobState) -> None:
        self._set_job(state, "", Event(str(state), Topic.STATE_UPDATE, self.now, {"NewState": str(state)}))

    def _fail(self, event: Event) -> None:
        """The job failed: what was about to start does not, what runs is ended."""
        self.change = Change(self.job)
        self._set_job(JobState.FAILED, event.message, event)
        self._cancel(self.active, "Execution stopped due to job failure")

    def _set_job(self, state: JobState, message: str, event: Event) -> None:
        self.change.job = with_state(self.job, state, self.now, message)
        self.change.job_events.append(event)


def _not_enough_nodes(wanted: int, ranking: Ranking) -> str:
    return (
        f"not enough nodes to run job. requested: {wanted}, available: {ranking.available}, "
        f"suitable: {len(ranking.suitable)}.{ranking.refusals()}"
    )
