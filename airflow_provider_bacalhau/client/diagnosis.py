"""Why a job did not succeed: a pure function from what the server says to a category, a sentence and a remedy.

The server's own account is scattered. The job's message often says only that no node is left; the cause is in the
executions, whose exit code means nothing unless they completed; and a program that fails does not fail its job at all.
An unknown text is shown, never hidden.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from airflow_provider_bacalhau.client.categories import FailureCategory
from airflow_provider_bacalhau.client.causes import cause_of
from airflow_provider_bacalhau.client.errors import (
    BacalhauError,
    ConfigurationError,
    InvalidJobSpec,
    JobFailed,
    JobHopeless,
    JobLost,
    NotAuthorised,
    NotFound,
    NotSupported,
    RequestRefused,
    ServerUnavailable,
    Unreachable,
    WaitTimeout,
    WatchFailed,
)
from airflow_provider_bacalhau.client.evidence import coded, facts_of, first_line
from airflow_provider_bacalhau.client.facts import Execution, HistoryEvent, Job
from airflow_provider_bacalhau.client.placement import NO_NODE
from airflow_provider_bacalhau.client.reading import clean, one_line
from airflow_provider_bacalhau.client.states import ExecutionState, JobState
from airflow_provider_bacalhau.client.success import (
    SuccessPolicy,
    completed_executions,
    count_executions,
    exit_code_is_good,
    has_succeeded,
    needed_successes,
    succeeded_executions,
    wanted_executions,
)

__all__ = ["Diagnosis", "FailureCategory", "JobOutcome", "diagnose", "diagnosis_of", "stop_reason"]


@dataclass(frozen=True)
class Diagnosis:
    """Why a job did not succeed.

    :param category: stable name of the reason.
    :param summary: one sentence for a person.
    :param hint: what to do about it; empty when there is nothing better to say.
    :param facts: the lines that led there, such as the executions' messages and the end of stderr.
    """

    category: FailureCategory
    summary: str
    hint: str = ""
    facts: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """The diagnosis as a short block for a log."""
        yield f"{self.category.value}: {self.summary}"
        yield from (f"  {fact}" for fact in self.facts)
        if self.hint:
            yield f"What to do: {self.hint}"


_UNSUPPORTED = re.compile(r"does not support (\S+), only")
_SOME_SUITABLE = re.compile(r"suitable: [1-9]")
_MOST_CAUSES, _LONGEST_CAUSE, _MOST_CODES, _MOST_PROBLEMS = 50, 5000, 10, 20
_SCHEDULING, _QUEUEING = "Scheduling", "Queueing"
# What servers say of every stop: v1.3 and v1.4 keep the reason in the history, the requester API keeps none.
_ANY_STOP = re.compile(r"Job requested to stop before completion|job canceled by user")
# Exit codes that are not the program's own, but those of shells and of Docker.
_HABITS = {
    126: "Exit code 126 is a shell's word for a command that it may not execute: check it, and its rights.",
    127: "Exit code 127 is a shell's word for a command that is not there: check its name, and what the image has.",
    137: "Exit code 137 stands for a program that was killed (SIGKILL): often it needs more memory (Resources.Memory).",
    139: "Exit code 139 stands for a program that broke (SIGSEGV): read its output.",
    143: "Exit code 143 stands for a program that was asked to end (SIGTERM): see who stops containers on that node.",
}
_REMEDY_OF_STOP = "Ask whoever stopped it; a retry or a clear of the task that submitted it runs it again."


def diagnose(
    job: Job,
    executions: Sequence[Execution],
    history: Sequence[HistoryEvent] = (),
    *,
    policy: SuccessPolicy = "all",
    is_hopeless: bool = False,
) -> Diagnosis:
    """Say why a job did not succeed.

    :param job: the job, in whatever state.
    :param executions: its executions.
    :param history: its events, where they were read; they hold error codes and hints.
    :param policy: how many executions had to succeed.
    :param is_hopeless: whether nothing can run it any more, so that it has failed though it is not over.
    """
    found = _judge(job, executions, history, policy, is_hopeless)
    return replace(found, summary=one_line(found.summary))  # the id is the server's own word, too


def _judge(
    job: Job,
    executions: Sequence[Execution],
    history: Sequence[HistoryEvent],
    policy: SuccessPolicy,
    is_hopeless: bool,
) -> Diagnosis:
    failed = "failed" if job.state.is_terminal else f"failed (it is still {job.state.value})"
    if is_hopeless:
        failed = "failed on every node that could run it"
    facts = tuple(facts_of(job, executions, history))
    if policy != "all":
        good, needed = len(succeeded_executions(job, executions)), needed_successes(job, policy)
        facts = (*facts, f"success_policy={policy!r}: {good} of {needed} needed executions succeeded")
    if job.state is JobState.STOPPED:
        reason = clean(_own_words(job, history) or job.message, 300)
        said = f" saying {reason!r}" if reason and not _ANY_STOP.fullmatch(reason) else "; why is not known"
        return Diagnosis(FailureCategory.STOPPED_BY_OTHERS, f"Job {job.id} was stopped{said}.", _REMEDY_OF_STOP, facts)
    if job.state is JobState.COMPLETED:
        return _diagnose_completed(job, executions, facts, policy)
    causes = _causes(job, executions, history)
    if found := cause_of(causes):
        cause, message = found
        summary = f"Job {job.id} {failed}: {first_line(message)}."
        hint = cause.hint if cause.is_better else _server_hint(history) or cause.hint
        return Diagnosis(cause.category, summary, hint, facts)
    refusals = [one.message for one in executions if one.state is ExecutionState.ASK_FOR_BID_REJECTED and one.message]
    if not causes and refusals:
        return Diagnosis(
            FailureCategory.NO_SUITABLE_NODE,
            f"Job {job.id} was refused by every node that was asked: {first_line(refusals[-1])}.",
            "Ask for what these nodes allow, or have it allowed there.",
            facts,
        )
    if not causes and NO_NODE.search(job.message):
        return _diagnose_no_node(job, history, facts)
    why = first_line(causes[0][1] if causes else job.message) or "the server gives no reason"
    verb = f"{'ended as' if job.state.is_terminal else 'is not over, it is'} {job.state.value}"
    return Diagnosis(
        FailureCategory.UNKNOWN, f"Job {job.id} {failed if is_hopeless else verb}: {why}.", _server_hint(history), facts
    )


def stop_reason(job: Job) -> str:
    """Why a job was stopped, in the words of whoever stopped it.

    :param job: a stopped job with its history: v1.3 and v1.4 keep the reason only there.
    :returns: the reason; empty where the server does not keep it (requester API of v1.0.4 and later).
    """
    return clean(_own_words(job, job.history or ())) if job.state is JobState.STOPPED else ""


def _own_words(job: Job, history: Sequence[HistoryEvent]) -> str:
    if job.message and not _ANY_STOP.match(job.message):
        return job.message
    return next((one.event.details["Reason"] for one in reversed(history) if one.event.details.get("Reason")), "")


def _diagnose_completed(
    job: Job, executions: Sequence[Execution], facts: tuple[str, ...], policy: SuccessPolicy
) -> Diagnosis:
    completed = completed_executions(executions)
    bad = [one for one in completed if not exit_code_is_good(job, one)]
    if bad:
        kinds = list(dict.fromkeys("unknown" if one.exit_code is None else str(one.exit_code)[:20] for one in bad))
        codes = ", ".join(kinds[:_MOST_CODES]) + (" and others" if len(kinds) > _MOST_CODES else "")
        many = f" in {len(bad)} of {len(completed)} executions" if len(completed) > 1 else ""
        return Diagnosis(
            FailureCategory.PROGRAM_FAILED,
            f"Job {job.id}: the program failed with exit code {codes}{many}.",
            (job.engine == "docker" and _HABITS.get(bad[0].exit_code or 0))
            or "Read its output; the exit code is the program's own.",
            facts,
        )
    wanted = wanted_executions(job)
    if len(completed) < wanted or policy in ("all", "any"):
        done, hint = f"{len(completed)} of {wanted} executions completed", "Check the job's Count"
    else:
        done, hint = f"{len(completed)} executions succeeded, not {policy}", "Check the job's Count and success_policy"
    return Diagnosis(
        FailureCategory.INCOMPLETE,
        f"Job {job.id} is marked completed, but {done}.",
        f"{hint}, and that no one updated the job under its name.",
        facts,
    )


def _diagnose_no_node(job: Job, history: Sequence[HistoryEvent], facts: tuple[str, ...]) -> Diagnosis:
    lines = [line.strip("• ") for line in job.message.splitlines()[1:]]
    nodes = [clean(line, 300) for line in lines if line and not line.endswith(":")]
    why = f" ({'; '.join(nodes[:3])})" if nodes else ""
    some = "too few suitable nodes" if _SOME_SUITABLE.search(job.message) else "no suitable node"
    summary = f"Job {job.id} found {some}: {first_line(job.message)}{why}."
    unsupported = [found[1].lower() if (found := _UNSUPPORTED.search(node)) else "" for node in nodes]
    if unsupported and all(unsupported):
        if unsupported[0] == job.engine:
            hint = "No node offers that engine: choose one of those it names, or add a node that has it."
            return Diagnosis(FailureCategory.ENGINE_NOT_SUPPORTED, summary, hint, facts)
        what = "publisher" if unsupported[0] == job.publisher else "type of input source"
        hint = f"No node offers that {what}: choose one of those it names, or add a node that has it."
        return Diagnosis(FailureCategory.NO_SUITABLE_NODE, summary, hint, facts)
    category = FailureCategory.NO_SUITABLE_NODE
    # The message of a job that has waited for too long is that of one that was not to wait at all.
    if job.state is JobState.FAILED and any(one.event.topic == _QUEUEING for one in history):
        category = FailureCategory.QUEUE_TIMEOUT
        summary = summary.replace(f"found {some}", "waited in the queue for too long", 1)
    queue = "queue for longer" if category is FailureCategory.QUEUE_TIMEOUT else "queue"
    hint = f"Ask for less (Resources, Constraints, Count), let it {queue} (job_queue_timeout), or add nodes."
    return Diagnosis(category, summary, hint, facts)


def _causes(job: Job, executions: Sequence[Execution], history: Sequence[HistoryEvent]) -> list[tuple[str, str]]:
    """What the server said of the failure, the most telling first: error events with their topics, executions, the job.

    That no node is left is the consequence of a failure, and no cause.
    """
    failed = [("", one.message) for one in executions if one.state is ExecutionState.FAILED and one.message]
    events = [
        (one.event.topic, coded(one.event))
        for one in history
        if one.event.is_error and one.event.message and one.event.topic != _SCHEDULING
    ]
    said = [("", job.message)] if job.message and not NO_NODE.search(job.message) else []
    found = [*events[:1], *failed, *events[1:]][:_MOST_CAUSES] + said
    return [(topic[:100], message[:_LONGEST_CAUSE]) for topic, message in found]


def _server_hint(history: Sequence[HistoryEvent]) -> str:
    hints = [one.event.details["Hint"] for one in history if one.event.is_error and one.event.details.get("Hint")]
    return clean(" ".join(hints[-1].split()), 500) if hints else ""


def missing_results(job: Job, kept: int) -> Diagnosis | None:
    """Say why a job that succeeded and lacks results did not do what was wanted; None where it was to keep none.

    :param job: with its executions: each whose program succeeded should have a result.
    :param kept: how many results the job has.
    """
    good = [one for one in succeeded_executions(job, job.executions or ()) if one.job_version in {0, job.version}]
    wanted = max(1, len(good))
    if kept >= wanted or job.publisher in {"", "noop"}:
        return None
    has = f"only {kept} of {wanted} results" if kept else "no results"
    return Diagnosis(
        FailureCategory.RESULTS_MISSING,
        f"Job {job.id} succeeded, but the publisher {job.publisher} has kept {has}.",
        "Look at the job's executions on the network; allow_missing_results=True if that is as it should be.",
    )


def diagnosis_of(error: BacalhauError) -> Diagnosis:
    """Say why there is no job that could be judged, in the same form.

    :param error: what ended the attempt.
    """
    if isinstance(error, JobFailed):
        return error.diagnosis
    if isinstance(error, JobHopeless) and error.outcome.diagnosis is not None:
        return error.outcome.diagnosis
    facts = [f"{error.method} {error.path}: HTTP {error.status}"] if error.path and error.status is not None else []
    if error.server_message and error.server_message not in error.message:
        facts.append(f"server says: {one_line(error.server_message, 300)}")
    if isinstance(error, NotAuthorised) and error.capability:
        facts.append(f"missing right: {error.capability}")
    if isinstance(error, JobLost):
        facts.extend(error.evidence)
    if isinstance(error, WaitTimeout | WatchFailed):
        facts.extend(error.facts)
    message = error.message
    if isinstance(error, InvalidJobSpec) and (lines := message.splitlines()):  # each further problem has its own
        message, problems = lines[0], lines[1:]
        facts.extend(one_line(problem, 300) for problem in problems[:_MOST_PROBLEMS])
        if len(problems) > _MOST_PROBLEMS:
            facts.append(f"… {len(problems) - _MOST_PROBLEMS} more")
    summary = one_line(" ".join(message.split()), 500)
    return Diagnosis(_category_of(error), summary, clean(error.hint, 500), tuple(facts))


def _category_of(error: BacalhauError) -> FailureCategory:
    if isinstance(error, WatchFailed):
        return FailureCategory.__members__.get(error.category, FailureCategory.UNKNOWN)
    for kind, category in _CATEGORIES:
        if isinstance(error, kind):
            return category
    return FailureCategory.UNKNOWN


_CATEGORIES: tuple[tuple[type[BacalhauError], FailureCategory], ...] = (
    (InvalidJobSpec, FailureCategory.REFUSED_SPEC),
    (RequestRefused, FailureCategory.REFUSED_SPEC),
    (ConfigurationError, FailureCategory.MISCONFIGURED),
    (NotSupported, FailureCategory.MISCONFIGURED),
    (NotFound, FailureCategory.NOT_FOUND),
    (NotAuthorised, FailureCategory.NOT_AUTHORISED),
    (Unreachable, FailureCategory.UNREACHABLE),
    (ServerUnavailable, FailureCategory.UNREACHABLE),
    (JobLost, FailureCategory.NODE_LOST),
    (WaitTimeout, FailureCategory.WAIT_TIMEOUT),
)


@dataclass(frozen=True)
class JobOutcome:
    """How a job ended.

    :param job: the job, with its executions and history.
    :param diagnosis: why it did not succeed; None when it did.
    :param is_hopeless: whether it was judged because nothing can run it any more, though it is not over.
    """

    job: Job
    diagnosis: Diagnosis | None
    is_hopeless: bool = False

    @classmethod
    def of(cls, job: Job, policy: SuccessPolicy = "all", *, is_hopeless: bool = False) -> JobOutcome:
        """Judge a job that was read with its executions and history.

        :param policy: how many executions have to succeed; see
            :func:`~airflow_provider_bacalhau.client.success.has_succeeded`.
        :param is_hopeless: whether nothing can run it any more.
        """
        executions = job.executions or ()
        if has_succeeded(job, executions, policy, is_hopeless=is_hopeless):
            return cls(job, None, is_hopeless)
        return cls(
            job, diagnose(job, executions, job.history or (), policy=policy, is_hopeless=is_hopeless), is_hopeless
        )

    @property
    def exit_codes(self) -> list[int]:
        """Exit codes of the completed executions, in the order of their partitions."""
        return [one.exit_code for one in completed_executions(self.job.executions or ()) if one.exit_code is not None]

    @property
    def bad_exit_codes(self) -> list[int | None]:
        """Those that are not success, None for one that the server did not tell."""
        bad = [one for one in completed_executions(self.job.executions or ()) if not exit_code_is_good(self.job, one)]
        return [one.exit_code for one in bad]

    @property
    def is_alive(self) -> bool:
        """Whether one of the executions is not over."""
        return any(not one.state.is_terminal for one in self.job.executions or ())

    @property
    def counts(self) -> dict[str, int]:
        """How many executions were wanted, and how many completed, succeeded and failed."""
        return count_executions(self.job, self.job.executions or ())
