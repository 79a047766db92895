"""The recovery runbooks are true: each is executed as it stands there, after the damage that it is about."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from airflow_backup_guard.core import BackupPlan
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.postgres.account import account_for, private_folder
from airflow_backup_guard.postgres.binaries import available_majors, runnable
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from tests.acceptance.conftest import free_ports
from tests.conftest import SMALL
from tests.integration.guarded import back_up, plan_for, sessions, slots, wait_until
from tests.integration.test_docs import TOP, need_tools, run_shell

RUNBOOKS = TOP / "docs" / "runbooks"
CASES = sorted(page.stem for page in RUNBOOKS.glob("*.md") if page.stem != "index")
HBA = "local all all trust\nlocal replication all trust\n"
ROWS = """
CREATE TABLE customers AS SELECT n AS customer_id FROM generate_series(1, 500) n;
CREATE TABLE orders AS SELECT n AS order_id, now() AS created_at FROM generate_series(1, 5000) n;
ALTER TABLE orders ADD PRIMARY KEY (order_id);
"""
NO_AIRFLOW = 'raise ImportError("Airflow is down")\n'


@dataclass
class Place:
    """A shop's server with its backup, and where the paths, the port and the user of a page are in this test."""

    folder: Path
    server: LocalServer
    plan: BackupPlan
    record: BackupRecord
    said: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.account = account_for(self.server.data_directory)
        (self.port,) = free_ports(1)
        self.environment = {
            "BACKUP_GUARD_DSN": self.server.dsn(),
            "BACKUP_GUARD_REPOSITORY": self.plan.repository,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), str(self.server.binaries), os.environ["PATH"]]),
            "PGHOST": str(self.server.socket_directory),
            "PGPORT": str(self.server.port),
            "PGUSER": self.server.superuser,
        }

    def here(self, text: str) -> str:
        """What a page says, with its names replaced by those of this test."""
        named = {
            "/srv/": f"{self.folder}/",
            "/etc/backup-guard/": f"{self.folder}/",
            f"/usr/lib/postgresql/{self.server.major}/bin": str(self.server.binaries),
            "--owner postgres": f"--owner {self.account.name}",
            "sudo -u postgres ": "as_postgres ",
            "port 5433": f"port {self.port}",
            "port=5433": f"port={self.port}",
            "-p 5433": f"-p {self.port}",
            "20261123T090000Z-a98c": self.record.backup_id,
        }
        for name, ours in named.items():
            text = text.replace(name, ours)
        return text

    def follow(self, case: str, *, ends_badly: tuple[str, ...] = ()) -> str:
        """Do all that the page has in its ``sh`` blocks; what it shows of their output must be what they wrote.

        ``ends_badly``: how the commands begin that are to end with status 1.
        """
        commands, shown = commands_of(case)
        script = self.here("\n".join(commands))
        for start in ends_badly:
            assert f"\n{self.here(start)}" in f"\n{script}"
            script = re.sub(rf"^({re.escape(self.here(start))}.*)$", r"\1 || test $? = 1", script, flags=re.MULTILINE)
        self.run(script)
        written = blurred(self.said)
        for fragment in shown:
            for part in re.split(r"^…$", self.here(fragment), flags=re.MULTILINE):
                assert blurred(part) in written, f"{part}\n--- is not in:\n{self.said}"
        return self.said

    def run(self, script: str) -> str:
        """Run commands in which the names are those of this test; returns what they wrote."""
        become = ""
        if os.geteuid() == 0:
            status = self.server.data_directory.parent.stat() if not self.server.data_directory.exists() else None
            owner = status or self.server.data_directory.stat()
            become = f"setpriv --reuid={owner.st_uid} --regid={owner.st_gid} --clear-groups "
        self.said = run_shell(f'as_postgres() {{ {become}"$@"; }}\n{script}', self.environment)
        return self.said

    def put_away(self) -> None:
        """End what a page that failed half-way left running."""
        for pid_file in self.folder.glob("*/postmaster.pid"):
            pg_ctl = [str(self.server.binaries / "pg_ctl"), "-D", str(pid_file.parent), "-m", "immediate", "stop"]
            subprocess.run(pg_ctl, check=False, capture_output=True, **account_for(pid_file.parent).options())


def commands_of(case: str) -> tuple[list[str], list[str]]:
    """The ``sh`` blocks of a runbook, and the ``text`` blocks that stand right after one: what it writes."""
    text = (RUNBOOKS / f"{case}.md").read_text(encoding="utf-8")
    found = re.findall(r"^```sh\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", text, re.MULTILINE | re.DOTALL)
    return [commands for commands, _ in found], [shown for _, shown in found if shown]


