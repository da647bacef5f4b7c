"""What a program sees of the world, and what the world sees of it."""

from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bacalhau.client.states import JobState
from tests.support.answering import answering

from . import programs
from .jobs import Submitter, exiting, inline, job
from .node import NodeUnderTest

pytestmark = pytest.mark.needs(engine="wasm", source="inline")

RECORDED = 2048
"""Bytes of a stream that an execution's record holds."""


def output_of(jobs: Submitter, spec: dict[str, Any]) -> str:
    outcome = jobs.finish(spec)
    assert outcome.diagnosis is None, list(outcome.diagnosis.lines())
    (execution,) = outcome.job.executions
    return execution.stdout


def test_arguments_follow_an_empty_program_name(jobs: Submitter) -> None:
    arguments = ["one", "two words", "", "--three=ü", "*"]
    assert output_of(jobs, job(programs.shows_arguments(), *arguments)) == "\0".join(["", *arguments, ""])


@pytest.mark.usefixtures("versions_of_jobs")
def test_the_environment_holds_the_tasks_variables_and_the_nodes(jobs: Submitter) -> None:
    env = {"COLOUR": "light blue", "TEXT": "a=b", "X_1": "ü"}
    outcome = jobs.finish(job(programs.shows_environment(), env=env))
    (execution,) = outcome.job.executions
    seen = dict(item.split("=", 1) for item in execution.stdout.split("\0") if item)
    assert seen == {
        **env,
        "BACALHAU_EXECUTION_ID": execution.id,
        "BACALHAU_JOB_ID": outcome.job.id,
        "BACALHAU_JOB_TYPE": "batch",
        "BACALHAU_PARTITION_COUNT": "1",
        "BACALHAU_PARTITION_INDEX": "0",
    }


@pytest.mark.usefixtures("versions_of_jobs")
def test_the_root_shows_the_mounts_and_nothing_else(jobs: Submitter) -> None:
    spec = job(
        programs.lists_root(), inputs=[inline(b"x", "/data.txt"), inline(b"y", "/inputs/a/b.txt")], outputs=["out"]
    )
    assert set(output_of(jobs, spec).split()) - {".", ".."} == {"mod", "data.txt", "inputs", "out"}


@pytest.mark.parametrize("path", ["new.txt", "mod/new.txt"])
def test_nothing_is_written_beside_the_result_folders(jobs: Submitter, path: str) -> None:
    outcome = jobs.finish(job(programs.creates(path), outputs=["out"]))
    (execution,) = outcome.job.executions
    assert execution.exit_code > 0


@pytest.mark.parametrize(("pages", "exit_code"), [(10, 0), (2000, 1)])
def test_memory_grows_up_to_what_the_job_asked_for(jobs: Submitter, pages: int, exit_code: int) -> None:
    outcome = jobs.finish(job(programs.grows(pages), resources={"CPU": "0.1", "Memory": "64MiB"}))
    assert outcome.exit_codes == [exit_code]


def test_a_module_that_needs_more_memory_than_the_job_asked_for_fails(jobs: Submitter) -> None:
    spec = job(programs.needs(2000), resources={"CPU": "0.1", "Memory": "64MiB"}, queue_timeout=0)
    outcome = jobs.finish(spec)
    assert outcome.job.state is JobState.FAILED
    assert all("memory" in one.message for one in outcome.job.executions)


# -- streams ----------------------------------------------------------------------------------------------------------


# A real node records the first piece that a program writes to a stream, cut to 2 KiB (v1.9.3: one buffer of one call,
# and C's printf hands over a line and its newline as two). More of the output is no mistake; other text is one.


def test_the_record_begins_as_the_output_does(jobs: Submitter) -> None:
    outcome = jobs.finish(job(programs.writes(b"first\n", b"second\n")))
    (execution,) = outcome.job.executions
    for text in (execution.stdout, execution.stderr):
        assert text.startswith("first")
        assert "first\nsecond\n".startswith(text)
    assert not execution.stdout_truncated
    assert not execution.stderr_truncated


