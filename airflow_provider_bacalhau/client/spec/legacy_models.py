"""The specification of the requester API: the form in which jobs were written before there were tasks.

The names of the models are the old API's own. They say which keys there are and of what kind their values must be;
what the values mean is checked in the job specification that is made of them
(:mod:`~airflow_provider_bacalhau.client.spec.legacy_read`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, field_validator, model_validator

from airflow_provider_bacalhau.client.spec.engines import DockerParams
from airflow_provider_bacalhau.client.spec.fields import Env, Text, WireModel, one_of, problem, problems_at
from airflow_provider_bacalhau.client.spec.models import Constraint, Resources, ResultPath
from airflow_provider_bacalhau.client.spec.sources import Models, NoParams, SpecConfig

SOURCES: dict[str, tuple[str, ...]] = {
    "ipfs": ("CID",),
    "urlDownload": ("URL",),
    "inline": ("URL",),
    "localDirectory": ("SourcePath", "ReadWrite"),
    "s3": ("S3",),
}
"""The sources that every server has, and the keys that each of them reads."""

_SOURCES_GONE = dict.fromkeys(
    ("repoClone", "repoCloneLFS", "estuary", "filecoin", "filecoinUnsealed"),
    "No server since v1.4 has it. Use ipfs, s3, urlDownload or inline.",
)
_ENGINES_GONE = dict.fromkeys(("language", "pythonWasm"), "Run the program in a Docker image instead.")


def says_nothing(value: object) -> bool:
    """Whether a value is what servers write where nobody said anything, such as ``{"JobContext": {}}``."""
    if isinstance(value, Mapping):
        return all(says_nothing(item) for item in value.values())
    return value in (None, "", []) or value is False or (value == 0 and not isinstance(value, bool))


def _section(value: object) -> object:
    return None if isinstance(value, Mapping) and says_nothing(value) else value


Section = BeforeValidator(_section)
"""For a part of the specification that may be there without saying anything."""


def nothing(message: str, hint: str) -> BeforeValidator:
    """For a key that may be there, but must not say anything."""

    def read(value: object) -> None:
        if not says_nothing(value):
            raise problem(message, hint)

    return BeforeValidator(read)


def gone(names: Mapping[str, str]) -> BeforeValidator:
    """Refuses names that only older servers know; stands right of what reads the others.

    :param names: those, and what to do instead.
    """
    by_lower = {name.lower(): name for name in names}

    def read(value: object) -> object:
        name = by_lower.get(value.strip().lower()) if isinstance(value, str) else None
        if name:
            raise problem(f"cannot be {name!r} here", names[name])
        return value

    return BeforeValidator(read)


class S3StorageSpec(WireModel):
    """An object, or all objects under a prefix, of an S3 bucket."""

    bucket: str = ""
    key: str = ""
    checksum: str = ""
    version_id: str = Field(default="", alias="VersionID")
    endpoint: str = ""
    region: str = ""


class StorageSpec(WireModel):
    """Where an input or a module comes from, and its mount.

    :param name: the input's alias.
    :param path: the mount; a module needs none.
    """

    storage_source: Annotated[str, one_of(*SOURCES), gone(_SOURCES_GONE)]
    name: Text = ""
    cid: str = Field(default="", alias="CID")
    url: str = Field(default="", alias="URL", repr=False)  # may be signed, or a whole file
    s3: Annotated[S3StorageSpec | None, Section] = None
    source_path: str = ""
    read_write: bool | None = None
    path: str = ""
    repo: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _only_what_the_source_reads(self) -> StorageSpec:
        mine = SOURCES[self.storage_source]
        problems_at(
            ((key,), f"is not read for the source {self.storage_source}, which reads {', '.join(mine)}", "")
            for key, value in self.to_dict().items()
            if key not in (*mine, "StorageSource", "Name", "Path") and not says_nothing(value)
        )
        if "S3" in mine and self.s3 is None:
            problems_at([(("S3",), "is missing", "")])
        return self


class Output(ResultPath):
    """A folder to publish; its ``StorageSource`` was never looked at."""

    storage_source: str | None = None


class WasmParams(WireModel):
    """What the engine wasm runs."""

    entry_module: StorageSpec
    entry_point: str = ""
    parameters: list[Text] = Field(default_factory=list)
    import_modules: list[StorageSpec] = Field(default_factory=list)
    environment_variables: Env = Field(default_factory=dict)


class EngineSpec(SpecConfig):
    """What runs the job, in the form of v1.0.4 and later."""

    known: ClassVar[Models] = {"docker": DockerParams, "wasm": WasmParams, "noop": NoParams}
    refused: ClassVar[dict[str, str]] = _ENGINES_GONE


class S3PublisherParams(WireModel):
    """Where the publisher s3 writes.

    :param compress: whether the results are packed into one ``.tar.gz``; from v1.2.2 on they always are.
    """

    bucket: str = Field(min_length=1)
    key: str = Field(min_length=1)
    endpoint: str = ""
    region: str = ""
    compress: bool | None = None


_PUBLISHERS_GONE = dict.fromkeys(("estuary", "filecoin"), "No server since v1.2.1 has it; publish to ipfs or s3.")


class PublisherSpec(SpecConfig):
    """Where the results go."""

    known: ClassVar[Models] = {"ipfs": NoParams, "local": NoParams, "noop": NoParams, "s3": S3PublisherParams}
    refused: ClassVar[dict[str, str]] = _PUBLISHERS_GONE


class NetworkConfig(WireModel):
    """What the job may reach: nothing, unless it says so."""

    type: Annotated[str, one_of("None", "Full", "HTTP")] = "None"
    domains: list[Text] = Field(default_factory=list)


def _at_most_one(value: object) -> None:
    if not says_nothing(value) and value != 1:
        raise problem("is read by no server since v1.0.4", "Leave it out.")


class Deal(WireModel):
    """On how many nodes the job runs.

    :param targeting_mode: true for every node that fits.
    """

    targeting_mode: bool = False
    concurrency: int | None = None
    confidence: Annotated[None, BeforeValidator(_at_most_one)] = None
    min_bids: Annotated[None, BeforeValidator(_at_most_one)] = None


def _whole_seconds(value: object) -> object:
    """Rounded up; what is not above 0 is the server's default to all of them, and so is nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise problem("must be a number of seconds")
    return math.ceil(value) if value > 0 else None


