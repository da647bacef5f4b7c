"""Settings that a node cannot have, and folders that another one has: refused in a line that says which."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bacalhau.devnode import DevNode

ROOT = Path(__file__).parents[3]


def refusal(*arguments: str) -> str:
    """What the command says when it does not serve."""
    refused = subprocess.run(
        [sys.executable, "-m", "airflow_provider_bacalhau.devnode", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=30,
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    return refused.stderr


def test_a_folder_that_a_node_serves_from_is_refused_to_a_second_process(tmp_path: Path) -> None:
    with DevNode(data_dir=tmp_path):
        assert refusal("--data-dir", str(tmp_path)) == f"devnode: another node serves from the data folder {tmp_path}\n"


def test_a_folder_that_a_node_serves_from_is_refused_in_the_same_process(tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(tmp_path / "data")
    with DevNode(data_dir=tmp_path / "data") as node:
        for name in ("data", "alias"):
            with pytest.raises(OSError, match=f"another node serves from the data folder {tmp_path / name}$"):
                DevNode(data_dir=tmp_path / name).start()
        assert node.api


def test_a_folder_is_free_again_after_a_start_that_failed(tmp_path: Path) -> None:
    with DevNode() as other:
        taken = int(other.api.rpartition(":")[2])
        with pytest.raises(OSError, match="address already in use"):
            DevNode(data_dir=tmp_path, port=taken).start()
    with DevNode(data_dir=tmp_path) as node:
        assert node.api


WRONG_OPTIONS = [
    (("--port", "99999"), "--port is a whole number from 0 to 65535, not 99999"),
    (("--port", "-1"), "--port is a whole number from 0 to 65535, not -1"),
    (("--nodes", "0"), "--nodes is a whole number, 1 or more, not 0"),
    (("--queue-backoff", "nan"), "--queue-backoff is a number of seconds above 0 and below 9.2e9, not nan"),
    (("--data-dir", ""), "--data-dir is the path of a folder, not ''"),
    (("--allow-local-path", "relative/*"), "--allow-local-path takes absolute paths, not 'relative/*'"),
]


@pytest.mark.parametrize(("arguments", "complaint"), WRONG_OPTIONS)
def test_an_option_that_cannot_be_is_refused_by_its_name(arguments: tuple[str, str], complaint: str) -> None:
    assert refusal(*arguments) == f"devnode: {complaint}\n"


WRONG_SETTINGS = [
    ("port", 65536, "a whole number from 0 to 65535"),
    ("port", "8080", "a whole number from 0 to 65535"),
    ("nodes", 0, "a whole number, 1 or more"),
    ("nodes", 1.5, "a whole number, 1 or more"),
    ("nodes", True, "a whole number, 1 or more"),
    ("queue_backoff", 0, "a number of seconds above 0"),
    ("queue_backoff", 1e-10, "a number of seconds above 0"),
    ("queue_backoff", float("nan"), "a number of seconds above 0"),
    ("queue_backoff", 10**400, "a number of seconds above 0"),
    ("queue_backoff", "1s", "a number of seconds above 0"),
    ("data_dir", 5, "the path of a folder"),
    ("data_dir", b"/tmp", "the path of a folder"),
    ("data_dir", "a\0b", "the path of a folder"),
    ("allow_local_paths", "/data/*", "a list of path globs (str), not '/data/*'"),
    ("allow_local_paths", None, "a list of path globs (str), not None"),
    ("allow_local_paths", [Path("/data")], "a list of path globs (str)"),
    ("allow_local_paths", ["/data/*", "~/data:rw"], "absolute paths, not '~/data:rw'"),
    ("allow_local_paths", [":rw"], "absolute paths, not ':rw'"),
]


@pytest.mark.parametrize(("setting", "value", "complaint"), WRONG_SETTINGS)
def test_a_setting_that_cannot_be_is_refused_by_its_name(setting: str, value: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{setting} (is|takes) {re.escape(complaint)}"):
        DevNode(**{setting: value})
