"""From the body of a submission to the job that a server would store.

Decode, validate, sanitise, fill in defaults: the order and the texts of v1.9.3 (its ``models.Job`` and transformers,
confirmed on a running node). The outcome is the specification in wire form, with what is empty left out, so that two
specifications are the same job exactly when they are equal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_bacalhau.devnode import godecode as go
from airflow_provider_bacalhau.devnode.emulation import NEWEST, Emulation
from airflow_provider_bacalhau.devnode.validation import (
    joined,
    normal_resources,
    spec_config_problems,
    stored_problems,
    submission_problems,
)

RESERVED_META = "bacalhau.org/"
DEFAULT_RESOURCES = {"CPU": "500m", "Memory": "512Mb"}

_NETWORKS = ("Default", "None", "Host", "Full", "HTTP", "Bridge")


class SpecError(ValueError):
    """A specification that the server refuses with status 400.

    :param stored: the store refused it, after defaults; the answer then says so in ``Component``.
    """

    def __init__(self, message: str, *, stored: bool = False) -> None:
        super().__init__(message)
        self.stored = stored


class UnreadableParamsError(ValueError):
    """Engine parameters that make the server fail with 500 instead of a reason."""


def _network_type(value: Any, path: str) -> str:
    text = go.string(value, path)
    if value is None:
        return "Default"
    for known in _NETWORKS:
        if known.casefold() == text.strip().casefold():
            return known
    complaint = f"models.Network: unknown type '{text}'"
    raise go.BodyError(f"code=400, message={complaint}, internal={complaint}")


_SPEC_CONFIG = go.struct({"Type": go.string, "Params": go.any_map})
_PORT = go.struct({"Name": go.string, "Static": go.integer, "Target": go.integer, "HostNetwork": go.string})
_TASK = go.struct(
    {
        "Name": go.string,
        "Engine": go.optional(_SPEC_CONFIG),
        "Publisher": _SPEC_CONFIG,
        "Env": go.string_map,
        "Meta": go.string_map,
        "InputSources": go.list_of(
            go.struct({"Source": go.optional(_SPEC_CONFIG), "Alias": go.string, "Target": go.string})
        ),
        "ResultPaths": go.list_of(go.struct({"Name": go.string, "Path": go.string})),
        "Resources": go.struct({"CPU": go.string, "Memory": go.string, "Disk": go.string, "GPU": go.string}),
        "Network": go.struct({"Type": _network_type, "Domains": go.string_list, "Ports": go.list_of(_PORT)}),
        "Timeouts": go.struct({"ExecutionTimeout": go.integer, "QueueTimeout": go.integer, "TotalTimeout": go.integer}),
    }
)
_JOB = go.struct(
    {
        "ID": go.string,
        "Name": go.string,
        "Namespace": go.string,
        "Type": go.string,
        "Priority": go.integer,
        "Count": go.optional_integer,
        "Constraints": go.list_of(go.struct({"Key": go.string, "Operator": go.string, "Values": go.string_list})),
        "Meta": go.string_map,
        "Labels": go.string_map,
        "Tasks": go.list_of(_TASK),
        "State": go.struct({"StateType": go.string, "Message": go.string}),
        "Version": go.integer,
        "Revision": go.integer,
        "CreateTime": go.integer,
        "ModifyTime": go.integer,
    }
)
_REQUEST = go.struct({"Job": go.optional(_JOB), "Force": go.boolean})


@dataclass(frozen=True, slots=True)
class Submission:
    """A decoded submission: the job as sent, not yet checked. ``job`` is none when the body had none."""

    job: Mapping[str, Any] | None
    force: bool


@dataclass(frozen=True, slots=True)
class Accepted:
    """A specification that a server would store.

    :param spec: wire form, ``Name`` to ``Tasks``; ``Name`` is empty when the job is to be named after its id.
    :param warnings: what the server says in ``Warnings``.
    :param job_id: an id that the client chose (service and daemon jobs only), else empty.
    """

    spec: dict[str, Any]
    warnings: list[str]
    job_id: str


def decode_submission(body: bytes) -> Submission:
    """Read the body of ``PUT /orchestrator/jobs``.

    :raises godecode.BodyError: no JSON, or a value of the wrong type.
    """
    decoded = _REQUEST(go.parse_json(body) if body else None, "PutJobRequest")
    return Submission(decoded["Job"], decoded["Force"])


def accept(job: Mapping[str, Any] | None, emulation: Emulation = NEWEST) -> Accepted:
    """Check and normalise a decoded job.

    :param emulation: the server version whose rules count.
    :raises SpecError: with the server's text.
    :raises UnreadableParamsError: WebAssembly parameters that make the server answer 500.
    """
    if job is None:
        nothing = ["job is required", "empty/nil job"] if emulation.lists_problems else ["empty/nil job"]
        raise SpecError(joined(nothing, emulation))
    if problems := submission_problems(job, emulation):
        raise SpecError(joined(problems, emulation))
    warnings = _warnings(job)
    spec = {
        # A nameless job is named after its id before that is dropped, also after one that the client made up.
        "Name": job["Name"] or job["ID"],
        "Namespace": job["Namespace"] or "default",
        "Type": job["Type"],
        "Priority": job["Priority"],
        "Count": _count(job, emulation),
        "Constraints": [_without_empty(entry, ("Values",)) for entry in job["Constraints"]],
        "Meta": {key: value for key, value in job["Meta"].items() if not key.startswith(RESERVED_META)},
        "Labels": dict(job["Labels"]),
        "Tasks": [_task(job["Tasks"][0], emulation, is_endless=job["Type"] in {"service", "daemon"})],
    }
    if problems := stored_problems(spec["Tasks"][0]):
        raise SpecError("\n".join(problems), stored=True)
    keeps_id = job["Type"] in {"service", "daemon"}
    return Accepted(spec, warnings, job["ID"] if keeps_id else "")


def same_job(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a resubmission changes nothing: all of the specification counts but what the server itself wrote."""

    def compared(spec: Mapping[str, Any]) -> dict[str, Any]:
        meta = {key: value for key, value in spec["Meta"].items() if not key.startswith(RESERVED_META)}
        return {**spec, "Meta": meta}

    return compared(one) == compared(other)


