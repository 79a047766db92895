"""What faults are done to, and the rule that must hold after each of them."""

from __future__ import annotations

import hashlib
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Generic, TypeVar
from unittest import mock

import psycopg

from airflow_backup_guard.core.backup import BackupRecord, Snapshot
from airflow_backup_guard.core.retention import RetentionPolicy
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import catalog, wal
from airflow_backup_guard.engine import copy as engine_copy
from airflow_backup_guard.engine.attempt import close_attempt
from airflow_backup_guard.engine.copy import copy
from airflow_backup_guard.engine.expire import expire, propose
from airflow_backup_guard.engine.listing import list_backups
from airflow_backup_guard.engine.restore import restore
from airflow_backup_guard.engine.snapshot import take_snapshot
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.errors import BackupDamaged, BackupGuardError, BackupMissing, BudgetSpent
from airflow_backup_guard.postgres import connection
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository.base import Repository
from tests.conftest import SMALL, prepare
from tests.faults.proxy import Proxy
from tests.faults.stores import Store
from tests.integration.guarded import plan_for

T = TypeVar("T")

LEFT_SECONDS = 5.0
"""How long after a step has ended the database may still have something of ours."""
STEP_SECONDS = 40.0
"""How long a step may take under a fault: all its time limits, shortened by :func:`impatient`, added up."""

KEEP_ALL = RetentionPolicy(keep_last=100)

_LEFT = """
    SELECT 'session ' || application_name FROM pg_stat_activity WHERE application_name LIKE 'backup_guard%'
    UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots
    UNION ALL SELECT 'backup under way' FROM pg_stat_progress_basebackup
    UNION ALL SELECT 'file ' || name FROM pg_ls_dir('.') AS name
        WHERE name LIKE 'backup_%' OR name LIKE 'tablespace_map%' OR name LIKE '%guard%'
    UNION ALL SELECT 'setting ' || setdatabase || ' ' || setrole FROM pg_db_role_setting
    UNION ALL SELECT 'setting ' || name FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'
"""


class Outcome(Enum):
    """What became of a fault."""

    SURVIVED = "survived"
    REFUSED = "refused"
    FOUND = "found by verify"
    UNREACHED = "never came up"


@dataclass
class Judgement:
    """What one fault came to; ``broken`` says what of the rule did not hold."""

    fault: str
    outcome: Outcome = Outcome.SURVIVED
    error: BaseException | None = None
    seconds: float = 0.0
    left_seconds: float = 0.0
    retries: int = 0
    restores: int = 0
    verified: int = 0
    broken: list[str] = field(default_factory=list)

    def hold(self, true: object, otherwise: str) -> bool:
        """Note that the rule is broken unless ``true``."""
        if not true:
            self.broken.append(otherwise)
        return bool(true)


@contextmanager
def impatient() -> Iterator[None]:
    """With limits of seconds where the product has minutes, for what a fault makes it wait for."""
    with (
        mock.patch.object(wal, "_ROUND_SECONDS", 0.3),
        mock.patch.object(wal, "_SILENT_SECONDS", 2.0),
        mock.patch.object(wal, "_STALLED_SECONDS", 5.0),
        mock.patch.object(connection, "ANSWER_SECONDS", 2),
        mock.patch.object(engine_copy, "_SILENT_SECONDS", 3.0),
    ):
        yield


class Done(Generic[T]):
    """A step that was run: its ``value``, or its ``error``; ``hung`` if it had to be stopped."""

    def __init__(self, step: Callable[[Stop], T], seconds: float = STEP_SECONDS) -> None:
        self.value: T | None = None
        self.error: BaseException | None = None
        stop = Stop()

        def run() -> None:
            try:
                self.value = step(stop)
            except BaseException as error:
                self.error = error

        began = time.monotonic()
        thread = threading.Thread(target=run, name="step", daemon=True)
        thread.start()
        thread.join(seconds)
        self.hung = thread.is_alive()
        self.seconds = time.monotonic() - began
        if self.hung:
            stop.request("it hangs")
            thread.join(20)


