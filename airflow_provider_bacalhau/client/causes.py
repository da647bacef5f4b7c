"""What servers' words mean: a table of texts, each with its category and its remedy.

Texts are those of running nodes v0.3.29–v1.9.3 (recordings), and of the servers' code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_provider_bacalhau.client.categories import FailureCategory


@dataclass(frozen=True)
class Cause:
    """A cause of failure.

    :param pattern: is found in what the server says, ``TOPIC: MESSAGE``.
    :param hint: what to do about it.
    :param is_better: whether this hint is better than what servers suggest.
    """

    category: FailureCategory
    pattern: re.Pattern[str]
    hint: str
    is_better: bool = False


def cause_of(said: Sequence[tuple[str, str]]) -> tuple[Cause, str] | None:
    """What these texts mean: the first row of the table that one of them matches, and that text.

    :param said: what the server said, as topics (empty for what an execution or the job says) and messages.
    """
    for cause in _CAUSES:
        for topic, message in said:
            if cause.pattern.search(f"{topic}: {message}"):
                return cause, message
    return None


def _cause(category: FailureCategory, pattern: str, hint: str, *, is_better: bool = False) -> Cause:
    return Cause(category, re.compile(pattern, re.IGNORECASE), hint, is_better)


_LOOK_AT_INPUT = "Check that the input is there, and that the compute nodes can read it."

_CAUSES: tuple[Cause, ...] = (
    _cause(
        FailureCategory.IMAGE_NOT_FOUND,
        r"Docker:ImageInvalid|invalid image format|invalid reference format",
        "Image is not the name of an image: write it as registry/name:tag, in lower case.",
        is_better=True,
    ),
    _cause(
        FailureCategory.IMAGE_NOT_FOUND,
        r"(?<!gateway image: Error response from )daemon: Get \"?https?://[^\s\"]+/v2/|toomanyrequests",
        "Check the name of the registry in Image, and that the compute nodes can reach it and may pull from it.",
        is_better=True,  # servers call it an internal error, or suggest a login
    ),
    _cause(
        FailureCategory.IMAGE_NOT_FOUND,
        r"Docker:(ImageNotFound|Unauthorized|Forbidden)|image not available|could not inspect image|manifest unknown"
        r"|no matching manifest|pull access denied|failed to pull docker image",
        "Check the image's name and tag, that it is built for the compute nodes' platform, and that they can reach its "
        "registry.",
    ),
    _cause(
        FailureCategory.PROGRAM_FAILED,
        r"container process.*(exec: \"|chdir to cwd|exec user process)|exec format error|no command specified",
        "The program could not be started: check Entrypoint, Parameters and WorkingDirectory against the image.",
    ),
    _cause(
        FailureCategory.OUT_OF_MEMORY,
        r"memory limit exceeded|out of memory|\bOOM|\d+ pages \([^)]*\) over limit of",
        "Give the task more memory (Resources.Memory).",
    ),
    _cause(
        FailureCategory.MODULE_INVALID,
        r"Name section not found",
        "Build the module with its name section (do not strip it; wasm-opt -g keeps it).",
        is_better=True,
    ),
    _cause(
        FailureCategory.MODULE_INVALID,
        r"unable to find the entrypoint|entrypoint '[^']*' not found|no WASM export with that name",
        "The module does not export that function: build a program (with a main), or name another Entrypoint.",
    ),
    _cause(
        FailureCategory.MODULE_INVALID,
        r"invalid magic number|failed to (compile module|load module|load entry module|instantiate|parse WebAssembly)"
        r"|invalid (version header|section)|no export found for '|unknown module \"|module\[[^\]]*\] not instantiated"
        r"|module not found: |function '[^']*'(:| should) ",
        "The entry module is none that a node can load: check what its input source really holds, and that it imports "
        "nothing but WASI (wasi_snapshot_preview1).",
    ),
    _cause(
        FailureCategory.REFUSED_SPEC,
        r"requested memory exceeds the wasm limit",
        "A WebAssembly program has 4 GB at most: ask for less (Resources.Memory).",
    ),
    _cause(
        FailureCategory.PROGRAM_FAILED,
        r"wasm error: ",
        "The program trapped: a panic, an abort, or a fault of its own. Run it with its inputs at your desk.",
    ),
    _cause(
        FailureCategory.EXECUTION_TIMEOUT,
        r"Execution timed out",
        "Give the program more time (job_execution_timeout), or more resources.",
    ),
    _cause(FailureCategory.JOB_TIMEOUT, r"Job timed out", "Give the job more time (job_total_timeout)."),
    _cause(
        FailureCategory.NODE_LOST,
        r"node restart|node has (disappeared|been rejected)",
        "The node that ran it went away; run the task again.",
    ),
    _cause(
        FailureCategory.NODE_LOST,
        r"cannot connect to the Docker daemon",
        "The compute node has lost its Docker: have it started there, and run the task again.",
        is_better=True,
    ),
    # A node looks at the inputs to reckon the job's size, so a missing one comes with these words.
    _cause(
        FailureCategory.INPUT_UNAVAILABLE,
        r"^Downloading Inputs:|calculating resource usage of job|getting job disk space requirements|S3InputSource",
        _LOOK_AT_INPUT,
    ),
    _cause(
        FailureCategory.PUBLISH_FAILED,
        r"^Publishing Results:|failed to (publish|get publisher)|error publishing|local publisher failed"
        r"|failed to upload result|S3Publisher|IPFSPublisher|managed S3 publisher",
        "Check the publisher's parameters and the compute node's rights to write there.",
    ),
    _cause(
        FailureCategory.INPUT_UNAVAILABLE,
        r"failed to (begin download|download|prepare|fetch|stat|get(?! executor| container))|input source"
        r"|storage provider|no such (file|key|bucket)|invalid cid|NoSuchBucket|NoSuchKey|non-(200|OK) response"
        r"|checksum mismatch|preparing storage path|volume .*(allowlisted|not granted|does not exist)"
        r"|could not access volume",
        _LOOK_AT_INPUT,
    ),
    _cause(
        FailureCategory.NO_SUITABLE_NODE,
        r"not enough capacity to run job",
        "Ask for less (Resources), or add nodes.",
    ),
)
