"""The name and the namespace of the job that a task sends."""

from __future__ import annotations

import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.spec import JobSpec, docker_job, read_job_spec
from airflow_provider_bacalhau.preparation import Wait, name_job


def ti(**changes: Any) -> Any:
    attempt = {"dag_id": "dag", "run_id": "run", "task_id": "Task.one", "map_index": -1, "try_number": 1}
    return {"ti": SimpleNamespace(**{**attempt, **changes})}


def named(spec: dict[str, Any] | None = None, context: Any = None, **arguments: Any) -> JobSpec:
    given: dict[str, Any] = {"name": None, "namespace": None, "default_namespace": "", **arguments}
    return name_job(read_job_spec(spec or docker_job("alpine")), context or ti(), **given)


def test_the_same_attempt_always_gives_the_same_name() -> None:
    assert named().name == named().name
    assert named().name.startswith("task-one-")


@pytest.mark.parametrize(
    "other",
    [{"dag_id": "x"}, {"run_id": "x"}, {"task_id": "x"}, {"map_index": 0}, {"try_number": 2}],
    ids=lambda changes: next(iter(changes)),
)
def test_another_attempt_gives_another_name(other: dict[str, Any]) -> None:
    assert named(name="same").name != named(name="same", context=ti(**other)).name


def test_another_airflow_gives_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    here = named().name
    monkeypatch.setattr("airflow_provider_bacalhau.version_compat.airflow_address", lambda: "https://another.example")
    assert named().name != here


def test_another_job_gives_another_name_and_equal_ones_the_same() -> None:
    assert named(docker_job("alpine")).name != named(docker_job("busybox")).name
    assert named({"Job": docker_job("alpine")}).name == named(docker_job("alpine")).name


def test_another_namespace_gives_another_name() -> None:
    assert named(namespace="a").name != named(namespace="b").name


def test_two_different_names_are_refused() -> None:
    with pytest.raises(InvalidJobSpec, match=r"'mine'.*'theirs'"):
        named(docker_job("alpine", name="theirs"), name="mine")


def test_two_equal_names_are_one() -> None:
    assert named(docker_job("alpine", name="same"), name="same").name.startswith("same-")


@pytest.mark.parametrize(
    ("operator", "spec", "connection", "expected"),
    [
        ("a", "b", "c", "a"),
        (None, "b", "c", "b"),
        (None, "", "c", "c"),
        (None, "", "", "default"),
        ("", "", "", "default"),
    ],
)
def test_the_nearest_namespace_counts(operator: str | None, spec: str, connection: str, expected: str) -> None:
    job = docker_job("alpine", namespace=spec)
    assert named(job, namespace=operator, default_namespace=connection).namespace == expected


def test_a_wait_is_in_seconds() -> None:
    assert Wait.checked(timedelta(minutes=1), None) == Wait(60.0, None)
    begun = time.time()
    deadline = Wait.checked(0.5, timedelta(hours=1)).deadline
    assert deadline is not None
    assert 3600 <= deadline - begun < 3660


@pytest.mark.parametrize("wrong", [0, -1, timedelta(0), "5s", float("nan"), True, [5]])
@pytest.mark.parametrize("place", ["poll_interval", "timeout"])
def test_a_wait_by_what_is_no_duration_is_refused(place: str, wrong: Any) -> None:
    with pytest.raises(InvalidJobSpec, match=f"^{place}: is .*must be a number of seconds above zero"):
        Wait.checked(**{"poll_interval": 5, "timeout": 5, place: wrong})


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidJobSpec, match="poll_interval: is None"):
        Wait.checked(None, 5)


@pytest.mark.parametrize("place", ["name", "namespace"])
def test_a_name_that_is_no_text_is_refused(place: str) -> None:
    with pytest.raises(InvalidJobSpec, match=f"{place}: must be text, not int '3'"):
        named(**{place: 3})
