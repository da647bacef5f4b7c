"""Registered name of :mod:`airflow_provider_bacalhau.links.bacalhau`."""

from airflow_provider_bacalhau.links.bacalhau import BacalhauJobLink

__all__ = ["BacalhauJobLink"]
