"""Load recorded from real servers, kept in real repositories by many at once, and what the commands say of it."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import psycopg
import pytest

from airflow_backup_guard.cli import main
from airflow_backup_guard.core import OffPeakCalendar
from airflow_backup_guard.core.hours import learn
from airflow_backup_guard.core.hours_report import HoursReport
from airflow_backup_guard.core.load_history import (
    KEEP_DAYS,
    LOAD_SIGNALS,
    Counters,
    LoadEntry,
    load_prefix,
    packed,
    packed_key,
)
from airflow_backup_guard.core.quiet_hours import advise
from airflow_backup_guard.core.signals import SIGNALS
from airflow_backup_guard.core.window_drift import standing
from airflow_backup_guard.engine import load_history
from airflow_backup_guard.engine.load_history import read, record, store, tidy
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.errors import BackupStopped, InvalidPlan, RepositoryUnavailable
from airflow_backup_guard.postgres.load_counters import read_counters
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.codec import EncodingWriter
from airflow_backup_guard.repository.local import LocalRepository
from airflow_backup_guard.repository.memory import MemoryRepository
from tests.integration.guarded import CopyInFlight, back_up, plan_for, sessions
from tests.integration.test_docs import TOP, blocks, run_shell
from tests.load_weeks import BATCH, NOW, Activity, record_weeks, shop, shop_whose_batch_moved

RoleDsn = Callable[..., str]
SHORT = 2.0
DAY = timedelta(days=1)
TZ = "America/Los_Angeles"


def entries_of(days: Iterable[datetime], each: int = 3) -> list[LoadEntry]:
    """Some entries a day, told apart by their WAL."""
    return [
        LoadEntry(day + n * timedelta(minutes=5), {"wal_rate": float(n)}, {}, Counters("one", float(n), None), False)
        for day in days
        for n in range(each)
    ]


def fill(repository: Repository, plan: str, entries: Iterable[LoadEntry]) -> None:
    """Put entries where packed ones lie."""
    by_day: dict[str, list[bytes]] = {}
    for one in entries:
        by_day.setdefault(f"{one.at:%Y%m%d}", []).append(one.to_line())
    for day, lines in by_day.items():
        content = packed(lines)
        with EncodingWriter(repository.writer(packed_key(plan, day, content))) as writer:
            writer.write(content)
            writer.commit()


def keys(repository: Repository) -> list[str]:
    """All that lies there."""
    return [info.key for info in repository.list("load/")]


@pytest.fixture(params=["memory", "folder"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    """An empty one of each kind."""
    return MemoryRepository() if request.param == "memory" else LocalRepository(tmp_path / "backups")


# Recording


def test_an_entry_of_a_real_server(any_server: LocalServer, role_dsn: RoleDsn) -> None:
    """On every version the load is known, the counters are those of this server, no backup runs, no session stays."""
    repository = MemoryRepository()
    one = record(role_dsn(any_server), repository, "shop", seconds=SHORT, stop=Stop())
    assert set(LOAD_SIGNALS) <= set(one.values)
    assert not one.unknown
    assert one.backup is False
    assert one.counters is not None
    assert one.counters.wal > 0
    assert one.counters.commits is not None
    assert read(repository, "shop") == [one]
    assert sessions(any_server) == 0


def test_a_role_without_any_grant_is_enough(server: LocalServer, role_dsn: RoleDsn) -> None:
    """What counts as load is what every role may see, a backup by another role among it."""
    one = record(role_dsn(server, "plain"), MemoryRepository(), "shop", seconds=SHORT, stop=Stop())
    assert not one.unknown
    assert one.counters is not None
    assert read_counters(role_dsn(server, "plain"))[1] is False
    with psycopg.connect(role_dsn(server, application_name="backup_guard/20261123T090000Z-a98c")):
        assert read_counters(role_dsn(server, "plain"))[1] is True


def test_the_counters_have_what_was_written_between(server: LocalServer, guard_dsn: str) -> None:
    """Bytes of WAL, though nobody sampled while they were written."""
    before, _ = read_counters(guard_dsn)
    server.sql("CREATE TABLE written AS SELECT repeat('x', 500) AS x FROM generate_series(1, 20000)")
    server.sql("DROP TABLE written")
    after, _ = read_counters(guard_dsn)
    assert after.origin == before.origin
    assert after.wal - before.wal > 10e6


def test_commits_that_are_not_counted_are_no_rest(new_server: Callable[..., LocalServer], role_dsn: RoleDsn) -> None:
    """Without track_counts they are missing, and do not stand still."""
    counters, _ = read_counters(role_dsn(new_server(settings={"track_counts": "off"})))
    assert counters.commits is None


def test_a_backup_that_runs_is_marked(server: LocalServer, guard_dsn: str, tmp_path: Path) -> None:
    """The recorder sees a real copy, and that it is one of ours."""
    server.sql("CREATE TABLE filler AS SELECT repeat('x', 500) AS x FROM generate_series(1, 60000)")
    try:
        plan = plan_for(tmp_path / "backups", max_rate="4MB/s", min_rate="4MB/s")
        with CopyInFlight(plan, guard_dsn):
            assert record(guard_dsn, MemoryRepository(), "shop", seconds=SHORT, stop=Stop()).backup is True
    finally:
        server.sql("DROP TABLE filler")


def test_a_server_that_is_gone_is_an_entry_that_is_not_quiet(
    new_server: Callable[..., LocalServer], role_dsn: RoleDsn
) -> None:
    """It is kept, with the reason, and says nothing of backups."""
    gone = new_server()
    dsn = role_dsn(gone)
    gone.stop()
    repository = MemoryRepository()
    one = record(dsn, repository, "shop", seconds=SHORT, stop=Stop())
    assert set(one.unknown) == {"wal_rate", "commit_latency"}
    assert one.backup is None
    assert read(repository, "shop") == [one]


def test_a_recorder_that_is_stopped_keeps_nothing(guard_dsn: str) -> None:
    """It ends at once, and is no success."""
    repository, stop = MemoryRepository(), Stop()
    stop.request("the test says so")
    with pytest.raises(BackupStopped):
        record(guard_dsn, repository, "shop", seconds=60, stop=stop)
    assert keys(repository) == []
    with pytest.raises(InvalidPlan, match="300"):
        record(guard_dsn, repository, "shop", seconds=301, stop=Stop())


# Keeping


def test_days_are_packed_and_bounded(repository: Repository) -> None:
    """Of a year, the newest half stays, one small object a day; today's entries are as they came."""
    today = datetime(2026, 11, 23, tzinfo=timezone.utc)
    days = [today - n * DAY for n in range(365)]
    fill(repository, "shop", entries_of(days[2:]))
    loose = entries_of(days[:2])
    for one in loose:
        store(repository, "shop", one)
    tidy(repository, "shop", today.date())
    left = keys(repository)
    assert len(left) == KEEP_DAYS - 1 + 3
    assert {key for key in left if key.endswith(".json")} == {
        key for key in left if key.startswith("load/shop/20261123")
    }
    assert [one.at for one in read(repository, "shop")] == sorted(one.at for one in entries_of(days[:KEEP_DAYS]))
    tidy(repository, "shop", today.date())
    assert keys(repository) == left
    assert read(repository, "shop", (today - 2 * DAY).date()) == sorted(entries_of(days[:3]), key=lambda one: one.at)


