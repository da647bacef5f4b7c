"""One attempt, one job: find the job that an attempt of an Airflow task has already, or submit it once.

The order is: the id that was kept; the name, where names are unique (from v1.8); the label ``airflow-task-key``. The
last costs the server 0.3 s among 10,000 jobs, so where names are unique it is left out of a task's first try, which has
nothing to find by it.

Where names are not unique, two submitters of one identity that do not see each other both submit. Each looks once more
after it has submitted: the newest job wins, and the others are stopped. What remains is the time between a submission
and that look, and a submitter that dies within it: its job is found by the next try.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from airflow_provider_bacalhau.client.diagnosis import missing_results
from airflow_provider_bacalhau.client.effects import Operation, Sleep
from airflow_provider_bacalhau.client.errors import (
    BacalhauError,
    Conflict,
    ExistingJob,
    InvalidJobSpec,
    NotFound,
    RequestRefused,
    ServerUnavailable,
    SubmissionUnclear,
    UnexpectedAnswer,
    Unreachable,
)
from airflow_provider_bacalhau.client.facts import Submission
from airflow_provider_bacalhau.client.naming import TASK_KEY_LABEL, Claim, Owner
from airflow_provider_bacalhau.client.states import JobState
from airflow_provider_bacalhau.client.watching import Watching

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client.facts import Job, StopOutcome
    from airflow_provider_bacalhau.client.results import ResultReference
    from airflow_provider_bacalhau.client.spec import JobSpec
    from airflow_provider_bacalhau.client.success import SuccessPolicy

log = logging.getLogger(__name__)

OnExisting = Literal["replace", "adopt", "fail"]

UNCLEAR_SECONDS = 30.0
"""For how long a job is looked for whose submission got no clear answer: the server may still be at work on it."""

OLDER_ATTEMPT = "A newer attempt of the Airflow task has begun."
OLDER_SPEC = "The Airflow task asks for another job now."
EXTRA_JOB = "The same attempt of the Airflow task has a newer job."

_LOOK_EVERY = 1.0
_MOST_NAMES = 1000
_AWAY = (Unreachable, ServerUnavailable, UnexpectedAnswer)


def check_on_existing(value: object) -> OnExisting:
    """Refuse what is no way to treat an earlier job.

    :raises InvalidJobSpec: for anything but ``replace``, ``adopt`` and ``fail``.
    """
    for known in get_args(OnExisting):
        if value == known:
            return known  # type: ignore[no-any-return]  # get_args is untyped
    raise InvalidJobSpec(f"is {value!r}, and must be one of {', '.join(get_args(OnExisting))}.", place="on_existing")


@dataclass(frozen=True)
class Finding:
    """What an attempt has already.

    :param claim: with the counter of its job, or of the job that is to be submitted.
    :param job: the job to go on with: alive, or ended in success in an earlier try; None when there is none.
    """

    claim: Claim
    job: Job | None = None


class Claims(Watching):
    """The operations that keep an attempt to one job: a part of :class:`~.operations.Operations`, as is its base.

    They need what all operations need, so they are inherited and not held; what is abstract is in the rest.
    """

    @abstractmethod
    async def submit_once(self, spec: JobSpec) -> Submission:
        """Submit a job under its own unique name."""

    @abstractmethod
    async def references(self, job_id: str) -> list[ResultReference]:
        """References to a job's results."""

    async def find_for(
        self,
        claim: Claim,
        *,
        known_id: str = "",
        on_existing: OnExisting = "replace",
        policy: SuccessPolicy = "all",
        wants_results: bool = False,
        max_age: float | None = None,
        thorough: bool = False,
    ) -> Finding:
        """Find the job that an attempt has already; stop those that stand in its way.

        Live jobs of older generations are stopped, as are those of the same attempt with an older spec (see
        ``on_existing``), and all but the newest where an attempt has several.

        :param claim: the attempt and what it asks for.
        :param known_id: id of the attempt's job as it was kept; empty when it was not.
        :param on_existing: what to do with a live job of this attempt that has another spec: stop it (``replace``), go
            on with it (``adopt``), or raise (``fail``). One that is over is never used for another spec.
        :param policy: which job has succeeded; see :class:`JobOutcome`.
        :param wants_results: whether one that has a publisher, but no results, has not.
        :param max_age: the most seconds that a job of this attempt can be old: as many as its DAG run. An older one
            belongs to a run of the same id that was deleted.
        :param thorough: look by label even in a first try.
        :raises ExistingJob: for ``fail``.
        :raises NotAuthorised: when a job that is in the way may not be stopped with these credentials.
        """
        can = (await self.dialect()).can

        def is_of_use(job: Job) -> Operation[bool]:
            return self._is_of_use(job, policy, wants_results=wants_results, max_age=max_age)

        first_try = claim.owner.try_number <= 1 and not thorough
        job = await self._known(known_id, claim) if known_id else None
        if job is not None and not await is_of_use(job):
            job = None
        if job is None and can.unique_names:
            named = await self._named(claim)
            claim = claim.next(*(one.name for one in named))
            if named and claim.owner.owns(named[-1]) and await is_of_use(named[-1]):
                job = named[-1]
        if job is not None:
            if job.state.is_terminal and not first_try:  # another may run, for another spec
                await self._labelled(claim, on_existing)
            return self._found(claim, job)
        if can.unique_names and first_try:
            return Finding(claim)
        same = await self._labelled(claim, on_existing)
        for job in reversed(same):
            if await is_of_use(job):
                return self._found(claim, job)
        return Finding(claim.next(*(job.name for job in same)))

    async def submit_for(self, claim: Claim, spec: JobSpec) -> Submission:
        """Submit the job of an attempt, once, and make sure of it.

        :param claim: with a counter that no job of the attempt has; see :meth:`find_for`.
        :param spec: the job; its name, namespace and labels are set here.
        :returns: the submission; ``adopted`` when another submitter of the attempt was quicker.
        :raises SubmissionUnclear: when the server may or may not have taken it, and it was not to be found for 30 s.
        :raises Conflict: when a job of somebody else has its name.
        """
        labels = {**spec.labels, **claim.owner.labels}
        spec = spec.model_copy(update={"name": claim.name, "namespace": claim.namespace, "labels": labels})
        try:
            submission = await self.submit_once(spec)
        except SubmissionUnclear as error:
            log.warning("Looking for the job, as its submission got no clear answer: %s", error)
            job = await self._appearing(claim)
            if job is None:
                raise
            return Submission(job.id, adopted=True)
        dialect = await self.dialect()
        if submission.adopted:
            job = await dialect.get(submission.job_id)
            if not claim.owner.owns(job):
                raise Conflict(
                    f"Job {job.id} has the name {claim.name}, but not the labels of this Airflow task.",
                    hint="Give the task another name=…, or remove that job.",
                )
            return submission
        if dialect.can.unique_names:
            return submission
        return await self._newest(claim, submission)

    async def stop_for(
        self, owner: Owner, *, namespace: str, reason: str, seconds: float = 0.0
    ) -> list[tuple[str, StopOutcome]]:
        """Stop the live jobs of an attempt whose ids are not known, and those from before a clear.

        :param namespace: where to look.
        :param reason: for the job's history.
        :param seconds: for how long to look when there is none of its own: the server may still be at work on it.
        :returns: ids of the jobs that were alive, each with what came of stopping it.
        """
        until = self._clock() + seconds
        stopped: list[tuple[str, StopOutcome]] = []
        while True:
            alive = _alive([job for job in await self._jobs_of(owner, namespace) if owner.takes_along(job)])
            stopped += [(job.id, await self._stop(job, reason)) for job in alive]
            if any(owner.owns(job) for job in alive) or self._clock() >= until:
                return stopped
            await Sleep(_LOOK_EVERY / 4)

    async def age(self, job: Job) -> float:
        """How many seconds ago a job was created, by the server's own clock, which may be far from ours."""
        now = await (await self.dialect()).server_time() if job.created else None
        return max(0.0, now - job.created) if now and job.created else 0.0

    # -- finding ------------------------------------------------------------------------------------------------------

    async def _is_of_use(self, job: Job, policy: SuccessPolicy, *, wants_results: bool, max_age: float | None) -> bool:
        """Whether a job may be gone on with; see :meth:`find_for`."""
        if max_age is not None and await self.age(job) > max_age:
            if not job.state.is_terminal:
                await self._stop(job, OLDER_ATTEMPT)
            return False
        if not job.state.is_terminal:
            return True
        if job.state is JobState.STOPPED:
            return False
        ended = await self.outcome(job.id, policy=policy)
        if ended.diagnosis is not None:
            return False
        if not wants_results or missing_results(ended.job, 0) is None:
            return True
        return missing_results(ended.job, len(await self.references(job.id))) is None

    async def _known(self, job_id: str, claim: Claim) -> Job | None:
        try:
            job = await (await self.dialect()).get(job_id)
        except (NotFound, RequestRefused):  # what was kept may be anything; the beginning of many ids is refused
            return None
        return job if claim.owner.owns(job) and claim.counter_in(job.name) is not None else None

    async def _named(self, claim: Claim) -> list[Job]:
        """The jobs that have the names of the attempt's jobs for this spec, the newest last."""
        dialect = await self.dialect()
        found: list[Job] = []
        while len(found) < _MOST_NAMES:
            try:
                job = await dialect.get(claim.name, namespace=claim.namespace)
            except NotFound:
                break
            found.append(job)
            claim = replace(claim, counter=claim.counter + 1)
        return found

    async def _labelled(self, claim: Claim, on_existing: OnExisting) -> list[Job]:
        """The attempt's jobs that may be gone on with, the newest last; all that stand in its way are stopped."""
        jobs = await self._jobs_of(claim.owner, claim.namespace)
        for job in _alive(jobs):
            if not claim.owner.owns(job):
                await self._stop(job, OLDER_ATTEMPT)
        own = [job for job in jobs if claim.owner.owns(job)]
        same = _by_age(job for job in own if claim.counter_in(job.name) is not None)
        others = [job for job in _alive(own) if job not in same]
        if others and on_existing == "fail":
            raise ExistingJob(
                f"Job {others[-1].id} of this task is {others[-1].state.value}, and was submitted for another job "
                "specification. It runs on.",
                hint="on_existing='replace' stops it, on_existing='adopt' goes on with it.",
            )
        if others and on_existing == "adopt":
            same = _by_age([*same, *others])
        else:
            for job in others:
                await self._stop(job, OLDER_SPEC)
        alive = _alive(same)
        for job in alive[:-1]:
            await self._stop(job, EXTRA_JOB)
        return alive[-1:] or same

    async def _jobs_of(self, owner: Owner, namespace: str) -> list[Job]:
        """The jobs of a task instance, but for those of later generations."""
        dialect, wanted, token = await self.dialect(), {TASK_KEY_LABEL: owner.task_key}, ""
        found: dict[str, Job] = {}
        while True:
            page = await dialect.list(namespace=namespace, labels=wanted, limit=0, next_token=token)
            is_new = any(job.id not in found for job in page.items)
            found.update({job.id: job for job in page.items})
            token = page.next_token
            if not (token and is_new):  # servers give all at once; one that does not is asked on
                return [job for job in found.values() if owner.knows(job)]

    @staticmethod
    def _found(claim: Claim, job: Job) -> Finding:
        counter = claim.counter_in(job.name)
        return Finding(claim if counter is None else replace(claim, counter=counter), job)

    # -- submitting ---------------------------------------------------------------------------------------------------

    async def _appearing(self, claim: Claim) -> Job | None:
        """The job that an unclear submission made after all; None when it is not to be found for a while."""
        until = self._clock() + UNCLEAR_SECONDS
        while True:
            try:
                jobs = await self._jobs_of(claim.owner, claim.namespace)
            except _AWAY:  # a server that has just lost a connection may be restarting
                jobs = []
            for job in _by_age(jobs)[::-1]:
                if claim.owner.owns(job) and claim.counter_in(job.name) == claim.counter:
                    log.info("The server did take the job: it is %s.", job.id)
                    return job
            if self._clock() >= until:
                return None
            await Sleep(_LOOK_EVERY)

    async def _newest(self, claim: Claim, submission: Submission) -> Submission:
        """The newest job of the attempt, where another submitter may have made one at the same time; stop the rest."""
        try:
            jobs = await self._jobs_of(claim.owner, claim.namespace)
            twins = _by_age(
                job
                for job in jobs
                if claim.owner.owns(job)
                and claim.counter_in(job.name) is not None
                and (job.id == submission.job_id or not job.state.is_terminal)
            )
            for job in _alive(twins[:-1]):
                await self._stop(job, EXTRA_JOB)
        except BacalhauError as error:  # whatever it is, the job is there, and its id must not be lost
            log.warning("Whether job %s is the only one of its attempt cannot be told: %s", submission.job_id, error)
            return submission
        is_ours = not twins or twins[-1].id == submission.job_id
        return submission if is_ours else Submission(twins[-1].id, adopted=True)

    async def _stop(self, job: Job, reason: str) -> StopOutcome:
        outcome = await (await self.dialect()).stop(job.id, reason)
        log.info("Job %s (%s): %s. %s", job.id, job.name, outcome.value, reason)
        return outcome


def _alive(jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if not job.state.is_terminal]


def _by_age(jobs: Iterable[Job]) -> list[Job]:
    """Jobs, the newest last; the id decides between jobs of the same moment, so that all see the same newest."""
    return sorted(jobs, key=lambda job: (job.created or 0.0, job.id))
