"""The plan: bad values are refused when a DAG is parsed, good ones survive the trip through a record."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core.calendar import OffPeakCalendar
from airflow_backup_guard.core.load import Limit, LoadLimits
from airflow_backup_guard.core.plan import BackupPlan, WhenLate, WhenStarved
from airflow_backup_guard.core.units import Rate
from airflow_backup_guard.core.watchdog import AllowRule, Policy, WatchdogPolicy
from airflow_backup_guard.errors import BackupGuardError, InvalidPlan

NIGHTS = OffPeakCalendar.parse("Mon-Fri 01:00-05:00; Fri,Sat 22:00-08:00", tz="America/Los_Angeles")
RECIPIENT = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
NEEDED: dict[str, Any] = {
    "name": "shop",
    "connection": "shop_primary",
    "repository": "s3://aws_default@backups/shop",
    "calendar": NIGHTS,
}


def plan(**values: Any) -> BackupPlan:
    """A plan that is right but for ``values``."""
    return BackupPlan(**{**NEEDED, **values})


def test_the_least_that_a_plan_needs() -> None:
    """Four values; all others have a gentle default."""
    least = plan()
    assert least.limits == LoadLimits()
    assert least.quiet_for == timedelta(seconds=30)
    assert (least.max_rate, least.min_rate) == (Rate(100_000_000), Rate(1_000_000))
    assert (least.checkpoint, least.compression_level, least.recipients) == ("spread", 3, ())


def test_values_carry_their_units() -> None:
    """Texts become values once, when the plan is made."""
    made = plan(quiet_for="2min", max_rate="50MB/s", min_rate="800kB/s", recipients=[RECIPIENT])
    assert made.quiet_for == timedelta(minutes=2)
    assert (str(made.max_rate), str(made.min_rate)) == ("50MB/s", "800kB/s")
    assert made.recipients == (RECIPIENT,)


def test_recipients_may_come_from_a_generator() -> None:
    """It is read once only; read twice, it would make a plan that does not encrypt at all."""
    assert plan(recipients=(key for key in [RECIPIENT])).recipients == (RECIPIENT,)


NAMES = "lower-case letters, digits, '_', '.' and '-', 63 at most"
REPOSITORIES = '"file:///absolute/path", "s3://bucket/prefix"'


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        *(
            ("name", value, NAMES)
            for value in ("", "shop/eu", "Shop", "..", ".a", "-a", "a b", "ä", "a\n", "a" * 64, 5, None)
        ),
        *(("connection", value, "id of an Airflow connection") for value in ("", "  ", 5, None)),
        *(("load_connection", value, "id of an Airflow connection, or None") for value in ("", "  ", 5)),
        *(
            ("repository", value, REPOSITORIES)
            for value in ("", "backups", "/srv/backups", "ftp://a/b", "s3://", 5, None)
        ),
        *(("calendar", value, 'OffPeakCalendar.parse("Mon-Fri') for value in ("daily 01:00-05:00", None, {})),
        *(("limits", value, "LoadLimits(commit_latency=") for value in ("20ms", None, {"commit_latency": "20ms"})),
        *(("quiet_for", value, '"90s"') for value in (30, "30", "", "-1s", None, "soon")),
        ("quiet_for", timedelta(seconds=-1), "not negative"),
        ("at_window_end", "never", '"finish", "floor" or "stop"'),
        *(("min_remaining", value, '"90s"') for value in (30, "soon", "-1s")),
        ("when_late", "never", '"wait", "skip" or "fail"'),
        *(("rpo", value, '"90s"') for value in (26, "a day")),
        *(("rpo", value, "above zero, up to 3660d") for value in ("0s", "4000d")),
        ("when_starved", "go", '"wait", "go_at_floor" or "fail"'),
        ("window_first", 1, "True or False"),
        ("max_pause", 60, '"90s"'),
        ("max_duration", "long", '"90s"'),
        ("max_retained_wal", "63MB", "a size from 64MB up"),
        ("max_retained_wal", 1, '"500MB"'),
        *(("max_rate", value, '"50MB/s"') for value in (50, 5e6, "50", "50MB", "fast", None)),
        *(("max_rate", value, "from 32kB/s to 1GiB/s") for value in ("31kB/s", "2GB/s", "0B/s")),
        *(("min_rate", value, '"50MB/s"') for value in (1, "1", "1MB", None)),
        *(("min_rate", value, "from 32kB/s to 1GiB/s") for value in ("31kB/s", "0MB/s")),
        *(("retention", value, "RetentionPolicy(keep_daily=7") for value in (7, None, {"keep_last": 7})),
        *(("rto", value, "") for value in (5, "0s", "4000d")),
        *(("drill", value, "DrillPolicy(amcheck=") for value in (7, None, {"amcheck": "off"})),
        *(("checkpoint", value, '"spread" or "fast"') for value in ("slow", "", None, True)),
        *(("compression_level", value, "from 1 to 19") for value in (0, 20, -1, 3.0, "3", None, True)),
        *(
            ("recipients", value, "a list of age public keys")
            for value in (RECIPIENT, ["ssh-rsa AAAA"], [5], 5, None, [""])
        ),
        *(
            ("contacts", value, '[("Database on call", "+1 555 0100")]')
            for value in (
                None,
                5,
                "Alice",
                ["Alice"],
                [("Alice",)],
                [("Alice", "")],
                [("Alice", 5)],
                {"Alice": " "},
                [("Alice\n", "x")],
                [("A" * 201, "x")],
            )
        ),
        *(("watchdog", value, "WatchdogPolicy(policy=") for value in ("terminate", None, {"policy": "alert"})),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_wrong_value_is_refused(field: str, value: Any, allowed: str) -> None:
    """The message names the field, shows the value, and says what is allowed."""
    with pytest.raises(InvalidPlan) as refused:
        plan(**{field: value})
    error = refused.value
    assert error.field == field
    assert str(error).startswith(f"{field}: {value!r} is not valid. Allowed: ")
    assert allowed in str(error)
    assert isinstance(error, BackupGuardError) and isinstance(error, ValueError)


@pytest.mark.parametrize("value", ["32kB/s", "1GiB/s"])
def test_the_rates_at_the_ends_are_allowed(value: str) -> None:
    """They are the least and the most that PostgreSQL's own limit takes."""
    assert plan(max_rate=value, min_rate="32kB/s").max_rate == Rate.parse(value)


