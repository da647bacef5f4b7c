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
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = "BACALHAU_RELIABILITY"
PAGE = Path(__file__).parents[2] / "docs" / "reliability.json"


@dataclass(frozen=True)
class Row:
    """What came of one situation.

    :param group: the table that it belongs to.
    :param situation: what happened, in words.
    :param airflow: version of Airflow.
    :param jobs: jobs of the task that the network has seen, whatever became of them.
    :param live: those of them that were left to run.
    :param state: the task's, in the end.
    :param seconds: from what happened until the job was stopped; None where none should be.
    :param within: the bound on that, which the test asserted.
    """

    group: str
    situation: str
    airflow: str
    jobs: int
    live: int
    state: str
    seconds: float | None = None
    within: float | None = None


def record(
    situation: str,
    *,
    group: str,
    jobs: int,
    live: int,
    state: str,
    seconds: float | None = None,
    within: float | None = None,
) -> None:
    """Keep what a test has measured and found right; see :class:`Row`. Call it after the assertions."""
    folder = os.environ.get(FOLDER)
    if not folder:
        return
    version = importlib.metadata.version("apache-airflow")
    measured = None if seconds is None else round(seconds, 1)
    row = Row(group, situation, version, jobs, live, state, measured, within)
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / f"{time.time_ns()}.json").write_text(json.dumps(asdict(row)))  # in the order of the tests


def read_rows(path: Path = PAGE) -> list[Row]:
    """The rows that the documentation shows."""
    return [Row(**row) for row in json.loads(path.read_text())]


def merged(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """All rows, by group and version; new ones replace those of their group and version."""
    fresh = list(new)
    measured = {(row.group, row.airflow) for row in fresh}
    kept = [row for row in old if (row.group, row.airflow) not in measured]
    return sorted(kept + fresh, key=lambda row: (row.group, row.airflow))


def main() -> None:
    """Put the rows of a folder into the page's data."""
    new = [Row(**json.loads(path.read_text())) for path in sorted(Path(sys.argv[1]).glob("*.json"))]
    rows = merged(read_rows() if PAGE.exists() else (), new)
    lines = ",\n".join(f"  {json.dumps(asdict(row))}" for row in rows)
    PAGE.write_text(f"[\n{lines}\n]\n")
    print(f"{len(new)} rows measured, {len(rows)} in {PAGE.name}")


if __name__ == "__main__":
    main()
