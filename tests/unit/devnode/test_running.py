"""Real programs on the embedded node: CIDs, exit codes, what they see, how they end."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import threading
import time
from typing import Any

import pytest
import requests
import wasmtime

from airflow_provider_bacalhau.devnode import DevNode

from .specs import ASLEEP, BUSY, Api, execution, failure, inline, messages, module, recorded, wasm_job, wat

# Results of the same jobs on real nodes, v0.3.29 to v1.9.3.
EXIT_CIDS = {
    "0": "QmRNmZCoujKHMqgXypPfKkYJCDV4r8WogVoDVSrLmwEoFR",
    "3": "QmeGUoWWqUhwfJ7ECQgJwYzf5Up8mhf3aFhfh9frKQRUpv",
    "-99": "QmS4SfR38rz2LZUg91EzaA8nePwqYaNP9J7jB37TXYJwcC",
}
FOUR_WORDS = "QmQuBpy4mRYejBDGW2Nx1mzcHsTbBCTwTCEW3q95SQRFqB"
THREE_WORDS = "QmbmHZ4SjokWhB5qNrpbSnBtv2EAieUCjvc2gy8ZRnBbup"
SUM_OF_ONE = "QmWcRc4pAtfWAGX9NADR1v3yETXBEVf6XFYhg2VcE8J9SF"
SUM_OF_BOTH = "QmVdUczK6gvkcC4sRFKbvP7oJsxQCSmD2WDfWUd1M9BkqW"


def word_count(name: str, text: bytes, **task: Any) -> dict[str, Any]:
    words = inline(text, f"/inputs/{name}")
    return wasm_job("wc.wasm", "/inputs", "/outputs/count.txt", inputs=[words], outputs=["outputs"], **task)


def from_ipfs(cid: str, target: str) -> dict[str, Any]:
    return {"Source": {"Type": "ipfs", "Params": {"CID": cid}}, "Target": target}


@pytest.mark.parametrize("code", EXIT_CIDS)
def test_a_result_has_the_cid_that_real_nodes_give_it(api: Api, code: str) -> None:
    assert api.cid(wasm_job("exitn.wasm", code)) == EXIT_CIDS[code]


def test_chained_jobs_have_the_cids_that_real_nodes_give_them(api: Api) -> None:
    assert api.cid(word_count("a.txt", b"one two three four")) == FOUR_WORDS
    assert api.cid(word_count("b.txt", b"five six seven")) == THREE_WORDS
    total = ("sum.wasm", "/inputs", "/outputs/total.txt")
    assert api.cid(wasm_job(*total, inputs=[from_ipfs(FOUR_WORDS, "/inputs")], outputs=["outputs"])) == SUM_OF_ONE
    both = [from_ipfs(FOUR_WORDS, "/inputs/0"), from_ipfs(THREE_WORDS, "/inputs/1")]
    assert api.cid(wasm_job(*total, inputs=both, outputs=["outputs"])) == SUM_OF_BOTH


@pytest.mark.parametrize(("given", "seen"), [(0, 0), (3, 3), (126, 126), (200, 200), (256, 256), (-1, 4294967295)])
def test_an_exit_code_is_reported_whole_and_fails_nothing(api: Api, given: int, seen: int) -> None:
    job = api.run(wasm_job(wat(f"(call $exit (i32.const {given}))")))
    assert job["Job"]["State"] == {"StateType": "Completed"}
    assert execution(job)["RunOutput"]["ExitCode"] == seen


def test_a_plain_return_is_exit_code_minus_one(api: Api) -> None:
    assert execution(api.run(wasm_job(wat("nop"))))["RunOutput"]["ExitCode"] == -1


def test_concurrent_programs_keep_their_own_exit_codes(api: Api) -> None:
    wanted = {api.submit(wasm_job("exitn.wasm", str(code), Resources={"CPU": "0.1"})): code for code in range(40)}
    seen = {job_id: execution(api.wait(job_id))["RunOutput"]["ExitCode"] for job_id in wanted}
    assert seen == wanted


def test_the_output_is_cut_as_a_real_node_cuts_it(api: Api) -> None:
    output = execution(api.run(wasm_job("exitn.wasm", "0")))["RunOutput"]
    assert output == {
        "Stdout": "hello from wasm code=0",
        "StdoutTruncated": False,
        "stderr": "warn: going to exit 0\n",
        "StderrTruncated": False,
        "ExitCode": 0,
        "ErrorMsg": "",
    }


def writes(count: int, times: int) -> bytes:
    """A program that writes ``count`` letters ``times`` times."""
    return bytes(
        wasmtime.wat2wasm(f"""(module $test
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 4)
          (func $start (export "_start") (local $n i32)
            (memory.fill (i32.const 64) (i32.const 120) (i32.const {count}))
            (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const {count}))
            (loop $on
              (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
              (local.set $n (i32.add (local.get $n) (i32.const 1)))
              (br_if $on (i32.lt_u (local.get $n) (i32.const {times}))))))""")
    )


def test_long_output_is_whole_in_the_result_and_cut_in_the_record(api: Api, node: DevNode) -> None:
    done = execution(api.run(wasm_job(writes(50_000, 20))))
    assert (len(done["RunOutput"]["Stdout"]), done["RunOutput"]["StdoutTruncated"]) == (2048, True)
    whole = requests.get(f"{node.gateway}/ipfs/{done['PublishedResult']['Params']['CID']}/stdout", timeout=10)
    assert len(whole.content) == 1_000_000


def show_environment() -> bytes:
    return bytes(
        wasmtime.wat2wasm("""(module $test
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
          (memory (export "memory") 1)
          (func $start (export "_start")
            (drop (call $sizes (i32.const 32) (i32.const 36)))
            (drop (call $environ (i32.const 64) (i32.const 1024)))
            (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.load (i32.const 36)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))""")
    )


def test_a_program_sees_its_environment_and_who_it_is(api: Api) -> None:
    done = api.run(wasm_job(show_environment(), Env={"COLOUR": "blue"}))
    text = execution(done)["RunOutput"]["Stdout"]
    assert dict(pair.split("=", 1) for pair in text.split("\0") if pair) == {
        "COLOUR": "blue",
        "BACALHAU_EXECUTION_ID": execution(done)["ID"],
        "BACALHAU_JOB_ID": done["Job"]["ID"],
        "BACALHAU_JOB_TYPE": "batch",
        "BACALHAU_PARTITION_COUNT": "1",
        "BACALHAU_PARTITION_INDEX": "0",
    }


def test_an_import_module_serves_the_entry_module(api: Api) -> None:
    library = bytes(wasmtime.wat2wasm('(module $lib (func $seven (export "seven") (result i32) (i32.const 7)))'))
    main = bytes(
        wasmtime.wat2wasm("""(module $main
          (import "/mod/lib.wasm" "seven" (func $seven (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (func $start (export "_start") (call $exit (call $seven))))""")
    )
    job = wasm_job(main, inputs=[inline(library, "/mod/lib.wasm")])
    job["Tasks"][0]["Engine"]["Params"]["ImportModules"] = ["/mod/lib.wasm"]
    assert execution(api.run(job))["RunOutput"]["ExitCode"] == 7


# -- how programs fail ------------------------------------------------------------------------------------------------


def without_names(code: bytes) -> bytes:
    """What a release build leaves: the name section cut off, which is the last one in a module made from text."""
    at = code.rindex(b"\x04name") - 2
    return code[:at]


PREFIX = 'failed to load entry module /mod/m.wasm: failed to compile module at "/mod/m.wasm": '
BROKEN = [
    (b"not wasm at all", f"{PREFIX}invalid magic number"),
    (b"(module)", f"{PREFIX}invalid magic number"),
    (b"\0asm\x02\0\0\0", f"{PREFIX}invalid version header"),
    (without_names(wat("nop")), f"{PREFIX}Name section not found"),
    (wat("unreachable"), "wasm error: unreachable\nwasm stack trace:\n\ttest.start()"),
    (
        wat("(drop (i32.div_s (i32.const 1) (i32.const 0)))"),
        "wasm error: integer divide by zero\nwasm stack trace:\n\ttest.start()",
    ),
    (wat("(call $start)"), "stack overflow"),
]


@pytest.mark.parametrize(("program", "message"), BROKEN)
def test_a_broken_program_fails_in_the_servers_words_after_two_tries(api: Api, program: bytes, message: str) -> None:
    failed = api.run(wasm_job(program))
    assert failed["Job"]["State"]["StateType"] == "Failed"
    assert [e["ComputeState"]["Message"] for e in failed["Executions"]["Items"]] == [message, message]


def test_a_missing_entry_function_is_named(api: Api) -> None:
    job = wasm_job("exitn.wasm")
    job["Tasks"][0]["Engine"]["Params"]["Entrypoint"] = "nosuch"
    assert failure(api.run(job)) == "unable to find the entrypoint 'nosuch' in the WASM module"


@pytest.mark.parametrize("program", [BUSY, ASLEEP], ids=["busy", "asleep"])
def test_a_program_that_takes_too_long_is_ended(api: Api, program: bytes) -> None:
    started = time.monotonic()
    failed = api.run(wasm_job(program, Timeouts={"ExecutionTimeout": 1}))
    assert failure(failed) == "Execution timed out after 1s"
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("program", [BUSY, ASLEEP], ids=["busy", "asleep"])
def test_a_stopped_job_is_over_at_once_and_frees_its_node(api: Api, program: bytes) -> None:
    job_id = api.submit(wasm_job(program))
    api.wait(job_id, "Running")
    answer = api.ask("DELETE", f"/orchestrator/jobs/{job_id}", json={"reason": "enough"})
    assert (answer.status_code, bool(answer.json()["EvaluationID"])) == (200, True)
    stopped = api.wait(job_id, "Stopped")
    assert stopped["Job"]["State"]["Message"] == "enough"
    deadline = time.monotonic() + 5
    while api.get("/agent/node")["ComputeNodeInfo"]["RunningExecutions"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert execution(api.look(job_id))["ComputeState"] == {
        "StateType": 11,
        "Message": "Execution stop requested because job has been stopped",
    }


# -- inputs and results -----------------------------------------------------------------------------------------------


def test_a_gzipped_archive_is_unpacked_at_its_target(api: Api) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("x.txt", "y.txt"):
            member = tarfile.TarInfo(name)
            member.size = 7
            archive.addfile(member, io.BytesIO(b"one two"))
    job = wasm_job(
        "wc.wasm",
        "/inputs",
        "/outputs/count.txt",
        outputs=["outputs"],
        inputs=[inline(packed.getvalue(), "/inputs", "application/gzip")],
    )
    assert execution(api.run(job))["RunOutput"]["Stdout"] == "4 words"


def test_an_archive_cannot_write_outside_its_target(api: Api) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../../../../escaped"), io.BytesIO())
    failed = api.run(wasm_job("exitn.wasm", inputs=[inline(packed.getvalue(), "/inputs", "application/gzip")]))
    assert "outside the destination" in failure(failed)


def test_a_download_lands_below_its_target(api: Api) -> None:
    published = api.run(wasm_job("exitn.wasm", publisher="local"))
    url = execution(published)["PublishedResult"]["Params"]["URL"]
    source = {"Source": {"Type": "urlDownload", "Params": {"URL": url}}, "Target": "/inputs"}
    seen = api.run(wasm_job("wc.wasm", "/inputs", "/outputs/n", inputs=[source], outputs=["outputs"]))
    assert execution(seen)["RunOutput"]["Stdout"].endswith("words")


def test_a_local_path_is_read_only_when_it_is_allowed(api: Api, node: DevNode) -> None:
    here = {"Type": "localDirectory", "Params": {"SourcePath": str(node.readable)}}  # type: ignore[attr-defined] # set by the fixture
    job = wasm_job("wc.wasm", "/inputs", "/inputs/new", inputs=[{"Source": here, "Target": "/inputs"}])
    output = execution(api.run(job))["RunOutput"]
    assert (output["Stdout"], output["stderr"]) == ("4 words", "cannot write /inputs/new\n")
    denied = {"Source": {"Type": "local", "Params": {"SourcePath": "/etc/passwd"}}, "Target": "/i"}
    failed = api.run(wasm_job("exitn.wasm", inputs=[denied]))
    assert failure(failed) == "calculating resource usage of job: volume /etc/passwd is not allowlisted"
    assert failed["History"]["Items"][2]["Event"]["Details"] == {
        "ErrorCode": "Bacalhau:ConfigurationError",
        "Hint": "Verify Compute.AllowListedLocalPaths configuration property",
        "IsError": "true",
    }


@pytest.mark.parametrize("label", ["chain: bad CID: executions", "chain: empty CID: executions"])
def test_a_wrong_cid_fails_in_the_recorded_words(api: Api, label: str) -> None:
    recording = recorded("ipfs")[label]["response"]["json"]["Items"][0]
    cid = recording["Job"]["Tasks"][0]["InputSources"][0]["Source"].get("Params", {}).get("CID", "")
    failed = api.run(wasm_job("exitn.wasm", inputs=[from_ipfs(cid, "/inputs")]))
    assert failure(failed) == recording["ComputeState"]["Message"]


def test_an_unknown_cid_fails_at_once_and_blocks_nothing(api: Api) -> None:
    failed = api.run(wasm_job("exitn.wasm", inputs=[from_ipfs("QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG", "/i")]))
    assert "unable to retrieve content" in failure(failed)
    assert api.run(wasm_job("exitn.wasm"))["Job"]["State"]["StateType"] == "Completed"


@pytest.mark.parametrize("label", ["exit 3: members", "missing path: members"])
def test_an_archive_has_the_recorded_members(api: Api, label: str) -> None:
    members = recorded("archives")[label]["members"]
    code = members["exitCode"][2]
    outputs = [name for name, (kind, _, _) in members.items() if kind == "5" and name != "."]
    done = execution(api.run(wasm_job("exitn.wasm", code, outputs=outputs, publisher="local")))
    data = requests.get(done["PublishedResult"]["Params"]["URL"], timeout=10).content
    found = {}
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as archive:
        for member in archive:
            file = archive.extractfile(member)
            found[member.name] = [member.type.decode(), oct(member.mode), file.read().decode() if file else None]
    assert found == members


@pytest.mark.parametrize(("publisher", "items"), [("", []), ("noop", [])])
def test_a_job_without_publisher_has_no_result(api: Api, publisher: str, items: list[Any]) -> None:
    job_id = api.submit(wasm_job("exitn.wasm", publisher=publisher))
    api.wait(job_id, "Completed")
    assert api.get(f"/orchestrator/jobs/{job_id}/results")["Items"] == items


@pytest.mark.parametrize("name", ["x/y", "stdout", "..", "exitCode"])
def test_a_result_path_cannot_have_this_name(api: Api, name: str) -> None:
    job = wasm_job("exitn.wasm", outputs=["o"])
    job["Tasks"][0]["ResultPaths"][0]["Name"] = name
    assert api.run(job)["Job"]["State"]["StateType"] == "Failed"


def test_a_link_that_a_program_leaves_does_not_bring_out_the_hosts_files(api: Api, node: DevNode) -> None:
    links = bytes(
        wasmtime.wat2wasm("""(module $test
          (import "wasi_snapshot_preview1" "path_symlink" (func $link (param i32 i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "../../../../../../../../etc/hostname")
          (data (i32.const 64) "l")
          (func $start (export "_start")
            (call $exit (call $link (i32.const 0) (i32.const 36) (i32.const 4) (i32.const 64) (i32.const 1)))))""")
    )
    done = execution(api.run(wasm_job(links, outputs=["out"])))
    cid = done["PublishedResult"]["Params"]["CID"]
    answer = requests.get(f"{node.gateway}/ipfs/{cid}/out/l", timeout=10)
    if done["RunOutput"]["ExitCode"] == 0:
        assert answer.text == "../../../../../../../../etc/hostname"
    else:
        assert answer.status_code == 404


# -- several nodes, queueing, names -----------------------------------------------------------------------------------


def test_count_3_completes_on_three_nodes(tmp_path: Any) -> None:
    with DevNode(nodes=3, data_dir=tmp_path) as node:
        done = Api(node).run(wasm_job("exitn.wasm", "0", job={"Count": 3}))
        assert done["Job"]["State"]["StateType"] == "Completed"
        items = done["Executions"]["Items"]
        assert len({item["NodeID"] for item in items}) == 3
        assert [item.get("PartitionIndex", 0) for item in items] == [0, 1, 2]


def test_a_job_that_is_too_large_waits_until_its_queue_timeout(api: Api) -> None:
    job_id = api.submit(wasm_job("exitn.wasm", Resources={"CPU": "64000"}, Timeouts={"QueueTimeout": 1}))
    assert api.wait(job_id, "Queued")["Job"]["State"]["Message"].startswith("Job queued. not enough nodes to run job.")
    failed = api.wait(job_id, "Failed")
    assert failed["Job"]["State"]["Message"].startswith("not enough nodes to run job. requested: 1, available: 1")


def test_a_queued_job_runs_when_there_is_room(api: Api) -> None:
    room = api.get("/agent/node")["ComputeNodeInfo"]["MaxCapacity"]["CPU"]
    first = api.submit(wasm_job(ASLEEP, Resources={"CPU": str(room)}))
    api.wait(first, "Running")
    deadline = time.monotonic() + 5
    while not api.get("/agent/node")["ComputeNodeInfo"]["RunningExecutions"]:
        assert time.monotonic() < deadline
    second = api.submit(wasm_job("exitn.wasm", Resources={"CPU": str(room)}, Timeouts={"QueueTimeout": 60}))
    assert "node busy with available capacity {CPU: 0.00" in api.wait(second, "Queued")["Job"]["State"]["Message"]
    api.ask("DELETE", f"/orchestrator/jobs/{first}")
    assert api.wait(second)["Job"]["State"]["StateType"] == "Completed"


def test_concurrent_submissions_of_one_name_make_one_job(api: Api, node: DevNode) -> None:
    job = wasm_job("exitn.wasm", job={"Name": "only-one"})
    answers: list[requests.Response] = []

    def submit() -> None:
        answers.append(requests.put(f"{node.api}/api/v1/orchestrator/jobs", json={"Job": job}, timeout=10))

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200] + [500] * 7
    assert all("no changes detected" in answer.text for answer in answers if answer.status_code == 500)


def test_force_runs_the_same_job_again(api: Api) -> None:
    job = wasm_job("exitn.wasm", job={"Name": "again"})
    first = api.submit(job)
    api.wait(first)
    assert api.submit(job, Force=True) == first
    again = api.wait(first, "Completed")
    assert again["Job"]["Version"] == 2
    assert messages(again)[0] == "Job updated"


def test_an_old_spelling_of_the_module_runs(api: Api) -> None:
    job = wasm_job("exitn.wasm", "3")
    task = job["Tasks"][0]
    entry = task["InputSources"].pop(0)
    task["Engine"]["Params"] = {"EntryModule": {"Source": entry["Source"]}, "EntryPoint": "_start", "Parameters": ["3"]}
    assert execution(api.run(job))["RunOutput"]["ExitCode"] == 3


def test_the_modules_are_those_of_the_examples() -> None:
    assert json.dumps([len(module(name)) for name in ("exitn.wasm", "wc.wasm", "sum.wasm")]) == "[24827, 32684, 53687]"
