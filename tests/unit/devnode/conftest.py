from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_bacalhau.devnode import DevNode

from .specs import Api


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevNode]:
    readable = tmp_path_factory.mktemp("readable")
    (readable / "hello.txt").write_text("hello from the host")
    with DevNode(queue_backoff=0.05, allow_local_paths=[f"{readable}/**"]) as started:
        started.readable = readable  # type: ignore[attr-defined] # for the tests of local inputs
        yield started


@pytest.fixture
def api(node: DevNode) -> Api:
    return Api(node)
