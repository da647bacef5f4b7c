"""Recorded answers of real servers; what they are and how they were taken is in ``recordings/README.md``."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_bacalhau.client.effects import Request, Response

RECORDINGS = Path(__file__).parent.parent / "unit" / "client" / "recordings"
VERSIONS = ("v1.4.0", "v1.7.0", "v1.9.3")


@dataclass(frozen=True)
class Exchange:
    """One question to a real server, and its answer."""

    source: str
    version: str
    label: str
    request: Request
    response: Response

    @property
    def json(self) -> Any:
        """The answer's JSON."""
        return self.response.json()


@functools.cache
def recorded(source: str, version: str) -> tuple[Exchange, ...]:
    """All exchanges of one recording, such as ``orchestrator`` of ``v1.9.3``."""
    rows = json.loads((RECORDINGS / f"{source}-{version}.json").read_text())
    return tuple(_read(source, version, row) for row in rows)


def exchange(source: str, version: str, label: str) -> Exchange:
    """The first exchange with this label."""
    return next(one for one in recorded(source, version) if one.label == label)


def answer(version: str, label: str, source: str = "orchestrator") -> Response:
    """The answer of the first exchange with this label."""
    return exchange(source, version, label).response


def _read(source: str, version: str, row: dict[str, Any]) -> Exchange:
    said = row["response"]
    content = json.dumps(said["json"]) if "json" in said else said["text"]
    headers = {"content-type": said["content_type"], **said.get("headers", {})}
    return Exchange(
        source,
        version,
        row["label"],
        Request(row["request"]["method"], row["request"]["path"]),
        Response(said["status"], headers, content.encode()),
    )
