from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.spec import (
    IpfsPathInput,
    JobInput,
    ReadyInput,
    ResultInput,
    assign_mounts,
    docker_job,
    parse_inputs,
    read_job_spec,
)

CID = "QmRNmZCoujKHMqgXypPfKkYJCDV4r8WogVoDVSrLmwEoFR"
CID1 = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"
JOB = "j-81a6cbb4-76f8-4deb-8114-ec3418368072"
IPFS = {"Type": "ipfs", "Params": {"CID": CID}}
IPFS_RESULT = {"type": "ipfs", "job_id": JOB, "execution_id": None, "cid": CID}
URL_RESULT = {"type": "url", "job_id": JOB, "execution_id": "e-1", "index": 2}
S3_RESULT = {"type": "s3", "job_id": JOB, "execution_id": None, "source": {"Bucket": "b", "Key": "k/"}}


def download(url: str) -> dict[str, Any]:
    return {"Type": "urlDownload", "Params": {"URL": url}}


def s3(**params: str) -> dict[str, Any]:
    return {"Type": "s3", "Params": params}


@pytest.mark.parametrize(
    ("text", "source", "target"),
    [
        (CID, IPFS, None),
        (f"  {CID}\n", IPFS, None),
        (f"{CID}:/data", IPFS, "/data"),
        (f"ipfs://{CID}", IPFS, None),
        (f"ipfs://{CID}/", IPFS, None),
        (f"IPFS://{CID}:/data/", IPFS, "/data"),
        (f"ipfs://B{CID1[1:].upper()}", {"Type": "ipfs", "Params": {"CID": CID1}}, None),
        ("s3://bucket", s3(Bucket="bucket"), None),
        ("s3://bucket/a/b*", s3(Bucket="bucket", Key="a/b*"), None),
        ("s3://bucket/a:b:/data", s3(Bucket="bucket", Key="a:b"), "/data"),
        ("https://host/x.csv", download("https://host/x.csv"), None),
        ("https://host:8080/x.csv", download("https://host:8080/x.csv"), None),
        ("https://host:8080/x.csv:/data", download("https://host:8080/x.csv"), "/data"),
        ("https://h/x?from=https://g/y", download("https://h/x?from=https://g/y"), None),
        ("http://h/x:1:/data/sub", download("http://h/x:1"), "/data/sub"),
        ("file:///data/a%20b", {"Type": "localDirectory", "Params": {"SourcePath": "/data/a b"}}, None),
        ("file:///data:/mnt", {"Type": "localDirectory", "Params": {"SourcePath": "/data"}}, "/mnt"),
    ],
)
def test_a_text_names_data_and_perhaps_a_mount(text: str, source: dict[str, Any], target: str | None) -> None:
    assert parse_inputs(text) == [ReadyInput(source, target, "inputs")]


@pytest.mark.parametrize("text", [f"ipfs://{CID}/outputs/a.txt:/data", f"{CID}/outputs/a.txt/:/data"])
def test_a_path_inside_a_cid_is_kept_for_a_gateway(text: str) -> None:
    (one,) = parse_inputs(text)
    assert one == IpfsPathInput(CID, "outputs/a.txt", "/data", "inputs")
    assert isinstance(one, IpfsPathInput)
    assert one.ready(CID1) == ReadyInput({"Type": "ipfs", "Params": {"CID": CID1}}, "/data", "inputs")


@pytest.mark.parametrize("job_id", [JOB, JOB.removeprefix("j-")])
def test_a_job_id_stands_for_the_jobs_results(job_id: str) -> None:
    assert parse_inputs([job_id, f"{job_id}:/data"]) == [
        JobInput(job_id, None, "inputs[0]"),
        JobInput(job_id, "/data", "inputs[1]"),
    ]


def test_several_cids_in_one_text_are_several_inputs() -> None:
    assert [one.target for one in parse_inputs(f"{CID},{CID1}")] == [None, None]
    assert [one.target for one in parse_inputs(f"{CID}, {CID1}/outputs:/data")] == ["/data/0", "/data/1"]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ({"Source": IPFS, "Target": "/data"}, ReadyInput(IPFS, "/data", "inputs")),
        ({"source": {"type": "IPFS", "params": {"cid": CID}}, "alias": "a"}, ReadyInput(IPFS, None, "inputs", "a")),
        (IPFS, ReadyInput(IPFS, None, "inputs")),
        ({"type": "s3", "params": {"bucket": "b"}}, ReadyInput(s3(Bucket="b"), None, "inputs")),
        (IPFS_RESULT, ReadyInput(IPFS, None, "inputs")),
        ({**IPFS_RESULT, "target": "/data"}, ReadyInput(IPFS, "/data", "inputs")),
        (S3_RESULT, ReadyInput(s3(Bucket="b", Key="k/"), None, "inputs")),
        (URL_RESULT, ResultInput(JOB, 2, None, "inputs", "e-1")),
    ],
)
def test_a_dict_is_an_input_source_a_source_or_a_result(value: dict[str, Any], read: object) -> None:
    assert parse_inputs(value) == [read]


