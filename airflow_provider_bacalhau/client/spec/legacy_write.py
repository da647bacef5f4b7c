"""From a job specification to that of the requester API."""

from __future__ import annotations

import logging
from typing import Any

from pydantic import ValidationError

from airflow_provider_bacalhau.client.spec.engines import DOCKER, WASM
from airflow_provider_bacalhau.client.spec.fields import problems_at
from airflow_provider_bacalhau.client.spec.legacy_limits import what_is_lost
from airflow_provider_bacalhau.client.spec.legacy_shape import TASK_NAME, RequesterShape, name_annotation
from airflow_provider_bacalhau.client.spec.models import JobSpec
from airflow_provider_bacalhau.client.spec.problems import refusal

log = logging.getLogger(__name__)

Spec = dict[str, Any]


def write_requester_spec(spec: JobSpec, *, shape: RequesterShape) -> Spec:
    """The ``Spec`` that a server of this generation reads.

    What has no key of its own there is written in another way:

    - labels become annotations, ``key=value`` or, without a value, ``key``;
    - the names of job and task become annotations, too (:func:`name_annotation`);
    - ``Env`` goes into the engine;
    - up to v1.0.3 a Docker task's whole command goes into ``Entrypoint``;
    - a task without a publisher gets ``noop``, for some publisher there must be;
    - ``Timeout`` is the execution limit. Without one it is the total limit (up to v1.0.3 at most an hour, beyond which
      stock nodes take no job), for otherwise these servers end every execution after half an hour.

    No server has limits of queueing and of the whole job: whoever waits for it must keep to them. It is logged when
    one is left out.

    :raises InvalidJobSpec: naming everything that the server would silently drop.
    """
    job = spec.to_wire(module_sources=True)
    try:
        problems_at(what_is_lost(job, shape))
    except ValidationError as error:
        raise refusal(error, job) from None
    task = job["Tasks"][0]
    publisher = _publisher(task)
    written = {
        **_engine(task["Engine"], shape),
        "Verifier": "Noop" if shape.verifier else None,
        "Publisher": publisher["Type"],
        "PublisherSpec": publisher,
        shape.resources_key: task.get("Resources"),
        "Network": task.get("Network"),
        "Timeout": _timeout(task.get("Timeouts", {}), shape),
        "Inputs": [_storage(source, shape) for source in task.get("InputSources", [])],
        # No server looks at the source of an output, but every kind of server was seen to take this one.
        "Outputs": [{"StorageSource": "ipfs", **result} for result in task.get("ResultPaths", [])],
        "Annotations": _annotations(job),
        "NodeSelectors": job.get("Constraints"),
        "Deal": {"TargetingMode": True} if job["Type"] == "ops" else {"Concurrency": job["Count"]},
    }
    return {key: value for key, value in written.items() if value not in (None, [], {})}


def _annotations(job: Spec) -> list[str]:
    labels: dict[str, str] = job.get("Labels", {})
    annotations = [f"{key}={value}" if value else key for key, value in labels.items()]
    if "Name" in job:
        annotations.append(name_annotation(job["Name"]))
    if (name := job["Tasks"][0]["Name"]) != "main":
        annotations.append(f"{TASK_NAME}={name}")
    return annotations


def _engine(engine: Spec, shape: RequesterShape) -> Spec:
    params = dict(engine["Params"])
    if engine["Type"] == WASM:
        params["EntryModule"] = _storage(params["EntryModule"], shape)
        if "ImportModules" in params:
            params["ImportModules"] = [_storage(module, shape) for module in params["ImportModules"]]
        return {"Engine": WASM, "Wasm": params}
    if engine["Type"] == DOCKER:
        if not shape.docker_parameters and "Parameters" in params:
            params["Entrypoint"] = [*params["Entrypoint"], *params.pop("Parameters")]
        return {"Engine": DOCKER, "Docker": params}
    return {"Engine": engine["Type"]}


def _publisher(task: Spec) -> Spec:
    publisher = task.get("Publisher", {"Type": "noop", "Params": {}})
    params = dict(publisher["Params"])
    encoding = params.pop("Encoding", None)
    if encoding:
        params["Compress"] = encoding == "gzip"
    return {"Type": publisher["Type"], **({"Params": params} if params else {})}


def _timeout(limits: dict[str, int], shape: RequesterShape) -> int | None:
    execution, total = limits.get("ExecutionTimeout"), limits.get("TotalTimeout")
    if limits.get("QueueTimeout"):
        log.warning("Tasks[0].Timeouts.QueueTimeout has no effect: this server has no limit for waiting in a queue.")
    longest = shape.longest_timeout
    if execution:
        if total:
            log.info("The server limits each execution to %s s, but not the job to its %s s.", execution, total)
        if longest and execution > longest:
            log.warning("Stock nodes of this server take no job with an ExecutionTimeout over %s s.", longest)
        return execution
    if not total:
        return None
    limit = min(total, longest or total)
    log.info("The job has no ExecutionTimeout: the server will end an execution after %s s.", limit)
    return limit


def _storage(source: Spec, shape: RequesterShape) -> Spec:
    kind, params = source["Source"]["Type"], dict(source["Source"]["Params"])
    written: Spec = {"StorageSource": kind}
    if kind == "s3":
        if "ChecksumSHA256" in params:
            params["Checksum"] = params.pop("ChecksumSHA256")
        written["S3"] = params
    elif kind in ("local", "localDirectory"):
        written["StorageSource"] = "localDirectory"
        written["SourcePath"] = params["SourcePath"]
        if shape.read_write and "ReadWrite" in params:
            written["ReadWrite"] = params["ReadWrite"]
    else:
        written.update(params)
    if "Alias" in source:
        written["Name"] = source["Alias"]
    return {**written, "Path": source["Target"]}
