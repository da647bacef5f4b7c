"""What a server refuses or warns of, and how the client says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from airflow_provider_bacalhau.client.errors import InvalidJobSpec, RequestRefused
from airflow_provider_bacalhau.client.facts import Job

from .jobs import Submitter, Unchecked, changed, exiting, unique

TASK = ("Tasks", 0)


def bad(*path: str | int, to: Any) -> Mapping[str, Any]:
    return changed(exiting(0), *path, to=to)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"Count": 1, "Tasks": []}, "missing job type\nmissing job tasks"),
        ({"Type": "cron", "Count": 1, "Tasks": []}, 'invalid job type: "cron"\nmissing job tasks'),
        (bad("Count", to=-1), "job count must be >= 0"),
        (bad(*TASK, "Name", to=""), "missing task name"),
        (bad(*TASK, "Engine", to={}), "invalid engine: missing spec type"),
        (
            bad(*TASK, "Timeouts", "ExecutionTimeout", to=-1),
            "task main validation failed: invalid timeouts: invalid execution timeout value: 0s",
        ),
        (bad(*TASK, "Resources", "CPU", to="many"), "invalid resources: invalid CPU value: many"),
        (bad(*TASK, "Env", to={"foo": "x"}), "environment variable 'foo' must be uppercase"),
        (bad(*TASK, "Env", to={"FOO": ""}), "environment variable 'FOO' cannot have empty value"),
        (bad(*TASK, "Env", to={"1FOO": "x"}), "must start with a letter"),
        (bad(*TASK, "Env", to={"BACALHAU_X": "x"}), "cannot start with BACALHAU_"),
        (bad(*TASK, "InputSources", 0, "Target", to=""), "input source is missing a target"),
        (bad(*TASK, "ResultPaths", to=[{"Name": "a"}]), "missing path"),
        (bad(*TASK, "ResultPaths", to=[{"Name": "a", "Path": "b"}]), "result path `b` must be absolute"),
        (
            bad(*TASK, "ResultPaths", to=[{"Name": "a", "Path": "/a"}, {"Name": "a", "Path": "/b"}]),
            "result path with name 'a' already exists",
        ),
        (bad("Constraints", to=[{"Key": "a", "Operator": "in", "Values": []}]), "selector values cannot be empty"),
        (
            bad(*TASK, "Timeouts", to={"ExecutionTimeout": 60, "QueueTimeout": 60, "TotalTimeout": 100}),
            "should be less than total timeout",
        ),
    ],
)
@pytest.mark.usefixtures("versions_of_jobs")
def test_a_bad_spec_is_refused_with_the_servers_words(client: Any, spec: Mapping[str, Any], says: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        client.submit(Unchecked(spec))
    assert says in caught.value.server_message
    assert says in str(caught.value)
    assert caught.value.status == 400
    assert caught.value.request_id


@pytest.mark.usefixtures("versions_of_jobs")
def test_two_inputs_on_one_target_are_refused(client: Any) -> None:
    spec = exiting(0)
    spec["Tasks"][0]["InputSources"].append(spec["Tasks"][0]["InputSources"][0])
    with pytest.raises(RequestRefused, match=r"input source with target '/mod/entry\.wasm' already exists"):
        client.submit(Unchecked(spec))


def test_a_job_that_is_too_long_is_refused_before_it_is_sent(client: Any) -> None:
    with pytest.raises(InvalidJobSpec, match="10,000,000"):
        client.submit(Unchecked(bad("Labels", to={"padding": "x" * 10_000_000})))


def test_a_selector_that_is_none_is_refused(client: Any) -> None:
    with pytest.raises(RequestRefused, match="unable to parse requirement"):
        client.list(labels={"!!": "=="})


def test_a_kind_of_event_that_is_none_is_refused(client: Any, jobs: Submitter) -> None:
    job_id = jobs.submit(exiting(0))
    with pytest.raises(RequestRefused, match="EventType"):
        client.history(job_id, event_type="zzz")


def test_what_the_server_ignores_comes_back_as_warnings(client: Any, jobs: Submitter) -> None:
    own_id = unique("j-mine")
    spec = changed(changed(exiting(0), "ID", to=own_id), "Meta", to={"bacalhau.org/x": "y", "mine": "z"})
    submission = client.submit(Unchecked(spec))
    jobs.adopt(submission.job_id)
    assert submission.warnings == (
        "job ID is ignored when submitting a batch job",
        'job meta key "bacalhau.org/x" is reserved and will be ignored',
    )
    assert submission.job_id != own_id
    assert client.get(submission.job_id).name == own_id


def test_tasks_beyond_the_first_are_dropped_with_a_warning(client: Any, jobs: Submitter) -> None:
    spec = exiting(0)
    spec["Tasks"].append({**spec["Tasks"][0], "Name": "second"})
    submission = client.submit(Unchecked(spec))
    jobs.adopt(submission.job_id)
    assert submission.warnings == ("only one task is supported per job",)


def test_a_good_job_has_no_warnings(client: Any, jobs: Submitter) -> None:
    job_id = jobs.submit(exiting(0))
    assert isinstance(client.get(job_id), Job)
    submission = client.submit(Unchecked(exiting(0)))
    jobs.adopt(submission.job_id)
    assert submission.warnings == ()