def _without_empty(value: object) -> object:
    """Servers write the resources that nobody asked for as empty texts."""
    if not isinstance(value, Mapping):
        return value
    return {key: item for key, item in value.items() if item not in (None, "")} or None


_Resources = Annotated[Resources | None, BeforeValidator(_without_empty)]


class Spec(WireModel):
    """A job for the requester API."""

    engine: Annotated[str | None, one_of("docker", "wasm", "noop"), gone(_ENGINES_GONE)] = None
    engine_spec: Annotated[EngineSpec | None, Section] = None
    docker: Annotated[DockerParams | None, Section] = None
    wasm: Annotated[WasmParams | None, Section] = None
    language: Annotated[
        None, nothing("is read by no server since v1.0.4", "Run the program in a Docker image instead.")
    ] = None
    verifier: Annotated[str | None, one_of("noop", "deterministic", "external")] = None
    publisher: Annotated[str | None, one_of("ipfs", "s3", "local", "noop"), gone(_PUBLISHERS_GONE)] = None
    publisher_spec: Annotated[PublisherSpec | None, Section] = None
    resources: _Resources = None
    total_allocated_resources: _Resources = None
    network: Annotated[NetworkConfig | None, Section] = None
    timeout: Annotated[int | None, BeforeValidator(_whole_seconds)] = None
    inputs: list[StorageSpec] = Field(default_factory=list)
    outputs: list[Output] = Field(default_factory=list)
    annotations: list[Text] = Field(default_factory=list)
    node_selectors: list[Constraint] = Field(default_factory=list)
    do_not_track: bool | None = None
    deal: Deal = Field(default_factory=Deal)

    @field_validator("verifier")
    @classmethod
    def _verifies_nothing(cls, value: str | None) -> str | None:
        if value not in (None, "noop"):
            raise problem(f"is {value!r}, and no server since v1.0.4 verifies results", "Leave it out.")
        return value

    @field_validator("annotations")
    @classmethod
    def _can_be_labels(cls, value: list[str]) -> list[str]:
        seen: dict[str, str] = {}
        found: list[tuple[tuple[str | int, ...], str, str]] = []
        for place, annotation in enumerate(value):
            key, _, label = annotation.partition("=")
            if not key:
                found.append(((place,), f"is {annotation!r}, and a label needs a name", ""))
            elif seen.setdefault(key, label) != label:
                found.append(((place,), f"gives the label {key!r} a second value", "Keep one of them."))
        problems_at(found)
        return value

    @model_validator(mode="after")
    def _says_nothing_twice(self) -> Spec:
        """What can be said in two ways is said in one of them, or alike in both."""
        if self.engine_spec and self.engine not in (None, self.engine_spec.type):
            _refuse_second("EngineSpec", "Engine")
        if self.publisher_spec and self.publisher not in (None, self.publisher_spec.type):
            _refuse_second("PublisherSpec", "Publisher")
        if self.resources and self.total_allocated_resources not in (None, self.resources):
            _refuse_second("TotalAllocatedResources", "Resources")
        return self

    @model_validator(mode="after")
    def _has_one_engine(self) -> Spec:
        kind = self.engine or (self.engine_spec.type if self.engine_spec else None)
        if kind is None:
            problems_at([(("Engine",), "is missing", "Write `Engine: docker` or `Engine: wasm`.")])
        sections: list[tuple[str, WireModel | None]] = [("Docker", self.docker), ("Wasm", self.wasm)]
        for key, section in sections:
            if section and key.lower() != kind:
                problems_at([((key,), f"is for another engine than {kind}", "Leave it out.")])
            if section and self.engine_spec and self.engine_spec.params != section.to_dict():
                _refuse_second("EngineSpec", key)
            if section is None and self.engine_spec is None and key.lower() == kind:
                problems_at([((key,), "is missing", f"It says what the engine {kind} runs.")])
        return self


def _refuse_second(key: str, other: str) -> None:
    problems_at([((key,), f"says something else than `{other}`", "Keep one of them.")])