def test_lists_are_flattened_in_order_and_each_item_keeps_its_name() -> None:
    read = parse_inputs([[CID], [], (f"{CID}:/a", [IPFS_RESULT, JOB]), CID1])
    assert [one.item for one in read] == [
        "inputs[0][0]",
        "inputs[2][0]",
        "inputs[2][1][0]",
        "inputs[2][1][1]",
        "inputs[3]",
    ]


@given(st.recursive(st.integers(0, 99), lambda inner: st.lists(inner, max_size=4), max_leaves=20))
def test_flattening_never_loses_or_moves_an_item(tree: Any) -> None:
    def write(node: Any) -> Any:
        return [write(item) for item in node] if isinstance(node, list) else f"{CID}:/m{node}"

    def leaves(node: Any) -> list[int]:
        return [leaf for item in node for leaf in leaves(item)] if isinstance(node, list) else [node]

    assert [one.target for one in parse_inputs(write(tree))] == [f"/m{leaf}" for leaf in leaves(tree)]


NOTHING = "The task that should have given it pushed nothing"
REFUSED: list[tuple[Any, str]] = [
    (None, f"inputs: is empty. {NOTHING}"),
    ("", f"inputs: is empty. {NOTHING}"),
    ([CID, "  "], f"inputs[1]: is empty. {NOTHING}"),
    ([CID, [None]], f"inputs[1][0]: is empty. {NOTHING}"),
    ("None", NOTHING),
    ("None:/data", NOTHING),
    ("None/outputs:/data", NOTHING),
    (":/data", NOTHING),
    ("ipfs://", NOTHING),
    ("ipfs://:/data", NOTHING),
    ("ipfs://None:/data", NOTHING),
    (["x", CID], "inputs[0]: 'x' is not a CID"),
    (f"ipfs://{CID[:-1]}:/data", "is not a CID"),
    (f"{CID},nope", "'nope' is not a CID"),
    (f"{CID},", "'' is not a CID"),
    (f"/ipfs/{CID}", "Write it as ipfs://CID/path"),
    (f"{CID}:data", "a mount must be an absolute path"),
    (f"{CID}:", "has an empty mount"),
    ("https://host/x:", "has an empty mount"),
    (f"{CID}:/", "the mount is the root folder"),
    (f"{CID}:/a/../b", "the mount is '/a/../b', and must be written without"),
    (f"{CID}:/a//b", "the mount is '/a//b', and must be written without"),
    (f"{CID}:/a\0b", "control characters"),
    (f"ipfs://{CID}/../x", "the path after the CID is '/../x'"),
    ("s3://", "inputs.Params.Bucket: is empty"),
    ("s3:///key", "inputs.Params.Bucket: is empty"),
    ("https://", "is not an http:// or https:// URL"),
    ("file://host/data", "names a host"),
    ("file://", "inputs.Params.SourcePath: is empty"),
    ("ftp://host/x", "ftp:// is not known"),
    ("j-81a6cbb4", "'j-81a6cbb4' is not a CID"),
    ("[{'type': 'ipfs'}]", "Hand over the task's output itself"),
    ('{"type": "ipfs"}', "Hand over the task's output itself"),
    (("a", IPFS_RESULT), "inputs: ('a', …) is a pair of key and value. Expand over a list of results, not a dict."),
    ((0, IPFS_RESULT), "is a pair of key and value"),
    ([("type", "ipfs")], "inputs[0]: ('type', …) is a pair of key and value"),
    (5, "inputs: cannot be int. An input is ipfs://CID"),
    (b"Qm", "cannot be bytes"),
    ({}, "cannot be a dict with the keys (none)"),
    ({"cid": CID}, "cannot be a dict with the keys cid"),
    ({"Source": {"Type": "ipfs", "Params": {"CID": f"{CID}/x"}}}, "inputs.Source.Params.CID: "),
    ([{"source": IPFS, "target": "rel"}], "inputs[0].Target: the mount is 'rel', and must be an absolute path"),
    ({"source": IPFS, "targt": "/x"}, "inputs.targt: is not a known key. Did you mean `Target`?"),
    ({"Source": {"Type": "s3PreSigned", "Params": {}}}, "cannot be 's3PreSigned' here"),
    ({"type": "s3managed", "job_id": JOB, "execution_id": None, "index": 0}, "Publish to ipfs or s3 in the job that"),
    ({"type": "tape", "job_id": JOB}, "is a result reference of type 'tape' that cannot be read"),
    ({"type": "s3", "job_id": JOB}, "is a result reference of type 's3' that cannot be read"),
    ({"type": "url", "job_id": JOB}, "is a result reference of type 'url' that cannot be read"),
    ({"type": "ipfs", "job_id": JOB}, "is not a CID"),
    ({**IPFS_RESULT, "target": "rel"}, "inputs.target: the mount is 'rel'"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "message"), REFUSED)
def test_what_is_no_input_is_refused_with_the_name_of_the_item(value: Any, message: str) -> None:
    with pytest.raises(InvalidJobSpec) as caught:
        parse_inputs(value)
    assert message in str(caught.value)
    assert str(caught.value).startswith("inputs")


