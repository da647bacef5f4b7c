"""Files and folders as IPFS blocks, as a Bacalhau node's IPFS client adds a result: the same bytes give the same CID.

The recipe: UnixFS in dag-pb, CIDv0 (sha2-256), no raw leaves, chunks of 262,144 bytes, balanced trees of at most 174
links, links sorted by the bytes of their names, no mode or time, no wrapping folder. Hidden files are left out, empty
folders kept. A symbolic link becomes a UnixFS link that holds its target; it is never followed. What is neither file,
folder nor link is left out.

Reading is the other way round, from a block store that is trusted to hold what its names say. Folders are written
back without links, so that nothing that is written later can go through one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import libipld

CHUNK = 262_144
LINKS = 174
DEPTH_LIMIT = 128

_DIRECTORY, _FILE, _SYMLINK = 1, 2, 4
_RAW_CODEC, _DAG_PB_CODEC, _SHA2_256 = 0x55, 0x70, 0x12


class Blocks(Protocol):
    """Where blocks are kept, by the sha2-256 digest of their bytes."""

    def put(self, digest: bytes, data: bytes) -> None:
        """Keep a block."""

    def get(self, digest: bytes) -> bytes | None:
        """A block, or none."""


class InvalidCidError(ValueError):
    """A text that is no CID."""


class MissingBlockError(LookupError):
    """A block that the store does not have."""


class UnreadableError(ValueError):
    """A block that is no UnixFS file, folder or link, or a tree deeper than anyone makes."""


@dataclass(frozen=True, slots=True)
class Cid:
    """A content identifier of sha2-256, as far as a UnixFS store cares: its text and its digest."""

    text: str
    digest: bytes

    @classmethod
    def parse(cls, text: str) -> Cid:
        """Read a CID of version 0 or 1.

        :raises InvalidCidError: no CID, or not one of sha2-256 over dag-pb or raw bytes.
        """
        if "/" in text:  # libipld would read "/ipfs/<cid>", too
            raise InvalidCidError(f"not a bare CID: {text}")
        try:
            decoded = libipld.decode_cid(text)
        except ValueError as error:
            raise InvalidCidError(str(error)) from None
        if decoded["hash"]["code"] != _SHA2_256 or decoded["codec"] not in {_DAG_PB_CODEC, _RAW_CODEC}:
            raise InvalidCidError(f"unsupported CID {text}")
        return cls(text, decoded["hash"]["digest"])

    @classmethod
    def of(cls, digest: bytes) -> Cid:
        """The version 0 CID of a digest."""
        return cls(libipld.encode_multibase("z", bytes((_SHA2_256, 32)) + digest)[1:], digest)


@dataclass(frozen=True, slots=True)
class Link:
    """A named reference to another node; ``size`` is the bytes of all blocks below."""

    name: bytes
    digest: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Node:
    """A decoded block.

    :param size: bytes of the file; 0 for folders.
    :param data: the bytes that this block itself holds: a chunk, or the target of a link.
    :param sizes: bytes of the file below each link.
    """

    kind: int
    size: int = 0
    data: bytes = b""
    links: tuple[Link, ...] = ()
    sizes: tuple[int, ...] = field(default=())

    @property
    def is_directory(self) -> bool:
        """A folder."""
        return self.kind == _DIRECTORY

    @property
    def is_symlink(self) -> bool:
        """A link; ``data`` is its target."""
        return self.kind == _SYMLINK


# --- writing ---------------------------------------------------------------------------------------------------------


def add_path(blocks: Blocks, path: Path) -> Cid:
    """Add a file or a folder with all that is below it; at most a few chunks are in memory at a time.

    :returns: the CID of its root.
    :raises UnreadableError: neither file, folder nor link.
    """
    link = _add(blocks, os.fsencode(path), b"", 0)
    if link is None:
        raise UnreadableError("neither a file nor a folder")
    return Cid.of(link.digest)


def _add(blocks: Blocks, path: bytes, name: bytes, depth: int) -> Link | None:
    if depth > DEPTH_LIMIT:
        raise UnreadableError("folders are nested too deeply")
    if os.path.islink(path):  # noqa: PTH114 - names of results are bytes
        return _put(blocks, name, _unixfs(_SYMLINK, os.readlink(path)), [])  # noqa: PTH115 - the same
    if os.path.isdir(path):  # noqa: PTH112 - the same
        entries = sorted(entry for entry in os.listdir(path) if not entry.startswith(b"."))  # noqa: PTH208 - the same
        links = (_add(blocks, os.path.join(path, entry), entry, depth + 1) for entry in entries)  # noqa: PTH118
        return _put(blocks, name, _unixfs(_DIRECTORY), [link for link in links if link is not None])
    if os.path.isfile(path):  # noqa: PTH113 - the same
        return _add_file(blocks, path, name)
    return None


def _add_file(blocks: Blocks, path: bytes, name: bytes) -> Link:
    """A balanced tree, built from the left while the file is read: one open row of links for each level."""
    levels: list[list[tuple[Link, int]]] = [[]]

    def push(level: int, link: Link, size: int) -> None:
        if level == len(levels):
            levels.append([])
        levels[level].append((link, size))
        if len(levels[level]) == LINKS:
            close(level)

    def close(level: int) -> None:
        row, levels[level] = levels[level], []
        total = sum(size for _, size in row)
        content = _unixfs(_FILE, size=total, sizes=[size for _, size in row])
        push(level + 1, _put(blocks, b"", content, [link for link, _ in row]), total)

    with open(path, "rb") as file:  # noqa: PTH123 - names of results are bytes
        chunk = file.read(CHUNK)
        while True:
            following = file.read(CHUNK)
            push(0, _put(blocks, b"", _unixfs(_FILE, chunk, size=len(chunk)), []), len(chunk))
            if not following:
                break
            chunk = following
    level = 0
    while level + 1 < len(levels) or len(levels[level]) > 1:
        if levels[level]:
            close(level)
        level += 1
    root = levels[level][0][0]
    return Link(name, root.digest, root.size)


def _put(blocks: Blocks, name: bytes, content: bytes, links: list[Link]) -> Link:
    block = b"".join(_field(2, _pb_link(link)) for link in links) + _field(1, content)
    digest = hashlib.sha256(block).digest()
    blocks.put(digest, block)
    return Link(name, digest, len(block) + sum(link.size for link in links))


def _pb_link(link: Link) -> bytes:
    return _field(1, bytes((_SHA2_256, 32)) + link.digest) + _field(2, link.name) + b"\x18" + _varint(link.size)


def _unixfs(kind: int, data: bytes = b"", *, size: int | None = None, sizes: list[int] | None = None) -> bytes:
    content = b"\x08" + _varint(kind)
    if data:
        content += _field(2, data)
    if size is not None:
        content += b"\x18" + _varint(size)
    for part in sizes or ():
        content += b"\x20" + _varint(part)
    return content


def _field(number: int, data: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# --- reading ---------------------------------------------------------------------------------------------------------


def load(blocks: Blocks, digest: bytes) -> Node:
    """Decode one block.

    :raises MissingBlockError: not in the store; :raises UnreadableError: no UnixFS node.
    """
    block = blocks.get(digest)
    if block is None:
        raise MissingBlockError(f"block {Cid.of(digest).text} is not here")
    links: list[Link] = []
    content = b""
    for number, value in _fields(block):
        if number == 2 and isinstance(value, bytes):
            links.append(_read_link(value))
        elif number == 1 and isinstance(value, bytes):
            content = value
    return _read_unixfs(content, tuple(links))


def resolve(blocks: Blocks, root: Cid, segments: list[bytes]) -> list[Cid]:
    """The CIDs along a path, the root's first and the target's last.

    :raises MissingBlockError: a block is not in the store; :raises KeyError: with the name that is not there, and the
        text of the CID of the folder that lacks it.
    """
    trail = [root]
    for segment in segments:
        node = load(blocks, trail[-1].digest)
        link = next((link for link in node.links if link.name == segment), None) if node.is_directory else None
        if link is None:
            raise KeyError(segment.decode("utf-8", "replace"), trail[-1].text)
        trail.append(Cid.of(link.digest))
    return trail


def read_file(blocks: Blocks, digest: bytes, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """The bytes of a file (or the target of a link) from ``start`` up to ``stop``, chunk by chunk.

    :raises MissingBlockError: a block is not in the store.
    """
    node = load(blocks, digest)
    if not node.links:
        data = node.data[start:stop]
        if data:
            yield data
        return
    if len(node.sizes) != len(node.links):
        raise UnreadableError("a file whose parts have no sizes")
    offset = 0
    for link, size in zip(node.links, node.sizes, strict=True):
        end = offset + size
        if end > start and (stop is None or offset < stop):
            yield from read_file(blocks, link.digest, max(0, start - offset), None if stop is None else stop - offset)
        offset = end


def total_size(blocks: Blocks, digest: bytes, depth: int = 0) -> int:
    """Bytes of all files at and below a node; every folder must be in the store.

    :raises MissingBlockError: one is not.
    """
    node = load(blocks, digest)
    if not node.is_directory:
        return node.size
    if depth > DEPTH_LIMIT:
        raise UnreadableError("folders are nested too deeply")
    return sum(total_size(blocks, link.digest, depth + 1) for link in node.links)


def write_out(blocks: Blocks, digest: bytes, target: Path, depth: int = 0) -> None:
    """Write a node to a path that may exist only as a folder. Links and names that could lead elsewhere are left out.

    :raises MissingBlockError: a block is not in the store; :raises UnreadableError: nested too deeply.
    """
    node = load(blocks, digest)
    if node.is_symlink:
        return
    if not node.is_directory:
        with target.open("wb") as file:
            for data in read_file(blocks, digest):
                file.write(data)
        return
    if depth > DEPTH_LIMIT:
        raise UnreadableError("folders are nested too deeply")
    target.mkdir(exist_ok=True)
    for link in node.links:
        if link.name not in {b"", b".", b".."} and b"/" not in link.name and b"\0" not in link.name:
            write_out(blocks, link.digest, target / os.fsdecode(link.name), depth + 1)


def _read_link(data: bytes) -> Link:
    digest, name, size = b"", b"", 0
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            if value[:2] == bytes((_SHA2_256, 32)):
                digest = value[2:]
            elif len(value) == 36 and value[0] == 1 and value[2:4] == bytes((_SHA2_256, 32)):
                digest = value[4:]
            else:
                raise UnreadableError("a link that is no sha2-256 CID")
        elif number == 2 and isinstance(value, bytes):
            name = value
        elif number == 3 and isinstance(value, int):
            size = value
    return Link(name, digest, size)


def _read_unixfs(content: bytes, links: tuple[Link, ...]) -> Node:
    kind, size, data = -1, 0, b""
    sizes: list[int] = []
    for number, value in _fields(content):
        if isinstance(value, bytes):
            data = value if number == 2 else data
        elif number == 1:
            kind = value
        elif number == 3:
            size = value
        elif number == 4:
            sizes.append(value)
    if kind not in {_DIRECTORY, _FILE, _SYMLINK}:
        raise UnreadableError(f"no UnixFS file, folder or link (type {kind})")
    return Node(kind, size if kind == _FILE else 0, data, links, tuple(sizes))


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        value, position = _read_varint(data, position)
        if key & 7 == 0:
            yield key >> 3, value
        elif key & 7 == 2 and position + value <= len(data):
            yield key >> 3, data[position : position + value]
            position += value
        else:
            raise UnreadableError("a block that is no dag-pb")


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise UnreadableError("a block that is no dag-pb")
