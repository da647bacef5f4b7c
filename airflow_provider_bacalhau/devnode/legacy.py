"""The requester API's job: decoded, checked, and turned into the job that the node runs.

The wire form of a ``Spec`` differs between generations; here it is decoded into one dictionary with every key, in which
enums have the names that the generation shows. The rules and their texts are those of the servers.
"""

from __future__ import annotations

import base64
import functools
import json
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow_provider_bacalhau.devnode import godecode as go
from airflow_provider_bacalhau.devnode.generations import Generation
from airflow_provider_bacalhau.devnode.jobspec import Accepted
from airflow_provider_bacalhau.devnode.resources import parse_resources
from airflow_provider_bacalhau.devnode.validation import normal_resources

Pin = Callable[[bytes], str]

DEFAULT_TIMEOUT = 1800
INLINE_LIMIT = 5 * 1024
CLIENT_META = "bacalhau.org/client.id"

_ENGINES = ("noop", "docker", "wasm")
_FIRST_ENGINES = ("Noop", "Docker", "Wasm", "Language", "PythonWasm")
_VERIFIERS = ("Noop", "Deterministic", "External")
_PUBLISHERS = ("noop", "ipfs", "estuary", "s3", "local")
_FIRST_PUBLISHERS = ("Noop", "Ipfs", "Filecoin", "Estuary", "S3")
_SOURCES = ("ipfs", "repoClone", "repoCloneLFS", "urlDownload", "estuary", "inline", "localDirectory", "s3")
_FIRST_SOURCES = (
    "IPFS", "RepoClone", "RepoCloneLFS", "URLDownload", "FilecoinUnsealed", "Filecoin", "Estuary", "Inline",
    "LocalDirectory", "S3",
)  # fmt: skip
_NETWORKS = ("None", "Full", "HTTP")

_NEEDED = {
    "ipfs": ("CID", "CID"), "inline": ("URL", "URL"), "urldownload": ("URL", "URL"), "repoclone": ("Repo", "Repo"),
    "repoclonelfs": ("Repo", "Repo"), "localdirectory": ("SourcePath", "SourcePath"), "s3": ("S3", "S3 details"),
}  # fmt: skip
_SOURCE_KEYS = {
    "ipfs": ("CID",), "inline": ("URL",), "urldownload": ("URL",), "repoclone": ("Repo",), "repoclonelfs": ("Repo",),
    "localdirectory": ("SourcePath", "ReadWrite"),
}  # fmt: skip


