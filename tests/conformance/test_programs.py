"""What a program sees of the world, and what the world sees of it."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from . import programs
from .jobs import Submitter, inline, job

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


def test_the_environment_holds_the_tasks_variables_and_the_nodes(jobs: Submitter) -> None:
    env = {"COLOUR": "light blue", "TEXT": "a=b", "_X1": "ü"}
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


def test_the_root_shows_the_mounts_and_nothing_else(jobs: Submitter) -> None:
    spec = job(
        programs.lists_root(), inputs=[inline(b"x", "/data.txt"), inline(b"y", "/inputs/a/b.txt")], outputs=["out"]
    )
    assert set(output_of(jobs, spec).split("\n")) - {".", ".."} == {"mod", "data.txt", "inputs", "out"}


@pytest.mark.parametrize(("path", "allowed"), [("new.txt", False), ("mod/new.txt", False), ("out/new.txt", True)])
def test_only_result_folders_can_be_written(jobs: Submitter, path: str, allowed: bool) -> None:
    outcome = jobs.finish(job(programs.creates(path), outputs=["out"]))
    assert (outcome.exit_codes == [0]) is allowed


# -- streams ----------------------------------------------------------------------------------------------------------


def test_the_record_drops_the_last_newline_of_stdout_only(jobs: Submitter) -> None:
    outcome = jobs.finish(job(programs.writes(stdout=b"a\nb\n\n", stderr=b"c\n\n")))
    (execution,) = outcome.job.executions
    assert (execution.stdout, execution.stderr) == ("a\nb\n", "c\n\n")
    assert not execution.stdout_truncated
    assert not execution.stderr_truncated


@pytest.mark.parametrize(("size", "is_truncated"), [(RECORDED, False), (RECORDED + 1, True), (60_000, True)])
def test_the_record_holds_2_kib_of_each_stream(jobs: Submitter, size: int, is_truncated: bool) -> None:
    text = b"0123456789abcdef" * (size // 16 + 1)
    outcome = jobs.finish(job(programs.writes(stdout=text[:size], stderr=text[:size])))
    (execution,) = outcome.job.executions
    assert execution.stdout_truncated is is_truncated
    assert execution.stderr_truncated is is_truncated
    assert execution.stdout == text[:RECORDED].decode()
    assert execution.stderr == text[:RECORDED].decode()


def test_a_silent_program_has_empty_streams(jobs: Submitter) -> None:
    assert output_of(jobs, job(programs.writes())) == ""


# -- inputs -----------------------------------------------------------------------------------------------------------


def counting(*inputs: dict[str, Any], folder: str = "/inputs") -> dict[str, Any]:
    return job(programs.counts_words(), folder, "/outputs/count.txt", inputs=list(inputs), outputs=["outputs"])


def test_inline_inputs_lie_where_they_should(jobs: Submitter) -> None:
    spec = counting(inline(b"one two three four", "/inputs/a.txt"), inline(b"five\nsix", "/inputs/b.txt"))
    assert output_of(jobs, spec) == "6"


def test_an_inline_archive_is_unpacked_into_a_folder(jobs: Submitter) -> None:
    content = b"one two three"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as members:
        member = tarfile.TarInfo("words.txt")
        member.size = len(content)
        members.addfile(member, io.BytesIO(content))
    spec = counting(inline(gzip.compress(packed.getvalue()), "/inputs", "application/gzip"))
    assert output_of(jobs, spec) == "3"


@pytest.mark.needs(source="urlDownload", same_machine=True)
def test_a_url_lands_in_the_folder_under_its_file_name(jobs: Submitter) -> None:
    with _serving(b"one two three four five") as url:
        source = {"Source": {"Type": "urlDownload", "Params": {"URL": f"{url}/words.txt"}}, "Target": "/inputs"}
        assert output_of(jobs, counting(source)) == "5"


@pytest.mark.needs(source="urlDownload", same_machine=True)
def test_a_url_that_is_not_there_fails_the_execution(jobs: Submitter) -> None:
    with _serving(b"") as url:
        source = {"Source": {"Type": "urlDownload", "Params": {"URL": f"{url}/missing"}}, "Target": "/inputs"}
        job_id = jobs.submit(counting(source))
        seen = jobs.until(job_id, lambda seen: any(one.message and one.state.is_terminal for one in seen.executions))
        assert "404" in seen.executions[0].message


@contextlib.contextmanager
def _serving(content: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = "missing" not in self.path
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(content) if found else 0))
            self.end_headers()
            if found and self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815  # the base class's name

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
