"""Every reason for which a server refuses a job, in its words and its order: pure functions over decoded jobs."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_bacalhau.devnode.emulation import NEWEST, Emulation
from airflow_provider_bacalhau.devnode.resources import parse_resources

JOB_TYPES = frozenset({"batch", "ops", "service", "daemon"})

_DOMAIN = re.compile(r"\b([a-z0-9]+(-[a-z0-9]+)*\.)+[a-z]{2,}\b")


def submission_problems(job: Mapping[str, Any], emulation: Emulation = NEWEST) -> list[str]:
    """Every reason to refuse a job as it was sent, in the server's words and order."""
    kind, count = job["Type"], job["Count"] or 0
    problems = []
    if not kind:
        problems.append("missing job type")
    elif kind not in JOB_TYPES:
        problems.append(f'invalid job type: "{kind}"')
    if count < 0:
        problems.append("job count must be >= 0")
    if count > 1 and kind in {"daemon", "ops"}:
        problems.append(f"{kind} jobs cannot specify count > 1 as they run on all matching nodes")
    if not job["Tasks"]:
        problems.append("missing job tasks")
    for number, entry in enumerate(job["Constraints"], 1):
        problems += _wrapped(f"constraint {number} validation failed", _constraint_problems(entry))
    for task in job["Tasks"]:
        problems += _wrapped(f"task {task['Name']} validation failed", _task_problems(task, emulation))
    return problems


def _constraint_problems(entry: Mapping[str, Any]) -> list[str]:
    problems = [] if entry["Key"].strip() else ["selector key cannot be blank"]
    values = entry["Values"]
    if entry["Operator"] in {"in", "notin"}:
        if not values:
            problems.append("selector values cannot be empty for In or NotIn operators")
    elif entry["Operator"] in {"exists", "!"}:
        if values:
            problems.append("selector values must be empty for Exists or KeyNotInImap operators")
    elif len(values) != 1:
        problems.append("selector values must have exactly one value for other operators")
    return problems


def _task_problems(task: Mapping[str, Any], emulation: Emulation) -> list[str]:
    problems = []
    words = emulation.problem_words
    if not task["Name"].strip():
        problems.append("missing task name")
    if "\0" in task["Name"]:
        problems.append("task name cannot contain null characters")
    if not emulation.early_specs:
        problems += _env_problems(task["Env"])
    problems += _wrapped("invalid engine", spec_config_problems(task["Engine"]))
    if not emulation.early_specs:
        problems += _wrapped("invalid timeouts", _timeout_problems(task["Timeouts"]))
    try:
        parse_resources(normal_resources(task["Resources"]))
    except ValueError as error:
        problems.append(f"invalid resources: {error}")
    problems += _wrapped("invalid input sources", _input_problems(task["InputSources"]))
    problems += _wrapped("invalid output", _output_problems(task["ResultPaths"]))
    problems += _repeated(
        task["InputSources"], {"Alias": "input source with alias", "Target": "input source with target"}
    )
    problems += _repeated(task["ResultPaths"], {"Name": "result path with name", "Path": "result path"})
    problems += _wrapped("invalid network", _network_problems(task["Network"]))
    return [_reworded(problem, words) for problem in problems]


def _reworded(problem: str, words: Mapping[str, str]) -> str:
    """A problem of the newest version in the words of another."""
    for newest, other in words.items():
        problem = problem.replace(newest, other, 1)
    return problem


def _wrapped(prefix: str, problems: list[str]) -> list[str]:
    return [f"{prefix}: " + "\n".join(problems)] if problems else []


def spec_config_problems(config: Mapping[str, Any] | None) -> list[str]:
    """Whether a ``{"Type", "Params"}`` pair says what it is."""
    if config is None:
        return ["nil spec config"]
    return [] if config["Type"].strip() else ["missing spec type"]


def _env_problems(env: Mapping[str, str]) -> list[str]:
    """The first wrong variable only, as the server does."""
    for name, value in env.items():
        if not name:
            return ["environment variable name cannot be empty"]
        if name != name.upper():
            return [f"environment variable '{name}' must be uppercase"]
        if not name[0].isalpha():
            return [f"environment variable '{name}' must start with a letter"]
        if not all(c.isalpha() or c.isdigit() or c == "_" for c in name):
            return [f"environment variable '{name}' can only contain letters, numbers, and underscores"]
        if name.startswith("BACALHAU_"):
            return [f"environment variable '{name}' cannot start with BACALHAU_"]
        if not value:
            return [f"environment variable '{name}' cannot have empty value"]
    return []


