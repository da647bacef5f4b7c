"""What a server version can do: the one place where versions differ.

There are two tables, one for each of Bacalhau's HTTP APIs; v1.1–v1.3 serve both. Sources: the servers' code at every
stable tag, checked on running nodes v0.3.29, v1.0.3, v1.1.6, v1.3.2, v1.4.0, v1.7.0 and v1.9.3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from airflow_provider_bacalhau.client.errors import NotSupported
from airflow_provider_bacalhau.client.spec.legacy_shape import RequesterShape
from airflow_provider_bacalhau.client.states import ExecutionState as State

_NUMBERS_UNTIL_1_5_1 = (
    State.UNKNOWN,
    State.NEW,
    State.ASK_FOR_BID,
    State.ASK_FOR_BID_ACCEPTED,
    State.ASK_FOR_BID_REJECTED,
    State.BID_ACCEPTED,
    State.BID_REJECTED,
    State.COMPLETED,
    State.FAILED,
    State.CANCELLED,
)
_NUMBERS_SINCE_1_5_2 = (
    State.UNKNOWN,
    State.NEW,
    State.ASK_FOR_BID,
    State.ASK_FOR_BID_ACCEPTED,
    State.ASK_FOR_BID_REJECTED,
    State.BID_ACCEPTED,
    State.RUNNING,
    State.PUBLISHING,
    State.BID_REJECTED,
    State.COMPLETED,
    State.FAILED,
    State.CANCELLED,
)


@dataclass(frozen=True)
class Capabilities:
    """What differs between servers that speak the orchestrator API.

    :param execution_numbers: the execution states in the order of their numbers (renumbered in the patch release
        1.5.2).
    :param history_pages: whether the history has pages, and a token that tells cheaply whether there is anything new.
    :param module_sources: whether a WebAssembly task names its modules as whole input sources (later: by their
        targets).
    :param unique_names: whether a job's name is unique in its namespace, so that submitting it twice makes one job.
    :param included: whether a job can be had together with its executions and its history, in one answer.
    :param own_publisher: whether a task's publisher may be left out (earlier it has to be an object, if an empty one).
    :param logs: whether logs can be read (a websocket).
    :param waits_for_nodes: whether the timeouts of the queue and of the whole job are known (earlier a job that finds
        no node fails at once, and both are silently dropped).
    :param hides_waiting: whether a job that waits for nodes does not say so by its state (later: Queued), so that only
        its executions show that none of them is left.
    """

    execution_numbers: tuple[State, ...]
    history_pages: bool
    module_sources: bool
    unique_names: bool
    included: bool
    own_publisher: bool
    logs: bool
    waits_for_nodes: bool
    hides_waiting: bool


@dataclass(frozen=True)
class RequesterCapabilities:
    """What differs between servers that speak the signed requester API.

    :param prefix: of its paths.
    :param api_version: the ``APIVersion`` of the jobs that are sent; the server stores it and never reads it.
    :param shape: how a job specification is written.
    :param nodes: whether the network's nodes can be listed.
    :param logs: whether logs can be read (a websocket).
    :param limits_sorted: whether a list is sorted before it is cut to its limit (earlier the jobs of a limited list
        are arbitrary ones).
    :param sorts_by_modified: whether a list can be sorted by the time of the last change.
    :param cancels_twice: whether cancelling a cancelled job is good (earlier a refusal that does not say how the job
        ended).
    :param hides_waiting: whether a job may wait for nodes, which its state does not say. Jobs cannot be told to wait
        through this API; it is a matter of the server's configuration.
    """

    prefix: str
    api_version: str
    shape: RequesterShape
    nodes: bool
    logs: bool
    limits_sorted: bool
    sorts_by_modified: bool
    cancels_twice: bool
    hides_waiting: bool

    @property
    def unique_names(self) -> bool:
        """Never: here a name is an annotation like any other."""
        return False


OLDEST = (0, 3, 26)
"""The oldest server that this release speaks to."""

OLDEST_ORCHESTRATOR = (1, 1, 0)
"""The oldest server whose orchestrator API can be used."""

NEWEST_REQUESTER = (1, 4, 0)
"""From this version on the requester API answers 410, from v1.7 on 404."""

_NEWEST = (999, 0, 0)

_Changes: TypeAlias = tuple[tuple[tuple[int, int, int], dict[str, Any]], ...]

# What changed, and with which release. The newest server has every change.
_CHANGES: _Changes = (
    (
        OLDEST_ORCHESTRATOR,
        {
            "execution_numbers": _NUMBERS_UNTIL_1_5_1,
            "history_pages": False,
            "module_sources": True,
            "unique_names": False,
            "included": False,
            "own_publisher": False,
            "logs": False,
            "waits_for_nodes": False,
            "hides_waiting": False,
        },
    ),
    ((1, 2, 2), {"included": True, "logs": True}),
    ((1, 3, 2), {"waits_for_nodes": True, "hides_waiting": True}),
    ((1, 4, 0), {"own_publisher": True, "hides_waiting": False}),
    ((1, 5, 0), {"history_pages": True}),
    ((1, 5, 2), {"execution_numbers": _NUMBERS_SINCE_1_5_2}),
    ((1, 7, 0), {"module_sources": False}),
    ((1, 8, 0), {"unique_names": True}),
)

# The same for the requester API; the newest that has it is v1.3.
_REQUESTER_CHANGES: _Changes = (
    (
        OLDEST,
        {
            "prefix": "/requester",
            "api_version": "V1beta1",
            "nodes": False,
            "logs": True,
            "limits_sorted": False,
            "sorts_by_modified": False,
            "cancels_twice": False,
            "hides_waiting": False,
        },
    ),
    ((1, 0, 0), {"prefix": "/api/v1/requester"}),
    ((1, 0, 4), {"api_version": "V1beta2", "nodes": True, "limits_sorted": True, "cancels_twice": True}),
    ((1, 2, 2), {"logs": False, "sorts_by_modified": True}),
    ((1, 3, 2), {"hides_waiting": True}),
)

# How those want a job specification written.
_SHAPES: _Changes = (
    (
        OLDEST,
        {
            "verifier": True,
            "docker_parameters": False,
            "resources_key": "Resources",
            "target_all": False,
            "source_path": True,
            "read_write": False,
            "s3_version_id": True,
            "s3_compress": True,
            "local_publisher": False,
            "longest_timeout": 3600,
        },
    ),
    ((1, 0, 3), {"read_write": True}),
    (
        (1, 0, 4),
        {
            "verifier": False,
            "docker_parameters": True,
            "resources_key": "TotalAllocatedResources",
            "target_all": True,
            "source_path": False,
            "s3_version_id": False,
            "longest_timeout": None,
        },
    ),
    ((1, 1, 0), {"resources_key": "Resources", "source_path": True}),
    ((1, 2, 2), {"s3_compress": False, "local_publisher": True}),
)

CHECKED = {
    "v0.3.26": "from source",
    "v0.3.29": "answers of a real node, recorded",
    "v1.0.0": "from source",
    "v1.0.3": "answers of a real node, recorded",
    "v1.0.4": "from source",
    "v1.1.0": "from source",
    "v1.1.6": "tried on a real node",
    "v1.2.2": "from source",
    "v1.3.2": "tried on a real node",
    "v1.4.0": "tried on a real node",
    "v1.5.0": "from source",
    "v1.5.2": "from source",
    "v1.6.5": "from source",
    "v1.7.0": "tried on a real node",
    "v1.8.0": "from source",
    "v1.9.3": "tried on a real node",
}
"""How each version was checked: on a running node, by what a running node was recorded to answer, or by reading its
code.
"""

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True)
class ServerVersion:
    """The version that a server gives as its ``GitVersion``.

    :param text: as given, such as ``v1.9.3``.
    :param like: the version that it behaves like, where ``text`` names none: that of a development build.
    """

    text: str
    like: str = ""

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Major, minor and patch. A development build (``v0.0.0-…``, or no version at all) counts as the newest, unless
        it is known to be like another.
        """
        found = _VERSION.match((self.like or self.text).strip())
        if found is None:
            return _NEWEST
        numbers = (int(found[1]), int(found[2]), int(found[3]))
        return numbers if any(numbers) else _NEWEST

    @property
    def is_release(self) -> bool:
        """Whether the server names a version, so that its behaviour is known."""
        return bool(self.like) or self.numbers != _NEWEST

    @property
    def has_orchestrator(self) -> bool:
        """Whether it serves the orchestrator API."""
        return self.numbers >= OLDEST_ORCHESTRATOR

    @property
    def has_requester(self) -> bool:
        """Whether it serves the requester API."""
        return OLDEST <= self.numbers < NEWEST_REQUESTER

    @property
    def capabilities(self) -> Capabilities:
        """What this server can do through the orchestrator API.

        :raises NotSupported: for a server that has none.
        """
        self._refuse_if_too_old()
        if not self.has_orchestrator:
            raise NotSupported(
                f"The server is Bacalhau {self.text}, which has only the requester API.",
                hint="Set `api` of the connection to auto or requester, or upgrade the server to v1.4 or later.",
            )
        return Capabilities(**self._merged(_CHANGES))

    @property
    def requester(self) -> RequesterCapabilities:
        """What this server can do through the requester API. A server that has retired it will say so itself.

        :raises NotSupported: for a server older than :data:`OLDEST`.
        """
        self._refuse_if_too_old()
        return RequesterCapabilities(**self._merged(_REQUESTER_CHANGES), shape=RequesterShape(**self._merged(_SHAPES)))

    def _merged(self, table: _Changes) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for since, changes in table:
            if self.numbers >= since:
                merged.update(changes)
        return merged

    def _refuse_if_too_old(self) -> None:
        if self.numbers < OLDEST:
            raise NotSupported(
                f"The server is Bacalhau {self.text}, and this release of the provider speaks to v0.3.26 and later.",
                hint="Upgrade the server, best to v1.8 or later.",
            )
