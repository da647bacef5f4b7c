"""What a server version can do: the one place where versions differ.

Sources: the servers' code at every stable tag, checked on running nodes v1.4.0, v1.7.0 and v1.9.3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from airflow_provider_bacalhau.client.errors import NotSupported
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
    """

    execution_numbers: tuple[State, ...]
    history_pages: bool
    module_sources: bool
    unique_names: bool


OLDEST = (1, 4, 0)
"""The oldest server that this release speaks to."""

_NEWEST = (999, 0, 0)

# What changed, and with which release. The newest server has every change.
_CHANGES: tuple[tuple[tuple[int, int, int], dict[str, Any]], ...] = (
    (
        (1, 4, 0),
        {
            "execution_numbers": _NUMBERS_UNTIL_1_5_1,
            "history_pages": False,
            "module_sources": True,
            "unique_names": False,
        },
    ),
    ((1, 5, 0), {"history_pages": True}),
    ((1, 5, 2), {"execution_numbers": _NUMBERS_SINCE_1_5_2}),
    ((1, 7, 0), {"module_sources": False}),
    ((1, 8, 0), {"unique_names": True}),
)

CHECKED = {
    "v1.4.0": "recorded answers",
    "v1.5.0": "from source",
    "v1.5.2": "from source",
    "v1.6.5": "from source",
    "v1.7.0": "recorded answers",
    "v1.8.0": "from source",
    "v1.9.3": "real node, recorded answers",
}
"""How each version was checked: by the conformance suite on a real node, by its recorded answers, or by reading its
code.
"""

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True)
class ServerVersion:
    """The version that a server gives as its ``GitVersion``.

    :param text: as given, such as ``v1.9.3``.
    """

    text: str

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Major, minor and patch. A development build (``v0.0.0-…``, or no version at all) counts as the newest."""
        found = _VERSION.match(self.text.strip())
        if found is None:
            return _NEWEST
        numbers = (int(found[1]), int(found[2]), int(found[3]))
        return numbers if any(numbers) else _NEWEST

    @property
    def capabilities(self) -> Capabilities:
        """What this server can do.

        :raises NotSupported: for a server older than :data:`OLDEST`.
        """
        if self.numbers < OLDEST:
            raise NotSupported(
                f"The server is Bacalhau {self.text}, and this release of the provider speaks to v1.4 and later.",
                hint="Upgrade the server to v1.4 or later.",
            )
        merged: dict[str, Any] = {}
        for since, changes in _CHANGES:
            if self.numbers >= since:
                merged.update(changes)
        return Capabilities(**merged)