def test_a_floor_above_the_ceiling_is_refused() -> None:
    """Both rates are in the message; as equals they are allowed."""
    with pytest.raises(
        InvalidPlan, match=r"min_rate: '20MB/s' is not valid. Allowed: a rate not above max_rate, 10MB/s"
    ):
        plan(min_rate="20MB/s", max_rate="10MB/s")
    assert plan(min_rate="10MB/s", max_rate="10MB/s").min_rate == Rate(10_000_000)


def test_a_password_in_a_url_is_not_shown() -> None:
    """A refusal ends up in a log."""
    with pytest.raises(InvalidPlan) as refused:
        plan(repository="s3://user:secret@bucket/prefix")
    assert "secret" not in str(refused.value)


def test_a_plan_cannot_be_changed() -> None:
    """Gate, copy, verify and audit share it."""
    for field in attrs.fields(BackupPlan):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(plan(), field.name, getattr(plan(), field.name))
    with pytest.raises(InvalidPlan):
        attrs.evolve(plan(), name="shop/eu")
    assert attrs.evolve(plan(), name="eu").name == "eu"


def test_a_plan_can_be_copied_and_compared() -> None:
    """Airflow copies the arguments of operators, and equal plans are one in a set."""
    assert copy.deepcopy(plan()) == pickle.loads(pickle.dumps(plan())) == plan()
    assert len({plan(), copy.copy(plan()), plan(name="eu")}) == 2


