from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.spec import (
    SPEC_HASH_VERSION,
    local_file,
    read_job_spec,
    spec_hash,
    wasm_job,
)

Make = Callable[..., dict[str, Any]]
TEXT = {"Source": {"Type": "inline", "Params": {"URL": "data:,words"}}, "Target": "/inputs/a.txt"}


def task(job: dict[str, Any], *, module_sources: bool = False) -> dict[str, Any]:
    return read_job_spec(job).to_wire(module_sources=module_sources)["Tasks"][0]


def test_either_shape_is_written_for_newer_servers_with_modules_as_inputs(
    wasm: Make, old_wasm: Make, word_count_url: str
) -> None:
    module = {"Source": {"Type": "inline", "Params": {"URL": word_count_url}}, "Target": "/mod/wc.wasm"}
    for job in (wasm(), old_wasm()):
        written = task(job)
        assert written["Engine"]["Params"] == {"EntryModule": "/mod/wc.wasm", "Entrypoint": "_start"}
        assert written["InputSources"] == [module]


def test_either_shape_is_written_for_older_servers_with_modules_in_the_engine(
    wasm: Make, old_wasm: Make, word_count_url: str
) -> None:
    module = {"Source": {"Type": "inline", "Params": {"URL": word_count_url}}, "Target": "/mod/wc.wasm"}
    for job in (wasm(InputSources=[TEXT]), old_wasm(InputSources=[TEXT])):
        written = task(job, module_sources=True)
        assert written["Engine"]["Params"] == {"EntryModule": module, "EntryPoint": "_start"}
        assert written["InputSources"] == [TEXT]


def test_modules_without_a_target_get_the_one_that_newer_servers_give(old_wasm: Make, word_count_url: str) -> None:
    module = {"Source": {"Type": "inline", "Params": {"URL": word_count_url}}}
    job = old_wasm({"EntryModule": module, "ImportModules": [module, {**module, "Alias": "maths"}]})
    written = task(job)
    assert written["Engine"]["Params"]["EntryModule"] == "/wasm/entry.wasm"
    assert written["Engine"]["Params"]["ImportModules"] == [
        "/wasm/imports/module_0.wasm",
        "/wasm/imports/module_1.wasm",
    ]
    assert [source["Target"] for source in written["InputSources"]] == [
        "/wasm/entry.wasm",
        "/wasm/imports/module_0.wasm",
        "/wasm/imports/module_1.wasm",
    ]
    older = task(job, module_sources=True)["Engine"]["Params"]
    assert older["ImportModules"][1] == {**module, "Target": "/wasm/imports/module_1.wasm", "Alias": "maths"}


def test_an_own_entry_point_is_kept_under_the_key_of_either_shape(wasm: Make) -> None:
    job = wasm({"EntryPoint": "run"})
    assert task(job)["Engine"]["Params"]["Entrypoint"] == "run"
    assert task(job, module_sources=True)["Engine"]["Params"]["EntryPoint"] == "run"


def test_the_environment_of_webassembly_stands_where_the_server_looks(wasm: Make, old_wasm: Make) -> None:
    for job in (
        wasm(Env={"A": "1", "B": "2"}),
        old_wasm({"EnvironmentVariables": {"A": "1", "B": "2"}}),
        old_wasm({"EnvironmentVariables": {"B": "2"}}, Env={"A": "1", "B": "task"}),
    ):
        newer, older = task(job), task(job, module_sources=True)
        assert newer["Env"] == {"A": "1", "B": "2"}
        assert "EnvironmentVariables" not in newer["Engine"]["Params"]
        assert older["Engine"]["Params"]["EnvironmentVariables"] == {"A": "1", "B": "2"}
        assert "Env" not in older


def test_the_environment_of_docker_moves_into_the_engine_for_older_servers_in_pairs(docker: Make) -> None:
    params = {"Image": "a", "EnvironmentVariables": ["B=engine"]}
    job = docker(Engine={"Type": "docker", "Params": params}, Env={"A": "1", "B": "task", "C": "3"})
    newer, older = task(job), task(job, module_sources=True)
    assert (newer["Env"], newer["Engine"]["Params"]) == ({"A": "1", "B": "task", "C": "3"}, params)
    # v1.4.0 refuses an odd number of items, so one is said twice.
    assert older["Engine"]["Params"]["EnvironmentVariables"] == ["B=engine", "A=1", "C=3", "C=3"]
    assert "Env" not in older


