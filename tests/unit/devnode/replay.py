"""Recorded exchanges sent again, to an embedded node: does it answer as the real one did?

What is compared: status, content type, and the JSON body to the last key and value. What a run makes up itself is
mapped or left out: ids (the first time two ids meet they are taken for each other, from then on they must agree),
times, ports, sizes of the machine, tokens. An answer that is read is asked for again until it agrees, for jobs take
their time; what is sent with an effect is sent once.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import requests

from airflow_provider_bacalhau.devnode.store import Store

from .specs import DATA, WORKLOADS

PATIENCE = 12.0
"""Seconds until which what a recording shows has happened."""

_ID = re.compile(r"(?:[jen]-)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NOWHERE = "j-00000000-0000-4000-8000-000000000000"
_UNSTABLE = [
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"), "<time>"),
    # A real node's local publisher has a port of its own, this one's a folder.
    (re.compile(r"127\.0\.0\.1:\d+(?:/local-publisher)?"), "<address>"),
    # How large the machine is, and how much of it is free.
    (re.compile(r"\{CPU: [^}]*\}"), "<resources>"),
    (re.compile(r"the maximum available \([^)]*\)"), "<maximum>"),
    (re.compile(r"[0-9a-f]{64}"), "<hash>"),
    (re.compile(r", offset=\d+, "), ", "),
    (re.compile(r"only wasm, docker|only docker, wasm"), "only wasm"),
]
# Jobs that were watched until their time in the queue was over wait a tenth of it here.
_HURRIED = re.compile(r'^{"label":"count 3')
_NAMES_OF_NODES = (".NodeID", ".PeerInfo.ID")
_ZERO_TIME = "0001-01-01T00:00:00Z"
_MODULE = re.compile(r"\{\{(\w+\.wasm)\}\}")
_OF_THE_MACHINE = {"MaxCapacity", "AvailableCapacity", "QueueCapacity", "MaxJobRequirements"}
_OF_THE_MACHINE |= {"ExecutionEngines", "Publishers", "StorageSources"}
# What ran at that moment.
_OF_THE_MACHINE |= {"RunningExecutions", "EnqueuedExecutions"}
# Left out while they are zero, which depends on how long the node has been up.
_COUNTERS = {"LastComputeSeqNum", "LastOrchestratorSeqNum"}
_MADE_UP = {"CreateTime", "ModifyTime", "GitCommit", "BuildDate", "token", "InputPhrase", "Port", "DataDir"}
_MADE_UP |= {"bacalhau.org/requester.publicKey"}


@dataclass(frozen=True)
class Answer:
    """What came back: an HTTP response, or the frames of a websocket."""

    status: int
    content_type: str = ""
    body: Any = None


@dataclass
class Replay:
    """One recording against one node.

    :param url: the node's API, without a path.
    :param ids: recorded ids and the node's own.
    """

    url: str
    ids: dict[str, str] = field(default_factory=dict)

    def differences(self, exchange: Mapping[str, Any], patience: float = PATIENCE) -> list[str]:
        """What the node answers differently, as ``place: recorded, answered``; empty when it agrees."""
        deadline = time.monotonic() + patience
        while True:
            known = dict(self.ids)
            found = list(self._compare(expected(exchange), self.send(exchange)))
            if not found or time.monotonic() > deadline or not _is_harmless(exchange):
                return found
            self.ids = known
            time.sleep(0.05)

    def prepare(self, recorded: list[dict[str, Any]]) -> None:
        """Give the node a job to list where the real one had some before the recording began."""
        for exchange in recorded:
            if exchange["label"] == "list empty":
                body = exchange["response"]["json"]
                # Two, so that a page of one has a next one.
                for number, job in enumerate(2 * (body.get("Items") or body.get("Jobs") or [])):
                    sent = {"Type": "batch", "Count": 1, "Name": f"earlier-{number}", "Tasks": job["Tasks"]}
                    requests.put(
                        f"{self.url}/api/v1/orchestrator/jobs", json={"Job": sent}, timeout=10
                    ).raise_for_status()

    def send(self, exchange: Mapping[str, Any]) -> Answer:
        """Send what was sent then, with this node's ids."""
        if "websocket" in exchange:
            return asyncio.run(self._open(f"/api/v1{self._here(exchange['websocket'])}", {}, reading=True))
        request = exchange["request"]
        headers = dict(request.get("headers", {}))
        if headers.get("Upgrade") == "websocket":
            del headers["Upgrade"]
            return asyncio.run(self._open(self._here(request["path"]), headers, reading=False))
        body = None
        if "json" in request:
            body = _restored(self._here(json.dumps(request["json"]))).encode()
            headers.setdefault("Content-Type", "application/json")
        elif "raw" in request or "body" in request:
            body = _restored(self._here(request.get("raw") or request.get("body"))).encode()
        response = requests.request(
            request["method"],
            self.url + ("/local-publisher" if "base" in request else "") + self._here(request["path"]),
            headers=headers,
            data=body,
            allow_redirects=False,
            timeout=30,
        )
        kind = response.headers.get("Content-Type", "")
        # The requester API sends JSON under the name of text, too.
        is_json = response.content and (kind.startswith("application/json") or response.content.startswith(b"{"))
        parsed = response.json() if is_json else response.text
        return Answer(response.status_code, kind, "" if kind.startswith("application/gzip") else parsed)

    async def _open(self, path: str, headers: Mapping[str, str], *, reading: bool) -> Answer:
        frames: list[Any] = []
        async with aiohttp.ClientSession() as session:
            try:
                # Real servers never answer the closing handshake, so it is not waited for.
                timeout = aiohttp.ClientWSTimeout(ws_close=0.01)
                socket = await session.ws_connect(self.url + path, headers=headers, autoping=False, timeout=timeout)
            except aiohttp.WSServerHandshakeError as error:
                return Answer(error.status)
            while reading:
                try:
                    message = await socket.receive(timeout=0.5)
                except TimeoutError:
                    frames.append("nothing more")
                    break
                if message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}:
                    frames.append({"close": socket.close_code, "reason": message.extra or ""})
                    break
                frames.append({"op": int(message.type), "text": message.data})
        return Answer(101, body=frames if reading else None)

    def _here(self, text: str) -> str:
        """A recorded text with this node's ids."""
        for recorded, own in self.ids.items():
            text = text.replace(recorded, own)
            if _short(recorded) != recorded:
                text = re.sub(rf"{re.escape(_short(recorded))}(?![-0-9a-f])", _short(own), text)
        return text

    def _compare(self, recorded: Answer, answered: Answer) -> Iterator[str]:
        if recorded.status != answered.status:
            yield f"status: {recorded.status}, {answered.status} {answered.body}"
            return
        if recorded.body and recorded.content_type.partition(";")[0] != answered.content_type.partition(";")[0]:
            yield f"content type: {recorded.content_type}, {answered.content_type}"
        yield from self._values(recorded.body, answered.body, "")

    def _values(self, recorded: Any, answered: Any, place: str) -> Iterator[str]:
        if type(recorded) is not type(answered) and not (_is_number(recorded) and _is_number(answered)):
            yield f"{place}: {_brief(recorded)}, {_brief(answered)}"
        elif isinstance(recorded, dict):
            yield from self._objects(recorded, answered, place)
        elif isinstance(recorded, list):
            # How many nodes were connected is no matter of the version.
            if len(recorded) != len(answered) and not (recorded and answered and place == ".Nodes"):
                yield f"{place}: {len(recorded)} items, {len(answered)} items: {_brief(answered)}"
            for number, (one, other) in enumerate(zip(recorded, answered, strict=False)):
                yield from self._values(one, other, f"{place}[{number}]")
        elif isinstance(recorded, str):
            yield from self._texts(recorded, answered, place)
        elif recorded != answered:
            yield f"{place}: {recorded}, {answered}"

    def _objects(self, recorded: Mapping[str, Any], answered: Mapping[str, Any], place: str) -> Iterator[str]:
        if self._is_older_job(recorded):
            if recorded.keys() != answered.keys():
                yield f"{place}: {sorted(recorded)}, {sorted(answered)}"
            return
        # Whether a job had begun to run when it was stopped is a matter of luck.
        was_stopped = isinstance(recorded.get("State"), dict) and recorded["State"].get("StateType") == "Stopped"
        ignored = _COUNTERS | {"Revision"} if was_stopped else _COUNTERS
        for key in sorted((recorded.keys() | answered.keys()) - ignored):
            if key not in answered:
                yield f"{place}.{key}: {_brief(recorded[key])}, absent"
            elif key not in recorded:
                yield f"{place}.{key}: absent, {_brief(answered[key])}"
            elif key not in _MADE_UP and key not in _OF_THE_MACHINE:
                yield from self._values(recorded[key], answered[key], f"{place}.{key}")

    def _texts(self, recorded: str, answered: str, place: str) -> Iterator[str]:
        if place.endswith(".RunOutput.Stdout") and answered.startswith(recorded):
            return  # a real node may keep only the first write of a program
        self._meet(recorded, answered)
        if place.endswith(_NAMES_OF_NODES):
            self.ids.setdefault(recorded, answered)
        if _stable(self._here(recorded)) != _stable(answered):
            yield f"{place}: {_brief(self._here(recorded))}, {_brief(answered)}"

    def _is_older_job(self, recorded: Mapping[str, Any]) -> bool:
        """Whether this is a job that the real node held before the recording began."""
        return "Tasks" in recorded and recorded.get("ID", "") not in {"", *self.ids}

    def _meet(self, recorded: str, answered: str) -> None:
        # CIDs look like the names of old nodes, and they are the same everywhere.
        for one, other in zip(_ID.findall(recorded), _ID.findall(answered), strict=False):
            if one != _NOWHERE:
                self.ids.setdefault(one, other)


