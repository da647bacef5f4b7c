"""A Bacalhau node in one Python process, for laptops and tests.

It serves the HTTP API of a real server version on 127.0.0.1, runs WebAssembly jobs for real, publishes results under
the CIDs that a real node gives them, and serves those through an IPFS gateway::

    from airflow_provider_bacalhau.devnode import DevNode

    with DevNode() as node:
        print(node.api, node.gateway)

or ``python -m airflow_provider_bacalhau.devnode``. Needs the ``devnode`` extra. Importing this package costs nothing:
what it is made of is imported when :class:`DevNode` is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_bacalhau.devnode.node import DevNode

__all__ = ["DevNode"]

MISSING_EXTRA = "the embedded node needs wasmtime: pip install 'apache-airflow-providers-bacalhau[devnode]'"


def __getattr__(name: str) -> Any:
    if name != "DevNode":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from airflow_provider_bacalhau.devnode.node import DevNode
    except ModuleNotFoundError as error:
        if error.name == "wasmtime":
            raise ImportError(MISSING_EXTRA, name="wasmtime") from None
        raise
    globals()[name] = DevNode
    return DevNode
