"""The reasons why a job fails, by name: what each means, and whether trying again may help."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class FailureCategory(StrEnum):
    """Stable names of the reasons why a job failed; part of the public interface (XCom ``failure_category``)."""

    meaning: str
    """What it means, in a sentence."""
    is_retried: bool
    """Whether a task that failed so follows its ``retries``: not where another try must end in the same way."""

    def __new__(cls, name: str, meaning: str, is_retried: bool = True) -> Self:
        """Make a member of its name and what it means."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.meaning = meaning
        member.is_retried = is_retried
        return member

    PROGRAM_FAILED = "PROGRAM_FAILED", "A program ended with an exit code that is not success, or could not be started."
    IMAGE_NOT_FOUND = "IMAGE_NOT_FOUND", "The Docker image cannot be had."
    MODULE_INVALID = "MODULE_INVALID", "The WebAssembly module cannot be loaded.", False
    INPUT_UNAVAILABLE = "INPUT_UNAVAILABLE", "An input cannot be read by the node."
    PUBLISH_FAILED = "PUBLISH_FAILED", "The results cannot be written where the publisher says."
    RESULTS_MISSING = "RESULTS_MISSING", "The job is completed, but the results that its publisher should keep are not."
    OUT_OF_MEMORY = "OUT_OF_MEMORY", "The program needed more memory than the task allows."
    EXECUTION_TIMEOUT = "EXECUTION_TIMEOUT", "An execution ran for longer than the task allows."
    QUEUE_TIMEOUT = "QUEUE_TIMEOUT", "The job waited for a node for longer than it may."
    JOB_TIMEOUT = "JOB_TIMEOUT", "The job took longer than its total timeout."
    NO_SUITABLE_NODE = "NO_SUITABLE_NODE", "No node fits what the job asks for, or all are busy and it may not queue."
    ENGINE_NOT_SUPPORTED = "ENGINE_NOT_SUPPORTED", "No node has the engine.", False
    STOPPED_BY_OTHERS = "STOPPED_BY_OTHERS", "Someone stopped the job."
    NODE_LOST = "NODE_LOST", "The node that ran it went away, or the network has forgotten the job."
    INCOMPLETE = "INCOMPLETE", "The job is over, but fewer executions succeeded than are wanted."
    WAIT_TIMEOUT = "WAIT_TIMEOUT", "The job was not over when the task's own timeout had passed."
    REFUSED_SPEC = "REFUSED_SPEC", "The job as it is written is refused, by this provider or by the server.", False
    NOT_AUTHORISED = "NOT_AUTHORISED", "The credentials of the connection do not allow it.", False
    MISCONFIGURED = "MISCONFIGURED", "The connection, or the server it leads to, cannot do this.", False
    NOT_FOUND = "NOT_FOUND", "The job, execution or node that was named is not on this network.", False
    UNREACHABLE = "UNREACHABLE", "The server does not answer."
    UNKNOWN = "UNKNOWN", "None of these; the summary has the server's own words."
