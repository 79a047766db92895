"""The timetable in Airflow: its plugin, its stored form, years of its runs, and a run that the scheduler creates."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pendulum
import pytest

from airflow_backup_guard.core import OffPeakCalendar
from tests.acceptance.conftest import TOP, Airflow, scrubbed_environment

EXAMPLE = TOP / "dags" / "off_peak_schedule.py"
PAGE = TOP / "docs" / "timetable.md"

# Write each DAG of each file as Airflow's database would have it.
STORE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
stored = []
for file in sys.argv[1:]:
    bag = DagBag(file)
    assert not bag.import_errors, bag.import_errors
    stored.append([DagSerialization.to_dict(dag) for _, dag in sorted(bag.dags.items())])
print(json.dumps(stored))
"""
# Read each back in a process that has no DAG file, and ask for its runs as the scheduler and a backfill do.
RUNS = """
import json, logging, sys
import pendulum
logging.disable()
from airflow.serialization.serialized_objects import DagSerialization
assert "airflow_backup_guard.timetables" not in sys.modules
dags, begin, end = json.load(sys.stdin)
seen = []
for stored in dags:
    dag = DagSerialization.from_dict(stored)
    again = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    assert again.timetable == dag.timetable and hash(again.timetable) == hash(dag.timetable)
    info, planned = None, []
    while info := dag.next_dagrun_info(last_automated_run_info=info):
        assert info.data_interval == (info.run_after, info.run_after) and info.logical_date == info.run_after
        planned.append(info.run_after.isoformat())
    filled = dag.iter_dagrun_infos_between(pendulum.parse(begin), pendulum.parse(end))
    table = dag.timetable
    run_after = pendulum.datetime(2026, 6, 1, 12)
    seen.append({
        "planned": planned,
        "filled": [info.run_after.isoformat() for info in filled],
        "summary": table.summary,
        "description": table.description,
        "type": table.type_name,
        "manual": [moment.isoformat() for moment in table.infer_manual_data_interval(run_after=run_after)],
    })
print(json.dumps(seen))
"""
DAG_FILE = """
import pendulum
from airflow.sdk import DAG
from airflow_backup_guard.core import BackupPlan, OffPeakCalendar
from airflow_backup_guard.timetables import OffPeakTimetable

calendar = OffPeakCalendar.parse({windows!r}, tz={tz!r})
plan = BackupPlan(name="shop", connection="shop", repository="file:///srv/backups", calendar=calendar)
dag = DAG(
    "scheduled",
    schedule={schedule},
    start_date=pendulum.datetime(2024, 1, 1, tz={tz!r}),
    end_date=pendulum.datetime(2027, 1, 1, tz={tz!r}),
    catchup=True,
)
"""
# Windows, time zone, schedule, runs of a day.
YEARS = (
    ("Mon-Fri 01:00-05:00; Sat,Sun 22:00-08:00", "America/Los_Angeles", "OffPeakTimetable(plan)", 1),
    ("daily 01:30-03:30", "Europe/Berlin", "OffPeakTimetable(plan, runs_per_window=3, spread='100%')", 3),
    ("daily 23:00-02:15", "Australia/Lord_Howe", "OffPeakTimetable(calendar)", 1),
    ("daily 00:00-24:00", "Antarctica/Troll", "OffPeakTimetable(plan)", 1),
)
MANY = "; ".join(f"{day} 0{hour}:00-0{hour}:30" for hour, day in enumerate(("Mon", "Tue", "Wed", "Thu", "Fri")))
BEGIN, END = "2024-03-01T00:00:00Z", "2024-12-01T00:00:00Z"


