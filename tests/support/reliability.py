"""What the fault tests measured, kept for ``docs/reliability.md``.

Tests record rows with :func:`record` into the folder that ``BACALHAU_RELIABILITY`` names; without it nothing is
written. ``python -m tests.support.reliability FOLDER`` puts them into ``docs/reliability.json``, in place of those of
the same group and Airflow version.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = "BACALHAU_RELIABILITY"
PAGE = Path(__file__).parents[2] / "docs" / "reliability.json"


GROUPS = (
    BY_USERS := "What users do",
    BY_CHANCE := "What dies",
    WORKER_DIES := "A worker's process dies",
    WORKER_ENDS := "A worker's process is told to end",
    SPOILED := "What servers and networks answer",
)
"""The tables, in the order of the page."""


class Case(NamedTuple):
    """A situation and what came of it, or must.

    :param group: the table that it belongs to.
    :param situation: what happened, in words.
    :param jobs: jobs of the task that the network has seen, whatever became of them.
    :param live: those of them that were left to run.
    :param state: the task's, in the end.
    :param server: version of the server, where the same was done to several.
    :param request: what the task asked the server when it happened, where that is a column of the table.
    """

    group: str
    situation: str
    jobs: int
    live: int
    state: str
    server: str = ""
    request: str = ""


@dataclass(frozen=True)
class Row:
    """A case that was measured.

    :param airflow: version of Airflow.
    :param seconds: from what happened until the job was stopped; None where none should be.
    :param within: the bound on that, which the test asserted.
    """

    case: Case
    airflow: str
    seconds: float | None = None
    within: float | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Row:
        """A row as :attr:`data` tells it."""
        case = Case(**{name: data[name] for name in Case._fields if name in data})
        return cls(case, data["airflow"], data.get("seconds"), data.get("within"))

    @property
    def data(self) -> dict[str, Any]:
        """What JSON can hold of it, without what is not there."""
        values = {**self.case._asdict(), "airflow": self.airflow, "seconds": self.seconds, "within": self.within}
        return {name: value for name, value in values.items() if value not in {None, ""}}


def record(case: Case, *, seconds: float | None = None, within: float | None = None) -> None:
    """Keep what a test has measured and found right; see :class:`Row`. Call it after the assertions."""
    folder = os.environ.get(FOLDER)
    if not folder:
        return
    measured = None if seconds is None else round(seconds, 1)
    row = Row(case, importlib.metadata.version("apache-airflow"), measured, within)
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / f"{time.time_ns()}.json").write_text(json.dumps(row.data))  # in the order of the tests


def read_rows(path: Path = PAGE) -> list[Row]:
    """The rows that the documentation shows."""
    return [Row.of(row) for row in json.loads(path.read_text())]


def merged(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """All rows, by group and version; new ones replace those of their group and version.

    Of a case that was measured more than once, as in both of a task's modes, the slowest row stays.
    """
    fresh: dict[tuple[Case, str], Row] = {}
    for row in new:
        known = fresh.setdefault((row.case, row.airflow), row)
        if (row.seconds or 0) > (known.seconds or 0):
            fresh[row.case, row.airflow] = row
    measured = {(row.case.group, row.airflow) for row in fresh.values()}
    kept = [row for row in old if (row.case.group, row.airflow) not in measured]
    return sorted([*kept, *fresh.values()], key=lambda row: (GROUPS.index(row.case.group), row.airflow))


def main() -> None:
    """Put the rows of a folder into the page's data."""
    new = [Row.of(json.loads(path.read_text())) for path in sorted(Path(sys.argv[1]).glob("*.json"))]
    rows = merged(read_rows() if PAGE.exists() else (), new)
    lines = ",\n".join(f"  {json.dumps(row.data)}" for row in rows)
    PAGE.write_text(f"[\n{lines}\n]\n")
    print(f"{len(new)} rows measured, {len(rows)} in {PAGE.name}")


if __name__ == "__main__":
    main()
