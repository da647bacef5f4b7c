"""Recorded exchanges of the signed requester API; what they are is in ``recordings/README-requester.md``."""

from __future__ import annotations

import base64
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_bacalhau.client.effects import Failure, Response, TransportError

ROOT = Path(__file__).parent.parent.parent
RECORDINGS = ROOT / "tests" / "unit" / "client" / "recordings"
WORKLOADS = ROOT / "example_dags" / "workloads"
VERSIONS = ("v0.3.29", "v1.0.3", "v1.1.6", "v1.3.2")


@dataclass(frozen=True)
class Recorded:
    """One exchange.

    :param body: as it was sent, with the modules put back; empty unless it was signed.
    :param outcome: what came of it.
    """

    label: str
    method: str
    path: str
    body: str
    outcome: Response | TransportError

    @property
    def response(self) -> Response:
        assert isinstance(self.outcome, Response)
        return self.outcome


@functools.cache
def recorded(version: str) -> tuple[Recorded, ...]:
    """All exchanges with a server of this version, those of its websocket left out."""
    return tuple(_read(row) for row in _rows(version) if "websocket" not in row)


def exchange(version: str, label: str) -> Recorded:
    """The first exchange with this label."""
    return next(one for one in recorded(version) if one.label == label)


def logs(version: str) -> dict[str, Any]:
    """The reading of logs over a websocket: ``{"websocket", "sent", "frames"}``."""
    row = next(row for row in _rows(version) if "websocket" in row)
    return {**row, "sent": _with_modules(row["sent"] or "")}


def _rows(version: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((RECORDINGS / f"requester-{version}.json").read_text())
    return rows


def _read(row: dict[str, Any]) -> Recorded:
    request, said = row["request"], row.get("response")
    outcome: Response | TransportError
    if said is None:
        outcome = TransportError(Failure.LOST, sent=True, detail=row["error"])
    else:
        content = json.dumps(said["json"]) if "json" in said else said["text"]
        headers = {"content-type": said["content_type"], **said.get("headers", {})}
        outcome = Response(said["status"], headers, content.encode())
    body = _with_modules(request.get("body", ""))
    return Recorded(row["label"], request["method"], request["path"], body, outcome)


def _with_modules(text: str) -> str:
    for module in WORKLOADS.glob("*.wasm"):
        text = text.replace(f"{{{{{module.name}}}}}", base64.b64encode(module.read_bytes()).decode())
    return text


@dataclass(frozen=True)
class FakeIdentity:
    """Signs nothing that a server would take."""

    client_id: str = "c" * 64
    public_key_der: bytes = b"key"

    def sign(self, data: bytes) -> bytes:
        return b"signed:" + data[:5]
