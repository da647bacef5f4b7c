"""Job specifications: reading and checking what users write, and writing what servers read.

A submission goes through these steps, each a pure function (but for reading files)::

    spec = read_job_spec(job_spec, base=folder)             # or without a folder, and embed_local_files before
    items = parse_inputs(embed_local_files(inputs, base=folder))
    ...                                                     # jobs, results and paths among them are looked up
    spec = spec.with_inputs(assign_mounts(ready, spec))
    spec = merge_env(spec, env)
    spec = apply_timeouts(spec, wait_timeout=timeout)
    name = spec_hash(spec.to_wire())
    body = spec.to_wire(module_sources=capabilities.module_sources)

What is wrong raises :class:`~airflow_provider_bacalhau.client.errors.InvalidJobSpec`, before anything is sent.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client.spec.builders import JobOptions, docker_job, local_file, wasm_job
    from airflow_provider_bacalhau.client.spec.files import embed_local_files
    from airflow_provider_bacalhau.client.spec.inputs import (
        Input,
        IpfsPathInput,
        JobInput,
        ReadyInput,
        ResultInput,
        parse_inputs,
    )
    from airflow_provider_bacalhau.client.spec.legacy import parse_input_volumes
    from airflow_provider_bacalhau.client.spec.models import (
        Constraint,
        InputSource,
        JobSpec,
        Network,
        Resources,
        ResultPath,
        SpecConfig,
        TaskSpec,
        Timeouts,
    )
    from airflow_provider_bacalhau.client.spec.mounts import assign_mounts
    from airflow_provider_bacalhau.client.spec.read import merge_env, read_job_spec, require_waitable
    from airflow_provider_bacalhau.client.spec.timeouts import apply_timeouts
    from airflow_provider_bacalhau.client.spec.wire import SPEC_HASH_VERSION, spec_hash

# Names are resolved on first use: DAG files import the builders, and pydantic costs 100 ms.
_HOMES = {
    "Constraint": "models",
    "Input": "inputs",
    "InputSource": "models",
    "IpfsPathInput": "inputs",
    "JobInput": "inputs",
    "JobOptions": "builders",
    "JobSpec": "models",
    "Network": "models",
    "ReadyInput": "inputs",
    "Resources": "models",
    "ResultInput": "inputs",
    "ResultPath": "models",
    "SPEC_HASH_VERSION": "wire",
    "SpecConfig": "models",
    "TaskSpec": "models",
    "Timeouts": "models",
    "apply_timeouts": "timeouts",
    "assign_mounts": "mounts",
    "docker_job": "builders",
    "embed_local_files": "files",
    "local_file": "builders",
    "merge_env": "read",
    "parse_input_volumes": "legacy",
    "parse_inputs": "inputs",
    "read_job_spec": "read",
    "require_waitable": "read",
    "spec_hash": "wire",
    "wasm_job": "builders",
}

__all__ = [
    "SPEC_HASH_VERSION",
    "Constraint",
    "Input",
    "InputSource",
    "IpfsPathInput",
    "JobInput",
    "JobOptions",
    "JobSpec",
    "Network",
    "ReadyInput",
    "Resources",
    "ResultInput",
    "ResultPath",
    "SpecConfig",
    "TaskSpec",
    "Timeouts",
    "apply_timeouts",
    "assign_mounts",
    "docker_job",
    "embed_local_files",
    "local_file",
    "merge_env",
    "parse_input_volumes",
    "parse_inputs",
    "read_job_spec",
    "require_waitable",
    "spec_hash",
    "wasm_job",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
