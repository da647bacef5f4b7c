"""What importing the operators adds to the compat SDK, in milliseconds: ``.venv/bin/python benchmarks/import_cost.py``.

Every process that parses DAGs pays it. The aim is 30 ms on Airflow 3.3 for operators, sensors and triggers together.
Each figure is from a process of its own, which has imported the SDK before. Rows take turns, so that a busy machine
disturbs all alike.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

BASE = "import airflow.triggers.base\nfrom airflow.providers.common.compat.sdk import BaseHook, BaseOperator"
ROOMS = {
    room: f"import airflow_provider_bacalhau.{room}.bacalhau" for room in ("operators", "sensors", "triggers", "hooks")
}
TIMED = """
{before}
import time
started = time.perf_counter()
{timed}
print((time.perf_counter() - started) * 1000)
"""


def milliseconds(before: str, timed: str) -> float:
    """Import ``timed`` in a fresh process that has imported ``before``."""
    script = TIMED.format(before=before, timed=timed)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="processes per row (default: 7)")
    runs = parser.parse_args().runs
    rows = {"compat SDK": ("", BASE)} | {room: (BASE, timed) for room, timed in ROOMS.items()}
    rows["operators, sensors, triggers"] = (
        BASE,
        "\n".join(ROOMS[room] for room in ("operators", "sensors", "triggers")),
    )
    print(f"{'import':30} {'median':>8} {'least':>8}  ms")
    series: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(runs):
        for name, (before, timed) in rows.items():
            series[name].append(milliseconds(before, timed))
    for name, values in series.items():
        print(f"{name:30} {statistics.median(values):8.1f} {min(values):8.1f}")


if __name__ == "__main__":
    main()