def _count(job: Mapping[str, Any], emulation: Emulation) -> int:
    if job["Type"] in {"ops", "daemon"}:
        # It says nothing: these jobs run once on each matching node.
        return 1 if emulation.early_specs and not job["Count"] else int(emulation.early_specs and job["Count"])
    absent = 0 if emulation.early_specs else 1
    return absent if job["Count"] is None else int(job["Count"])


def _warnings(job: Mapping[str, Any]) -> list[str]:
    ignored = {"Revision": "revision", "Version": "version", "CreateTime": "create time", "ModifyTime": "modify time"}
    sent = ["state"] if job["State"]["StateType"] else []
    sent += [word for key, word in ignored.items() if job[key]]
    warnings = [f"job {word} is ignored when submitting a job" for word in sent]
    if job["ID"] and job["Type"] in {"batch", "ops"}:
        warnings.append("job ID is ignored when submitting a batch job")
    if len(job["Tasks"]) > 1:
        warnings.append("only one task is supported per job")
    warnings += [
        f'job meta key "{key}" is reserved and will be ignored' for key in job["Meta"] if key.startswith(RESERVED_META)
    ]
    return warnings


# --- normalisation and defaults --------------------------------------------------------------------------------------


def _without_empty(entry: Mapping[str, Any], optional: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value or key not in optional}


def _spec_config(config: Mapping[str, Any]) -> dict[str, Any]:
    return _without_empty({"Type": config["Type"].strip(), "Params": config["Params"]}, ("Params",))


def _input_source(source: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Source": _spec_config(source["Source"]),
        "Alias": source["Alias"].strip(),
        "Target": source["Target"].strip(),
    }


