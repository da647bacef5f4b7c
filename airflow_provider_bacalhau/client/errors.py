"""The errors of the client, by what a caller would do about them.

::

    BacalhauError
    ├── InvalidJobSpec          what the user wrote is wrong; nothing was sent           → mend the spec
    ├── ConfigurationError      the connection's settings are wrong; nothing was sent    → mend the connection
    ├── Unreachable             no answer: name, network, TLS, timeout                   → try again, look at the host
    │   └── SubmissionUnclear   the job may or may not have been accepted                → look before submitting again
    ├── ServerUnavailable       429, 502, 503, 504 or an internal error, after retries   → try again later
    ├── UnexpectedAnswer        what answered does not speak the API of Bacalhau         → look at host, port, proxy
    ├── NotAuthorised           the credentials are missing, wrong or too weak           → mend login, password, rights
    │   └── KeyRefused          the key that signed the request will not do              → mend private_key or key_file
    ├── RequestRefused          the server refused the request as it stands              → mend what it names
    ├── NotFound                no such job, execution or node on this network           → look at the id
    ├── NotSupported            this server version has no such operation                → another way, or an upgrade
    ├── Conflict                the state of the job forbids it
    │   ├── ExistingJob         the task's earlier job is alive, and another than it wants   → look at on_existing
    │   ├── JobUnchanged        the same named spec is already there (carries its id)    → adopt that job
    │   └── JobOver             the job is already completed or failed                   → nothing left to do
    ├── JobFailed               the job ended, but not in success (carries a Diagnosis)  → read the diagnosis
    ├── JobHopeless             not over, but nothing can run it (carries a JobOutcome)  → stop it, read the diagnosis
    ├── JobLost                 the network has forgotten the job                        → submit it anew
    ├── WaitTimeout             the job did not end within the caller's time
    ├── WatchFailed             another process could not watch the job any longer       → read what it told
    └── ResultUnavailable       the job has no such result, or it cannot be fetched      → read the hint

An error that came from an exchange carries the method, path, status, the server's own message and the request id;
never a query string, a header or a body, since those may hold credentials or signed addresses.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_bacalhau.client.diagnosis import Diagnosis, JobOutcome


class BacalhauError(Exception):
    """Base of every error of the client.

    :param message: what happened, in one sentence.
    :param hint: what to do about it; empty when there is nothing better to say than the message.
    :param method: HTTP method of the request that failed, if there was one.
    :param path: path of that request, without its query.
    :param status: HTTP status of the answer.
    :param server_message: the server's own words, shortened.
    :param request_id: the ``X-Request-ID`` of the exchange, to be found again in the server's log.
    """

    permanent: bool = False
    """Whether the same call would fail again however often it is repeated."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        method: str = "",
        path: str = "",
        status: int | None = None,
        server_message: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.method = method
        self.path = path
        self.status = status
        self.server_message = server_message
        self.request_id = request_id

    def __str__(self) -> str:
        where = f"{self.method} {self.path}".strip()
        if where and self.status is not None:
            where += f": HTTP {self.status}"
        if where and self.request_id:
            where += f", request {self.request_id}"
        text = f"{self.message} ({where})" if where else self.message
        if not self.hint:
            return text
        is_sentence = self.message.endswith((".", "!", "?"))
        return f"{text} {self.hint}" if is_sentence else f"{text}. {self.hint}"

    def noted(self, note: str) -> Self:
        """The same error, with one more sentence for a person at its end."""
        self.hint = f"{self.hint} {note}".lstrip()
        return self


