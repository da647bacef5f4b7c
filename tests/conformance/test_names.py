"""Names: what happens when a name is submitted again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_provider_bacalhau.client import BacalhauClient
from airflow_provider_bacalhau.client.errors import JobUnchanged, NotFound
from airflow_provider_bacalhau.client.spec import read_job_spec
from airflow_provider_bacalhau.client.states import JobState

from .jobs import Submitter, busy, events, exiting, unique
from .node import NodeUnderTest

pytestmark = [pytest.mark.needs(engine="wasm"), pytest.mark.usefixtures("versions_of_jobs")]


def test_the_same_name_and_spec_is_one_job(client: Any, jobs: Submitter) -> None:
    spec = exiting(0, name=unique("same"))
    job_id = jobs.finish(spec).job.id
    with pytest.raises(JobUnchanged) as caught:
        client.submit(read_job_spec({**spec, "Tasks": client_tasks(spec, jobs)}))
    assert caught.value.job_id == job_id
    job = client.get(job_id)
    assert (job.version, job.state) == (1, JobState.COMPLETED)


def test_submitting_once_adopts_what_an_earlier_send_left(client: Any, jobs: Submitter) -> None:
    spec = exiting(0, name=unique("once"))
    checked = read_job_spec({**spec, "Tasks": client_tasks(spec, jobs)})
    first, second = client.submit_once(checked), client.submit_once(checked)
    jobs.adopt(first.job_id)
    assert first.job_id == second.job_id
    assert (first.adopted, second.adopted) == (False, True)


def test_the_same_name_with_another_spec_restarts_the_job(client: Any, jobs: Submitter) -> None:
    name = unique("other")
    first = jobs.finish(exiting(0, name=name)).job
    second = jobs.finish(exiting(3, name=name)).job
    assert (first.id, first.version) == (second.id, 1)
    assert second.version == 2
    assert second.created == first.created
    assert [one.exit_code for one in second.executions] == [3]
    assert events(second.history)[0] == ("Submission", "Job updated")


def test_another_spec_ends_the_running_version(client: Any, jobs: Submitter) -> None:
    name = unique("running")
    job_id = jobs.submit(busy(name=name))
    jobs.running(job_id)
    outcome = jobs.finish(exiting(0, name=name))
    assert outcome.job.id == job_id
    assert outcome.diagnosis is None
    assert [one.exit_code for one in outcome.job.executions] == [0]


def test_a_name_is_unique_within_its_namespace_only(client: Any, jobs: Submitter) -> None:
    name, elsewhere = unique("spaced"), unique("space")
    here = jobs.submit(exiting(0, name=name))
    there = jobs.submit(exiting(0, name=name, namespace=elsewhere))
    assert here != there
    assert client.get(name, namespace=elsewhere).id == there
    assert client.get(name).id == here


def test_a_name_that_nobody_has_is_not_found(client: Any) -> None:
    with pytest.raises(NotFound):
        client.get(unique("nobody"))


def test_eight_at_the_same_moment_make_one_job(node: NodeUnderTest, jobs: Submitter) -> None:
    spec = exiting(0, name=unique("race"))
    checked = read_job_spec({**spec, "Tasks": client_tasks(spec, jobs)})

    def submit() -> str:
        with BacalhauClient(node.url) as one:
            return one.submit_once(checked).job_id

    with ThreadPoolExecutor(8) as pool:
        ids = {future.result() for future in [pool.submit(submit) for _ in range(8)]}
    assert len(ids) == 1
    jobs.adopt(ids.pop())


def client_tasks(spec: dict[str, Any], jobs: Submitter) -> list[dict[str, Any]]:
    """The job's tasks with the publisher that :meth:`Submitter.submit` gives them."""
    return [{**task, "Publisher": {"Type": jobs.publisher}} for task in spec["Tasks"]]
