"""Gives every input its place in the task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_bacalhau.client.errors import InvalidJobSpec

if TYPE_CHECKING:
    from airflow_provider_bacalhau.client.spec.inputs import ReadyInput
    from airflow_provider_bacalhau.client.spec.models import JobSpec

DEFAULT_MOUNT = "/inputs"


def assign_mounts(inputs: Sequence[ReadyInput], spec: JobSpec | None = None) -> list[dict[str, Any]]:
    """The inputs as input sources, each with its target, for :meth:`JobSpec.with_inputs`.

    The only input without a mount of its own gets ``/inputs``; of several, each gets ``/inputs/<n>``, where n is its
    place among all inputs, so an input with its own mount keeps its number free.

    :param inputs: all inputs, in order, with jobs expanded to their results.
    :param spec: the job that they are for, whose own inputs keep their places.
    :raises InvalidJobSpec: naming the item, when two inputs are to be mounted at one place.
    """
    unmounted = sum(one.target is None for one in inputs)
    taken = {source.target: "the job specification" for source in spec.task.input_sources} if spec else {}
    sources: list[dict[str, Any]] = []
    for number, one in enumerate(inputs):
        if one.target is None and one.source["Type"] == "inline":
            raise InvalidJobSpec(
                "is an inline file, which needs a mount that is its full path.",
                place=one.item,
                hint='Write local_file("a.txt", "/inputs/a.txt"), or {"Source": …, "Target": "/inputs/a.txt"}.',
            )
        target = one.target or (DEFAULT_MOUNT if unmounted == 1 else f"{DEFAULT_MOUNT}/{number}")
        if target in taken:
            raise InvalidJobSpec(
                f"is to be mounted at {target}, where {taken[target]} has an input already.",
                place=one.item,
                hint="Give it a mount of its own, …:/mount.",
            )
        taken[target] = one.item
        source = {"Source": dict(one.source), "Target": target}
        sources.append({**source, "Alias": one.alias} if one.alias else source)
    return sources