def blurred(text: str) -> str:
    """Without what differs from run to run: ids, numbers with their units, and how lines are broken."""
    text = re.sub(r"\b\d{8}T\d{6}Z-[0-9a-f]{4}\b", "ID", text)
    text = re.sub(r"\bage1\w+", "KEY", text)
    text = re.sub(r"-{3,}", "---", text)  # lines of tables are as long as what is under them
    text = re.sub(r"\d[\d.,:/-]*( ?(B|kB|MB|GB|ms|s|min|h)\b)?", "N", text)
    return " ".join(text.split())


@pytest.fixture(scope="module")
def major() -> int:
    """A version whose programs whoever runs PostgreSQL here can run where they are."""
    need_tools("psql", "pg_dump")
    account = account_for(Path("/"))
    majors = [major for major, folder in available_majors().items() if account.can("x", folder / "pg_ctl")]
    if not majors:
        pytest.skip("no PostgreSQL here can be run by the user that it would run as")
    return majors[0]


def open_shop(folder: Path, major: int) -> Place:
    """A server with a shop's rows, and a backup of it."""
    server = LocalServer.create(folder / "original", major=major, settings=SMALL).start()
    (server.data_directory / "pg_hba.conf").write_text(HBA)
    server.sql("CREATE DATABASE shop")
    server.sql(ROWS, "shop")
    plan = plan_for(folder / "backups")
    (folder / "shop.toml").write_text(
        f'name = "shop"\nrepository = "{plan.repository}"\ncheckpoint = "fast"\n'
        'max_rate = "500MB/s"\nmin_rate = "500MB/s"\n[calendar]\nwindows = "daily 00:00-24:00"\ntz = "UTC"\n'
    )
    record = back_up(plan, server.dsn())
    verify(record, open_repository(plan.repository))
    return Place(folder, server, plan, record)


@pytest.fixture(scope="module")
def shared(major: int) -> Iterator[Place]:
    """The shop that most runbooks begin with."""
    folder = private_folder(account_for(Path("/")), "runbooks")
    shop = open_shop(folder, major)
    yield shop
    shop.server.close()
    shutil.rmtree(folder)


@pytest.fixture
def place(shared: Place, cluster_folder: Path) -> Iterator[Place]:
    """The shared server with a repository of this test's own, which has its backup."""
    plan = plan_for(cluster_folder / "backups")
    shutil.copytree(shared.folder / "backups", cluster_folder / "backups", dirs_exist_ok=True)
    text = (shared.folder / "shop.toml").read_text().replace(shared.plan.repository, plan.repository)
    (cluster_folder / "shop.toml").write_text(text)
    found = Place(cluster_folder, shared.server, plan, shared.record)
    yield found
    found.put_away()


def test_there_are_runbooks_for_the_real_cases() -> None:
    """Each case has its page, and each page the parts that somebody in need looks for, in this order."""
    assert CASES == [
        "airflow-down", "damaged-repository", "dropped-table", "lost-key", "total-loss", "worker-lost", "wrong-version"
    ]  # fmt: skip
    for case in CASES:
        text = (RUNBOOKS / f"{case}.md").read_text(encoding="utf-8")
        parts = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert parts[0] == "First"
        assert parts[-3:] == ["How long it takes", "Check at the end", "Never"]


def test_the_server_is_lost(major: int, cluster_folder: Path) -> None:
    """After its folder is gone, the page has a server with all rows of the backup, ready to be backed up itself."""
    place = open_shop(cluster_folder, major)
    place.server.kill()
    shutil.rmtree(place.server.data_directory)
    place.environment["BACKUP_GUARD_DSN"] = f"host={cluster_folder}/restored port={place.port} user=postgres"
    try:
        place.follow("total-loss")
        with LocalServer(cluster_folder / "restored") as restored:
            assert restored.sql("SELECT count(*) FROM orders", "shop") == "5000"
    finally:
        place.put_away()
        place.server.close()


def test_a_table_was_dropped(place: Place) -> None:
    """The table is back with its rows and key, others keep what came since, and the rescue is cleared away."""
    place.server.sql("INSERT INTO customers VALUES (501)", "shop")
    place.server.sql("DROP TABLE orders", "shop")
    place.follow("dropped-table")
    assert place.server.sql("SELECT count(*), max(order_id) FROM orders", "shop") == "5000|5000"
    assert place.server.sql("SELECT count(*) FROM pg_indexes WHERE tablename = 'orders'", "shop") == "1"
    assert place.server.sql("SELECT max(customer_id) FROM customers", "shop") == "501"
    assert not (place.folder / "rescue").exists()