@given(st.text(max_size=60))
def test_no_text_makes_reading_fail_in_another_way(text: str) -> None:
    try:
        read = parse_inputs([text])
    except InvalidJobSpec:
        return
    assert read


def test_two_texts_in_a_tuple_are_two_inputs() -> None:
    assert len(parse_inputs((CID, f"{CID}:/b"))) == 2


def test_a_signed_url_does_not_show_in_an_input() -> None:
    one = ResultInput(JOB, 0, "/data", "inputs[0]").ready("https://host/x?X-Amz-Signature=secret")
    assert one.source == download("https://host/x?X-Amz-Signature=secret")
    assert one.target == "/data"
    assert "secret" not in repr(one)


def test_a_result_that_arrives_packed_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    packed = {**S3_RESULT, "source": {"Bucket": "b", "Key": "k.tar.gz"}}
    with caplog.at_level(logging.WARNING):
        parse_inputs([IPFS_RESULT, URL_RESULT, packed, S3_RESULT])
    (record,) = caplog.records
    assert record.getMessage().startswith("inputs[1], inputs[2]: the result arrives as one .tar.gz file")


def test_a_job_becomes_its_results() -> None:
    job = JobInput(JOB, None, "inputs[1]")
    assert job.expand([IPFS_RESULT, URL_RESULT]) == [
        ReadyInput(IPFS, None, "inputs[1]"),
        ResultInput(JOB, 2, None, "inputs[1]", "e-1"),
    ]
    mounted = JobInput(JOB, "/data", "inputs[1]")
    assert [one.target for one in mounted.expand([IPFS_RESULT])] == ["/data"]
    assert [one.target for one in mounted.expand([IPFS_RESULT, S3_RESULT])] == ["/data/0", "/data/1"]


def test_a_job_without_results_is_no_input() -> None:
    with pytest.raises(InvalidJobSpec, match=rf"^inputs\[1\]: Job {JOB} has no results. Give it a publisher"):
        JobInput(JOB, None, "inputs[1]").expand([])


def ready(*targets: str | None) -> list[ReadyInput]:
    return [ReadyInput(IPFS, target, f"inputs[{number}]") for number, target in enumerate(targets)]


@pytest.mark.parametrize(
    ("given_targets", "targets"),
    [
        ([], []),
        ([None], ["/inputs"]),
        ([None, None], ["/inputs/0", "/inputs/1"]),
        (["/model", None], ["/model", "/inputs"]),
        ([None, "/model", None], ["/inputs/0", "/model", "/inputs/2"]),
        (["/a", "/b"], ["/a", "/b"]),
    ],
)
def test_inputs_without_a_mount_are_numbered_by_their_place(
    given_targets: list[str | None], targets: list[str]
) -> None:
    assert assign_mounts(ready(*given_targets)) == [{"Source": IPFS, "Target": target} for target in targets]


@given(st.lists(st.sampled_from([None, "own"]), max_size=12))
def test_no_two_inputs_get_one_place(kinds: list[str | None]) -> None:
    inputs = ready(*(kind and f"/own/{number}" for number, kind in enumerate(kinds)))
    targets = [source["Target"] for source in assign_mounts(inputs)]
    assert len(set(targets)) == len(kinds)
    for number, (kind, target) in enumerate(zip(kinds, targets, strict=True)):
        assert target.endswith(f"/{number}") or (kind is None and target == "/inputs")


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["/a", "/a"], "inputs[1]: is to be mounted at /a, where inputs[0] has an input already"),
        ([None, "/inputs"], "inputs[1]: is to be mounted at /inputs, where inputs[0] has an input already"),
        (["/taken"], "inputs[0]: is to be mounted at /taken, where the job specification has an input already"),
    ],
)
def test_two_inputs_at_one_place_are_refused(targets: list[str | None], message: str) -> None:
    spec = read_job_spec(docker_job("alpine", inputs=[{"Source": IPFS, "Target": "/taken"}]))
    with pytest.raises(InvalidJobSpec) as caught:
        assign_mounts(ready(*targets), spec)
    assert message in str(caught.value)


def test_an_inline_file_needs_its_full_path() -> None:
    inline = {"Type": "inline", "Params": {"URL": "data:,x"}}
    with pytest.raises(InvalidJobSpec, match=r"inputs\[0\]: is an inline file, which needs a mount"):
        assign_mounts([ReadyInput(inline, None, "inputs[0]")])


def test_inputs_join_those_of_the_specification_with_their_aliases() -> None:
    spec = read_job_spec(docker_job("alpine", inputs=[{"Source": IPFS, "Target": "/taken"}]))
    inputs = parse_inputs([f"{CID}:/a", {"Source": IPFS, "Target": "/b", "Alias": "second"}])
    joined = spec.with_inputs(assign_mounts([one for one in inputs if isinstance(one, ReadyInput)], spec))
    assert joined.to_wire()["Tasks"][0]["InputSources"] == [
        {"Source": IPFS, "Target": "/taken"},
        {"Source": IPFS, "Target": "/a"},
        {"Source": IPFS, "Target": "/b", "Alias": "second"},
    ]
