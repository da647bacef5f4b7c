"""Asking an emulated server what a real one was asked through its requester API, and comparing the answers.

The recorded requests are sent as they were, so the node verifies the recorder's signatures over bytes that it did not
choose. Signed requests that name a job cannot be sent so, since the job has another id here: they are signed anew with
a key of the tests, and so that this key owns something, the jobs that they are about are submitted once more with it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from airflow_provider_bacalhau.devnode import DevNode

from .specs import DATA, module

MODULES = {f"{{{{{name}}}}}": base64.b64encode(module(name)).decode() for name in ("exitn.wasm", "wc.wasm", "sum.wasm")}
TWINS = {"wasm ok", "long", "bad module"}
PATIENCE = 20.0

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_HEADERS = ("X-Bacalhau-Job-ID", "X-Bacalhau-Client-ID", "X-Content-Type-Options")
_VOLATILE = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    (re.compile(r"\b(n-[0-9a-f]{8}(-[0-9a-f-]{27})?|Node Qm\w{6})\b"), "<node>"),
    (_UUID, "<id>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<client>"),
    (re.compile(r"\b([0a])\1{39}\b"), "<commit>"),
    (re.compile(r"\{CPU: [^}]*\}"), "<amounts>"),
)
_OF_THE_MACHINE = {"MaxCapacity", "AvailableCapacity", "QueueCapacity", "MaxJobRequirements", "tmp", "root"}
_NAMES = {"ExecutionEngines", "Verifiers", "Publishers", "StorageSources"}


class Client:
    """A key that signs."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = self._key.public_key()
        modulus = public.public_numbers().n
        self.id = hashlib.sha256(modulus.to_bytes(256, "big")).hexdigest()
        self._der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)

    def envelope(self, payload: dict[str, Any]) -> str:
        raw = json.dumps({**payload, "ClientID": self.id})
        signature = self._key.sign(raw.encode(), padding.PKCS1v15(), hashes.SHA256())
        texts = [base64.b64encode(data).decode() for data in (signature, self._der)]
        return f'{{"payload":{raw},"signature":"{texts[0]}","client_public_key":"{texts[1]}"}}'


@dataclass(frozen=True)
class Comparison:
    """One exchange: its label and what is not as recorded, empty when all is."""

    label: str
    recorded: Any
    seen: Any

    @property
    def matches(self) -> bool:
        return bool(self.recorded == self.seen)


@dataclass
class Replay:
    """One version's exchanges, sent to a node that emulates it."""

    node: DevNode
    version: str
    mine: Client = field(default_factory=Client)
    other: Client = field(default_factory=Client)
    jobs: dict[str, str] = field(default_factory=dict)
    twins: dict[str, str] = field(default_factory=dict)
    node_names: tuple[str, str] = ("", "")

    def run(self) -> list[Comparison]:
        entries = recording(self.version)
        names = {
            self._send(entry).text.strip().strip('"'): entry["response"].get("json", entry["response"].get("text"))
            for entry in entries
            if entry["label"] == "probe /id"
        }
        self.node_names = tuple(*names.items())
        return [self._compare(entry) for entry in entries]

    def _compare(self, entry: dict[str, Any]) -> Comparison:
        label = entry["label"]
        if "websocket" in entry:
            return Comparison(label, _frames(entry["frames"]), self._logs(entry))
        if "error" in entry:
            try:
                return Comparison(label, entry["error"], self._send(entry).status_code)
            except requests.ConnectionError:
                return Comparison(label, entry["error"], "ConnectionError")
        recorded = entry["response"]
        headers = {key.lower(): value for key, value in recorded["headers"].items()}
        body = recorded.get("json", recorded.get("text"))
        wanted = [recorded["status"], recorded["content_type"], headers, body]
        deadline = time.monotonic() + PATIENCE
        while True:
            response = self._send(entry)
            seen = _answer(response)
            if not label.endswith(": states") or _settled(body, seen[3]) or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        if label in TWINS | {"word count", "chain by cid"} or (body and isinstance(body, dict) and "job" in body):
            self._remember(entry, body, seen[3])
        seen = json.loads(json.dumps(seen).replace(*self.node_names))
        if label == "list negative" and "jobs" in str(body)[:10]:
            # Without an order to sort by, the first generation lists in none.
            for answer in (body, seen[3]):
                answer["jobs"].sort(key=lambda job: json.dumps(normal(job), sort_keys=True))
        return Comparison(label, normal(wanted), normal(_with_first_writes(seen, wanted)))

    def _send(self, entry: dict[str, Any]) -> requests.Response:
        request, label = entry["request"], entry["label"]
        body = request.get("body")
        if body is not None:
            twin = label.startswith("cancelled")
            body = self._resigned(label, body) if request["path"].endswith("/cancel") else self._mapped(body, twin=twin)
        return requests.request(
            request["method"],
            self.node.api + request["path"],
            data=body,
            headers={"Content-Type": "application/json"} if body else {},
            timeout=PATIENCE,
        )

    def _mapped(self, body: str, *, twin: bool = False) -> str:
        ids = {**self.jobs, **self.twins} if twin else self.jobs
        return _UUID.sub(lambda match: ids.get(match[0], match[0]), body)

    def _resigned(self, label: str, body: str) -> str:
        payload = json.loads(body)["payload"]
        if payload["JobID"] not in self.twins:
            return body
        who = self.other if label == "cancel by other" else self.mine
        return who.envelope({**payload, "JobID": self.twins[payload["JobID"]]})

    def _remember(self, entry: dict[str, Any], recorded: Any, seen: Any) -> None:
        """Which job this is here; and another of the kind for the key of the tests."""
        if not (isinstance(seen, dict) and "job" in seen):
            return
        recorded_id = recorded["job"]["Metadata"]["ID"]
        self.jobs[recorded_id] = seen["job"]["Metadata"]["ID"]
        if entry["label"] in TWINS:
            body = self.mine.envelope(json.loads(entry["request"]["body"])["payload"])
            answer = requests.post(self.node.api + entry["request"]["path"], data=body, timeout=PATIENCE).json()
            self.twins[recorded_id] = answer["job"]["Metadata"]["ID"]
            path = entry["request"]["path"].removesuffix("submit") + "states"
            self._await(path, self.twins[recorded_id], is_long=entry["label"] == "long")

    def _await(self, path: str, job_id: str, *, is_long: bool) -> None:
        """Until the job runs or is over: what is asked about it next is about one of the two."""
        deadline = time.monotonic() + PATIENCE
        while True:
            question = {"client_id": self.mine.id, "job_id": job_id}
            state = requests.post(self.node.api + path, json=question, timeout=PATIENCE).json()["state"]
            executions = state["Executions"] or []
            over = state["State"] not in {"New", "InProgress"}
            if over or (is_long and executions and executions[0]["State"] == "BidAccepted"):
                return
            assert time.monotonic() < deadline, state
            time.sleep(0.01)

    def _logs(self, entry: dict[str, Any]) -> Any:
        wanted = _frames(entry["frames"])
        if not entry["sent"]:
            return asyncio.run(_read_logs(self.node.api + entry["websocket"], "", wanted))
        payload = json.loads(entry["sent"])["payload"]
        job_id = self.twins[payload["JobID"]]
        state = requests.post(
            f"{self.node.api}{entry['websocket'].removesuffix('logs')}states",
            json={"client_id": self.mine.id, "job_id": job_id},
            timeout=PATIENCE,
        ).json()
        execution = state["state"]["Executions"][0]["ComputeReference"]
        message = self.mine.envelope({**payload, "JobID": job_id, "ExecutionID": execution})
        return asyncio.run(_read_logs(self.node.api + entry["websocket"], message, wanted))


