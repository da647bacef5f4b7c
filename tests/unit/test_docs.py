"""The documentation says what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest

from tests.faults import deaths, spoilings
from tests.faults.situations import SITUATIONS
from tests.support.reliability import (
    BY_CHANCE,
    BY_USERS,
    GROUPS,
    SPOILED,
    WORKER_DIES,
    WORKER_ENDS,
    Case,
    Row,
    merged,
    read_rows,
)

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


@pytest.mark.parametrize(
    ("group", "demanded"),
    [
        *((group, {one.case for one in SITUATIONS if one.group == group}) for group in (BY_USERS, BY_CHANCE)),
        *((group, {case for case in deaths.CASES if case.group == group}) for group in (WORKER_DIES, WORKER_ENDS)),
        (SPOILED, spoilings.CASES),
    ],
)
def test_every_case_was_measured_as_the_tests_demand_it(group: str, demanded: AbstractSet[Case]) -> None:
    measured = {row.case for row in read_rows() if row.case.group == group}
    assert measured == demanded, "run `make reliability`"


def test_what_was_measured_belongs_to_a_test() -> None:
    assert {row.case.group for row in read_rows()} == set(GROUPS)


def test_what_is_measured_again_replaces_what_its_group_and_airflow_had() -> None:
    def row(group: str, airflow: str, situation: str) -> Row:
        return Row(Case(group, situation, jobs=1, live=0, state="success"), airflow)

    users, dies = GROUPS[:2]
    old = [row(users, "3.3.2", "gone"), row(users, "2.11.0", "other Airflow"), row(dies, "3.3.2", "other group")]
    new = [row(users, "3.3.2", "second"), row(users, "3.3.2", "first")]
    situations = [one.case.situation for one in merged(old, new)]
    assert situations == ["other Airflow", "second", "first", "other group"]


def test_of_what_is_measured_twice_the_slowest_stays() -> None:
    case = Case(BY_USERS, "killed", jobs=1, live=0, state="failed")
    rows = [Row(case, "3.3.2", seconds, within=5.0) for seconds in (1.0, 3.0, 2.0)]
    assert merged([], rows) == [rows[1]]
