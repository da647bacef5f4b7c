from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_bacalhau.devnode import DevNode

from .requester_differences import DIFFERENCES
from .requester_replay import Comparison, Replay, recording

VERSIONS = ("v0.3.29", "v1.0.3", "v1.1.6", "v1.3.2")
ALLOWED_SHARE = 0.05


def _replayed(version: str) -> list[Comparison]:
    with DevNode(emulate=version, queue_backoff=0.05) as node:
        return Replay(node, version).run()


@pytest.fixture(scope="module")
def replays() -> Mapping[str, list[Comparison]]:
    with ThreadPoolExecutor(len(VERSIONS)) as pool:
        return dict(zip(VERSIONS, pool.map(_replayed, VERSIONS), strict=True))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_recorded_question_gets_the_answer_of_the_real_server(
    replays: Mapping[str, list[Comparison]], version: str
) -> None:
    wrong = [one for one in replays[version] if not one.matches and (version, one.label) not in DIFFERENCES]
    assert not wrong, "\n".join(f"{one.label}:\n  real: {one.recorded}\n  node: {one.seen}" for one in wrong)


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_of_a_recording_is_left_out(replays: Mapping[str, list[Comparison]], version: str) -> None:
    assert [one.label for one in replays[version]] == [entry["label"] for entry in recording(version)]


def test_the_differences_on_purpose_are_few_and_each_exists() -> None:
    labels = {(version, entry["label"]) for version in VERSIONS for entry in recording(version)}
    counts = {
        version: (sum(1 for known, _ in DIFFERENCES if known == version), len(recording(version)))
        for version in VERSIONS
    }
    print(f"differences on purpose: {len(DIFFERENCES)}; by version, of all exchanges: {counts}")
    assert set(DIFFERENCES) <= labels
    assert all(DIFFERENCES.values())
    assert all(few <= ALLOWED_SHARE * whole for few, whole in counts.values())
