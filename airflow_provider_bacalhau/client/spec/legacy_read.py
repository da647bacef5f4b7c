"""From the specification of the requester API to a job specification."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from airflow_provider_bacalhau.client.spec.legacy_models import Spec
from airflow_provider_bacalhau.client.spec.legacy_shape import JOB_NAME, TASK_NAME
from airflow_provider_bacalhau.client.spec.models import JobSpec
from airflow_provider_bacalhau.client.spec.problems import refusal
from airflow_provider_bacalhau.client.spec.text import plain

log = logging.getLogger(__name__)

Loc = tuple[str | int, ...]

_SECTIONS = {"docker": "Docker", "wasm": "Wasm"}
_OUTSIDE_S3 = ("CID", "URL", "SourcePath", "ReadWrite")


def read_requester_spec(value: Mapping[str, Any], *, place: str = "job_spec") -> JobSpec:
    """Reads and checks a specification of the requester API, as the provider ``bacalhau-airflow`` took it.

    ::

        read_requester_spec({"engine": "Docker", "publisher": "IPFS", "docker": {"image": "ubuntu",
                             "entrypoint": ["echo", "hello"]}, "deal": {"concurrency": 1}})

    What its servers did, the job specification asks for: a job without ``Network`` gets none, a ``Timeout`` limits an
    execution, an annotation becomes a label (``key=value`` one with a value, anything else one without).

    :param value: the ``Spec`` of an old job; keys in any case, as those servers read them.
    :param place: what the user calls it, for errors.
    :raises InvalidJobSpec: with every problem found, each with its place in the user's own spelling; so is everything
        that later servers do not have.
    """
    written = plain(value, place)
    try:
        spec = Spec.model_validate(written).to_dict()
        if spec.get("DoNotTrack"):
            log.warning("%s: DoNotTrack has no effect: no server since v1.0.4 reads it.", place)
        job = _job(spec)
        try:
            return JobSpec.model_validate(job)
        except ValidationError as error:
            raise _where_they_were_written(error, spec) from None
    except ValidationError as error:
        raise refusal(error, written, place) from None


def _job(spec: dict[str, Any]) -> dict[str, Any]:
    labels = dict(_label(annotation) for annotation in spec.get("Annotations", []))
    deal = spec["Deal"]
    on_every_node = deal["TargetingMode"]
    job = {
        "Name": labels.pop(JOB_NAME, ""),
        "Type": "ops" if on_every_node else "batch",
        "Count": deal.get("Concurrency", 1),
        "Constraints": spec.get("NodeSelectors"),
        "Tasks": [_task(spec, labels.pop(TASK_NAME, "main"))],
    }
    return {**job, "Labels": labels}


def _label(annotation: str) -> tuple[str, str]:
    key, _, value = annotation.partition("=")
    return key, value


def _task(spec: dict[str, Any], name: str) -> dict[str, Any]:
    return {
        "Name": name,
        "Engine": _engine(spec),
        "Publisher": _publisher(spec),
        "InputSources": [_input(storage) for storage in spec.get("Inputs", [])],
        "ResultPaths": [{"Name": output["Name"], "Path": output["Path"]} for output in spec.get("Outputs", [])],
        "Resources": spec.get("Resources", spec.get("TotalAllocatedResources")),
        # Later servers give a Docker job a network unless it says that it wants none.
        "Network": spec.get("Network", {"Type": "None"}),
        "Timeouts": {"ExecutionTimeout": spec.get("Timeout")},
    }


def _engine(spec: dict[str, Any]) -> dict[str, Any]:
    engine_spec = spec.get("EngineSpec", {})
    kind: str = spec.get("Engine") or engine_spec["Type"]
    params: dict[str, Any] = spec.get(_SECTIONS.get(kind, "")) or engine_spec.get("Params", {})
    if kind == "wasm":
        params = {**params, "EntryModule": _input(params["EntryModule"])}
        if "ImportModules" in params:
            params["ImportModules"] = [_input(module) for module in params["ImportModules"]]
    return {"Type": kind, "Params": params}


def _input(storage: dict[str, Any]) -> dict[str, Any]:
    source = {"Type": storage["StorageSource"], "Params": _source_params(storage)}
    return {"Source": source, "Target": storage.get("Path"), "Alias": storage.get("Name")}


def _source_params(storage: dict[str, Any]) -> dict[str, Any]:
    if "S3" in storage:
        params = dict(storage["S3"])
        if "Checksum" in params:
            params["ChecksumSHA256"] = params.pop("Checksum")
        return params
    return {key: storage[key] for key in _OUTSIDE_S3 if key in storage}


def _publisher(spec: dict[str, Any]) -> dict[str, Any] | None:
    publisher = spec.get("PublisherSpec") or ("Publisher" in spec and {"Type": spec["Publisher"], "Params": {}})
    if not publisher:
        return None
    params = dict(publisher["Params"])
    packed = params.pop("Compress", None)
    if packed is not None:
        params["Encoding"] = "gzip" if packed else "plain"
    return {"Type": publisher["Type"], "Params": params}


# Places


def _where_they_were_written(error: ValidationError, spec: dict[str, Any]) -> ValidationError:
    """The error with the keys of the requester API in its places."""
    details = [
        InitErrorDetails(
            type=PydanticCustomError("spec", "{message}", found["ctx"]) if found["type"] == "spec" else found["type"],
            loc=_place(found["loc"], spec),
            input=found["input"],
            ctx=found.get("ctx", {}),
        )
        for found in error.errors(include_url=False)
    ]
    return ValidationError.from_exception_data("", details)


def _place(loc: Loc, spec: dict[str, Any]) -> Loc:
    match loc:
        case ("Tasks", 0, "InputSources", int(number), *rest):
            return "Inputs", number, *_storage_place(rest)
        case ("Tasks", 0, "ResultPaths", *rest):
            return "Outputs", *rest
        case ("Tasks", 0, "Publisher", *rest):
            return ("PublisherSpec", *rest) if "PublisherSpec" in spec else ("Publisher",)
        case ("Tasks", 0, "Engine", "Params", *rest):
            section = _SECTIONS.get(spec.get("Engine", ""), "")
            return *((section,) if section in spec else ("EngineSpec", "Params")), *_engine_place(rest)
        case ("Tasks", 0, *rest):
            return tuple(rest)
        case ("Constraints", *rest):
            return "NodeSelectors", *rest
        case ("Count", *_):
            return "Deal", "Concurrency"
    return loc


def _engine_place(rest: list[str | int]) -> Loc:
    match rest:
        case ("EntryModule", *inner):
            return "EntryModule", *_storage_place(inner)
        case ("ImportModules", int(number), *inner):
            return "ImportModules", number, *_storage_place(inner)
    return tuple(rest)


def _storage_place(rest: list[str | int]) -> Loc:
    match rest:
        case ("Target", *_):
            return ("Path",)
        case ("Alias", *_):
            return ("Name",)
        case ("Source", "Params", "ChecksumSHA256", *_):
            return "S3", "Checksum"
        case ("Source", "Params", str(key), *_):
            return (key,) if key in _OUTSIDE_S3 else ("S3", key)
    return ()
