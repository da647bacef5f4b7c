"""What is composed of the primitive operations: submit once, wait, judge, resolve inputs, read results.

Everything here is written once for both clients. It knows no path and no version; those are the dialects' business.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_bacalhau.client.auth import choose_auth
from airflow_provider_bacalhau.client.claims import Claims
from airflow_provider_bacalhau.client.dialects.detection import detect_version
from airflow_provider_bacalhau.client.dialects.dialect import Dialect
from airflow_provider_bacalhau.client.dialects.orchestrator import OrchestratorDialect
from airflow_provider_bacalhau.client.dialects.requester import RequesterDialect
from airflow_provider_bacalhau.client.effects import Once, Sleep
from airflow_provider_bacalhau.client.errors import (
    BacalhauError,
    Conflict,
    JobUnchanged,
    NotAuthorised,
    NotFound,
    ResultUnavailable,
)
from airflow_provider_bacalhau.client.facts import AgentNode, Submission
from airflow_provider_bacalhau.client.gateway import Gateway
from airflow_provider_bacalhau.client.identity import load_identity
from airflow_provider_bacalhau.client.results import ResultReference, refer

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client.dialects.logs import LogsRequest
    from airflow_provider_bacalhau.client.dialects.versions import ServerVersion
    from airflow_provider_bacalhau.client.settings import ClientSettings
    from airflow_provider_bacalhau.client.spec import JobSpec
    from airflow_provider_bacalhau.client.spec.inputs import Input, JobInput, ReadyInput

log = logging.getLogger(__name__)

MOST_TEXT = 48 * 1024
"""Bytes of a result's file that are handed on as text: more does not belong into an XCom."""

