"""The block format: CIDs as a real node's IPFS gives them, reading back, hostile trees."""

from __future__ import annotations

import contextlib
import os
import string
import tempfile
from pathlib import Path

import aleph_cid
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_bacalhau.devnode import unixfs
from airflow_provider_bacalhau.devnode.blocks import BlockStore
from airflow_provider_bacalhau.devnode.unixfs import CHUNK, LINKS, Cid

names = st.text(string.ascii_letters + string.digits + "_- äß☃", min_size=1, max_size=40).filter(
    lambda n: n.strip() == n
)
files = st.binary(max_size=600)
trees = st.recursive(
    st.dictionaries(names, files, min_size=1, max_size=6),
    lambda inner: st.dictionaries(names, files | inner, min_size=1, max_size=6),
    max_leaves=12,
)


def build(folder: Path, tree: dict[str, object]) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in tree.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            assert isinstance(content, dict)
            build(folder / name, content)


@pytest.fixture
def blocks(tmp_path: Path) -> BlockStore:
    return BlockStore(tmp_path / "blocks")


@settings(max_examples=60, deadline=None)
@given(trees)
def test_random_trees_get_the_cid_of_another_implementation_and_come_back_whole(tree: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        source, copy = Path(temporary, "source"), Path(temporary, "copy")
        build(source, tree)
        blocks = BlockStore(Path(temporary, "blocks"))
        cid = unixfs.add_path(blocks, source)
        assert cid.text == aleph_cid.hash_folder(str(source), cid_version=0)
        unixfs.write_out(blocks, cid.digest, copy)
        assert contents(copy) == contents(source)


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, CHUNK * LINKS, CHUNK * LINKS + 1])
def test_files_of_any_size_get_the_cid_of_another_implementation(tmp_path: Path, blocks: BlockStore, size: int) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(os.urandom(1024) * (size // 1024) + b"x" * (size % 1024))
    cid = unixfs.add_path(blocks, folder)
    assert cid.text == aleph_cid.hash_folder(str(folder), cid_version=0)
    file = unixfs.resolve(blocks, cid, [b"file"])[-1]
    whole = (folder / "file").read_bytes()
    assert b"".join(unixfs.read_file(blocks, file.digest)) == whole
    assert b"".join(unixfs.read_file(blocks, file.digest, 5, CHUNK + 7)) == whole[5 : CHUNK + 7]


def test_an_empty_file_and_an_empty_folder_are_the_well_known_nodes(tmp_path: Path, blocks: BlockStore) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert unixfs.add_path(blocks, tmp_path / "file").text == "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"
    assert unixfs.add_path(blocks, tmp_path / "folder").text == "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"


def test_hidden_files_are_left_out_and_empty_folders_kept(tmp_path: Path, blocks: BlockStore) -> None:
    build(tmp_path / "source", {"a": b"1", ".hidden": b"2", "empty": {}})
    root = unixfs.load(blocks, unixfs.add_path(blocks, tmp_path / "source").digest)
    assert [link.name for link in root.links] == [b"a", b"empty"]


def test_a_link_in_a_result_is_stored_as_a_link_and_never_followed(tmp_path: Path, blocks: BlockStore) -> None:
    (tmp_path / "secret").write_text("of the host")
    build(tmp_path / "source", {"a": b"1"})
    (tmp_path / "source" / "link").symlink_to(tmp_path / "secret")
    cid = unixfs.add_path(blocks, tmp_path / "source")
    link = unixfs.load(blocks, unixfs.resolve(blocks, cid, [b"link"])[-1].digest)
    assert link.is_symlink
    assert link.data == os.fsencode(tmp_path / "secret")
    unixfs.write_out(blocks, cid.digest, tmp_path / "copy")
    assert contents(tmp_path / "copy") == {"a": b"1"}


@pytest.mark.parametrize("name", [b"..", b".", b"", b"a/b", b"a\0b"])
def test_names_that_lead_elsewhere_are_not_written(tmp_path: Path, blocks: BlockStore, name: bytes) -> None:
    (tmp_path / "file").write_text("x")
    file = unixfs.add_path(blocks, tmp_path / "file")
    folder = unixfs._put(blocks, b"", unixfs._unixfs(1), [unixfs.Link(name, file.digest, 1)])
    unixfs.write_out(blocks, folder.digest, tmp_path / "copy")
    assert contents(tmp_path / "copy") == {}


def test_a_missing_block_is_told_by_its_cid(blocks: BlockStore) -> None:
    cid = Cid.parse("QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG")
    with pytest.raises(unixfs.MissingBlockError, match=cid.text):
        unixfs.load(blocks, cid.digest)


@pytest.mark.parametrize("text", ["", "not-a-cid", "Qm", "/ipfs/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG"])
def test_what_is_no_cid_is_refused(text: str) -> None:
    with pytest.raises(unixfs.InvalidCidError):
        Cid.parse(text)


def test_both_versions_of_a_cid_name_the_same_block() -> None:
    old = Cid.parse("QmQuBpy4mRYejBDGW2Nx1mzcHsTbBCTwTCEW3q95SQRFqB")
    new = Cid.parse("bafybeibgbustfqbf7no7tvqxaoevdqfka6p6prp6ot5vw2rgdevygqi4wi")
    assert old.digest == new.digest
    assert Cid.of(new.digest).text == old.text


@given(st.binary(max_size=80))
def test_any_bytes_are_a_node_or_an_error(data: bytes) -> None:
    class One:
        def put(self, digest: bytes, data: bytes) -> None: ...

        def get(self, digest: bytes) -> bytes | None:
            return data

    with contextlib.suppress(unixfs.UnreadableError):
        assert unixfs.load(One(), b"").kind in {1, 2, 4}
