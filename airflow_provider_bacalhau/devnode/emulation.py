"""What differs between the server versions that the embedded node can play.

One row for each version; everything that asks "which version?" asks here. Facts: runs of the real servers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Emulation:
    """One server version, as its clients see it.

    :param version: what ``GET /agent/version`` calls ``GitVersion``.
    :param minimum_client: clients that announce an older version are turned away with 403.
    :param body_limit: bytes of a request body; one more is 413.
    :param output_limit: bytes of stdout and stderr kept in an execution record.
    :param exit_code_digits: characters of the exit code that a node of this version writes into the result's
        ``exitCode`` file (seen on v1.9.3: exit code 4294967295 leaves ``4294``).
    :param history_page: events in one answer of the history when the client sets no limit.
    :param labels: what nodes are labelled with; None for name, architecture and system as from v1.8 on.
    :param announces_jobs: programs find their job and execution in their environment, as from v1.7 on.
    :param needs_name_section: modules without a section of names are refused.
    :param oversubscription: a node takes jobs until this multiple of its capacity is asked for.
    :param unique_names: a name is taken once, and a second submission is a new version; there are versions, ``rerun``
        and ``diff``.
    :param api_errors: errors are objects with a code; before, what the web framework makes of them.
    :param named_lists: lists are under ``Jobs``, ``History``, ``Executions`` and ``Results``, not under ``Items``.
    :param transitions: the history tells changes of state; later, events.
    :param history_events: transitions have their event beside them.
    :param includes: ``include`` of a job's history and executions is understood.
    :param has_config: ``/agent/config`` exists.
    :param has_auth_config: ``/agent/authconfig`` and the old health checks' redirects exist.
    :param has_auth: ``/auth`` exists, and servers tell their version in headers.
    :param node_shape: of a node: ``info``; ``state``, with what the orchestrator knows beside it; ``peer``, named by
        its libp2p id.
    :param agent_shape: the same of the node's own answer.
    :param connection_state: a node's state tells since when it is connected.
    :param embeds_jobs: executions hold their job.
    :param early_states: executions have the numbers and the steps of v1.5.1 and before.
    :param early_specs: modules are sources inside the engine's parameters, absent ``Count`` is 0, resources get no
        defaults, ``Env`` is not looked at and no program sees it, any timeout is taken.
    :param timeouts: the limits that a task may have.
    :param default_timeouts: seconds that batch and ops jobs get.
    :param problem_words: what validation calls the parts of a task, where it differs from the newest.
    :param lists_problems: several problems are counted and listed with asterisks.
    :param has_queue: a job that waits for a node says so.
    :param waits: it waits at all.
    :param ends_programs: a program is ended when its time is over.
    :param tells_reason: a stopped job's message is the reason that was given.
    :param bad_orders: an unknown order of a list is an error.
    :param users: how built-in users are refused: ``codes`` (401 and 403), ``errors`` (always 500), empty where there
        are none.
    :param log_source: ``files`` (nothing of WebAssembly), ``records`` (what the execution's record keeps of the output
        of one that is over), empty for no logs here.
    """

    version: str
    minimum_client: str = "1.4.0"
    body_limit: int = 10_000_000
    output_limit: int = 2048
    exit_code_digits: int = 4
    history_page: int = 100
    oversubscription: float = 1.5
    needs_name_section: bool = True
    labels: Mapping[str, str] | None = None
    announces_jobs: bool = True
    unique_names: bool = True
    api_errors: bool = True
    named_lists: bool = False
    transitions: bool = False
    history_events: bool = True
    includes: bool = True
    has_config: bool = True
    has_auth_config: bool = True
    has_auth: bool = True
    node_shape: str = "state"
    agent_shape: str = "info"
    connection_state: bool = True
    embeds_jobs: bool = True
    early_states: bool = False
    early_specs: bool = False
    timeouts: tuple[str, ...] = ("ExecutionTimeout", "QueueTimeout", "TotalTimeout")
    default_timeouts: Mapping[str, int] = field(default_factory=dict)
    problem_words: Mapping[str, str] = field(default_factory=dict)
    lists_problems: bool = False
    has_queue: bool = True
    waits: bool = True
    ends_programs: bool = True
    tells_reason: bool = True
    bad_orders: bool = True
    users: str = "codes"
    log_source: str = "files"

    @property
    def build_info(self) -> dict[str, str]:
        """The body of ``GET /agent/version``. Commit and date are placeholders: nothing was built."""
        major, minor, _ = self.version.removeprefix("v").split(".")
        return {
            "Major": major,
            "Minor": minor,
            "GitVersion": self.version,
            "GitCommit": "0" * 40,
            "BuildDate": "1970-01-01T00:00:00Z",
            "GOOS": "linux",
            "GOARCH": "amd64",
        }

    @property
    def headers(self) -> dict[str, str]:
        """The response headers by which a server tells its version."""
        info = self.build_info
        return {
            "X-Bacalhau-Arch": info["GOARCH"],
            "X-Bacalhau-Build-Date": "1970-01-01 00:00:00 +0000 UTC",
            "X-Bacalhau-Build-Os": info["GOOS"],
            "X-Bacalhau-Git-Commit": info["GitCommit"],
            "X-Bacalhau-Git-Version": info["GitVersion"],
        }


_WORDS_BEFORE_1_8 = {
    "invalid engine": "engine validation failed",
    "invalid timeouts": "task timeouts validation failed",
    "invalid resources": "task resources validation failed",
    "invalid input sources": "artifact validation failed",
    "invalid output": "output validation failed",
    "invalid network": "network validation failed",
    "input source is missing a target": "missing artifact target",
}
_SYSTEM = {"Architecture": "amd64", "Operating-System": "linux"}
_V1_9_3 = Emulation(version="v1.9.3")
_V1_7_0 = replace(
    _V1_9_3,
    version="v1.7.0",
    unique_names=False,
    labels=_SYSTEM,
    embeds_jobs=False,
    problem_words=_WORDS_BEFORE_1_8,
    users="errors",
    log_source="records",
)
_V1_4_0 = replace(
    _V1_7_0,
    version="v1.4.0",
    api_errors=False,
    transitions=True,
    has_config=False,
    has_auth_config=False,
    agent_shape="state",
    connection_state=False,
    early_states=True,
    early_specs=True,
    announces_jobs=False,
    default_timeouts={"TotalTimeout": 1800},
    tells_reason=False,
    bad_orders=False,
    users="",
)
_V1_3_2 = replace(
    _V1_4_0,
    version="v1.3.2",
    labels={**_SYSTEM, "git-lfs": "true"},
    minimum_client="",
    named_lists=True,
    default_timeouts={"ExecutionTimeout": 1800},
    has_queue=False,
    ends_programs=False,
)
_V1_1_6 = replace(
    _V1_3_2,
    version="v1.1.6",
    labels={**_SYSTEM, "git-lfs": "False"},
    needs_name_section=False,
    history_events=False,
    includes=False,
    has_auth=False,
    node_shape="peer",
    agent_shape="peer",
    embeds_jobs=True,
    timeouts=("ExecutionTimeout",),
    lists_problems=True,
    waits=False,
    log_source="",
)
# The requester API only; what of it differs is in the generations.
_V1_0_3 = replace(_V1_1_6, version="v1.0.3", ends_programs=True, tells_reason=True)

EMULATIONS: Mapping[str, Emulation] = {
    row.version: row
    for row in (
        replace(_V1_0_3, version="v0.3.29"),
        _V1_0_3,
        _V1_1_6,
        _V1_3_2,
        _V1_4_0,
        _V1_7_0,
        _V1_9_3,
    )
}
NEWEST = _V1_9_3


def emulation(version: str) -> Emulation:
    """The row of one version.

    :raises ValueError: a version that cannot be emulated; the message names those that can.
    """
    try:
        return EMULATIONS[version]
    except KeyError:
        known = ", ".join(EMULATIONS)
        raise ValueError(f"cannot emulate {version!r}; what can be emulated: {known}") from None
