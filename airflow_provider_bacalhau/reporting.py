"""What a task tells of a job: XComs, log, and the error when it did not succeed. One way for all tasks and modes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging import Logger
from typing import TYPE_CHECKING, Any, Protocol

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_bacalhau import xcom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bacalhau.client import BacalhauClient, Execution
    from airflow_provider_bacalhau.client.diagnosis import JobOutcome
    from airflow_provider_bacalhau.client.errors import WaitTimeout
    from airflow_provider_bacalhau.hooks.bacalhau import BacalhauHook

_MOST_LINES = 200
_LONGEST_LINE = 2000
_MOST_CIDS = 10


def push(context: Context, **values: Any) -> None:
    """Push XComs, whatever the task's ``do_xcom_push`` says: it is about the return value."""
    for key, value in values.items():
        context["ti"].xcom_push(key=key, value=value)


def push_job(context: Context, hook: BacalhauHook, job_id: str) -> str:
    """Push a job's id and where to look at it; the link on the task's page reads the latter, which is returned."""
    url = hook.settings.job_url(job_id)
    push(context, **{xcom.JOB_ID: job_id, xcom.JOB_URL: url})
    return url


def report_outcome(
    context: Context,
    outcome: JobOutcome,
    log: Logger,
    *,
    log_output: bool = True,
    excused: Collection[int] = (),
) -> None:
    """Tell how a job ended, and fail unless it succeeded.

    :param outcome: of a job that is over.
    :param log: the task's log.
    :param log_output: whether to show what its programs wrote.
    :param excused: exit codes that make the task skipped, when they are the only reason why the job did not succeed.
    :raises JobFailed: with the diagnosis.
    :raises AirflowSkipException: for excused exit codes.
    """
    from airflow_provider_bacalhau.client.categories import FailureCategory
    from airflow_provider_bacalhau.client.errors import JobFailed

    if log_output:
        _log_output(outcome.job.executions or (), log)
    _push_end(context, outcome)
    if outcome.diagnosis is None:
        return
    codes = set(outcome.bad_exit_codes)
    if outcome.diagnosis.category is FailureCategory.PROGRAM_FAILED and codes and codes <= set(excused):
        raise AirflowSkipException(
            f"Job {outcome.job.id} ended with exit code {', '.join(map(str, codes))}, which skips this task."
        )
    raise JobFailed(outcome.diagnosis)


def report_missing_results(outcome: JobOutcome, kept: int) -> None:
    """Fail when a job that succeeded lacks results although it has a publisher.

    :param kept: how many results it has.
    :raises JobFailed: with the diagnosis.
    """
    from airflow_provider_bacalhau.client.diagnosis import missing_results
    from airflow_provider_bacalhau.client.errors import JobFailed

    if (diagnosis := missing_results(outcome.job, kept)) is not None:
        raise JobFailed(diagnosis)


def timed_out(
    context: Context, client: BacalhauClient, job_id: str, message: str, log: Logger, *, log_output: bool = True
) -> WaitTimeout:
    """Tell of a job that was not over in time, as of a failed job; the error to raise.

    :param client: looks at the job once more, which was stopped meanwhile if that could be.
    :param message: where it stood, and what became of it.
    """
    from airflow_provider_bacalhau.client.errors import BacalhauError, WaitTimeout

    facts: tuple[str, ...] = ()
    try:
        outcome = client.outcome(job_id)
    except BacalhauError as error:
        log.warning("How job %s ended is not known: %s", job_id, error)
    else:
        if log_output:
            _log_output(outcome.job.executions or (), log)
        _push_end(context, outcome)
        facts = outcome.diagnosis.facts if outcome.diagnosis else ()
    return WaitTimeout(message, hint="Raise timeout=… if the job needs longer.", facts=facts)


class Task(Protocol):
    """What is used of a task."""

    log: Logger
    job_url: str | None
    bacalhau_conn_id: str


