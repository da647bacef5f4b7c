"""Registered name of :mod:`airflow_provider_bacalhau.hooks.bacalhau`."""

from airflow_provider_bacalhau.hooks.bacalhau import BacalhauHook

__all__ = ["BacalhauHook"]
