"""Registered name of :mod:`airflow_provider_bacalhau.sensors.bacalhau`."""

from airflow_provider_bacalhau.sensors.bacalhau import BacalhauJobSensor

__all__ = ["BacalhauJobSensor"]
