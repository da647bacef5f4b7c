"""Write as JSON, to the file named as argument, what the Airflow of this interpreter knows of the provider.

Run in environments that hold Airflow and the provider and nothing else, so it imports neither
pytest nor anything of the tests. Lists come from Airflow's own command line.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import pkgutil
import sys
from pathlib import Path
from typing import Any

KINDS = {"BooleanField": "boolean", "IntegerField": "integer", "StringField": "string", "PasswordField": "string"}


class Collector(logging.Handler):
    """Keeps the text of every record from here on, of whatever level and logger."""

    def __init__(self) -> None:
        super().__init__(level=logging.DEBUG)
        self.messages: list[str] = []
        logging.root.addHandler(self)
        for name in ("", "airflow"):
            logging.getLogger(name).setLevel(logging.DEBUG)

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def airflow_command(*arguments: str) -> Any:
    """Run ``airflow ARGUMENTS --output json`` in this process and read its answer."""
    from airflow.cli.cli_parser import get_parser

    parsed = get_parser().parse_args([*arguments, "--output", "json"])
    with contextlib.redirect_stdout(io.StringIO()) as answer:
        parsed.func(parsed)
    text = answer.getvalue()
    return json.loads(text[text.index("[") :])


def registered() -> dict[str, list[Any]]:
    """What the registry took over: links, and the hook by its connection type, for the core and (3.2+) for tasks."""
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    found = [manager.hooks["bacalhau"]]
    with contextlib.suppress(ImportError):
        from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

        found.append(ProvidersManagerTaskRuntime().hooks["bacalhau"])
    return {
        "link_classes": list(manager.extra_links_class_names),
        "hook_classes": [hook and hook.hook_class_name for hook in found],
    }


def connection_form() -> dict[str, Any]:
    """The connection type as the web interface is given it: its name, its own fields, the standard fields it hides."""
    try:
        from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
    except ImportError:
        return connection_form_of_airflow_2()
    [meta] = [meta for meta in HookMetaService.hook_meta_data() if meta.connection_type == "bacalhau"]
    standard = meta.standard_fields.model_dump() if meta.standard_fields else {}
    fields = {
        name: {
            "label": field["schema"]["title"],
            "description": field["description"],
            "default": field["value"],
            "kind": next(kind for kind in KINDS.values() if kind in field["schema"]["type"]),
            "choices": field["schema"].get("enum"),
            "stars": field["schema"].get("format") == "password",
        }
        for name, field in (meta.extra_fields or {}).items()
    }
    hidden = [name for name, behaviour in standard.items() if behaviour and behaviour["hidden"]]
    return {"name": meta.hook_name, "fields": fields, "hidden": hidden}


def connection_form_of_airflow_2() -> dict[str, Any]:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    fields = {
        widget.field_name: {
            "label": widget.field.args[0],
            "description": widget.field.kwargs["description"],
            "default": widget.field.kwargs["default"],
            "kind": KINDS[widget.field.field_class.__name__],
            "choices": next(
                (v.values for v in widget.field.kwargs.get("validators", ()) if hasattr(v, "values")), None
            ),
            "stars": widget.field.field_class.__name__ == "PasswordField",
        }
        for name, widget in manager.connection_form_widgets.items()
        if name.startswith("extra__bacalhau__")
    }
    hidden = manager.field_behaviours["bacalhau"]["hidden_fields"]
    return {"name": manager.hooks["bacalhau"].hook_name, "fields": fields, "hidden": hidden}


def links_after_a_round_trip() -> dict[str, list[str]]:
    """Extra links of a plain and a mapped submit operator that went through a serialized DAG, by task id."""
    from airflow.providers.common.compat.sdk import DAG

    try:
        from airflow.serialization.serialized_objects import DagSerialization
    except ImportError:  # Airflow < 3.2
        from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization

    from airflow_provider_bacalhau.operators.bacalhau import BacalhauSubmitJobOperator

    with DAG("round_trip", schedule=None) as dag:
        BacalhauSubmitJobOperator(task_id="plain", job_spec={})
        BacalhauSubmitJobOperator.partial(task_id="mapped", job_spec={}).expand(inputs=[[], []])
    text = json.dumps(DagSerialization.to_dict(dag))
    restored = DagSerialization.from_dict(json.loads(text))
    return {task_id: list(restored.get_task(task_id).extra_links) for task_id in ("plain", "mapped")}


def imported_modules() -> list[str]:
    """Import every module of the package but those that need the extra ``devnode``."""
    import airflow_provider_bacalhau

    names = [
        info.name
        for info in pkgutil.walk_packages(
            airflow_provider_bacalhau.__path__,
            "airflow_provider_bacalhau.",
            onerror=lambda name: None,
        )
        if not info.name.startswith("airflow_provider_bacalhau.devnode")
    ]
    for name in names:
        importlib.import_module(name)
    return names


def main() -> None:
    import airflow

    import airflow_provider_bacalhau

    collector = Collector()  # Airflow's import sets logging up anew, so not before
    report = {
        **registered(),  # first, since Airflow's commands switch logging off
        "airflow": airflow.__version__,
        "package": airflow_provider_bacalhau.__file__,
        "modules": imported_modules(),
        "providers": airflow_command("providers", "list"),
        "hooks": airflow_command("providers", "hooks"),
        "links": airflow_command("providers", "links"),
        "triggers": airflow_command("providers", "triggers"),
        "widgets": airflow_command("providers", "widgets"),
        "form": connection_form(),
        "round_trip": links_after_a_round_trip(),
        "log": collector.messages,
    }
    Path(sys.argv[1]).write_text(json.dumps(report, default=str))


if __name__ == "__main__":
    main()
