"""What differs between the servers that speak the signed requester API (v0.3.26 to v1.3), as far as specs go."""

from __future__ import annotations

from dataclasses import dataclass

JOB_NAME = "bacalhau-job-name"
"""Key of the annotation that holds a job's name: the requester API knows ids only."""

TASK_NAME = "bacalhau-task-name"
"""Key of the annotation that holds the name of a job's task, when it is not ``main``, as every task is named there."""


def name_annotation(name: str) -> str:
    """The annotation by which a job of this name is found: a text for ``include_tags``."""
    return f"{JOB_NAME}={name}"


@dataclass(frozen=True)
class RequesterShape:
    """The ``Spec`` that one generation of servers reads.

    What every generation reads alike has no field: keys and enumerations in any case, whole seconds (a float to
    some, but an integer to others), ``Publisher`` and ``PublisherSpec`` side by side.

    :param verifier: whether ``Verifier`` must be there (up to v1.0.3).
    :param docker_parameters: whether ``Docker.Parameters`` is read (from v1.0.4 on; dropped silently before).
    :param resources_key: ``Resources``, but ``TotalAllocatedResources`` on v1.0.4.
    :param target_all: whether ``Deal.TargetingMode`` is read, and a job can run on every node (from v1.0.4 on).
    :param source_path: whether a folder of the node is read from ``SourcePath``; v1.0.4 takes ``Path`` instead, which
        is the mount.
    :param read_write: whether such a folder can be mounted for writing (from v1.0.3 on).
    :param s3_version_id: whether an S3 object's ``VersionID`` is read (up to v1.0.3; dropped silently later).
    :param s3_compress: whether the S3 publisher reads ``Compress`` (up to v1.2.1; later it always packs).
    :param local_publisher: whether there is the publisher ``local`` (from v1.2.2 on).
    :param longest_timeout: seconds of ``Timeout`` beyond which nodes with their stock configuration take no job: 3600
        up to v1.0.3; None for no such limit.
    """

    verifier: bool
    docker_parameters: bool
    resources_key: str
    target_all: bool
    source_path: bool
    read_write: bool
    s3_version_id: bool
    s3_compress: bool
    local_publisher: bool
    longest_timeout: int | None