def _timeout_problems(timeouts: Mapping[str, int]) -> list[str]:
    problems = []
    if timeouts["ExecutionTimeout"] < 0:
        # The server shows the total timeout here, which is 0 when only the execution timeout is negative.
        problems.append(f"invalid execution timeout value: {duration(timeouts['TotalTimeout'])}")
    if timeouts["QueueTimeout"] < 0:
        problems.append(f"invalid queue timeout value: {duration(timeouts['QueueTimeout'])}")
    if timeouts["TotalTimeout"] < 0:
        problems.append(f"invalid total timeout value: {duration(timeouts['TotalTimeout'])}")
    return problems


def _input_problems(sources: list[Mapping[str, Any]]) -> list[str]:
    """The first wrong source only, as the server does."""
    for source in sources:
        problems = [] if source["Target"].strip() else ["input source is missing a target"]
        problems += _wrapped("invalid input source", spec_config_problems(source["Source"]))
        if problems:
            return problems
    return []


def _output_problems(paths: list[Mapping[str, Any]]) -> list[str]:
    """The first wrong path only, as the server does."""
    for entry in paths:
        name, path = entry["Name"], entry["Path"]
        problems = [] if name.strip() else ["missing name"]
        if not path.strip():
            problems.append("missing path")
        elif not path.strip().startswith("/"):
            problems.append(f"result path `{path}` must be absolute")
        if problems:
            return problems
    return []


def _repeated(entries: list[Mapping[str, Any]], words: Mapping[str, str]) -> list[str]:
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        for key, word in words.items():
            value = entry[key]
            if value and (key, value) in seen:
                return [f"{word} '{value}' already exists"]
            seen.add((key, value))
    return []


def _network_problems(network: Mapping[str, Any]) -> list[str]:
    problems = []
    if network["Domains"] and network["Type"] != "HTTP":
        problems.append("domains can only be set for HTTP network mode")
    problems += [
        f'invalid domain "{domain}"'
        for domain in network["Domains"]
        if not _DOMAIN.search(domain.strip().lower()) and not _is_address(domain)
    ]
    if network["Ports"] and network["Type"] not in {"Host", "Bridge", "Full"}:
        problems.append("ports can only be set for Host or Bridge network modes")
    return problems


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def joined(problems: Sequence[str], emulation: Emulation) -> str:
    """Several problems in one message."""
    if not emulation.lists_problems:
        return "\n".join(problems)
    count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
    return f"{count} occurred:\n\t" + "\n\t".join(f"* {problem}" for problem in problems) + "\n\n"


def stored_problems(task: Mapping[str, Any]) -> list[str]:
    """Every reason of the store to refuse a task that has its defaults."""
    problems = []
    if task.get("ResultPaths") and not task["Publisher"]["Type"] and not task["Publisher"].get("Params"):
        problems.append("publisher must be set if result paths are set")
    timeouts = task["Timeouts"]
    execution, queue, total = (timeouts.get(key, 0) for key in ("ExecutionTimeout", "QueueTimeout", "TotalTimeout"))
    if total and execution + queue > total:
        problems.append(
            f"task timeouts validation failed: execution timeout {duration(execution or total)} and queue timeout "
            f"{duration(queue)} should be less than total timeout {duration(total)}"
        )
    return [f"task {task['Name']} validation failed: " + "\n".join(problems)] if problems else []


def duration(seconds: int) -> str:
    """Seconds as Go words them: ``2s``, ``1m0s``, ``1h0m0s``."""
    sign, rest = ("-", -seconds) if seconds < 0 else ("", seconds)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{sign}{hours}h{minutes}m{rest}s"
    return f"{sign}{minutes}m{rest}s" if minutes else f"{sign}{rest}s"


def normal_resources(resources: Mapping[str, str]) -> dict[str, str]:
    """Amounts in lower case and without blanks."""
    return {key: value.lower().replace(" ", "").replace("\n", "") for key, value in resources.items()}
