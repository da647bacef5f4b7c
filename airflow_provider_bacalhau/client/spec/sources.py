"""Where data come from and where results go: input sources, publishers, and the parameters of each known type.

Parameters of a known type are checked here, for the server accepts anything and lets the execution fail (reference
§2.5); a type that is not known goes to the server as it is.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from airflow_provider_bacalhau.client.cid import normalise_cid
from airflow_provider_bacalhau.client.spec.data_urls import decode_data_url
from airflow_provider_bacalhau.client.spec.fields import AbsolutePath, WireModel, one_of, problem

LOCAL_FILE = "local_file"
"""Type of the source that marks a file beside the DAG; the server has no such type (see ``embed_local_files``)."""

Models = dict[str, type[WireModel]]
"""Type names and the models of their parameters."""

_TYPE = re.compile(r"[A-Za-z0-9_.-]+")


class SpecConfig(WireModel):
    """A type and its parameters: the shape of engines, publishers and sources alike.

    :param type: the type's name; known ones in any case.
    :param params: its parameters, with the server's keys where the type is known; never shown by ``repr``, for they may
        hold a signed address or a whole file.
    """

    known: ClassVar[Models] = {}
    """Models of the parameters of the known types."""

    refused: ClassVar[dict[str, str]] = {}
    """Types that cannot be used here, and what to do instead."""

    type: str = Field(min_length=1)
    params: dict[str, Any] = Field(default_factory=dict, repr=False)

    @field_validator("type")
    @classmethod
    def _in_the_servers_case(cls, value: str) -> str:
        value = value.strip()
        names = {name.lower(): name for name in (*cls.known, *cls.refused)}
        name = names.get(value.lower(), value)
        if name in cls.refused:
            raise problem(f"cannot be {name!r} here", cls.refused[name])
        if value and not _TYPE.fullmatch(value):
            raise problem(f"is {value!r}, which is not the name of a type")
        return name

    @field_validator("params")
    @classmethod
    def _with_the_servers_keys(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        model = cls.known.get(info.data.get("type", ""))
        return model.model_validate(value).to_dict() if model else value

    @model_serializer(mode="wrap")
    def _leave_out_what_says_nothing(self, _: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # `Params` is always there: some servers insist on an object.
        return {"Type": self.type, "Params": self.params}


def _cid(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return normalise_cid(value)
    except ValueError as error:
        hint = (
            "Nodes take a bare CID only: name a path in it as `ipfs://CID/path:/mount` among the operator's `inputs`."
            if "/" in value
            else "A wrong CID would block a whole compute node, so it is not sent."
        )
        raise problem(f"{value!r} is not a CID: {error}", hint) from None


def _data_url(value: object) -> object:
    if isinstance(value, str):
        try:
            decode_data_url(value)
        except ValueError as error:
            raise problem(str(error)) from None
    return value


def _http_url(value: object) -> object:
    # The URL itself is not repeated: it may be signed.
    if isinstance(value, str) and not re.match(r"https?://[^/?#\s]+", value, re.IGNORECASE):
        raise problem("is not an http:// or https:// URL")
    return value


class IpfsSource(WireModel):
    """Content by its CID."""

    cid: Annotated[str, BeforeValidator(_cid)] = Field(alias="CID")


class S3Source(WireModel):
    """An object, or all objects under a prefix, of an S3 bucket; read with the compute node's credentials."""

    bucket: str = Field(min_length=1)
    key: str = ""
    filter: str = ""
    region: str = ""
    endpoint: str = ""
    version_id: str = Field(default="", alias="VersionID")
    checksum_sha256: str = Field(default="", alias="ChecksumSHA256")
    partition: dict[str, Any] = Field(default_factory=dict)


class UrlSource(WireModel):
    """A file by HTTP; it lands in the folder that is the target, under its own name."""

    url: Annotated[str, BeforeValidator(_http_url)] = Field(alias="URL")


class InlineSource(WireModel):
    """Bytes inside the specification."""

    url: Annotated[str, BeforeValidator(_data_url)] = Field(alias="URL")


class LocalDirectorySource(WireModel):
    """A folder of the compute node."""

    source_path: AbsolutePath
    read_write: bool | None = None


class LocalSource(LocalDirectorySource):
    """A file or folder of the compute node, from v1.8 on."""

    create_as: Annotated[str | None, one_of("noCreate", "dir", "file")] = None


class LocalFile(WireModel):
    """Marks a file beside the DAG, to be read into an inline source when the task runs."""

    path: str = Field(min_length=1)


class SourceConfig(SpecConfig):
    """Where an input comes from."""

    known: ClassVar[Models] = {
        "ipfs": IpfsSource,
        "s3": S3Source,
        "urlDownload": UrlSource,
        "inline": InlineSource,
        "localDirectory": LocalDirectorySource,
        "local": LocalSource,
        LOCAL_FILE: LocalFile,
    }
    refused: ClassVar[dict[str, str]] = {
        "s3PreSigned": "It is a type of results; read the object itself with a source of type `s3`.",
        "s3managed": "It is a type of publishers; publish to `s3` or `ipfs` to read a result in another job.",
    }


class InputSource(WireModel):
    """Data mounted into the task.

    :param source: where it comes from.
    :param target: absolute path in the task.
    :param alias: another name for it, which WebAssembly modules are linked by.
    """

    source: SourceConfig
    target: AbsolutePath
    alias: str = ""


class NoParams(WireModel):
    """For types that take no parameters."""


class S3Publisher(WireModel):
    """Publishes to an S3 bucket.

    The node fills in ``{jobID}``, ``{executionID}``, ``{nodeID}``, ``{date}`` and ``{time}`` in the key.
    """

    bucket: str = Field(min_length=1)
    key: str = Field(min_length=1)
    region: str = ""
    endpoint: str = ""
    encoding: Annotated[str | None, one_of("gzip", "plain")] = None


class PublisherConfig(SpecConfig):
    """Where a task's results go. An empty type is none, as for the server."""

    known: ClassVar[Models] = {
        "ipfs": NoParams,
        "local": NoParams,
        "noop": NoParams,
        "s3managed": NoParams,
        "s3": S3Publisher,
    }

    type: str = ""
