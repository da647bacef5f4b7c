"""What differs between the servers that have the signed requester API (v0.3.26 to v1.3): one row for each version.

Facts: the recorded answers of v0.3.29, v1.0.3, v1.1.6 and v1.3.2. Everything of the requester API that asks "which
version?" asks here.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_provider_bacalhau.devnode.unixfs import Cid

_DIGEST = 32


@dataclass(frozen=True, slots=True)
class Generation:
    """One server version, as clients of its requester API see it.

    :param is_first: up to v1.0.3: plain text errors, no agent and orchestrator API, scheduling inside submit,
        verification states, enum names in capitals.
    :param prefixes: paths before the operation.
    :param has_logs: the logs websocket exists.
    :param names_key: jobs show the requester's public key, and nodes are named by their libp2p peer id.
    :param created_comment: comment of a job's first event.
    :param accepted_comment: what an execution says once a node took it.
    :param lists_errors: several problems are counted and listed with asterisks, else one stands on each line.
    :param ends_timeouts: ``execution``: a program is ended when its time is over; ``job``: the job is then cancelled;
        empty: nothing ends it, as seen on v1.3.2.
    :param breaks_noop: a noop publisher without the deprecated key is stored as ``unknown``, which no node has and no
        list can show (read in the source of v1.3.2).
    :param panic_type: content type of the answer to a request that breaks the handler.
    """

    version: str
    is_first: bool
    prefixes: tuple[str, ...]
    has_logs: bool
    names_key: bool
    created_comment: str
    accepted_comment: str
    lists_errors: bool
    ends_timeouts: str
    breaks_noop: bool = False
    panic_type: str = "application/json"

    @property
    def roots(self) -> tuple[str, ...]:
        """Paths before ``/version``, ``/id`` and the like."""
        return tuple(prefix.removesuffix("/requester") for prefix in self.prefixes)

    def new_node_id(self) -> str:
        """A name for a node: a peer id, or ``n-`` and a UUID."""
        return Cid.of(secrets.token_bytes(_DIGEST)).text if self.names_key else f"n-{uuid.uuid4()}"

    def joined(self, problems: Sequence[str]) -> str:
        """Several problems in one message."""
        if not self.lists_errors:
            return "\n".join(problems)
        count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
        return f"{count} occurred:\n\t" + "\n\t".join(f"* {problem}" for problem in problems) + "\n\n"


_BOTH = ("/requester", "/api/v1/requester")

GENERATIONS: Mapping[str, Generation] = {
    row.version: row
    for row in (
        Generation("v0.3.29", True, ("/requester",), True, True, "Job created", "", False, "execution"),
        Generation("v1.0.3", True, _BOTH, True, True, "Job created", "", False, "execution"),
        Generation("v1.1.6", False, _BOTH, True, True, "Job created", "", True, "job"),
        Generation(
            "v1.3.2",
            False,
            _BOTH,
            False,
            False,
            "Job submitted",
            "Accepted job",
            False,
            "",
            breaks_noop=True,
            panic_type="application/json; charset=UTF-8",
        ),
    )
}

WITHDRAWN = frozenset({"v1.4.0"})
"""Versions that still answer on the paths of the requester API, with 410."""
