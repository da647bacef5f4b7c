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
    """Run a script that prints a JSON list as its last line, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=False
    )
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

    What the modules import from others is imported before the watch begins; it is the others' business.
    """
    events = run("""
        import importlib, json, os, pkgutil, sys, sysconfig, threading
        import aiohttp, cryptography, libipld, pendulum, pydantic, requests, wasmtime, yaml
        from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, BaseOperatorLink, BaseSensorOperator
        import airflow.triggers.base
        import airflow_provider_bacalhau

        sys.dont_write_bytecode = True
        folders = tuple({*map(os.path.abspath, filter(None, sys.path)), *sysconfig.get_paths().values()})
        seen = []

        def watch(event, arguments):
            if event == "open":
                path, mode, flags = arguments
                reads = not flags & (os.O_WRONLY | os.O_RDWR)
                if reads and str(path).startswith(folders) and str(path).endswith((".py", ".pyc", ".so")):
                    return
                seen.append(f"open {path} {mode}")
            elif event.startswith(("socket.", "subprocess.", "os.fork", "os.exec", "os.mkdir", "sqlite3.")):
                seen.append(f"{event} {arguments}")

        threads = set(threading.enumerate())
        sys.addaudithook(watch)
        package = airflow_provider_bacalhau
        names = [info.name for info in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
        for name in names:
            importlib.import_module(name)
        seen += [f"thread {thread.name}" for thread in set(threading.enumerate()) - threads]
        seen += [] if "airflow_provider_bacalhau.operators.bacalhau" in names else ["the operators were not found"]
        print(json.dumps(seen))
    """)
    assert events == []
