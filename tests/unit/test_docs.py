"""The documentation says what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.situations import BY_CHANCE, BY_USERS, SITUATIONS
from tests.support.reliability import Row, merged, read_rows

ROOT = Path(__file__).parents[2]


def test_tables_and_quotations_are_those_of_the_code() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "refresh.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == 0, f"run `python docs/refresh.py`: {done.stdout}{done.stderr}"


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_situation_of_the_kill_matrix_was_measured_as_the_tests_demand_it() -> None:
    measured = [
        (row.group, row.situation, row.jobs, row.live, row.state)
        for row in read_rows()
        if row.group in {BY_USERS, BY_CHANCE}
    ]
    demanded = [(one.group, one.name, one.after.jobs, one.after.live, one.state) for one in SITUATIONS]
    assert sorted(measured) == sorted(demanded), "run `make reliability`"


def test_what_is_measured_again_replaces_what_its_group_and_airflow_had() -> None:
    def row(group: str, airflow: str, situation: str) -> Row:
        return Row(group, situation, airflow, jobs=1, live=0, state="success")

    old = [row("a", "3.3.2", "gone"), row("a", "2.11.0", "other Airflow"), row("b", "3.3.2", "other group")]
    new = [row("a", "3.3.2", "second"), row("a", "3.3.2", "first")]
    assert [one.situation for one in merged(old, new)] == ["other Airflow", "second", "first", "other group"]
