"""What a task tells of a job: XComs, log, and the error when it did not succeed. One way for all tasks and modes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from logging import Logger
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_bacalhau import xcom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bacalhau.client import BacalhauClient, Execution
    from airflow_provider_bacalhau.client.diagnosis import Diagnosis, JobOutcome
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


def report_outcome(context: Context, outcome: JobOutcome, log: Logger, *, log_output: bool = True) -> None:
    """Tell how a job ended, and fail unless it succeeded.

    :param outcome: of a job that is over.
    :param log: the task's log.
    :param log_output: whether to show what its programs wrote.
    :raises JobFailed: with the diagnosis.
    """
    from airflow_provider_bacalhau.client.errors import JobFailed

    job, diagnosis = outcome.job, outcome.diagnosis
    if log_output:
        _log_output(job.executions or (), log)
    push(context, **{xcom.JOB_STATE: job.state.value, xcom.EXIT_CODES: outcome.exit_codes})
    if diagnosis is None:
        return
    _report_failure(context, diagnosis, log)
    raise JobFailed(diagnosis)


def report_timeout(
    context: Context, client: BacalhauClient, job_id: str, message: str, log: Logger, *, log_output: bool = True
) -> NoReturn:
    """Tell that a job was not over in time, as a failed job is told of, and fail.

    :param client: looks at the job once more, which was stopped meanwhile if that could be.
    :param message: where it stood, and what became of it.
    :raises WaitTimeout: with the message.
    """
    from airflow_provider_bacalhau.client.diagnosis import Diagnosis, FailureCategory
    from airflow_provider_bacalhau.client.errors import BacalhauError, WaitTimeout

    facts: tuple[str, ...] = ()
    try:
        outcome = client.outcome(job_id)
    except BacalhauError as error:
        log.warning("How job %s ended is not known: %s", job_id, error)
    else:
        if log_output:
            _log_output(outcome.job.executions or (), log)
        push(context, **{xcom.JOB_STATE: outcome.job.state.value, xcom.EXIT_CODES: outcome.exit_codes})
        facts = outcome.diagnosis.facts if outcome.diagnosis else ()
    hint = "Raise timeout=… if the job needs longer."
    _report_failure(context, Diagnosis(FailureCategory.WAIT_TIMEOUT, message, hint, facts), log)
    raise WaitTimeout(message, hint=hint)


def _report_failure(context: Context, diagnosis: Diagnosis, log: Logger) -> None:
    push(context, **{xcom.FAILURE_CATEGORY: diagnosis.category.value})
    log.error("%s", "\n".join(diagnosis.lines()))


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


def _log_output(executions: tuple[Execution, ...], log: Logger) -> None:
    with_output = [one for one in executions if one.stdout or one.stderr]
    if not with_output:
        return
    log.info("::group::Output of the job (from its record; possibly partial)")
    for one in with_output:
        for stream, text, is_cut in (
            ("stdout", one.stdout, one.stdout_truncated),
            ("stderr", one.stderr, one.stderr_truncated),
        ):
            for line in _lines(text):
                log.info("%s %s | %s", one.id[:10], stream, line)
            if is_cut:
                log.info("%s %s | … cut by the server; the whole is in the job's results", one.id[:10], stream)
    log.info("::endgroup::")


def _lines(text: str) -> Iterator[str]:
    from airflow_provider_bacalhau.client.reading import clean

    lines = text.splitlines()
    # A line must not close the log's group, nor write over others with control characters.
    yield from (clean(line, _LONGEST_LINE).replace("::", ":\u200b:") for line in lines[:_MOST_LINES])
    if len(lines) > _MOST_LINES:
        yield f"… {len(lines) - _MOST_LINES} more lines"