_CONFLICT_PAUSES = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class ResultText:
    """The text of a small file of a result.

    :param is_partial: whether it comes from the execution's record, which may hold only the program's first write.
    """

    reference: ResultReference
    text: str
    is_partial: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The reference as a plain dict, with the text beside it."""
        return {**self.reference.to_dict(), "text": self.text, "is_partial": self.is_partial}


@dataclass(frozen=True)
class Greeting:
    """What a server says of itself and its network.

    :param version: the server's version.
    :param nodes: compute nodes that take jobs; None where these credentials may run jobs, but not ask for nodes.
    """

    version: str
    nodes: tuple[AgentNode, ...] | None

    @property
    def engines(self) -> tuple[str, ...]:
        """Engines that at least one of these nodes offers."""
        return tuple(sorted({engine for node in self.nodes or () for engine in node.engines}))


class Operations(Claims):
    """A Bacalhau network behind one server.

    :param settings: where it is.
    :param clock: gives the time in seconds since the epoch.
    """

    def __init__(self, settings: ClientSettings, clock: Callable[[], float]) -> None:
        self.identity = functools.cache(
            lambda: load_identity(
                pem=settings.private_key, passphrase=settings.private_key_passphrase, key_file=settings.key_file
            )
        )
        """The client key, read or made when it is first called; it reads files (await a ``Call`` of it)."""
        self.auth = choose_auth(settings, self.identity)
        """How requests say who sends them; shared, so that one token does for all."""
        self._told = settings.on_secret
        self._gateway = Gateway(settings.ipfs_gateway)
        self._api = settings.api
        self._clock = clock
        self._timeout = settings.timeout
        self._dialect: Dialect | None = None

    async def dialect(self) -> Dialect:
        """The API that this server speaks, the orchestrator's where it serves both and the settings do not say
        otherwise. It is asked once and kept.

        :raises NotSupported: for a server that is too old, or lacks the API that the settings name.
        :raises UnexpectedAnswer: when what answers is not Bacalhau.
        """
        if self._dialect is None:
            found = await Once("dialect", self._detect)
            if isinstance(found, BacalhauError):
                raise found
            self._dialect = found
        return self._dialect

    async def _detect(self) -> Dialect | BacalhauError:
        # The error is an answer here, and raised in each operation that waits for it: a driver throws none into them.
        try:
            version = await detect_version()
            if self._api == "requester" or (self._api == "auto" and not version.has_orchestrator):
                return RequesterDialect(version, self.identity)
            return OrchestratorDialect(version)
        except BacalhauError as error:
            return error

    async def version(self) -> ServerVersion:
        """The server's version."""
        return (await self.dialect()).version

    async def greet(self) -> Greeting:
        """Ask the server who it is, by calls that need credentials where the server wants any.

        (``/agent/version`` is open to everyone and would prove nothing.)

        On the requester API that is a signed request, so the key is read, or made where there is none.

        :raises NotAuthorised: when jobs may not be listed with these credentials, or the key will not do.
        """
        dialect = await self.dialect()
        await dialect.check()
        try:
            nodes = await dialect.nodes()
        except NotAuthorised as error:
            log.info("Which nodes the network has cannot be asked: %s", error.reason)
            return Greeting(dialect.version.text, None)
        return Greeting(dialect.version.text, tuple(node for node in nodes if node.takes_jobs))

    async def logs_request(self, job_id: str, execution_id: str = "", *, follow: bool = True) -> LogsRequest:
        """How to listen to the log of one execution, with the credentials that it needs.

        It is no way to wait for a job: servers break logs off, never end them, or never begin (WebAssembly on v1.8 and
        later). Afterwards the whole output is in the results, its beginning in the execution.

        :param job_id: full id.
        :param execution_id: full id; empty for the latest execution.
        :param follow: whether to wait for what is still to come.
        :raises NotSupported: for a server that gives no logs.
        :raises ResultUnavailable: when there is no execution yet.
        """
        wanted = await (await self.dialect()).logs_request(job_id, execution_id, follow=follow)
        return replace(wanted, request=await self.auth.prepare(wanted.request))

    async def submit_once(self, spec: JobSpec) -> Submission:
        """Submit a job under its own unique name; if an earlier send of it arrived after all, adopt that job.

        Unique names (v1.8 and later) make this exactly one job, however often the connection breaks. On older servers
        an unclear submission raises at once.

        :param spec: the job, under a name that is its own.
        :raises SubmissionUnclear: when the server may or may not have taken the job.
        """
        dialect = await self.dialect()
        for pause in (*_CONFLICT_PAUSES, None):
            try:
                submission = await dialect.submit(spec)
                break
            except JobUnchanged as error:
                log.info("Job %s is there already, from an earlier send; adopting it.", error.job_id)
                return Submission(error.job_id, adopted=True)
            except Conflict as conflict:
                if not (spec.name and dialect.can.unique_names):
                    raise
                try:
                    job = await dialect.get(spec.name, namespace=spec.namespace or "default")
                except NotFound:  # not made yet, and perhaps never
                    if pause is None:
                        raise conflict from None
                    await Sleep(pause)
                    continue
                log.info("Job %s is there already, sent at the same moment; adopting it.", job.id)
                return Submission(job.id, adopted=True)
        for warning in submission.warnings:
            log.warning("The server says of job %s: %s", submission.job_id, warning)
        return submission

    async def references(self, job_id: str) -> list[ResultReference]:
        """References to a job's results, which may be stored and handed on.

        :param job_id: full id of a batch or ops job.
        """
        dialect = await self.dialect()
        results = await dialect.results(job_id)
        return refer(job_id, results, await dialect.executions(job_id)) if results else []

    async def result_url(self, reference: ResultReference) -> str:
        """A fresh address of a result that only the server can name. It may be a secret: use it, don't keep it.

        :raises ResultUnavailable: when the job has no such result any more.
        """
        dialect = await self.dialect()
        results = await dialect.results(reference.job_id)
        executions = await dialect.executions(reference.job_id) if reference.execution_id else ()
        for result, now in zip(results, refer(reference.job_id, results, executions), strict=True):
            # The order of the list is documented nowhere: the execution tells better than the place.
            both = (now.execution_id, reference.execution_id)
            if (both[0] == both[1] if all(both) else result.index == reference.index) and result.url:
                self._tell_secret(result.url)
                return result.url
        raise ResultUnavailable(f"Job {reference.job_id} has no result number {reference.index} that has an address.")

    def _tell_secret(self, url: str) -> None:
        """Let the caller mask a signed address in its logs."""
        signature = url.partition("?")[2]
        if self._told is not None and signature:
            self._told(url)
            self._told(signature)

    async def result_texts(self, job_id: str, path: str, *, max_bytes: int = MOST_TEXT) -> list[ResultText]:
        """The text of one small file of each of a job's results.

        Any path of an IPFS result is read through the gateway. Of other results there is only ``stdout`` and
        ``stderr`` from the execution's record: at most 2 KiB, and possibly no more than the program's first write.

        :param path: relative path in the result, such as ``outputs/count.txt`` or ``stdout``.
        :param max_bytes: bound on each file's size.
        :returns: the texts, in the order of :meth:`references`.
        :raises ResultUnavailable: when there is no such file, it is no UTF-8 text, or it is larger.
        """
        texts = []
        for reference in await self.references(job_id):
            if reference.cid and self._gateway.is_set:
                content = await self._gateway.read(reference.cid, path, max_bytes=max_bytes)
                texts.append(ResultText(reference, _decode(content, path)))
            else:
                texts.append(await self._recorded_text(reference, path))
        return texts

    async def _recorded_text(self, reference: ResultReference, path: str) -> ResultText:
        if path not in {"stdout", "stderr"}:
            if reference.cid:
                raise ResultUnavailable(
                    f"{path} of an IPFS result cannot be read without a gateway.",
                    hint="Set ipfs_gateway on the connection.",
                )
            raise ResultUnavailable(
                f"{path} of a result of type {reference.type} cannot be read from here.",
                hint="Publish to IPFS and set ipfs_gateway on the connection, or read 'stdout' instead.",
            )
        executions = await (await self.dialect()).executions(reference.job_id)
        for one in executions:
            if one.id == reference.execution_id or len(executions) == 1:
                return ResultText(reference, one.stdout if path == "stdout" else one.stderr, is_partial=True)
        raise ResultUnavailable(f"Which execution of job {reference.job_id} made this result cannot be told.")

    async def resolve_inputs(self, inputs: Iterable[Input]) -> list[ReadyInput]:
        """Make inputs ready for a job: job ids become their results, paths below CIDs become CIDs of their own, and
        results that only the server can name get a fresh address.

        :param inputs: as :func:`~airflow_provider_bacalhau.client.spec.inputs.parse_inputs` gives them.
        :returns: one or more for each, in order.
        :raises ResultUnavailable: when a job is not over, did not succeed or has no results, or nothing lies at a path.
        :raises ConfigurationError: when a path below a CID needs a gateway and none is set.
        """
        ready: list[ReadyInput] = []
        for one in inputs:
            ready += await self._resolve(one)
        return ready

    async def _resolve(self, one: Input) -> list[ReadyInput]:
        from airflow_provider_bacalhau.client.spec.inputs import IpfsPathInput, JobInput, ResultInput

        if isinstance(one, IpfsPathInput):
            return [one.ready(await self._gateway.resolve(one.cid, one.path))]
        if isinstance(one, ResultInput):
            reference = ResultReference("url", one.job_id, one.execution_id, index=one.index)
            return [one.ready(await self.result_url(reference))]
        if isinstance(one, JobInput):
            return await self.resolve_inputs(one.expand([found.to_dict() for found in await self._results_of(one)]))
        return [one]

    async def _results_of(self, one: JobInput) -> list[ResultReference]:
        outcome = await self.outcome(one.job_id)
        if not outcome.job.state.is_terminal:
            raise ResultUnavailable(
                f"{one.item}: job {one.job_id} is {outcome.job.state.value}, so it has no results to take yet.",
                hint="Wait for it first, with BacalhauJobSensor or wait_for_completion.",
            )
        if outcome.diagnosis is not None:  # what it published before it failed is not what the next job asks for
            raise ResultUnavailable(
                f"{one.item}: the results of a job that did not succeed are no input. {outcome.diagnosis.summary}",
                hint=f"{outcome.diagnosis.hint} To take them nevertheless, name them by CID or reference.".lstrip(),
            )
        references = await self.references(one.job_id)
        if not references:
            raise ResultUnavailable(
                f"{one.item}: job {one.job_id} has no results to take as an input, though it succeeded.",
                hint="A job keeps results when its task has a Publisher.",
            )
        return references


def _decode(content: bytes, path: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ResultUnavailable(
            f"{path} is not UTF-8 text.", hint="Give its CID to the next job instead, or download it."
        ) from None
