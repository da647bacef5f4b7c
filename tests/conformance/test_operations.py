"""The operations that look: at the server, at jobs, at lists of them, at their history."""

from __future__ import annotations

import time
from typing import Any

import pytest

from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
from airflow_provider_bacalhau.client.errors import NotFound
from airflow_provider_bacalhau.client.states import JobState

from .jobs import UNKNOWN_ID, Submitter, busy, exiting, unique
from .node import NodeUnderTest

needs_wasm = pytest.mark.needs(engine="wasm")


def test_the_server_is_alive(client: Any) -> None:
    assert client.alive() is True


def test_the_server_tells_its_version(client: Any) -> None:
    version = client.version()
    assert isinstance(version, ServerVersion)
    assert version.text.startswith("v")


def test_the_answering_node_describes_itself(client: Any) -> None:
    node = client.node()
    assert node.id.startswith("n-")
    assert node.kind in {"Compute", "Requester"}


def test_the_nodes_are_listed_with_what_they_offer(client: Any, node: NodeUnderTest) -> None:
    listed = {one.id: one for one in client.nodes() if one.takes_jobs}
    assert set(listed) == {one["NodeID"] for one in node.nodes}
    for one in node.nodes:
        offered = one["ComputeNodeInfo"]
        assert listed[one["NodeID"]].engines == tuple(offered["ExecutionEngines"])
        assert listed[one["NodeID"]].publishers == tuple(offered["Publishers"])
        assert listed[one["NodeID"]].sources == tuple(offered["StorageSources"])


def test_greeting_says_version_nodes_and_engines(client: Any, node: NodeUnderTest) -> None:
    greeting = client.greet()
    assert greeting.version == client.version().text
    assert len(greeting.nodes) == len(node.nodes)
    assert set(greeting.engines) >= node.offers("ExecutionEngines")


@pytest.mark.parametrize("operation", ["get", "executions", "history", "results", "wait", "outcome"])
@pytest.mark.usefixtures("versions_of_jobs")
def test_an_unknown_job_is_not_found(client: Any, operation: str) -> None:
    with pytest.raises(NotFound, match=f"job not found: {UNKNOWN_ID}") as caught:
        getattr(client, operation)(UNKNOWN_ID)
    assert caught.value.status == 404
    assert caught.value.request_id


@needs_wasm
def test_a_job_is_got_as_it_was_submitted(client: Any, jobs: Submitter) -> None:
    name, before = unique("got"), time.time()
    job_id = jobs.submit(exiting(0, name=name, labels={"colour": "blue"}, namespace="conformance"))
    job = client.get(job_id)
    assert job_id.startswith("j-")
    assert len(job_id) == 38
    assert (job.id, job.name, job.namespace) == (job_id, name, "conformance")
    assert (job.type, job.count, job.engine, job.publisher) == ("batch", 1, "wasm", jobs.publisher)
    assert job.labels == {"colour": "blue"}
    assert job.executions is None
    assert job.history is None
    assert before - 5 < job.created <= job.modified < time.time() + 5


@needs_wasm
def test_a_job_without_a_name_or_namespace_gets_its_id_and_the_default(client: Any, jobs: Submitter) -> None:
    job_id = jobs.submit(exiting(0))
    job = client.get(job_id)
    assert (job.name, job.namespace) == (job_id, "default")


@needs_wasm
def test_a_job_is_found_by_the_beginning_of_its_id(client: Any, jobs: Submitter) -> None:
    job_id = jobs.submit(exiting(0))
    assert client.get(job_id[:14]).id == job_id


@needs_wasm
def test_one_call_brings_what_three_would(client: Any, jobs: Submitter) -> None:
    job_id = jobs.finish(exiting(3)).job.id
    job = client.get(job_id, executions=True, history=True)
    assert job.executions == client.executions(job_id)
    assert job.history == client.history(job_id).items
    only_executions = client.get(job_id, executions=True)
    assert (only_executions.executions, only_executions.history) == (job.executions, None)
    only_history = client.get(job_id, history=True)
    assert (only_history.executions, only_history.history) == (None, job.history)


@needs_wasm
def test_waiting_tells_of_each_state(client: Any, jobs: Submitter) -> None:
    job_id = jobs.submit(exiting(0))
    states: list[JobState] = []
    job = client.wait(
        job_id, poll_interval=0.1, deadline=time.time() + 30, on_change=lambda job: states.append(job.state)
    )
    assert job.state is states[-1] is JobState.COMPLETED
    assert len(states) == len(set(states))


