"""The command ``backup-guard`` as people and scripts use it: answers, exit statuses, wrong use, signals."""

from __future__ import annotations

import json
import os
import pty
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import pyrage
import pytest
from moto.server import ThreadedMotoServer

from airflow_backup_guard import __version__
from airflow_backup_guard.cli import main
from airflow_backup_guard.core.backup import BackupRecord, load_plain
from airflow_backup_guard.engine.restore import restore
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.errors import BackupStopped
from airflow_backup_guard.postgres.account import account_for
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from tests.integration.guarded import assert_nothing_left, back_up, plan_for, sessions, slots, wait_until
from tests.stored import store_backup

FAST = ("--checkpoint", "fast", "--max-rate", "500MB/s", "--min-rate", "500MB/s")
SLOW = ("--checkpoint", "fast", "--max-rate", "4MB/s", "--min-rate", "4MB/s")
SUMMARY = {"backup_id", "plan_name", "database_size", "stored_size", "seconds", "record"}
PLAN = """\
name = "shop"
repository = "{repository}"
checkpoint = "fast"
max_rate = "400MB/s"
min_rate = "400MB/s"

[calendar]
windows = "{windows}"
tz = "UTC"
"""


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; anything else there fails."""
        return json.loads(self.out)


Guard = Callable[..., Done]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of whoever runs the tests reaches the commands; tables are as wide as a usual terminal."""
    for name in ("BACKUP_GUARD_DSN", "BACKUP_GUARD_LOAD_DSN", "BACKUP_GUARD_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def guard(capsys: pytest.CaptureFixture[str]) -> Guard:
    """``guard("list", "--json")``: runs a command in this process."""

    def run(*arguments: str) -> Done:
        status = main(arguments)
        written = capsys.readouterr()
        return Done(status, written.out, written.err)

    return run


def command(*arguments: str) -> list[str]:
    """A command as a process of its own."""
    return [sys.executable, "-m", "airflow_backup_guard", *arguments]


@dataclass(frozen=True)
class Made:
    """A repository with one backup in it."""

    folder: Path
    url: str
    record: BackupRecord


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, guard_dsn: str) -> Made:
    """One backup of plan ``shop``, for tests that only read it or copy its folder."""
    folder = tmp_path_factory.mktemp("made") / "backups"
    plan = plan_for(folder)
    return Made(folder, plan.repository, back_up(plan, guard_dsn))


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Made:
    """The same in a folder of the test's own."""
    folder = tmp_path / "copied"
    shutil.copytree(made.folder, folder)
    return Made(folder, folder.as_uri(), made.record)


@pytest.fixture
def repository(tmp_path: Path) -> str:
    """URL of an empty repository."""
    return (tmp_path / "backups").as_uri()


def copying(server: LocalServer) -> bool:
    """Whether a base backup sends files."""
    return server.sql("SELECT phase FROM pg_stat_progress_basebackup") == "streaming database files"


# --- check


def test_check_says_ready(guard: Guard, guard_dsn: str, repository: str) -> None:
    """Each answer is a line for people and an object for programs; exit status 0."""
    done = guard("check", "--dsn", guard_dsn, "--repository", repository)
    assert done.status == 0
    assert "Ready for a backup" in done.out
    document = guard("check", "--dsn", guard_dsn, "--repository", repository, "--json").document
    assert set(document) == {"ready", "checks", "cluster", "database_size"}
    assert document["ready"] is True
    assert {"connection", "repository"} <= {check["name"] for check in document["checks"]}
    assert set(document["checks"][0]) == {"name", "status", "detail", "remedy", "transient"}
    assert document["cluster"]["server_version"] >= 180000


