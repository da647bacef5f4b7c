"""What is left of a job: results, references to them, chains of jobs."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from airflow_provider_bacalhau.client.errors import ResultUnavailable

from . import programs
from .jobs import Submitter, archive, exiting, from_ipfs, inline, job
from .node import NodeUnderTest

pytestmark = pytest.mark.needs(engine="wasm", source="inline")


def counting(text: bytes, name: str = "a.txt", **options: Any) -> dict[str, Any]:
    return job(
        programs.counts_words(),
        "/inputs",
        "/outputs/count.txt",
        inputs=[inline(text, f"/inputs/{name}")],
        outputs=["outputs"],
        **options,
    )


@pytest.mark.needs(publisher="local")
def test_a_local_result_is_an_archive_with_everything_in_it(client: Any, jobs: Submitter) -> None:
    spec = counting(b"one two three four", publisher="local")
    spec["Tasks"][0]["ResultPaths"].append({"Name": "never", "Path": "/never"})
    job_id = jobs.finish(spec).job.id
    (result,) = client.results(job_id)
    assert result.type == "urlDownload"
    assert archive(result.url) == {
        ".": None,
        "exitCode": b"-1",
        "never": None,
        "outputs": None,
        "outputs/count.txt": b"4\n",
        "stderr": b"",
        "stdout": b"4 words\n",
    }


@pytest.mark.needs(publisher="local")
def test_an_archive_holds_the_whole_output(client: Any, jobs: Submitter) -> None:
    # A few pieces of moderate size: of the first one a v1.9.3 keeps 2049 bytes, and of many in a row not every one.
    pieces = [b"%d" % number * 1500 + b"\n" for number in range(3)]
    job_id = jobs.finish(job(programs.writes(*pieces), publisher="local")).job.id
    found = archive(client.results(job_id)[0].url)
    assert found["stdout"] == found["stderr"] == b"".join(pieces)
    assert found["exitCode"] == b"0"


@pytest.mark.needs(publisher="local")
def test_a_result_is_referred_to_by_its_place_and_found_again(client: Any, jobs: Submitter) -> None:
    job_id = jobs.finish(exiting(0, publisher="local")).job.id
    (execution,) = client.executions(job_id)
    (reference,) = client.references(job_id)
    assert reference.to_dict() == {"type": "url", "job_id": job_id, "execution_id": execution.id, "index": 0}
    url = client.result_url(reference)
    assert url.endswith(f"/{execution.id}.tar.gz")
    assert archive(url)["stdout"] == b"hello from wasm code=0\n"
    assert requests.get(url.replace(execution.id, "e-nosuch"), timeout=10).status_code == 404


@pytest.mark.needs(publisher="local")
def test_a_result_of_a_bad_exit_code_is_kept(client: Any, jobs: Submitter) -> None:
    job_id = jobs.finish(exiting(3, publisher="local")).job.id
    assert archive(client.results(job_id)[0].url)["exitCode"] == b"3"


@pytest.mark.needs(publisher="local")
def test_texts_of_a_local_result_come_from_the_record(client: Any, jobs: Submitter) -> None:
    job_id = jobs.finish(exiting(0, publisher="local")).job.id
    (stdout,) = client.result_texts(job_id, "stdout")
    (stderr,) = client.result_texts(job_id, "stderr")
    assert (stdout.text, stdout.is_partial) == ("hello from wasm code=0", True)
    assert (stderr.text, stderr.is_partial) == ("warn: going to exit 0\n", True)
    with pytest.raises(ResultUnavailable):
        client.result_texts(job_id, "outputs/count.txt")


def test_a_job_without_a_publisher_has_no_result(client: Any, jobs: Submitter) -> None:
    job_id = jobs.finish(exiting(0, publisher="noop")).job.id
    assert client.results(job_id) == ()
    assert client.references(job_id) == []


def test_a_failed_job_has_no_result(client: Any, jobs: Submitter) -> None:
    outcome = jobs.finish(job(programs.BROKEN, queue_timeout=0), unchecked=True)
    assert outcome.job.executions
    assert client.results(outcome.job.id) == ()


def test_a_running_job_has_no_result_yet(client: Any, jobs: Submitter) -> None:
    assert client.results(jobs.submit(job(programs.sleeps(60)))) == ()


# -- IPFS -------------------------------------------------------------------------------------------------------------

FOUR_WORDS = "QmQuBpy4mRYejBDGW2Nx1mzcHsTbBCTwTCEW3q95SQRFqB"
THREE_WORDS = "QmbmHZ4SjokWhB5qNrpbSnBtv2EAieUCjvc2gy8ZRnBbup"


def cid_of(client: Any, job_id: str) -> str:
    (result,) = client.results(job_id)
    assert result.type == "ipfs"
    assert set(result.params) == {"CID"}
    (reference,) = client.references(job_id)
    assert reference.cid == result.params["CID"]
    assert reference.execution_id == client.executions(job_id)[0].id
    return str(reference.cid)


@pytest.mark.needs(publisher="ipfs")
@pytest.mark.parametrize(
    ("code", "cid"),
    [
        ("0", "QmRNmZCoujKHMqgXypPfKkYJCDV4r8WogVoDVSrLmwEoFR"),
        ("3", "QmeGUoWWqUhwfJ7ECQgJwYzf5Up8mhf3aFhfh9frKQRUpv"),
        (programs.PLAIN_RETURN, "QmS4SfR38rz2LZUg91EzaA8nePwqYaNP9J7jB37TXYJwcC"),
    ],
)
def test_the_same_job_has_the_same_cid_on_every_node(client: Any, jobs: Submitter, code: str, cid: str) -> None:
    assert cid_of(client, jobs.finish(exiting(code, publisher="ipfs")).job.id) == cid


@pytest.mark.needs(publisher="ipfs", source="ipfs")
def test_jobs_are_chained_by_cid(client: Any, jobs: Submitter) -> None:
    first = cid_of(client, jobs.finish(counting(b"one two three four", publisher="ipfs")).job.id)
    second = cid_of(client, jobs.finish(counting(b"five six seven", "b.txt", publisher="ipfs")).job.id)
    assert (first, second) == (FOUR_WORDS, THREE_WORDS)

    def total(*inputs: dict[str, Any]) -> dict[str, Any]:
        options: dict[str, Any] = {"inputs": list(inputs), "outputs": ["outputs"], "publisher": "ipfs"}
        return job(programs.sums(), "/inputs", "/outputs/total.txt", **options)

    alone = jobs.finish(total(from_ipfs(first, "/inputs"))).job
    both = jobs.finish(total(from_ipfs(first, "/inputs/0"), from_ipfs(second, "/inputs/1"))).job
    assert cid_of(client, alone.id) == "QmWcRc4pAtfWAGX9NADR1v3yETXBEVf6XFYhg2VcE8J9SF"
    assert cid_of(client, both.id) == "QmVdUczK6gvkcC4sRFKbvP7oJsxQCSmD2WDfWUd1M9BkqW"


@pytest.mark.needs(publisher="ipfs", source="ipfs")
def test_a_result_is_mounted_with_its_streams_and_folders_inside(client: Any, jobs: Submitter) -> None:
    cid = cid_of(client, jobs.finish(counting(b"one two three four", publisher="ipfs")).job.id)
    spec = job(programs.counts_words(), "/inputs", "/outputs/count.txt", outputs=["outputs"])
    spec["Tasks"][0]["InputSources"].append(from_ipfs(cid, "/inputs"))
    outcome = jobs.finish(spec)
    # exitCode holds one word, stdout two, and wc.wasm looks at the files of one folder only.
    assert outcome.job.executions[0].stdout.split()[0] == "3"


@pytest.mark.needs(publisher="ipfs", source="ipfs")
@pytest.mark.parametrize("cid", ["not-a-cid", f"{FOUR_WORDS}/outputs", f"/ipfs/{FOUR_WORDS}", f"ipfs://{FOUR_WORDS}"])
def test_an_input_that_is_no_bare_cid_fails_the_execution(jobs: Submitter, cid: str) -> None:
    outcome = jobs.finish(exiting(0, queue_timeout=0, inputs=[from_ipfs(cid, "/inputs")]), unchecked=True)
    assert outcome.diagnosis is not None
    assert all("invalid cid" in one.message for one in outcome.job.executions)
    assert outcome.job.executions


@pytest.mark.needs(publisher="ipfs", gateway=True)
def test_any_small_file_of_a_result_is_read_through_the_gateway(client: Any, jobs: Submitter) -> None:
    job_id = jobs.finish(counting(b"one two three four", publisher="ipfs")).job.id
    for path, text in {"outputs/count.txt": "4\n", "stdout": "4 words\n", "stderr": "", "exitCode": "-1"}.items():
        (found,) = client.result_texts(job_id, path)
        assert (found.text, found.is_partial) == (text, False)
    with pytest.raises(ResultUnavailable):
        client.result_texts(job_id, "outputs/nosuch.txt")
    with pytest.raises(ResultUnavailable):
        client.result_texts(job_id, "stdout", max_bytes=3)


@pytest.mark.needs(publisher="ipfs", gateway=True)
def test_the_gateway_lists_folders_and_serves_files(client: Any, jobs: Submitter, node: NodeUnderTest) -> None:
    cid = cid_of(client, jobs.finish(counting(b"one two three four", publisher="ipfs")).job.id)
    root = f"{node.gateway}/ipfs/{cid}"
    assert requests.get(root, timeout=10, allow_redirects=False).status_code == 301
    listing = requests.get(f"{root}/", timeout=10)
    assert listing.headers["Content-Type"].startswith("text/html")
    assert all(name in listing.text for name in ("exitCode", "outputs", "stderr", "stdout"))
    file = requests.get(f"{root}/outputs/count.txt", timeout=10)
    assert file.content == b"4\n"
    assert file.headers["X-Ipfs-Roots"].split(",")[0] == cid
    assert file.headers["X-Ipfs-Roots"].split(",")[-1].strip() == file.headers["Etag"].strip('"')
    assert requests.get(f"{root}/nosuch", timeout=10).status_code == 404
