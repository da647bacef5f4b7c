"""The provider as Airflow sees it once it is installed: editable, and as a wheel with Airflow 3.3 and 2.11."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bacalhau import __version__
from airflow_provider_bacalhau.provider_info import get_provider_info

PACKAGE = "apache-airflow-providers-bacalhau"
CONNECTION = get_provider_info()["connection-types"][0]

# The first environment of a machine is downloaded.
pytestmark = pytest.mark.timeout(600)


def rows_of(report: dict[str, Any], listing: str) -> list[dict[str, Any]]:
    """The rows of a listing that are about this provider."""
    return [row for row in report[listing] if "bacalhau" in str(row).lower()]


def test_the_provider_is_listed(report: dict[str, Any]) -> None:
    [row] = rows_of(report, "providers")
    assert row["package_name"] == PACKAGE
    assert row["version"] == __version__


def test_nothing_was_dropped_or_skipped(report: dict[str, Any]) -> None:
    assert any("Initializing Provider" in message for message in report["log"]), "the log was not collected"
    complaints = ("Coherence check failed", "Optional provider feature disabled", "Exception when importing")
    assert [message for message in report["log"] if message.startswith(complaints)] == []
    assert [message for message in report["log"] if "bacalhau" in message.lower() and "warn" in message.lower()] == []


def test_the_hook_and_its_connection_type_are_listed(report: dict[str, Any]) -> None:
    [row] = rows_of(report, "hooks")
    assert row["connection_type"] == "bacalhau"
    assert row["class"] == CONNECTION["hook-class-name"]
    assert row["conn_id_attribute_name"] == "bacalhau_conn_id"
    assert row["package_name"] == PACKAGE
    assert row["hook_name"] == CONNECTION["hook-name"]
    assert set(report["hook_classes"]) == {CONNECTION["hook-class-name"]}


def test_the_connection_form_has_every_field(report: dict[str, Any]) -> None:
    assert report["form"]["name"] == CONNECTION["hook-name"]
    assert report["form"]["fields"] == {
        name: {
            "label": field["label"],
            "description": field["description"],
            "default": field["schema"].get("default"),
            "kind": field["schema"]["type"] if isinstance(field["schema"]["type"], str) else field["schema"]["type"][0],
            "choices": field["schema"].get("enum"),
            "stars": field["schema"].get("format") == "password",
        }
        for name, field in CONNECTION["conn-fields"].items()
    }
    names = {row["connection_parameter_name"].removeprefix("extra__bacalhau__") for row in rows_of(report, "widgets")}
    assert names == set(CONNECTION["conn-fields"])


def test_the_form_hides_the_fields_that_nothing_reads(report: dict[str, Any]) -> None:
    hidden = set(report["form"]["hidden"])
    # Airflow 3 calls the field `schema` of a connection `url_schema`, and always shows `extra`.
    assert hidden & {"schema", "url_schema"}
    assert not hidden & {"login", "password"}


def test_the_extra_link_is_listed(report: dict[str, Any]) -> None:
    [row] = rows_of(report, "links")
    path = "airflow.providers.bacalhau.links.bacalhau.BacalhauJobLink"
    assert row["extra_link_class_name"] == path
    assert path in report["link_classes"]


def test_the_trigger_is_listed(report: dict[str, Any]) -> None:
    [row] = rows_of(report, "triggers")
    assert row["class"] == "airflow.providers.bacalhau.triggers.bacalhau"


@pytest.mark.parametrize("task_id", ["plain", "mapped"])
def test_the_link_to_the_job_survives_serialization(report: dict[str, Any], task_id: str) -> None:
    from airflow_provider_bacalhau.links.bacalhau import BacalhauJobLink

    assert report["round_trip"][task_id] == [BacalhauJobLink.name]


def test_every_module_can_be_imported_without_the_extras(report: dict[str, Any]) -> None:
    assert "airflow_provider_bacalhau.operators.bacalhau" in report["modules"]