# -- lists ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def five(client: Any, jobs: Submitter) -> tuple[dict[str, str], list[str]]:
    """A label of their own and the ids of five jobs, oldest first, the third in a namespace of its own."""
    labels = {"suite": unique("list"), "kind": "listed"}
    namespaces = ["default", "default", labels["suite"], "default", "default"]
    ids = [
        jobs.finish(exiting(0, labels={**labels, "number": str(number)}, namespace=namespace)).job.id
        for number, namespace in enumerate(namespaces)
    ]
    return labels, ids


@needs_wasm
def test_jobs_are_listed_by_label_oldest_first(client: Any, five: tuple[dict[str, str], list[str]]) -> None:
    labels, ids = five
    page = client.list(labels=labels)
    assert [job.id for job in page.items] == ids
    assert page.next_token == ""
    assert [job.id for job in client.list(labels=labels, reverse=True).items] == ids[::-1]
    assert [job.id for job in client.list(labels={**labels, "number": "3"}).items] == [ids[3]]
    assert client.list(labels={**labels, "number": "9"}).items == ()


@needs_wasm
def test_jobs_are_listed_by_when_they_last_changed(
    client: Any, jobs: Submitter, five: tuple[dict[str, str], list[str]]
) -> None:
    labels, ids = five
    slow = jobs.submit(busy(labels=labels))
    jobs.running(slow)
    jobs.finish(exiting(0, labels=labels))
    client.stop(slow, "last of all")
    assert [job.id for job in client.list(labels=labels, order_by="created_at").items].index(slow) == len(ids)
    assert client.list(labels=labels, order_by="modified_at", reverse=True).items[0].id == slow


@needs_wasm
def test_pages_of_a_list_cover_it(client: Any, five: tuple[dict[str, str], list[str]]) -> None:
    labels, ids = five
    first = client.list(labels=labels, limit=2)
    second = client.list(labels=labels, limit=2, next_token=first.next_token)
    third = client.list(labels=labels, limit=2, next_token=second.next_token)
    assert [[job.id for job in page.items] for page in (first, second, third)] == [ids[:2], ids[2:4], ids[4:]]
    assert first.next_token
    assert second.next_token
    assert third.next_token == ""


@needs_wasm
def test_pages_keep_their_order(client: Any, five: tuple[dict[str, str], list[str]]) -> None:
    labels, ids = five
    first = client.list(labels=labels, limit=3, reverse=True)
    second = client.list(labels=labels, limit=3, reverse=True, next_token=first.next_token)
    assert [job.id for page in (first, second) for job in page.items] == ids[::-1]


@needs_wasm
def test_a_namespace_is_listed_alone_or_with_all(client: Any, five: tuple[dict[str, str], list[str]]) -> None:
    labels, ids = five
    assert [job.id for job in client.list(namespace=labels["suite"]).items] == [ids[2]]
    assert [job.id for job in client.list(namespace="default", labels=labels).items] == ids[:2] + ids[3:]
    for everything in ("", "*"):
        assert [job.id for job in client.list(namespace=everything, labels=labels).items] == ids
    assert client.list(namespace=unique("nobody")).items == ()


@needs_wasm
def test_a_list_shows_states_but_no_executions(client: Any, five: tuple[dict[str, str], list[str]]) -> None:
    for job in client.list(labels=five[0]).items:
        assert job.state is JobState.COMPLETED
        assert job.executions is None


# -- history ----------------------------------------------------------------------------------------------------------


@needs_wasm
@pytest.mark.usefixtures("versions_of_jobs")
def test_a_history_has_a_token_until_the_job_is_over(client: Any, jobs: Submitter) -> None:
    job_id = jobs.submit(busy())
    jobs.running(job_id)
    page = client.history(job_id)
    assert len(page.items) == 4
    assert page.next_token
    nothing_new = client.history(job_id, next_token=page.next_token)
    assert nothing_new.items == ()
    assert nothing_new.next_token == page.next_token
    client.stop(job_id, "enough")
    jobs.until(job_id, lambda seen: len(seen.history) == 6)
    news = client.history(job_id, next_token=page.next_token)
    assert len(news.items) == 2
    assert client.history(job_id).next_token == ""


@needs_wasm
@pytest.mark.usefixtures("versions_of_jobs")
def test_a_history_is_read_by_kind_and_from_a_time_on(client: Any, jobs: Submitter) -> None:
    job_id = jobs.finish(exiting(0)).job.id
    everything = client.history(job_id).items
    assert len(everything) == 6
    assert [item.time for item in everything] == sorted(item.time for item in everything)
    of_job = client.history(job_id, event_type="job").items
    of_execution = client.history(job_id, event_type="execution").items
    assert of_job == tuple(item for item in everything if not item.execution_id)
    assert of_execution == tuple(item for item in everything if item.execution_id)
    assert client.history(job_id, since=int(everything[0].time)).items == everything
    assert client.history(job_id, since=int(time.time()) + 3600).items == ()
