"""Whose a job is: an attempt's identity, and the labels, the name and the words that carry it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bacalhau.client.facts import Job
from airflow_provider_bacalhau.client.naming import (
    DEPLOYMENT_LABEL,
    GENERATION_LABEL,
    KEY_LABEL,
    LONGEST_NAME,
    TASK_KEY_LABEL,
    Claim,
    Owner,
    label_value,
)
from airflow_provider_bacalhau.client.states import JobState

NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
# What the servers' own selectors take for a value, which is what Kubernetes takes.
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
OWNER = Owner("https://airflow.example", "dag", "run", "task", -1, max_tries=2, try_number=1)
SPEC_HASH = "0123456789abcdef" * 4

IDS = st.text(max_size=250) | st.text("aZ09-_. é\u4e2d\x00", max_size=250) | st.text("jJ-_ .é", max_size=100)
OWNERS = st.builds(Owner, IDS, IDS, IDS, IDS, st.integers(-1, 10**6), st.integers(0, 99), st.integers(1, 99))


def job(labels: dict[str, str], name: str = "n") -> Job:
    return Job("j-1", name, "default", "batch", 1, JobState.RUNNING, labels=labels)


def claim(owner: Owner = OWNER, **changes: Any) -> Claim:
    return replace(Claim(owner, "task", SPEC_HASH, "default"), **changes)


# --- Identity ---


@pytest.mark.parametrize(
    "other",
    [
        {"deployment": "https://staging.example"},
        {"dag_id": "other"},
        {"run_id": "other"},
        {"task_id": "other"},
        {"map_index": 0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_task_instance_has_another_identity(other: dict[str, Any]) -> None:
    changed = replace(OWNER, **other)
    assert changed.key != OWNER.key
    assert changed.task_key != OWNER.task_key


def test_a_retry_has_the_identity_of_the_first_try() -> None:
    retry = replace(OWNER, try_number=2)
    assert (retry.key, retry.labels) == (OWNER.key, OWNER.labels)


def test_a_clear_makes_another_identity_of_the_same_task_instance() -> None:
    cleared = replace(OWNER, max_tries=3, try_number=2)
    assert cleared.key != OWNER.key
    assert cleared.task_key == OWNER.task_key


def test_each_try_has_an_identity_of_its_own_where_jobs_are_not_durable() -> None:
    first, second = (replace(OWNER, durable=False, try_number=number) for number in (1, 2))
    assert len({OWNER.key, first.key, second.key}) == 3
    assert first.task_key == second.task_key == OWNER.task_key


def test_parts_of_an_identity_do_not_run_together() -> None:
    one, other = replace(OWNER, dag_id="a", run_id="bc"), replace(OWNER, dag_id="ab", run_id="c")
    assert one.key != other.key
    assert replace(OWNER, dag_id="a,b").key != replace(OWNER, dag_id='a", "b').key


def test_identities_are_pinned_for_a_changed_recipe_would_lose_running_jobs() -> None:
    assert OWNER.task_key == "4ff9d9bc10623302"
    assert OWNER.key == "281a10a8190257eb"
    assert replace(OWNER, durable=False).key == "9cb48a3b1b6c5544"
    assert OWNER.labels[DEPLOYMENT_LABEL] == "737ff406db524b35"


@given(OWNERS, OWNERS)
def test_two_identities_are_equal_only_if_all_of_them_is(one: Owner, other: Owner) -> None:
    assert (one.key == other.key) is (replace(one, try_number=1) == replace(other, try_number=1))


# --- Whether Airflow tries again ---


@pytest.mark.parametrize(
    ("try_number", "max_tries", "durable", "follows"),
    [(1, 0, True, False), (1, 1, True, True), (2, 1, True, False), (2, 3, True, True), (1, 3, False, False)],
)
def test_a_next_try_finds_the_job_if_there_is_one_and_jobs_are_durable(
    try_number: int, max_tries: int, durable: bool, follows: bool
) -> None:
    owner = replace(OWNER, try_number=try_number, max_tries=max_tries, durable=durable)
    assert owner.has_next_try is follows


# --- Labels ---


@given(OWNERS)
def test_labels_are_what_servers_can_select_by(owner: Owner) -> None:
    labels = owner.labels
    assert labels.keys() >= {KEY_LABEL, TASK_KEY_LABEL, DEPLOYMENT_LABEL, GENERATION_LABEL}
    for value in labels.values():
        assert LABEL.fullmatch(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("daily.load_words", "daily.load_words"),
        ("manual__2026-01-01T00:00:00+00:00", "manual__2026-01-01T00-00-00-00-00"),
        ("größe", "gr-e"),
        ("中文", "unnamed"),
        ("", "unnamed"),
        (" .-_ ", "unnamed"),
        ("x" * 250, "x" * 63),
        ("x" * 62 + ".y", "x" * 62),
    ],
)
def test_a_label_keeps_what_it_may_of_a_text(text: str, value: str) -> None:
    assert label_value(text) == value


def test_a_label_says_which_deployment_without_telling_its_address() -> None:
    assert "example" not in str(OWNER.labels)


# --- Whose a job is ---


def test_an_attempt_owns_what_any_of_its_tries_submitted() -> None:
    assert replace(OWNER, try_number=3).owns(job(OWNER.labels))
    assert OWNER.owns(job({**OWNER.labels, "team": "words"}))


def test_an_attempt_knows_the_job_before_a_clear_but_does_not_own_it() -> None:
    cleared = replace(OWNER, max_tries=3, try_number=2)
    assert cleared.knows(job(OWNER.labels))
    assert not cleared.owns(job(OWNER.labels))


def test_an_attempt_does_not_know_the_job_of_a_newer_generation() -> None:
    cleared = replace(OWNER, max_tries=3, try_number=2)
    assert not OWNER.knows(job(cleared.labels))


@pytest.mark.parametrize("other", [{"deployment": "other"}, {"task_id": "other"}, {"run_id": "other"}], ids=str)
def test_an_attempt_does_not_know_the_job_of_another_task_or_deployment(other: dict[str, Any]) -> None:
    assert not OWNER.knows(job(replace(OWNER, **other).labels))


def test_a_deployments_label_alone_keeps_jobs_apart() -> None:
    assert not OWNER.knows(job({**OWNER.labels, DEPLOYMENT_LABEL: "another"}))


@pytest.mark.parametrize("generation", ["", "many", "²", "-1"])
def test_a_job_with_an_unreadable_generation_is_of_an_older_one(generation: str) -> None:
    assert OWNER.knows(job({**OWNER.labels, GENERATION_LABEL: generation}))


def test_a_job_without_labels_is_nobodys() -> None:
    assert not OWNER.knows(job({}))


# --- Kills ---


def test_a_kill_says_which_try_of_which_attempt_it_was() -> None:
    assert OWNER.kill_reason == f"The Airflow task was killed (attempt {OWNER.key}, try 1)."


def test_only_an_earlier_try_of_the_same_attempt_was_killed_before() -> None:
    second = replace(OWNER, try_number=2)
    assert second.was_killed_before(OWNER.kill_reason)
    assert second.was_killed_before(f"Job stopped. {OWNER.kill_reason}")
    assert not second.was_killed_before(second.kill_reason)
    assert not OWNER.was_killed_before(second.kill_reason)
    assert not second.was_killed_before(replace(OWNER, task_id="other").kill_reason)
    assert not replace(OWNER, max_tries=3, try_number=4).was_killed_before(OWNER.kill_reason)


@pytest.mark.parametrize("reason", ["", "lunch", "The Airflow task was killed.", "(attempt x, try y)"])
def test_other_reasons_are_no_kills(reason: str) -> None:
    assert not replace(OWNER, try_number=2).was_killed_before(reason)


# --- Names ---


@given(OWNERS, IDS, st.integers(0, 999))
def test_a_name_fits_everywhere_and_never_looks_like_an_id(owner: Owner, readable: str, counter: int) -> None:
    name = claim(owner, readable=readable, counter=counter).name
    assert len(name) <= LONGEST_NAME == 63
    assert NAME.fullmatch(name)
    assert not name.startswith("j-")


@given(OWNERS, IDS, st.integers(0, 999))
def test_the_counter_of_an_attempts_own_name_can_be_read_from_it(owner: Owner, readable: str, counter: int) -> None:
    one = claim(owner, readable=readable, counter=counter)
    assert replace(one, counter=0, readable="another").counter_in(one.name) == counter


@pytest.mark.parametrize(
    "other", [claim(replace(OWNER, task_id="other")), claim(spec_hash="f" * 64)], ids=["attempt", "spec"]
)
def test_a_name_of_another_attempt_or_spec_has_no_counter_here(other: Claim) -> None:
    assert claim().counter_in(other.name) is None


@pytest.mark.parametrize("text", ["", "n", "j-1", "task", f"{claim().name}x", f"{claim().name[:-2]}"])
def test_what_is_no_such_name_has_no_counter(text: str) -> None:
    assert claim().counter_in(text) is None


def test_the_next_claim_has_a_counter_that_no_earlier_job_has() -> None:
    first, third = claim(), claim(counter=2)
    assert first.next() == first
    assert third.next() == third
    assert first.next(first.name).counter == 1
    assert first.next(third.name, first.name).counter == 3
    assert third.next(first.name) == third
    assert first.next("somebody-elses").counter == 0


def test_names_are_pinned_for_a_changed_one_would_submit_running_jobs_again() -> None:
    assert claim(readable="Count Words [3]").name == "count-words-3-281a10a8190257eb-0123456789-0"
    assert claim(readable="j").name == "job-j-281a10a8190257eb-0123456789-0"
    assert claim(readable="J- x").name == "job-j-x-281a10a8190257eb-0123456789-0"
    assert claim(readable="中文").name == "job-281a10a8190257eb-0123456789-0"
    assert claim(readable="x" * 100, counter=12).name == f"{'x' * 31}-281a10a8190257eb-0123456789-12"
