"""Which job specifications are names of template files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bacalhau.templates import read_template_file


@pytest.fixture
def environment(tmp_path: Path) -> jinja2.Environment:
    (tmp_path / "jobs").mkdir()
    for name in ("job.yaml", "job.yml", "job.json", "jobs/deep.yaml"):
        (tmp_path / name).write_text("{{ task }}")
    return jinja2.Environment(loader=jinja2.FileSystemLoader(tmp_path), autoescape=False)


@pytest.mark.parametrize("name", ["job.yaml", "job.yml", "job.json", "jobs/deep.yaml", " job.yaml\n"])
def test_one_line_with_a_known_ending_is_read_and_not_yet_rendered(environment: jinja2.Environment, name: str) -> None:
    assert read_template_file(name, environment) == "{{ task }}"


@pytest.mark.parametrize(
    "value",
    [
        {"Name": "job.yaml"},
        ["job.yaml"],
        None,
        "",
        "Type: batch\nName: job.yaml",
        '{"Name": "job"}',
        "{{ params.file }}",
        "job.YAML",
        "job.yaml.txt",
    ],
)
def test_anything_else_stays_as_it_is(environment: jinja2.Environment, value: Any) -> None:
    assert read_template_file(value, environment) is value


@pytest.mark.parametrize("name", ["missing.yaml", "../job.yaml", "/etc/job.yaml"])
def test_a_file_that_is_not_there_is_a_final_error_that_says_where_it_was_looked_for(
    environment: jinja2.Environment, name: str
) -> None:
    with pytest.raises(AirflowFailException) as caught:
        read_template_file(name, environment)
    assert name in str(caught.value)
    assert "template_searchpath" in str(caught.value)
