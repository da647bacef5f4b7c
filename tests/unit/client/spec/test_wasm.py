from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.spec import read_job_spec
from airflow_provider_bacalhau.client.spec.wasm import why_refused

HEADER = b"\0asm\x01\0\0\0"
TYPES = b"\x01\x01\x00"  # an empty section of types
NAMES = b"\x00\x05\x04name"  # an empty `name` section
PRODUCERS = b"\x00\x0a\x09producers"


def inline(data: bytes, media_type: str = "application/wasm") -> dict[str, Any]:
    return {"Type": "inline", "Params": {"URL": f"data:{media_type};base64,{base64.b64encode(data).decode()}"}}


def new_shape(source: dict[str, Any]) -> dict[str, Any]:
    engine = {"Type": "wasm", "Params": {"EntryModule": "/m.wasm"}}
    return {"Type": "batch", "Tasks": [{"Engine": engine, "InputSources": [{"Source": source, "Target": "/m.wasm"}]}]}


def old_shape(source: dict[str, Any]) -> dict[str, Any]:
    engine = {"Type": "wasm", "Params": {"EntryModule": {"Source": source}}}
    return {"Type": "batch", "Tasks": [{"Engine": engine}]}


def import_shape(source: dict[str, Any]) -> dict[str, Any]:
    entry = {"Source": inline(HEADER + NAMES)}
    engine = {"Type": "wasm", "Params": {"EntryModule": entry, "ImportModules": [{"Source": source}]}}
    return {"Type": "batch", "Tasks": [{"Engine": engine}]}


@pytest.mark.parametrize("module", [HEADER + NAMES, HEADER + TYPES + PRODUCERS + NAMES, HEADER + NAMES + PRODUCERS])
def test_a_module_with_names_is_let_through(module: bytes) -> None:
    assert why_refused(module) is None


def test_a_real_module_is_let_through(word_count: bytes) -> None:
    assert why_refused(word_count) is None


REFUSED = [
    (b"", "is not a WebAssembly module"),
    (b"\x7fELF" + bytes(60), "is not a WebAssembly module"),
    (b"\0asm", "is not a core WebAssembly module"),
    (b"\0asm\x0d\0\x01\0" + NAMES, "is not a core WebAssembly module"),
    (HEADER, "without a `name` section"),
    (HEADER + TYPES + PRODUCERS, "without a `name` section"),
    (HEADER + TYPES[:-1], "cut off or broken"),
    (HEADER + NAMES[:-1], "cut off or broken"),
    (HEADER + b"\x00", "cut off or broken"),
    (HEADER + b"\x00\xff\xff\xff\xff\xff\x0f", "cut off or broken"),
    (HEADER + b"\x01\x05\x00\x00\x00", "cut off or broken"),
]


@pytest.mark.parametrize(("module", "message"), REFUSED)
def test_a_module_that_no_server_would_run_is_refused_with_the_reason(module: bytes, message: str) -> None:
    refused = why_refused(module)
    assert refused is not None
    assert message in refused[0]
    assert refused[1]


@given(st.binary(max_size=64))
def test_no_bytes_make_the_check_fail(data: bytes) -> None:
    why_refused(HEADER + data)


@pytest.mark.parametrize(
    ("shape", "place"),
    [
        (new_shape, "Tasks[0].InputSources[0].Source.Params.URL"),
        (old_shape, "Tasks[0].Engine.Params.EntryModule.Source.Params.URL"),
        (import_shape, "Tasks[0].Engine.Params.ImportModules[0].Source.Params.URL"),
    ],
)
def test_a_stripped_module_is_refused_where_it_stands(
    shape: Callable[[dict[str, Any]], dict[str, Any]], place: str
) -> None:
    with pytest.raises(InvalidJobSpec, match="Name section not found") as caught:
        read_job_spec(shape(inline(HEADER)))
    assert caught.value.place == place
    assert "wasm-opt -g" in caught.value.hint
    read_job_spec(shape(inline(HEADER + NAMES)))


def test_a_packed_folder_with_a_module_is_not_looked_into() -> None:
    assert read_job_spec(new_shape(inline(b"\x1f\x8b...", "application/gzip")))


def test_inputs_that_are_no_modules_are_not_looked_into() -> None:
    job = new_shape(inline(HEADER + NAMES))
    job["Tasks"][0]["InputSources"].append({"Source": inline(b"text"), "Target": "/text"})
    assert read_job_spec(job)