def test_check_needs_no_repository(guard: Guard, guard_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database alone can be asked about, and its name can come from the environment."""
    monkeypatch.setenv("BACKUP_GUARD_DSN", guard_dsn)
    document = guard("check", "--json").document
    assert document["ready"] is True
    assert "repository" not in {check["name"] for check in document["checks"]}


def test_check_fails_with_the_remedy(
    guard: Guard, server: LocalServer, role_dsn: Callable[..., str], repository: str
) -> None:
    """A role that may not replicate: exit status 1, and the statement that mends it."""
    done = guard("check", "--dsn", role_dsn(server, "noreplication"), "--repository", repository)
    assert done.status == 1
    assert "ALTER ROLE noreplication REPLICATION" in done.out
    assert "Not ready: replication privilege" in done.out


def test_a_load_connection_is_checked_and_kept(
    guard: Guard, guard_dsn: str, tmp_path: Path, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By option or environment, with or without a repository; the record says that there was one."""
    alone = guard("check", "--dsn", guard_dsn, "--load-dsn", guard_dsn, "--json").document
    assert {check["name"]: check["status"] for check in alone["checks"]}["load connection"] == "ok"
    monkeypatch.setenv("BACKUP_GUARD_LOAD_DSN", "host=127.0.0.1 port=1")
    gone = guard("check", "--dsn", guard_dsn, "--repository", repository, "--json").document
    assert gone["ready"] is True
    assert {check["name"]: check["status"] for check in gone["checks"]}["load connection"] == "warning"
    options = ("--repository", repository, "--checkpoint", "fast", "--min-rate", "100MB/s", "--json")
    made = guard("backup", "--dsn", guard_dsn, "--load-dsn", guard_dsn, *options).document
    assert made["record"]["snapshot"]["plan"]["load_connection"] == "command-line"


def test_a_plan_with_a_load_connection_needs_it(guard: Guard, guard_dsn: str, tmp_path: Path, repository: str) -> None:
    """Its limits would be held against another server otherwise."""
    text = PLAN.format(repository=repository, windows="daily 00:00-24:00")
    (tmp_path / "plan.toml").write_text('load_connection = "shop_primary"\n' + text)
    for command in ("check", "backup"):
        done = guard(command, "--dsn", guard_dsn, "--plan", str(tmp_path / "plan.toml"))
        assert done.status == 2
        assert "load of shop_primary" in done.err
        assert "--load-dsn" in done.err


# --- backup


def test_the_commands_that_a_backup_prints_verify_and_restore_it(
    guard: Guard, server: LocalServer, guard_dsn: str, tmp_path: Path, cluster_folder: Path
) -> None:
    """From check to a server that runs: exactly one JSON document on stdout, and what it says to run next works."""
    server.sql("CREATE TABLE told AS SELECT generate_series(1, 1234) n")
    try:
        url = (tmp_path / "back ups").as_uri()
        run = subprocess.run(
            command("backup", "--repository", url, "--plan-name", "shop", *FAST, "--json"),
            env={**os.environ, "BACKUP_GUARD_DSN": guard_dsn},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        server.sql("DROP TABLE told")
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    assert set(document) == {*SUMMARY, "throttle_reasons", "commands"}
    assert document["plan_name"] == "shop"
    assert document["record"]["impact"]["during"]["samples"] >= 0
    assert "measuring its load" in run.stderr  # progress, in lines
    program, *verify = shlex.split(document["commands"]["verify"])
    assert program == "backup-guard"
    assert guard(*verify).status == 0
    target = cluster_folder / "data"
    restore = [str(target) if word == "DIR" else word for word in shlex.split(document["commands"]["restore"])[1:]]
    done = guard(*restore)
    assert done.status == 0
    assert f"pg_ctl -D {target} start" in done.out
    assert "PostgreSQL 18" in done.out
    with LocalServer(target) as restored:
        assert restored.sql("SELECT count(*) FROM told") == "1234"


def test_a_plan_file_in_a_terminal(guard: Guard, guard_dsn: str, tmp_path: Path, repository: str) -> None:
    """Options go above the file's values; the bar is drawn on a terminal's stderr; encrypted backups verify."""
    key = pyrage.x25519.Identity.generate()
    (tmp_path / "shop.toml").write_text(PLAN.format(repository="file:///not/this", windows="daily 00:00-24:00"))
    (tmp_path / "key").write_text(f"# a comment\n\n{key}\n")
    terminal, stderr = pty.openpty()
    drawn = bytearray()

    def read() -> None:
        while True:
            try:
                drawn.extend(os.read(terminal, 4096))
            except OSError:  # nobody has the other end open any more
                return

    reading = threading.Thread(target=read, daemon=True)
    options = ("--repository", repository, "--recipient", str(key.to_public()), "--level", "1", "--min-rate", "300MB/s")
    with subprocess.Popen(
        command("backup", "--dsn", guard_dsn, "--plan", str(tmp_path / "shop.toml"), *options),
        stdout=subprocess.PIPE,
        stderr=stderr,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
        text=True,
    ) as process:
        os.close(stderr)
        reading.start()
        said, _ = process.communicate(timeout=60)
    reading.join(10)
    os.close(terminal)
    assert process.returncode == 0, drawn.decode()
    assert b"starting" in drawn
    assert b"MB of " in drawn
    for expected in ("throttled", "commits before", "commits during", "commits after", "backup-guard verify"):
        assert expected in said
    record = guard("show", "latest", "--repository", repository, "--json").document["record"]
    assert record["snapshot"]["plan"]["compression_level"] == 1
    assert record["snapshot"]["plan"]["max_rate"] == "400000000B/s"
    assert record["snapshot"]["plan"]["min_rate"] == "300000000B/s"
    blind = guard("verify", "latest", "--repository", repository, "--json")
    assert blind.status == 1
    assert blind.document["verdict"] != "verified"
    refused = guard("restore", "latest", "--repository", repository, "--to", str(tmp_path / "data"))
    assert refused.status == 2
    assert "encrypted" in refused.err
    with_key = ("--repository", repository, "--identity", str(tmp_path / "key"))
    assert guard("verify", "latest", *with_key, "--json").document["verdict"] == "verified"
    assert guard("restore", "latest", *with_key, "--to", str(tmp_path / "data")).status == 0
    assert (tmp_path / "data" / "PG_VERSION").read_text() == "18\n"


def test_a_backup_waits_for_its_window(guard: Guard, tmp_path: Path, repository: str) -> None:
    """Outside of the calendar nothing is asked of the database, and the next start is told; one option overrides."""
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    plan = tmp_path / "shop.toml"
    plan.write_text(PLAN.format(repository=repository, windows=f"{yesterday:%a} 01:00-02:00"))
    arguments = ("backup", "--dsn", "host=127.0.0.1 port=1", "--plan", str(plan))
    done = guard(*arguments)
    assert done.status == 1
    assert f"next window opens {yesterday + timedelta(days=7):%a %Y-%m-%d} 01:00 UTC" in done.err
    error = guard(*arguments, "--json").document["error"]
    assert error["retryable"] is True
    assert "connection" in guard(*arguments, "--outside-window").err


# --- list and show


def test_an_empty_repository_is_no_failure(guard: Guard, repository: str) -> None:
    """It says so, and exits with 0."""
    done = guard("list", "--repository", repository)
    # A long path is broken where the terminal ends.
    assert (done.status, "".join(done.out.split())) == (0, f"{repository} has no backup.".replace(" ", ""))
    assert guard("list", "--repository", repository, "--json").document["backups"] == []


def test_list_shows_every_backup_and_its_last_verification(
    guard: Guard, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line for each, whatever the width: narrow terminals see fewer columns, not broken ones."""
    assert guard("verify", "latest", "--repository", made.url).status == 0
    monkeypatch.setenv("BACKUP_GUARD_REPOSITORY", made.url)
    (entry,) = guard("list", "--json").document["backups"]
    assert set(entry) == {
        *("backup_id", "plan_name", "taken_at", "database_size", "stored_size", "seconds"),
        *("server_version", "encrypted", "verdict", "verified_at", "level", "read_at", "hold"),
    }
    assert (entry["verdict"], entry["level"]) == ("verified", "consistent")
    assert entry["read_at"] <= entry["verified_at"]
    for columns in ("200", "80", "50", "30"):
        monkeypatch.setenv("COLUMNS", columns)
        title, line = guard("list").out.splitlines()
        assert "BACKUP" in title
        assert line.startswith(made.record.backup_id)
        assert "verified" in line or columns == "30"
        assert ("TAKEN AT" in title) is (columns == "200")
        if columns == "200":
            assert re.search(r"verified +consistent +\d+(s|min) ago$", line)


def test_an_unreadable_record_does_not_hide_the_others(guard: Guard, copied: Made) -> None:
    """It is named, the rest is shown, and the exit status is 1."""
    bad = copied.folder / "records" / "shop" / "20200101T000000Z-0000.json"
    bad.write_text('{"format": 99}')
    done = guard("list", "--repository", copied.url)
    assert done.status == 1
    assert copied.record.backup_id in done.out
    assert "format 99" in done.out
    document = guard("list", "--repository", copied.url, "--json").document
    assert len(document["backups"]) == len(document["unreadable"]) == 1


def test_backups_of_several_plans_are_told_apart(guard: Guard, copied: Made, tmp_path: Path) -> None:
    """``latest`` of two plans is refused; a name, or a plan file, picks one."""
    shutil.copytree(copied.folder / "records" / "shop", copied.folder / "records" / "other")
    (record,) = (copied.folder / "records" / "other").iterdir()
    record.write_text(record.read_text().replace('"name": "shop"', '"name": "other"'))
    at = ("--repository", copied.url)
    assert guard("show", "latest", *at).status == 1
    assert guard("show", "latest", *at, "--plan-name", "shop").status == 0
    assert len(guard("list", *at, "--json").document["backups"]) == 2
    plan = tmp_path / "shop.toml"
    plan.write_text(PLAN.format(repository=copied.url, windows="daily 00:00-24:00"))
    assert len(guard("list", "--plan", str(plan), "--json").document["backups"]) == 1
    assert guard("show", "latest", "--plan", str(plan)).status == 0


def test_show_tells_all(guard: Guard, made: Made) -> None:
    """For people in sections; for programs the record as it is stored, with its parts only if asked for."""
    at = (made.record.backup_id, "--repository", made.url)
    said = guard("show", *at).out
    for expected in ("every transaction committed before", "commits during", "max rate", "system "):
        assert expected in said
    document = guard("show", *at, "--json").document
    assert set(document) == {*SUMMARY, "verification", "hold", "drill"}
    assert "parts" not in document["record"]
    with_parts = guard("show", *at, "--parts", "--json").document
    assert load_plain(BackupRecord, with_parts["record"]) == made.record
    assert "base.tar.zst" in guard("show", *at, "--parts").out


def test_a_backup_that_is_not_there(guard: Guard, made: Made) -> None:
    """Exit status 1, and where to look."""
    done = guard("show", "20200101T000000Z-0000", "--repository", made.url)
    assert done.status == 1
    assert "backup-guard list" in done.err


# --- verify


def test_verify_has_listings_remember(guard: Guard, tmp_path: Path) -> None:
    """After many were verified, the first listing of all reads what is remembered of them, and not each."""
    repository = open_repository(tmp_path.as_uri())
    now = datetime.now(timezone.utc)
    for number in range(20):
        store_backup(repository, now - timedelta(days=number), verdict=None)
    guard("verify", "--all", "--level", "stored", "--repository", tmp_path.as_uri())
    (memory,) = repository.list("catalog/")
    with repository.reader(memory.key) as stored:
        assert len(json.load(stored)["backups"]) == 20


def test_verify_names_what_is_damaged(guard: Guard, copied: Made) -> None:
    """Exit status 0 for a sound backup; for a damaged one 1, with the state of each object that is not as it was."""
    at = ("verify", "latest", "--repository", copied.url)
    sound = guard(*at)
    assert sound.status == 0
    assert "is verified: every byte" in sound.out
    segment = next((copied.folder / "backups").rglob("wal/*.zst"))
    segment.unlink()
    done = guard(*at)
    assert done.status == 1
    assert "DAMAGED" in done.out
    assert f"wal/{segment.name}" in done.out
    document = guard(*at, "--json").document
    assert document["verdict"] == "damaged"
    assert {"backup_id", "plan_name", "verdict", "objects", "checks", "problems", "seconds"} <= set(document)
    assert any("missing" in problem for problem in document["problems"])


def test_verify_looks_as_far_as_it_is_asked(guard: Guard, copied: Made) -> None:
    """The exit status is 0 if the level is reached; what was read lately is read again only if that is wanted."""
    at = ("--repository", copied.url)
    stored = guard("verify", "latest", "--level", "stored", *at)
    assert stored.status == 0
    assert "is stored: every object is there" in stored.out
    assert guard("verify", "latest", "--level", "readable", *at).status == 0
    for options, share in (((), 1), ((), 0), (("--max-age", "0s"), 1), (("--full", "--max-rate", "1GB/s"), 1)):
        document = guard("verify", "latest", *options, *at, "--json").document
        assert (document["level"], document["verdict"]) == ("consistent", "verified")
        assert document["bytes_read"] == share * copied.record.stored_size
    assert "--full reads all of it again" in " ".join(guard("verify", "latest", *at).out.split())
    shown = guard("show", "latest", *at).out
    assert "consistent ok" in shown
    assert "restored unknown no drill" in shown


def test_verify_all_names_the_bad_among_the_good(guard: Guard, copied: Made) -> None:
    """A deleted folder and a record that is none are told; the others are verified all the same."""
    at = ("--repository", copied.url)
    assert guard("verify", "--all", *at).status == 0
    text = json.dumps(json.loads((copied.folder / "records/shop" / f"{copied.record.backup_id}.json").read_text()))
    for other in ("20200101T000000Z-0000", "20200102T000000Z-0000"):
        moved = text.replace(copied.record.backup_id, other)
        (copied.folder / "records/shop" / f"{other}.json").write_text(moved if "02T" in other else text)
    done = guard("verify", "--all", *at, "--json")
    assert done.status == 1
    verdicts = {found["backup_id"]: found["verdict"] for found in done.document["verifications"]}
    assert verdicts == {"20200102T000000Z-0000": "damaged", copied.record.backup_id: "verified"}
    (unreadable,) = done.document["unreadable"]
    assert f"is the record of backup {copied.record.backup_id}" in unreadable["message"]
    said = guard("verify", "--all", *at).out
    assert "nothing is left under backups/shop/20200102T000000Z-0000/" in " ".join(said.split())


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["latest", "--all"],
        ["latest", "--level", "restored"],
        ["latest", "--max-age", "7"],
        ["latest", "--max-rate", "5"],
    ],
    ids=["nothing", "both", "level", "age", "rate"],
)
def test_verify_says_what_it_does_not_take(guard: Guard, made: Made, options: list[str]) -> None:
    """Exit status 2, and what is allowed."""
    done = guard("verify", *options, "--repository", made.url)
    assert done.status == 2
    assert re.search("Give an id|invalid choice|Allowed", done.err)


# --- restore


def test_a_restore_refuses_a_folder_with_anything_in_it(guard: Guard, made: Made, tmp_path: Path) -> None:
    """Exit status 1, and what was there stays."""
    (tmp_path / "precious").write_text("data")
    done = guard("restore", "latest", "--repository", made.url, "--to", str(tmp_path), "--json")
    assert done.status == 1
    assert done.document["error"]["type"] == "RestoreRefused"
    assert (tmp_path / "precious").read_text() == "data"


def test_a_restore_that_was_cut_off_resumes(guard: Guard, made: Made, tmp_path: Path) -> None:
    """Without --resume it is refused and says how; with it, what stood already is told."""
    stop = Stop()
    largest = max(part.content_size for part in made.record.parts)
    with pytest.raises(BackupStopped):
        restore(
            made.record,
            open_repository(made.url),
            tmp_path / "data",
            workers=1,
            resume=True,
            stop=stop,
            on_progress=lambda done, total: done > largest and stop.request("seen enough"),
        )
    at = ("restore", made.record.backup_id, "--repository", made.url, "--to", str(tmp_path / "data"))
    refused = guard(*at)
    assert refused.status == 1
    assert "Resume it (--resume)" in refused.err
    done = guard(*at, "--resume", "--json")
    assert done.status == 0
    assert done.document["kept_size"] >= largest
    assert done.document["read_size"] < sum(part.size for part in made.record.parts)


def test_a_restore_warns_of_configuration_files_elsewhere(guard: Guard, copied: Made, tmp_path: Path) -> None:
    """What was not in the data directory is not in the backup, and whoever starts the server must know."""
    shutil.rmtree(copied.folder / "verifications", ignore_errors=True)  # another test may have verified it
    record = next((copied.folder / "records").rglob("*.json"))
    values = json.loads(record.read_text())
    values["snapshot"]["warnings"] = ["configuration files: /etc/postgresql.conf lies outside.", "slot WAL limit: no."]
    record.write_text(json.dumps(values))
    done = guard("restore", "latest", "--repository", copied.url, "--to", str(tmp_path / "data"), "--json")
    assert done.document["warnings"] == [
        f"backup {copied.record.backup_id} was never verified",
        "configuration files: /etc/postgresql.conf lies outside.",
    ]
    assert set(done.document) == {
        *("backup_id", "plan_name", "target", "owner", "seconds", "postgresql_major", "start", "warnings"),
        *("ended_at", "started", "read_size", "kept_size"),
    }
    assert (
        "/etc/postgresql.conf"
        in guard("restore", "latest", "--repository", copied.url, "--to", str(tmp_path / "again")).out
    )


def test_tablespaces_go_where_they_are_mapped(
    guard: Guard, new_server: Callable[..., LocalServer], role_dsn: Callable[..., str], cluster_folder: Path
) -> None:
    """``--tablespace-mapping`` reads paths as pg_basebackup does, an = in them included."""
    server = new_server()
    space = cluster_folder / "a=b"
    space.mkdir()
    account_for(server.data_directory).own(space)
    server.sql(f"CREATE TABLESPACE odd LOCATION '{space}'; CREATE TABLE t (n int) TABLESPACE odd")
    plan = plan_for(cluster_folder / "backups")
    back_up(plan, role_dsn(server))
    new = cluster_folder / "new"
    mapping = f"{str(space).replace('=', chr(92) + '=')}={new}"
    at = ("--repository", plan.repository, "--to", str(cluster_folder / "data"))
    assert guard("restore", "latest", *at).status == 1  # the old place is in use
    done = guard("restore", "latest", *at, "--tablespace-mapping", mapping)
    assert done.status == 0, done.err
    assert any(new.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_restores_for_the_user_that_runs_postgresql(guard: Guard, made: Made, tmp_path: Path) -> None:
    """The owner of the folder, or --owner, and else root, with the command that gives the files away."""
    nobody = pwd.getpwnam("nobody")
    (tmp_path / "owned").mkdir()
    os.chown(tmp_path / "owned", nobody.pw_uid, nobody.pw_gid)
    for target, options, owner in (
        ("owned", (), "nobody"),
        ("named", ("--owner", "nobody"), "nobody"),
        ("numbered", ("--owner", str(nobody.pw_uid)), "nobody"),
        ("rooted", (), "root"),
    ):
        done = guard("restore", "latest", "--repository", made.url, "--to", str(tmp_path / target), *options)
        assert done.status == 0
        assert f"{owner}, " in done.out
        assert (tmp_path / target / "global" / "pg_control").owner() == owner
        assert ("chown -R USER" in done.out) is (owner == "root")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_only_root_gives_files_to_others(guard: Guard, made: Made, tmp_path: Path) -> None:
    """--owner is refused before anything is written, unless it is oneself."""
    at = ("restore", "latest", "--repository", made.url, "--to", str(tmp_path / "data"))
    assert guard(*at, "--owner", "root").status == 2
    assert not (tmp_path / "data").exists()
    assert guard(*at, "--owner", pwd.getpwuid(os.geteuid()).pw_name).status == 0


# --- wrong use


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["list"],
        ["check"],
        ["check", "--dsn", "host"],
        ["check", "--dsn", "host=h", "--load-dsn", "host"],
        ["check", "--dsn", "host=h", "--load-dsn", "postgresql://me:my@secret@host/db"],
        ["check", "--dsn", "postgresql://me:my/secret@host/db"],
        ["check", "--dsn", "postgresql://me:my@secret@host/db"],
        ["check", "--dsn", "host=h", "password=secret"],
        ["backup", "--dsn", "host=h"],
        ["backup", "--dsn", "host=h", "--repository", "ftp://me:secret@host"],
        ["backup", "--dsn", "host=h", "--repository", "file:///r", "--max-rate", "50"],
        ["backup", "--dsn", "host=h", "--repository", "file:///r", "--min-rate", "200MB/s"],
        ["backup", "--dsn", "host=h", "--repository", "file:///r", "--level", "high"],
        ["backup", "--dsn", "host=h", "--repository", "file:///r", "--level", "20"],
        ["backup", "--dsn", "host=h", "--repository", "file:///r", "--recipient", "ssh-ed25519"],
        ["backup", "--dsn", "host=h", "--repository", "file:///r", "--checkpoint", "slow"],
        ["list", "--repository", "file:///r", "--plan-name", "A B"],
        ["list", "--repo", "file:///r"],
        ["show", "--repository", "file:///r"],
        ["verify", "latest", "--repository", "file:///r", "--identity", "/nowhere"],
        ["restore", "latest", "--repository", "file:///r"],
        ["restore", "latest", "--repository", "file:///r", "--to", "/d", "--owner", "no-such-user"],
        ["restore", "latest", "--repository", "file:///r", "--to", "/d", "--tablespace-mapping", "/a"],
    ],
    ids=" ".join,
)
def test_wrong_use(guard: Guard, arguments: list[str]) -> None:
    """Exit status 2, one message with a remedy, the same as JSON, and never a word of a password."""
    done = guard(*arguments)
    assert done.status == 2
    assert done.out == ""
    assert done.err.startswith("backup-guard: ")
    assert len(done.err.splitlines()) == 2
    as_json = guard(*arguments, "--json")
    assert as_json.status == 2
    error = as_json.document["error"]
    assert set(error) == {"type", "message", "remedy", "retryable"}
    assert error["remedy"]
    assert "secret" not in done.err + as_json.out


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (None, "No such file"),
        ('name = "shop"\nmax_rate = 5O\n', "line 2"),
        ("name = 'shop'\nrepository = 'file:///r'\nmax_rate = '50'\n[calendar]\nwindows = 'x'\ntz = 'UTC'", "line 4"),
        (PLAN.format(repository="file:///r", windows="Mon 25:00-26:00"), "line 7"),
        (PLAN.format(repository="file:///r", windows="Mon 01:00-02:00").replace("400", "9000", 1), "line 4, max_rate"),
        ("colour = 'red'\n" + PLAN.format(repository="file:///r", windows="Mon 01:00-02:00"), "line 1, colour"),
        (PLAN.format(repository="file:///r", windows="Mon 01:00-02:00") + "[limits]\ncommit_latency = 5", "line 11"),
        ("name = 'shop'", "repository"),
        (b"\xff", "UTF-8"),
    ],
)
def test_a_broken_plan_file(guard: Guard, tmp_path: Path, content: str | bytes | None, where: str) -> None:
    """Exit status 2, with the file, the line if there is one, and what is allowed."""
    plan = tmp_path / "plan.toml"
    if content is not None:
        plan.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = guard("list", "--plan", str(plan))
    assert done.status == 2
    assert str(plan) in done.err
    assert where in done.err


def test_a_broken_identity_file_is_not_shown(guard: Guard, made: Made, tmp_path: Path) -> None:
    """Its line is named, and not what is in it."""
    (tmp_path / "key").write_text("# fine\nAGE-SECRET-KEI-1XYZ\n")
    done = guard("verify", "latest", "--repository", made.url, "--identity", str(tmp_path / "key"))
    assert done.status == 2
    assert "line 2" in done.err
    assert "XYZ" not in done.err


def test_help_and_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command says what it does, with an example, in 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    for arguments in ((), *((name,) for name in ("check", "backup", "list", "show", "verify", "restore"))):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--help"])
        said = capsys.readouterr().out
        assert ended.value.code == 0
        assert "example:\n" in said
        assert max(map(len, said.splitlines())) < 80
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"airflow-backup-guard {__version__}\n"


def test_passwords_stay_unsaid(guard: Guard, server: LocalServer, role_dsn: Callable[..., str], made: Made) -> None:
    """A refused password is in no message, table or JSON, whether it was given in a DSN or a URI."""
    dsn = role_dsn(server, "guard", password="hush-hush")
    uri = f"postgresql://guard:hush-hush@127.0.0.1:{server.port}/postgres"
    for given in (dsn, uri):
        for arguments in (("check",), ("backup", "--repository", made.url, *FAST)):
            for extra in ((), ("--json",)):
                done = guard(*arguments, "--dsn", given, *extra)
                assert done.status == 1
                assert "password authentication" in done.out + done.err
                assert "hush" not in done.out + done.err


def test_an_airflow_connection_in_the_url_means_boto3s_own_credentials(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recovery works where Airflow and its connections do not."""
    access = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in access.items():
        monkeypatch.setenv(name, value)
    service = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    service.start()
    try:
        host, port = service.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        boto3.client("s3").create_bucket(Bucket="bucket")
        done = guard("list", "--repository", "s3://aws_default@bucket/prefix", "--json")
    finally:
        service.stop()
    assert done.status == 0, done.out
    assert done.document == {"repository": "s3://bucket/prefix", "backups": [], "unreadable": []}


def test_a_reader_that_leaves_early_is_no_crash(made: Made) -> None:
    """``backup-guard list | head`` ends without a traceback."""
    read, write = os.pipe()
    os.close(read)
    try:
        run = subprocess.run(
            command("list", "--repository", made.url), stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(write)
    assert (run.returncode, run.stderr) == (1, "")


# --- signals


@pytest.fixture
def start(guard_dsn: str, repository: str) -> Iterator[Callable[[Sequence[str]], subprocess.Popen[str]]]:
    """``start(SLOW)``: a backup as a process; killed at the end if it is still there."""
    processes: list[subprocess.Popen[str]] = []

    def begin(options: Sequence[str]) -> subprocess.Popen[str]:
        arguments = command("backup", "--repository", repository, "--plan-name", "shop", *options)
        process = subprocess.Popen(
            arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "BACKUP_GUARD_DSN": guard_dsn},
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_in_mid_copy_leaves_nothing(
    server: LocalServer, repository: str, start: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    """Exit status 1 and the reason; no record, no part, no session and no slot."""
    process = start((*SLOW, "--json"))
    wait_until(lambda: copying(server), 20)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    error = json.loads(out)["error"]
    assert error["type"] == "BackupStopped"
    assert "Traceback" not in err
    assert_nothing_left(server, open_repository(repository), wait_until)


def between_baseline_and_checkpoint(server: LocalServer) -> bool:
    """The cluster is held, and no base backup runs yet."""
    return slots(server) == 1


def after_the_last_byte(server: LocalServer) -> bool:
    """The cluster is held, and the base backup has ended."""
    wait_until(lambda: copying(server), 20)
    wait_until(lambda: not copying(server), 20)
    return slots(server) == 1


@pytest.mark.parametrize(
    ("moment", "rate"),
    [(between_baseline_and_checkpoint, "4MB/s"), (copying, "4MB/s"), (after_the_last_byte, "40MB/s")],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_kill_9_leaves_the_database_as_it_was(
    server: LocalServer,
    guard: Guard,
    guard_dsn: str,
    tmp_path: Path,
    repository: str,
    start: Callable[..., subprocess.Popen[str]],
    moment: Callable[[LocalServer], bool],
    rate: str,
) -> None:
    """At once no session and no slot, and never a visible backup; the next backup works and sweeps what was stored."""
    process = start(("--checkpoint", "fast", "--max-rate", rate, "--min-rate", rate))
    wait_until(lambda: moment(server), 20)
    process.kill()
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGKILL
    wait_until(lambda: sessions(server) == 0 and slots(server) == 0, 20)
    assert guard("list", "--repository", repository, "--json").document["backups"] == []
    record = back_up(plan_for(tmp_path / "backups"), guard_dsn)
    found = open_repository(repository)
    assert {item.key.split("/")[2] for item in found.list("backups/")} == {record.backup_id}
    assert found.abort_writes("") == 0
    assert guard("verify", "latest", "--repository", repository).status == 0
