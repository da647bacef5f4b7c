"""Names for jobs: readable, and the same whenever the same attempt submits the same job.

From v1.8 on a job's name is unique in its namespace: sending a name twice makes one job, and sending it with another
spec *restarts* the job that has it. So the name carries everything that makes an attempt itself, and a hash of the
spec.
"""

from __future__ import annotations

import hashlib
import json
import re

from airflow_provider_bacalhau.client.errors import InvalidJobSpec

LONGEST_NAME = 63
"""Longest DNS label; job names are not limited by servers, but end up in labels, paths and folder names."""

_HASH_LENGTH = 16
_UNFIT = re.compile(r"[^a-z0-9]+")


def check_job_id(value: object) -> None:
    """Refuse what cannot be a job's id, before anything is asked.

    :raises InvalidJobSpec: for nothing, for ``None`` as a template renders it, and for what is no text.
    """
    if value is None or (isinstance(value, str) and value.strip() in {"", "None"}):
        raise InvalidJobSpec("job_id is empty: the task that should have given it pushed nothing.")
    if not isinstance(value, str):
        raise InvalidJobSpec(f"must be the text of a job's id, not {type(value).__name__}.", place="job_id")


def job_name(readable: str, *identity: str | int) -> str:
    """A job's name: the readable part made fit for a name, and a hash of what makes the attempt itself.

    :param readable: what a person should recognise, such as the task's id.
    :param identity: deployment, dag, run, task, map index, try number, spec hash.
    :returns: at most 63 lower-case letters, digits and dashes; never looks like a job id (``j-…``).
    """
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:_HASH_LENGTH]
    slug = _UNFIT.sub("-", readable.lower()).strip("-")[: LONGEST_NAME - _HASH_LENGTH - 1].strip("-")
    if not slug or slug == "j" or slug.startswith("j-"):
        slug = f"job-{slug}".rstrip("-")[: LONGEST_NAME - _HASH_LENGTH - 1].rstrip("-")
    return f"{slug}-{digest}"
