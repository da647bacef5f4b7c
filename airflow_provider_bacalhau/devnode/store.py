"""Jobs, versions, executions and history in one SQLite file.

One thread (the node's event loop) writes and reads; a commit takes microseconds with the write-ahead log. What a
specification holds is written once for each version, since inline inputs make it large; executions remember the state
that their job had, not the whole of it. Rows are JSON texts beside the columns that are searched.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_bacalhau.devnode.records import (
    ComputeState,
    DesiredState,
    Event,
    Execution,
    HistoryItem,
    Job,
    JobState,
    RunOutput,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_bacalhau.devnode.changes import Change

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, namespace TEXT NOT NULL, labels TEXT NOT NULL, version INTEGER NOT NULL,
    state TEXT NOT NULL, created INTEGER NOT NULL, modified INTEGER NOT NULL, UNIQUE (namespace, name));
CREATE TABLE IF NOT EXISTS versions (
    job_id TEXT NOT NULL, version INTEGER NOT NULL, spec TEXT NOT NULL, state TEXT NOT NULL, message TEXT NOT NULL,
    revision INTEGER NOT NULL, created INTEGER NOT NULL, modified INTEGER NOT NULL, PRIMARY KEY (job_id, version));
CREATE TABLE IF NOT EXISTS executions (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, job_id TEXT NOT NULL, job_version INTEGER NOT NULL,
    record TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS executions_of_job ON executions (job_id, number);
CREATE TABLE IF NOT EXISTS history (
    job_id TEXT NOT NULL, seq INTEGER NOT NULL, job_version INTEGER NOT NULL, execution_id TEXT NOT NULL,
    event TEXT NOT NULL, PRIMARY KEY (job_id, seq));
"""
_CACHED_SPECS = 256
HIDDEN: ContextVar[Callable[[str], bool] | None] = ContextVar("HIDDEN", default=None)
"""Of which job ids the client that is served is told that there is no such job; None hides nothing."""

_LOCK = "node.lock"


class NotFoundError(LookupError):
    """No such record; the message is the server's."""


class AmbiguousError(LookupError):
    """A shortened id that several jobs share; the message is the server's."""


class NameTakenError(ValueError):
    """A job of that name exists in the namespace; the message is the server's."""


