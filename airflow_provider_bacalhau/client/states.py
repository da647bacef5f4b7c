"""States of jobs and executions, one vocabulary for every server version.

Source: ``pkg/models/job.go`` and ``pkg/models/execution.go`` of the servers, checked on running nodes v1.4.0–v1.9.3.
"""

from __future__ import annotations

import logging
from enum import StrEnum

log = logging.getLogger(__name__)


class JobState(StrEnum):
    """State of a job. It is not monotonic: Running → Queued → Running is normal (retries, several executions)."""

    PENDING = "Pending"
    QUEUED = "Queued"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"
    UNKNOWN = "Unknown"
    """A state that this version of the client does not know. It is waited on, since most states are not terminal."""

    @property
    def is_terminal(self) -> bool:
        """Whether the job is over."""
        return self in {JobState.COMPLETED, JobState.FAILED, JobState.STOPPED}

    @classmethod
    def read(cls, text: object) -> JobState:
        """The state that a server's text names, in any letter case; UNKNOWN, with one warning per text, for others."""
        name = str(text or "").strip()
        found = _JOB_STATES.get(name.lower())
        if found is None:
            if name not in _warned and len(_warned) < _MOST_WARNINGS:
                _warned.add(name)
                log.warning("Unknown job state %.80r; treating it as not yet over.", name)
            return cls.UNKNOWN
        return found


_JOB_STATES = {state.value.lower(): state for state in JobState} | {"undefined": JobState.UNKNOWN}
_warned: set[str] = set()
_MOST_WARNINGS = 100


class ExecutionState(StrEnum):
    """State of one execution of a job on one node."""

    NEW = "New"
    ASK_FOR_BID = "AskForBid"
    ASK_FOR_BID_ACCEPTED = "AskForBidAccepted"
    ASK_FOR_BID_REJECTED = "AskForBidRejected"
    BID_ACCEPTED = "BidAccepted"
    RUNNING = "Running"
    PUBLISHING = "Publishing"
    BID_REJECTED = "BidRejected"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    UNKNOWN = "Unknown"

    @property
    def is_terminal(self) -> bool:
        """Whether this execution is over."""
        return self in {
            ExecutionState.ASK_FOR_BID_REJECTED,
            ExecutionState.BID_REJECTED,
            ExecutionState.COMPLETED,
            ExecutionState.FAILED,
            ExecutionState.CANCELLED,
        }

    @classmethod
    def read(cls, value: object, numbers: tuple[ExecutionState, ...]) -> ExecutionState:
        """The state that a server's number means.

        :param value: what the server sent: a number in every version seen, a name is accepted as well.
        :param numbers: the states in the order of that server version's numbers, see ``dialects/versions.py``.
        """
        if isinstance(value, int) and not isinstance(value, bool):
            return numbers[value] if 0 <= value < len(numbers) else cls.UNKNOWN
        return _EXECUTION_STATES.get(str(value).strip().lower(), cls.UNKNOWN)


_EXECUTION_STATES = {state.value.lower(): state for state in ExecutionState}