@pytest.mark.parametrize(("size", "is_truncated"), [(RECORDED, False), (RECORDED + 1, True), (60_000, True)])
def test_the_record_holds_2_kib_of_each_stream(jobs: Submitter, size: int, is_truncated: bool) -> None:
    text = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    outcome = jobs.finish(job(programs.writes(text)))
    (execution,) = outcome.job.executions
    assert execution.stdout_truncated is is_truncated
    assert execution.stderr_truncated is is_truncated
    assert execution.stdout == text[:RECORDED].decode()
    assert execution.stderr == text[:RECORDED].decode()


def test_a_silent_program_has_empty_streams(jobs: Submitter) -> None:
    assert output_of(jobs, job(programs.writes())) == ""


# -- inputs -----------------------------------------------------------------------------------------------------------


def words_in(jobs: Submitter, *inputs: dict[str, Any]) -> str:
    """What a word count of ``/inputs`` finds."""
    options: dict[str, Any] = {"inputs": list(inputs), "outputs": ["outputs"]}
    return output_of(jobs, job(programs.counts_words(), "/inputs", "/outputs/count.txt", **options)).split()[0]


def test_inline_inputs_lie_where_they_should(jobs: Submitter) -> None:
    inputs = inline(b"one two three four", "/inputs/a.txt"), inline(b"five\nsix", "/inputs/b.txt")
    assert words_in(jobs, *inputs) == "6"


def test_an_inline_archive_is_unpacked_into_a_folder(jobs: Submitter) -> None:
    content = b"one two three"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as members:
        member = tarfile.TarInfo("words.txt")
        member.size = len(content)
        members.addfile(member, io.BytesIO(content))
    source = inline(gzip.compress(packed.getvalue()), "/inputs", "application/gzip")
    assert words_in(jobs, source) == "3"


@pytest.mark.needs(source="urlDownload", same_machine=True)
@pytest.mark.usefixtures("versions_of_jobs")
def test_a_url_lands_in_the_folder_under_its_file_name(jobs: Submitter) -> None:
    with _serving(b"one two three four five") as url:
        source = {"Source": {"Type": "urlDownload", "Params": {"URL": f"{url}/words.txt"}}, "Target": "/inputs"}
        assert words_in(jobs, source) == "5"


@pytest.mark.needs(source="urlDownload", same_machine=True)
def test_a_url_that_is_not_there_fails_the_execution(jobs: Submitter) -> None:
    with _serving(b"") as url:
        source = {"Source": {"Type": "urlDownload", "Params": {"URL": f"{url}/missing"}}, "Target": "/inputs"}
        outcome = jobs.finish(exiting(0, inputs=[source], queue_timeout=0))
    assert outcome.job.state is JobState.FAILED
    assert all(f"{url}/missing" in one.message for one in outcome.job.executions)


@pytest.mark.needs(source="local", same_machine=True, local_folder=True)
def test_a_folder_of_the_node_is_read_in_place(jobs: Submitter, node: NodeUnderTest) -> None:
    with tempfile.TemporaryDirectory(dir=node.local_folder) as folder:
        Path(folder, "words.txt").write_text("one two three")
        for kind in ("local", "localDirectory"):
            assert words_in(jobs, _of_the_node(folder, kind)) == "3"


@pytest.mark.needs(source="local", same_machine=True)
def test_a_folder_that_the_node_does_not_share_is_refused(jobs: Submitter) -> None:
    outcome = jobs.finish(exiting(0, inputs=[_of_the_node("/etc")], queue_timeout=0))
    assert outcome.job.state is JobState.FAILED
    assert outcome.job.executions
    assert all("volume /etc is not allowlisted" in one.message for one in outcome.job.executions)


def _of_the_node(folder: str, kind: str = "local") -> dict[str, Any]:
    return {"Source": {"Type": kind, "Params": {"SourcePath": folder}}, "Target": "/inputs"}


def _serving(content: bytes) -> AbstractContextManager[str]:
    return answering(lambda asked: (404, b"") if "missing" in asked.target else (200, content))