def test_what_fits_in_no_window_is_refused() -> None:
    """It would wait for ever; the longest window is a Saturday's, in the night when clocks are set back."""
    assert plan(min_remaining="11h").min_remaining == timedelta(hours=11)
    with pytest.raises(InvalidPlan, match=r"min_remaining: '11h 1min' is not valid.*longest window of Mon-Fri 01:00"):
        plan(min_remaining="11h 1min")


def test_a_copy_at_the_floor_is_never_fast_and_is_not_ended_by_load() -> None:
    """That is what a plan asks for that would rather have a slow backup than none."""
    floor = plan(min_rate="2MB/s", max_pause="1min", max_duration="20h").at_floor()
    assert (floor.max_rate, floor.min_rate, floor.max_pause) == (Rate(2_000_000), Rate(2_000_000), timedelta(hours=20))
    assert floor.name == plan().name


# To plain values and back


def test_plain_values_are_readable() -> None:
    """This is what people find in a record."""
    values = plan(limits=LoadLimits(commit_latency="20ms"), quiet_for="90s", max_rate="1.5MB/s").to_dict()
    assert values == {
        **NEEDED,
        "load_connection": None,
        "checkpoint": "spread",
        "compression_level": 3,
        "calendar": {"windows": "Mon-Fri 01:00-05:00; Fri,Sat 22:00-08:00", "tz": "America/Los_Angeles"},
        "limits": {"commit_latency": ["20ms"]},
        "min_remaining": None,
        "when_late": "wait",
        "rpo": None,
        "rto": None,
        "when_starved": "wait",
        "at_window_end": "floor",
        "window_first": False,
        "max_pause": "1h",
        "max_duration": "1d",
        "max_retained_wal": "10000000000B",
        "quiet_for": "1min 30s",
        "max_rate": "1500000B/s",
        "min_rate": "1000000B/s",
        "recipients": [],
        "alerts": {
            "channels": [],
            "thresholds": None,
            "raise_after": "30s",
            "clear_after": "2min",
            "remind_after": "30min",
        },
        "retention": {},
        "watchdog": {"policy": "alert", "grace": "1min", "allow": []},
        "drill": {},
        "contacts": [],
    }


def test_contacts_keep_their_order() -> None:
    """As pairs or as a table, people are called in the order in which they stand in the plan."""
    pairs = (("Zoe", "+1 555 0100"), ("Alice", "alice@example.com"))
    assert plan(contacts=list(pairs)).contacts == plan(contacts=dict(pairs)).contacts == pairs


def test_a_limit_that_is_never_critical_survives() -> None:
    """JSON has no infinity."""
    limits = LoadLimits(commit_latency=Limit(0.02, float("inf")), tuple_rate="2000000/s")
    text = json.dumps(plan(limits=limits).to_dict(), allow_nan=False)
    assert BackupPlan.from_dict(json.loads(text)).limits == limits


