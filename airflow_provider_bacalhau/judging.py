"""How a task ends as its job does: judged, stopped when it cannot or may not go on, or followed by another job.

One way for a task that has waited in a worker and one that comes back from the triggerer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_bacalhau.attempts import Attempt, ClaimedJob
from airflow_provider_bacalhau.preparation import Draft, Rules
from airflow_provider_bacalhau.reporting import (
    describe_results,
    push_results,
    report_missing_results,
    report_outcome,
    timed_out,
)

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client import Job
    from airflow_provider_bacalhau.client.diagnosis import JobOutcome
    from airflow_provider_bacalhau.client.errors import WaitTimeout
    from airflow_provider_bacalhau.client.naming import Claim


class Case:
    """An attempt's job, and what its task makes of it.

    Whatever ends the wait for a job gives the job that the task has to follow instead, or None once it has succeeded.

    :param attempt: the try of the task.
    :param rules: the task's.
    :param ask: what the task asks for; read only when a job is claimed.
    """

    def __init__(self, attempt: Attempt, rules: Rules, ask: Callable[[], tuple[Claim, Draft]]) -> None:
        self.attempt = attempt
        self.rules = rules
        self._ask = ask
        self._was_replaced = False  # once; the job that takes the first one's place is judged by its own end

    def claim_job(self, *, thorough: bool = False) -> ClaimedJob:
        """Go on with the job that an earlier try left, or submit it.

        :param thorough: whether to look everywhere even in a first try.
        """
        claim, wanted = self._ask()
        return self.attempt.claim_job(claim, wanted.complete, self.rules, thorough=thorough)

    def outcome(self) -> JobOutcome:
        """The job as it is now, judged."""
        return self.attempt.client.outcome(self.attempt.required_job_id, policy=self.rules.success_policy)

    def judge(self, outcome: JobOutcome, *, is_hopeless: bool = False) -> ClaimedJob | None:
        """Judge a job that is over, or that nothing can run any more.

        :raises JobFailed: with the diagnosis, unless it succeeded.
        """
        if not outcome.job.state.is_terminal:
            if outcome.is_alive or not is_hopeless:  # it has come to life again
                return self.claim_job(thorough=True)
            outcome = self._ended(outcome)
        if (another := self._replacement(outcome.job)) is not None:
            self._was_replaced = True
            return another
        self.attempt.is_settled = True
        self._report(outcome)
        return None

    def give_up(self, error: WaitTimeout) -> ClaimedJob | None:
        """Stop the job, and fail in the way of every job that did not succeed; unless it has just ended by itself.

        :param error: how the wait ended.
        :raises WaitTimeout: telling what became of the job.
        """
        attempt, timeout = self.attempt, self.rules.wait.timeout
        given = "" if timeout is None else f" of {timeout:.10g} s"
        stopping = attempt.stop_and_show_tail("The Airflow task's timeout has passed.")
        # A server whose answers say nothing of the job's end, though it will not stop it, is not asked for ever.
        if stopping.came_too_late and (outcome := self.outcome()).job.state.is_terminal:
            return self.judge(outcome)
        attempt.is_settled = True
        raise timed_out(
            attempt.context,
            attempt.client,
            attempt.required_job_id,
            f"{error.message} The task's timeout{given} has passed, and {stopping.words}.",
            attempt.log,
            log_output=self.rules.log_output,
        )

    def _ended(self, outcome: JobOutcome) -> JobOutcome:
        """What came of a job that nothing can run any more, once it is stopped."""
        from airflow_provider_bacalhau.client.diagnosis import JobOutcome
        from airflow_provider_bacalhau.client.states import JobState

        stopping = self.attempt.stop("It has failed on every node that could run it.")
        if stopping.came_too_late:
            return self.outcome()
        judged = JobOutcome.of(outcome.job, self.rules.success_policy, is_hopeless=True)
        return judged if stopping.outcome is None else replace(judged, job=replace(judged.job, state=JobState.STOPPED))

    def _replacement(self, job: Job) -> ClaimedJob | None:
        """What takes the place of a job that was stopped by this task itself: for an earlier try, or beside another."""
        from airflow_provider_bacalhau.client.claims import EXTRA_JOB
        from airflow_provider_bacalhau.client.diagnosis import stop_reason
        from airflow_provider_bacalhau.client.states import JobState

        attempt = self.attempt
        if job.state is not JobState.STOPPED or attempt.is_settled or self._was_replaced:
            return None
        reason = stop_reason(job)
        if attempt.owner.was_killed_before(reason):
            attempt.log.info("Job %s was stopped when an earlier try of this task was killed.", job.id)
            return self.claim_job(thorough=True)
        if reason and EXTRA_JOB not in reason:
            return None
        # Requester servers from v1.0.4 on keep no reason: then another job of this attempt tells.
        claim, _ = self._ask()
        return attempt.find_job(claim, self.rules)

    def _report(self, outcome: JobOutcome) -> None:
        from airflow_provider_bacalhau.client.errors import JobFailed

        attempt, rules, job_id = self.attempt, self.rules, self.attempt.required_job_id
        try:
            report_outcome(attempt.context, outcome, attempt.log, log_output=rules.log_output, excused=rules.skipped)
        except JobFailed as error:
            error.permanent = error.permanent or rules.is_final(outcome)
            raise
        references = push_results(attempt.context, attempt.client, job_id)
        if not rules.allow_missing_results:
            report_missing_results(outcome, len(references))
        attempt.log.info("Job %s succeeded; results: %s.", job_id, describe_results(references))
