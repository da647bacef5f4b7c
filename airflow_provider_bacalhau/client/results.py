"""Results of jobs, and the references to them that may be stored and handed on.

A *result* is what the server says now; it may hold a signed address, which is a secret and ages within minutes. A
*reference* names the result for good: by CID (``ipfs``), by bucket and key (``s3``), or, where only the server can
give a fresh address (``url`` of the local publisher, ``s3managed``), by the job and the result's place in its list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_bacalhau.client.facts import Execution
from airflow_provider_bacalhau.client.reading import Fields


@dataclass(frozen=True)
class Result:
    """One result as the server gives it now.

    :param type: ``ipfs``, ``s3``, ``s3PreSigned`` or ``urlDownload``.
    :param params: its parameters; never shown by ``repr``, for they may hold a signed address.
    :param index: its place in the server's list.
    """

    type: str
    params: Mapping[str, Any] = field(repr=False)
    index: int

    @property
    def url(self) -> str:
        """Where to fetch it over HTTP just now; empty for results that are fetched otherwise. A secret."""
        fields = Fields(self.params)
        return fields.text("PreSignedURL") or fields.text("URL")


@dataclass(frozen=True)
class ResultReference:
    """Names a result so that it can be stored, shown and handed to another job.

    :param type: ``ipfs``, ``s3``, ``url`` or ``s3managed``.
    :param job_id: the job it came from.
    :param execution_id: the execution it came from, where that can be told.
    :param cid: its CID (``ipfs``).
    :param source: the ``SourceSpec`` that reads it (``s3``).
    :param index: its place in the job's list of results (``url``, ``s3managed``).
    """

    type: str
    job_id: str
    execution_id: str | None = None
    cid: str | None = None
    source: Mapping[str, Any] | None = None
    index: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As a plain dict, the shape of the XCom ``results``."""
        place = {"cid": self.cid, "source": self.source, "index": self.index}
        return {
            "type": self.type,
            "job_id": self.job_id,
            "execution_id": self.execution_id,
            **{key: value for key, value in place.items() if value is not None},
        }


def refer(job_id: str, results: Iterable[Result], executions: Iterable[Execution] = ()) -> list[ResultReference]:
    """References to a job's results, in the server's order.

    :param executions: the job's executions; the server's list of results does not say which is whose, the executions'
        own published results do.
    """
    owners = {key: one.id for one in executions if (key := _identity(one.published_type, one.published))}
    return [_refer(job_id, result, owners.get(_identity(result.type, result.params))) for result in results]


def _refer(job_id: str, result: Result, execution_id: str | None) -> ResultReference:
    params = Fields(result.params)
    kind = result.type.lower()
    if kind == "ipfs":
        return ResultReference("ipfs", job_id, execution_id, cid=params.text("CID"))
    if kind == "s3":
        return ResultReference("s3", job_id, execution_id, source=_stored(params.raw))
    if kind == "s3presigned" and not params.flag("Managed"):
        return ResultReference("s3", job_id, execution_id, source=_stored(params.fields("SourceSpec").raw))
    if kind == "s3presigned":
        return ResultReference("s3managed", job_id, execution_id, index=result.index)
    return ResultReference("url", job_id, execution_id, index=result.index)


def _stored(source: Mapping[str, Any]) -> dict[str, Any]:
    """An S3 source without its empty parts, which say nothing."""
    return {
        key: value
        for key, value in source.items()
        if value and not (isinstance(value, Mapping) and not any(value.values()))
    }


def _identity(kind: str, params: Mapping[str, Any]) -> str:
    fields = Fields(params)
    if kind.lower() == "s3presigned":
        fields = fields.fields("SourceSpec")
    where = fields.text("CID") or fields.text("Key")
    return where or fields.text("URL")
