"""From the client's errors to Airflow's."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_bacalhau.client.diagnosis import Diagnosis, FailureCategory
from airflow_provider_bacalhau.client.errors import (
    BacalhauError,
    InvalidJobSpec,
    JobFailed,
    JobLost,
    NotFound,
    ServerUnavailable,
    Unreachable,
    WaitTimeout,
    WatchFailed,
)
from airflow_provider_bacalhau.exceptions import translated

FAILED = JobFailed(Diagnosis(FailureCategory.UNKNOWN, "It failed."))


def airflows(error: BacalhauError) -> AirflowException:
    with pytest.raises(AirflowException) as caught, translated():
        raise error
    return caught.value


SPEAKING = [InvalidJobSpec("no"), NotFound("no"), FAILED, WaitTimeout("no"), JobLost("j-1", ["gone"])]
SPEAKING += [WatchFailed("no"), WatchFailed("no", permanent=True), Unreachable("no")]


@pytest.mark.parametrize("error", SPEAKING, ids=repr)
def test_an_error_that_explains_itself_brings_no_traceback_of_the_client(error: BacalhauError) -> None:
    raised = airflows(error)
    assert raised.__suppress_context__
    assert raised.__cause__ is None
    assert raised.error is error
    assert isinstance(raised, AirflowFailException) is error.permanent


def test_another_shows_where_it_came_from() -> None:
    error = ServerUnavailable("no")
    assert airflows(error).__cause__ is error


@pytest.mark.parametrize("category", FailureCategory)
def test_a_failure_is_for_good_only_where_another_try_must_end_in_the_same_way(category: FailureCategory) -> None:
    raised = airflows(JobFailed(Diagnosis(category, "It failed.")))
    final = {"MODULE_INVALID", "ENGINE_NOT_SUPPORTED", "REFUSED_SPEC", "NOT_AUTHORISED", "MISCONFIGURED", "NOT_FOUND"}
    assert isinstance(raised, AirflowFailException) is (category in final)


def test_the_failure_of_another_tasks_job_is_for_good() -> None:
    with pytest.raises(AirflowFailException), translated(others_job=True):
        raise FAILED
