"""CPU, memory, disk and GPU: how a job asks for them and how the server words them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

_UNITS = {
    "": 1,
    "b": 1,
    **{f"{prefix}{tail}": 1000 ** (n + 1) for n, prefix in enumerate("kmgtpe") for tail in ("", "b")},
    **{f"{prefix}{tail}": 1024 ** (n + 1) for n, prefix in enumerate("kmgtpe") for tail in ("i", "ib")},
}
_BYTES = re.compile(r"([0-9]+(?:[.,][0-9]+)*)([a-z]*)")


@dataclass(frozen=True, slots=True)
class Resources:
    """Amounts: CPU in cores, memory and disk in bytes."""

    cpu: float = 0.0
    memory: int = 0
    disk: int = 0
    gpu: int = 0

    def __add__(self, other: Resources) -> Resources:
        """Both together."""
        return Resources(self.cpu + other.cpu, self.memory + other.memory, self.disk + other.disk, self.gpu + other.gpu)

    def __sub__(self, other: Resources) -> Resources:
        """What is left; never below nothing."""
        return Resources(
            max(0.0, self.cpu - other.cpu),
            max(0, self.memory - other.memory),
            max(0, self.disk - other.disk),
            max(0, self.gpu - other.gpu),
        )

    def times(self, factor: float) -> Resources:
        """A multiple, bytes rounded down."""
        return Resources(self.cpu * factor, int(self.memory * factor), int(self.disk * factor), int(self.gpu * factor))

    def fits(self, room: Resources) -> bool:
        """No amount is larger than in ``room``; CPU to a millionth of a core, for sums of tenths are inexact."""
        return (
            self.cpu <= room.cpu + 1e-6
            and self.memory <= room.memory
            and self.disk <= room.disk
            and self.gpu <= room.gpu
        )

    def __str__(self) -> str:
        """As the server words it in "node busy with available capacity"."""
        return f"{{CPU: {self.cpu:.2f}, Memory: {humanize(self.memory)}, Disk: {humanize(self.disk)}, GPU: {self.gpu}}}"

    def as_json(self) -> dict[str, Any]:
        """Wire form; what is zero is left out."""
        cpu = round(self.cpu, 6)
        pairs = {
            "CPU": int(cpu) if cpu.is_integer() else cpu,
            "Memory": self.memory,
            "Disk": self.disk,
            "GPU": self.gpu,
        }
        return {key: value for key, value in pairs.items() if value}


def humanize(count: int) -> str:
    """Bytes as the server words them: ``20 GB``, ``1.5 GB``."""
    if count < 10:
        return f"{count} B"
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB", "PB", "EB"):  # noqa: B007 - the unit at which the loop stops is used
        if value < 1000:
            break
        value /= 1000
    return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"


def parse_cpu(text: str) -> float:
    """``500m`` or ``0.5`` as cores.

    :raises ValueError: neither.
    """
    number, scale = (text[:-1], 1000) if text.endswith("m") else (text, 1)
    try:
        value = Decimal(number)
    except InvalidOperation:
        raise ValueError(text) from None
    if not value.is_finite():
        raise ValueError(text)
    return float(value / scale)


def parse_bytes(text: str) -> int:
    """``512mb`` or ``1gib`` as bytes, text already in lower case without blanks.

    :raises ValueError: no such size.
    """
    match = _BYTES.fullmatch(text)
    if match is None or match[2] not in _UNITS:
        raise ValueError(text)
    return int(Decimal(match[1].replace(",", "")) * _UNITS[match[2]])


def parse_resources(config: Mapping[str, str]) -> Resources:
    """A task's ``Resources`` as amounts.

    :raises ValueError: with the server's own text, one line for each wrong amount.
    """
    gpu = config.get("GPU", "")
    if gpu and not re.fullmatch(r"[0-9]+", gpu):
        raise ValueError(f"invalid GPU value: {gpu}")
    problems: list[str] = []
    amounts: dict[str, float] = {"CPU": 0.0, "Memory": 0, "Disk": 0}
    for key, word, parse in (
        ("CPU", "CPU", parse_cpu),
        ("Memory", "memory", parse_bytes),
        ("Disk", "disk", parse_bytes),
    ):
        text = config.get(key, "")
        try:
            amounts[key] = parse(text) if text else 0
        except ValueError:
            problems.append(f"invalid {word} value: {text}")
    if not problems and amounts["CPU"] < 0:
        problems.append(f"invalid CPU value: {amounts['CPU']:f}")
    if problems:
        raise ValueError("\n".join(problems))
    return Resources(amounts["CPU"], int(amounts["Memory"]), int(amounts["Disk"]), int(gpu or 0))
