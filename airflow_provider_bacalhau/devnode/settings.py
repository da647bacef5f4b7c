"""What a node can be told, and what is wrong with the rest: one line that names the setting."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeGuard

from airflow_provider_bacalhau.devnode.inputs import read_allowed_path
from airflow_provider_bacalhau.devnode.records import SECOND

_LAST_PORT = 65535


class SettingError(ValueError):
    """A setting that a node cannot have. The message begins with its name.

    :param setting: the keyword argument.
    :param complaint: the sentence that goes on from there.
    """

    def __init__(self, setting: str, complaint: str) -> None:
        super().__init__(f"{setting} {complaint}")
        self.setting = setting
        self.complaint = complaint


def check_port(value: object) -> int:
    """A port, 0 for a free one.

    :raises SettingError: it is none.
    """
    if not _is_whole(value) or not 0 <= value <= _LAST_PORT:
        raise SettingError("port", f"is a whole number from 0 to {_LAST_PORT}, not {value!r}")
    return value


def check_nodes(value: object) -> int:
    """How many compute nodes.

    :raises SettingError: it is none.
    """
    if not _is_whole(value) or value < 1:
        raise SettingError("nodes", f"is a whole number, 1 or more, not {value!r}")
    return value


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def check_seconds(setting: str, value: object) -> float:
    """A duration.

    :raises SettingError: it is none.
    """
    # A server's durations are nanoseconds in 64 bits. With none at all the scheduler would do nothing but look.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value * SECOND < 1 << 63:
        raise SettingError(setting, f"is a number of seconds above 0 and below 9.2e9, not {value!r}")
    return value


def check_folder(value: object) -> Path:
    """Where a node keeps its records.

    :raises SettingError: it is none.
    """
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str) or not path or "\0" in path:
        raise SettingError("data_dir", f"is the path of a folder, not {value!r}")
    return Path(path)


def check_allowed(value: object) -> list[str]:
    """Globs of host paths that jobs may read.

    :raises SettingError: it is none.
    """
    globs = None if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    if globs is None or not all(isinstance(glob, str) for glob in globs):
        raise SettingError("allow_local_paths", f"is a list of path globs (str), not {value!r}")
    for glob in globs:
        try:
            read_allowed_path(glob)
        except ValueError as error:
            raise SettingError("allow_local_paths", str(error)) from None
    return globs
