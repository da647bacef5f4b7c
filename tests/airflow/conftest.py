"""Airflow for the tests that need its database."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """A migrated, empty metadata database in this process's AIRFLOW_HOME."""
    from airflow.utils.db import initdb

    initdb()