def recording(version: str) -> list[dict[str, Any]]:
    text = (DATA / "replay" / f"{version}-requester.json").read_text()
    for mark, content in MODULES.items():
        text = text.replace(mark, content)
    entries: list[dict[str, Any]] = json.loads(text)
    return entries


def normal(value: Any, key: str = "") -> Any:
    """A value without what differs from run to run and from machine to machine."""
    if key in _OF_THE_MACHINE and isinstance(value, dict):
        return "<amounts>"
    if key in _NAMES and isinstance(value, list):
        return [type(entry).__name__ for entry in value[:1]]
    if key in {"Version", "RequesterPublicKey"} and value:
        return f"<{type(value).__name__}>"
    if isinstance(value, dict):
        return {name: normal(entry, name) for name, entry in value.items()}
    if isinstance(value, list):
        return [normal(entry) for entry in value]
    if not isinstance(value, str):
        return value
    for pattern, mark in _VOLATILE:
        value = pattern.sub(mark, value)
    return value


def _with_first_writes(seen: Any, recorded: Any, key: str = "") -> Any:
    """Real servers keep at times only a program's first write as its ``stdout``, this one keeps all that fits."""
    if isinstance(seen, dict) and isinstance(recorded, dict):
        return {name: _with_first_writes(value, recorded.get(name), name) for name, value in seen.items()}
    if isinstance(seen, list) and isinstance(recorded, list) and len(seen) == len(recorded):
        return [_with_first_writes(*pair) for pair in zip(seen, recorded, strict=True)]
    if key == "stdout" and recorded and isinstance(seen, str) and seen.startswith(recorded):
        return recorded
    return seen


def _answer(response: requests.Response) -> list[Any]:
    headers = {name.lower(): response.headers[name] for name in _HEADERS if name in response.headers}
    try:
        body: Any = response.json()
    except ValueError:
        body = response.text
    return [response.status_code, response.headers.get("Content-Type", ""), headers, body]


def _settled(recorded: Any, seen: Any) -> bool:
    """The job and its executions are in the states of the recording."""

    def states(body: Any) -> list[str]:
        state = body.get("state", {}) if isinstance(body, dict) else {}
        return [state.get("State"), *(execution["State"] for execution in state.get("Executions") or [])]

    return states(recorded) == states(seen)


def _frames(frames: list[str]) -> Any:
    """What was written to which stream. Where the splits are is chance."""
    if frames and "404 Not Found" in frames[0]:
        return 404
    texts: dict[int, str] = {}
    keys: set[str] = set()
    for text in frames:
        if text.startswith("{"):
            frame = json.loads(text)
            keys |= set(frame)
            texts[frame["Tag"]] = texts.get(frame["Tag"], "") + frame["Data"]
    return texts, sorted(keys)


async def _read_logs(url: str, message: str, wanted: Any) -> Any:
    frames: list[str] = []
    async with aiohttp.ClientSession() as session:
        try:
            async with asyncio.timeout(PATIENCE), session.ws_connect(url) as socket:
                await socket.send_str(message)
                while _frames(frames) != wanted:
                    frames.append(await socket.receive_str())
        except aiohttp.WSServerHandshakeError as error:
            return error.status
        except (TimeoutError, aiohttp.WSMessageTypeError):
            pass
    return _frames(frames)
