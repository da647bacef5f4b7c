"""From the client's errors to what Airflow acts on: translated once, here.

What would fail again however often it is repeated becomes an ``AirflowFailException``, which no ``retries`` bring back;
everything else an ``AirflowException``. The client's error stays reachable as ``error``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client.errors import BacalhauError


class BacalhauTaskFailed(AirflowException):
    """A task failed in a way that may go better next time: the server was away, the job failed.

    :param error: the client's error; for a failed job its ``diagnosis`` says why.
    """

    def __init__(self, error: BacalhauError) -> None:
        super().__init__(str(error))
        self.error = error


class BacalhauTaskFailedForGood(AirflowFailException):
    """A task failed in a way that repeating cannot mend: a wrong spec, an unknown job, missing rights.

    :param error: the client's error.
    """

    def __init__(self, error: BacalhauError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def translated(*, others_job: bool = False, in_sensor: bool = False) -> Iterator[None]:
    """Raise the client's errors as Airflow's.

    :param others_job: whether another task submitted the job. A failed one is final then: no retry of this task brings
        another.
    :param in_sensor: whether what may go better next time goes on as the client's own error: a sensor's ``soft_fail``
        would turn an ``AirflowException`` into a skip in its deferred mode, but not in the other.
    """
    from airflow_provider_bacalhau.client.errors import (
        BacalhauError,
        JobFailed,
        JobLost,
        ResultUnavailable,
        Unreachable,
        WaitTimeout,
        WatchFailed,
    )

    try:
        yield
    except BacalhauError as error:
        # These say all there is to say: frames of the client below them would only hide it.
        if error.permanent or (others_job and isinstance(error, JobFailed)):
            raise BacalhauTaskFailedForGood(error) from None
        if in_sensor:
            raise
        if isinstance(error, JobFailed | JobLost | ResultUnavailable | Unreachable | WaitTimeout | WatchFailed):
            raise BacalhauTaskFailed(error) from None
        raise BacalhauTaskFailed(error) from error
