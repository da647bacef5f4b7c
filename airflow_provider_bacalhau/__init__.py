"""Apache Airflow provider for Bacalhau.

Airflow imports this package in every process, so it holds the version and nothing else.
"""

__version__ = "0.1.0"
