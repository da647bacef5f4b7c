"""What the fault tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .stage import Theatre, theatre


@pytest.fixture(scope="module")
def whole_airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    """One Airflow for all tests of a module, since its start takes 16 seconds and more."""
    with theatre(tmp_path_factory.mktemp("whole-airflow")) as opened:
        yield opened