class RefusedError(ValueError):
    """A job that is refused at submit; the message is the server's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


# --- decoding --------------------------------------------------------------------------------------------------------


def _enum(names: Sequence[str], complaint: str) -> go.Decoder:
    """A name in any case; absent is empty. Without a complaint an unknown name is taken as absent."""
    known = {name.casefold(): name for name in names}

    def decode(value: Any, path: str) -> str:
        if value is None:
            return ""
        text = go.string(value, path)
        name = known.get(text.strip().casefold())
        if name is None and complaint:
            raise go.BodyError(complaint.format(text))
        return name or ""

    return decode


def _number(value: Any, path: str) -> float:
    if isinstance(value, float):
        return value
    return go.integer(value, path)


def _whole_number(value: Any, path: str) -> int:
    if isinstance(value, float):
        raise go.BodyError(
            f"json: cannot unmarshal number {json.dumps(value)} into Go struct field Spec.Spec.Timeout of type int64"
        )
    return go.integer(value, path)


@functools.cache
def _payload_decoder(is_first: bool) -> go.Decoder:
    storage = go.struct(
        {
            "StorageSource": _enum(_FIRST_SOURCES if is_first else _SOURCES, "executor: unknown source type '{}'"),
            "Name": go.string,
            "CID": go.string,
            "URL": go.string,
            "S3": go.any_map,
            "Repo": go.string,
            "SourcePath": go.string,
            "ReadWrite": go.boolean,
            "Path": go.string,
            "Metadata": go.string_map,
        }
    )
    publishers = _FIRST_PUBLISHERS if is_first else _PUBLISHERS
    publisher = _enum(publishers, ("verifier" if is_first else "publisher") + ": unknown type '{}'")
    fields = {
        "Engine": _enum(*((_FIRST_ENGINES, "executor: unknown engine type '{}'") if is_first else (_ENGINES, ""))),
        "EngineSpec": go.struct({"Type": go.string, "Params": go.any_map}),
        "Verifier": _enum(_VERIFIERS, "verifier: unknown type '{}'") if is_first else go.anything,
        "Publisher": publisher,
        "PublisherSpec": go.struct({"Type": publisher, "Params": go.any_map}),
        "Docker": go.struct(
            {
                "Image": go.string,
                "Entrypoint": go.string_list,
                "Parameters": go.string_list,
                "EnvironmentVariables": go.string_list,
                "WorkingDirectory": go.string,
            }
        ),
        "Wasm": go.struct(
            {
                "EntryModule": storage,
                "EntryPoint": go.string,
                "Parameters": go.string_list,
                "EnvironmentVariables": go.string_map,
                "ImportModules": go.list_of(storage),
            }
        ),
        "Resources": go.struct(dict.fromkeys(("CPU", "Memory", "Disk", "GPU"), go.string)),
        "Network": go.struct({"Type": _enum(_NETWORKS, "model.Network: unknown type '{}'"), "Domains": go.string_list}),
        "Timeout": _number if is_first else _whole_number,
        "Inputs": go.list_of(storage),
        "Outputs": go.list_of(storage),
        "Annotations": go.string_list,
        "NodeSelectors": go.list_of(go.struct({"Key": go.string, "Operator": go.string, "Values": go.string_list})),
        "DoNotTrack": go.boolean,
        "Deal": go.struct(
            {"TargetingMode": go.boolean, "Concurrency": go.integer, "Confidence": go.integer, "MinBids": go.integer}
        ),
    }
    return go.struct({"ClientID": go.string, "APIVersion": go.string, "Spec": go.optional(go.struct(fields))})


def decode_payload(value: Any, generation: Generation) -> dict[str, Any]:
    """A JobCreatePayload; ``Spec`` is None when there is none.

    :raises godecode.BodyError: a value of the wrong type or an unknown name.
    """
    decoded: dict[str, Any] = _payload_decoder(generation.is_first)(value, "JobCreatePayload")
    return decoded


# --- checking --------------------------------------------------------------------------------------------------------


def check(payload: Mapping[str, Any], generation: Generation) -> None:
    """Refuse what the server refuses before it looks for a node.

    :raises RefusedError: with status 400 for what is plainly wrong, 500 for what cannot be converted.
    """
    if not payload["APIVersion"]:
        raise RefusedError("APIVersion is empty", 400)
    spec = payload["Spec"]
    if generation.is_first:
        if problem := _first_problem(spec):
            raise RefusedError(problem, 400)
        return
    deal = spec["Deal"]
    if deal["TargetingMode"] and deal["Concurrency"]:
        raise RefusedError("concurrency ignored for target all mode, must be == 0", 400)
    if not deal["TargetingMode"] and deal["Concurrency"] < 1:
        raise RefusedError("concurrency must be >= 1", 400)
    if problems := _common_problems(spec, "unknown"):
        raise RefusedError(generation.joined(problems), 400)
    for number, source in enumerate(spec["Inputs"]):
        key, words = _NEEDED.get(source["StorageSource"].casefold(), ("StorageSource", ""))
        if not source[key]:
            text = f"failed to convert input {number}: invalid legacy storage spec - missing {words}"
            raise RefusedError(text, 500)
    if problems := _task_problems(spec):
        text = f"task main validation failed: {generation.joined(problems)}"
        # The server checks a task twice and says so twice.
        raise RefusedError(generation.joined([text, text]), 500)


def _first_problem(spec: Mapping[str, Any]) -> str:
    """The first problem only, as the first generation says it."""
    deal = spec["Deal"]
    if not any(value for key, value in spec.items() if key not in {"Docker", "Wasm"}):
        return "job spec is empty"
    if not any(deal.values()):
        return "job deal is empty"
    if deal["Concurrency"] < 1:
        return "concurrency must be >= 1"
    if deal["Confidence"] < 0:
        return "confidence must be >= 0"
    if deal["Confidence"] > deal["Concurrency"]:
        return "the deal confidence cannot be higher than the concurrency"
    if not spec["Engine"]:
        return "invalid executor type: engineUnknown"
    if not spec["Verifier"]:
        return "invalid verifier type: verifierUnknown"
    problems = _common_problems(spec, "publisherUnknown", "storageSourceUnknown") + _resource_problems(spec)
    return next(iter(problems), "")


def _common_problems(spec: Mapping[str, Any], no_publisher: str, no_source: str = "unknown") -> list[str]:
    problems = [] if spec["PublisherSpec"]["Type"] else [f"invalid publisher type: {no_publisher}"]
    problems += [f"invalid input volume type: {no_source}" for source in spec["Inputs"] if not source["StorageSource"]]
    return problems


def _task_problems(spec: Mapping[str, Any]) -> list[str]:
    problems = [] if engine_of(spec)[0] else ["engine validation failed: missing spec type"]
    problems += ["missing artifact target" for source in spec["Inputs"] if not source["Path"]]
    for output in spec["Outputs"]:
        problems += [f"{key.lower()} is blank" for key in ("Name", "Path") if not output[key]]
    problems += _resource_problems(spec)
    for selector in spec["NodeSelectors"]:
        if selector["Operator"] in {"in", "notin"} and not selector["Values"]:
            problems.append("selector values cannot be empty for In or NotIn operators")
    if spec["Outputs"] and spec["PublisherSpec"]["Type"].casefold() == "noop":
        problems.append("publisher must be set if result paths are set")
    return problems


def _resource_problems(spec: Mapping[str, Any]) -> list[str]:
    try:
        parse_resources(normal_resources(spec["Resources"]))
    except ValueError as error:
        return [str(error)]
    return []


# --- to the node's job -----------------------------------------------------------------------------------------------


def accepted_job(payload: Mapping[str, Any], generation: Generation, job_id: str, meta: Mapping[str, str]) -> Accepted:
    """The job that the node runs: its namespace is the client, its name its id.

    :param meta: what else the server notes.
    """
    spec = payload["Spec"]
    deal = spec["Deal"]
    everywhere = deal["TargetingMode"] and not generation.is_first
    job = {
        "Name": job_id,
        "Namespace": payload["ClientID"],
        "Type": "ops" if everywhere else "batch",
        "Priority": 0,
        "Count": 0 if everywhere else deal["Concurrency"],
        "Constraints": [_constraint(selector) for selector in spec["NodeSelectors"]],
        "Meta": {CLIENT_META: payload["ClientID"], **meta},
        "Labels": dict.fromkeys(spec["Annotations"], ""),
        "Tasks": [_task(spec, generation)],
    }
    return Accepted(job, [], job_id)


def engine_of(spec: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Type and parameters of the engine, in the keys of ``Docker`` and ``Wasm``; a valid ``Engine`` wins."""
    kind = spec["Engine"].casefold() or spec["EngineSpec"]["Type"].casefold()
    if spec["Engine"] or not spec["EngineSpec"]["Type"]:
        return kind, spec["Wasm"] if kind == "wasm" else spec["Docker"] if kind == "docker" else {}
    sent = {"Docker": {}, "Wasm": {}, kind.capitalize(): spec["EngineSpec"]["Params"]}
    decoded = _payload_decoder(False)({"Spec": sent}, "EngineSpec")["Spec"]
    return kind, decoded["Wasm"] if kind == "wasm" else decoded["Docker"] if kind == "docker" else {}


