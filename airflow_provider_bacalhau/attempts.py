"""A try of an Airflow task and its one job: whose it is, where its id is kept, how it is had and how it is ended.

What is decided about jobs is in :mod:`~airflow_provider_bacalhau.client.claims`; this is Airflow's side of it, and the
same for a task that waits in a worker and one that waits in the triggerer.
"""

from __future__ import annotations

import functools
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, conf

from airflow_provider_bacalhau.reporting import show_lines

if TYPE_CHECKING:
    from logging import Logger

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bacalhau.client import BacalhauClient, Job
    from airflow_provider_bacalhau.client.claims import Finding
    from airflow_provider_bacalhau.client.facts import StopOutcome
    from airflow_provider_bacalhau.client.naming import Claim, Owner
    from airflow_provider_bacalhau.client.spec import JobSpec
    from airflow_provider_bacalhau.hooks.bacalhau import BacalhauHook
    from airflow_provider_bacalhau.preparation import Rules

_STORED = "bacalhau_job"
# A look may be the last one just before its time is over; then it and the stop have to be answered before Airflow ends
# the process, five seconds after the kill.
_LOOK_SECONDS = 2.3
_ANSWER_SECONDS = 1.2
_LOG_SECONDS = 1.0
_CLOCKS_DIFFER = 10.0
_MOST_LOG_LINES = 20
_BROKEN_OFF = "The Airflow task failed while it waited."

log = logging.getLogger(__name__)


def owner_of(context: Context, server: str, *, durable: bool = True) -> Owner:
    """The attempt that a task's context describes.

    :param server: address of the Bacalhau server, for a warning where jobs of several Airflows may meet.
    :param durable: whether a retry is to find the job of an earlier try.
    """
    from airflow_provider_bacalhau.client.naming import Owner

    ti: Any = context["ti"]
    # The last is missing where a task is run by hand, as in a test.
    max_tries = getattr(ti, "max_tries", 0)
    return Owner(
        deployment=deployment(server),
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=ti.map_index,
        max_tries=max_tries if isinstance(max_tries, int) else 0,
        try_number=ti.try_number,
        durable=durable,
    )


def _age_of_run(context: Context) -> float | None:
    """For how many seconds, at most, the task's DAG run has been there; None where nobody says."""
    begun = getattr(context.get("dag_run"), "start_date", None)
    return time.time() - begun.timestamp() + _CLOCKS_DIFFER if isinstance(begun, datetime) else None


def deployment(server: str) -> str:
    """What tells this Airflow from others on the same network: ``[bacalhau] deployment_id``, or its address.

    :param server: address of the Bacalhau server; one on this machine is nobody else's.
    """
    from airflow_provider_bacalhau.client.settings import is_loopback
    from airflow_provider_bacalhau.version_compat import airflow_address

    if given := str(conf.get("bacalhau", "deployment_id", fallback="") or "").strip():
        return given
    address = airflow_address()
    if is_loopback(address) and not is_loopback(server):
        _warn_of(address)
    return address or "default"


def _without_secrets(address: str) -> str:
    """Scheme, host and port of an address; whatever else it holds may be meant for nobody."""
    scheme, mark, rest = address.rpartition("://")
    return f"{scheme}{mark}{re.split('[/?#]', rest)[0].rpartition('@')[2]}"


@functools.cache
def _warn_of(address: str) -> None:
    """Warn once in a process."""
    log.warning(
        "%s: another Airflow on the same Bacalhau network could take this one's jobs for its own. Set [bacalhau] "
        "deployment_id to the same text on all workers and triggerers of this Airflow.",
        f"This Airflow's address is {_without_secrets(address)}"
        if address
        else "This Airflow has no address ([api] base_url)",
    )


@dataclass(frozen=True)
class ClaimedJob:
    """A job that an attempt has got.

    :param job_id: its id.
    :param name: its name.
    :param how: in words for a log.
    :param age: seconds since it was submitted.
    """

    job_id: str
    name: str
    how: str
    age: float = 0.0


@dataclass(frozen=True)
class Stopping:
    """What came of stopping a job.

    :param outcome: None when it could not be stopped.
    :param words: the same in words, for a message.
    """

    outcome: StopOutcome | None
    words: str

    @property
    def came_too_late(self) -> bool:
        """Whether the job had come to its own end before."""
        from airflow_provider_bacalhau.client.facts import StopOutcome

        return self.outcome in {StopOutcome.ALREADY_COMPLETED, StopOutcome.ALREADY_FAILED}


