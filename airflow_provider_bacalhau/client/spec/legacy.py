"""Jobs as they were written for the provider ``bacalhau-airflow``, and for servers before v1.4.

:func:`read_requester_spec` and :func:`write_requester_spec` lead from the ``Spec`` of the requester API to a job
specification and back; what cannot be carried over is refused by name, never dropped. What differs between server
generations is a :class:`RequesterShape`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_bacalhau.client.cid import normalise_cid
from airflow_provider_bacalhau.client.errors import InvalidJobSpec
from airflow_provider_bacalhau.client.spec.fields import check_path
from airflow_provider_bacalhau.client.spec.legacy_read import read_requester_spec
from airflow_provider_bacalhau.client.spec.legacy_shape import RequesterShape, name_annotation
from airflow_provider_bacalhau.client.spec.legacy_write import write_requester_spec

__all__ = [
    "RequesterShape",
    "is_requester_spec",
    "name_annotation",
    "parse_input_volumes",
    "read_requester_spec",
    "write_requester_spec",
]

_OURS = {"job", "tasks", "type"}
_THEIRS = {
    "annotations",
    "deal",
    "docker",
    "engine",
    "enginespec",
    "inputs",
    "nodeselectors",
    "outputs",
    "publisher",
    "publisherspec",
    "verifier",
    "wasm",
}


def is_requester_spec(value: Mapping[Any, Any]) -> bool:
    """Whether a mapping is meant for :func:`read_requester_spec`, not for :func:`read_job_spec`."""
    keys = {str(key).lower() for key in value}
    return bool(keys & _THEIRS) and not keys & _OURS


def parse_input_volumes(items: Sequence[str], *, place: str = "input_volumes") -> list[dict[str, Any]]:
    """Reads the ``input_volumes`` of ``bacalhau-airflow`` into input sources, for :meth:`JobSpec.with_inputs`.

    ::

        parse_input_volumes(["QmA:/first", "QmB,QmC:/more"])    # at /first, /more/0 and /more/1

    Several CIDs of one item get a numbered folder each below its mount. They used to share the mount, and Docker
    refused the job ("duplicate mount point").

    :param items: texts ``<cid>[,<cid>…]:<mount>``.
    :param place: what the user calls them, for errors.
    :raises InvalidJobSpec: naming the item, such as ``input_volumes[1]``.
    """
    if isinstance(items, str | bytes) or not isinstance(items, Sequence):
        raise InvalidJobSpec(f"must be a list of texts, not {type(items).__name__}.", place=place)
    taken: dict[str, str] = {}
    sources: list[dict[str, Any]] = []
    for number, item in enumerate(items):
        here = f"{place}[{number}]"
        cids, mount = _parse_input_volume(item, here)
        for index, cid in enumerate(cids):
            target = mount if len(cids) == 1 else f"{mount}/{index}"
            if target in taken:
                raise InvalidJobSpec(
                    f"is to be mounted at {target}, where {taken[target]} is mounted already.",
                    place=here,
                    hint="Give it another mount.",
                )
            taken[target] = here
            sources.append({"Source": {"Type": "ipfs", "Params": {"CID": cid}}, "Target": target})
    return sources


def _parse_input_volume(item: object, place: str) -> tuple[list[str], str]:
    if not isinstance(item, str):
        raise InvalidJobSpec(f"must be text, not {type(item).__name__}.", place=place, hint="Write it as CID:/mount.")
    written, colon, mount = item.strip().partition(":")
    if not colon or ":" in mount:
        raise InvalidJobSpec(
            f"is {item[:120]!r}, and must be a CID, or CIDs with commas between, a colon, and a mount.",
            place=place,
            hint="Write it as CID:/mount; the operator's `inputs` take more forms.",
        )
    if written.strip() in ("", "None"):
        raise InvalidJobSpec(
            f"{item[:120]!r} names no CID.",
            place=place,
            hint="The task that should have given it pushed no `cids`: it needs the publisher ipfs.",
        )
    try:
        target = check_path(mount.strip())
    except ValueError as error:
        raise InvalidJobSpec(f"the mount {error}.", place=place) from None
    return [_cid(cid.strip(), place) for cid in written.split(",")], target


def _cid(text: str, place: str) -> str:
    try:
        return normalise_cid(text)
    except ValueError as error:
        raise InvalidJobSpec(
            f"{text[:80]!r} is not a CID: {error}.",
            place=place,
            hint="A wrong CID would block a whole compute node, so it is not sent.",
        ) from None
