from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.spec.legacy import parse_input_volumes, read_requester_spec

A = "QmQuBpy4mRYejBDGW2Nx1mzcHsTbBCTwTCEW3q95SQRFqB"
B = "QmbmHZ4SjokWhB5qNrpbSnBtv2EAieUCjvc2gy8ZRnBbup"


def mounted(cid: str, target: str) -> dict[str, Any]:
    return {"Source": {"Type": "ipfs", "Params": {"CID": cid}}, "Target": target}


def test_one_cid_is_mounted_where_it_is_said() -> None:
    assert parse_input_volumes([f"{A}:/task_1_output", f" {B}:/b/c/ "]) == [
        mounted(A, "/task_1_output"),
        mounted(B, "/b/c"),
    ]
    assert parse_input_volumes([]) == []


def test_several_cids_of_one_mount_get_a_folder_each() -> None:
    assert parse_input_volumes([f"{A}, {B}:/in"]) == [mounted(A, "/in/0"), mounted(B, "/in/1")]


def test_they_are_added_to_the_inputs_of_a_specification() -> None:
    own = [{"storagesource": "ipfs", "cid": A, "path": "/own"}]
    spec = read_requester_spec({"engine": "docker", "docker": {"image": "a"}, "inputs": own})
    with_volumes = spec.with_inputs(parse_input_volumes([f"{B}:/more"]))
    assert [source.target for source in with_volumes.task.input_sources] == ["/own", "/more"]


@pytest.mark.parametrize(
    ("items", "place", "message"),
    [
        (f"{A}:/in", "input_volumes", "must be a list of texts, not str"),
        (None, "input_volumes", "must be a list of texts, not NoneType"),
        ({f"{A}:/in"}, "input_volumes", "must be a list of texts, not set"),
        ([f"{A}:/in", 5], "input_volumes[1]", "must be text, not int"),
        ([None], "input_volumes[0]", "must be text"),
        ([A], "input_volumes[0]", "a colon, and a mount"),
        ([f"ipfs://{A}:/in"], "input_volumes[0]", "`inputs` take more forms"),
        ([f"{A}:/in:ro"], "input_volumes[0]", "a colon, and a mount"),
        ([":/in"], "input_volumes[0]", "names no CID"),
        (["None:/in"], "input_volumes[0]", "needs the publisher ipfs"),
        ([f"{A},:/in"], "input_volumes[0]", "is not a CID"),
        ([f"{A},,{B}:/in"], "input_volumes[0]", "is not a CID"),
        (["nonsense:/in"], "input_volumes[0]", "'nonsense' is not a CID"),
        ([f"{A}:"], "input_volumes[0]", "the mount is empty"),
        ([f"{A}:in"], "input_volumes[0]", "must be an absolute path"),
        ([f"{A}:/"], "input_volumes[0]", "root folder"),
        ([f"{A}:/in", f"{B}:/in"], "input_volumes[1]", "where input_volumes[0] is mounted already"),
        ([f"{A},{B}:/in", f"{B}:/in/1"], "input_volumes[1]", "mounted already"),
    ],
)
def test_a_malformed_item_is_refused_by_its_place(items: Any, place: str, message: str) -> None:
    with pytest.raises(InvalidJobSpec) as refused:
        parse_input_volumes(items)
    assert refused.value.place == place
    assert message in str(refused.value)
