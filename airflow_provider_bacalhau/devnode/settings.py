"""What a node can be told, and what is wrong with the rest: one line that names the setting."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from airflow_provider_bacalhau.devnode.emulation import Emulation, emulation
from airflow_provider_bacalhau.devnode.inputs import read_allowed_path
from airflow_provider_bacalhau.devnode.records import SECOND
from airflow_provider_bacalhau.devnode.users import User, read_users

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


@dataclass(frozen=True)
class NodeSettings:
    """What a node was told, see :class:`.node.DevNode`, read and found good.

    :param folder: that outlives the node; None for one that does not.
    :param users: as the node checks them; ``user_entries`` are the same as they were given.
    """

    emulation: Emulation
    port: int
    nodes: int
    queue_backoff: float
    allowed_paths: list[str]
    users: Sequence[User]
    user_entries: Sequence[Mapping[str, Any]]
    folder: Path | None

    @classmethod
    def checked(
        cls,
        *,
        emulate: str,
        data_dir: object,
        nodes: object,
        queue_backoff: object,
        port: object,
        allow_local_paths: object,
        users: Sequence[Mapping[str, Any]],
    ) -> NodeSettings:
        """Read what a user gave.

        :raises SettingError: a setting that cannot be.
        :raises ValueError: a version that cannot be emulated, or users that it cannot have.
        """
        emulated = emulation(emulate)
        if users and not emulated.users:
            raise ValueError(f"{emulate} has no built-in users")
        return cls(
            emulated,
            _port(port),
            _nodes(nodes),
            _queue_backoff(queue_backoff),
            _allowed_paths(allow_local_paths),
            read_users(users),
            list(users),
            None if data_dir is None else _folder(data_dir),
        )


def _port(value: object) -> int:
    if not _is_whole(value) or not 0 <= value <= _LAST_PORT:
        raise SettingError("port", f"is a whole number from 0 to {_LAST_PORT}, not {value!r}")
    return value


def _nodes(value: object) -> int:
    if not _is_whole(value) or value < 1:
        raise SettingError("nodes", f"is a whole number, 1 or more, not {value!r}")
    return value


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _queue_backoff(value: object) -> float:
    # A server's durations are nanoseconds in 64 bits. With none at all the scheduler would do nothing but look.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value * SECOND < 1 << 63:
        raise SettingError("queue_backoff", f"is a number of seconds above 0 and below 9.2e9, not {value!r}")
    return value


def _folder(value: object) -> Path:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str) or not path or "\0" in path:
        raise SettingError("data_dir", f"is the path of a folder, not {value!r}")
    return Path(path)


def _allowed_paths(value: object) -> list[str]:
    globs = None if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    if globs is None or not all(isinstance(glob, str) for glob in globs):
        raise SettingError("allow_local_paths", f"is a list of path globs (str), not {value!r}")
    for glob in globs:
        try:
            read_allowed_path(glob)
        except ValueError as error:
            raise SettingError("allow_local_paths", str(error)) from None
    return globs
