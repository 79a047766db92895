"""What the check meets: sizes that take too long, names in other encodings, refusals in other languages."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.check import Check, CheckStatus
from airflow_backup_guard.engine.restore import restore
from airflow_backup_guard.engine.snapshot import check, take_snapshot
from airflow_backup_guard.errors import InvalidPlan, SourceBusy, SourceUnavailable, SourceUnsuitable
from airflow_backup_guard.postgres import connection as connection_module
from airflow_backup_guard.postgres.account import account_for
from airflow_backup_guard.postgres.check import preflight
from airflow_backup_guard.postgres.connection import connect, describe, parse_conninfo, translate
from airflow_backup_guard.postgres.server import LocalServer, available_majors
from airflow_backup_guard.repository import open_repository
from tests.conftest import SMALL, prepare
from tests.integration.guarded import back_up, plan_for

RoleDsn = Callable[..., str]
GERMAN = Path("/usr/share/locale/de/LC_MESSAGES/postgres-15.mo")


def found(checks: tuple[Check, ...], name: str) -> Check:
    """The one check of that name."""
    (check,) = [check for check in checks if check.name == name]
    return check


@pytest.fixture
def slow_sizes(server: LocalServer, role_dsn: RoleDsn, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A connection whose pg_database_size takes for ever, as it seems to over millions of files."""
    monkeypatch.setattr(connection_module, "STATEMENT_SECONDS", 2)
    server.sql(
        "CREATE SCHEMA slow; GRANT USAGE ON SCHEMA slow TO guard;"
        "CREATE FUNCTION slow.pg_database_size(oid) RETURNS int8 AS 'SELECT 1::int8 FROM pg_sleep(600)' LANGUAGE sql;"
    )
    try:
        yield role_dsn(server, options="-c search_path=slow,pg_catalog")
    finally:
        server.sql("DROP SCHEMA slow CASCADE")


def test_sizes_that_take_too_long_are_unknown_and_no_reason_to_go_without_a_backup(
    slow_sizes: str, tmp_path: Path
) -> None:
    """The check says so, as does the snapshot; nothing that rests on the size claims to be known."""
    plan = plan_for(tmp_path / "backups")
    readiness = check(plan, slow_sizes, open_repository(plan.repository))
    assert readiness.failed == []
    size = found(readiness.checks, "size")
    assert size.status is CheckStatus.WARNING
    assert "unknown" in size.detail
    assert "statement timeout" in size.detail
    assert found(readiness.checks, "forecast").status is CheckStatus.WARNING
    assert "fits into its repository" in size.remedy
    assert not any(check.name == "repository space" for check in readiness.checks)
    assert readiness.database.content is not None
    assert readiness.database.content.size is None
    snapshot = take_snapshot(plan, slow_sizes, open_repository(plan.repository))
    assert any(warning.startswith("size: ") for warning in snapshot.warnings)
    assert [database.name for database in snapshot.databases] == ["postgres", "template1"]


def test_sizes_are_those_of_the_files(server: LocalServer, guard_dsn: str) -> None:
    """All databases and what they share; each file counted once."""
    content = preflight(guard_dsn).content
    assert content is not None
    assert content.size is not None
    tablespaces = int(server.sql("SELECT sum(pg_tablespace_size(oid)) FROM pg_tablespace"))
    assert content.size == pytest.approx(tablespaces, rel=0.1)
    assert all(database.size > 1_000_000 for database in content.databases)