def test_the_repository_is_damaged(place: Place) -> None:
    """With a flipped bit in the newest backup, the page finds it, restores an older one, and repairs it from a copy."""
    newest = back_up(place.plan, place.server.dsn())
    shutil.copytree(place.folder / "backups", place.folder / "copy-of-backups")
    (stored,) = (place.folder / "backups").rglob(f"{newest.backup_id}/base.tar.zst")
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 1
    stored.write_bytes(content)
    place.environment["DAMAGED"] = newest.backup_id
    place.follow("damaged-repository", ends_badly=("backup-guard verify --all",))
    assert (place.folder / "restored" / "global" / "pg_control").exists()
    repository = open_repository(place.plan.repository)
    assert verify(catalog.find(repository, newest.backup_id), repository).verdict is Verdict.VERIFIED


def test_airflow_is_down(place: Place) -> None:
    """Without any Airflow to import, the page makes a backup under the plan, and verifies it."""
    broken = place.folder / "broken" / "airflow"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text(NO_AIRFLOW)
    place.environment["PYTHONPATH"] = f"{broken.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with pytest.raises(AssertionError, match="Airflow is down"):
        run_shell(f'"{sys.executable}" -c "import airflow"', place.environment)
    place.follow("airflow-down")
    repository = open_repository(place.plan.repository)
    newest = catalog.find(repository, "latest")
    assert newest.backup_id > place.record.backup_id
    verification = catalog.last_verification(repository, newest)
    assert verification is not None and verification.verdict is Verdict.VERIFIED


def test_a_worker_is_lost(place: Place) -> None:
    """After kill -9 in mid-copy, the database has nothing of it, and the next backup clears away what was stored."""
    slow = ["--max-rate", "1MB/s", "--min-rate", "1MB/s", "--plan", str(place.folder / "shop.toml")]
    command = [sys.executable, "-m", "airflow_backup_guard", "backup", *slow]
    lost = subprocess.Popen(command, env={**os.environ, **place.environment}, stderr=subprocess.DEVNULL)
    attempts = place.folder / "backups" / "attempts" / "shop"
    try:
        wait_until(lambda: any((place.folder / "backups").rglob("*.unfinished")), 30)
        wait_until(lambda: sessions(place.server) > 1, 30)
    finally:
        lost.send_signal(signal.SIGKILL)
        lost.wait()
    assert list(attempts.glob("*.json"))
    wait_until(lambda: sessions(place.server) == 0 and slots(place.server) == 0)
    place.follow("worker-lost")
    repository = open_repository(place.plan.repository)
    assert len(list(catalog.backups(repository))) == 2
    kept = {record.backup_id for record in catalog.backups(repository)}
    assert {path.name for path in (place.folder / "backups" / "backups" / "shop").iterdir()} == kept
    assert not any((place.folder / "backups").rglob("*.unfinished"))


def test_the_version_is_wrong(place: Place) -> None:
    """Another major refuses the folder, the right one starts on it, and its rows come over by a dump."""
    others = {major: path for major, path in available_majors().items() if major > place.server.major}
    if not others:
        pytest.skip("there is no PostgreSQL of another major version here")
    newer = max(others)
    with LocalServer.create(major=newer, settings=SMALL) as successor:
        place.environment |= {
            "OTHER": str(runnable(others[newer], account_for(successor.data_directory))),
            "RIGHT": str(place.server.binaries),
            "SUCCESSOR": successor.dsn(),
        }
        place.follow("wrong-version", ends_badly=('sudo -u postgres "$OTHER/pg_ctl"',))
        assert successor.sql("SELECT count(*) FROM orders", "shop") == "5000"
    assert not (place.folder / "restored" / "postmaster.pid").exists()


def test_the_key_is_lost(place: Place) -> None:
    """One recipient's key opens what another's, that is lost, would; the next backup is for a new key, and opens."""
    need_tools("age-keygen")
    pytest.importorskip("pyrage")
    keys = [place.folder / name for name in ("lost.key", "found.key", "other.key")]
    for key in keys:
        run_shell('age-keygen -o "$KEY"', {"KEY": str(key)})
    public = [run_shell('age-keygen -y "$KEY"', {"KEY": str(key)}).strip() for key in keys]
    encrypted = plan_for(place.folder / "backups", recipients=public[:2])
    back_up(encrypted, place.server.dsn())
    keys[0].unlink()
    place.follow("lost-key", ends_badly=("backup-guard verify latest --identity /etc/backup-guard/other.key",))
    repository = open_repository(place.plan.repository)
    assert len(list(catalog.backups(repository))) == 3
    assert catalog.find(repository, "latest").snapshot.plan["recipients"] == [
        run_shell('age-keygen -y "$KEY"', {"KEY": str(place.folder / "new.key")}).strip(), public[1]
    ]  # fmt: skip