class FolderInUseError(OSError):
    """Another node keeps its records in the folder; the message names it."""


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Keep other nodes away from a folder, those of this process and of others.

    The lock goes with the process however that ends; its file stays, since removing it would let two nodes lock two
    files of one name.

    :param folder: an existing folder.
    :raises FolderInUseError: a node has it; :raises OSError: the folder cannot be written, or has no locks.
    """
    with (folder / _LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUseError(f"another node serves from the data folder {folder}") from None
        try:
            yield
        finally:
            # Said aloud: a process forked meanwhile holds the open file, and with it the lock, as well.
            fcntl.flock(file, fcntl.LOCK_UN)


class Store:
    """The records of one node.

    :param path: database file, made when missing; None keeps everything in memory.
    :param unique_names: no two jobs of a namespace have one name, and jobs are found by it.
    """

    def __init__(self, path: Path | None, *, unique_names: bool = True) -> None:
        self._unique_names = unique_names
        self._db = sqlite3.connect(str(path) if path else ":memory:", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)
        self._specs: OrderedDict[tuple[str, int], Mapping[str, Any]] = OrderedDict()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def meta(self, key: str, make: Callable[[], str]) -> str:
        """A value that lasts as long as the file (node ids), made when it is first asked for."""
        self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, make()))
        return str(self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0])

    def find_meta(self, key: str) -> str:
        """A value that was kept under a key, empty when none was."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else ""

    # writing

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside, or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def apply(self, change: Change, *, new: bool = False) -> list[HistoryItem]:
        """Write what a transition led to, with its events.

        :param new: the job is not in the store yet.
        :raises NameTakenError: a new job whose name is taken; nothing is written.
        """
        with self.transaction():
            if new:
                self._insert_job(change.job)
            self._write_job(change.job)
            for execution in change.executions.values():
                self._write_execution(execution)
            return [self._append(change.job, execution_id, event) for execution_id, event in change.events]

    def _insert_job(self, job: Job) -> None:
        try:
            self._db.execute(
                "INSERT INTO jobs VALUES (?, ?, ?, '{}', 0, '', ?, 0)",
                (job.id, job.name if self._unique_names else job.id, job.namespace, job.created),
            )
        except sqlite3.IntegrityError:
            if self._db.execute("SELECT 1 FROM jobs WHERE id = ?", (job.id,)).fetchone():
                raise NameTakenError(f"job already exists: {job.id}") from None
            raise NameTakenError(f"job name {job.name} already exists in namespace {job.namespace}") from None

    def _write_job(self, job: Job) -> None:
        self._db.execute(
            "UPDATE jobs SET labels = ?, version = ?, state = ?, modified = ? WHERE id = ?",
            (json.dumps(job.spec["Labels"]), job.version, job.state, job.modified, job.id),
        )
        facts = (job.state, job.message, job.revision, job.modified, job.id, job.version)
        known = self._db.execute(
            "UPDATE versions SET state = ?, message = ?, revision = ?, modified = ? WHERE job_id = ? AND version = ?",
            facts,
        )
        if not known.rowcount:
            self._db.execute(
                "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    job.id, job.version, json.dumps(job.spec), job.state, job.message, job.revision, job.created,
                    job.modified,
                ),
            )  # fmt: skip

    def _write_execution(self, execution: Execution) -> None:
        record = json.dumps(_execution_record(execution))
        known = self._db.execute("UPDATE executions SET record = ? WHERE id = ?", (record, execution.id))
        if not known.rowcount:
            self._db.execute(
                "INSERT INTO executions (id, job_id, job_version, record) VALUES (?, ?, ?, ?)",
                (execution.id, execution.job.id, execution.job.version, record),
            )

    def _append(self, job: Job, execution_id: str, event: Event) -> HistoryItem:
        row = self._db.execute("SELECT COALESCE(MAX(seq), 0) + 1 FROM history WHERE job_id = ?", (job.id,)).fetchone()
        self._db.execute(
            "INSERT INTO history VALUES (?, ?, ?, ?, ?)",
            (job.id, row[0], job.version, execution_id, json.dumps(asdict(event))),
        )
        return HistoryItem(row[0], job.id, job.version, execution_id, event)

    # jobs

    def find_job(self, id_or_name: str, namespace: str = "") -> Job:
        """A job by name, else by id, else by the beginning of its id.

        :raises NotFoundError: none; :raises AmbiguousError: several ids begin so.
        """
        named = self.job_named(id_or_name, namespace)
        return self.shown(named if named is not None else self.job(id_or_name), id_or_name)

    def shown(self, job: Job, asked: str) -> Job:
        """A job that a client asked for.

        :param asked: in whose words it did.
        :raises NotFoundError: it is hidden.
        """
        if (is_hidden := HIDDEN.get()) is not None and is_hidden(job.id):
            raise NotFoundError(f"job not found: {asked}")
        return job

    def job_named(self, name: str, namespace: str = "") -> Job | None:
        """The job of a name, or none."""
        row = self._db.execute(
            "SELECT id, version FROM jobs WHERE namespace = ? AND name = ?", (namespace or "default", name)
        ).fetchone()
        return self.job_version(*row) if row else None

    def job(self, job_id: str) -> Job:
        """A job by its id or the beginning of it, in its latest version.

        :raises NotFoundError: none; :raises AmbiguousError: several ids begin so.
        """
        row = self._db.execute("SELECT id, version FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row:
            return self.job_version(*row)
        rows = self._db.execute(
            "SELECT id, version FROM jobs WHERE id >= ? AND id < ? LIMIT 2", (job_id, job_id + "\U0010ffff")
        ).fetchall()
        if len(rows) > 1:
            raise AmbiguousError(f"multiple jobs found for id {job_id}")
        if not rows or len(job_id) >= len(rows[0][0]):
            raise NotFoundError(f"job not found: {job_id}")
        return self.job_version(*rows[0])

    def job_version(self, job_id: str, version: int) -> Job:
        """One version of a job.

        :raises NotFoundError: no such version.
        """
        row = self._db.execute(
            "SELECT state, message, revision, created, modified FROM versions WHERE job_id = ? AND version = ?",
            (job_id, version),
        ).fetchone()
        if row is None:
            raise NotFoundError(f"job version {version} not found for job {job_id}")
        state, message, revision, created, modified = row
        return Job(job_id, self._spec(job_id, version), created, modified, version, JobState(state), message, revision)

    def job_versions(self, job_id: str) -> list[Job]:
        """All versions of a job, the first first."""
        rows = self._db.execute("SELECT version FROM versions WHERE job_id = ? ORDER BY version", (job_id,)).fetchall()
        return [self.job_version(job_id, version) for (version,) in rows]

    def list_jobs(
        self,
        *,
        namespace: str,
        order_by: str,
        reverse: bool,
        matches: Callable[[Mapping[str, str]], bool],
        offset: int,
        limit: int,
    ) -> tuple[list[Job], bool]:
        """A page of jobs, and whether there are more.

        :param namespace: empty for all.
        :param order_by: ``created`` or ``modified``.
        :param matches: asked with the labels of each job, before the page is cut.
        :param limit: 0 for no end.
        """
        where, values = ("WHERE namespace = ?", [namespace]) if namespace else ("", [])
        direction = "DESC" if reverse else "ASC"
        rows = self._db.execute(
            f"SELECT id, version, labels FROM jobs {where} ORDER BY {order_by} {direction}, rowid {direction}",  # noqa: S608 - words of this module
            values,
        ).fetchall()
        found = [(job_id, version) for job_id, version, labels in rows if matches(json.loads(labels))]
        if (is_hidden := HIDDEN.get()) is not None:
            found = [row for row in found if not is_hidden(row[0])]
        page = found[offset : offset + limit] if limit else found[offset:]
        return [self.job_version(*row) for row in page], bool(limit) and len(found) - offset > limit

    def unfinished_jobs(self) -> list[Job]:
        """Jobs that are not over, the oldest first."""
        rows = self._db.execute(
            "SELECT id, version FROM jobs WHERE state NOT IN ('Completed', 'Failed', 'Stopped') ORDER BY created"
        ).fetchall()
        return [self.job_version(*row) for row in rows]

    def _spec(self, job_id: str, version: int) -> Mapping[str, Any]:
        key = (job_id, version)
        spec = self._specs.pop(key, None)
        if spec is None:
            row = self._db.execute("SELECT spec FROM versions WHERE job_id = ? AND version = ?", key).fetchone()
            spec = json.loads(row[0])
        self._specs[key] = spec
        while len(self._specs) > _CACHED_SPECS:
            self._specs.popitem(last=False)
        return spec

    # executions and history

    def executions(self, job_id: str, version: int | None = None) -> list[Execution]:
        """The executions of a job, of one version or of all, in the order they were made."""
        rows = self._db.execute(
            "SELECT job_version, record FROM executions WHERE job_id = ? ORDER BY number", (job_id,)
        ).fetchall()
        return [
            self._execution(job_id, job_version, record)
            for job_version, record in rows
            if version is None or job_version == version
        ]

    def execution(self, execution_id: str) -> Execution:
        """One execution by its whole id.

        :raises NotFoundError: none.
        """
        row = self._db.execute(
            "SELECT job_id, job_version, record FROM executions WHERE id = ?", (execution_id,)
        ).fetchone()
        if row is None:
            raise NotFoundError(f"execution not found: {execution_id}")
        return self._execution(*row)

    def _execution(self, job_id: str, job_version: int, text: str) -> Execution:
        record = json.loads(text)
        seen = record.pop("job")
        job = replace(
            self.job_version(job_id, job_version),
            state=JobState(seen["state"]),
            message=seen["message"],
            revision=seen["revision"],
            modified=seen["modified"],
        )
        return Execution(
            **{
                **record,
                "job": job,
                "desired": DesiredState(record["desired"]),
                "state": ComputeState(record["state"]),
                "output": RunOutput(**record["output"]),
            }
        )

    def history(self, job_id: str, after: int = 0) -> Iterable[HistoryItem]:
        """Events of a job from a sequence number on, the oldest first."""
        rows = self._db.execute(
            "SELECT seq, job_version, execution_id, event FROM history WHERE job_id = ? AND seq >= ? ORDER BY seq",
            (job_id, after),
        ).fetchall()
        for seq, job_version, execution_id, event in rows:
            yield HistoryItem(seq, job_id, job_version, execution_id, Event(**json.loads(event)))


def _execution_record(execution: Execution) -> dict[str, Any]:
    job = execution.job
    return {
        "id": execution.id,
        "job": {"state": job.state, "message": job.message, "revision": job.revision, "modified": job.modified},
        "node_id": execution.node_id,
        "eval_id": execution.eval_id,
        "created": execution.created,
        "modified": execution.modified,
        "partition": execution.partition,
        "desired": execution.desired,
        "desired_message": execution.desired_message,
        "state": execution.state,
        "message": execution.message,
        "published": dict(execution.published),
        "output": asdict(execution.output),
        "revision": execution.revision,
    }


__all__ = ["HIDDEN", "AmbiguousError", "FolderInUseError", "NameTakenError", "NotFoundError", "Store", "sole_use"]
