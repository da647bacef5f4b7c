"""There and back: what the requester API can carry comes back as it was, and nothing else is let through."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.spec import JobSpec, read_job_spec
from airflow_provider_bacalhau.client.spec.legacy import RequesterShape, read_requester_spec, write_requester_spec

SHAPES = {
    version: ServerVersion(version).requester.shape
    for version in ("v0.3.29", "v1.0.3", "v1.0.4", "v1.1.6", "v1.2.2", "v1.3.2")
}
CIDS = [
    "QmQuBpy4mRYejBDGW2Nx1mzcHsTbBCTwTCEW3q95SQRFqB",
    "QmbmHZ4SjokWhB5qNrpbSnBtv2EAieUCjvc2gy8ZRnBbup",
    "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
]

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
names = st.text("abcXYZ09._-", min_size=1, max_size=6)
label = st.from_regex(r"[aB9]([a._-]{0,3}[bC0])?", fullmatch=True)
paths = st.lists(st.text("abc09", min_size=1, max_size=4), min_size=1, max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)
env = st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,5}", fullmatch=True), words.filter(bool), max_size=3)


def some(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping with some of the keys."""
    return st.fixed_dictionaries({}, optional=keys)


def config(kind: str, params: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"Type": st.just(kind), "Params": params})


s3 = st.fixed_dictionaries(
    {"Bucket": names}, optional={"Key": names, "Region": names, "Endpoint": names, "ChecksumSHA256": names}
)
ipfs = config("ipfs", st.fixed_dictionaries({"CID": st.sampled_from(CIDS)}))
folder = config(
    "localDirectory", st.fixed_dictionaries({"SourcePath": paths}, optional={"ReadWrite": st.just(value=True)})
)
sources = st.one_of(
    ipfs,
    config("urlDownload", st.just({"URL": "https://example.org/a?b=c"})),
    config("inline", st.just({"URL": "data:text/plain;base64,aGVsbG8="})),
    config("s3", s3),
    folder,
)
later_sources = st.one_of(
    sources,
    config("s3", st.fixed_dictionaries({"Bucket": names}, optional={"Filter": names, "VersionID": names})),
    config(
        "local", st.fixed_dictionaries({"SourcePath": paths}, optional={"CreateAs": st.sampled_from(["dir", "file"])})
    ),
    config("tape", st.just({"Reel": 1})),
)


def input_sources(of: st.SearchStrategy[Any], *, least: int = 0) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(
        st.fixed_dictionaries({"Source": of, "Target": paths}, optional={"Alias": names}),
        min_size=least,
        max_size=3,
        unique_by=(lambda one: one["Target"], lambda one: one.get("Alias", one["Target"])),
    )


docker = config(
    "docker",
    st.fixed_dictionaries(
        {"Image": names},
        optional={
            "Entrypoint": st.lists(words, min_size=1, max_size=3),
            "Parameters": st.lists(words, max_size=3),
            "EnvironmentVariables": st.lists(words.map(lambda value: f"path={value}"), max_size=2),
            "WorkingDirectory": paths,
        },
    ),
)


@st.composite
def wasm(draw: st.DrawFn) -> dict[str, Any]:
    entry, *imports = draw(input_sources(ipfs, least=1))
    params = {
        "EntryModule": entry,
        "ImportModules": imports,
        **draw(some(Entrypoint=names, Parameters=st.lists(words))),
    }
    return {"Type": "wasm", "Params": params}


selectors = st.one_of(
    st.fixed_dictionaries(
        {"Key": label, "Operator": st.sampled_from(["in", "notin"]), "Values": st.lists(label, min_size=1, max_size=2)}
    ),
    st.fixed_dictionaries({"Key": label, "Operator": st.sampled_from(["exists", "!"])}),
    st.fixed_dictionaries(
        {
            "Key": label,
            "Operator": st.sampled_from(["=", "==", "!=", "gt", "lt"]),
            "Values": st.lists(st.integers(0, 9).map(str), min_size=1, max_size=1),
        }
    ),
)
resources = some(
    CPU=st.sampled_from(["500m", "2"]), Memory=st.just("1Gb"), Disk=st.just("5GiB"), GPU=st.sampled_from(["0", "1"])
)
networks = st.one_of(
    st.fixed_dictionaries({"Type": st.sampled_from(["None", "Full", "HTTP"])}),
    st.just({"Type": "HTTP", "Domains": ["example.org", "192.0.2.1"]}),
)
s3_place = {"Bucket": names, "Key": names}
publishers = st.one_of(
    config("ipfs", st.just({})),
    config("noop", st.just({})),
    config("s3", st.fixed_dictionaries(s3_place, optional={"Region": names, "Encoding": st.just("gzip")})),
)
later_publishers = st.one_of(
    publishers,
    config("s3", st.fixed_dictionaries({**s3_place, "Encoding": st.just("plain")})),
    st.sampled_from(["local", "s3managed", "fax"]).map(lambda kind: {"Type": kind, "Params": {}}),
)
labels = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_characters="=\0"), min_size=1, max_size=8), words, max_size=3
)


