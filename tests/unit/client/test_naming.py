"""Names of jobs: readable, fit for every place, and as different as what they name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.naming import LONGEST_NAME, check_job_id, job_name

NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
IDENTITY = st.lists(st.text() | st.integers(), min_size=1, max_size=8)
READABLE = st.text(max_size=200) | st.text("jJ-_ .é", max_size=100)


@given(READABLE, IDENTITY)
def test_a_name_fits_everywhere_and_never_looks_like_an_id(readable: str, identity: list[str | int]) -> None:
    name = job_name(readable, *identity)
    assert len(name) <= LONGEST_NAME == 63
    assert NAME.fullmatch(name)
    assert not name.startswith("j-")


@given(READABLE, IDENTITY, IDENTITY)
def test_names_differ_as_identities_do(readable: str, one: list[str | int], other: list[str | int]) -> None:
    assert (job_name(readable, *one) == job_name(readable, *other)) is (repr(one) == repr(other))


@given(READABLE, IDENTITY)
def test_a_name_is_the_same_every_time(readable: str, identity: list[str | int]) -> None:
    assert job_name(readable, *identity) == job_name(readable, *identity)


def test_parts_of_an_identity_do_not_run_together() -> None:
    assert len({job_name("t", "a", "bc"), job_name("t", "ab", "c"), job_name("t", "abc"), job_name("t", "a,bc")}) == 4
    assert job_name("t", "1") != job_name("t", 1)


def test_names_are_pinned_for_a_changed_one_would_submit_running_jobs_again() -> None:
    assert job_name("Count Words [3]", "dep", "dag", "run", "task", 3, 1, "hash") == "count-words-3-3c913441b6e47f23"
    assert job_name("j", "x") == "job-j-cd65ea2c2ad99e94"
    assert job_name("", "x") == "job-cd65ea2c2ad99e94"
    assert job_name("x" * 100, "x") == f"{'x' * 46}-cd65ea2c2ad99e94"


@pytest.mark.parametrize("nothing", [None, "", " ", "None"])
def test_a_job_id_that_nobody_pushed_is_refused(nothing: object) -> None:
    with pytest.raises(InvalidJobSpec, match="job_id is empty: the task that should have given it pushed nothing"):
        check_job_id(nothing)


def test_a_job_id_is_text() -> None:
    check_job_id("j-1")
    with pytest.raises(InvalidJobSpec, match="job_id: must be the text of a job's id, not list"):
        check_job_id(["j-1"])