def test_a_wrong_clock_removes_nothing_good(repository: Repository) -> None:
    """A recorder that believes in 2099 costs a day, and not half a year."""
    days = [datetime(2026, 11, 23, tzinfo=timezone.utc) - n * DAY for n in range(100)]
    fill(repository, "shop", entries_of(days))
    store(repository, "shop", LoadEntry(datetime(2099, 1, 1, tzinfo=timezone.utc)))
    tidy(repository, "shop", datetime(2099, 1, 1).date())
    assert len(read(repository, "shop")) == 301


def test_a_day_with_very_many_entries_is_packed_before_it_is_over(repository: Repository) -> None:
    """So that reading stays cheap."""
    today = datetime(2026, 11, 23, tzinfo=timezone.utc)
    some = entries_of([today], 100)
    for one in some:
        store(repository, "shop", one)
    tidy(repository, "shop", today.date())
    assert len(keys(repository)) == 1
    assert read(repository, "shop") == some


def test_many_recorders_at_once_lose_nothing(repository: Repository) -> None:
    """Six record and pack the same days at once, while one reads: it never sees less than before; all is there once."""
    days = [datetime(2026, 11, 1, tzinfo=timezone.utc) + n * DAY for n in range(4)]
    parts = [entries_of([day + timedelta(seconds=part) for day in days], 8) for part in range(6)]
    failures: list[Exception] = []
    done = threading.Event()

    def recorder(some: list[LoadEntry]) -> None:
        try:
            for one in some:
                store(repository, "shop", one)
                tidy(repository, "shop", datetime(2026, 11, 23).date())
        except Exception as error:
            failures.append(error)

    def reader() -> None:
        last = 0
        while not done.is_set():
            try:
                now = len(read(repository, "shop"))
                assert now >= last, (now, last)
                last = now
            except Exception as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=recorder, args=(some,)) for some in parts]
    watching = threading.Thread(target=reader)
    for thread in [*threads, watching]:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watching.join()
    assert not failures, failures
    for _ in days:
        tidy(repository, "shop", datetime(2026, 11, 23).date())
    assert read(repository, "shop") == sorted((one for some in parts for one in some), key=lambda one: one.at)
    assert len(keys(repository)) == len(days)


