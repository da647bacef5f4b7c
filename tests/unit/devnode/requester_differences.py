"""Answers of the requester API in which the embedded node differs from the real server, each with its reason.

The comparison itself leaves out ids, times, amounts of the machine, names of engines, publishers and storages (the node
has WebAssembly only), and versions of states; and where a real server kept only the first write of a program as its
``stdout``, the node may have kept more.
"""

from __future__ import annotations

_RACE = "the real server's scheduler was overtaken by the bid and left out the step AskForBid; the node never does"
_ARBITRARY = "the first generation cuts a list before it sorts it, in random order: which jobs are in it is chance"
_NOT_CANCELLED = "one of these jobs was cancelled by its owner, whose key is not here: in the replay it still runs"

DIFFERENCES = {
    ("v1.3.2", "word count: events"): _RACE,
    ("v1.3.2", "cancelled: events"): _RACE,
    ("v0.3.29", "list mine"): _ARBITRARY,
    ("v0.3.29", "list by tag"): _ARBITRARY,
    ("v0.3.29", "list negative"): _NOT_CANCELLED,
    ("v1.0.3", "list mine"): _ARBITRARY,
    ("v1.0.3", "list by tag"): _ARBITRARY,
    ("v1.0.3", "list negative"): _NOT_CANCELLED,
}
