"""Calendars of others, read from files and from a server as they are found there."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pendulum
import pytest

from airflow_backup_guard.core import BackupPlan, OffPeakCalendar
from airflow_backup_guard.core.calendar import Because
from airflow_backup_guard.engine import ical
from airflow_backup_guard.engine.snapshot import take_snapshot
from airflow_backup_guard.errors import PreflightNotYet
from airflow_backup_guard.repository import open_repository
from tests.integration.guarded import CopyInFlight, plan_for

pytest.importorskip("icalendar")
pytest.importorskip("recurring_ical_events")

NOW = pendulum.datetime(2026, 11, 27, 23, tz="Europe/Berlin")
EVENT = (
    b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:test\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTAMP:20260101T000000Z\r\n"
    b"DTSTART:20261128T000000Z\r\nDURATION:PT1H\r\nSUMMARY:storage maintenance\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)


class Answers(BaseHTTPRequestHandler):
    """Answers by the path that is asked for."""

    def do_GET(self) -> None:
        if self.path == "/moved.ics":
            self._begin(302, ("Location", "/good.ics"))
        elif self.path == "/to-a-file.ics":
            self._begin(302, ("Location", "file:///etc/hostname"))
        elif self.path == "/short.ics":
            self._begin(200, ("Content-Length", str(len(EVENT) + 10)))
            self.wfile.write(EVENT)
        elif self.path == "/large.ics":
            self._begin(200)
            with_room = b"X-ROOM:" + b"x" * 60 + b"\r\n"
            for _ in range(200):
                self.wfile.write(with_room * 1000)
        elif self.path == "/slow.ics":
            self._begin(200)
            for letter in EVENT:
                self.wfile.write(bytes([letter]))
                self.wfile.flush()
                time.sleep(0.05)
        elif self.path in ("/good.ics", "/good.ics?token=secret"):
            self._begin(200)
            self.wfile.write(EVENT)
        else:
            self._begin(404)

    def _begin(self, status: int, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the output of the tests readable."""

    def finish(self) -> None:
        with suppress(OSError):  # who asked has hung up
            super().finish()


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """The address of a server of calendars."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as found:
        found.handle_error = lambda *_: None  # type: ignore[method-assign,assignment]
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


def read(url: str) -> OffPeakCalendar:
    """A calendar of nights whose one source was read."""
    return ical.read_sources(OffPeakCalendar.parse("daily 22:00-06:00", tz="Europe/Berlin", blackouts=[url]), NOW)


@pytest.mark.parametrize("path", ["/good.ics", "/good.ics?token=secret", "/moved.ics"])
def test_events_of_a_server_forbid(web: str, path: str) -> None:
    """They are cut out of the windows, also where the server sends us elsewhere."""
    calendar = read(web + path)
    assert calendar.contains(NOW)
    assert calendar.window_end(NOW) == NOW.add(hours=2)
    (closed,) = calendar.why_closed(NOW.add(hours=2))
    assert closed.because is Because.BLACKOUT
    assert closed.text == f"a blackout of {web}{path.partition('?')[0]} (storage maintenance)"
    assert calendar.contains(NOW.add(hours=3))


def test_events_of_a_file_forbid(tmp_path: Path) -> None:
    """A file is read afresh each time, spaces in its path are written as in any URL."""
    path = tmp_path / "our maintenance.ics"
    path.write_bytes(EVENT)
    url = path.as_uri()
    assert "%20" in url
    assert not read(url).contains(NOW.add(hours=2))
    path.write_bytes(EVENT.replace(b"DURATION:PT1H", b"STATUS:CANCELLED"))
    assert read(url).contains(NOW.add(hours=2))


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/none.ics", "its server answers 404 Not Found"),
        ("/to-a-file.ics", "its server answers 302"),
        ("/short.ics", "it cannot be reached: IncompleteRead"),
        ("/large.ics", "it is larger than 10 MB"),
    ],
)
def test_a_server_that_does_not_tell(web: str, path: str, problem: str) -> None:
    """What it forbids is not known, so nothing is permitted, and the reason is told."""
    calendar = read(web + path)
    assert not calendar.contains(NOW)
    (closed,) = calendar.why_closed(NOW)
    assert closed.because is Because.UNKNOWN
    assert f"it is not known what {web}{path} forbids: {problem}" in closed.text


def test_a_server_that_is_slow(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that sends a letter now and then does not hold the gate for ever."""
    monkeypatch.setattr(ical, "_PATIENCE", 0.5)
    began = time.monotonic()
    (closed,) = read(f"{web}/slow.ics").why_closed(NOW)
    assert "it takes more than" in closed.text
    assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://127.0.0.1:9/a.ics", "Connection refused"),
        ("file:///nowhere/a.ics", "No such file or directory"),
        ("file:///etc", "Is a directory"),
        ("file:///etc/hostname", "no proper iCalendar file"),
    ],
)
def test_a_source_that_is_not_there(url: str, problem: str) -> None:
    """The gate stays closed, and says why."""
    calendar = read(url)
    assert not calendar.contains(NOW)
    assert problem in str(calendar.why_closed(NOW)[0])


def test_a_plan_whose_sources_are_read(tmp_path: Path) -> None:
    """It stores as before; and a plan without sources is left as it is."""
    path = tmp_path / "a.ics"
    path.write_bytes(EVENT)
    source = OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC", blackouts=[path.as_uri()])
    plan = plan_for(tmp_path / "backups", calendar=source)
    assert not plan.calendar.contains(NOW)
    known = ical.with_sources_read(plan, NOW)
    assert known.calendar.contains(NOW)
    assert not known.calendar.contains(NOW + timedelta(hours=2))
    assert not known.calendar.contains(NOW + ical.PERIOD)
    assert known.to_dict() == plan.to_dict()
    simple = plan_for(tmp_path / "backups")
    assert ical.with_sources_read(simple, NOW) is simple


def event(path: Path, start: datetime) -> str:
    """URL of a calendar whose only event begins then, and lasts an hour."""
    path.write_bytes(EVENT.replace(b"20261128T000000Z", f"{start:%Y%m%dT%H%M%SZ}".encode()))
    return path.as_uri()


def test_a_backup_neither_begins_nor_goes_on_in_what_others_forbid(guard_dsn: str, tmp_path: Path) -> None:
    """The snapshot refuses by the title of the event, or because it is not known; the copy knows when one begins."""
    now = datetime.now(timezone.utc)

    def plan(source: str) -> BackupPlan:
        calendar = OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC", blackouts=[source])
        return plan_for(tmp_path / "backups", calendar=calendar, max_rate="8MB/s", min_rate="8MB/s")

    running = plan(event(tmp_path / "now.ics", now - timedelta(minutes=10)))
    repository = open_repository(running.repository)
    with pytest.raises(PreflightNotYet, match="storage maintenance"):
        take_snapshot(running, guard_dsn, repository)
    with pytest.raises(PreflightNotYet, match=r"gone\.ics"):
        take_snapshot(plan((tmp_path / "gone.ics").as_uri()), guard_dsn, repository)
    coming = (now + timedelta(hours=1)).replace(microsecond=0)
    with CopyInFlight(plan(event(tmp_path / "coming.ics", coming)), guard_dsn) as copying:
        assert copying.last is not None
        assert copying.last.window_end == coming
        copying.stop.request("seen enough")
        copying.end()