class Broken(MemoryRepository):
    """Fails at the n-th request that changes something, and at all after it."""

    def __init__(self, requests: int) -> None:
        super().__init__()
        self.left = requests

    def _spend(self) -> None:
        if self.left == 0:
            raise RepositoryUnavailable("It is gone.")
        self.left -= 1

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> Any:
        self._spend()
        return super().put(key, data, if_absent=if_absent)

    def delete_all(self, keys: Iterable[str]) -> None:
        for key in list(keys):
            self._spend()
            super().delete_all([key])


@pytest.mark.parametrize("requests", range(9))
def test_packing_that_dies_at_any_request_loses_nothing(requests: int) -> None:
    """Whatever was done until then, what is read is the same, and the next one packs the rest."""
    repository = Broken(1000)
    some = entries_of([datetime(2026, 11, 1, tzinfo=timezone.utc)], 7)
    for one in some:
        store(repository, "shop", one)
    repository.left = requests
    if requests < 8:
        with pytest.raises(RepositoryUnavailable):
            tidy(repository, "shop", datetime(2026, 11, 23).date())
    repository.left = 1000
    assert read(repository, "shop") == some
    tidy(repository, "shop", datetime(2026, 11, 23).date())
    assert read(repository, "shop") == some
    assert len(keys(repository)) == 1


def test_what_is_damaged_is_left_and_not_known(repository: Repository, caplog: pytest.LogCaptureFixture) -> None:
    """Neither reading nor packing ends at it; it is named, and stays for a person to see."""
    days = [datetime(2026, 11, day, tzinfo=timezone.utc) for day in (1, 2)]
    bad = packed_key("shop", "20261101", b"other")
    repository.put(bad, b"no zstd frame")
    repository.put("load/shop/README.txt", b"somebody else's")
    fill(repository, "shop", entries_of(days[:1]))
    for one in entries_of(days[1:]):
        store(repository, "shop", one)
    repository.put("load/shop/20261102T000000Z-0000.json", b"{")
    tidy(repository, "shop", datetime(2026, 11, 23).date())
    assert read(repository, "shop") == entries_of(days)
    assert bad in caplog.text
    left = keys(repository)
    assert bad in left
    assert "load/shop/README.txt" in left
    assert not [key for key in left if re.search(r"20261102T.*json", key)]


def test_months_are_small(tmp_path: Path) -> None:
    """Half a year of entries with every signal, all of it noise, every five minutes, takes less than ten megabytes."""
    repository = LocalRepository(tmp_path / "backups")
    noise = Random(1)
    names = [*SIGNALS, "one_more"]
    some = [
        replace(one, values={name: float(f"{noise.lognormvariate(5, 2):.4g}") for name in names})
        for one in record_weeks(1, lambda local: Activity(noise.uniform(1e5, 1e7), noise.uniform(1, 1e3)))
    ]
    fill(repository, "shop", some)
    size = sum(info.size for info in repository.list("load/"))
    assert size * 26 < 10e6, size / 7


