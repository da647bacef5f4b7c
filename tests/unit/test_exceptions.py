"""From the client's errors to Airflow's."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_bacalhau.client.diagnosis import Diagnosis, FailureCategory
from airflow_provider_bacalhau.client.errors import (
    BacalhauError,
    InvalidJobSpec,
    JobFailed,
    NotFound,
    ServerUnavailable,
    WaitTimeout,
)
from airflow_provider_bacalhau.exceptions import translated

FAILED = JobFailed(Diagnosis(FailureCategory.UNKNOWN, "It failed."))


def airflows(error: BacalhauError) -> AirflowException:
    with pytest.raises(AirflowException) as caught, translated():
        raise error
    return caught.value


@pytest.mark.parametrize("error", [InvalidJobSpec("no"), NotFound("no"), FAILED, WaitTimeout("no")], ids=repr)
def test_an_error_that_explains_itself_brings_no_traceback_of_the_client(error: BacalhauError) -> None:
    raised = airflows(error)
    assert raised.__suppress_context__
    assert raised.__cause__ is None
    assert raised.error is error  # type: ignore[attr-defined]
    assert isinstance(raised, AirflowFailException) is error.permanent


def test_another_shows_where_it_came_from() -> None:
    error = ServerUnavailable("no")
    assert airflows(error).__cause__ is error
