"""The registry's entry of the provider: a literal, and right by both of Airflow's schemas."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from airflow_provider_bacalhau import provider_info

ROOT = Path(__file__).parent.parent.parent


def schema(name: str) -> dict[str, Any]:
    spec = importlib.util.find_spec("airflow")
    assert spec is not None
    [path] = [path for folder in spec.submodule_search_locations or () if (path := Path(folder, name)).is_file()]
    read: dict[str, Any] = json.loads(path.read_text())
    return read


def strings_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in items for text in strings_in(item)]


def test_it_is_one_literal() -> None:
    module = ast.parse(inspect.getsource(provider_info))
    docstring, future, typing, function = module.body
    assert isinstance(docstring, ast.Expr)
    assert [node.module for node in (future, typing) if isinstance(node, ast.ImportFrom)] == ["__future__", "typing"]
    assert isinstance(function, ast.FunctionDef)
    _, answer = function.body
    assert isinstance(answer, ast.Return)
    assert answer.value is not None
    assert ast.literal_eval(answer.value) == provider_info.get_provider_info()


def test_it_is_valid_at_run_time() -> None:
    jsonschema.validate(provider_info.get_provider_info(), schema("provider_info.schema.json"))


def test_it_is_valid_by_the_strict_schema_of_official_providers() -> None:
    official = {"state": "ready", "source-date-epoch": 0, "versions": ["0.1.0"]}
    jsonschema.validate(provider_info.get_provider_info() | official, schema("provider.yaml.schema.json"))


def test_its_name_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert provider_info.get_provider_info()["package-name"] == project["name"]


@pytest.mark.parametrize(
    "path", [text for text in strings_in(provider_info.get_provider_info()) if text.startswith("airflow")]
)
def test_every_class_path_begins_as_airflow_wants_it(path: str) -> None:
    assert path.startswith("airflow.providers.bacalhau.")


def test_its_settings_are_in_airflows_configuration() -> None:
    from airflow.providers.common.compat.sdk import conf

    options = provider_info.get_provider_info()["config"]["bacalhau"]["options"]
    assert options.keys() == {"deployment_id"}
    for name, option in options.items():
        assert option.keys() >= {"description", "type", "default", "version_added"}
        assert (conf.get("bacalhau", name, fallback="") or "") == (option["default"] or "")
