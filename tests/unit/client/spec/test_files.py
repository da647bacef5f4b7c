from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.spec import (
    docker_job,
    embed_local_files,
    local_file,
    parse_inputs,
    read_job_spec,
    spec_hash,
    wasm_job,
)
from airflow_provider_bacalhau.client.spec.files import MAX_BYTES


def url(data: bytes, media_type: str = "application/octet-stream") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def inline(data: bytes) -> dict[str, Any]:
    return {"Type": "inline", "Params": {"URL": url(data)}}


def test_a_file_beside_the_dag_becomes_an_inline_source(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one two")
    assert embed_local_files(local_file("a.txt"), base=tmp_path) == inline(b"one two")
    assert embed_local_files(local_file(str(tmp_path / "a.txt")), base=Path("/nowhere")) == inline(b"one two")


def test_files_are_found_wherever_they_are_named_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    value = {
        "x": [local_file("a", "/a"), ({"type": "LOCAL_FILE", "params": {"path": "a"}},)],
        "y": "local_file",
        "z": 1,
    }
    assert embed_local_files(value, base=tmp_path) == {
        "x": [{"Source": inline(b"a"), "Target": "/a"}, (inline(b"a"),)],
        "y": "local_file",
        "z": 1,
    }


def test_a_pair_of_key_and_value_is_still_one_afterwards(tmp_path: Path) -> None:
    with pytest.raises(InvalidJobSpec, match="pair of key and value"):
        parse_inputs(embed_local_files(("key", {"type": "ipfs"}), base=tmp_path))


def test_a_value_that_holds_itself_is_refused(tmp_path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidJobSpec, match="nested more than 64 levels"):
        embed_local_files(endless, base=tmp_path)


def test_a_module_is_recognised_by_its_bytes_and_not_by_its_name(tmp_path: Path, word_count: bytes) -> None:
    (tmp_path / "module").write_bytes(word_count)
    assert embed_local_files(local_file("module"), base=tmp_path)["Params"]["URL"] == url(
        word_count, "application/wasm"
    )


def test_a_packed_file_stays_the_file_that_it_is(tmp_path: Path) -> None:
    # As application/gzip the server would unpack it into a folder.
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b")
    assert embed_local_files(local_file("a.tar.gz"), base=tmp_path) == inline(b"\x1f\x8b")


def test_a_specification_is_read_first_or_its_files_are(tmp_path: Path, word_count: bytes) -> None:
    (tmp_path / "wc.wasm").write_bytes(word_count)
    job = wasm_job(local_file("wc.wasm"))
    both = read_job_spec(job, base=tmp_path), embed_local_files(read_job_spec(job), base=tmp_path)
    assert both[0].to_wire() == both[1].to_wire()


def test_a_stripped_module_beside_the_dag_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wasm").write_bytes(b"\0asm\x01\0\0\0")
    job = wasm_job(local_file("a.wasm"))
    for read in (
        lambda: read_job_spec(job, base=tmp_path),
        lambda: embed_local_files(read_job_spec(job), base=tmp_path),
    ):
        with pytest.raises(InvalidJobSpec, match=r"InputSources\[0\].Source.Params.URL: .* `name` section"):
            read()


def test_the_bytes_of_a_file_count_in_the_hash(tmp_path: Path) -> None:
    job = docker_job("alpine", inputs=[local_file("a.txt", "/a.txt")])
    hashes = set()
    for data in (b"one", b"two"):
        (tmp_path / "a.txt").write_bytes(data)
        hashes.add(spec_hash(read_job_spec(job, base=tmp_path).to_wire()))
    assert len(hashes) == 2


def test_a_file_that_is_not_there_is_named_with_its_place_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidJobSpec, match=f"There is no file 'no.wasm' in the folder {tmp_path}") as caught:
        read_job_spec({"job": wasm_job(local_file("no.wasm"))}, base=tmp_path)
    assert caught.value.place == "job.Tasks[0].InputSources[0].Source"
    with pytest.raises(InvalidJobSpec, match=r"^inputs\[1\]\.Source: There is no file"):
        embed_local_files(["x", local_file("no", "/no")], base=tmp_path, place="inputs")


@pytest.mark.parametrize("path", ["nowhere", "/dev/zero"])
def test_what_is_no_file_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(InvalidJobSpec, match="There is no file"):
        embed_local_files(local_file(path), base=tmp_path)


@pytest.mark.parametrize("path", [".", "folder"])
def test_a_folder_is_said_to_be_one(tmp_path: Path, path: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidJobSpec, match=f"'{path}' .*is a folder, and only files travel with a job"):
        embed_local_files(local_file(path), base=tmp_path)


def test_files_that_do_not_fit_into_a_request_are_refused_together(tmp_path: Path) -> None:
    (tmp_path / "half").write_bytes(bytes(MAX_BYTES // 2))
    (tmp_path / "rest").write_bytes(bytes(MAX_BYTES // 2 + 1))
    assert embed_local_files([local_file("half"), local_file("half")], base=tmp_path)
    with pytest.raises(InvalidJobSpec, match=r"larger than 7 MB.* Publish it to IPFS or S3") as caught:
        embed_local_files([local_file("half"), local_file("rest")], base=tmp_path, place="inputs")
    assert caught.value.place == "inputs[1]"
    assert len(url(bytes(MAX_BYTES))) < 10_000_000


def test_a_file_is_an_input(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a")
    (one,) = parse_inputs(embed_local_files([local_file("a.txt", "/inputs/a.txt")], base=tmp_path))
    assert (one.target, one.source) == ("/inputs/a.txt", inline(b"a"))  # type: ignore[union-attr]


def test_the_folder_may_be_given_as_text(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("one")
    embedded = embed_local_files(local_file("words.txt"), base=str(tmp_path))
    assert embedded == embed_local_files(local_file("words.txt"), base=tmp_path)
