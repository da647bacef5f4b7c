"""What it costs Airflow's processes to import this provider: nothing is done, and nothing heavy is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

ROOMS = [f"airflow_provider_bacalhau.{room}.bacalhau" for room in ("operators", "sensors", "triggers", "links")]
HEAVY = {"aiohttp", "libipld", "pydantic", "requests", "wasmtime"}


def run(script: str) -> list[str]:
    """Run a script that prints a JSON list as its last line, in a process of its own.

    ``-P``: not with the current folder on the path, where the tree would hide an installed wheel.
    """
    command = [sys.executable, "-P", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer: list[str] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize("module", ROOMS)
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    added = run(f"""
        import importlib, json, sys
        import airflow.providers.common.compat.sdk, airflow.triggers.base
        before = set(sys.modules)
        importlib.import_module("{module}")
        print(json.dumps(sorted(set(sys.modules) - before)))
    """)
    assert module in added
    assert HEAVY & set(added) == set()


def test_importing_every_module_does_nothing_else() -> None:
    """No file but code is opened, no folder made, no socket, process or thread started.

    All is imported twice: what the imports of others do, the first time, is not the question here.
    """
    events = run("""
        import importlib, json, os, pkgutil, sys, threading
        import airflow_provider_bacalhau as package

        def import_all():
            for name in [name for name in sys.modules if name.partition(".")[0] == package.__name__]:
                del sys.modules[name]
            walked = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
            return [importlib.import_module(info.name).__name__ for info in walked]

        def watch(event, arguments):
            if event == "open":
                path, mode, flags = arguments
                code = str(path).startswith(tuple(package.__path__)) and str(path).endswith((".py", ".pyc"))
                if not code or flags & (os.O_WRONLY | os.O_RDWR):
                    seen.append(f"open {path} {mode}")
            elif event.startswith(("socket.", "subprocess.", "os.fork", "os.exec", "os.mkdir", "sqlite3.")):
                seen.append(f"{event} {arguments}")

        names = import_all()
        assert "airflow_provider_bacalhau.operators.bacalhau" in names, names
        sys.dont_write_bytecode = True
        threads, seen = set(threading.enumerate()), []
        sys.addaudithook(watch)
        import_all()
        seen += [f"thread {thread.name}" for thread in set(threading.enumerate()) - threads]
        print(json.dumps(seen))
    """)
    assert events == []