def exchanges(version: str, kind: str) -> list[dict[str, Any]]:
    """The exchanges of one recording, Docker aside."""
    lines = (DATA / "replay" / f"{version}-{kind}.json").read_text().splitlines()[1:-1]
    loaded = []
    for line in lines:
        hurried = line.replace('"QueueTimeout":20', '"QueueTimeout":2') if _HURRIED.search(line) else line
        loaded.append(json.loads(hurried.removesuffix(",")))
    return loaded


def named_as_recorded(folder: Path, recorded: list[dict[str, Any]]) -> None:
    """Let the node that will live in a folder have the recorded one's name, which clients signed."""
    for exchange in recorded:
        if exchange["label"] == "auth: list methods":
            params = exchange["response"]["json"]["Methods"]["clientkey"]["params"]
            store = Store(folder / "node.sqlite")
            store.meta("node-0", lambda: base64.b64decode(params["InputPhrase"]).decode())  # noqa: B023 - called at once
            store.close()


def expected(exchange: Mapping[str, Any]) -> Answer:
    """What the real node answered."""
    if "websocket" in exchange:
        if "Handshake status" in (exchange["error"] or ""):
            return Answer(int(exchange["error"].split("status ")[1].split()[0]))
        frames = list(exchange["frames"])
        return Answer(101, body=frames if frames and "close" in frames[-1] else [*frames, "nothing more"])
    response = exchange["response"]
    body = response["json"] if "json" in response else response["text"]
    kind = response.get("content_type") or ""
    if exchange["request"].get("headers", {}).get("Upgrade") == "websocket":
        return Answer(response["status"])  # clients see no more of a handshake
    return Answer(
        response["status"], kind, "" if kind.startswith("application/gzip") else json.loads(_restored(json.dumps(body)))
    )


def _is_harmless(exchange: Mapping[str, Any]) -> bool:
    return "websocket" in exchange or exchange["request"]["method"] in {"GET", "HEAD"}


def _restored(text: str) -> str:
    def module(match: re.Match[str]) -> str:
        path = WORKLOADS / match[1]
        return base64.b64encode(path.read_bytes()).decode() if path.exists() else match[0]

    return _MODULE.sub(module, text)


def _short(identifier: str) -> str:
    prefix, dash, rest = identifier.partition("-")
    if identifier.startswith("Qm"):
        return identifier[:8]
    return f"{prefix}-{rest.partition('-')[0]}" if len(prefix) == 1 and dash else prefix


def _stable(text: str) -> str:
    if text == _ZERO_TIME:
        return text
    for pattern, instead in _UNSTABLE:
        text = pattern.sub(instead, text)
    return text


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) < 160 else f"{text[:157]}..."