def timeout_of(spec: Mapping[str, Any]) -> float:
    """Seconds; what is not positive is the server's default."""
    seconds: float = spec["Timeout"]
    return seconds if seconds > 0 else DEFAULT_TIMEOUT


def _task(spec: Mapping[str, Any], generation: Generation) -> dict[str, Any]:
    kind, params = engine_of(spec)
    task: dict[str, Any] = {"Name": "main", "Engine": {"Type": kind}, "Publisher": _publisher(spec, generation)}
    if kind == "wasm":
        task["Engine"]["Params"] = wasm_engine_params(params)
    elif kind == "docker":
        task["Engine"]["Params"] = {key: value for key, value in params.items() if value}
    if spec["Inputs"]:
        task["InputSources"] = [input_source(source) for source in spec["Inputs"]]
    if spec["Outputs"]:
        task["ResultPaths"] = [{"Name": output["Name"], "Path": output["Path"]} for output in spec["Outputs"]]
    task["Resources"] = {key: value for key, value in normal_resources(spec["Resources"]).items() if value}
    task["Network"] = {"Type": spec["Network"]["Type"] or "None"}
    if spec["Network"]["Domains"]:
        task["Network"]["Domains"] = list(spec["Network"]["Domains"])
    # The node counts whole seconds.
    task["Timeouts"] = {"ExecutionTimeout": max(1, round(timeout_of(spec)))}
    return task


