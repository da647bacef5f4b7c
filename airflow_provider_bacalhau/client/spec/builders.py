"""Short spellings of the most common jobs, as plain dicts.

A DAG file calls these while Airflow reads it, so they import nothing, check nothing that a template may still change,
and hold no bytes: what they return goes through templates and into the serialized DAG.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypedDict, Unpack

Duration = int | float | timedelta
Spec = dict[str, Any]


class JobOptions(TypedDict, total=False):
    """What both kinds of jobs take.

    :param env: environment variables; names in upper case.
    :param publisher: where the results go: a type such as ``"ipfs"``, or a dict.
    :param outputs: folders to publish: their names below the root, or a dict of name to absolute path.
    :param inputs: input sources in the server's form; the operator's own ``inputs`` know shorter ones.
    :param resources: ``CPU``, ``Memory``, ``Disk``, ``GPU``.
    :param network: a type such as ``"Full"``, or a dict.
    :param name: the job's name.
    :param namespace: the job's namespace.
    :param type: ``batch`` (the default), ``ops``, ``service`` or ``daemon``.
    :param count: how many executions must complete; 1 by default.
    :param labels: labels of the job.
    :param constraints: on which nodes it may run: dicts of ``Key``, ``Operator`` and ``Values``.
    :param execution_timeout: limit of one execution, in seconds or as a timedelta.
    :param queue_timeout: limit of waiting for a node.
    :param total_timeout: limit of everything.
    """

    env: Mapping[str, str]
    publisher: str | Mapping[str, Any]
    outputs: Sequence[str] | Mapping[str, str]
    inputs: Sequence[Mapping[str, Any]]
    resources: Mapping[str, Any]
    network: str | Mapping[str, Any]
    name: str
    namespace: str
    type: str
    count: int
    labels: Mapping[str, str]
    constraints: Sequence[Mapping[str, Any]]
    execution_timeout: Duration
    queue_timeout: Duration
    total_timeout: Duration


_MODULE_TARGET = "/wasm/entry.wasm"


def local_file(path: str, target: str | None = None) -> Spec:
    """Marks a file beside the DAG, to be read when the task runs.

    ::

        wasm_job(local_file("wc.wasm"), ["/inputs", "/outputs/count.txt"])
        BacalhauSubmitJobOperator(..., inputs=[local_file("words.txt", "/inputs/words.txt")])

    :param path: relative to the folder of the DAG file, or absolute.
    :param target: where a task finds the file: its full path, name included.
    :returns: a source, or with a target an input source. All files of a job together may hold 7 MB.
    """
    source = {"Type": "local_file", "Params": {"Path": str(path)}}
    return source if target is None else {"Source": source, "Target": target}


def docker_job(
    image: str,
    command: str | Sequence[str] | None = None,
    *,
    entrypoint: Sequence[str] | None = None,
    working_directory: str | None = None,
    **options: Unpack[JobOptions],
) -> Spec:
    """A job that runs a Docker image.

    ::

        docker_job("alpine:3.20", "wc -w /inputs/* > /outputs/count.txt", outputs=["outputs"], publisher="ipfs")

    :param image: the image's name.
    :param command: a text is a line for ``/bin/sh -c``; a list holds the arguments of the image's entry point.
    :param entrypoint: replaces the image's entry point.
    :param working_directory: absolute path in the container.
    :param options: see :class:`JobOptions`.
    """
    _check_options("docker_job", options, ("image", "command", "entrypoint", "working_directory"))
    if isinstance(command, str):
        if entrypoint is not None:
            raise ValueError("A command in one text is run by /bin/sh; give a list of arguments with an entrypoint.")
        entrypoint, command = ["/bin/sh", "-c"], [command]
    params: Spec = {"Image": image}
    if entrypoint is not None:
        params["Entrypoint"] = _texts("entrypoint", entrypoint)
    if command is not None:
        params["Parameters"] = _texts("command", command)
    if working_directory is not None:
        params["WorkingDirectory"] = working_directory
    return _job({"Type": "docker", "Params": params}, **options)


def wasm_job(
    module: str | Mapping[str, Any],
    args: Sequence[str] = (),
    *,
    entrypoint: str = "_start",
    imports: Sequence[Mapping[str, Any]] = (),
    **options: Unpack[JobOptions],
) -> Spec:
    """A job that runs a WebAssembly module.

    ::

        wasm_job(local_file("wc.wasm"), ["/inputs", "/outputs/count.txt"], outputs=["outputs"], publisher="ipfs")

    :param module: :func:`local_file`, ``ipfs://CID``, an ``https://`` or a ``data:`` URL, a source
        (``{"Type", "Params"}``) or an input source (``{"Source", "Target"}``).
    :param args: arguments of the program.
    :param entrypoint: the function to call.
    :param imports: input sources of modules that the module imports.
    :param options: see :class:`JobOptions`.
    """
    _check_options("wasm_job", options, ("module", "args", "entrypoint", "imports"))
    entry = _input_source(module)
    params: Spec = {"EntryModule": entry["Target"], "Entrypoint": entrypoint, "Parameters": _texts("args", args)}
    if imports:
        params["ImportModules"] = [source["Target"] for source in imports]
    options["inputs"] = [entry, *imports, *_input_sources(options.get("inputs", ()))]
    return _job({"Type": "wasm", "Params": params}, **options)


def _check_options(builder: str, options: Mapping[str, Any], own: Sequence[str]) -> None:
    """Refuse what the builder does not take, as Python would, but by the name that the user called."""
    known = (*own, *JobOptions.__annotations__)
    for name in options:
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
            hint = f" Did you mean {near[0]!r}?" if near else f" It takes {', '.join(known)}."
            raise TypeError(f"{builder}() got an unexpected argument {name!r}.{hint}")


def _texts(name: str, given: Any) -> list[Any]:
    """A list of arguments. One text would be taken for a list of its letters, and sent so."""
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise TypeError(f"{name} has to be a list of texts, such as ['--fast', '/inputs'], and is {_kind(given)}.")
    return list(given)


def _mapping(name: str, given: Any, example: str) -> Spec:
    if not isinstance(given, Mapping):
        raise TypeError(f"{name} has to be a dict, such as {example}, and is {_kind(given)}.")
    return dict(given)


def _mappings(name: str, given: Any, example: str, hint: str = "") -> list[Spec]:
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise TypeError(f"{name} has to be a list of dicts, such as [{example}], and is {_kind(given)}.{hint}")
    items = list(given)
    for one in items:
        if not isinstance(one, Mapping):
            raise TypeError(f"{name} has to hold dicts, such as {example}, and holds {_kind(one)}.{hint}")
    return [dict(one) for one in items]


def _input_sources(given: Any) -> list[Spec]:
    example = "{'Source': {'Type': 'ipfs', 'Params': {'CID': '…'}}, 'Target': '/inputs'}"
    return _mappings("inputs", given, example, " Texts such as 'ipfs://CID' are for the operator's own inputs.")


def _kind(given: Any) -> str:
    """What was given instead, without its content, which may be a secret."""
    return {"str": "one text", "dict": "one dict"}.get(type(given).__name__, type(given).__name__)


def _input_source(module: str | Mapping[str, Any]) -> Spec:
    if isinstance(module, Mapping):
        return dict(module) if "Source" in module else {"Source": dict(module), "Target": _MODULE_TARGET}
    if module.startswith("ipfs://"):
        source = {"Type": "ipfs", "Params": {"CID": module.removeprefix("ipfs://")}}
    elif module.startswith("data:"):
        source = {"Type": "inline", "Params": {"URL": module}}
    elif module.startswith(("https://", "http://")):
        source = {"Type": "urlDownload", "Params": {"URL": module}}
    else:
        raise ValueError(
            f"{module[:80]!r} is no module. Give local_file('…'), 'ipfs://CID', an https:// or a data: URL."
        )
    return {"Source": source, "Target": _MODULE_TARGET}


def _job(
    engine: Spec,
    *,
    env: Mapping[str, str] | None = None,
    publisher: str | Mapping[str, Any] | None = None,
    outputs: Sequence[str] | Mapping[str, str] = (),
    inputs: Sequence[Mapping[str, Any]] = (),
    resources: Mapping[str, Any] | None = None,
    network: str | Mapping[str, Any] | None = None,
    name: str | None = None,
    namespace: str | None = None,
    type: str = "batch",  # noqa: A002 - the name of the key
    count: int = 1,
    labels: Mapping[str, str] | None = None,
    constraints: Sequence[Mapping[str, Any]] = (),
    execution_timeout: Duration | None = None,
    queue_timeout: Duration | None = None,
    total_timeout: Duration | None = None,
) -> Spec:
    limits = {
        "ExecutionTimeout": _seconds(execution_timeout),
        "QueueTimeout": _seconds(queue_timeout),
        "TotalTimeout": _seconds(total_timeout),
    }
    task = {
        "Name": "main",
        "Engine": engine,
        "Publisher": {"Type": publisher, "Params": {}} if isinstance(publisher, str) else publisher and dict(publisher),
        "Env": _mapping("env", env or {}, "{'MODE': 'fast'}"),
        "InputSources": _input_sources(inputs),
        "ResultPaths": _result_paths(outputs),
        "Resources": _mapping("resources", resources or {}, "{'CPU': '1', 'Memory': '512MB'}"),
        "Network": {"Type": network} if isinstance(network, str) else network and dict(network),
        "Timeouts": _without_nothing(limits),
    }
    job = {
        "Name": name,
        "Namespace": namespace,
        "Type": type,
        "Count": count,
        "Labels": _mapping("labels", labels or {}, "{'team': 'a'}"),
        "Constraints": _mappings("constraints", constraints, "{'Key': 'region', 'Operator': '=', 'Values': ['eu']}"),
        "Tasks": [_without_nothing(task)],
    }
    return _without_nothing(job)


def _result_paths(outputs: Sequence[str] | Mapping[str, str]) -> list[Spec]:
    if isinstance(outputs, Mapping):
        return [{"Name": name, "Path": path} for name, path in outputs.items()]
    paths = [outputs] if isinstance(outputs, str) else outputs
    return [{"Name": path.strip("/").rpartition("/")[2], "Path": f"/{path.strip('/')}"} for path in paths]


def _seconds(duration: Duration | None) -> int | None:
    if duration is None:
        return None
    return math.ceil(duration.total_seconds() if isinstance(duration, timedelta) else duration)


def _without_nothing(mapping: Spec) -> Spec:
    return {key: value for key, value in mapping.items() if value not in (None, "", [], {})}
