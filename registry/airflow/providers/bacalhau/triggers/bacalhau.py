"""Registered name of :mod:`airflow_provider_bacalhau.triggers.bacalhau`."""

from airflow_provider_bacalhau.triggers.bacalhau import BacalhauJobTrigger

__all__ = ["BacalhauJobTrigger"]
