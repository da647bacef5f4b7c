"""Registered name of :mod:`airflow_provider_bacalhau.operators.bacalhau`."""

from airflow_provider_bacalhau.operators.bacalhau import (
    BacalhauGetResultsOperator,
    BacalhauStopJobOperator,
    BacalhauSubmitJobOperator,
)

__all__ = ["BacalhauGetResultsOperator", "BacalhauStopJobOperator", "BacalhauSubmitJobOperator"]
