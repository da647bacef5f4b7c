"""What differs between the Airflow versions that are supported: the one place for it, each with when it can go."""

from __future__ import annotations


def airflow_address() -> str:
    """The address of this Airflow's web pages, or ``default`` when it is not configured."""
    from airflow import __version__
    from airflow.providers.common.compat.sdk import conf

    # Airflow 3 moved the option; asking it for the old one brings a warning. Can go with 2.11.
    section = "webserver" if __version__.startswith("2.") else "api"
    return str(conf.get(section, "base_url", fallback="") or "default")
