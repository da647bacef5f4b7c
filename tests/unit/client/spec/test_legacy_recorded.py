"""Specifications that real servers took, and those that they refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.spec.legacy import (
    RequesterShape,
    is_requester_spec,
    read_requester_spec,
    write_requester_spec,
)

WORKLOADS = Path(__file__).parents[4] / "example_dags" / "workloads"


def recorded() -> dict[str, list[dict[str, Any]]]:
    text = (Path(__file__).parent / "data" / "requester_submits.json").read_text()
    for module in ("exitn.wasm", "wc.wasm"):
        text = text.replace(f"{{{{{module}}}}}", base64.b64encode((WORKLOADS / module).read_bytes()).decode())
    found: dict[str, list[dict[str, Any]]] = json.loads(text)
    return found


SUBMITS: list[Any] = [
    pytest.param(version, submit, id=f"{version} {submit['label']}")
    for version, submits in recorded().items()
    for submit in submits
]
BROKEN = ("bad engine", "concurrency 0", "bad module")
TAKEN = [one for one in SUBMITS if not one.id.endswith((*BROKEN, "no publisherspec"))]


def shape(version: str) -> RequesterShape:
    return ServerVersion(version).requester.shape


def simplified(value: Any) -> Any:
    """As servers compare specifications: keys and names in any case, nothing said where nothing is."""
    if isinstance(value, dict):
        read = {key.lower(): simplified(item) for key, item in value.items()}
        for key in ("engine", "publisher", "storagesource", "verifier"):
            if key in read:
                read[key] = read[key].lower()
        return {key: item for key, item in read.items() if item not in (None, "", [], {})}
    return [simplified(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("version", "submit"), TAKEN)
def test_what_a_server_took_is_written_for_it_again(version: str, submit: dict[str, Any]) -> None:
    expected = simplified(submit["sent"])
    # What is said besides means nothing new: these are what the servers assume.
    expected["network"] = {"type": "None"}
    expected["wasm"]["entrymodule"]["path"] = "/wasm/entry.wasm"
    if not shape(version).verifier:
        del expected["verifier"]
    spec = read_requester_spec(submit["sent"])
    assert simplified(write_requester_spec(spec, shape=shape(version))) == expected


@pytest.mark.parametrize(("version", "submit"), TAKEN)
def test_what_was_read_is_the_job_that_the_orchestrator_api_ran(version: str, submit: dict[str, Any]) -> None:
    job = read_requester_spec(submit["sent"]).to_wire()
    assert (job["Type"], job["Count"]) == ("batch", 1)
    task = job["Tasks"][0]
    assert task["Engine"]["Type"] == "wasm"
    assert task["Engine"]["Params"]["EntryModule"] == "/wasm/entry.wasm"
    assert task["Publisher"] == {"Type": "ipfs", "Params": {}}
    assert job.get("Labels", {}) == ({} if submit["label"] == "lower-case spec" else {"suite-probe": ""})
    if submit["label"] == "word count":
        assert task["InputSources"][0] == {
            "Source": {"Type": "inline", "Params": {"URL": "data:text/plain;base64,b25lIHR3byB0aHJlZSBmb3Vy"}},
            "Target": "/inputs/a.txt",
            "Alias": "a",
        }
        assert task["ResultPaths"] == [{"Name": "outputs", "Path": "/outputs"}]
        assert task["Engine"]["Params"]["Parameters"] == ["/inputs", "/outputs/count.txt"]
    if submit["label"] == "timeout":
        assert task["Timeouts"] == {"ExecutionTimeout": 3}
    if submit["label"] == "unschedulable":
        assert task["Resources"] == {"CPU": "64"}


@pytest.mark.parametrize(("version", "submit"), [one for one in TAKEN if "answer" in one.values[1]])
def test_what_a_server_answers_is_read_like_what_was_sent(version: str, submit: dict[str, Any]) -> None:
    sent = read_requester_spec({**submit["sent"], "Timeout": submit["sent"].get("Timeout", 1800)})
    answer = read_requester_spec(submit["answer"])
    if shape(version).verifier:
        # The oldest servers move a module of that size to IPFS.
        assert answer.task.engine.params["EntryModule"]["Source"]["Type"] == "ipfs"
        answer, sent = (
            one.with_task(engine=one.task.engine.model_copy(update={"params": {}})) for one in (answer, sent)
        )
        assert answer == sent
    else:
        assert answer.to_wire() == sent.to_wire()


@pytest.mark.parametrize(("version", "submit"), [one for one in SUBMITS if one.id.endswith(BROKEN)])
def test_what_no_server_could_run_is_refused_before_it_is_sent(version: str, submit: dict[str, Any]) -> None:
    place = {
        "submit bad engine": "job_spec.Engine",
        "submit concurrency 0": "job_spec.Deal.Concurrency",
        "bad module": "job_spec.Wasm.EntryModule.URL",
    }[submit["label"]]
    with pytest.raises(InvalidJobSpec) as refused:
        read_requester_spec(submit["sent"])
    assert refused.value.place == place


@pytest.mark.parametrize(("version", "submit"), [one for one in SUBMITS if one.id.endswith("no publisherspec")])
def test_a_publisher_alone_which_servers_refuse_is_written_in_both_ways(version: str, submit: dict[str, Any]) -> None:
    assert submit["status"] == 400
    written = write_requester_spec(read_requester_spec(submit["sent"]), shape=shape(version))
    assert written["Publisher"] == "ipfs"
    assert written["PublisherSpec"] == {"Type": "ipfs"}


@pytest.mark.parametrize(("version", "submit"), SUBMITS)
def test_recorded_specifications_are_told_from_jobs(version: str, submit: dict[str, Any]) -> None:
    assert is_requester_spec(submit["sent"])