def test_writing_leaves_the_specification_as_it_is(old_wasm: Make) -> None:
    spec = read_job_spec(old_wasm({"EnvironmentVariables": {"A": "1"}}, InputSources=[TEXT]))
    before = json.dumps(spec.to_dict())
    assert spec.to_wire() == spec.to_wire()
    assert spec.to_wire(module_sources=True) == spec.to_wire(module_sources=True)
    assert json.dumps(spec.to_dict()) == before


def test_a_module_that_no_input_holds_is_refused(wasm: Make) -> None:
    spec = read_job_spec(wasm({"EntryModule": "/mod/other.wasm"}))
    with pytest.raises(InvalidJobSpec, match=r"/mod/other.wasm, where .* The targets are /mod/wc.wasm\.") as caught:
        spec.to_wire()
    assert caught.value.place == "Tasks[0].Engine.Params.EntryModule"


def test_a_module_may_come_with_the_inputs_that_are_added_later(docker: Make) -> None:
    engine = {"Type": "wasm", "Params": {"EntryModule": "/mod/built.wasm"}}
    cid = "QmRNmZCoujKHMqgXypPfKkYJCDV4r8WogVoDVSrLmwEoFR"
    module = {"Source": {"Type": "ipfs", "Params": {"CID": cid}}, "Target": "/mod/built.wasm"}
    wire = read_job_spec(docker(Engine=engine)).with_inputs([module]).to_wire()
    assert wire["Tasks"][0]["InputSources"] == [module]


def test_a_module_in_a_folder_runs_on_newer_servers_only(docker: Make) -> None:
    engine = {"Type": "wasm", "Params": {"EntryModule": "/mod/built.wasm"}}
    folder = {"Source": {"Type": "s3", "Params": {"Bucket": "b", "Key": "k/"}}, "Target": "/mod"}
    spec = read_job_spec(docker(Engine=engine, InputSources=[folder]))
    assert spec.to_wire()["Tasks"][0]["Engine"]["Params"]["EntryModule"] == "/mod/built.wasm"
    with pytest.raises(InvalidJobSpec, match="lies inside the folder of an input"):
        spec.to_wire(module_sources=True)


@pytest.mark.parametrize("module_sources", [False, True])
def test_a_local_file_that_was_not_read_is_not_sent(*, module_sources: bool) -> None:
    spec = read_job_spec(wasm_job(local_file("wc.wasm")))
    with pytest.raises(InvalidJobSpec, match=r"local file 'wc.wasm' has not been read"):
        spec.to_wire(module_sources=module_sources)


def test_more_inputs_may_not_take_a_place_that_is_taken(docker: Make) -> None:
    spec = read_job_spec(docker(InputSources=[TEXT]))
    with pytest.raises(InvalidJobSpec, match=r"InputSources\[1\].Target: is '/inputs/a.txt', which"):
        spec.with_inputs([TEXT])


def test_what_nobody_wrote_is_not_sent_but_for_type_count_and_name() -> None:
    job = {"type": "batch", "tasks": [{"engine": {"type": "docker", "params": {"image": "a"}}}]}
    assert read_job_spec(job).to_wire() == {
        "Type": "batch",
        "Count": 1,
        "Tasks": [{"Name": "main", "Engine": {"Type": "docker", "Params": {"Image": "a"}}}],
    }


def test_the_hash_is_the_same_today_and_tomorrow(docker: Make) -> None:
    wire = read_job_spec(docker({"Labels": {"team": "größe"}}, Env={"A": "1"})).to_wire()
    assert SPEC_HASH_VERSION == 2
    assert spec_hash(wire) == "a47843a6a09a04428f777b089b080d410aa6780ed89588c122f8c93e54859178"


def test_the_hash_does_not_depend_on_how_a_job_was_written(docker: Make, wasm: Make, old_wasm: Make) -> None:
    job = docker(Env={"A": "1", "B": "2"})
    other = {key.upper(): value for key, value in reversed(job.items())}
    assert spec_hash(read_job_spec(job).to_wire()) == spec_hash(read_job_spec(other).to_wire())
    assert spec_hash(read_job_spec(wasm()).to_wire()) == spec_hash(read_job_spec(old_wasm()).to_wire())


def test_the_hash_tells_jobs_apart(docker: Make) -> None:
    jobs = [docker(), docker({"Count": 2}), docker(Env={"A": "1"}), docker(Env={"A": "2"})]
    assert len({spec_hash(read_job_spec(job).to_wire()) for job in jobs}) == len(jobs)
