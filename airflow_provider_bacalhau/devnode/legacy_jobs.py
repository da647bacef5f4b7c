"""Jobs as the requester API shows them: what was submitted, with what became of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow_provider_bacalhau.devnode.generations import Generation
from airflow_provider_bacalhau.devnode.legacy import CLIENT_META, timeout_of
from airflow_provider_bacalhau.devnode.legacy_events import Story, state_json, tell
from airflow_provider_bacalhau.devnode.legacy_specs import listed_spec, spec_of
from airflow_provider_bacalhau.devnode.orchestrator import Orchestrator
from airflow_provider_bacalhau.devnode.records import Job
from airflow_provider_bacalhau.devnode.store import NotFoundError, Store
from airflow_provider_bacalhau.devnode.wire import timestamp

_SHORT_ID = 8


class RequesterJobs:
    """The jobs of one node. ``base`` is the node's own address, for the results that it serves.

    :param public_key: what jobs show as the requester's key where they show one.
    """

    def __init__(self, orchestrator: Orchestrator, store: Store, generation: Generation, public_key: str) -> None:
        self._orchestrator = orchestrator
        self._store = store
        self._generation = generation
        self._public_key = public_key
        self.base = ""

    @property
    def meta(self) -> dict[str, str]:
        """What jobs note of their requester, beside what all jobs note."""
        return {"bacalhau.org/requester.publicKey": self._public_key} if self._generation.names_key else {}

    def find(self, job_id: str) -> Job:
        """A job by its id, which may be cut to its first part.

        :raises .store.NotFoundError: none; :raises .store.AmbiguousError: several ids begin so.
        """
        if len(job_id) < _SHORT_ID:
            raise NotFoundError(f"job not found: {job_id}")
        return self._store.shown(self._store.job(job_id), job_id)

    def remember(self, job_id: str, payload: Mapping[str, Any], now: int) -> None:
        """Keep what was submitted; the job that the node runs says less."""
        record = {"api_version": payload["APIVersion"], "created": now, "spec": payload["Spec"]}
        self._store.meta(_key(job_id), lambda: json.dumps(record))

    def story(self, job: Job) -> Story:
        """The job's events."""
        nodes = [node.view() for node in self._orchestrator.nodes]
        return tell(job, self._store.executions(job.id), self._store.history(job.id), nodes, self._generation)

    def state_json(self, job: Job) -> dict[str, Any]:
        """A JobState."""
        return state_json(self.story(job), self._store.executions(job.id), self.base, self.timeout(job))

    def timeout(self, job: Job) -> float:
        """Seconds that the job may take."""
        return timeout_of(self._record(job)["spec"])

    def listed_json(self, job: Job) -> dict[str, Any]:
        """A job in a list."""
        return self.job_json(job, listed_spec(self._record(job)["spec"], self._generation))

    def job_json(self, job: Job, spec: Mapping[str, Any]) -> dict[str, Any]:
        """A job with a ``Spec`` as it is to be shown."""
        record = self._record(job)
        requester = {"RequesterNodeID": self._orchestrator.nodes[0].id}
        if self._generation.names_key:
            requester["RequesterPublicKey"] = self._public_key
        return {
            "APIVersion": record["api_version"],
            "Metadata": {
                "ID": job.id,
                "CreatedAt": timestamp(record["created"]),
                "ClientID": job.spec["Meta"].get(CLIENT_META, ""),
                "Requester": requester,
            },
            "Spec": dict(spec),
        }

    def _record(self, job: Job) -> dict[str, Any]:
        """What was submitted; made up for jobs of the orchestrator API."""
        text = self._store.find_meta(_key(job.id))
        if text:
            record: dict[str, Any] = json.loads(text)
            return record
        return {"api_version": "V1beta2", "created": job.created, "spec": spec_of(job, self._generation)}


def _key(job_id: str) -> str:
    return f"requester-job/{job_id}"
