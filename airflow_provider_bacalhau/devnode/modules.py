"""WebAssembly modules before they are compiled: where they are, and what a real node refuses in them."""

from __future__ import annotations

import os
from pathlib import Path

_MAGIC, _VERSION = b"\0asm", b"\x01\0\0\0"
_PAGE = 65_536
_CUSTOM_SECTION, _MEMORY_SECTION = 0, 5


def module_path(root: Path, name: str) -> Path | None:
    """The file behind a module's target: a file, or a folder that holds exactly one ``.wasm``."""
    path = root / os.path.normpath("/" + name).lstrip("/")
    if path.is_dir():
        found = [entry for entry in path.iterdir() if entry.suffix == ".wasm" and entry.is_file()]
        return found[0] if len(found) == 1 else None
    return path if path.is_file() else None


def check_module(data: bytes, memory: int, *, needs_names: bool = True) -> None:
    """What a real node refuses before it compiles: wasmtime would take text, and modules without names.

    :param needs_names: refuse modules without a section of names, as from v1.3 on.
    :raises ValueError: with the server's words.
    """
    if data[:4] != _MAGIC:
        raise ValueError("invalid magic number")
    if data[4:8] != _VERSION:
        raise ValueError("invalid version header")
    has_names = False
    position = 8
    while position < len(data):
        kind = data[position]
        size, position = _leb128(data, position + 1)
        end = position + size
        if end > len(data):
            raise ValueError("unexpected EOF")
        if kind == _CUSTOM_SECTION:
            length, start = _leb128(data, position)
            has_names = has_names or data[start : start + length] == b"name"
        elif kind == _MEMORY_SECTION and memory:
            _check_memories(data, position, memory)
        position = end
    if needs_names and not has_names:
        raise ValueError("Name section not found")


def _check_memories(data: bytes, position: int, memory: int) -> None:
    count, position = _leb128(data, position)
    if count:
        minimum, _ = _leb128(data, position + 1)
        limit = -(-memory // _PAGE)
        if minimum > limit:
            raise ValueError(
                f"section memory: min {minimum} pages ({_pages(minimum)}) over limit of {limit} pages ({_pages(limit)})"
            )


def _pages(count: int) -> str:
    size = count * _PAGE
    for unit, scale in (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if size >= scale:
            return f"{size // scale} {unit}"
    return str(size)


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("unexpected EOF")
