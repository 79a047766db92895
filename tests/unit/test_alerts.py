"""Alerts: told once when something has been bad for a while, and once when it is over; calm whatever the load does."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from itertools import pairwise

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_backup_guard.core import AlertChannel, AlertRules, BackupPlan, LoadLimits, OffPeakCalendar, Rate
from airflow_backup_guard.core.alert_catalogue import CATALOGUE, entry_of
from airflow_backup_guard.core.alert_conditions import UNKNOWN, done_to_command, done_to_copy, of_lateness, of_load
from airflow_backup_guard.core.alert_rules import Severity
from airflow_backup_guard.core.alert_text import html, template_values, text, title
from airflow_backup_guard.core.alerts import Alert, AlertBook, Condition, Transition, event
from airflow_backup_guard.core.load import LoadSample, assess
from airflow_backup_guard.core.pace import Pace, PaceState
from airflow_backup_guard.core.signals import SIGNALS
from airflow_backup_guard.errors import InvalidPlan

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=timezone.utc)
KEY = "load.commit_latency"
NOTIFIER = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"
CHAT = AlertChannel(name="chat", notifier=NOTIFIER)
PAGER = AlertChannel(name="pager", notifier=NOTIFIER, severity="critical")
BOSS = AlertChannel(name="boss", notifier=NOTIFIER, after="15min")
RULES = AlertRules(channels=[CHAT, PAGER, BOSS])
PACE = Pace.start(Rate.parse("1MB/s"), Rate.parse("50MB/s"))


def condition(severity: str | None) -> Condition:
    return Condition(KEY, severity and Severity(severity), "Commits are slow", "31 ms > 25 ms", "slowed down")


def run(severities: list[str | None], rules: AlertRules = RULES, seconds: float = 1.0) -> list[Alert]:
    """What is told of one condition that is looked at every so many ``seconds``."""
    book, told = AlertBook("shop", rules), []
    for number, severity in enumerate(severities):
        book, alerts = book.step([condition(severity)], NOON + timedelta(seconds=number * seconds))
        told += alerts
    return told


def transitions(alerts: list[Alert]) -> list[str]:
    return [alert.transition.value for alert in alerts]


def test_raised_once_and_over_once() -> None:
    """What is bad for long enough is told once, at that time, with when it began; and once when it is over."""
    told = run([None] * 10 + ["warning"] * 60 + [None] * 300)
    assert transitions(told) == ["raised", "over"]
    raised, over = told
    assert raised.since == NOON + timedelta(seconds=10)
    assert raised.at == NOON + timedelta(seconds=39)
    assert over.at - NOON == timedelta(seconds=70 + 119)
    assert raised.channels == over.channels == ("chat",)


def test_short_peaks_are_not_told() -> None:
    """A peak shorter than ``raise_after`` is nobody's business, however high and however often."""
    assert run((["critical"] * 20 + [None] * 100) * 20) == []


def test_short_relief_is_not_the_end() -> None:
    """Relief shorter than ``clear_after`` ends nothing, and is not told."""
    assert transitions(run(["warning"] * 60 + [None] * 60 + ["warning"] * 60)) == ["raised"]


def test_worse_is_told_once() -> None:
    """A warning that becomes critical is told, to those who hear of critical ones only, too; and not twice."""
    told = run(["warning"] * 60 + (["critical"] * 60 + ["warning"] * 200) * 3)
    assert transitions(told) == ["raised", "worse"]
    assert told[1].severity is Severity.CRITICAL and told[1].channels == ("chat", "pager")


def test_at_once_critical() -> None:
    """What is critical from the start is raised as that."""
    (told,) = run(["critical"] * 60)
    assert (told.transition, told.severity, told.channels) == (Transition.RAISED, Severity.CRITICAL, ("chat", "pager"))