class Rig(AbstractContextManager["Rig"]):
    """A small cluster behind a proxy, with a table of marks that says what was committed when."""

    def __init__(self, folder: Path, seed: int, *, major: int = 18) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self._major = major
        self._stack = ExitStack()
        self._marks = 0
        self._whole: dict[str, Repository] = {}

    def __enter__(self) -> Rig:
        self.server = prepare(self._stack.enter_context(LocalServer.create(major=self._major, settings=SMALL)))
        self.dsn = f"{self.server.dsn('postgres', 'guard', password='guard', tcp=True)} sslmode=disable"
        port = connection.parse_conninfo(self.dsn)["port"]
        self.proxy = self._stack.enter_context(Proxy(("127.0.0.1", int(port))))
        self.proxied = f"{self.dsn} port={self.proxy.port} connect_timeout=2 gssencmode=disable"
        self.server.sql("CREATE TABLE marks AS SELECT 0 AS n")
        self._observer = self._stack.enter_context(psycopg.connect(self.server.dsn(), autocommit=True))
        self._usual = self._left()
        self._stack.enter_context(impatient())
        self.plan = plan_for(
            self.folder / "backups", compression_level=1, max_duration="8s", max_rate="1GB/s", min_rate="1GB/s"
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def mark(self) -> int:
        """Commit something; a backup whose snapshot is taken later must have it."""
        self._marks += 1
        self._observer.execute("INSERT INTO marks VALUES (%s)", [self._marks])
        return self._marks

    def back_up(self, dsn: str, repository: Repository, opened: list[Snapshot], stop: Stop) -> BackupRecord:
        """Snapshot, kept in ``opened``, and copy."""
        opened.append(take_snapshot(self.plan, dsn, repository))
        return copy(self.plan, opened[-1], dsn, repository, stop=stop, baseline_seconds=0.15)

    def whole(self, store: Store) -> Repository:
        """A repository with one backup, which is made once; only read it."""
        if store.name not in self._whole:
            self._whole[store.name] = store.fresh()
            self.back_up(self.dsn, self._whole[store.name], [], Stop())
        return self._whole[store.name]

    def same_as_restored(self, repository: Repository, target: Path) -> bool:
        """Whether a folder has what a restore of the only backup gives, which is done once."""
        reference = self.folder / "reference" / repository.url.rpartition("/")[2]
        if not reference.exists():
            restore(catalog.find(repository, "latest"), repository, reference)
        return _content(reference) == _content(target)

    def check_database(self, judgement: Judgement) -> None:
        """Nothing of ours is left in it, within :data:`LEFT_SECONDS`."""
        began = time.monotonic()
        while (left := self._left() - self._usual) and time.monotonic() - began < LEFT_SECONDS:
            time.sleep(0.02)
        judgement.left_seconds = time.monotonic() - began
        judgement.hold(not left, f"left in the database: {', '.join(sorted(left))}")

    def check_backups(
        self, judgement: Judgement, repository: Repository, marks: dict[str, int], *, restored: bool, may_be_bad: bool
    ) -> list[BackupRecord]:
        """Every visible backup verifies, and if ``restored`` a server on it has its mark; returns those that do.

        A backup that was damaged on its way (``may_be_bad``) must be found out by verify, and any that verify takes for
        good must be.
        """
        good = []
        for plan_name, backup_id in list(catalog.ids(repository, None)):
            try:
                record = catalog.record_of(repository, plan_name, backup_id)
                result = verify(record, repository)
            except BackupDamaged as error:
                judgement.outcome = Outcome.FOUND
                judgement.hold(may_be_bad, f"{backup_id} is visible and cannot be read: {error}")
                continue
            if result.verdict is not Verdict.VERIFIED:
                judgement.outcome = Outcome.FOUND
                problems = "; ".join(map(str, result.problems))
                judgement.hold(may_be_bad, f"{backup_id} is visible, and {result.verdict.value}: {problems}")
                continue
            judgement.verified += 1
            good.append(record)
            if restored or may_be_bad:
                self.check_restore(judgement, record, repository, marks.get(backup_id, 0))
        return good

    def check_restore(self, judgement: Judgement, record: BackupRecord, repository: Repository, mark: int) -> None:
        """A server on it has all that was committed before its snapshot."""
        data = self.folder / f"restored-{record.backup_id}"
        try:
            restore(record, repository, data)
            with LocalServer(data) as server:
                found = int(server.sql("SELECT max(n) FROM marks"))
            judgement.hold(found >= mark, f"{record.backup_id} has mark {found}, and {mark} was committed before it")
            judgement.restores += 1
        except Exception as error:
            judgement.broken.append(f"{record.backup_id} is verified, and does not restore: {error!r}")
        finally:
            shutil.rmtree(data, ignore_errors=True)

    def check_maintenance(self, judgement: Judgement, repository: Repository) -> None:
        """Lists and expiries run twice, and verify, which has run before, once more; in the end only visible backups
        have anything stored."""
        for again in (False, True):
            listed = {one.backup_id for one in list_backups(repository, fresh=True).backups}
            judgement.hold(listed == {one for _, one in catalog.ids(repository, None)}, "list shows other backups")
            found = expire(propose(repository, self.plan.name, KEEP_ALL, "UTC"), repository)
            judgement.hold(not found.failures, f"expire failed: {found.failures}")
            for one in catalog.backups(repository) if again else ():
                judgement.hold(verify(one, repository).verdict is Verdict.VERIFIED, f"{one.backup_id} verifies no more")
        stored = {info.key.split("/")[2] for info in repository.list("backups/")}
        judgement.hold(stored <= listed, f"left in the repository: parts of {', '.join(sorted(stored - listed))}")
        writes = [write.key for write in repository.unfinished_writes("")]
        judgement.hold(not writes, f"left in the repository: unfinished {', '.join(writes)}")

    def check_error(self, judgement: Judgement, error: BaseException, parties: tuple[str, ...]) -> None:
        """It is one of ours, and says which party is to blame, and what to do."""
        judgement.error = error
        if not judgement.hold(isinstance(error, BackupGuardError), f"an error that is not ours: {error!r}"):
            return
        assert isinstance(error, BackupGuardError)
        judgement.hold(error.remedy, f"an error without a remedy: {error!r}")
        known = isinstance(error, (BudgetSpent, BackupMissing)) or any(party in str(error) for party in parties)
        judgement.hold(known, f"an error that does not say who is to blame: {error!r}")

    def retry(
        self, judgement: Judgement, repository: Repository, opened: list[Snapshot], marks: dict[str, int]
    ) -> None:
        """Once the fault is gone a copy of the same snapshot succeeds, or after its teardown a new one."""
        error = judgement.error
        again = opened[-1] if opened and getattr(error, "retryable", False) else None
        if again is None:
            for one in opened:
                close_attempt(self.plan, one, repository, "torn down")
            mark = self.mark()
        try:
            again = again or take_snapshot(self.plan, self.dsn, repository)
            marks.setdefault(again.backup_id, mark if again not in opened else 0)
            copy(self.plan, again, self.dsn, repository, stop=Stop(), baseline_seconds=0.0)
            judgement.retries += 1
        except Exception as failure:
            judgement.broken.append(f"the retry failed: {failure!r}")

    def _left(self) -> set[str]:
        return {text for (text,) in self._observer.execute(_LEFT).fetchall()}


def _content(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
