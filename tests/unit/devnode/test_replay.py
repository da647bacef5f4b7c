"""Every exchange that was recorded with real nodes, Docker aside, has the same answer from the embedded one.

What differs on purpose is listed with its reason in ``data/replay/differences.tsv``; a difference that is listed and is
none any more fails, too.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bacalhau.devnode import DevNode

from .replay import Replay, exchanges, named_as_recorded
from .specs import DATA

USERS = [
    {
        "Alias": "op",
        "Username": "airflow",
        "Password": "a-long-password",
        "Capabilities": [{"Actions": ["read:*", "write:*"]}],
    },
    {"Alias": "key", "APIKey": "0123456789abcdef0123456789", "Capabilities": [{"Actions": ["read:job", "write:job"]}]},
    {
        "Alias": "ro",
        "Username": "viewer",
        "Password": "another-long-one",
        "Capabilities": [{"Actions": ["read:*"]}],
    },
    {"Alias": "dotted", "APIKey": "abcdefgh.ijklmnop.qrstuvwx", "Capabilities": [{"Actions": ["read:job"]}]},
]
"""Those of the recorded nodes."""

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "v1.9.3-orchestrator": {},
    "v1.7.0-orchestrator": {},
    "v1.4.0-orchestrator": {},
    "v1.3.2-orchestrator": {},
    "v1.1.6-orchestrator": {},
    "v1.9.3-auth": {"users": USERS},
    "v1.7.0-auth": {"users": USERS},
    "v1.9.3-challenge": {},
    "v1.3.2-challenge": {},
}

BACKOFF = 3.0
"""Longer than what is read of a queued job takes, and short enough to wait for its end."""


def listed(recording: str) -> dict[str, str]:
    """Labels of exchanges that may differ, and why."""
    with (DATA / "replay" / "differences.tsv").open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {row["label"]: row["why"] for row in rows if row["recording"] == recording}


@pytest.mark.parametrize("recording", OPTIONS)
def test_what_a_real_node_answered_the_embedded_one_answers(
    recording: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version, _, kind = recording.rpartition("-")
    recorded, on_purpose = exchanges(version, kind), listed(recording)
    surprises: dict[str, list[str]] = {}
    differing: set[str] = set()
    named_as_recorded(tmp_path, recorded)
    with DevNode(emulate=version, data_dir=tmp_path, queue_backoff=BACKOFF, **OPTIONS[recording]) as node:
        replay = Replay(node.api)
        replay.prepare(recorded)
        for exchange in recorded:
            label = exchange["label"]
            found = replay.differences(exchange, 0.5) if label in on_purpose else replay.differences(exchange)
            if found and label in on_purpose:
                differing.add(label)
            elif found:
                surprises[label] = found
    with capsys.disabled():
        print(f"\n{recording}: {len(recorded)} exchanges, {len(differing)} differ on purpose")
    assert surprises == {}
    assert differing == on_purpose.keys(), "listed as a difference, and it is none"
    assert len(differing) <= 0.06 * len(recorded)