# The commands


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BACKUP_GUARD_DSN", "BACKUP_GUARD_REPOSITORY", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def guard(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """``guard("hours", "--json")``: status, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        written = capsys.readouterr()
        return status, written.out, written.err

    return run


Guard = Callable[..., tuple[int, str, str]]


@pytest.fixture
def recorded(tmp_path: Path) -> str:
    """URL of a repository with eight weeks of a shop whose batch has moved into Tuesday night, up to now."""
    repository = LocalRepository(tmp_path / "recorded")
    until = datetime.now(timezone.utc).replace(second=0, microsecond=0)

    def habits(local: datetime) -> Activity:
        moved = local > until - timedelta(weeks=3) and local.weekday() == 1 and local.hour == 2
        return BATCH if moved else shop(local)

    fill(repository, "shop", record_weeks(8, habits, until=until))
    return repository.url


def test_record_and_look(server: LocalServer, guard_dsn: str, tmp_path: Path, guard: Guard) -> None:
    """One command keeps an entry, the other says that it is too little to propose anything."""
    (tmp_path / "backups").mkdir()
    at = ("--repository", (tmp_path / "backups").as_uri(), "--plan-name", "shop")
    status, out, _ = guard("record-load", "--dsn", guard_dsn, *at, "--for", "1s")
    assert status == 0
    assert "commit latency" in out
    status, out, _ = guard("record-load", "--dsn", guard_dsn, *at, "--for", "1s", "--json")
    document = json.loads(out)
    assert document["plan_name"] == "shop"
    assert set(LOAD_SIGNALS) <= set(document["values"])
    status, out, _ = guard("hours", *at)
    assert status == 0
    assert "No window is proposed" in out
    assert "2 entries" in out


def test_hours_of_nothing(tmp_path: Path, guard: Guard) -> None:
    """It says what to do, in both forms."""
    at = ("--repository", (tmp_path / "backups").as_uri())
    status, out, _ = guard("hours", *at)
    assert status == 1
    assert "No load of plan default is recorded" in out
    assert "record-load" in out
    status, out, _ = guard("hours", *at, "--json")
    assert (status, json.loads(out)["entries"]) == (1, 0)


def test_a_database_that_cannot_be_measured(tmp_path: Path, guard: Guard) -> None:
    """The status is bad, and it is kept as unknown."""
    at = ("--repository", (tmp_path / "backups").as_uri())
    status, out, _ = guard("record-load", "--dsn", "host=127.0.0.1 port=1", *at, "--for", "1s")
    assert status == 1
    assert "unknown" in out
    assert "will not count as quiet" in out
    assert json.loads(guard("hours", *at, "--json")[1])["failed"] == 1


def test_the_week_in_text_json_and_picture(recorded: str, tmp_path: Path, guard: Guard) -> None:
    """A proposal that can be pasted, rows that fit, with colour and without the same; a picture that parses."""
    at = ("hours", "--repository", recorded, "--plan-name", "shop", "--tz", TZ)
    picture = tmp_path / "week.svg"
    status, out, _ = guard(*at, "--picture", str(picture))
    assert status == 0
    assert 'OffPeakCalendar.parse("Mon,Wed-Sun 01:00-08:00; Tue 03:00-08:00", tz="America/Los_Angeles")' in out
    assert max(len(line) for line in out.splitlines() if "parse" not in line and "picture" not in line) <= 80
    assert "\x1b" not in out
    assert len(ElementTree.parse(picture).getroot()) > 336
    document = json.loads(guard(*at, "--json")[1])
    assert document["proposal"]["calendar"]["windows"] == "Mon,Wed-Sun 01:00-08:00; Tue 03:00-08:00"
    assert document["configured"] is None


