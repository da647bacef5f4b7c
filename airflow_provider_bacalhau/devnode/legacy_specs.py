"""A requester job's ``Spec`` as answers show it: in the answer to submit, and in lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_bacalhau.devnode.generations import Generation
from airflow_provider_bacalhau.devnode.legacy import (
    CLIENT_META,
    decode_payload,
    engine_of,
    timeout_of,
    wasm_engine_params,
)
from airflow_provider_bacalhau.devnode.records import Job

_ALWAYS = ("Type",)


def submitted_spec(spec: Mapping[str, Any], generation: Generation) -> dict[str, Any]:
    """The ``Spec`` in the answer to submit; the first generation shows it everywhere.

    :param spec: decoded, see :mod:`.legacy`.
    """
    kind, _ = engine_of(spec)
    engine: dict[str, Any] = {"Engine": spec["Engine"]} if spec["Engine"] else {}
    publisher: dict[str, Any] = {"Publisher": spec["Publisher"]} if spec["Publisher"] else {}
    if generation.is_first:
        engine["Verifier"] = spec["Verifier"]
        extra: dict[str, Any] = {"Language": {"JobContext": {}}}
    else:
        engine["EngineSpec"] = {"Type": kind, "Params": _engine_params(spec, generation)}
        extra = {}
    return {
        **engine,
        **publisher,
        "PublisherSpec": _publisher_spec(spec),
        "Docker": _present(spec["Docker"]),
        **extra,
        "Wasm": _wasm(spec["Wasm"], generation),
        **_rest(spec, generation, [storage_json(output, generation) for output in spec["Outputs"]]),
    }


def listed_spec(spec: Mapping[str, Any], generation: Generation) -> dict[str, Any]:
    """The ``Spec`` in lists: from v1.0.4 on what is left after a conversion to the newer job and back."""
    if generation.is_first:
        return submitted_spec(spec, generation)
    kind, params = engine_of(spec)
    shown: dict[str, Any] = dict(params)
    if kind == "wasm":
        shown = wasm_engine_params(params)
    outputs = [{"Name": output["Name"], "Path": output["Path"]} for output in spec["Outputs"]]
    return {
        "EngineSpec": {"Type": kind, "Params": shown},
        "PublisherSpec": _publisher_spec(spec),
        "Docker": {},
        "Wasm": {"EntryModule": {}},
        **_rest(spec, generation, outputs),
    }


def spec_of(job: Job, generation: Generation) -> dict[str, Any]:
    """The ``Spec`` of a job that came through the orchestrator API, decoded as if it had been submitted."""
    task = job.task
    sources = [_storage(source) for source in task.get("InputSources", ())]
    sent = {
        "EngineSpec": task["Engine"],
        "PublisherSpec": task["Publisher"] if task["Publisher"]["Type"] else {},
        "Resources": task["Resources"],
        "Timeout": job.timeout("ExecutionTimeout"),
        "Inputs": [source for source in sources if not source["Path"].startswith("/wasm/")],
        "Outputs": list(task.get("ResultPaths", ())),
        "Annotations": list(job.spec["Labels"]),
        "NodeSelectors": list(job.spec["Constraints"]),
        "Deal": {"TargetingMode": job.type in {"ops", "daemon"}, "Concurrency": job.count},
    }
    if task["Engine"]["Type"].casefold() == "wasm":
        modules = {source["Path"]: source for source in sources}
        params = {key.casefold(): value for key, value in (task["Engine"].get("Params") or {}).items()}
        sent["EngineSpec"] = {
            "Type": "wasm",
            "Params": {
                "EntryModule": _storage_of(params.get("entrymodule"), modules),
                "EntryPoint": params.get("entrypoint"),
                "Parameters": params.get("parameters"),
                "EnvironmentVariables": params.get("environmentvariables"),
                "ImportModules": [_storage_of(module, modules) for module in params.get("importmodules") or ()],
            },
        }
    client = job.spec["Meta"].get(CLIENT_META, "")
    spec: dict[str, Any] = decode_payload({"ClientID": client, "Spec": sent}, generation)["Spec"]
    return spec


def storage_json(storage: Mapping[str, Any], generation: Generation) -> dict[str, Any]:
    """A StorageSpec; the first generation writes ``path`` small."""
    path = "path" if generation.is_first else "Path"
    return {path if key == "Path" else key: value for key, value in storage.items() if value}


def _rest(spec: Mapping[str, Any], generation: Generation, outputs: list[dict[str, Any]]) -> dict[str, Any]:
    first = generation.is_first
    seconds = timeout_of(spec)
    inputs = [storage_json(source, generation) for source in spec["Inputs"]]
    optional = {
        "inputs" if first else "Inputs": inputs,
        "outputs" if first else "Outputs": outputs,
        "Annotations": list(spec["Annotations"]),
        "NodeSelectors": [dict(selector) for selector in spec["NodeSelectors"]],
        "DoNotTrack": spec["DoNotTrack"] if first else False,
    }
    return {
        "Resources": {**_present(spec["Resources"]), "GPU": spec["Resources"]["GPU"]},
        "Network": {"Type": spec["Network"]["Type"] or "None", **_present({"Domains": spec["Network"]["Domains"]})},
        "Timeout": int(seconds) if float(seconds).is_integer() else seconds,
        **_present(optional),
        "Deal": _present(spec["Deal"]),
    }


def _engine_params(spec: Mapping[str, Any], generation: Generation) -> Any:
    kind, params = engine_of(spec)
    if not spec["Engine"]:
        return spec["EngineSpec"]["Params"]
    if kind != "wasm":
        return dict(params)
    return {
        "EntryModule": storage_json(params["EntryModule"], generation),
        "Entrypoint": params["EntryPoint"],
        "EnvironmentVariables": params["EnvironmentVariables"] or None,
        "ImportModules": [storage_json(module, generation) for module in params["ImportModules"]] or None,
        "Parameters": list(params["Parameters"]) or None,
    }


def _wasm(wasm: Mapping[str, Any], generation: Generation) -> dict[str, Any]:
    modules = [storage_json(module, generation) for module in wasm["ImportModules"]]
    shown = {**wasm, "ImportModules": modules}
    return {"EntryModule": storage_json(wasm["EntryModule"], generation), **_present({**shown, "EntryModule": None})}


def _storage_of(module: Any, modules: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """A module as a StorageSpec: a source of its own up to v1.6, then the target of one of the inputs."""
    if isinstance(module, Mapping):
        return _storage(module)
    return modules.get(str(module), {})


def _storage(source: Mapping[str, Any]) -> dict[str, Any]:
    sent = {key.casefold(): value for key, value in source.items()}
    config = {key.casefold(): value for key, value in (sent.get("source") or {}).items()}
    kind, params = str(config.get("type", "")), dict(config.get("params") or {})
    place = {"StorageSource": kind or None, "Name": sent.get("alias"), "Path": sent.get("target") or ""}
    return {**place, **({"S3": params} if kind.casefold() == "s3" else params)}


def _publisher_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: spec["PublisherSpec"][key] for key in _ALWAYS},
        **_present({"Params": spec["PublisherSpec"]["Params"]}),
    }


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}
