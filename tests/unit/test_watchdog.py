"""What a plan says about other people's backups: which are allowed, and that nothing is ended lightly."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core.load import LoadLevel
from airflow_backup_guard.core.rogue import Certainty, Kind, Owner, RunningBackup
from airflow_backup_guard.core.watchdog import AllowRule, Policy, Step, WatchdogPolicy, decide, with_allowed
from airflow_backup_guard.errors import InvalidPlan

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NOON = datetime(2024, 6, 1, 19, 0, tzinfo=timezone.utc)
ROGUE = RunningBackup(
    id="20240601T185500Z-7",
    kind=Kind.BASE_BACKUP,
    program="pg_basebackup",
    certainty=Certainty.CERTAIN,
    evidence=("it sends a base backup",),
    pids=(7,),
    starts=(NOON - timedelta(minutes=5),),
    user="postgres",
    client="10.0.0.5",
    application_name="pg_basebackup",
)
TERMINATE = WatchdogPolicy(policy="terminate")


def step(backup: RunningBackup = ROGUE, policy: WatchdogPolicy = TERMINATE, **values: Any) -> Step:
    """What is due for a backup that people were told of two minutes ago, at noon, but for ``values``."""
    usual: dict[str, Any] = {
        "alerted": NOON - timedelta(minutes=2),
        "now": NOON,
        "level": LoadLevel.HIGH,
        "in_window": False,
    }
    return decide(backup, policy, **{**usual, **values}).step


def test_a_rogue_backup_at_noon_is_ended_after_the_grace_time() -> None:
    """First people hear of it, then they have their time, then it ends; the reason says so."""
    assert step(alerted=None) is Step.ALERT
    assert step(alerted=NOON - timedelta(seconds=59)) is Step.WAIT
    assert step() is Step.END
    assert (
        "grace time is over"
        in decide(
            ROGUE, TERMINATE, alerted=NOON - timedelta(hours=1), now=NOON, level=LoadLevel.NORMAL, in_window=False
        ).reason
    )


def test_inside_of_a_window_only_critical_load_ends_it() -> None:
    """A load that is high, or that nobody knows, does not."""
    levels = {level: step(in_window=True, level=level) for level in LoadLevel}
    assert levels.pop(LoadLevel.CRITICAL) is Step.END
    assert set(levels.values()) == {Step.WAIT}


def test_less_than_terminate_ends_nothing() -> None:
    """Alert tells people once, report tells nobody."""
    alert, quiet = WatchdogPolicy(), WatchdogPolicy(policy="report")
    assert (step(policy=alert, alerted=None), step(policy=alert)) == (Step.ALERT, Step.REPORT)
    assert (step(policy=quiet, alerted=None), step(policy=quiet)) == (Step.REPORT, Step.REPORT)


BACKUPS = st.builds(
    lambda **values: replace(ROGUE, **values),
    certainty=st.sampled_from(Certainty),
    owner=st.sampled_from(Owner),
    allowed=st.sampled_from(["", "user backup"]),
)


@given(
    BACKUPS,
    st.builds(WatchdogPolicy, policy=st.sampled_from(Policy), grace=st.timedeltas(timedelta(0), timedelta(hours=1))),
    st.none() | st.timedeltas(timedelta(0), timedelta(hours=2)),
    st.sampled_from(LoadLevel),
    st.booleans(),
)
def test_nothing_is_ended_lightly(
    backup: RunningBackup, policy: WatchdogPolicy, told: timedelta | None, level: LoadLevel, in_window: bool
) -> None:
    """Never ours, allowed or uncertain, never unasked, untold or early, never in a window unless load is critical."""
    alerted = None if told is None else NOON - told
    due = decide(backup, policy, alerted=alerted, now=NOON, level=level, in_window=in_window)
    assert due.reason
    if due.step is Step.END:
        assert policy.policy is Policy.TERMINATE
        assert backup.owner is Owner.FOREIGN and not backup.allowed
        assert backup.certainty is Certainty.CERTAIN
        assert told is not None and told >= policy.grace
        assert not in_window or level is LoadLevel.CRITICAL
    if due.step is Step.ALERT:
        assert backup.rogue and told is None


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ({"user": "postgres"}, True),
        ({"user": "post*", "application_name": "pg_base*", "client": "10.0.0.0/8"}, True),
        ({"client": "10.0.0.5"}, True),
        ({"user": "Postgres"}, False),
        ({"user": "postgres", "client": "192.168.0.0/16"}, False),
        ({"user": "postgres", "client": "fd00::/8"}, False),
        ({"client": "local"}, False),
        ({"application_name": "barman*"}, False),
        ({"user": "postgres", "off_peak_only": True}, False),
    ],
)
def test_a_rule_allows_what_fits_all_of_it(rule: dict[str, Any], fits: bool) -> None:
    """Patterns of names, networks of clients, and the window if the rule asks for it."""
    made = AllowRule(**rule)
    (found,) = with_allowed([ROGUE], WatchdogPolicy(allow=[made]), in_window=False)
    assert bool(found.allowed) is fits
    assert found.rogue is not fits
    if made.off_peak_only:
        assert made.fits(ROGUE, in_window=True)


def test_what_is_hidden_fits_no_rule() -> None:
    """Of a session that the role may not look into, neither client nor socket is known."""
    hidden = replace(ROGUE, client=None, starts=(None,), user=None)
    for rule in ({"client": "local"}, {"client": "10.0.0.0/8"}, {"user": "*"}):
        assert not AllowRule(**rule).fits(hidden, in_window=True)
    assert AllowRule(client="local").fits(replace(ROGUE, client=None), in_window=True)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: WatchdogPolicy(policy="kill"), "watchdog.policy"),
        (lambda: WatchdogPolicy(grace="soon"), "watchdog.grace"),
        (lambda: WatchdogPolicy(grace="2d"), "watchdog.grace"),
        (lambda: WatchdogPolicy(allow=["backup"]), "watchdog.allow"),
        (lambda: WatchdogPolicy(allow={"user": "backup"}), "watchdog.allow"),
        (AllowRule, "watchdog.allow"),
        (lambda: AllowRule(off_peak_only=True), "watchdog.allow"),
        (lambda: AllowRule(user=""), "watchdog.allow.user"),
        (lambda: AllowRule(client="the office"), "watchdog.allow.client"),
        (lambda: AllowRule(client=5), "watchdog.allow.client"),
        (lambda: AllowRule(user="backup", off_peak_only="yes"), "watchdog.allow.off_peak_only"),
    ],
)
def test_a_wrong_policy_is_refused(make: Any, field: str) -> None:
    """With the name of its field; a rule that would allow everything is wrong, too."""
    with pytest.raises(InvalidPlan) as refused:
        make()
    assert refused.value.field == field


def test_the_page_shows_one_policy_in_two_ways() -> None:
    """What docs/watchdog.md shows in Python and in a plan file can be written, and means the same."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "watchdog.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^```(python|toml)\n(.*?)^```$", page, re.M | re.S))
    names: dict[str, Any] = {}
    exec(compile(shown["python"], "docs/watchdog.md", "exec"), names)
    made = WatchdogPolicy.from_dict(tomllib.loads(shown["toml"])["watchdog"])
    assert made == names["watchdog"]
    assert [str(rule) for rule in made.allow] == [
        "application_name pg_dump, user warehouse, off-peak only",
        "application_name pgBackRest*, client 10.0.0.0/8",
    ]