def _task(task: Mapping[str, Any], emulation: Emulation, *, is_endless: bool) -> dict[str, Any]:
    resources = normal_resources(task["Resources"])
    if not emulation.early_specs:
        resources = {key: value or DEFAULT_RESOURCES.get(key, "").lower() for key, value in resources.items()}
    timeouts = {key: value for key, value in task["Timeouts"].items() if key in emulation.timeouts}
    if emulation.early_specs:
        timeouts = {key: max(0, value) for key, value in timeouts.items()}
    if not is_endless and not timeouts.get("TotalTimeout"):  # with one, v1.3.2 fills in no execution limit either
        timeouts = {key: value or emulation.default_timeouts.get(key, 0) for key, value in timeouts.items()}
    network = {**task["Network"], "Domains": [domain.strip().lower() for domain in task["Network"]["Domains"]]}
    network["Ports"] = [_without_empty(port, ("Static", "Target", "HostNetwork")) for port in network["Ports"]]
    if emulation.early_specs and network["Type"] == "Default":
        network["Type"] = "None"
    normal = {
        "Name": task["Name"],
        "Engine": _spec_config(task["Engine"]),
        "Publisher": _spec_config(task["Publisher"]),
        "Env": dict(task["Env"]),
        "Meta": dict(task["Meta"]),
        "InputSources": [_input_source(source) for source in task["InputSources"]],
        "ResultPaths": [{key: value.strip() for key, value in entry.items()} for entry in task["ResultPaths"]],
        "Resources": _without_empty(resources, tuple(resources)),
        "Network": _without_empty(network, ("Domains", "Ports")),
        "Timeouts": _without_empty(timeouts, tuple(timeouts)),
    }
    if normal["Engine"]["Type"].casefold() == "wasm" and not emulation.early_specs:
        _modernise_wasm(normal)
    return _without_empty(normal, ("Env", "Meta", "InputSources", "ResultPaths"))


# --- WebAssembly parameters ------------------------------------------------------------------------------------------

_WASM = go.struct(
    {
        "EntryModule": go.string,
        "Entrypoint": go.string,
        "Parameters": go.string_list,
        "ImportModules": go.string_list,
    }
)
_OLD_SOURCE = go.struct({"Source": go.optional(_SPEC_CONFIG), "Alias": go.string, "Target": go.string})
_OLD_WASM = go.struct(
    {
        "EntryModule": go.optional(_OLD_SOURCE),
        "ImportModules": go.list_of(_OLD_SOURCE),
        "EntryPoint": go.string,
        "Parameters": go.string_list,
    }
)
_ENGINE_ENVIRONMENT = go.struct({"EntryModule": go.anything, "EnvironmentVariables": go.string_map})


def wasm_params(engine: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a WebAssembly task by their names, whatever case they were sent in.

    :raises godecode.BodyError: a value of the wrong type.
    """
    decoded: dict[str, Any] = _WASM(engine.get("Params"), "EngineSpec")
    return decoded


def modernised(task: Mapping[str, Any]) -> Mapping[str, Any]:
    """A task of a server before v1.7 as a newer one would hold it.

    :raises UnreadableParamsError: the engine's parameters cannot be read.
    """
    copied = json.loads(json.dumps({"InputSources": [], **task}))
    if copied["Engine"]["Type"].casefold() == "wasm":
        params = _ENGINE_ENVIRONMENT(copied["Engine"].get("Params"), "legacySpec")
        if isinstance(params["EntryModule"], Mapping):
            # Programs saw the engine's variables and not the task's.
            copied["Env"] = params["EnvironmentVariables"]
        _modernise_wasm(copied)
    return dict(copied)


def _modernise_wasm(task: dict[str, Any]) -> None:
    """Rewrite parameters of v1.6 and older, whose modules are input sources of their own, as v1.7+ servers do."""
    try:
        if wasm_params(task["Engine"])["EntryModule"]:
            return
    except go.BodyError:
        pass  # an object where v1.7 has a text: the old shape, or nothing that can be read
    try:
        old = _OLD_WASM(task["Engine"].get("Params"), "legacySpec")
    except go.BodyError as error:
        raise UnreadableParamsError(str(error)) from None
    entry, imports = old["EntryModule"], old["ImportModules"]
    if entry is None and not imports:
        return
    params = {"EntryModule": "", "Entrypoint": old["EntryPoint"], "ImportModules": [], "Parameters": old["Parameters"]}
    modules = [] if entry is None else [(entry, "/wasm/entry.wasm")]
    modules += [(module, f"/wasm/imports/module_{number}.wasm") for number, module in enumerate(imports)]
    for module, default in modules:
        module["Target"] = module["Target"] or default
        if spec_config_problems(module["Source"]):
            raise UnreadableParamsError("invalid module source")
        task["InputSources"].append(_input_source(module))
        if module is entry:
            params["EntryModule"] = module["Target"]
        else:
            params["ImportModules"].append(module["Target"])
    task["Engine"]["Params"] = json.loads(json.dumps(params))
