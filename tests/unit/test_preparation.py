"""From a task's arguments to what it claims: refused when wrong, equal for what is the same, different for the rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bacalhau.client import BacalhauClient
from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.naming import Claim, Owner
from airflow_provider_bacalhau.client.spec import docker_job, local_file
from airflow_provider_bacalhau.client.spec.inputs import IpfsPathInput, JobInput, ReadyInput
from airflow_provider_bacalhau.preparation import Draft, Limits, Rules, Wait, check_count, check_flags, claim_for, draft

OWNER = Owner("airflow", "dag", "run", "Task.one", -1, max_tries=0, try_number=1)
CID = "QmbmHZ4SjokWhB5qNrpbSnBtv2EAieUCjvc2gy8ZRnBbup"


def drafted(spec: Any = None, *, folder: Path | None = None, **arguments: Any) -> Draft:
    return draft(spec or docker_job("alpine"), folder=folder or Path.cwd(), **arguments)


def claimed(spec: dict[str, Any] | None = None, **arguments: Any) -> Claim:
    given: dict[str, Any] = {"name": None, "namespace": None, "default_namespace": "", **arguments}
    return claim_for(OWNER, drafted(spec), **given)


# --- What a task asks for ---


@pytest.mark.parametrize(
    "other",
    [
        lambda: drafted(docker_job("busybox")),
        lambda: drafted(env={"A": "1"}),
        lambda: drafted(inputs=[CID]),
        lambda: drafted(inputs=[f"{CID}:/mnt"]),
        lambda: drafted(inputs=[f"ipfs://{CID}/path"]),
        lambda: drafted(input_volumes=[f"{CID}:/mnt"]),
        lambda: drafted(limits=Limits(queue=5)),
        lambda: drafted(limits=Limits(execution=5)),
        lambda: drafted(limits=Limits(total=5)),
        lambda: drafted(docker_job("alpine", labels={"team": "words"})),
    ],
)
def test_what_changes_the_job_makes_another_one(other: Callable[[], Draft]) -> None:
    assert other().hash != drafted().hash


@pytest.mark.parametrize(
    "same",
    [
        lambda: drafted({"Job": docker_job("alpine")}),
        lambda: drafted(dict(reversed(docker_job("alpine").items()))),
        lambda: drafted(limits=Limits(wait=60)),
        lambda: drafted(env={}),
        lambda: drafted(inputs=[]),
    ],
)
def test_what_does_not_change_the_job_makes_no_other_one(same: Callable[[], Draft]) -> None:
    assert same().hash == drafted().hash


def test_a_limit_is_the_same_in_seconds_or_as_a_timedelta() -> None:
    assert drafted(limits=Limits(queue=60.0)).hash == drafted(limits=Limits(queue=timedelta(minutes=1))).hash


def test_a_longer_wait_does_not_make_another_job_though_the_servers_limit_grows() -> None:
    short, long = (drafted(limits=Limits(wait=seconds)) for seconds in (60, 6000))
    assert short.hash == long.hash
    assert short.spec.to_wire() != long.spec.to_wire()


def test_the_bytes_of_local_files_count(tmp_path: Path) -> None:
    hashes = set()
    for content in ("one", "two", "one"):
        (tmp_path / "a.txt").write_text(content)
        hashes.add(drafted(folder=tmp_path, inputs=[local_file("a.txt", "/a.txt")]).hash)
    assert len(hashes) == 2


def test_what_a_task_asks_for_is_hashed_the_same_today_and_tomorrow() -> None:
    both = drafted(env={"A": "1"}, inputs=[CID, {"type": "ipfs", "cid": CID, "job_id": "j-1"}], limits=Limits(queue=5))
    assert both.hash == "c89a422487515fa6515cf1ac5f5c3574e4f85188a1aac27ed8d85b7a1f60d7c2"


def test_a_limit_is_the_same_in_whatever_form_it_is_given() -> None:
    assert len({drafted(limits=Limits(total=limit)).hash for limit in (60, 60.0, timedelta(minutes=1))}) == 1


def test_a_draft_needs_no_network_and_a_complete_job_has_its_inputs_in_place() -> None:
    asked = []

    class Network(BacalhauClient):
        def resolve_inputs(self, inputs: Any) -> list[ReadyInput]:
            asked.append(inputs)
            return [ReadyInput({"Type": "ipfs", "Params": {"CID": CID}}, None, one.item) for one in inputs]

    wanted = drafted(inputs=["j-11111111-1111-4111-8111-111111111111", f"ipfs://{CID}/path"])
    assert [type(one) for one in wanted.inputs] == [JobInput, IpfsPathInput]
    with Network("http://127.0.0.1:9") as network:
        [task] = wanted.complete(network).to_wire()["Tasks"]
    assert asked == [wanted.inputs]
    assert [one["Target"] for one in task["InputSources"]] == ["/inputs/0", "/inputs/1"]


def test_none_as_inputs_is_a_result_that_is_missing() -> None:
    with pytest.raises(InvalidJobSpec, match="pushed nothing"):
        drafted(inputs=None)


# --- What it claims ---


def test_two_different_names_are_refused() -> None:
    with pytest.raises(InvalidJobSpec, match=r"'mine'.*'theirs'"):
        claimed(docker_job("alpine", name="theirs"), name="mine")


@pytest.mark.parametrize(
    ("operator", "spec", "expected"),
    [("mine", "", "mine"), ("", "theirs", "theirs"), ("same", "same", "same"), (None, "", "Task.one")],
)
def test_the_nearest_name_is_what_a_person_sees(operator: str | None, spec: str, expected: str) -> None:
    assert claimed(docker_job("alpine", name=spec), name=operator).readable == expected


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
    assert claimed(job, namespace=operator, default_namespace=connection).namespace == expected


def test_a_claim_is_the_attempts_and_begins_to_count_at_nothing() -> None:
    claim = claimed()
    assert (claim.owner, claim.spec_hash, claim.counter) == (OWNER, drafted().hash, 0)


@pytest.mark.parametrize("place", ["name", "namespace"])
def test_a_name_that_is_no_text_is_refused(place: str) -> None:
    with pytest.raises(InvalidJobSpec, match=f"{place}: must be text, not int '3'"):
        claimed(None, **{place: 3})


# --- How it judges ---


def rules(**arguments: Any) -> Rules:
    given = {
        "wait": Wait.checked(5, None),
        "success_policy": "all",
        "allow_missing_results": False,
        "skip_on_exit_code": None,
        "no_retry_on_exit_code": None,
        "on_existing": "replace",
        "log_output": True,
    }
    return Rules.checked(**{**given, **arguments})


@pytest.mark.parametrize(
    ("given", "read"), [(None, set()), (0, {0}), (99, {99}), ([1, 2, 2], {1, 2}), ({-1}, {-1}), (range(3), {0, 1, 2})]
)
@pytest.mark.parametrize(("place", "attribute"), [("skip_on_exit_code", "skipped"), ("no_retry_on_exit_code", "final")])
def test_exit_codes_are_one_or_several(place: str, attribute: str, given: Any, read: set[int]) -> None:
    assert getattr(rules(**{place: given}), attribute) == read


@pytest.mark.parametrize("wrong", ["99", True, [True], 1.0, [1, "2"], [1, True], [None], [[1]], b"a", {"a": 1}])
@pytest.mark.parametrize("place", ["skip_on_exit_code", "no_retry_on_exit_code"])
def test_what_is_no_exit_code_is_refused_by_name(place: str, wrong: Any) -> None:
    with pytest.raises(InvalidJobSpec, match=f"^{place}: is .*must be an exit code or several, as numbers"):
        rules(**{place: wrong})


@pytest.mark.parametrize("wrong", [None, "", "Replace", "keep", 1, ["adopt"]])
def test_what_is_no_way_to_treat_an_earlier_job_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidJobSpec, match=r"^on_existing: is .*must be one of replace, adopt, fail"):
        rules(on_existing=wrong)


@pytest.mark.parametrize("wrong", [None, "most", 0, -1, True, 1.5, [1]])
def test_what_is_no_success_policy_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidJobSpec, match=r"^success_policy: "):
        rules(success_policy=wrong)


# --- How it waits ---


def test_a_wait_is_in_seconds() -> None:
    assert Wait.checked(timedelta(minutes=1), None) == Wait(60.0, None)


def test_a_wait_ends_that_long_after_the_submission_whichever_try_made_it() -> None:
    wait = Wait.checked(0.5, timedelta(hours=1))
    begun = time.time()
    new, old = wait.deadline(0.0), wait.deadline(3000.0)
    assert new is not None
    assert old is not None
    assert 3600 <= new - begun < 3660
    assert 600 <= old - begun < 660


def test_a_wait_without_a_timeout_has_no_end() -> None:
    assert Wait.checked(5, None).deadline(1e9) is None


@pytest.mark.parametrize("wrong", [0, -1, timedelta(0), "5s", float("nan"), True, [5]])
@pytest.mark.parametrize("place", ["poll_interval", "timeout"])
def test_a_wait_by_what_is_no_duration_is_refused(place: str, wrong: Any) -> None:
    with pytest.raises(InvalidJobSpec, match=f"^{place}: is .*must be a number of seconds above zero"):
        Wait.checked(**{"poll_interval": 5, "timeout": 5, place: wrong})


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidJobSpec, match="poll_interval: is None"):
        Wait.checked(None, 5)


def test_what_is_neither_true_nor_false_is_refused() -> None:
    check_flags(durable=True, fail_fast=False)
    with pytest.raises(InvalidJobSpec, match="cancel_on_kill: is 'no', and must be True or False"):
        check_flags(durable=True, cancel_on_kill="no")


def test_more_successes_than_executions_are_refused() -> None:
    spec = drafted().spec
    for policy in ("all", "any", 1):
        check_count(policy, spec)
    with pytest.raises(InvalidJobSpec, match="success_policy: is 2, but the job's Count is 1"):
        check_count(2, spec)
