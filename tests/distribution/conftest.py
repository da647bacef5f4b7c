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
        requirements = [AIRFLOWS[request.param], request.getfixturevalue("wheel")]
        # It is used once, so compiling all of it would not pay.
        _run([ROOT / ".ci" / "venv", folder / "venv", "--no-compile-bytecode", *requirements])
    answer = folder / "report.json"
    _run([python, REPORT, answer], cwd=folder, AIRFLOW_HOME=str(folder / "airflow"))
    read: dict[str, Any] = json.loads(answer.read_text())
    return read


def _run(command: list[str | Path], cwd: Path | None = None, **environment: str) -> None:
    # With the tools of this environment: uv is one of them.
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": tools, "PYTHON": sys.executable, **environment}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