@contextmanager
def reporting_failure(context: Context, task: Task) -> Iterator[None]:
    """Tell why a task fails: a short block in its log, and the category as an XCom. The error goes on as it is."""
    from airflow_provider_bacalhau.client.categories import FailureCategory
    from airflow_provider_bacalhau.client.diagnosis import diagnosis_of
    from airflow_provider_bacalhau.client.errors import BacalhauError, UnexpectedAnswer

    of_connection = {FailureCategory.MISCONFIGURED, FailureCategory.NOT_AUTHORISED, FailureCategory.UNREACHABLE}
    try:
        yield
    except BacalhauError as error:
        diagnosis = diagnosis_of(error)
        lines = list(diagnosis.lines())
        if diagnosis.category in of_connection or isinstance(error, UnexpectedAnswer):
            lines.append(f"Connection: {task.bacalhau_conn_id}")
        if task.job_url:
            lines.append(f"Job: {task.job_url}")
        task.log.error("%s", "\n".join(lines))
        try:
            push(context, **{xcom.FAILURE_CATEGORY: diagnosis.category.value})
        except Exception:  # Airflow may be away as well; what is known of the failure matters more
            task.log.warning("The XCom %s could not be pushed.", xcom.FAILURE_CATEGORY, exc_info=True)
        raise


def _push_end(context: Context, outcome: JobOutcome) -> None:
    ended = {
        xcom.JOB_STATE: outcome.job.state.value,
        xcom.EXIT_CODES: outcome.exit_codes,
        xcom.EXECUTION_COUNTS: outcome.counts,
    }
    push(context, **ended)


def describe_results(references: Sequence[Mapping[str, Any]]) -> str:
    """Results in words for a log: CIDs, and how many of each other type; never an address."""
    cids = [one["cid"] for one in references if one.get("cid")]
    types = Counter(one["type"] for one in references if not one.get("cid"))
    words = [f"ipfs CID {cid}" for cid in cids[:_MOST_CIDS]]
    if len(cids) > _MOST_CIDS:
        words.append(f"{len(cids) - _MOST_CIDS} more")
    words += [f"{count} of type {kind}" for kind, count in types.items()]
    return ", ".join(words) or "none"


def push_results(context: Context, client: BacalhauClient, job_id: str) -> list[dict[str, Any]]:
    """Push references to a job's results, and their CIDs; return the references."""
    references = [one.to_dict() for one in client.references(job_id)]
    cids = ",".join(one["cid"] for one in references if "cid" in one)
    push(context, **{xcom.RESULTS: references, xcom.CIDS: cids})
    return references


def show_lines(log: Logger, title: str, lines: Iterable[str]) -> None:
    """Show what programs wrote as a group of the task's log; nothing when they wrote nothing."""
    from airflow_provider_bacalhau.client.reading import clean

    # A line must not close the log's group, nor write over others with control characters.
    shown = [clean(line, _LONGEST_LINE).replace("::", ":\u200b:") for line in lines]
    if not shown:
        return
    log.info("::group::%s", title)
    for line in shown:
        log.info("%s", line)
    log.info("::endgroup::")


def _log_output(executions: tuple[Execution, ...], log: Logger) -> None:
    show_lines(log, "Output of the job (from its record; possibly partial)", _written(executions))


def _written(executions: tuple[Execution, ...]) -> Iterator[str]:
    for one in executions:
        for stream, text, is_cut in (
            ("stdout", one.stdout, one.stdout_truncated),
            ("stderr", one.stderr, one.stderr_truncated),
        ):
            lines = text.splitlines()
            place = f"{one.id[:10]} {stream} |"
            yield from (f"{place} {line}" for line in lines[:_MOST_LINES])
            if len(lines) > _MOST_LINES:
                yield f"{place} … {len(lines) - _MOST_LINES} more lines"
            if is_cut:
                yield f"{place} … cut by the server; the whole is in the job's results"
