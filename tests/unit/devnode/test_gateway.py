"""Fetching results: the IPFS gateway and the local publisher, against recordings of kubo and of a real node."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from airflow_provider_bacalhau.devnode import DevNode

from .specs import Api, execution, inline, recorded, wasm_job

FOUR_WORDS = "QmQuBpy4mRYejBDGW2Nx1mzcHsTbBCTwTCEW3q95SQRFqB"
OUTPUTS = "QmdzCsMfQikrBsN7rpCj2p5NbtFbzBy8KHe2m8cZtzvhD6"


@pytest.fixture(scope="session")
def counted(node: DevNode) -> str:
    """The recorded word count, in this node's store."""
    words = inline(b"one two three four", "/inputs/a.txt")
    job = wasm_job("wc.wasm", "/inputs", "/outputs/count.txt", inputs=[words], outputs=["outputs"])
    assert Api(node).cid(job) == FOUR_WORDS
    return FOUR_WORDS


def get(node: DevNode, path: str, method: str = "GET", **headers: str) -> requests.Response:
    url = node.gateway + path
    return requests.request(method, url, headers=headers, allow_redirects=False, timeout=10)


@pytest.mark.parametrize("label", ["gateway: /outputs/count.txt", "gateway: /stderr", "gateway: root"])
def test_an_answer_has_the_recorded_headers(node: DevNode, counted: str, label: str) -> None:
    recording = recorded("ipfs")[label]
    answer = get(node, recording["request"]["path"])
    assert answer.status_code == recording["response"]["status"]
    for name, value in recording["response"]["headers"].items():
        assert answer.headers[name] == value, name


@pytest.mark.parametrize("label", ["gateway: /nosuch", "gateway: bad cid"])
def test_a_refusal_has_the_recorded_words(node: DevNode, counted: str, label: str) -> None:
    recording = recorded("ipfs")[label]
    answer = get(node, recording["request"]["path"])
    assert (answer.status_code, answer.text) == (recording["response"]["status"], recording["response"]["text"])


def test_an_absent_cid_is_412_when_only_the_cache_may_be_asked_and_404_otherwise(node: DevNode) -> None:
    recording = recorded("ipfs")["gateway: only-if-cached"]
    answer = get(node, recording["request"]["path"], **{"Cache-Control": "only-if-cached"})
    assert (answer.status_code, answer.text) == (412, recording["response"]["text"])
    assert get(node, recording["request"]["path"]).status_code == 404


def test_the_last_root_is_the_cid_of_what_the_path_leads_to(node: DevNode, counted: str) -> None:
    answer = get(node, f"/ipfs/{counted}/outputs", "HEAD")
    assert answer.status_code == 301
    assert answer.headers["X-Ipfs-Roots"] == f"{FOUR_WORDS},{OUTPUTS}"


@pytest.mark.parametrize(
    ("wanted", "status", "text"),
    [
        ("bytes=0-0", 206, "4"),
        ("bytes=2-", 206, "words\n"),
        ("bytes=-2", 206, "s\n"),
        ("bytes=9-", 416, None),
        ("lines=1", 200, "4 words\n"),
    ],
)
def test_ranges_are_served(node: DevNode, counted: str, wanted: str, status: int, text: str | None) -> None:
    answer = get(node, f"/ipfs/{counted}/stdout", Range=wanted)
    assert answer.status_code == status
    assert text is None or answer.text == text


def test_a_known_etag_is_not_modified(node: DevNode, counted: str) -> None:
    etag = get(node, f"/ipfs/{counted}/stdout", "HEAD").headers["Etag"]
    assert get(node, f"/ipfs/{counted}/stdout", **{"If-None-Match": etag}).status_code == 304


def test_a_folder_is_listed_and_nothing_in_it_can_run(node: DevNode, counted: str) -> None:
    answer = get(node, f"/ipfs/{counted}/")
    assert '<a href="./outputs">outputs</a>' in answer.text
    assert answer.headers["Content-Security-Policy"] == "sandbox"


def test_names_in_a_listing_are_escaped(node: DevNode) -> None:
    job = wasm_job("wc.wasm", "/mod", "/<b>/x", outputs=["<b>"])
    cid = Api(node).cid(job)
    text = get(node, f"/ipfs/{cid}/").text
    assert "<b>" not in text
    assert "&lt;b&gt;" in text


@pytest.fixture(scope="session")
def archive(node: DevNode) -> str:
    done: dict[str, Any] = execution(Api(node).run(wasm_job("exitn.wasm", publisher="local")))
    return str(done["PublishedResult"]["Params"]["URL"])


def test_an_archive_is_served_as_by_the_local_publisher(archive: str) -> None:
    whole = requests.get(archive, timeout=10)
    assert whole.headers["Content-Type"] == "application/gzip"
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert "ETag" not in whole.headers
    assert "Content-Encoding" not in whole.headers
    assert requests.head(archive, timeout=10).headers["Content-Length"] == str(len(whole.content))
    part = requests.get(archive, headers={"Range": "bytes=10-"}, timeout=10)
    assert (part.status_code, part.content) == (206, whole.content[10:])
    unchanged = requests.get(archive, headers={"If-Modified-Since": whole.headers["Last-Modified"]}, timeout=10)
    assert unchanged.status_code == 304


def test_what_is_no_archive_is_answered_in_the_recorded_words(archive: str) -> None:
    beyond = requests.get(archive, headers={"Range": "bytes=100000-"}, timeout=10)
    recording = recorded("archives")["range past the end"]["response"]
    assert (beyond.status_code, beyond.text) == (recording["status"], recording["text"])
    base = archive.rpartition("/")[0]
    recording = recorded("archives")["unknown file"]["response"]
    for name in ("e-00000000-0000-4000-8000-000000000000.tar.gz", "..%2fnode.sqlite", ".hidden"):
        missing = requests.get(f"{base}/{name}", timeout=10)
        assert (missing.status_code, missing.text) == (recording["status"], recording["text"])
    assert archive.rpartition("/")[2] in requests.get(base + "/", timeout=10).text
