"""Settings that a node cannot have, and folders that another one has: refused in a line that says which."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
