"""Whose a job is: the identity of an Airflow attempt, and the labels, the name and the words that carry it.

A job belongs to a deployment, DAG, run, task, map index and *generation* of the task instance (``ti.max_tries``). That
stays the same over retries and grows when a person clears the task: a retry finds the earlier job, a clear runs again.

From v1.8 on a job's name is unique in its namespace: sending a name twice makes one job, and sending it with another
body *restarts* the job that has it. So the name holds the identity, a hash of the spec and a counter, and what is sent
under one name is the same in each try. On older servers names mean nothing, and labels alone tell whose a job is.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client.facts import Job

LONGEST_NAME = 63
"""Longest DNS label; job names are not limited by servers, but end up in labels, paths and folder names."""

KEY_LABEL = "airflow-key"
"""Label: hash of the identity."""

TASK_KEY_LABEL = "airflow-task-key"
"""Label: hash of the identity without the generation; all jobs of a task instance have it in common."""

DEPLOYMENT_LABEL = "airflow-deployment"
"""Label: hash of what tells one Airflow from others on the same network."""

GENERATION_LABEL = "airflow-generation"
"""Label: ``ti.max_tries`` of the attempt, which grows when the task is cleared."""

_HASH_LENGTH = 16
_SPEC_LENGTH = 10
_COUNTER_LENGTH = 3
_LONGEST_READABLE = LONGEST_NAME - _HASH_LENGTH - _SPEC_LENGTH - _COUNTER_LENGTH - 3
_UNFIT_FOR_NAMES = re.compile(r"[^a-z0-9]+")
_UNFIT_FOR_LABELS = re.compile(r"[^A-Za-z0-9._-]+")
_NAME = re.compile(rf"(.+)-([0-9a-f]{{{_HASH_LENGTH}}})-([0-9a-f]{{{_SPEC_LENGTH}}})-(\d{{1,9}})")
_KILLED = re.compile(r"\(attempt (\w+), try (\d+)\)")


@dataclass(frozen=True)
class Owner:
    """The attempt of an Airflow task that owns a job.

    :param deployment: tells this Airflow from others on the same network, which may have equal run ids.
    :param max_tries: of the task instance: the same over retries, another after a clear.
    :param try_number: which try it is. It is no part of the identity, or a retry would not find the earlier job.
    :param durable: whether it is not: each try then has a job of its own.
    """

    deployment: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    max_tries: int
    try_number: int
    durable: bool = True

    @property
    def task_key(self) -> str:
        """Hash of the identity without the generation."""
        return _hash(self.deployment, self.dag_id, self.run_id, self.task_id, self.map_index)

    @property
    def key(self) -> str:
        """Hash of the identity."""
        return _hash(self.task_key, self.max_tries, *(() if self.durable else (self.try_number,)))

    @property
    def labels(self) -> dict[str, str]:
        """What each job of this attempt is labelled with; the same in each try, see the module."""
        return {
            KEY_LABEL: self.key,
            TASK_KEY_LABEL: self.task_key,
            DEPLOYMENT_LABEL: _hash(self.deployment),
            GENERATION_LABEL: str(self.max_tries),
            "airflow-dag": label_value(self.dag_id),
            "airflow-task": label_value(self.task_id),
            "airflow-run": label_value(self.run_id),
        }

    def knows(self, job: Job) -> bool:
        """Whether a job is of this task instance, and not of a later generation."""
        mine, its = self.labels, job.labels
        is_of_task = all(its.get(label) == mine[label] for label in (TASK_KEY_LABEL, DEPLOYMENT_LABEL))
        generation = its.get(GENERATION_LABEL, "")
        return is_of_task and (not generation.isdecimal() or int(generation) <= self.max_tries)

    def owns(self, job: Job) -> bool:
        """Whether a job is of this very attempt, in whichever try it was submitted."""
        return self.knows(job) and job.labels.get(KEY_LABEL) == self.key

    def takes_along(self, job: Job) -> bool:
        """Whether a job is to end with this attempt when that is killed: its own, or one from before a clear."""
        generation = job.labels.get(GENERATION_LABEL, "")
        is_older = generation.isdecimal() and int(generation) < self.max_tries
        return self.owns(job) or (is_older and self.knows(job))

    @property
    def has_next_try(self) -> bool:
        """Whether Airflow will try once more if this try fails, and that try finds the job of this one."""
        return self.durable and self.try_number <= self.max_tries

    @property
    def kill_reason(self) -> str:
        """Why a job was stopped that a killed try of this attempt had; see :meth:`was_killed_before`."""
        return f"The Airflow task was killed (attempt {self.key}, try {self.try_number})."

    def was_killed_before(self, reason: str) -> bool:
        """Whether a job was stopped because an *earlier* try of this attempt was killed.

        Airflow may carry out the kill of an old try a second after the next one has begun, and adopted its job.
        """
        found = _KILLED.search(reason)
        return found is not None and found[1] == self.key and int(found[2]) < self.try_number


@dataclass(frozen=True)
class Claim:
    """What an attempt claims: one job of its own for this spec.

    :param owner: the attempt.
    :param readable: what a person should recognise in the job's name, such as the task's id.
    :param spec_hash: of what the user asks for.
    :param namespace: where the job is, or is to be.
    :param counter: how many jobs this attempt already had for this spec that did not succeed.
    """

    owner: Owner
    readable: str
    spec_hash: str
    namespace: str
    counter: int = 0

    @property
    def name(self) -> str:
        """The job's name: at most 63 lower-case letters, digits and dashes; it never looks like an id (``j-…``)."""
        return f"{_slug(self.readable)}-{self.owner.key}-{self.spec_hash[:_SPEC_LENGTH]}-{self.counter}"

    def next(self, *names: str) -> Self:
        """The claim with a counter that none of these names has."""
        counters = [counter for name in names if (counter := self.counter_in(name)) is not None]
        return replace(self, counter=max([self.counter - 1, *counters]) + 1)

    def counter_in(self, name: str) -> int | None:
        """The counter in the name of a job of this attempt and spec; None in any other name."""
        found = _NAME.fullmatch(name)
        if found is None or (found[2], found[3]) != (self.owner.key, self.spec_hash[:_SPEC_LENGTH]):
            return None
        return int(found[4])


def label_value(text: str) -> str:
    """Text as a label that servers can select by: at most 63 of ``A-Za-z0-9._-``, a letter or digit at both ends."""
    return _UNFIT_FOR_LABELS.sub("-", text)[:LONGEST_NAME].strip("._-") or "unnamed"


def _hash(*parts: str | int) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_HASH_LENGTH]


def _slug(readable: str) -> str:
    slug = _UNFIT_FOR_NAMES.sub("-", readable.lower()).strip("-")[:_LONGEST_READABLE].strip("-")
    if not slug or slug == "j" or slug.startswith("j-"):
        slug = f"job-{slug}".rstrip("-")[:_LONGEST_READABLE].rstrip("-")
    return slug