def wasm_engine_params(wasm: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a WebAssembly engine up to v1.6, whose modules are sources of their own."""
    entry = wasm["EntryModule"]
    return {
        "EntryModule": input_source(entry) if entry["StorageSource"] else None,
        "Entrypoint": wasm["EntryPoint"],
        "EnvironmentVariables": wasm["EnvironmentVariables"] or None,
        "ImportModules": [input_source(module) for module in wasm["ImportModules"]],
        "Parameters": list(wasm["Parameters"]),
    }


def _publisher(spec: Mapping[str, Any], generation: Generation) -> dict[str, Any]:
    kind = spec["PublisherSpec"]["Type"].casefold()
    if kind == "noop" and not spec["Publisher"] and generation.breaks_noop:
        kind = "unknown"
    params = spec["PublisherSpec"]["Params"]
    return {"Type": kind, "Params": dict(params)} if params else {"Type": kind}


def input_source(storage: Mapping[str, Any]) -> dict[str, Any]:
    """A StorageSpec as an input source of the newer job."""
    kind = storage["StorageSource"].casefold()
    keys = _SOURCE_KEYS.get(kind, ())
    params = dict(storage["S3"]) if kind == "s3" else {key: storage[key] for key in keys if storage[key]}
    return {
        "Alias": storage["Name"],
        "Source": {"Params": params, "Type": storage["StorageSource"]},
        "Target": storage["Path"],
    }


def _constraint(selector: Mapping[str, Any]) -> dict[str, Any]:
    entry = {"Key": selector["Key"], "Operator": selector["Operator"]}
    return {**entry, "Values": list(selector["Values"])} if selector["Values"] else entry


# --- content of the job itself ---------------------------------------------------------------------------------------


def pinned(spec: Mapping[str, Any], pin: Pin) -> dict[str, Any]:
    """The first generation moves inline content that is large, alone or together, into IPFS before it stores a job."""
    wasm = spec["Wasm"]
    sources = [*spec["Inputs"], wasm["EntryModule"], *wasm["ImportModules"]]
    inline = [source for source in sources if source["StorageSource"] == "Inline"]
    sizes = [len(source["URL"]) for source in inline]
    together = sum(size for size in sizes if size <= INLINE_LIMIT)

    def moved(source: Mapping[str, Any]) -> dict[str, Any]:
        if source["StorageSource"] != "Inline" or max(together, len(source["URL"])) <= INLINE_LIMIT:
            return dict(source)
        try:
            cid = pin(_content(source["URL"]))
        except ValueError:
            return dict(source)  # its execution fails and says why
        kept = {"StorageSource": "IPFS", "Path": source["Path"], "CID": cid}
        return {**dict.fromkeys(source, ""), "S3": {}, "Metadata": {}, "ReadWrite": False, **kept}

    modules = {
        "EntryModule": moved(wasm["EntryModule"]),
        "ImportModules": [moved(module) for module in wasm["ImportModules"]],
    }
    return {**spec, "Inputs": [moved(source) for source in spec["Inputs"]], "Wasm": {**wasm, **modules}}


def _content(url: str) -> bytes:
    header, _, content = url.partition(",")
    data = urllib.parse.unquote_to_bytes(content)
    return base64.b64decode(data) if "base64" in header.split(";") else data
