"""Surroundings that all tests share. Airflow is imported by those that ask for it, never here."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_bacalhau.devnode import DevNode

ROOT = Path(__file__).parent.parent


def _give_airflow_a_home_of_its_own() -> None:
    """Airflow reads these while it is imported, so they are set before any test module is.

    A home for each process: pytest-xdist's workers would otherwise share, and lock, one SQLite file.
    """
    home = tempfile.mkdtemp(prefix="airflow-home-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    for name in [name for name in os.environ if name.startswith(("AIRFLOW_", "_AIRFLOW_", "BACALHAU_API_"))]:
        del os.environ[name]
    os.environ.update(
        AIRFLOW_HOME=home,
        AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "example_dags"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__UNIT_TEST_MODE="True",
        AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS="False",
        AIRFLOW__OPENLINEAGE__DISABLED="True",
        AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="False",
    )


_give_airflow_a_home_of_its_own()


@pytest.fixture(scope="session")
def workloads() -> Path:
    """The folder of WebAssembly modules that the example DAGs run."""
    return ROOT / "example_dags" / "workloads"


@pytest.fixture(scope="session")
def devnode() -> Iterator[DevNode]:
    """An embedded node with its defaults, shared by the tests of one process; a test looks only at jobs of its own."""
    from airflow_provider_bacalhau.devnode import DevNode

    with DevNode() as node:
        yield node