RATES = st.integers(32_000, 2**30).map(Rate)
CALENDARS = st.sampled_from([NIGHTS, OffPeakCalendar.parse("daily 00:00-24:00", tz="UTC")])
LIMITS = st.builds(
    LoadLimits,
    commit_latency=st.integers(1, 10**9).map(lambda n: timedelta(microseconds=n)),
    wal_rate=st.none() | RATES,
    tuple_rate=st.none() | st.integers(1, 10**9).map(lambda n: f"{n / 8}/s"),
)
CONTACTS = st.text(min_size=1).filter(lambda text: text.strip() and text.isprintable())
PLANS = st.builds(
    lambda rates, **values: BackupPlan(min_rate=min(rates), max_rate=max(rates), **values),
    rates=st.tuples(RATES, RATES),
    name=st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,62}", fullmatch=True),
    connection=st.text(min_size=1).filter(str.strip),
    load_connection=st.none() | st.text(min_size=1).filter(str.strip),
    repository=st.sampled_from(["s3://aws@bucket/prefix", "s3://bucket", "file:///srv/backups"]),
    calendar=CALENDARS,
    limits=LIMITS,
    quiet_for=st.timedeltas(timedelta(0), timedelta(days=2)),
    min_remaining=st.none() | st.just("forecast") | st.timedeltas(timedelta(0), timedelta(hours=4)),
    when_late=st.sampled_from(WhenLate),
    rpo=st.none() | st.timedeltas(timedelta(microseconds=1), timedelta(days=3660)),
    when_starved=st.sampled_from(WhenStarved),
    checkpoint=st.sampled_from(["spread", "fast"]),
    compression_level=st.integers(1, 19),
    recipients=st.lists(st.text().map(lambda key: f"age1{key}"), max_size=3),
    rto=st.none() | st.timedeltas(timedelta(microseconds=1), timedelta(days=3660)),
    contacts=st.lists(st.tuples(CONTACTS, CONTACTS), max_size=3),
    watchdog=st.builds(
        WatchdogPolicy,
        policy=st.sampled_from(Policy),
        grace=st.timedeltas(timedelta(0), timedelta(days=1)),
        allow=st.lists(
            st.builds(
                AllowRule,
                user=st.text(min_size=1).filter(str.strip),
                application_name=st.none() | st.just("pg_dump*"),
                client=st.sampled_from([None, "local", "10.0.0.0/8", "::1"]),
                off_peak_only=st.booleans(),
            ),
            max_size=2,
        ),
    ),
)


@given(PLANS)
def test_plain_values_lose_nothing(made: BackupPlan) -> None:
    """What a record keeps as JSON is the very same plan, and so is what Airflow keeps as text of a mapped task."""
    again = BackupPlan.from_dict(json.loads(json.dumps(made.to_dict(), allow_nan=False)))
    assert again == made == BackupPlan.from_dict(json.loads(str(made)))
    assert hash(again) == hash(made)


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(BackupPlan)])
def test_every_field_is_kept(name: str) -> None:
    """A field that is added to the plan must be added to its plain values."""
    assert name in plan().to_dict()


@pytest.mark.parametrize("name", ["name", "connection", "repository", "calendar"])
def test_a_missing_field_is_named(name: str) -> None:
    """Rather than a TypeError about arguments that nobody wrote."""
    values = plan().to_dict()
    del values[name]
    with pytest.raises(InvalidPlan, match=f"{name}: None is not valid. Allowed: a value; every plan needs one"):
        BackupPlan.from_dict(values)


def test_what_has_a_default_may_be_missing() -> None:
    """A plan file of four lines is enough."""
    values = {name: value for name, value in plan().to_dict().items() if name in NEEDED}
    assert BackupPlan.from_dict(values) == plan()


def test_an_unknown_field_is_named() -> None:
    """With the fields that there are, as it is mostly a typing mistake."""
    with pytest.raises(
        InvalidPlan, match=r"max_rat: '5MB/s' is not valid. Allowed: the fields of a plan: name, .*max_rate"
    ):
        BackupPlan.from_dict({**plan().to_dict(), "max_rat": "5MB/s"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("calendar", "Mon-Fri 01:00-05:00"),
        ("calendar", None),
        ("calendar", {}),
        ("calendar", {"windows": "Mon-Fri 01:00-05:00"}),
        ("calendar", {"windows": "never", "tz": "UTC"}),
        ("limits", "20ms"),
        ("limits", None),
        ("limits", {"commit_latency": 20}),
        ("max_rate", 100),
        ("quiet_for", 30),
        ("recipients", None),
        ("contacts", "Alice"),
        ("contacts", {"Alice": 5}),
        ("watchdog", "alert"),
        ("watchdog", {"policy": "kill"}),
        ("watchdog", {"allow": ["backup"]}),
        ("watchdog", {"allow": [{"role": "backup"}]}),
        ("watchdog", {"allow": [{}]}),
    ],
)
def test_a_wrong_value_in_a_plan_file_is_refused(field: str, value: Any) -> None:
    """As a refusal that names the field, never as an error of Python."""
    with pytest.raises(InvalidPlan, match=f"^{field}.*Allowed: "):
        BackupPlan.from_dict({**plan().to_dict(), field: value})
