"""What holds on every server generation, through each API that it serves, by both clients.

By default these are the versions that the embedded node plays; ``BACALHAU_TEST_ENDPOINT`` names another node instead.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bacalhau.client import FailureCategory, JobState, StopOutcome
from airflow_provider_bacalhau.client.errors import JobHopeless, NotFound
from airflow_provider_bacalhau.client.settings import ClientSettings
from airflow_provider_bacalhau.client.spec import assign_mounts, parse_inputs

from .conftest import ENDPOINT, GATEWAY, spoken_to
from .jobs import PATIENCE, Submitter, busy, exiting, inline, job, unique
from .programs import counts_words, sums

SERVERS = (
    [(ENDPOINT, "orchestrator"), (ENDPOINT, "requester")]
    if ENDPOINT
    else [
        ("v0.3.29", "requester"),
        ("v1.0.3", "requester"),
        ("v1.1.6", "requester"),
        ("v1.1.6", "orchestrator"),
        ("v1.3.2", "requester"),
        ("v1.3.2", "orchestrator"),
        ("v1.4.0", "orchestrator"),
        ("v1.7.0", "orchestrator"),
        ("v1.9.3", "orchestrator"),
    ]
)

CIDS = {
    "0": "QmRNmZCoujKHMqgXypPfKkYJCDV4r8WogVoDVSrLmwEoFR",
    "3": "QmeGUoWWqUhwfJ7ECQgJwYzf5Up8mhf3aFhfh9frKQRUpv",
    "-99": "QmS4SfR38rz2LZUg91EzaA8nePwqYaNP9J7jB37TXYJwcC",
}
"""What real servers of all generations gave the results of ``exitn.wasm``."""

UNLOADABLE = b"\0asm\1\0\0\0" + b"\x00\x05\x04name" + b"\x0a\x01\xff"
"""What looks like a module to the client, and to no engine."""


@pytest.fixture(scope="module", params=SERVERS, ids=lambda server: "-".join(server))
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientSettings]:
    server, api = request.param
    folder: Path = tmp_path_factory.mktemp("bacalhau")
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("BACALHAU_DIR", str(folder))
        url, gateway = ENDPOINT, GATEWAY
        if not ENDPOINT:
            from airflow_provider_bacalhau.devnode import DevNode

            node = stack.enter_context(DevNode(emulate=server, queue_backoff=0.2))
            url, gateway = node.api, node.gateway
        yield ClientSettings(url, api=api, ipfs_gateway=gateway)


@pytest.fixture(scope="module")
def client(settings: ClientSettings, speaking: str) -> Iterator[Any]:
    with spoken_to(settings, speaking) as found:
        yield found


@pytest.fixture(scope="module")
def publisher(client: Any) -> str:
    """A publisher that the network has: ipfs if it can be."""
    from airflow_provider_bacalhau.client.errors import NotSupported

    try:
        nodes = client.greet().nodes
    except NotSupported as error:
        pytest.skip(f"this node does not serve that API: {error.message}")
    # The oldest servers do not tell what their nodes offer; all of them have IPFS.
    return "ipfs" if not nodes or any("ipfs" in node.publishers for node in nodes) else "local"


@pytest.fixture
def jobs(client: Any, publisher: str) -> Iterator[Submitter]:
    submitter = Submitter(client, publisher)
    yield submitter
    submitter.clean_up()


def small(spec: dict[str, Any]) -> dict[str, Any]:
    """The job without what some generations do not know: a limit of queueing."""
    spec["Tasks"][0]["Timeouts"].pop("QueueTimeout", None)
    return spec


@pytest.mark.parametrize("code", CIDS)
def test_a_program_that_ends_is_judged_by_its_exit_code_and_keeps_its_cid(code: str, jobs: Submitter) -> None:
    outcome = jobs.finish(small(exiting(code)))
    assert outcome.job.state is JobState.COMPLETED
    assert outcome.exit_codes == [-1 if code == "-99" else int(code)]
    if code == "3":
        assert outcome.diagnosis is not None
        assert outcome.diagnosis.category is FailureCategory.PROGRAM_FAILED
    else:
        assert outcome.diagnosis is None
    [reference] = jobs.client.references(outcome.job.id)
    assert (reference.type, reference.cid) == (("ipfs", CIDS[code]) if jobs.publisher == "ipfs" else ("url", None))
    [execution] = [one for one in outcome.job.executions or () if one.exit_code is not None]
    assert execution.id == reference.execution_id
    assert execution.stdout.startswith("hello from wasm")


def test_jobs_are_chained_by_their_ids(jobs: Submitter) -> None:
    if jobs.publisher != "ipfs":
        pytest.skip("no compute node has the publisher 'ipfs', and results of others are archives")

    def run(module: bytes, path: str, sources: list[dict[str, Any]]) -> str:
        spec = small(job(module, "/inputs", path, outputs=["outputs"]))
        spec["Tasks"][0]["InputSources"] += sources
        outcome = jobs.finish(spec)
        assert outcome.diagnosis is None
        return outcome.job.id

    counts = [
        run(counts_words(), "/outputs/count.txt", [inline(text, f"/inputs/{name}.txt")])
        for name, text in (("a", b"one two three four"), ("b", b"five six seven"))
    ]
    sources = assign_mounts(jobs.client.resolve_inputs(parse_inputs(counts)))
    total = run(sums(), "/outputs/total.txt", sources)
    [reference] = jobs.client.references(total)
    assert reference.cid == "QmVdUczK6gvkcC4sRFKbvP7oJsxQCSmD2WDfWUd1M9BkqW"


def test_a_module_that_cannot_be_loaded_is_named(jobs: Submitter) -> None:
    outcome = jobs.finish(small(job(UNLOADABLE)))
    assert outcome.job.state is JobState.FAILED
    assert outcome.diagnosis is not None
    assert outcome.diagnosis.category is FailureCategory.MODULE_INVALID


def test_nothing_waits_for_a_job_that_failed_on_every_node(jobs: Submitter, settings: ClientSettings) -> None:
    may_queue = settings.api == "orchestrator" and jobs.client.version().capabilities.waits_for_nodes
    spec = job(UNLOADABLE, queue_timeout=600)
    job_id = jobs.submit(spec if may_queue else small(spec))
    deadline = time.time() + PATIENCE
    if may_queue:
        with pytest.raises(JobHopeless) as caught:
            jobs.client.wait(job_id, poll_interval=0.2, deadline=deadline, fail_fast=True)
        outcome = caught.value.outcome
    else:  # nothing waits in a queue there: the job fails by itself
        assert jobs.client.wait(job_id, poll_interval=0.2, deadline=deadline, fail_fast=True).state is JobState.FAILED
        outcome = jobs.client.outcome(job_id)
    assert outcome.diagnosis is not None
    assert outcome.diagnosis.category is FailureCategory.MODULE_INVALID
    assert len(outcome.job.executions or ()) >= 2


def test_a_job_that_fits_no_node_fails_with_that_reason(jobs: Submitter) -> None:
    outcome = jobs.finish(small(exiting(0, resources={"CPU": "900", "Memory": "64Mb"})))
    assert outcome.job.state is JobState.FAILED
    assert outcome.diagnosis is not None
    assert outcome.diagnosis.category is FailureCategory.NO_SUITABLE_NODE


def test_a_running_job_is_stopped_once(jobs: Submitter) -> None:
    job_id = jobs.submit(small(busy()))
    jobs.running(job_id)
    assert jobs.client.stop(job_id, "enough") is StopOutcome.STOPPED
    assert jobs.client.stop(job_id, "enough") is StopOutcome.ALREADY_STOPPED
    assert jobs.outcome(job_id).job.state is JobState.STOPPED


def test_stopping_what_is_over_or_unknown_is_an_answer(jobs: Submitter, settings: ClientSettings) -> None:
    over = jobs.finish(small(exiting(0))).job.id
    assert jobs.client.stop(over, "late") is StopOutcome.ALREADY_COMPLETED
    assert jobs.client.stop(_nobodys(settings), "whom?") is StopOutcome.NOT_FOUND


def test_an_unknown_id_is_not_found(jobs: Submitter, settings: ClientSettings) -> None:
    client = jobs.client
    for ask in (client.get, client.executions, client.results, client.outcome):
        with pytest.raises(NotFound):
            ask(_nobodys(settings))


def test_a_job_is_listed_by_its_labels_and_page_by_page(jobs: Submitter) -> None:
    label = {"suite": unique("s")}
    ids = {jobs.submit(small(exiting(0, labels=label))) for _ in range(2)}
    assert {one.id for one in jobs.client.list(labels=label, limit=0).items} == ids
    first = jobs.client.list(limit=1)
    assert len(first.items) == 1
    if first.next_token:  # v1.1.6 cuts the list and gives no token
        assert len(jobs.client.list(limit=1, next_token=first.next_token).items) == 1


def test_what_happened_is_told_in_order(jobs: Submitter) -> None:
    job_id = jobs.finish(small(exiting(0))).job.id
    events = jobs.client.history(job_id).items
    times = [one.time for one in events]
    assert len(events) >= 3
    assert times == sorted(times)
    assert any(one.execution_id for one in events)


def test_a_job_keeps_its_name(jobs: Submitter) -> None:
    name = unique("named")
    assert jobs.client.get(jobs.submit(small(exiting(0, name=name)))).name == name


def _nobodys(settings: ClientSettings) -> str:
    prefix = "j-" if settings.api == "orchestrator" else ""
    return f"{prefix}{uuid.UUID(int=0x4000_8000_0000_0000_0000)}"