def test_reminders_grow_rarer() -> None:
    """What stays bad is told again after 30 minutes, an hour more, two hours more …"""
    told = run(["warning"] * (8 * 3600 // 5), seconds=5)
    still = [alert.at - told[0].at for alert in told if alert.transition is Transition.STILL]
    assert [round(span / timedelta(minutes=1)) for span in still] == [30, 90, 210, 450]


def test_no_reminder_while_it_is_well() -> None:
    """Neither a reminder nor an escalation is sent of something that is well just now."""
    rules = attrs.evolve(RULES, clear_after="1h")
    told = run(["warning"] * 60 + [None] * 3000, rules)
    assert transitions(told) == ["raised"]


def test_escalation() -> None:
    """Who is told ``after`` a time is told then, once, and hears that it is over as well; not if it was over before."""
    told = run(["warning"] * 1200 + [None] * 200)
    assert transitions(told) == ["raised", "escalated", "over"]
    assert told[1].channels == ("boss",) and told[1].at - told[0].at == timedelta(minutes=15)
    assert told[2].channels == ("chat", "boss")
    assert all("boss" not in alert.channels for alert in run(["warning"] * 600 + [None] * 600))


def test_what_is_not_named_is_well() -> None:
    """A condition that is not named any more, as its signal is gone, comes to its end."""
    book, told = AlertBook("shop", RULES), []
    for second in range(400):
        book, alerts = book.step([condition("warning")] if second < 60 else [], NOON + timedelta(seconds=second))
        told += alerts
    assert transitions(told) == ["raised", "over"]


def test_what_was_not_looked_at_says_nothing() -> None:
    """Two bad looks half an hour apart are two looks, not half an hour of trouble; a clock set back is no time."""
    assert run(["warning"] * 2, seconds=1800) == []
    book, _ = AlertBook("shop", RULES).step([condition("warning")], NOON)
    book, told = book.step([condition("warning")], NOON - timedelta(hours=1))
    assert told == []


def test_close() -> None:
    """When the copy ends, those who were told of something hear that it is over, and why; nobody else does."""
    book, _ = AlertBook("shop", RULES).step([condition("warning")], NOON)
    assert book.close(NOON, "the copy has ended") == []
    for second in range(1, 60):
        book, _ = book.step([condition("warning")], NOON + timedelta(seconds=second))
    (over,) = book.close(NOON + timedelta(minutes=2), "the copy has ended")
    assert over.transition is Transition.OVER and over.channels == ("chat",)
    assert "the copy has ended" in text(over)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_noisy_hour(share: float) -> None:
    """An hour in which every second is bad or good at random, at the threshold, sends no more than a handful."""
    for seed in range(4):
        chance = random.Random(seed)
        assert len(run([("critical" if chance.random() < share else None) for _ in range(3600)])) <= 5


def test_flapping_is_suppressed() -> None:
    """Trouble that comes and goes just slowly enough to be told each time is told ever more rarely."""
    told = run((["warning"] * 31 + [None] * 121) * 40)
    hours = 40 * 152 / 3600
    assert len(told) <= 8 * hours


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([None, "warning", "critical"]), st.integers(1, 600)), min_size=1, max_size=30),
    st.sampled_from([1.0, 2.0, 5.0]),
)
def test_laws(stretches: list[tuple[str | None, int]], seconds: float) -> None:
    """Whatever the load does: raised and over take turns, and between two messages lies the time the rules ask for;
    per hour there are never more than a handful; who is told that it is over was told of it before."""
    told = run([severity for severity, count in stretches for _ in range(count)], seconds=seconds)
    edges = [alert for alert in told if alert.transition in (Transition.RAISED, Transition.OVER)]
    assert all(alert.transition is (Transition.OVER, Transition.RAISED)[n % 2 == 0] for n, alert in enumerate(edges))
    slack = timedelta(seconds=2 * seconds)
    for before, after in pairwise(edges):
        least = RULES.clear_after if after.transition is Transition.OVER else RULES.raise_after
        assert after.at - before.at >= least - slack
    for first in edges:
        within = [alert for alert in edges if timedelta(0) <= alert.at - first.at < timedelta(hours=1)]
        assert len(within) <= 9
    for n, alert in enumerate(told):
        if alert.transition is Transition.OVER:
            start = max(i for i in range(n) if told[i].transition is Transition.RAISED)
            assert set(alert.channels) == {name for before in told[start:n] for name in before.channels}