def test_colours_change_nothing_else(recorded: str, guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its escape codes, the coloured week is the plain one."""
    at = ("hours", "--repository", recorded, "--plan-name", "shop", "--tz", TZ)
    plain = guard(*at)[1]
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = guard(*at)[1]
    assert "\x1b[" in coloured
    assert [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", coloured).splitlines()] == plain.splitlines()


def test_windows_of_the_plan_are_held_against_the_load(recorded: str, tmp_path: Path, guard: Guard) -> None:
    """Those of a plan file decide the exit status; the sentence names window, day and numbers."""
    plan = tmp_path / "shop.toml"
    text = 'name = "shop"\nrepository = "{}"\n[calendar]\nwindows = "{}"\ntz = "America/Los_Angeles"\n'
    plan.write_text(text.format(recorded, "daily 02:00-05:00"))
    status, out, _ = guard("hours", "--plan", str(plan))
    assert status == 1
    assert "Your 02:00 window is no longer quiet on Tuesdays from 02:00 to 03:00:" in " ".join(out.split())
    plan.write_text(text.format(recorded, "daily 03:00-05:00"))
    status, out, _ = guard("hours", "--plan", str(plan))
    assert status == 0
    assert "Your windows, daily 03:00-05:00, are quiet." in out


def test_without_a_plan_the_newest_backup_has_the_windows(guard_dsn: str, tmp_path: Path, guard: Guard) -> None:
    """Each backup keeps the plan that it was made under, its time zone among it."""
    until = datetime.now(timezone.utc).replace(microsecond=0)
    hour = until.astimezone(ZoneInfo(TZ)).replace(minute=0)
    window = f"daily {hour - timedelta(hours=1):%H:%M}-{hour + timedelta(hours=4):%H:%M}"
    plan = plan_for(tmp_path / "backups", calendar=OffPeakCalendar.parse(window, tz=TZ))
    fill(open_repository(plan.repository), "shop", record_weeks(4, lambda local: BATCH, until=until))
    back_up(plan, guard_dsn)
    status, out, _ = guard("hours", "--repository", plan.repository, "--plan-name", "shop")
    assert status == 1
    assert "by the clock of America/Los_Angeles" in " ".join(out.split())
    assert f"Your {window[6:11]} window is not quiet every day from" in " ".join(out.split())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tz", "Mars/Olympus"], "time zone"),
        (["--weeks", "99"], "1 to 26"),
        (["--weeks", "x"], "--weeks"),
        (["--quiet-below", "1.5"], "--quiet-below"),
        (["--at-least", "2"], "--at-least"),
        (["--at-least", "25h"], "24h"),
        (["--picture", "/nowhere/at/all.svg"], "--picture"),
    ],
)
def test_wrong_use_is_told(recorded: str, guard: Guard, options: list[str], said: str) -> None:
    """Status 2, and what is allowed."""
    status, out, err = guard("hours", "--repository", recorded, "--plan-name", "shop", *options)
    assert (status, out) == (2, "")
    assert said in err


# The page


def test_the_commands_of_the_page_run(guard_dsn: str, tmp_path: Path) -> None:
    """As they stand there."""
    (tmp_path / "backups").mkdir()
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "BACKUP_GUARD_DSN": guard_dsn,
        "BACKUP_GUARD_REPOSITORY": (tmp_path / "backups").as_uri(),
    }
    (record_it, look) = [code for _, code in blocks(TOP / "docs" / "hours.md", "sh")]
    assert "commit latency" in run_shell(record_it, environment, cwd=tmp_path)
    assert "No window is proposed" in run_shell(look, environment, cwd=tmp_path)
    assert (tmp_path / "week.svg").exists()


def test_the_example_of_the_page_is_what_is_said() -> None:
    """The week on the page is the report of the shop whose batch has moved, but for how its lines are broken."""
    week = learn(record_weeks(8, shop_whose_batch_moved), TZ, NOW)
    assert week is not None
    calendar = OffPeakCalendar.parse("daily 02:00-05:00", tz=TZ)
    report = HoursReport("shop", week, advise(week), calendar, standing(week, calendar))
    (shown,) = [code for _, code in blocks(TOP / "docs" / "hours.md", "text") if "Mon" in code and "Load of" in code]
    assert shown.split() == str(report).split()


def test_the_page_names_what_is_kept() -> None:
    """How long, and where."""
    page = (TOP / "docs" / "hours.md").read_text(encoding="utf-8")
    assert f"{KEEP_DAYS} days" in page
    assert load_prefix("shop") in page
    assert f"{load_history.SECONDS:.0f} seconds" in page
