"""What runs the task: Docker or WebAssembly, or an engine this package knows nothing of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, field_validator

from airflow_provider_bacalhau.client.spec.data_urls import GZIP, decode_data_url
from airflow_provider_bacalhau.client.spec.fields import (
    AbsolutePath,
    Env,
    Text,
    WireModel,
    problem,
    problems_at,
    read_path,
)
from airflow_provider_bacalhau.client.spec.sources import InputSource, Models, SourceConfig, SpecConfig
from airflow_provider_bacalhau.client.spec.wasm import why_refused

DOCKER = "docker"
WASM = "wasm"


class DockerParams(WireModel):
    """Parameters of the Docker engine.

    :param image: the image's name.
    :param entrypoint: replaces the image's entry point.
    :param parameters: arguments of the entry point.
    :param environment_variables: list of ``NAME=value``; wins over the task's ``Env``, in lower case, too.
    :param working_directory: absolute path.
    """

    image: str = Field(min_length=1)
    entrypoint: list[Text] = Field(default_factory=list)
    parameters: list[Text] = Field(default_factory=list)
    environment_variables: list[str] = Field(default_factory=list)
    working_directory: str | None = None

    @field_validator("environment_variables")
    @classmethod
    def _are_assignments(cls, value: list[str]) -> list[str]:
        problems_at(
            ((place,), "must be written NAME=value", "")
            for place, item in enumerate(value)
            if not item.partition("=")[0] or "=" not in item
        )
        problems_at(
            ((place,), "may not begin with BACALHAU_, which is the network's own", "")
            for place, item in enumerate(value)
            if item.upper().startswith("BACALHAU_")
        )
        return value

    @field_validator("working_directory")
    @classmethod
    def _is_absolute(cls, value: str | None) -> str | None:
        if value and not value.startswith("/"):
            raise problem(f"is {value!r}, and must be an absolute path")
        return value


class ModuleSource(InputSource):
    """A WebAssembly module given as a whole input source, as servers up to v1.6 read it."""

    target: AbsolutePath | None = None  # type: ignore[assignment]  # a module needs none of its own

    @field_validator("source")
    @classmethod
    def _can_be_run(cls, value: SourceConfig) -> SourceConfig:
        check_module(value, ("Params", "URL"))
        return value


def check_module(source: SourceConfig, path: tuple[str | int, ...]) -> None:
    """Refuses a module whose bytes are at hand and that no server would run.

    :param path: path to the bytes from the field that is validated.
    """
    if source.type != "inline" or "URL" not in source.params:
        return
    media_type, data = decode_data_url(source.params["URL"])
    if media_type == GZIP:  # a folder with the module in it
        return
    if refused := why_refused(data):
        problems_at([(path, *refused)])


def _module(value: object) -> object:
    if isinstance(value, str):
        return read_path(value)
    if isinstance(value, Mapping):
        return ModuleSource.model_validate(value)
    raise problem("must be the target of an input source, or an input source itself")


_Module = Annotated[str | ModuleSource, BeforeValidator(_module)]


class WasmParams(WireModel):
    """Parameters of the WebAssembly engine, in the shape of servers up to v1.6 or in that of later ones.

    :param entry_module: the target of the input source that holds the module (from v1.7), or the whole source.
    :param entrypoint: the function to call; ``_start`` when it is not given.
    :param parameters: arguments of the program.
    :param import_modules: modules that the entry module imports, each given like ``entry_module``.
    :param environment_variables: the program's environment (up to v1.6; the task's ``Env`` later).
    """

    entry_module: _Module
    entrypoint: str = ""
    parameters: list[Text] = Field(default_factory=list)
    import_modules: list[_Module] = Field(default_factory=list)
    environment_variables: Env = Field(default_factory=dict)

    @field_validator("entry_module")
    @classmethod
    def _entry_has_a_target(cls, value: str | ModuleSource) -> str | ModuleSource:
        return _with_target(value, "/wasm/entry.wasm")

    @field_validator("import_modules")
    @classmethod
    def _imports_have_targets(cls, value: list[str | ModuleSource]) -> list[str | ModuleSource]:
        return [_with_target(module, f"/wasm/imports/module_{number}.wasm") for number, module in enumerate(value)]


def _with_target(module: str | ModuleSource, target: str) -> str | ModuleSource:
    """A whole source gets the target that servers from v1.7 on would give it."""
    if isinstance(module, str) or module.target:
        return module
    return module.model_copy(update={"target": target})


class EngineConfig(SpecConfig):
    """What runs the task."""

    known: ClassVar[Models] = {DOCKER: DockerParams, WASM: WasmParams}

    @property
    def modules(self) -> list[str | dict[str, Any]]:
        """A WebAssembly task's modules, the entry module first: targets of input sources, or whole sources."""
        if self.type != WASM:
            return []
        return [self.params["EntryModule"], *self.params.get("ImportModules", [])]
