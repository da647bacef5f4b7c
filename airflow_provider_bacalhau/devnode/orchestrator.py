"""The orchestrator: applies the scheduler's transitions to the store and lets the compute nodes act.

Lives on the event loop; nothing here waits. Each request and each report of a compute node is one transition, written
at once; evaluations follow in the next turn of the loop, one for each job however many reports came in.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
import uuid
from collections.abc import Callable, Mapping

from airflow_provider_bacalhau.devnode import messages, scheduler
from airflow_provider_bacalhau.devnode.changes import AskForBid, Cancel, Change, LookAgain, Run, Trigger
from airflow_provider_bacalhau.devnode.compute import ComputeNode, Ended, Problem, Reports
from airflow_provider_bacalhau.devnode.jobspec import Accepted, same_job
from airflow_provider_bacalhau.devnode.records import SECOND, Event, Execution, Job, JobState
from airflow_provider_bacalhau.devnode.scheduler import Settings
from airflow_provider_bacalhau.devnode.selectors import SelectorError
from airflow_provider_bacalhau.devnode.store import Store

log = logging.getLogger(__name__)


class NoChangesError(Exception):
    """A submission under the name of a job that is the same already; the message is the server's."""


class Orchestrator:
    """The one orchestrator of a node."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        server_meta: Mapping[str, str],
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._settings = settings
        self._meta = server_meta
        self._clock = now
        self._last = 0
        self._nodes: dict[str, ComputeNode] = {}
        self._pending: dict[str, tuple[Trigger, str]] = {}
        self._timers: dict[tuple[str, Trigger], tuple[int, asyncio.TimerHandle]] = {}
        self._closed = False

    def connect(self, node: ComputeNode) -> None:
        """Let a compute node take jobs."""
        self._nodes[node.id] = node

    @property
    def nodes(self) -> list[ComputeNode]:
        """The compute nodes, in the order of their connection."""
        return list(self._nodes.values())

    @property
    def reports(self) -> Reports:
        """Where compute nodes report to."""
        return Reports(self._bid_accepted, self._bid_rejected, self._ended, self._failed)

    def resume(self) -> None:
        """Go on after a restart: what ran is lost and starts from the beginning.

        Jobs that waited are looked at again; a real v1.9.3 forgets them.
        """
        for job in self._store.unfinished_jobs():
            for execution in self._store.executions(job.id):
                if not execution.is_terminal:
                    self._apply(messages.node_restarted(job, execution, self._now()))
            if job.timeout("TotalTimeout"):
                self._at(job.id, job.created + job.timeout("TotalTimeout") * SECOND, Trigger.TIMED_OUT)
            waits = job.state is JobState.QUEUED
            self._evaluate_soon(job.id, Trigger.BACKOFF_OVER if waits else Trigger.REGISTERED)

    def close(self) -> None:
        """Look at no job any more and end what runs."""
        self._closed = True
        for _, handle in self._timers.values():
            handle.cancel()
        for node in self._nodes.values():
            node.close()

    # what users ask

    def submit(self, accepted: Accepted, *, force: bool) -> tuple[Job, str]:
        """Store a new job, or a new version of the job of that name.

        :returns: the job and an evaluation id.
        :raises NoChangesError: the same job under the same name, without force.
        """
        spec = {**accepted.spec, "Meta": {**accepted.spec["Meta"], **self._meta}}
        spec["Meta"] = dict(sorted(spec["Meta"].items()))
        existing = self._store.job_named(spec["Name"], spec["Namespace"]) if spec["Name"] else None
        if existing is None:
            job_id = accepted.job_id or f"j-{uuid.uuid4()}"
            spec["Name"] = spec["Name"] or job_id
            now = self._now()
            job = Job(job_id, spec, now, now)
            self._apply(messages.submitted(job, now), new=True)
            return job, self._evaluate_soon(job.id, Trigger.REGISTERED)
        if not force and same_job(existing.spec, spec):
            raise NoChangesError(
                f"no changes detected for new job spec. Job Name: '{existing.name}', Job Id: '{existing.id}'"
            )
        change = messages.updated(existing, spec, self._now())
        self._apply(change)
        return change.job, self._evaluate_soon(existing.id, Trigger.UPDATED)

    def stop(self, job: Job, reason: str) -> str:
        """Stop a job.

        :returns: an evaluation id, empty when it was stopped before.
        :raises .messages.Refused: the job is over.
        """
        change = messages.stopped(job, reason, self._now(), tells_reason=self._settings.tells_reason)
        if change is None:
            return ""
        self._apply(change)
        return self._evaluate_soon(job.id, Trigger.STOPPED)

    def rerun(self, job: Job, version: int) -> tuple[Job, str]:
        """Run a job again, in one of its versions (0 for the latest).

        :raises .messages.Refused: the job has not run yet; :raises .store.NotFoundError: no such version.
        """
        spec = self._store.job_version(job.id, version).spec if version else job.spec
        change = messages.rerun(job, spec, self._now())
        self._apply(change)
        return change.job, self._evaluate_soon(job.id, Trigger.UPDATED)

    # what compute nodes report

    def _bid_accepted(self, execution_id: str) -> None:
        self._report(execution_id, lambda job, execution: messages.bid_accepted(job, execution, self._now()))

    def _bid_rejected(self, execution_id: str, reason: str) -> None:
        self._report(execution_id, lambda job, execution: messages.bid_rejected(job, execution, reason, self._now()))

    def _ended(self, execution_id: str, ended: Ended) -> None:
        def transition(job: Job, execution: Execution) -> Change:
            return messages.execution_completed(job, execution, ended.published, ended.output, self._now())

        self._report(execution_id, transition)

    def _failed(self, execution_id: str, problem: Problem) -> None:
        def transition(job: Job, execution: Execution) -> Change:
            now = self._now()
            event = Event(problem.message, problem.topic, now, problem.details)
            return messages.execution_failed(job, execution, event, now)

        self._report(execution_id, transition)

    def _report(self, execution_id: str, transition: Callable[[Job, Execution], Change]) -> None:
        if self._closed:
            return
        execution = self._store.execution(execution_id)
        change = transition(self._store.job(execution.job.id), execution)
        if change.executions:
            self._apply(change)
            self._evaluate_soon(execution.job.id, Trigger.EXECUTION_CHANGED)

    # evaluation

    def _evaluate_soon(self, job_id: str, trigger: Trigger) -> str:
        waiting = self._pending.get(job_id)
        if waiting is None:
            asyncio.get_running_loop().call_soon(self._evaluate, job_id)
        elif waiting[0] is Trigger.REGISTERED:
            return waiting[1]
        evaluation = str(uuid.uuid4())
        self._pending[job_id] = trigger, evaluation
        return evaluation

    def _evaluate(self, job_id: str) -> None:
        trigger, evaluation = self._pending.pop(job_id)
        if self._closed:
            return
        job = self._store.job(job_id)
        views = [node.view() for node in self._nodes.values()]
        try:
            change = scheduler.evaluate(
                job,
                self._store.executions(job_id),
                views,
                trigger,
                self._settings,
                self._now(),
                itertools.chain([evaluation], (str(uuid.uuid4()) for _ in itertools.count())).__next__,
            )
        except SelectorError as error:
            # A real server leaves such a job pending, too.
            log.warning("job %s has constraints that cannot be matched: %s", job_id, error)
            return
        self._apply(change)
        if change.job.state is not job.state:
            log.info("job %s: %s -> %s", job_id, job.state, change.job.state)

    def _apply(self, change: Change, *, new: bool = False) -> None:
        self._store.apply(change, new=new)
        for effect in change.effects:
            match effect:
                case AskForBid(execution):
                    self._nodes[execution.node_id].ask(execution)
                case Run(execution, bid):
                    self._nodes[execution.node_id].run(execution, scan_first=bid)
                case Cancel(execution):
                    if execution.node_id in self._nodes:
                        self._nodes[execution.node_id].cancel(execution.id)
                case LookAgain(at, trigger):
                    self._at(change.job.id, at, trigger)

    def _at(self, job_id: str, at: int, trigger: Trigger) -> None:
        """Remember one look for each job and reason: the earliest."""
        key = (job_id, trigger)
        known = self._timers.get(key)
        if known is not None:
            if known[0] <= at:
                return
            known[1].cancel()

        def look() -> None:
            del self._timers[key]
            if not self._closed:
                self._evaluate_soon(job_id, trigger)

        delay = max(0, at - self._clock()) / SECOND
        self._timers[key] = (at, asyncio.get_running_loop().call_later(delay, look))

    def _now(self) -> int:
        """Nanoseconds since 1970, never the same twice: lists are ordered by them."""
        self._last = max(self._last + 1, self._clock())
        return self._last
