"""A Bacalhau node in one Python process, for laptops and tests.

It serves the HTTP API of a real server version on 127.0.0.1, runs WebAssembly jobs for real, publishes results under
the CIDs that a real node gives them, and serves those through an IPFS gateway::

    from airflow_provider_bacalhau.devnode import DevNode

    with DevNode() as node:
        print(node.api, node.gateway)

or ``python -m airflow_provider_bacalhau.devnode``.

Where it differs from a real node, on purpose:

* a CID that it does not have fails the execution at once, instead of blocking the node for minutes;
* queued jobs are looked at every second (``queue_backoff``), and again after a restart, which real nodes forget;
* a total timeout ends a job on time, not up to two and a half minutes late;
* the execution record holds the beginning of the output, not only the program's first write;
* a URL that does not answer is asked once, not four times;
* WebAssembly programs have no network; there is no Docker engine and no rate limit;
* every compute node offers 80 % of the machine, as real ones do, but at least four cores.

Needs the ``devnode`` extra. Importing this package costs nothing:
what it is made of is imported when :class:`DevNode` is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_bacalhau.devnode.faults import Fault
    from airflow_provider_bacalhau.devnode.node import DevNode

__all__ = ["DevNode", "Fault"]

MISSING_EXTRA = "the embedded node needs wasmtime: pip install 'apache-airflow-providers-bacalhau[devnode]'"


def __getattr__(name: str) -> Any:
    if name == "Fault":
        from airflow_provider_bacalhau.devnode.faults import Fault

        return Fault
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
