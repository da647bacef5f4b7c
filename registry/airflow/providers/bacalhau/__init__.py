"""The provider's classes under the names that Airflow's registry accepts.

People import them from ``airflow_provider_bacalhau``.

Airflow drops every class that a distribution named ``apache-airflow-…`` registers under another path than
``airflow.providers.…`` (``airflow.providers_manager._check_builtin_provider_prefix``). The folders ``airflow`` and
``airflow/providers`` have no ``__init__.py``: those packages belong to Airflow, and ours would hide them.
"""
