"""A Bacalhau network as the tests of operations see it: one job, one result, one gateway."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from airflow_provider_bacalhau.client.effects import Failure, TransportError
from airflow_provider_bacalhau.client.operations import Operations
from airflow_provider_bacalhau.client.settings import ClientSettings

CID = "QmbmHZ4SjokWhB5qNrpbSnBtv2EAieUCjvc2gy8ZRnBbup"
FOLDER = "QmdzCsMfQikrBsN7rpCj2p5NbtFbzBy8KHe2m8cZtzvhD6"
GATEWAY = "http://gateway.example:8080"
LOST = TransportError(Failure.LOST, sent=True, detail="Error, host")


class Spec:
    name: str | None = "n-1"
    namespace: str | None = None

    def to_wire(self, *, module_sources: bool) -> dict[str, Any]:
        return {"Name": self.name}


SPEC: Any = Spec()


def operations(*, gateway: str = GATEWAY, clock: Callable[[], float] | None = None) -> Operations:
    return Operations(
        ClientSettings("http://host:1234", ipfs_gateway=gateway), clock or itertools.count(1000.0).__next__
    )


def job(state: str = "Completed", **other: Any) -> dict[str, Any]:
    return {
        "ID": "j-1",
        "Name": "n-1",
        "Namespace": "default",
        "Type": "batch",
        "Count": 1,
        "State": {"StateType": state},
        **other,
    }


RAN = {"ID": "e-1", "JobID": "j-1", "ComputeState": {"StateType": 9}, "RunOutput": {"ExitCode": 0, "Stdout": "said"}}
IPFS = {"Type": "ipfs", "Params": {"CID": CID}}
LOCAL = {"Type": "urlDownload", "Params": {"URL": "http://node.example/e-1.tar.gz"}}