def limits(**changes: str) -> LoadLimits:
    return LoadLimits(**{"commit_latency": ("25ms", "100ms"), **changes})


def conditions(values: dict[str, float], rules: AlertRules = RULES, **changes: str) -> dict[str, Condition]:
    held = limits(**changes)
    assessment = assess(LoadSample(NOON, values), held, {"commit_latency": 0.004})
    return {found.key: found for found in of_load(assessment, held, rules, done_to_copy(PACE))}


def test_thresholds_are_the_limits() -> None:
    """Without thresholds of their own, alerts warn at ``max`` and are critical at ``critical``, with both in words."""
    found = conditions({"commit_latency": 0.031})[KEY]
    assert found.severity is Severity.WARNING and found.measured == "commit latency 31.0 ms > 25.0 ms"
    assert conditions({"commit_latency": 0.2})[KEY].severity is Severity.CRITICAL
    assert conditions({"commit_latency": 0.02})[KEY].severity is None
    assert "wal_rate" not in str(conditions({"commit_latency": 0.02}))


def test_own_thresholds() -> None:
    """Thresholds of the rules count in place of the limits; relative ones are multiples of the same baseline."""
    rules = attrs.evolve(RULES, thresholds=LoadLimits(commit_latency=("3x", "10x"), wal_rate="30MB/s"))
    found = conditions({"commit_latency": 0.013, "wal_rate": 5e7}, rules)
    assert found[KEY].severity is Severity.WARNING and "3x of 4.0 ms" in found[KEY].measured
    assert found["load.wal_rate"].severity is Severity.WARNING


def test_unknown_is_one_alert() -> None:
    """Signals that cannot be measured are told of once, together, with the reason."""
    found = conditions({"commit_latency": 0.001}, io_waits="4", lock_waits="4")
    assert found[UNKNOWN].severity is Severity.WARNING and "not measured" in found[UNKNOWN].measured
    assert "load.io_waits" not in found
    assert conditions({"commit_latency": 0.001})[UNKNOWN].severity is None


def test_late() -> None:
    """A copy that will be stopped at the end of its window is worse than one that is only late."""
    assert of_lateness("", "").severity is None
    assert of_lateness("floor", "late").severity is Severity.WARNING
    assert of_lateness("stop", "late").severity is Severity.CRITICAL


def test_every_alert_is_in_the_catalogue() -> None:
    """Each signal, and whatever else is told of, has a meaning and three things to do."""
    for name in SIGNALS:
        assert entry_of(f"load.{name}").key == f"load.{name}"
    for key in (
        "load.custom.queue",
        "load.unknown",
        "copy.late",
        "gate.starved",
        "backup.failed",
        "rogue.x",
        "channel.chat",
        "test",
    ):
        assert all(entry_of(key).first)
    assert len({entry.key for entry in CATALOGUE}) == len(CATALOGUE)
    with pytest.raises(KeyError):
        entry_of("load.nothing")


def test_text() -> None:
    """A message says what, value and threshold, since when, what was done, what it means, what to do, and where."""
    (told,) = run(["warning"] * 60)
    assert text(told, "https://airflow.example/log") == (
        "shop: Commits are slow (warning)\n"
        "\n"
        "seen     31 ms > 25 ms\n"
        "since    2026-06-01 12:00:00 UTC, for 30s\n"
        "done     slowed down\n"
        "meaning  A tiny commit takes longer than the threshold, and so do those of the application.\n"
        "do 1     Ask who: backup-guard who names every backup that runs on this database, and what else loads it.\n"
        "do 2     Take the backup out of it: backup-guard pause; backup-guard resume takes that back.\n"
        "do 3     Look at the server's log and disk, and at pg_stat_activity: what has it been doing since then?\n"
        "see      https://airflow.example/log"
    )
    (_, over) = run(["warning"] * 60 + [None] * 200)
    assert title(over) == "shop: Over: Commits are slow" and "do 1" not in text(over)


