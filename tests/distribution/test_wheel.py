"""What is in the wheel, and what is not."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_wheel_leaves_airflows_own_packages_alone(wheel_files: set[str]) -> None:
    assert not wheel_files & {"airflow/__init__.py", "airflow/providers/__init__.py"}
    assert all(name.startswith("airflow/providers/bacalhau/") for name in wheel_files if name.startswith("airflow/"))


def test_the_wheel_holds_the_package_and_its_registered_names_only(wheel_files: set[str]) -> None:
    top = {name.split("/")[0] for name in wheel_files}
    assert {name for name in top if not name.endswith(".dist-info")} == {"airflow", "airflow_provider_bacalhau"}


def test_the_wheel_has_every_module_of_the_tree(wheel_files: set[str]) -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "airflow_provider_bacalhau").rglob("*.py")}
    registered = {str(path.relative_to(ROOT / "registry")) for path in (ROOT / "registry").rglob("*.py")}
    assert modules | registered <= wheel_files


def test_type_checkers_are_told_that_the_package_is_typed(wheel_files: set[str]) -> None:
    assert "airflow_provider_bacalhau/py.typed" in wheel_files