class WatchFailed(BacalhauError):
    """A job could not be watched any longer by another process, which told why.

    :param permanent: whether watching it again would fail again.
    :param category: name of the ``FailureCategory`` of what the other process met.
    :param facts: what it told of that, in lines for a log.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        permanent: bool = False,
        category: str = "",
        facts: Sequence[str] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        self.permanent = permanent
        self.category = category
        self.facts = tuple(facts)


class InvalidJobSpec(BacalhauError, ValueError):
    """What the user wrote is wrong; nothing was sent.

    :param place: path to the wrong place in the user's own spelling, such as ``Tasks[0].Engine.Type`` or ``inputs[2]``.
    """

    permanent = True

    def __init__(self, message: str, *, place: str = "", hint: str = "") -> None:
        super().__init__(f"{place}: {message}" if place else message, hint=hint)
        self.place = place


class ConfigurationError(BacalhauError, ValueError):
    """The settings of the connection are wrong; nothing was sent."""

    permanent = True


class Unreachable(BacalhauError):
    """No answer came from the server."""


class SubmissionUnclear(Unreachable):
    """A job was sent, but whether the server took it is not known."""


class ServerUnavailable(BacalhauError):
    """The server answered that it cannot answer now."""


class UnexpectedAnswer(BacalhauError):
    """What answered does not speak the API of Bacalhau, or speaks it in a way that cannot be read."""


class NotAuthorised(BacalhauError):
    """The credentials are missing, wrong, or lack a right.

    :param reason: why, in the server's words.
    """

    permanent = True

    def __init__(self, message: str, *, reason: str = "", **facts: Any) -> None:
        super().__init__(message, **facts)
        self.reason = reason

    @property
    def capability(self) -> str:
        """The right that is missing, such as ``write:job``; empty when that is not the reason."""
        found = re.search(r"required capability '([\w:*]{1,50})'", self.reason)
        return found[1] if found else ""

    def restated(self, message: str, hint: str) -> NotAuthorised:
        """The same error in other words."""
        return NotAuthorised(
            message,
            hint=hint,
            reason=self.reason,
            method=self.method,
            path=self.path,
            status=self.status,
            server_message=self.server_message,
            request_id=self.request_id,
        )


class KeyRefused(NotAuthorised):
    """The key that signed the request will not do; other credentials have nothing to do with it."""

    def restated(self, message: str, hint: str) -> NotAuthorised:
        """The error as it is."""
        return self


class RequestRefused(BacalhauError):
    """The server refused the request as it stands."""

    permanent = True


class NotFound(BacalhauError):
    """No such job, execution or node on this network."""

    permanent = True


class NotSupported(BacalhauError):
    """This server has no such operation."""

    permanent = True


class Conflict(BacalhauError):
    """The state of the job forbids the operation."""


class JobUnchanged(Conflict):
    """A job of this name and with this very spec is already there.

    :param job_id: its id.
    """

    def __init__(
        self, message: str, *, job_id: str, method: str = "", path: str = "", status: int | None = None
    ) -> None:
        super().__init__(message, method=method, path=path, status=status)
        self.job_id = job_id


class ExistingJob(Conflict):
    """The task's earlier job is alive and was submitted for another specification; it is left alone."""


class JobOver(Conflict):
    """The job has already ended, so it cannot be stopped."""


class JobFailed(BacalhauError):
    """The job ended, but not in success.

    :param diagnosis: why, with the facts that say so.
    """

    def __init__(self, diagnosis: Diagnosis) -> None:
        super().__init__(diagnosis.summary, hint=diagnosis.hint)
        self.diagnosis = diagnosis
        self.permanent = not diagnosis.category.is_retried


class JobHopeless(BacalhauError):
    """The job is not over, but nothing can run it any more: it failed on every node that there is for it.

    :param outcome: the job with its executions and history, and the diagnosis of what failed.
    """

    def __init__(self, outcome: JobOutcome) -> None:
        found = outcome.diagnosis
        super().__init__(
            found.summary if found else f"Nothing can run job {outcome.job.id} any more.",
            hint=found.hint if found else "",
        )
        self.outcome = outcome
        self.permanent = found is not None and not found.category.is_retried


class JobLost(BacalhauError):
    """The network has forgotten a job that it knew: its node was reset, or another one answers at this address.

    :param job_id: the job.
    :param evidence: what was seen of it, and when, in lines for a log.
    """

    def __init__(self, job_id: str, evidence: Sequence[str]) -> None:
        super().__init__(
            f"Job {job_id} is lost: {'; '.join(evidence)}.",
            hint="The server was reset, or the address leads to another one; a retry or a clear of the task that "
            "submitted it runs it again.",
        )
        self.job_id = job_id
        self.evidence = tuple(evidence)


class WaitTimeout(BacalhauError):
    """The job did not end within the time that the caller gave it.

    :param facts: what is known of the job, in lines for a log.
    """

    def __init__(self, message: str, *, hint: str = "", facts: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.facts = tuple(facts)


class ResultUnavailable(BacalhauError):
    """The job has no such result, or it cannot be fetched from here."""
