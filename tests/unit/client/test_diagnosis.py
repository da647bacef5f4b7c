"""Why a job did not succeed: recorded jobs in, category and sentence out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_bacalhau.client.diagnosis import (
    Diagnosis,
    FailureCategory,
    JobOutcome,
    diagnose,
)
from airflow_provider_bacalhau.client.dialects.orchestrator import OrchestratorDialect
from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
from airflow_provider_bacalhau.client.facts import Event, Execution, HistoryEvent, Job
from airflow_provider_bacalhau.client.states import ExecutionState, JobState
from airflow_provider_bacalhau.client.success import has_succeeded
from tests.support.drive import Script
from tests.support.recorded import answer

C = FailureCategory
BUSY = "node busy with available capacity {{CPU: {cpu}, Memory: 20 GB, Disk: {disk} GB, GPU: 0}}"
NO_NODE = "not enough nodes to run job. requested: 1, available: 1, suitable: 0"
MAGIC = (
    'failed to load entry module /mod/entry.wasm: failed to compile module at "/mod/entry.wasm": invalid magic number'
)


def read(source: str, version: str, label: str) -> Job:
    dialect = OrchestratorDialect(ServerVersion(version))
    job = Script.of(answer(version, label, source)).run(dialect.get("j-1", executions=True, history=True))
    if source == "s3":  # recorded apart
        executions = answer(version, label.replace(": job", ": executions"), source)
        job = replace(job, executions=Script.of(executions).run(dialect.executions("j-1")))
    return job


# Recording, version, label; category, and the sentence after "Job <id>".
FAILED: list[tuple[str, str, str, FailureCategory, str]] = [
    *(
        ("orchestrator", version, "wasm exit 3: get", C.PROGRAM_FAILED, ": the program failed with exit code 3.")
        for version in ("v1.4.0", "v1.7.0", "v1.9.3")
    ),
    *(
        (
            "orchestrator",
            version,
            "count 0: get",
            C.INCOMPLETE,
            " is marked completed, but 0 of 1 executions completed.",
        )
        for version in ("v1.4.0", "v1.7.0", "v1.9.3")
    ),
    *(
        (
            "orchestrator",
            version,
            "exec timeout: get",
            C.EXECUTION_TIMEOUT,
            " failed (it is still Queued): Execution timed out after 2s.",
        )
        for version in ("v1.4.0", "v1.7.0", "v1.9.3")
    ),
    (
        "orchestrator",
        "v1.4.0",
        "bad module: get",
        C.MODULE_INVALID,
        (
            " failed (it is still Queued):"
            " execution error: failed to instantiate entry module module (inline): invalid magic number."
        ),
    ),
    ("orchestrator", "v1.7.0", "bad module: get", C.MODULE_INVALID, f" failed (it is still Queued): {MAGIC}."),
    ("orchestrator", "v1.7.0", "bad module no queueing: get", C.MODULE_INVALID, f" failed: {MAGIC}."),
    ("orchestrator", "v1.9.3", "bad module: get", C.MODULE_INVALID, f" failed (it is still Queued): {MAGIC}."),
    ("orchestrator", "v1.9.3", "bad module no queueing: get", C.MODULE_INVALID, f" failed: {MAGIC}."),
    (
        "diagnosis",
        "v1.9.3",
        "module without names: get",
        C.MODULE_INVALID,
        (
            ' failed: failed to load entry module /mod/e.wasm: failed to compile module at "/mod/e.wasm":'
            " Name section not found."
        ),
    ),
    (
        "orchestrator",
        "v1.4.0",
        "unschedulable: get",
        C.NO_SUITABLE_NODE,
        f" found no suitable node: {NO_NODE} (Node n-83842e27: {BUSY.format(cpu='1.6', disk='200')}).",
    ),
    (
        "orchestrator",
        "v1.7.0",
        "unschedulable: get",
        C.NO_SUITABLE_NODE,
        f" found no suitable node: {NO_NODE} (Node n-7b1ed15d: {BUSY.format(cpu='1.60', disk='200')}).",
    ),
    (
        "orchestrator",
        "v1.9.3",
        "unschedulable: get",
        C.NO_SUITABLE_NODE,
        f" found no suitable node: {NO_NODE} (Node n-07b71d7b: {BUSY.format(cpu='1.60', disk='199')}).",
    ),
    (
        "diagnosis",
        "v1.9.3",
        "queue timeout: get",
        C.QUEUE_TIMEOUT,
        f" waited in the queue for too long: {NO_NODE} (Node n-fd326943: {BUSY.format(cpu='1.60', disk='203')}).",
    ),
    *(
        (
            "orchestrator",
            version,
            "count 3: get",
            C.QUEUE_TIMEOUT,
            (
                " waited in the queue for too long:"
                " not enough nodes to run job. requested: 2, available: 1, suitable: 0"
                f" (Node {node}: job rejected)."
            ),
        )
        for version, node in (("v1.4.0", "n-83842e27"), ("v1.7.0", "n-7b1ed15d"), ("v1.9.3", "n-07b71d7b"))
    ),
    (
        "count",
        "v1.9.3",
        "count 5 of 3 nodes: include=executions,history",
        C.QUEUE_TIMEOUT,
        (
            " waited in the queue for too long: not enough nodes to run job. requested: 2, available: 3, suitable: 0"
            " (3 of 3 nodes: job rejected)."
        ),
    ),
    (
        "diagnosis",
        "v1.9.3",
        "total timeout: get",
        C.JOB_TIMEOUT,
        " failed: Job timed out. Job took longer than 5s.",
    ),
    (
        "diagnosis",
        "v1.9.3",
        "unknown publisher: get",
        C.NO_SUITABLE_NODE,
        (
            f" found no suitable node: {NO_NODE}"
            " (Node n-fd326943: does not support nosuchpub, only local, s3managed, noop)."
        ),
    ),
    (
        "s3",
        "v1.9.3",
        "chain: s3PreSigned as input: job",
        C.NO_SUITABLE_NODE,
        (
            f" found no suitable node: {NO_NODE}"
            " (Node n-95e26d47: does not support s3PreSigned, only localdirectory, local, urldownload, s3, inline)."
        ),
    ),
    (
        "diagnosis",
        "v1.9.3",
        "no such label: get",
        C.NO_SUITABLE_NODE,
        (
            f" found no suitable node: {NO_NODE} (Node n-fd326943: labels"
            " map[name:n-fd326943-8424-4cfb-9fda-bcbd781eb03f os_arch:amd64 os_type:linux]"
            " don't match required selectors [zone = mars])."
        ),
    ),
    *(
        (
            "orchestrator",
            version,
            "queued: stopped get",
            C.STOPPED_BY_OTHERS,
            " was stopped saying 'no longer wanted'.",
        )
        for version in ("v1.4.0", "v1.7.0", "v1.9.3")
    ),
    ("orchestrator", "v1.9.3", "stopped: get", C.STOPPED_BY_OTHERS, " was stopped saying 'probe says stop'."),
    ("orchestrator", "v1.9.3", "docker exit 7: get", C.PROGRAM_FAILED, ": the program failed with exit code 7."),
    (
        "orchestrator",
        "v1.9.3",
        "docker no image: get",
        C.IMAGE_NOT_FOUND,
        ' failed: image not available: "127.0.0.1:5000/nosuch:1" [Docker:ImageNotFound].',
    ),
    (
        "diagnosis",
        "v1.9.3",
        "url input refused: get",
        C.INPUT_UNAVAILABLE,
        (
            " failed: calculating resource usage of job: error getting job disk space requirements:"
            ' HEAD http://127.0.0.1:9/x giving up after 4 attempt(s): Head "http://127.0.0.1:9/x":'
            " dial tcp 127.0.0.1:9: connect: connection refused."
        ),
    ),
    *(
        (
            "s3",
            "v1.9.3",
            f"chain: missing {what}: job",
            C.INPUT_UNAVAILABLE,
            (
                " failed: calculating resource usage of job: failed to fetch s3 input: operation error S3: HeadObject,"
                " https response error StatusCode: 404, RequestID: , HostID: , NotFound: [S3InputSource:NotFound]."
            ),
        )
        for what in ("key", "bucket")
    ),
    (
        "s3",
        "v1.9.3",
        "s3 no region: job",
        C.PUBLISH_FAILED,
        (
            " failed (it is still Queued): failed to publish s3 result: operation error S3: PutObject,"
            " resolve auth scheme:"
            " resolve endpoint:"
            " endpoint rule error, Invalid region: region was not a valid DNS name."
        ),
    ),
    (
        "s3",
        "v1.9.3",
        "s3 no bucket: job",
        C.PUBLISH_FAILED,
        " failed (it is still Queued): invalid s3 params. bucket cannot be empty.",
    ),
    (
        "s3",
        "v1.9.3",
        "s3 no key: job",
        C.PUBLISH_FAILED,
        " failed (it is still Queued): invalid s3 params. key cannot be empty.",
    ),
    (
        "s3",
        "v1.9.3",
        "s3 bad encoding: job",
        C.PUBLISH_FAILED,
        " failed (it is still Queued): invalid s3 params. encoding must be either 'plain' or 'gzip'.",
    ),
    # Not over, but asked all the same.
    (
        "orchestrator",
        "v1.9.3",
        "running: get",
        C.UNKNOWN,
        " is not over, it is Running: the server gives no reason.",
    ),
]


@pytest.mark.parametrize(
    ("source", "version", "label", "category", "sentence"), FAILED, ids=[f"{row[1]} {row[2]}" for row in FAILED]
)
def test_a_recorded_failure_is_named(
    source: str, version: str, label: str, category: FailureCategory, sentence: str
) -> None:
    job = read(source, version, label)
    found = diagnose(job, job.executions or (), job.history or ())
    assert found.summary == f"Job {job.id}{sentence}"
    assert found.category is category
    assert found.hint or category is C.UNKNOWN
    assert found.facts[0].startswith(f"job {job.id} (")
    assert JobOutcome.of(job).diagnosis == found


@pytest.mark.parametrize("label", ["chain: wrong checksum: job", "s3 missing bucket: job"])
def test_a_long_cause_is_cut_but_its_category_is_not_lost(label: str) -> None:
    job = read("s3", "v1.9.3", label)
    found = diagnose(job, job.executions or (), job.history or ())
    assert found.category is (C.PUBLISH_FAILED if "publish" in found.summary else C.INPUT_UNAVAILABLE)
    assert len(found.summary) < 400


INPUTS = ["CID with path", "/ipfs/CID", "ipfs://CID", "bad CID", "empty CID"]


@pytest.mark.parametrize("label", INPUTS)
def test_an_ipfs_input_that_cannot_be_had_is_named_from_the_executions_alone(label: str) -> None:
    dialect = OrchestratorDialect(ServerVersion("v1.9.3"))
    executions = Script.of(answer("v1.9.3", f"chain: {label}: executions", "ipfs")).run(dialect.executions("j-1"))
    job = make(JobState.FAILED, message=f"{NO_NODE}.\n• Node n-1: job already executed on this node more than once")
    assert diagnose(job, executions).category is C.INPUT_UNAVAILABLE


@pytest.mark.parametrize("version", ["v1.4.0", "v1.7.0", "v1.9.3"])
@pytest.mark.parametrize("label", ["wasm ok: get", "wasm plain return: get"])
def test_recorded_successes_have_no_diagnosis(version: str, label: str) -> None:
    outcome = JobOutcome.of(read("orchestrator", version, label))
    assert outcome.diagnosis is None
    assert outcome.exit_codes == ([-1] if "plain" in label else [0])


def test_three_of_three_is_success() -> None:
    outcome = JobOutcome.of(read("count", "v1.9.3", "count 3 of 3 nodes: include=executions,history"))
    assert outcome.diagnosis is None
    assert outcome.exit_codes == [0, 0, 0]


@pytest.mark.parametrize("version", ["v1.4.0", "v1.7.0", "v1.9.3"])
def test_an_engine_that_no_node_has_is_named(version: str) -> None:
    jobs = Script.of(answer(version, "list after unknown engine")).run(
        OrchestratorDialect(ServerVersion(version)).list()
    )
    job = next(one for one in jobs.items if one.engine == "nosuch")
    found = diagnose(job, ())
    assert found.category is C.ENGINE_NOT_SUPPORTED
    assert "does not support nosuch, only wasm" in found.summary
    assert found.hint == "No node offers that engine: choose one of those it names, or add a node that has it."


# -- made up ----------------------------------------------------------------------------------------------------------


def make(state: JobState = JobState.COMPLETED, **other: Any) -> Job:
    given = {"id": "j-1", "name": "n", "namespace": "default", "type": "batch", "count": 1, "engine": "docker", **other}
    return Job(state=state, **given)


def ran(exit_code: int | None = 0, state: ExecutionState = ExecutionState.COMPLETED, **other: Any) -> Execution:
    given = {"id": "e-1", "job_id": "j-1", "node_id": "n-1", **other}
    return Execution(state=state, exit_code=exit_code if state is ExecutionState.COMPLETED else None, **given)


GOOD, BAD = ran(0), ran(3)
FAILED_RUN = ran(state=ExecutionState.FAILED)
REJECTED = ran(state=ExecutionState.BID_REJECTED)
NOT_ASKED = ran(state=ExecutionState.ASK_FOR_BID_REJECTED)
CANCELLED = ran(state=ExecutionState.CANCELLED)

# What the job is, what ran; whether that is success.
SUCCESS: list[tuple[str, Job, list[Execution], bool]] = [
    ("one of one", make(), [GOOD], True),
    ("exit code 3", make(), [BAD], False),
    ("none of one", make(), [], False),
    ("count 0", make(count=0), [], False),
    ("count 0 that ran", make(count=0), [GOOD], True),
    ("two of three", make(count=3), [GOOD, GOOD], False),
    ("three of three", make(count=3), [GOOD, GOOD, GOOD], True),
    ("three of three, one bad", make(count=3), [GOOD, BAD, GOOD], False),
    ("a failed retry beside a completed one", make(), [FAILED_RUN, GOOD], True),
    ("rejected and cancelled ones beside it", make(), [REJECTED, NOT_ASKED, CANCELLED, GOOD], True),
    ("more completed than wanted, one bad", make(), [GOOD, BAD], False),
    ("completed executions of a failed job", make(JobState.FAILED), [GOOD], False),
    ("of a stopped job", make(JobState.STOPPED), [GOOD], False),
    ("of a running job", make(JobState.RUNNING), [GOOD], False),
    ("of a job in an unknown state", make(JobState.UNKNOWN), [GOOD], False),
    ("wasm: a plain return", make(engine="wasm"), [ran(-1)], True),
    ("docker: -1", make(), [ran(-1)], False),
    ("no engine named: -1", make(engine=""), [ran(-1)], False),
    ("wasm: exit code 255", make(engine="wasm"), [ran(255)], False),
    ("an exit code that cannot be read", make(engine="wasm"), [ran(None)], False),
    ("ops on every node", make(type="ops", count=0), [GOOD, GOOD], True),
    ("ops on no node", make(type="ops", count=0), [], False),
    ("ops, one failed", make(type="ops", count=0), [GOOD, FAILED_RUN], False),
    ("ops, one bad", make(type="ops", count=0), [GOOD, BAD], False),
    ("ops, one node rejected it", make(type="ops", count=0), [GOOD, REJECTED, NOT_ASKED], True),
]


@pytest.mark.parametrize(("job", "executions", "good"), [row[1:] for row in SUCCESS], ids=[row[0] for row in SUCCESS])
def test_green_means_succeeded(job: Job, executions: list[Execution], good: bool) -> None:
    assert has_succeeded(job, executions) is good
    outcome = JobOutcome.of(replace(job, executions=tuple(executions)))
    assert (outcome.diagnosis is None) is good


def event(message: str, topic: str = "Running Execution", execution: str = "e-1", **details: str) -> HistoryEvent:
    return HistoryEvent(Event(message, topic, {"IsError": "true", **details}), execution_id=execution)


DAEMON = "Error response from daemon: "
RUNC = f"failed to start container: {DAEMON}failed to create shim task: OCI runtime create failed: runc create failed: "
NO_INSPECTION = (
    'Could not inspect image "x:1" - could be due to repo/image not existing, or registry needing authorization: '
)
UNRESOLVED = 'Get "https://nosuch.invalid/v2/": dial tcp: lookup nosuch.invalid on 10.0.0.53:53: no such host'

# Seen on v1.9.3 and v1.3.2 with Docker; of those that name a file, none is about an input.
ON_DOCKER = [
    (f"{DAEMON}{UNRESOLVED}", C.IMAGE_NOT_FOUND),
    (f"{NO_INSPECTION}{DAEMON}{UNRESOLVED}", C.IMAGE_NOT_FOUND),
    (f"setting up network: error pulling gateway image: {DAEMON}{UNRESOLVED}", C.UNKNOWN),  # not the user's image
    ('invalid image format: "Bad Name!!"', C.IMAGE_NOT_FOUND),
    (f"{NO_INSPECTION}{DAEMON}invalid reference format: repository name must be lowercase", C.IMAGE_NOT_FOUND),
    (f"{NO_INSPECTION}{DAEMON}manifest unknown: manifest unknown", C.IMAGE_NOT_FOUND),
    (
        f'{RUNC}unable to start container process: exec: "/bin/nosuch": stat /bin/nosuch: no such file or directory',
        C.PROGRAM_FAILED,
    ),
    (f'{RUNC}unable to start container process: exec: "nosuch": executable file not found in $PATH', C.PROGRAM_FAILED),
    (f'{RUNC}unable to start container process: exec: "/bin": permission denied: unknown', C.PROGRAM_FAILED),
    (f"creating container: {DAEMON}No command specified", C.PROGRAM_FAILED),
    (
        f'{RUNC}unable to start container process: error during container init: error mounting "/a" to rootfs at "/b"',
        C.UNKNOWN,
    ),
    ("calculating resource usage of job: volume /etc is not allowlisted", C.INPUT_UNAVAILABLE),
    (
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        C.NODE_LOST,
    ),
    ("requested memory exceeds the wasm limit - 7.45 GB > 4.00 GB", C.REFUSED_SPEC),
    (
        "failed to compile module: section memory: min 257 pages (16 Mi) over limit of 245 pages (15 Mi)",
        C.OUT_OF_MEMORY,
    ),
]


@pytest.mark.parametrize(("message", "category"), ON_DOCKER)
def test_what_docker_says_is_told_from_what_it_is_about(message: str, category: FailureCategory) -> None:
    found = diagnose(make(JobState.FAILED), [ran(state=ExecutionState.FAILED, message=message)])
    assert found.category is category
    assert bool(found.hint) is (category is not C.UNKNOWN)


def test_a_servers_hint_that_misleads_is_not_passed_on() -> None:
    hint = "An internal system error occurred. This could be due to resource constraints."
    history = [event(f"{DAEMON}{UNRESOLVED}", "Exec Scanning", ErrorCode="Docker:SystemError", Hint=hint)]
    found = diagnose(make(JobState.FAILED), [], history)
    assert found.hint.startswith("Check the name of the registry in Image")


# Words of the servers' code that no recording has.
WORDS = [
    ("container was killed: memory limit exceeded", C.OUT_OF_MEMORY),
    ("OOMKilled", C.OUT_OF_MEMORY),
    ("no such room", C.UNKNOWN),
    ("Execution stop requested because node has disappeared", C.NODE_LOST),
    ("Failing due to node restart", C.NODE_LOST),
    ("failed to get pre-signed URL for managed S3 publisher", C.PUBLISH_FAILED),
    ("pull access denied for x", C.IMAGE_NOT_FOUND),
    ("Execution timed out. Execution took longer than 2s", C.EXECUTION_TIMEOUT),
    ("failed to download file from url: 404", C.INPUT_UNAVAILABLE),
    ("non-200 response from URL (http://x/y): 404 Not Found", C.INPUT_UNAVAILABLE),
    ("could not access volume at /data: permission denied", C.INPUT_UNAVAILABLE),
    ("failed to get publisher ipfs: not installed", C.PUBLISH_FAILED),
    ("local publisher failed to create output file: no space left on device", C.PUBLISH_FAILED),
    ("failed to get executor docker: not installed", C.UNKNOWN),
    ("no export found for 'env::f' required by module", C.MODULE_INVALID),
    ("function '_start' required but no WASM export with that name was found", C.MODULE_INVALID),
    ('unknown module "env"', C.MODULE_INVALID),
    ("not enough capacity to run job", C.NO_SUITABLE_NODE),
    ("something that nobody has seen", C.UNKNOWN),
]


@pytest.mark.parametrize(("message", "category"), WORDS)
@pytest.mark.parametrize("where", ["an execution", "an event", "the job"])
def test_the_same_words_mean_the_same_wherever_they_stand(message: str, category: FailureCategory, where: str) -> None:
    job = make(JobState.FAILED, message=message if where == "the job" else f"{NO_NODE}.\n• Node n-1: used up")
    executions = [ran(state=ExecutionState.FAILED, message=message)] if where == "an execution" else []
    history = [event(message)] if where == "an event" else []
    found = diagnose(job, executions, history)
    assert found.category is category
    assert message in found.summary


def test_a_cause_is_not_hidden_by_its_consequence() -> None:
    history = [event("something odd"), event(NO_NODE, "Scheduling", "")]
    found = diagnose(make(JobState.FAILED, message=NO_NODE), [], history)
    assert found.summary == "Job j-1 ended as Failed: something odd."
    assert found.category is C.UNKNOWN


def test_nodes_that_are_too_few_are_not_said_to_be_none() -> None:
    too_few = "not enough nodes to run job. requested: 5, available: 3, suitable: 3."
    found = diagnose(make(JobState.FAILED, message=too_few), [])
    assert found.category is C.NO_SUITABLE_NODE
    assert found.summary == f"Job j-1 found too few suitable nodes: {too_few}"


def test_what_the_nodes_refuse_is_the_reason_and_not_that_they_do() -> None:
    refused = ran(state=ExecutionState.ASK_FOR_BID_REJECTED, message="variable 'HOME' is not allowed")
    for job in (make(JobState.PENDING), make(JobState.FAILED, message=f"{NO_NODE}.\n• Node n-1: job rejected")):
        found = diagnose(job, [refused])
        assert found.category is C.NO_SUITABLE_NODE
        assert found.summary == "Job j-1 was refused by every node that was asked: variable 'HOME' is not allowed."


def test_the_servers_hint_is_passed_on_in_one_line() -> None:
    history = [event("image not available", ErrorCode="Docker:ImageNotFound", Hint="look:\n  1. here\n  2. there")]
    assert diagnose(make(JobState.FAILED), [], history).hint == "look: 1. here 2. there"


def test_the_stage_that_failed_tells_what_an_unknown_text_does_not() -> None:
    assert diagnose(make(JobState.FAILED), [], [event("odd", "Downloading Inputs")]).category is C.INPUT_UNAVAILABLE
    assert diagnose(make(JobState.FAILED), [], [event("odd", "Publishing Results")]).category is C.PUBLISH_FAILED


def test_an_unknown_text_of_several_lines_is_told_whole() -> None:
    text = "2 errors occurred:\n\t* the first of them\n\t* the second"
    for runs, history in (([ran(state=ExecutionState.FAILED, message=text)], []), ([], [event(text)])):
        found = diagnose(make(JobState.FAILED), runs, history)
        assert found.summary == "Job j-1 ended as Failed: 2 errors occurred: * the first of them."
        assert any("the second" in fact for fact in found.facts)


def test_a_stderr_that_the_server_has_cut_is_said_to_go_on() -> None:
    facts = diagnose(make(), [ran(3, stderr="a\nb", stderr_truncated=True)]).facts
    assert facts[-2:] == (
        "  stderr | b",
        "  stderr … goes on; the server keeps its beginning, the job's results the whole",
    )


@pytest.mark.parametrize(("code", "words"), [(127, "not there"), (137, "memory"), (1, "the program's own")])
def test_exit_codes_that_shells_and_docker_give_are_explained(code: int, words: str) -> None:
    assert words in diagnose(make(), [ran(code)]).hint


@pytest.mark.parametrize("message", ["", "Job requested to stop before completion", "job canceled by user"])
def test_a_stop_whose_reason_the_server_does_not_keep_is_given_none(message: str) -> None:
    found = diagnose(make(JobState.STOPPED, message=message), [])
    assert (found.category, found.summary) == (C.STOPPED_BY_OTHERS, "Job j-1 was stopped; why is not known.")


def test_an_exit_code_that_nobody_can_read_is_said_to_be_unknown() -> None:
    found = diagnose(make(), [ran(None)])
    assert found.summary == "Job j-1: the program failed with exit code unknown."


def test_several_failed_programs_are_counted() -> None:
    found = diagnose(make(count=3), [GOOD, ran(3, partition=1), ran(4, partition=2)])
    assert found.summary == "Job j-1: the program failed with exit code 3, 4 in 2 of 3 executions."


def test_the_same_exit_code_is_told_once_and_many_are_not_all_told() -> None:
    runs = [ran(code, partition=number) for number, code in enumerate([3, 3, *range(1, 300)])]
    found = diagnose(make(count=len(runs)), runs)
    assert found.summary.endswith("exit code 3, 1, 2, 4, 5, 6, 7, 8, 9, 10 and others in 301 of 301 executions.")


def test_a_diagnosis_as_lines_for_a_log() -> None:
    job = make(engine="wasm")
    lines = list(diagnose(job, [ran(3, stderr="a\n  b\n", message="Running")]).lines())
    assert lines == [
        "PROGRAM_FAILED: Job j-1: the program failed with exit code 3.",
        "  job j-1 (n) in namespace default: Completed",
        "  execution e-1 on node n-1: Completed, exit code 3",
        "    stderr | a",
        "    stderr |   b",
        "What to do: Read its output; the exit code is the program's own.",
    ]


def test_executions_of_the_same_fate_are_told_once() -> None:
    message = "cannot find the input"
    failed = [
        replace(ran(None, ExecutionState.FAILED, message=message), id=f"e-{number}", node_id=f"n-{number % 2}")
        for number in range(4)
    ]
    history = [event(message, execution=one.id, IsError="true") for one in failed]
    facts = diagnose(make(JobState.FAILED), failed, history).facts
    assert [fact for fact in facts if message in fact] == ["4 executions on 2 nodes: Failed: cannot find the input"]


def test_remote_words_are_bounded_and_cannot_move_the_cursor() -> None:
    long = "\x1b[2J\u202e" + "x" * 5_000
    job = make(JobState.FAILED, name=long, message="\n".join([long] * 1000))
    executions = [ran(state=ExecutionState.FAILED, message=long, stderr="\n".join([long] * 1000))] * 1000
    history = [event(long, topic=long, Hint=long)] * 1000
    for state in JobState:
        found = diagnose(replace(job, state=state), executions, history)
        text = "\n".join(found.lines())
        assert len(text) < 60_000
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_categories_are_public_and_do_not_change() -> None:
    assert {category.value for category in FailureCategory} == {
        "PROGRAM_FAILED",
        "IMAGE_NOT_FOUND",
        "MODULE_INVALID",
        "INPUT_UNAVAILABLE",
        "PUBLISH_FAILED",
        "OUT_OF_MEMORY",
        "EXECUTION_TIMEOUT",
        "QUEUE_TIMEOUT",
        "JOB_TIMEOUT",
        "NO_SUITABLE_NODE",
        "ENGINE_NOT_SUPPORTED",
        "STOPPED_BY_OTHERS",
        "NODE_LOST",
        "INCOMPLETE",
        "WAIT_TIMEOUT",
        "REFUSED_SPEC",
        "MISCONFIGURED",
        "NOT_FOUND",
        "NOT_AUTHORISED",
        "UNREACHABLE",
        "RESULTS_MISSING",
        "UNKNOWN",
    }
    assert all(category.name == category.value for category in FailureCategory)


def test_nothing_known_is_still_a_diagnosis() -> None:
    found = diagnose(make(JobState.FAILED), ())
    assert found == Diagnosis(
        C.UNKNOWN,
        "Job j-1 ended as Failed: the server gives no reason.",
        "",
        ("job j-1 (n) in namespace default: Failed",),
    )
