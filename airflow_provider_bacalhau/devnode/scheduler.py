"""What happens next to a job: a pure transition function on an injected clock.

Nothing here runs, waits, stores or asks the time. A caller hands over the job with its executions, what happened, the
time and the nodes as they are; the answer is a :class:`Change`: the new records, the events for the history, and what
to do. The rules, their order and their words are those of the v1.9.3 orchestrator (its batch, ops and daemon schedulers
and its message handler); the tests replay recorded histories of real nodes against them.

The life of an execution: made (*New*) → the node is asked and accepts (*AskForBidAccepted*) → approved, it runs
(*BidAccepted*) → *Completed*, *Failed* or *Cancelled*. Executions of ops and daemon jobs are wanted from the start,
without bid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_bacalhau.devnode.changes import AskForBid, Cancel, Change, Effect, LookAgain, Run, Trigger
from airflow_provider_bacalhau.devnode.ranking import NodeView, Ranking, rank
from airflow_provider_bacalhau.devnode.records import (
    ComputeState,
    DesiredState,
    Event,
    Execution,
    Job,
    JobState,
    RunOutput,
    Topic,
)
from airflow_provider_bacalhau.devnode.validation import duration

SECOND = 1_000_000_000

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


class Refused(Exception):
    """A request that the state of the job does not allow.

    :param code: the server's error code, empty when it gives none.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


# --- what users ask --------------------------------------------------------------------------------------------------


def submitted(job: Job, now: int) -> Change:
    """A new job."""
    return Change(job, job_events=[Event("Job submitted", Topic.SUBMISSION, now)], effects=_deadline(job))


def updated(job: Job, spec: Mapping[str, Any], now: int) -> Change:
    """A new specification under the name of a job: next version, pending again, even when it was over."""
    return _restarted(job, spec, now, "Job update requested by user", Event("Job updated", Topic.SUBMISSION, now))


def rerun(job: Job, spec: Mapping[str, Any], now: int) -> Change:
    """Run a version of a job again.

    :raises Refused: a job that has not run yet.
    """
    if job.state in {JobState.PENDING, JobState.QUEUED}:
        raise Refused(f"cannot rerun job in state {job.state}")
    event = Event("Job rerun requested", Topic.SUBMISSION, now, {"Reason": "job rerun"})
    return _restarted(job, spec, now, "job rerun", event)


def _restarted(job: Job, spec: Mapping[str, Any], now: int, message: str, event: Event) -> Change:
    # What makes a job unique and its type stay; a type sent with an update is ignored by the server.
    kept = {key: job.spec[key] for key in ("Name", "Namespace", "Type")}
    again = replace(
        job,
        spec={**spec, **kept},
        version=job.version + 1,
        state=JobState.PENDING,
        message=message,
        revision=job.revision + 1,
        modified=now,
    )
    return Change(again, job_events=[event], effects=_deadline(again))


def stopped(job: Job, reason: str, now: int, *, tells_reason: bool = True) -> Change | None:
    """Stop a job. None when it was stopped before.

    :param tells_reason: the job's message is the reason.
    :raises Refused: a job that is over.
    """
    if job.state is JobState.STOPPED:
        return None
    if job.state is JobState.COMPLETED:
        raise Refused(f"cannot stop job in state {job.state}")
    if job.state is JobState.FAILED:
        raise Refused(
            f"job {job.id} is in terminal state {job.state} and cannot transition to Stopped", "ConflictJobState"
        )
    event = Event("Job requested to stop before completion", Topic.SCHEDULING, now, {"Reason": reason})
    message = reason if tells_reason else event.message
    return Change(_with_state(job, JobState.STOPPED, now, message), job_events=[event])


def _deadline(job: Job) -> list[Effect]:
    total = job.timeout("TotalTimeout")
    return [LookAgain(job.created + total * SECOND, Trigger.TIMED_OUT)] if total else []


# --- what compute nodes report ---------------------------------------------------------------------------------------


def bid_accepted(job: Job, execution: Execution, now: int) -> Change:
    """A node takes an execution; it waits for approval."""
    if execution.is_terminal:
        return Change(job)
    return _changed(job, replace(execution, state=ComputeState.ASK_FOR_BID_ACCEPTED), now)


def bid_rejected(job: Job, execution: Execution, reason: str, now: int) -> Change:
    """A node does not want an execution; the job is not offered to it again."""
    if execution.is_terminal:
        return Change(job)
    rejected = replace(
        execution,
        state=ComputeState.ASK_FOR_BID_REJECTED,
        message=reason,
        desired=DesiredState.STOPPED,
        desired_message="bid rejected",
    )
    return _changed(job, rejected, now, Event(reason, Topic.SCANNING, now))


def execution_completed(
    job: Job, execution: Execution, published: Mapping[str, Any], output: RunOutput, now: int
) -> Change:
    """A program ended, whatever its exit code, and its result is published.

    Too late for an execution that was stopped in the meantime: then nothing changes. An end is a failure for jobs that
    are to run until they are stopped.
    """
    if execution.desired is not DesiredState.RUNNING or execution.is_terminal:
        return Change(job)
    ended = replace(
        execution,
        state=ComputeState.COMPLETED,
        desired=DesiredState.STOPPED,
        desired_message="execution completed",
        published=published,
        output=output,
    )
    if job.is_long_running:
        unexpected = "execution completed unexpectedly"
        ended = replace(ended, state=ComputeState.FAILED, message=unexpected, desired_message=unexpected)
    return _changed(job, ended, now, Event("Completed successfully", Topic.EXECUTION, now))


def execution_failed(job: Job, execution: Execution, event: Event, now: int) -> Change:
    """An execution failed before, while or after it ran; the event says how. Too late for one that is over."""
    if execution.is_terminal:
        return Change(job)
    failed = replace(
        execution,
        state=ComputeState.FAILED,
        message=event.message,
        desired=DesiredState.STOPPED,
        desired_message="execution failed",
    )
    return _changed(job, failed, now, event)


def node_restarted(job: Job, execution: Execution, now: int) -> Change:
    """The node went down while it ran an execution; the program is gone."""
    event = Event("Failing due to node restart", Topic.EXECUTION, now, {"FailsExecution": "true"})
    return execution_failed(job, execution, event, now)


def _changed(job: Job, execution: Execution, now: int, event: Event | None = None) -> Change:
    execution = replace(execution, revision=execution.revision + 1, modified=now)
    events = [] if event is None else [(execution.id, event)]
    return Change(job, executions={execution.id: execution}, execution_events=events)


# --- the decision ----------------------------------------------------------------------------------------------------


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
        self.change.job = _with_state(self.job, state, self.now, message)
        self.change.job_events.append(event)


def _with_state(job: Job, state: JobState, now: int, message: str) -> Job:
    return replace(job, state=state, message=message, revision=job.revision + 1, modified=now)


def _not_enough_nodes(wanted: int, ranking: Ranking) -> str:
    return (
        f"not enough nodes to run job. requested: {wanted}, available: {ranking.available}, "
        f"suitable: {len(ranking.suitable)}.{ranking.refusals()}"
    )
