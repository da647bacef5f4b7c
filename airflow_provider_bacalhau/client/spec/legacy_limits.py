"""What a job specification may say that the requester API has no word for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_provider_bacalhau.client.spec.engines import DOCKER, WASM
from airflow_provider_bacalhau.client.spec.legacy_models import SOURCES
from airflow_provider_bacalhau.client.spec.legacy_shape import JOB_NAME, TASK_NAME, RequesterShape

Problem = tuple[tuple[str | int, ...], str, str]

_UPGRADE = "Leave it out, or use a server from v1.4 on."
_TASK = ("Tasks", 0)


def what_is_lost(job: dict[str, Any], shape: RequesterShape) -> Iterator[Problem]:
    """Everything in a job that these servers would drop or misread: (path, message, hint) of each.

    :param job: with modules in the engine, as ``to_wire(module_sources=True)`` gives it.
    """
    task = job["Tasks"][0]
    yield from _job(job, shape)
    if task.get("Meta"):
        yield (*_TASK, "Meta"), "cannot be carried by the requester API", "Put it into the job's Labels."
    yield from _engine(task["Engine"], shape)
    yield from _publisher(task, shape)
    yield from _network(task.get("Network", {}))
    for number, source in enumerate(task.get("InputSources", [])):
        yield from _source(source, (*_TASK, "InputSources", number), shape)


def _job(job: dict[str, Any], shape: RequesterShape) -> Iterator[Problem]:
    if job.get("Namespace", "default") != "default":
        message = f"is {job['Namespace']!r}, and the requester API keeps the jobs of each key apart, in no namespaces"
        yield ("Namespace",), message, "Leave it out, here and in the connection."
    if job["Type"] in ("service", "daemon"):
        yield ("Type",), f"is {job['Type']!r}, and the requester API knows batch and ops jobs only", ""
    if job["Type"] == "ops" and not shape.target_all:
        yield (
            ("Type",),
            "is 'ops', and servers before v1.0.4 cannot run a job on every node",
            "Give a batch job a Count.",
        )
    if job.get("Priority"):
        yield ("Priority",), "cannot be carried by the requester API", _UPGRADE
    if job.get("Meta"):
        yield ("Meta",), "cannot be carried by the requester API", "Put it into Labels."
    for key in job.get("Labels", {}):
        if not key or "=" in key:
            yield ("Labels", key), "must have a name without `=`: it is sent as the annotation `name=value`", ""
        elif key in (JOB_NAME, TASK_NAME):
            yield ("Labels", key), "is the annotation that holds the name", "Choose another label."


def _engine(engine: dict[str, Any], shape: RequesterShape) -> Iterator[Problem]:
    at = (*_TASK, "Engine")
    params = engine["Params"]
    if engine["Type"] == WASM:
        yield from _source(params["EntryModule"], (*at, "Params", "EntryModule"), shape)
        for number, module in enumerate(params.get("ImportModules", [])):
            yield from _source(module, (*at, "Params", "ImportModules", number), shape)
    elif engine["Type"] not in (DOCKER, "noop"):
        yield (*at, "Type"), f"is {engine['Type']!r}, and the requester API runs docker and wasm only", ""
    elif params.get("Parameters") and "Entrypoint" not in params and not shape.docker_parameters:
        message = (
            "cannot be given alone to servers before v1.0.4, which know no arguments of an image's own entry point"
        )
        yield (*at, "Params", "Parameters"), message, "Give the whole command as Entrypoint."


def _publisher(task: dict[str, Any], shape: RequesterShape) -> Iterator[Problem]:
    at = (*_TASK, "Publisher")
    publisher = task.get("Publisher")
    if publisher is None:
        if "ResultPaths" in task:
            yield (*_TASK, "ResultPaths"), "need a publisher", "Add a Publisher, such as ipfs."
        return
    known = ("ipfs", "s3", "local", "noop") if shape.local_publisher else ("ipfs", "s3", "noop")
    if publisher["Type"] not in known:
        yield (*at, "Type"), f"is {publisher['Type']!r}, and this server has {', '.join(known)} only", ""
    elif publisher["Params"].get("Encoding") == "plain" and not shape.s3_compress:
        yield (*at, "Params", "Encoding"), "cannot be 'plain': this server always packs what it publishes to S3", ""


def _network(network: dict[str, Any]) -> Iterator[Problem]:
    at = (*_TASK, "Network")
    if network.get("Type") in ("Host", "Bridge", "Default"):
        yield (*at, "Type"), f"is {network['Type']!r}, and the requester API knows None, Full and HTTP", ""
    if network.get("Ports"):
        yield (*at, "Ports"), "cannot be opened through the requester API", _UPGRADE


def _source(source: dict[str, Any], at: tuple[str | int, ...], shape: RequesterShape) -> Iterator[Problem]:
    kind, params = source["Source"]["Type"], source["Source"]["Params"]
    at = (*at, "Source")
    if kind == "s3":
        for key in ("Filter", "Partition") if shape.s3_version_id else ("Filter", "Partition", "VersionID"):
            if params.get(key):
                yield (*at, "Params", key), "cannot be carried by this server's API", _UPGRADE
    elif kind in ("local", "localDirectory"):
        yield from _folder(source, at, shape)
    elif kind not in SOURCES:
        yield (*at, "Type"), f"is {kind!r}, and the requester API reads {', '.join(SOURCES)} only", ""


def _folder(source: dict[str, Any], at: tuple[str | int, ...], shape: RequesterShape) -> Iterator[Problem]:
    params = source["Source"]["Params"]
    if params.get("CreateAs", "noCreate") != "noCreate":
        yield (*at, "Params", "CreateAs"), "cannot be carried: these nodes never make a missing folder", _UPGRADE
    if params.get("ReadWrite") and not shape.read_write:
        yield (*at, "Params", "ReadWrite"), "cannot be carried: servers before v1.0.3 mount for reading only", _UPGRADE
    if not shape.source_path and params["SourcePath"] != source["Target"]:
        message = f"is {params['SourcePath']!r}, and v1.0.4 can mount a folder of the node at its own path only"
        yield (*at, "Params", "SourcePath"), message, f"Set Target to {params['SourcePath']}."