class Attempt:
    """One try of a task, and the job it has.

    :param context: of the task.
    :param hook: of the network's connection.
    :param client: of the network.
    :param logger: the task's log.
    :param durable: whether a retry is to find the job of an earlier try.
    :param job_id: its job, where that is known already.
    """

    def __init__(
        self,
        context: Context,
        hook: BacalhauHook,
        client: BacalhauClient,
        logger: Logger,
        *,
        durable: bool = True,
        job_id: str | None = None,
    ) -> None:
        self.context = context
        self.hook = hook
        self.client = client
        self.owner = owner_of(context, hook.settings.client.url, durable=durable)
        self.job_id = job_id
        self.is_killed = False
        """Airflow 3 raises nothing in a task that it kills, so whoever waits has to look here."""
        self.is_settled = False
        """Whether the job is over, or its end is decided: there is nothing left to stop."""
        self.log = logger
        self._store = context.get("task_state_store")  # from Airflow 3.3 on
        self._namespace = ""  # any, until the spec is read
        self._is_submitting = False
        self.may_have_job = self.owner.try_number > 1
        """Whether there may be a job though its id is not known: an earlier try's, or one that is being submitted."""
        self._stops_when_killed = True
        self.after_kill = ""
        """What became of the job of a killed task, as the end of a sentence."""

    @property
    def required_job_id(self) -> str:
        """Id of the job, once there is one."""
        if self.job_id is None:
            raise RuntimeError("The attempt has no job yet.")
        return self.job_id

    def claim_job(
        self, claim: Claim, complete: Callable[[BacalhauClient], JobSpec], rules: Rules, *, thorough: bool = False
    ) -> ClaimedJob:
        """Go on with the job that an earlier try left, or submit it.

        :param claim: what the attempt asks for.
        :param complete: makes the job that is to be sent; called only if one is.
        :param thorough: whether to look everywhere even in a first try.
        """
        finding = self._find(claim, rules, thorough=thorough)
        if finding.job is not None:
            return self._go_on_with(finding.job, claim)
        spec = complete(self.client)
        self.refuse_if_killed("before it submitted its job")
        self.job_id, self._is_submitting = None, True  # a job that was taken away is no matter of a kill any more
        submission = self.client.submit_for(finding.claim, spec)
        self._keep(submission.job_id)
        how = "was submitted before" if submission.adopted else "submitted"
        return ClaimedJob(submission.job_id, finding.claim.name, how)

    def find_job(self, claim: Claim, rules: Rules) -> ClaimedJob | None:
        """Go on with another job of this attempt, if there is one."""
        finding = self._find(claim, rules, thorough=True)
        return None if finding.job is None else self._go_on_with(finding.job, claim)

    def _find(self, claim: Claim, rules: Rules, *, thorough: bool) -> Finding:
        self._namespace = claim.namespace  # before the first request: a kill may come at any time
        return self.client.find_for(
            claim,
            known_id=self._kept_id(),
            on_existing=rules.on_existing,
            policy=rules.success_policy,
            wants_results=not rules.allow_missing_results,
            max_age=_age_of_run(self.context),
            thorough=thorough,
        )

    def _go_on_with(self, job: Job, claim: Claim) -> ClaimedJob:
        self._keep(job.id)
        how = f"is this task's from before, and {job.state.value}: going on with it"
        if claim.counter_in(job.name) is None:
            how += ", though it was submitted for another specification (on_existing='adopt')"
        return ClaimedJob(job.id, job.name, how, self.client.age(job))

    def has_older_job(self, job: Job | None = None) -> bool:
        """Whether the job is that of an older attempt at the task, as far as the network tells.

        :param job: as it was seen just now, if it was.
        """
        from airflow_provider_bacalhau.client.errors import NotFound, ServerUnavailable, Unreachable

        try:
            job = job or self.client.get(self.required_job_id)
        except (NotFound, ServerUnavailable, Unreachable):
            return False
        return self.owner.knows(job) and not self.owner.owns(job)

    def _keep(self, job_id: str) -> None:
        self.job_id, self._is_submitting = job_id, False
        if self._store is not None:
            try:
                self._store.set(_STORED, {"key": self.owner.key, "job_id": job_id})
            except Exception:  # the store saves a look-up; the job's labels are what counts
                self.log.warning("The job's id could not be kept in Airflow's task state.", exc_info=True)
        if self.is_killed:  # while the server was at it
            if self._stops_when_killed:
                self.stop(self.owner.kill_reason, quickly=True)
            self.refuse_if_killed("while it submitted its job")

    def _kept_id(self) -> str:
        """Id of the attempt's job, where an earlier try has kept it; Airflow keeps it over a clear as well."""
        if self._store is None:
            return ""
        try:
            kept = self._store.get(_STORED)
        except Exception:  # as above
            self.log.warning("Airflow's task state could not be read.", exc_info=True)
            return ""
        is_ours = isinstance(kept, dict) and kept.get("key") == self.owner.key
        return str(kept.get("job_id") or "") if is_ours else ""

    def refuse_if_killed(self, when: str) -> None:
        """Go no further with a task that was killed.

        :raises AirflowException: if it was.
        """
        if self.is_killed:
            raise AirflowException(f"The task was killed {when}.")

    def kill(self, *, stops: bool) -> None:
        """The task is killed: stop the job in little time, since Airflow ends the process five seconds later.

        :param stops: whether to stop it at all.
        """
        self.is_killed, self._stops_when_killed = True, stops
        if self.is_settled:
            return
        if not stops:
            self.after_kill = "; it runs on, as cancel_on_kill is off"
            self.log.info("The task is killed; job %s runs on, as cancel_on_kill is off.", self.job_id or "(if any)")
        elif self.job_id is not None:
            self.after_kill = f"; {self.stop_and_show_tail(self.owner.kill_reason, quickly=True).words}"
        else:
            self._stop_unknown(self.owner.kill_reason)

    def break_off(self, error: Exception) -> None:
        """The task fails by an error that has nothing to do with its job: leave the job to the next try, or stop it."""
        from airflow_provider_bacalhau.client.errors import (
            BacalhauError,
            ExistingJob,
            JobLost,
            ServerUnavailable,
            Unreachable,
        )

        if self.is_killed or self.is_settled:  # of a kill's job, on_kill has decided
            return
        if isinstance(error, JobLost | ExistingJob):  # there is none; it is to be left alone
            return
        is_final = isinstance(error, BacalhauError) and error.permanent
        if self.owner.has_next_try and not is_final:
            if self.job_id is not None:
                self.log.info("Job %s runs on; the next try of this task goes on with it.", self.job_id)
            return
        if is_final:  # a submission that is refused for good has left nothing
            self._is_submitting = False
        try:
            if self.job_id is None:
                self._stop_unknown(_BROKEN_OFF, told=str(error))
            else:
                self.stop(_BROKEN_OFF, quickly=isinstance(error, ServerUnavailable | Unreachable))
        except Exception:  # what broke the wait may break this as well, and must not be hidden by it
            self.log.warning("A job of this task may run on; it could not be stopped.", exc_info=True)

    def _stop_unknown(self, reason: str, *, told: str = "") -> None:
        """Stop the job whose id is not known: that of an earlier try, or one that is being submitted.

        :param told: what the task is going to say itself, and need not be said twice.
        """
        from airflow_provider_bacalhau.client.errors import BacalhauError

        if not (self.may_have_job or self._is_submitting):
            return
        looking = self.client.operations.stop_for(
            self.owner,
            namespace=self._namespace,
            reason=reason,
            seconds=_LOOK_SECONDS if self._is_submitting else 0.0,
        )
        try:
            stopped = self.client.quickly(looking, seconds=_ANSWER_SECONDS)
            for job_id, outcome in stopped:
                self.log.info("Job %s: %s.", job_id, outcome.value)
            if self._is_submitting and not stopped:
                self.log.warning("A job was being submitted; none was found to stop.")
        except BacalhauError as error:
            why = "see below" if str(error) == told else error
            self.log.warning("A job of this task may run on; it could not be looked for: %s", why)

    def stop(self, reason: str, *, quickly: bool = False) -> Stopping:
        """Stop the job.

        :param quickly: whether to take no more than two seconds for it, as a signal handler must.
        """
        from airflow_provider_bacalhau.client.errors import BacalhauError, NotAuthorised

        stop = self.client.stop_quickly if quickly else self.client.stop
        try:
            outcome = stop(self.required_job_id, reason)
        except BacalhauError as error:
            self.log.warning("Job %s may run on; it could not be stopped: %s", self.job_id, error)
            why = "it could not be stopped"
            if isinstance(error, NotAuthorised):
                right = error.capability
                why = f"these credentials lack the right {right}" if right else "these credentials may not stop it"
            return Stopping(None, f"the job may run on, as {why}")
        self.is_settled = True
        self.log.info("Job %s: %s.", self.job_id, outcome.value)
        return Stopping(outcome, f"the job was {outcome.value}")

    def stop_and_show_tail(self, reason: str, *, quickly: bool = False) -> Stopping:
        """Stop the job, and show the end of what its programs had written, where the server can tell within a second.

        Nothing is logged before the job is stopped: a kill may have come in the middle of another line, and then the
        logger, whose lock its own thread cannot take twice, stands still until the process is ended.
        """
        lines = self.client.log_tail(self.required_job_id, seconds=_LOG_SECONDS).splitlines()
        stopping = self.stop(reason, quickly=quickly)
        show_lines(self.log, "Last lines of the job's log", lines[-_MOST_LOG_LINES:])
        return stopping
