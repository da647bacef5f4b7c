"""The job specification: a job, its task and what belongs to them.

The names end in *Spec* where the server has a thing of the same name: :class:`JobSpec` is what a user asks for,
``Job`` what the server says about it. Keys, rules and texts: reference §2, checked on running servers.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from airflow_provider_bacalhau.client.spec.engines import WASM, EngineConfig, check_module
from airflow_provider_bacalhau.client.spec.fields import (
    AbsolutePath,
    Bytes,
    Cpu,
    Env,
    Seconds,
    Text,
    WholeNumber,
    WireModel,
    one_of,
    problem,
    problems_at,
)
from airflow_provider_bacalhau.client.spec.problems import refusal
from airflow_provider_bacalhau.client.spec.sources import InputSource, PublisherConfig, SourceConfig, SpecConfig

__all__ = [
    "Constraint",
    "EngineConfig",
    "InputSource",
    "JobSpec",
    "Network",
    "Port",
    "PublisherConfig",
    "Resources",
    "ResultPath",
    "SourceConfig",
    "SpecConfig",
    "TaskSpec",
    "Timeouts",
]

_LONG_RUNNING = ("service", "daemon")
_ON_EVERY_NODE = ("ops", "daemon")
_PUBLISHED_ANYWAY = ("stdout", "stderr", "exitCode")


class ResultPath(WireModel):
    """A file or folder of the task to publish.

    :param name: its name in the result.
    :param path: its absolute path in the task.
    """

    name: str = Field(min_length=1)
    path: AbsolutePath

    @field_validator("name")
    @classmethod
    def _can_be_a_file_name(cls, value: str) -> str:
        value = value.strip()
        if value.lower() in {name.lower() for name in _PUBLISHED_ANYWAY}:
            raise problem(f"is {value!r}, which every result holds already", "Choose another name.")
        if "/" in value or value in ("", ".", ".."):
            raise problem(f"is {value!r}, and must be the name of a file or folder, without a slash")
        return value


class Resources(WireModel):
    """What the task needs, as text: ``CPU`` cores, ``Memory`` and ``Disk`` with a unit, ``GPU`` a number."""

    cpu: Cpu | None = Field(default=None, alias="CPU")
    memory: Bytes | None = None
    disk: Bytes | None = None
    gpu: WholeNumber | None = Field(default=None, alias="GPU")


class Port(WireModel):
    """A port of the task (from v1.6.5).

    :param name: its name, which environment variables are formed of.
    :param static: the port on the host, from 1024 on; any free one when it is not given.
    :param target: the port in the container, on a bridge only.
    :param host_network: the address to bind to.
    """

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    static: Annotated[int, Field(ge=1024, le=65535)] | None = None
    target: Annotated[int, Field(ge=1, le=65535)] | None = None
    host_network: str = ""


class Network(WireModel):
    """What the task may reach.

    :param type: ``None``, ``Full`` or ``HTTP``; ``Host`` and ``Bridge`` from v1.6.5, ``Default`` from v1.7 on.
    :param domains: the only domains that may be reached; with ``HTTP`` only.
    :param ports: ports to open; with ``Host``, ``Bridge`` and ``Full`` only.
    """

    type: Annotated[str | None, one_of("None", "Full", "HTTP", "Host", "Bridge", "Default")] = None
    domains: list[Text] = Field(default_factory=list)
    ports: list[Port] = Field(default_factory=list)

    @field_validator("domains")
    @classmethod
    def _only_for_http(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if value and info.data.get("type", "HTTP") != "HTTP":
            raise problem("can be given for the network type HTTP only", "Set Network.Type to HTTP.")
        return value

    @field_validator("ports")
    @classmethod
    def _only_where_there_are_ports(cls, value: list[Port], info: ValidationInfo) -> list[Port]:
        network = info.data.get("type", "Host")
        if value and network not in ("Host", "Bridge", "Full"):
            raise problem("can be given for the network types Host and Bridge only", "Set Network.Type to one of them.")
        if network != "Bridge":
            problems_at(
                ((place, "Target"), "can be given for the network type Bridge only", "")
                for place, port in enumerate(value)
                if port.target is not None
            )
        return value


class Timeouts(WireModel):
    """Limits in whole seconds, 0 for none.

    :param execution_timeout: of one execution.
    :param queue_timeout: of waiting for a node; 0 fails at once when no node fits.
    :param total_timeout: of everything, retries included.
    """

    execution_timeout: Seconds | None = None
    queue_timeout: Seconds | None = None
    total_timeout: Seconds | None = None


_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_PREFIX = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LABEL_WORDS = "up to 63 letters, digits and -_. between them"
_INTEGER = re.compile(r"[+-]?[0-9]+")


class Constraint(WireModel):
    """Selects nodes by a label.

    :param key: the label.
    :param operator: ``in`` and ``notin`` take values, ``exists`` and ``!`` none, the others exactly one.
    :param values: what to compare the label with.

    Keys and values are those of Kubernetes' labels. A server takes others as well, but its scheduler cannot read them,
    and the job stays Pending until its total timeout (seen on v1.9.3).
    """

    key: str = Field(min_length=1)
    operator: Annotated[str, one_of("in", "notin", "exists", "!", "=", "==", "!=", "gt", "lt")]
    values: list[Text] = Field(default_factory=list)

    @field_validator("values")
    @classmethod
    def _as_many_as_the_operator_takes(cls, value: list[str], info: ValidationInfo) -> list[str]:
        operator = info.data.get("operator")
        if operator in ("in", "notin") and not value:
            raise problem(f"must hold at least one value for the operator `{operator}`")
        if operator in ("exists", "!") and value:
            raise problem(f"must be empty for the operator `{operator}`")
        if operator in ("=", "==", "!=", "gt", "lt") and len(value) != 1:
            raise problem(f"must hold exactly one value for the operator `{operator}`")
        for one in value:
            if operator in ("gt", "lt") and not _INTEGER.fullmatch(one):
                raise problem(f"is {one!r:.80}, and `{operator}` compares whole numbers")
            if one and operator not in ("gt", "lt") and not _LABEL.fullmatch(one):
                raise problem(f"is {one!r:.80}, which no label can have: {_LABEL_WORDS}")
        return value

    @field_validator("key")
    @classmethod
    def _is_a_label(cls, value: str) -> str:
        prefix, slash, name = value.rpartition("/")
        if not _LABEL.fullmatch(name) or (slash and not _LABEL_PREFIX.fullmatch(prefix)):
            raise problem(f"is {value!r:.80}, which no label can be called: {_LABEL_WORDS}")
        return value


class TaskSpec(WireModel):
    """What a job runs: an engine with its parameters, its inputs, its results and its limits."""

    name: Text = Field(default="main", min_length=1)
    engine: EngineConfig
    publisher: PublisherConfig | None = None
    env: Env = Field(default_factory=dict)
    meta: dict[str, Text] = Field(default_factory=dict)
    input_sources: list[InputSource] = Field(default_factory=list)
    result_paths: list[ResultPath] = Field(default_factory=list)
    resources: Resources | None = None
    network: Network | None = None
    timeouts: Timeouts | None = None

    @field_validator("input_sources")
    @classmethod
    def _each_in_its_place(cls, value: list[InputSource], info: ValidationInfo) -> list[InputSource]:
        engine = info.data.get("engine")
        modules = engine.modules if isinstance(engine, EngineConfig) else []
        sources = [module["Target"] for module in modules if isinstance(module, dict)]
        problems_at(_repeated("Target", [source.target for source in value], "an input", taken=sources))
        problems_at(_repeated("Alias", [source.alias for source in value], "an input"))
        for place, source in enumerate(value):
            if source.target in modules:
                check_module(source.source, (place, "Source", "Params", "URL"))
        return value

    @field_validator("result_paths")
    @classmethod
    def _each_published_once(cls, value: list[ResultPath], info: ValidationInfo) -> list[ResultPath]:
        problems_at(_repeated("Name", [result.name for result in value], "a result"))
        problems_at(_repeated("Path", [result.path for result in value], "a result"))
        inputs = {source.target for source in info.data.get("input_sources", [])}
        problems_at(
            ((place, "Path"), f"is {result.path!r}, where an input is mounted", "")
            for place, result in enumerate(value)
            if result.path in inputs
        )
        engine = info.data.get("engine")
        if isinstance(engine, EngineConfig) and engine.type == WASM:
            problems_at(
                (
                    (place,),
                    f"a WebAssembly task finds a result path at /<Name>, here /{result.name}, not at {result.path}",
                    f"Write Name and Path alike: Name: {result.name}, Path: /{result.name}.",
                )
                for place, result in enumerate(value)
                if result.path != f"/{result.name}"
            )
        return value


def _repeated(
    key: str, values: list[str], what: str, taken: list[str] | None = None
) -> list[tuple[tuple[str | int, ...], str, str]]:
    """A problem for every value that was there before; empty values are no values."""
    seen = set(taken or ())
    found: list[tuple[tuple[str | int, ...], str, str]] = []
    for place, value in enumerate(values):
        if value and value in seen:
            found.append(((place, key), f"is {value!r}, which {what} before it has already", ""))
        seen.add(value)
    return found


class JobSpec(WireModel):
    """A job as a user asks for it.

    Make one with :func:`~airflow_provider_bacalhau.client.spec.read_job_spec`, which says what is wrong in the user's
    own spelling. It is frozen; functions that change something give a new one.

    :param type: ``batch`` and ``ops`` jobs end, ``service`` and ``daemon`` jobs do not; ``ops`` and ``daemon`` jobs
        run on every node that fits.
    :param count: how many executions of a batch or service job must complete.
    :param tasks: exactly one; the server silently drops others.
    """

    server_owned: ClassVar[frozenset[str]] = frozenset(
        {"id", "state", "version", "revision", "createtime", "modifytime"}
    )

    name: Text = ""
    namespace: Text = ""
    type: Annotated[str, one_of("batch", "ops", "service", "daemon")]
    priority: int | None = None
    count: int = 1
    constraints: list[Constraint] = Field(default_factory=list)
    meta: dict[str, Text] = Field(default_factory=dict)
    labels: dict[str, Text] = Field(default_factory=dict)
    tasks: list[TaskSpec]

    @field_validator("count")
    @classmethod
    def _runs_something(cls, value: int, info: ValidationInfo) -> int:
        kind = info.data.get("type")
        if kind in _ON_EVERY_NODE:
            # Servers show such jobs with a count of 0, so a specification taken from there is welcome.
            if value not in (0, 1):
                raise problem(f"is {value}, and {kind} jobs run once on every node that fits", "Leave it out.")
            return 1
        if value == 0:
            raise problem("is 0, and the server would report success without running anything", "Set it to 1 or more.")
        if value < 0:
            raise problem(f"is {value}, and must be 1 or more")
        return value

    @field_validator("tasks")
    @classmethod
    def _exactly_one(cls, value: list[TaskSpec]) -> list[TaskSpec]:
        if not value:
            raise problem("is empty, and a job needs a task")
        if len(value) > 1:
            raise problem(
                f"holds {len(value)} tasks, and the server would silently run the first only",
                "Submit one job for each task.",
            )
        return value

    @property
    def task(self) -> TaskSpec:
        """The one task."""
        return self.tasks[0]

    @property
    def ends(self) -> bool:
        """Whether the job ends by itself, so that it can be waited for."""
        return self.type not in _LONG_RUNNING

    def with_task(self, **changes: Any) -> JobSpec:
        """The same job with other attributes of its task, which are taken as they are."""
        return self.model_copy(update={"tasks": [self.task.model_copy(update=changes)]})

    def with_inputs(self, sources: list[dict[str, Any]]) -> JobSpec:
        """The same job with more input sources.

        :param sources: in the form of ``InputSource``, as :func:`assign_mounts` gives them.
        :raises InvalidJobSpec: when two inputs end up on one target, or a module among them cannot be run.
        """
        job = self.to_dict()
        job["Tasks"][0]["InputSources"] = [*job["Tasks"][0].get("InputSources", []), *sources]
        try:
            return JobSpec.model_validate(job)
        except ValidationError as error:
            raise refusal(error, job) from None

    def to_wire(self, *, module_sources: bool = False) -> dict[str, Any]:
        """The job as the server reads it, whichever shape the user wrote.

        What differs between servers is where a WebAssembly task's modules and a task's environment stand
        (reference §2.3 and §3.2):

        - from v1.7 on modules are input sources that the engine names by their targets, and the environment is the
          task's ``Env``;
        - up to v1.6 a WebAssembly engine holds its modules as whole sources, and only the environment that is among
          the engine's parameters reaches the program (Docker on v1.6.1 and later excepted).

        The type, a count of at least 1 and the entry point ``_start`` are always written.

        :param module_sources: whether the server is older than v1.7 (``Capabilities.module_sources``).
        :raises InvalidJobSpec: when no input source is the module that the engine names, or a file beside the DAG has
            not been read.
        """
        from airflow_provider_bacalhau.client.spec.wire import to_wire

        return to_wire(self, module_sources=module_sources)