def python(code: str, home: Path, *arguments: str, given: str = "") -> str:
    """What a fresh Python, with an Airflow home of its own, prints; its errors are shown where it fails."""
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    done = subprocess.run(command, env=scrubbed_environment(home), input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def stored(files: Iterable[Path], home: Path) -> list[list[dict[str, Any]]]:
    """The DAGs of each file in their stored form; one process, as Airflow takes seconds to be imported."""
    found: list[list[dict[str, Any]]] = json.loads(python(STORE, home, *map(str, files)).splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the scheduler sees of each of YEARS, and of MANY windows last."""
    home = tmp_path_factory.mktemp("years")
    many = (MANY, "Europe/Berlin", "OffPeakTimetable(plan, key='x' * 2000)", 1)
    files = []
    for number, (windows, tz, schedule, _) in enumerate([*YEARS, many]):
        files.append(home / f"scheduled_{number}.py")
        files[-1].write_text(DAG_FILE.format(windows=windows, tz=tz, schedule=schedule))
    dags = [dag for (dag,) in stored(files, home)]
    answer: list[dict[str, Any]] = json.loads(
        python(RUNS, home, given=json.dumps([dags, BEGIN, END])).splitlines()[-1],
    )
    return answer


@pytest.mark.parametrize("number", range(len(YEARS)), ids=lambda number: YEARS[number][1])
def test_years_of_runs_are_all_within_windows(number: int, seen: list[dict[str, Any]]) -> None:
    """As the scheduler asks for them, one after the other, from a DAG it knows in its stored form only."""
    windows, tz, _, runs_of_a_day = YEARS[number]
    calendar = OffPeakCalendar.parse(windows, tz=tz)
    planned = [pendulum.parse(moment) for moment in seen[number]["planned"]]
    assert all(calendar.contains(moment) for moment in planned)
    first, last = pendulum.datetime(2024, 1, 1, tz=tz), pendulum.datetime(2027, 1, 1, tz=tz)
    days = (last - first).days
    opened = days if calendar.always_open else sum(first <= window.start for window in calendar.windows(first, last))
    assert abs(len(planned) - opened * runs_of_a_day) <= runs_of_a_day
    assert planned == sorted(set(planned))
    assert first <= planned[0]
    assert planned[-1] <= last
    offsets = {moment.in_timezone(tz).utcoffset() for moment in planned}
    assert len(offsets) == 2  # summer and winter are both there
    assert seen[number]["filled"] == [moment for moment in seen[number]["planned"] if BEGIN <= moment <= END]


def test_what_airflow_is_told(seen: list[dict[str, Any]]) -> None:
    """The texts of the column "Schedule", shortened where they are long, and the moment of a run by hand."""
    told = seen[-1]
    assert told["summary"] == f"off-peak: {MANY[:79]}… (Europe/Berlin)"
    assert told["description"].startswith("Once in each off-peak window, when ")
    assert told["description"].endswith(f": {MANY} (Europe/Berlin)")
    assert len(told["description"]) <= 1000
    assert told["type"] == "airflow_backup_guard.timetables.off_peak.OffPeakTimetable"
    assert told["manual"] == ["2026-06-01T12:00:00+00:00"] * 2


def test_the_stored_form_does_not_change_by_itself(tmp_path: Path) -> None:
    """Airflow makes a new version of a DAG whenever it does; each form is of a process of its own."""
    (first,), (second,) = stored([EXAMPLE], tmp_path), stored([EXAMPLE], tmp_path)
    timetables = [[dag["dag"]["timetable"] for dag in dags] for dags in (first, second)]
    assert timetables[0] == timetables[1]
    assert "airflow_backup_guard" in json.dumps(timetables)


def test_a_schedule_without_any_run_is_an_import_error(tmp_path: Path) -> None:
    """Airflow validates a DAG as it is parsed, and shows the sentence."""
    file = tmp_path / "scheduled.py"
    asked = "OffPeakTimetable(plan, min_window='5h')"
    file.write_text(DAG_FILE.format(windows="daily 01:00-05:00", tz="UTC", schedule=asked))
    with pytest.raises(AssertionError, match="min_window: '5h' is not valid"):
        stored([file], tmp_path)


def test_the_examples_of_the_page_work(tmp_path: Path) -> None:
    """Each snippet is a schedule of its own, after the names that the page's first one makes."""
    snippets = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(snippets) >= 3
    files = []
    for number, snippet in enumerate(snippets[1:]):
        files.append(tmp_path / f"snippet_{number}.py")
        files[-1].write_text(snippets[0] + snippet)
    assert all(stored(files, tmp_path))


def test_the_scheduler_creates_the_run_of_the_open_window(airflow: Airflow) -> None:
    """By itself, at the moment that the timetable says; no other, and none where the window is closed."""
    run = airflow.scheduled("off_peak_runs_open")
    airflow.unpause("off_peak_runs_closed")
    assert airflow.finish(run) == "success"
    created = airflow.api("GET", run)
    moment = pendulum.parse(created["run_after"])
    assert isinstance(moment, pendulum.DateTime)
    assert created["run_type"] == "scheduled"
    assert created["triggered_by"] == "timetable"
    assert pendulum.parse(airflow.returned(run, "planned")) == moment
    dag = airflow.api("GET", "/dags/off_peak_runs_open")
    assert dag["timetable_summary"].startswith("off-peak: daily ")
    assert "spread by 'shop'" in dag["timetable_description"]
    opening, closing = re.findall(r"\d\d:\d\d", dag["timetable_summary"])
    assert OffPeakCalendar.parse(f"daily {opening}-{closing}", tz="UTC").contains(moment)
    following = pendulum.parse(dag["next_dagrun_run_after"])
    assert timedelta(hours=23) <= following - moment <= timedelta(hours=26)
    assert airflow.api("GET", "/dags/off_peak_runs_open/dagRuns")["total_entries"] == 1

    closed = airflow.api("GET", "/dags/off_peak_runs_closed")
    assert pendulum.parse(closed["next_dagrun_run_after"]) > pendulum.now("UTC").add(hours=4)
    assert airflow.api("GET", "/dags/off_peak_runs_closed/dagRuns")["total_entries"] == 0


def test_a_run_that_a_person_starts_needs_no_window(airflow: Airflow) -> None:
    """The gates of the DAG decide when it goes on; it does not take the place of the scheduled one."""
    planned = airflow.api("GET", "/dags/off_peak_runs_closed")["next_dagrun_run_after"]
    run = airflow.trigger("off_peak_runs_closed")
    assert airflow.finish(run) == "success"
    assert airflow.returned(run, "planned") == "no logical date"
    assert airflow.api("GET", "/dags/off_peak_runs_closed")["next_dagrun_run_after"] == planned


def test_the_example_is_scheduled_apart(airflow: Airflow) -> None:
    """Three clusters, one calendar, three moments in the same window."""
    ids = [f"off_peak_backup_{cluster}" for cluster in ("orders", "payments", "search")]
    airflow.wait_until(
        lambda: {*ids} <= {dag["dag_id"] for dag in airflow.api("GET", "/dags?limit=100")["dags"]}, "the example"
    )
    planned = sorted(pendulum.parse(airflow.api("GET", f"/dags/{dag}")["next_dagrun_run_after"]) for dag in ids)
    assert planned[0] < planned[1] < planned[2] < planned[0].add(hours=3)