def test_a_statement_that_took_too_long_is_not_taken_for_a_network_fault(
    guard_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remedy is not to check host and port."""
    monkeypatch.setattr(connection_module, "STATEMENT_SECONDS", 1)
    with pytest.raises(SourceUnavailable, match="statement timeout") as caught, connect(guard_dsn) as connection:
        connection.execute("SELECT pg_sleep(600)")
    assert "host" not in caught.value.remedy


def test_names_that_are_not_utf8_are_shown_with_their_bytes(
    new_server: Callable[..., LocalServer], role_dsn: RoleDsn, tmp_path: Path, cluster_folder: Path
) -> None:
    """A database, a role and a tablespace that were created from a LATIN1 database; the backup is made and restored."""
    server = new_server()
    space = cluster_folder / "space"
    space.mkdir()
    account_for(server.data_directory).own(space)
    server.sql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    server.sql('CREATE DATABASE "café"', dbname="latin")
    server.sql(f"CREATE TABLESPACE \"spaßé\" LOCATION '{space}'", dbname="latin")
    plan = plan_for(tmp_path / "backups")
    record = back_up(plan, role_dsn(server))
    assert [d.name for d in record.snapshot.databases] == [r"caf\xe9", "latin", "postgres", "template1"]
    assert [t.name for t in record.snapshot.tablespaces] == [r"spa\xdf\xe9"]
    assert json.loads(backup.dump(record))["snapshot"]["databases"][0]["name"] == r"caf\xe9"
    mapping = {str(space): tmp_path / "space"}
    restore(record, open_repository(plan.repository), tmp_path / "data", tablespaces=mapping)
    # Whichever database is asked, a name is the same.
    content = preflight(role_dsn(server, dbname="latin")).content
    assert content is not None
    assert content.databases[0].name == r"caf\xe9"


def test_a_cluster_without_an_encoding_is_checked(role_dsn: RoleDsn) -> None:
    """SQL_ASCII means whatever bytes there are."""
    with LocalServer.create(settings=SMALL, initdb_options=("--encoding=SQL_ASCII",)) as server:
        prepare(server)
        server.sql('CREATE DATABASE "café"; CREATE DATABASE latin')
        name = r"convert_from('caf\351', 'SQL_ASCII')"
        server.sql(f"DO $$BEGIN EXECUTE format('ALTER DATABASE latin RENAME TO %I', {name}); END$$")
        content = preflight(role_dsn(server)).content
    assert content is not None
    assert [database.name for database in content.databases][:2] == ["café", r"caf\xe9"]


def test_a_tablespace_at_a_path_that_is_not_utf8_is_refused(
    new_server: Callable[..., LocalServer], role_dsn: RoleDsn, cluster_folder: Path
) -> None:
    """The record is JSON and cannot hold such a path unchanged, and a changed one is another place."""
    server = new_server()
    space = cluster_folder / os.fsdecode(b"caf\xe9")
    space.mkdir()
    account_for(server.data_directory).own(space)
    server.sql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    server.sql(f"CREATE TABLESPACE odd LOCATION '{cluster_folder}/café'", dbname="latin")
    for dbname in ("postgres", "latin"):
        result = preflight(role_dsn(server, dbname=dbname))
        refused = found(result.checks, "tablespaces")
        assert refused.status is CheckStatus.FAILED
        assert "not UTF-8" in refused.detail
        assert f"odd at {cluster_folder}/caf\\xe9" in refused.detail
        assert refused.remedy


class GermanServer(LocalServer):
    """A server that speaks German."""

    def _command(self, home: Path) -> list[str]:
        return [*super()._command(home), "-c", "lc_messages=C.UTF-8"]


def test_a_refusal_in_another_language_is_told_from_a_server_that_is_not_there(
    role_dsn: RoleDsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libpq gives no SQLSTATE for it: what cannot be told is not guessed, and names in it that are never translated
    are understood."""
    if 15 not in available_majors() or not GERMAN.exists():
        pytest.skip("no PostgreSQL here speaks another language")
    monkeypatch.setenv("LANGUAGE", "de")
    with GermanServer.create(major=15, settings=SMALL) as server:
        prepare(server)
        with pytest.raises(SourceUnavailable) as caught, connect(role_dsn(server, password="wrong")):
            pass
        assert "Passwort-Authentifizierung f" in caught.value.message
        assert "network" not in caught.value.remedy
        assert "The server answered and refused" in caught.value.remedy
        assert "user, password" in caught.value.remedy
        server.set_hba(["host all plain 127.0.0.1/32 scram-sha-256"])
        with pytest.raises(SourceUnsuitable) as unsuitable, connect(role_dsn(server)):
            pass
        assert "pg_hba.conf-Eintrag" in unsuitable.value.message
        assert "Add a line to pg_hba.conf" in unsuitable.value.remedy


@pytest.mark.parametrize(
    ("text", "kind", "remedy"),
    [
        ("FATAL:  password authentication failed for user »guard«", SourceUnsuitable, "Correct the user"),
        ('ВАЖНО:  пользователь "guard" не прошёл проверку подлинности', SourceUnavailable, "answered and refused"),
        ("치명적오류:  데이터베이스 시스템이 시작되고 있습니다", SourceUnavailable, "answered and refused"),
        ("FATAL:  the database system is starting up", SourceUnavailable, "Wait until the server"),
        ("FATAL:  Anzahl angeforderter Verbindungen überschreitet »max_wal_senders«", SourceBusy, "max_wal_senders"),
        ("FATAL:  kein pg_hba.conf-Eintrag für Host »127.0.0.1«", SourceUnsuitable, "Add a line to pg_hba.conf"),
        ("Connection refused\n\tIs the server running on that host?", SourceUnavailable, "Check host, port"),
        ("fe_sendauth: no password supplied", SourceUnsuitable, "Correct the user"),
    ],
)
def test_refusals_are_told_from_faults_in_any_language(text: str, kind: type[Exception], remedy: str) -> None:
    """Two blanks follow the severity that a server sends, whatever its language; libpq's own messages have none."""
    said = f'connection failed: connection to server at "127.0.0.1", port 5432 failed: {text}'
    error = translate("host=127.0.0.1 user=guard", psycopg.OperationalError(said))
    assert type(error) is kind
    assert remedy in error.remedy
    assert text.split("  ")[-1].split("\n")[0] in error.message


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://guard:pass@sec-ret@db.example/shop",
        "postgresql://guard:1234/sec-ret@db.example:5432/shop",
        "postgresql://guard:sec-ret/@db.example/shop",
        "postgres://guard:a@b/sec-ret@db.example",
        "postgresql://guard:sec-ret@:x@db.example",
        "host=db.example password=sec -ret",
        "host=db.example password='sec-ret",
    ],
)
def test_no_message_shows_a_part_of_a_password(dsn: str) -> None:
    """libpq takes what follows an @ or / in a password for a host, which every message would name."""
    for ask in (parse_conninfo, describe):
        with pytest.raises(InvalidPlan) as caught:
            ask(dsn)
        assert "sec" not in str(caught.value)
        assert "ret" not in str(caught.value)
        assert "1234" not in str(caught.value)
        assert "%40" in caught.value.remedy


@pytest.mark.parametrize(
    ("dsn", "place"),
    [
        ("postgresql://guard:p%40ss%2F@db.example/shop?application_name=a@b", "db.example:5432"),
        ("postgresql:///shop?host=/run/postgresql", "/run/postgresql:5432"),
        ("postgresql://guard:p?ss@one,two:5433/shop", "one,two:,5433"),
        ("host=@abstract password=a@b", "@abstract:5432"),
        ("", "the local socket:5432"),
    ],
)
def test_a_place_is_named_without_its_password(dsn: str, place: str) -> None:
    """Whatever is written as it should be is understood."""
    assert describe(dsn) == f"PostgreSQL at {place}"
