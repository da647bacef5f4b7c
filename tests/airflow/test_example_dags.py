"""The DAGs that the project shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Network, TaskRun

EXAMPLES = Path(__file__).parents[2] / "example_dags"


def test_all_of_them_are_read_by_airflow(airflow_database: None) -> None:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 2 and early 3
        from airflow.models.dagbag import DagBag

    bag = DagBag(dag_folder=str(EXAMPLES))
    assert bag.import_errors == {}
    assert "word_count_chain" in bag.dag_ids


@pytest.fixture
def expected() -> int:
    """The words of both texts, as Python counts them."""
    return sum(len(path.read_text().split()) for path in (EXAMPLES / "texts").glob("*.txt"))


def test_word_count_chain_counts_right(
    network: Network, run_dag: Callable[..., dict[str, TaskRun]], expected: int
) -> None:
    ran = run_dag(EXAMPLES / "word_count_chain.py")
    assert {task.state for task in ran.values()} == {"success"}
    assert ran["show"].xcoms["return_value"] == expected
