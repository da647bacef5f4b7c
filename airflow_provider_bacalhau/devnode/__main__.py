"""``python -m airflow_provider_bacalhau.devnode``: a node until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_provider_bacalhau.devnode import MISSING_EXTRA

_EXIT_SECONDS = 0.8
# Options that are not called as the settings are.
_OPTIONS = {"allow_local_paths": "--allow-local-path"}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_bacalhau.devnode",
        description="A Bacalhau node in one process. Prints one JSON line when it serves.",
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--emulate", default="v1.9.3", metavar="VERSION", help="server version to play")
    parser.add_argument(
        "--data-dir", metavar="DIR", help="keep jobs and results here; without it they go with the node"
    )
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="compute nodes of the emulated network")
    parser.add_argument(
        "--queue-backoff", type=float, default=1.0, metavar="SECONDS", help="between two looks at a queued job"
    )
    parser.add_argument(
        "--allow-local-path",
        dest="allow_local_paths",
        action="append",
        default=[],
        metavar="GLOB",
        help="host paths that jobs may read, with :rw at the end also write; can be repeated",
    )
    parser.add_argument(
        "--users",
        type=_users,
        default=[],
        metavar="FILE",
        help="JSON list of users, as the server's API.Auth.Users words them",
    )
    return parser.parse_args(arguments)


def _users(path: str) -> list[dict[str, Any]]:
    """The users that a file lists.

    :raises argparse.ArgumentTypeError: a file that cannot be read.
    """
    try:
        users: list[dict[str, Any]] = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from None
    return users


async def serve(options: argparse.Namespace) -> None:
    """Serve until a signal comes.

    :raises ValueError: options that cannot be met; :raises OSError: a port or folder that cannot be used.
    """
    from airflow_provider_bacalhau.devnode.server import NodeServer
    from airflow_provider_bacalhau.devnode.settings import NodeSettings

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = NodeServer(NodeSettings.checked(**vars(options)))
    await server.start()
    ready = {"api": server.url, "gateway": server.url, "emulates": server.emulation.version, "token": server.token}
    print(json.dumps(ready), flush=True)  # noqa: T201 - the one line that callers wait for
    await stop.wait()
    # A download that hangs in its socket cannot be ended; the process does not wait for it.
    watchdog = threading.Timer(_EXIT_SECONDS, os._exit, (0,))
    watchdog.daemon = True
    watchdog.start()
    await server.close()
    watchdog.cancel()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    :returns: exit code.
    """
    options = parse(arguments)
    if importlib.util.find_spec("wasmtime") is None:
        print(MISSING_EXTRA, file=sys.stderr)  # noqa: T201 - a command line
        return 2
    from airflow_provider_bacalhau.devnode.settings import SettingError

    try:
        asyncio.run(serve(options))
    except SettingError as error:
        option = _OPTIONS.get(error.setting) or "--" + error.setting.replace("_", "-")
        print(f"devnode: {option} {error.complaint}", file=sys.stderr)  # noqa: T201 - a command line
        return 2
    except (ValueError, OSError) as error:
        print(f"devnode: {error}", file=sys.stderr)  # noqa: T201 - a command line
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