@st.composite
def jobs(draw: st.DrawFn, *, anything: bool) -> dict[str, Any]:
    """A job of what every server can carry, or of anything."""
    engine = draw(st.one_of(docker, wasm()))
    taken = [source["Target"] for source in engine["Params"].get("ImportModules", [])]
    taken.append(engine["Params"].get("EntryModule", {}).get("Target"))
    aliases = {source.get("Alias") for source in engine["Params"].get("ImportModules", [])}
    inputs = draw(input_sources(later_sources if anything else sources))
    inputs = [one for one in inputs if one["Target"] not in taken and one.get("Alias") not in aliases - {None}]
    taken += [one["Target"] for one in inputs]
    results = draw(st.lists(st.text("xyz", min_size=1, max_size=3), max_size=2, unique=True))
    task = {
        "Name": draw(names),
        "Engine": engine,
        "InputSources": inputs,
        "ResultPaths": [{"Name": name, "Path": f"/{name}"} for name in results if f"/{name}" not in taken],
        "Publisher": draw(later_publishers if anything else publishers),
        **draw(
            some(
                Env=env,
                Resources=resources,
                Network=networks,
                Timeouts=st.fixed_dictionaries({"ExecutionTimeout": st.integers(1, 10**6)}),
            )
        ),
    }
    job: dict[str, Any] = {
        "Type": "batch",
        "Tasks": [task],
        **draw(some(Name=words, Count=st.integers(1, 5), Labels=labels, Constraints=st.lists(selectors, max_size=2))),
    }
    if anything:
        job.update(draw(some(Priority=st.integers(0, 2), Meta=labels, Namespace=names)))
        task.update(draw(some(Meta=labels, Network=st.just({"Type": "Host", "Ports": [{"Name": "web"}]}))))
        if draw(st.booleans()):
            job.update(Type=draw(st.sampled_from(["ops", "service", "daemon"])), Count=1)
        if draw(st.booleans()):
            job["Labels"] = draw(st.dictionaries(words, words))
    return job


def fitted(job: dict[str, Any], shape: RequesterShape) -> dict[str, Any]:
    """The job without what just these servers cannot carry."""
    task = job["Tasks"][0]
    params = task["Engine"]["Params"]
    if not shape.docker_parameters and "Entrypoint" not in params:
        params.pop("Parameters", None) if task["Engine"]["Type"] == "docker" else None
    for one in task["InputSources"]:
        if one["Source"]["Type"] == "localDirectory":
            if not shape.read_write:
                one["Source"]["Params"].pop("ReadWrite", None)
            if not shape.source_path:
                one["Source"]["Params"]["SourcePath"] = one["Target"]
    return job


def meaning(spec: JobSpec, shape: RequesterShape) -> dict[str, Any]:
    """A specification without the ways in which two that mean the same may differ."""
    job = spec.to_wire(module_sources=True)
    task = job["Tasks"][0]
    task.setdefault("Network", {"Type": "None"})
    if job.get("Priority") == 0:
        del job["Priority"]
    params = task["Engine"]["Params"]
    if task["Engine"]["Type"] == "docker" and not shape.docker_parameters:
        params["Entrypoint"] = params.get("Entrypoint", []) + params.pop("Parameters", [])
        params = {key: value for key, value in params.items() if value != []}
        task["Engine"]["Params"] = params
    for one in task.get("InputSources", []):
        if one["Source"]["Type"] == "local":
            one["Source"]["Type"] = "localDirectory"
    return job


QUICK = settings(suppress_health_check=[HealthCheck.too_slow], max_examples=25, deadline=None)


@pytest.mark.parametrize("version", SHAPES)
@QUICK
@given(job=jobs(anything=False))
def test_what_a_server_can_carry_comes_back_as_it_was(version: str, job: dict[str, Any]) -> None:
    shape = SHAPES[version]
    spec = read_job_spec(fitted(job, shape))
    written = write_requester_spec(spec, shape=shape)
    back = read_requester_spec(written)
    assert meaning(back, shape) == meaning(spec, shape)
    assert write_requester_spec(back, shape=shape) == {"Network": {"Type": "None"}, **written}


@pytest.mark.parametrize("version", SHAPES)
@QUICK
@given(job=jobs(anything=True))
def test_any_job_comes_back_as_it_was_or_is_refused(version: str, job: dict[str, Any]) -> None:
    shape = SHAPES[version]
    spec = read_job_spec(job)
    try:
        written = write_requester_spec(spec, shape=shape)
    except InvalidJobSpec:
        return
    assert meaning(read_requester_spec(written), shape) == meaning(spec, shape)
