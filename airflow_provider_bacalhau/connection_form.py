"""The connection form for Airflow 2.11 to 3.1, built from the same dict that later versions read.

Those versions ask the hook class for its form; from 3.2 on Airflow takes it from
:func:`~airflow_provider_bacalhau.provider_info.get_provider_info` and calls neither method of the hook. This module can
go when 3.2 is the oldest supported version.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_bacalhau.provider_info import get_provider_info


def form_widgets() -> dict[str, Any]:
    """Return what the hook's ``get_connection_form_widgets`` returns: WTForms fields by their name in ``extra``.

    Only fields of the classes that Airflow allows there: text, password, integer and boolean. An empty text arrives
    in the connection's ``extra`` as nothing, an empty integer as None.
    """
    return {name: _field(definition) for name, definition in _connection_type()["conn-fields"].items()}


def field_behaviour() -> dict[str, Any]:
    """Return what the hook's ``get_ui_field_behaviour`` returns: which fields to hide, rename and explain."""
    behaviour = _connection_type()["ui-field-behaviour"]
    return {
        "hidden_fields": behaviour["hidden-fields"],
        "relabeling": behaviour["relabeling"],
        "placeholders": behaviour["placeholders"],
    }


def _connection_type() -> dict[str, Any]:
    entry: dict[str, Any]
    [entry] = get_provider_info()["connection-types"]
    return entry


def _field(definition: dict[str, Any]) -> Any:
    # 2.11 has these, 3.0 when its FAB provider is installed, and 3.1 puts stand-ins in place while it asks.
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from wtforms import BooleanField, IntegerField, PasswordField, StringField
    from wtforms.validators import Optional, any_of

    schema = definition["schema"]
    label, default, description = definition["label"], schema.get("default"), definition["description"]
    types = {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])
    if "boolean" in types:
        return BooleanField(label, default=default, description=description)
    field_class, widget = (IntegerField if "integer" in types else StringField), BS3TextFieldWidget
    if schema.get("format") == "password":
        field_class, widget = PasswordField, BS3PasswordFieldWidget
    # Without Optional, 2.11 refuses to save any connection, of whatever type, whose form has this field empty.
    validators = [Optional(), any_of(schema["enum"])] if "enum" in schema else [Optional()]
    return field_class(label, validators=validators, default=default, description=description, widget=widget())