def test_html_is_escaped() -> None:
    """What comes from a database or a person is text in a mail, never HTML; only http links are links."""
    alert = event("shop", RULES, Condition("rogue.1", Severity.WARNING, "<b>x</b>", "<script>"), NOON)
    page = html(alert, "javascript:alert(1)")
    assert "<script>" not in page and "<b>x" not in page and "href" not in page
    assert 'href="https://a.example/?a=1&amp;b=2"' in html(alert, "https://a.example/?a=1&b=2")
    assert template_values(alert)["alert_key"] == "shop/rogue.1"


def test_events() -> None:
    """What has happened and does not pass is told at once to all of its severity, late ones included."""
    alert = event("shop", RULES, Condition("backup.failed", Severity.CRITICAL, "A task failed"), NOON)
    assert alert.channels == ("chat", "pager", "boss")


def test_pace_in_words() -> None:
    """An alert says what the guard has done: slowed down or paused, to what, and why."""
    paused = Pace(PACE.floor, PACE.ceiling, PACE.floor, PaceState.PAUSED, "critical")
    held = limits()
    assessment = assess(LoadSample(NOON, {"commit_latency": 0.2}), held, {})
    (found, *_) = of_load(assessment, held, RULES, done_to_copy(paused))
    assert found.done == "the copy is paused, and only trickles at 1MB/s: critical"
    assert done_to_command(paused) == "the command stands still, but for moments: critical"


PLAN = {
    "name": "shop",
    "connection": "db",
    "repository": "file:///srv/backups",
    "calendar": OffPeakCalendar.parse("daily 01:00-05:00", tz="UTC").to_dict(),
}


def test_a_plan_keeps_its_alerts() -> None:
    """Alert rules survive being written beside a backup and read back."""
    rules = AlertRules(
        channels=[attrs.evolve(BOSS, arguments={"to": ["a@b.example"], "subject": "{{ alert_title }}"})],
        thresholds=LoadLimits(commit_latency=("3x", "100ms")),
        raise_after="1min",
        clear_after="90s",
        remind_after="1h",
    )
    plan = BackupPlan.from_dict({**PLAN, "alerts": rules.to_dict()})
    assert plan.alerts == rules
    assert BackupPlan.from_dict(plan.to_dict()) == plan
    assert BackupPlan.from_dict(PLAN).alerts == AlertRules()


@pytest.mark.parametrize(
    ("alerts", "field"),
    [
        ([], "alerts"),
        ({"chanels": []}, "alerts"),
        ({"channels": {}}, "alerts.channels"),
        ({"channels": [{"name": "a"}]}, "alerts.channels"),
        ({"channels": [{"name": "a", "notifier": "Slack"}]}, "alerts.channels.notifier"),
        ({"channels": [{"name": "A b", "notifier": "a.B"}]}, "alerts.channels.name"),
        ({"channels": [{"name": "a", "notifier": "a.B"}] * 2}, "alerts.channels.name"),
        ({"channels": [{"name": "a", "notifier": "a.B", "severity": "bad"}]}, "alerts.channels.severity"),
        ({"channels": [{"name": "a", "notifier": "a.B", "after": 15}]}, "alerts.channels.after"),
        ({"channels": [{"name": "a", "notifier": "a.B", "arguments": {"x": object()}}]}, "alerts.channels.arguments"),
        ({"thresholds": {"commit_latency": ["100ms", "20ms"]}}, "alerts.thresholds (limits.commit_latency)"),
        ({"thresholds": {"custom": {"x": {"sql": "SELECT 1", "max": "1"}}}}, "alerts.thresholds.custom"),
        ({"raise_after": "0s"}, "alerts.raise_after"),
        ({"remind_after": "1s"}, "alerts.remind_after"),
    ],
)
def test_bad_rules(alerts: object, field: str) -> None:
    """Rules that cannot be are refused when the plan is made, with the field's name: critical below warn among them."""
    with pytest.raises(InvalidPlan) as error:
        BackupPlan.from_dict({**PLAN, "alerts": alerts})
    assert error.value.field == field
