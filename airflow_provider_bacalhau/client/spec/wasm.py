"""What can be said of a WebAssembly module by a look at its bytes, without running it."""

from __future__ import annotations

_MAGIC = b"\0asm"
_CORE_MODULE = b"\x01\0\0\0"
_CUSTOM_SECTION = 0


def why_refused(module: bytes) -> tuple[str, str] | None:
    """Why every server since v1.3 would refuse to run the module, and the remedy; None when it would not.

    Servers read the module's ``name`` section, which compilers write and most release builds strip: without it an
    execution fails with ``Name section not found``. Sections are only stepped over here, never decoded; that the code
    itself is valid is the server's to say.
    """
    if module[:4] != _MAGIC:
        return "is not a WebAssembly module: it does not begin with `\\0asm`", "Compile it to the target wasm32-wasi."
    if module[4:8] != _CORE_MODULE:
        return (
            "is not a core WebAssembly module of version 1 (a component, perhaps)",
            "Compile it for WASI preview 1, as a module.",
        )
    try:
        named = _has_name_section(module)
    except _CutOff:
        return "is a WebAssembly module that is cut off or broken", "Build or fetch it again."
    if not named:
        return (
            "is a WebAssembly module without a `name` section, which Bacalhau refuses (`Name section not found`)",
            "Build it without stripping names: no `wasm-strip` or `-s`, `strip = false` for Rust, `wasm-opt -g`.",
        )
    return None


class _CutOff(Exception):
    """The module ends in the middle of something."""


def _has_name_section(module: bytes) -> bool:
    at = len(_MAGIC) + len(_CORE_MODULE)
    while at < len(module):
        kind = module[at]
        size, at = _read_u32(module, at + 1)
        end = at + size
        if end > len(module):
            raise _CutOff
        if kind == _CUSTOM_SECTION:
            length, start = _read_u32(module, at)
            if module[start : start + length] == b"name" and start + length <= end:
                return True
        at = end
    return False


def _read_u32(module: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number of at most 32 bits, and where the next thing begins."""
    value = 0
    for shift in range(0, 35, 7):
        if at >= len(module):
            raise _CutOff
        value |= (module[at] & 0x7F) << shift
        at += 1
        if module[at - 1] < 0x80:
            return value, at
    raise _CutOff
