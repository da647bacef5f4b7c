"""The built wheel, and Airflow environments that hold it and nothing of the development tools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
REPORT = Path(__file__).parent / "registry_report.py"

EDITABLE = "editable"
"""The environment that these tests run in, where ``make`` installed the tree itself."""

AIRFLOWS = {"airflow-3.3": "apache-airflow==3.3.*", "airflow-2.11": "apache-airflow==2.11.*"}
"""Environments to install the wheel into, each with the requirement that stands beside it and without constraints."""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    _run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT])
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def wheel_files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="session", params=[EDITABLE, *AIRFLOWS])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Airflow says of the provider in one environment, see ``registry_report.py``."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == EDITABLE:
        python = Path(sys.executable)
    else:
        python = folder / "venv" / "bin" / "python"
        uv = [sys.executable, "-m", "uv", "--quiet"]
        _run([*uv, "venv", "--python", sys.executable, folder / "venv"])
        requirements = [AIRFLOWS[request.param], request.getfixturevalue("wheel")]
        _run([*uv, "pip", "install", "--python", python, *requirements])
    answer = folder / "report.json"
    _run([python, REPORT, answer], cwd=folder, home=folder / "airflow")
    read: dict[str, Any] = json.loads(answer.read_text())
    return read


def _run(command: list[str | Path], cwd: Path | None = None, home: Path | None = None) -> None:
    environment = {**os.environ, "AIRFLOW_HOME": str(home)} if home else None
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
