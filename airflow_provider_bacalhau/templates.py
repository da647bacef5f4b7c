"""Job specifications in template files."""

from __future__ import annotations

from typing import Any

_ENDINGS = (".yaml", ".yml", ".json")


def read_template_file(value: Any, jinja_env: Any) -> Any:
    """The text of a template file when the value is the name of one, else the value as it is.

    A name is one line that ends in ``.yaml``, ``.yml`` or ``.json``. It is looked for where Airflow looks for
    templates: beside the DAG file and in the DAG's ``template_searchpath``.

    :param value: an operator's ``job_spec``, not yet rendered.
    :param jinja_env: the task's template environment.
    :raises BacalhauTaskFailedForGood: when there is no such file.
    """
    if not isinstance(value, str) or "\n" in value.strip() or not value.strip().endswith(_ENDINGS):
        return value
    from jinja2 import TemplateNotFound

    from airflow_provider_bacalhau.client.errors import InvalidJobSpec
    from airflow_provider_bacalhau.exceptions import translated

    try:
        return jinja_env.loader.get_source(jinja_env, value.strip())[0]
    except TemplateNotFound:
        with translated():
            raise InvalidJobSpec(
                f"there is no template file {value.strip()!r}.",
                place="job_spec",
                hint="A template file is looked for beside the DAG file and in the DAG's template_searchpath.",
            ) from None
