"""Which sessions are a backup, how sure that is, and whose it is; above all, what is no backup at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_backup_guard.core.activity import Activity, Session
from airflow_backup_guard.core.load import LoadSample
from airflow_backup_guard.core.names import claimed_backup_id, session_name
from airflow_backup_guard.core.rogue import (
    Certainty,
    Kind,
    Owner,
    RunningBackup,
    Sighting,
    claims,
    recognise,
    with_rates,
)
from airflow_backup_guard.core.rogue_text import from_plain, how_to_stop, origin, plain, report, title
from airflow_backup_guard.core.surge import surge

NOON = datetime(2024, 6, 1, 19, 0, tzinfo=timezone.utc)
OURS = "20260601T010000Z-3cf2"
BASE_BACKUP = "BASE_BACKUP ( LABEL 'nightly', PROGRESS, CHECKPOINT 'fast', WAIT 0, MAX_RATE 20480, MANIFEST 'yes')"


def session(pid: int, **values: Any) -> Session:
    """An ordinary session of an application, but for ``values``."""
    usual: dict[str, Any] = {
        "backend_start": NOON + timedelta(seconds=pid),
        "backend_type": "client backend",
        "database": "shop",
        "user": "app",
        "application_name": "web",
        "client": "10.0.0.9",
        "state": "active",
        "query": "SELECT 1",
    }
    return Session(pid, **{**usual, **values})


def walsender(pid: int, **values: Any) -> Session:
    """A WAL sender."""
    return session(pid, **{"backend_type": "walsender", "database": None, "user": "repl", **values})


def base_backup(pid: int, **values: Any) -> Session:
    """A WAL sender that sends a base backup."""
    usual = {
        "replication_state": "backup",
        "base_backup": True,
        "phase": "streaming database files",
        "done": 10_000_000,
        "total": 100_000_000,
        "application_name": "pg_basebackup",
        "query": BASE_BACKUP,
    }
    return walsender(pid, **{**usual, **values})


def dump(pid: int, **values: Any) -> Session:
    """A session of pg_dump that reads a table."""
    usual = {
        "application_name": "pg_dump",
        "query": "COPY public.orders (id, note) TO stdout;",
        "copy": "COPY TO",
        "copied": 5_000_000,
        "xmin": "736",
        "relations": 162,
    }
    return session(pid, **{**usual, **values})


def ours(pid: int, backup_id: str = OURS, **values: Any) -> Session:
    """The base backup of a guarded copy."""
    return base_backup(pid, application_name=session_name(backup_id), user="guard", **values)


def slot_holder(pid: int, backup_id: str = OURS, **values: Any) -> Session:
    """The session of a guarded copy that holds the slot."""
    named = {"application_name": session_name(backup_id), "user": "guard", "database": "postgres", "state": "idle"}
    return session(pid, **{**named, "slots": ("backup_guard",), **values})


def seen(*sessions: Session, at: datetime = NOON + timedelta(minutes=5), **values: Any) -> Activity:
    """What the server shows."""
    return Activity(at, "guard", sessions=sessions, **values)


def only(*sessions: Session, proven: frozenset[str] | None = None) -> RunningBackup:
    """The one backup that these sessions are."""
    (found,) = recognise(seen(*sessions), proven)
    return found


# What is a backup


def test_a_base_backup_is_certain_and_its_command_tells_more() -> None:
    """Label, limit and forced checkpoint are in the evidence; its WAL sender for WAL is part of it, not another one."""
    wal = walsender(
        8, application_name="pg_basebackup", replication_state="streaming", slots=("pg_basebackup_8",), query="START"
    )
    found = only(base_backup(7), wal)
    assert (found.kind, found.program, found.certainty) == (Kind.BASE_BACKUP, "pg_basebackup", Certainty.CERTAIN)
    assert (found.pids, found.owner, found.rogue) == ((7, 8), Owner.FOREIGN, True)
    assert (found.done, found.total) == (10_000_000, 100_000_000)
    told = " ".join(found.evidence)
    for part in ("process 7", "nightly", "21MB/s at most", "fast checkpoint"):
        assert part in told


def test_what_a_stranger_writes_cannot_mislead_a_terminal() -> None:
    """A label is part of the command, and is neither an option of it nor a control sequence."""
    found = only(base_backup(7, query="BASE_BACKUP ( LABEL 'a\x1b[2J FAST MAX_RATE 5', PROGRESS)", database="x\ny"))
    told = " ".join(found.evidence)
    assert "\x1b" not in told and "no limit" in told and "checkpoint" not in told
    assert "\n" not in origin(found)


@pytest.mark.parametrize(
    ("values", "kind", "program", "certainty"),
    [
        (vars(dump(1)), Kind.LOGICAL_DUMP, "pg_dump", Certainty.CERTAIN),
        ({"application_name": "pg_dump"}, Kind.LOGICAL_DUMP, "pg_dump", Certainty.LIKELY),
        (
            {"application_name": "pg_restore", "copy": "COPY FROM"},
            Kind.LOGICAL_RESTORE,
            "pg_restore",
            Certainty.CERTAIN,
        ),
        ({**vars(dump(1)), "application_name": "cron"}, Kind.LOGICAL_DUMP, "unknown program", Certainty.LIKELY),
        (
            {"query": "LOCK TABLE public.a, public.b IN ACCESS SHARE MODE"},
            Kind.LOGICAL_DUMP,
            "unknown program",
            Certainty.LIKELY,
        ),
        (
            {"application_name": "pgBackRest [backup]", "lock_of": "pgBackRest", "state": "idle"},
            Kind.SESSION,
            "pgBackRest",
            Certainty.CERTAIN,
        ),
        ({"application_name": "pgBackRest [backup]", "state": "idle"}, Kind.SESSION, "pgBackRest", Certainty.LIKELY),
        ({"application_name": None, "lock_of": "WAL-G", "state": "idle"}, Kind.SESSION, "WAL-G", Certainty.CERTAIN),
        ({"query": "select pg_backup_start('x')"}, Kind.SESSION, "unknown program", Certainty.CERTAIN),
        (
            {"query": "select pg_catalog.pg_backup_start($1, $2)", "state": "idle", "application_name": "barman"},
            Kind.SESSION,
            "Barman",
            Certainty.LIKELY,
        ),
        ({"query": "COPY orders TO STDOUT", "copy": "COPY TO"}, Kind.COPY_OUT, "unknown program", Certainty.POSSIBLE),
    ],
    ids=lambda value: getattr(value, "name", str(value)[:40]),
)
def test_what_gives_a_backup_away(values: dict[str, Any], kind: Kind, program: str, certainty: Certainty) -> None:
    """By what it does, holds or is called; the name alone makes it likely, the deed certain."""
    found = only(session(1, **{name: value for name, value in values.items() if name != "pid"}))
    assert (found.kind, found.program, found.certainty) == (kind, program, certainty)
    assert found.evidence and found.rogue is (certainty is not Certainty.POSSIBLE)


@pytest.mark.parametrize(
    "session",
    [
        walsender(1, application_name="replica", replication_state="streaming", query="START_REPLICATION 0/A000000"),
        walsender(1, application_name="barman_receive_wal", replication_state="streaming", slots=("barman",)),
        walsender(1, application_name="pg_basebackup", replication_state="streaming", query="START_REPLICATION"),
        walsender(1, application_name="sub", database="shop", replication_state="streaming", query="START_REPLICATION"),
        walsender(1, application_name="pg_1_sync_2", database="shop", query="COPY public.t TO STDOUT", copy="COPY TO"),
        session(1, query="SELECT sum(a.x) FROM a JOIN b USING (id)", relations=80, xmin="736"),
        session(1, state="idle in transaction", relations=200, xmin="736"),
        session(1, query="COPY orders FROM STDIN", copy="COPY FROM"),
        session(1, query="CREATE INDEX ON orders (id)", relations=3),
        session(1, application_name="barman", query="SELECT pg_is_in_recovery()", state="idle"),
        session(1, application_name="pgBackRest [archive-push]", state="idle"),
        session(1, application_name="psql", query="SELECT * FROM pg_stat_activity WHERE query ~ 'pg_backup'"),
        session(1, application_name="backup_guard"),
    ],
    ids=lambda session: f"{session.application_name} {session.query}"[:50],
)
def test_what_is_no_backup(session: Session) -> None:
    """Replicas, receivers of WAL, subscriptions that copy their tables, reports, loads, and our own probes."""
    assert recognise(seen(session)) == ()


def test_a_dump_is_one_however_many_workers_it_has() -> None:
    """They share the leader's snapshot; one of another program, or with another snapshot, is another dump."""
    leader = session(1, application_name="pg_dump", state="idle in transaction", xmin="736", relations=164)
    workers = [dump(pid, relations=1) for pid in (2, 3, 4)]
    starting = session(5, application_name="pg_dump", state="idle in transaction", xmin=None)
    assert only(leader, *workers, starting).pids == (1, 2, 3, 4, 5)
    assert only(leader, *workers).done == 15_000_000
    assert [found.pids for found in recognise(seen(leader, *workers, dump(9, xmin="990")))] == [(1, 2, 3, 4), (9,)]
    assert len(recognise(seen(leader, dump(2, client="10.0.0.10")))) == 2


def test_a_disguised_dump_with_workers_is_found_with_its_leader() -> None:
    """Whatever its name: the workers copy in pg_dump's words, under the snapshot of one that holds everything."""
    leader = session(1, application_name="job", state="idle in transaction", xmin="736", relations=164)
    workers = [dump(pid, application_name="job", relations=1) for pid in (2, 3)]
    found = only(leader, *workers)
    assert found.certainty is Certainty.LIKELY
    assert set(found.pids) == {1, 2, 3}


def test_pg_dumpall_is_one_with_the_dumps_that_it_starts() -> None:
    """Its databases come one after the other, and each shall not be a new alarm."""
    leader = session(1, application_name="pg_dumpall", state="idle", database="postgres")
    found = only(leader, dump(2))
    assert (found.program, found.pids, found.certainty) == ("pg_dumpall", (1, 2), Certainty.CERTAIN)
    assert found.id == only(leader, dump(7, database="other", xmin="800")).id


def test_what_cannot_be_seen_is_said() -> None:
    """Without pg_monitor a base backup is still found by its process, with nothing made up about it."""
    hidden = Session(7, user="postgres", application_name="pg_basebackup", base_backup=True)
    activity = seen(hidden, may_see=False)
    (found,) = recognise(activity)
    assert (found.certainty, found.since, found.rate) == (Certainty.CERTAIN, None, None)
    assert "limit" not in " ".join(found.evidence)
    assert found.id == "20240601-7"
    assert "GRANT pg_monitor TO guard" in " ".join(activity.blind)
    assert "hidden" in report(found, Sighting(activity.at, "guard"))
    assert "track_activities" in " ".join(seen(tracks=False).blind)


# Whose it is


def test_ours_is_proven_by_the_repository_or_by_the_slot() -> None:
    """With neither it is a stranger, or a remnant; a repository that knows it not leaves it open whose it is."""
    copy = (slot_holder(1), ours(2))
    assert claims(seen(*copy)) == (OURS,)
    assert only(*copy).owner is Owner.OURS
    assert only(*copy, proven=frozenset({OURS})).owner is Owner.OURS
    assert not only(*copy).rogue
    assert only(*copy, proven=frozenset()).owner is Owner.CLAIMED
    alone = only(ours(2))
    assert (alone.owner, alone.rogue) == (Owner.FOREIGN, True)
    assert "does not hold the slot" in alone.evidence[-1]
    assert only(*copy).pids == (2, 1)


def test_who_takes_the_name_of_a_copy_that_runs_is_not_taken_for_it() -> None:
    """A copy has one base backup; whoever came later, or from elsewhere, is somebody else."""
    first, second = recognise(seen(slot_holder(1), ours(2), ours(3)), frozenset({OURS}))
    assert {first.owner, second.owner} == {Owner.OURS, Owner.FOREIGN}
    elsewhere = only(slot_holder(1), ours(2, client="10.9.9.9"))
    assert elsewhere.owner is Owner.FOREIGN


@pytest.mark.parametrize("name", [None, "", "backup_guard", "backup_guard/", "backup_guard/latest", f"x{OURS}"])
def test_only_a_backups_own_name_is_a_claim(name: str | None) -> None:
    """What merely looks a little like it claims nothing."""
    assert claimed_backup_id(name) is None
    assert claimed_backup_id(session_name(OURS)) == OURS


# How fast, and what to do


def test_the_rate_is_of_two_looks() -> None:
    """Bytes between them by seconds between them; a new table counts from its beginning, never backwards."""
    began = NOON
    before = seen(base_backup(7, query_start=began), dump(1, query_start=began))
    after = seen(
        base_backup(7, query_start=began, done=30_000_000),
        dump(1, query_start=began + timedelta(seconds=9), copied=2_000_000),
        at=before.at + timedelta(seconds=2),
    )
    rates = {found.program: found.rate for found in with_rates(recognise(after), before, after)}
    assert rates == {"pg_basebackup": 10_000_000, "pg_dump": 1_000_000}


def test_how_to_stop_it_says_what_that_needs() -> None:
    """The statement with every process; a privilege that lacks; and that a script comes again."""
    sighting = Sighting(NOON, "guard")
    text = "\n".join(f"{command} {does}" for command, does in how_to_stop(only(base_backup(7)), sighting))
    assert "SELECT pg_terminate_backend(7)" in text
    assert "GRANT pg_signal_backend TO guard" in text
    assert "cron and systemd timers on 10.0.0.9" in text
    superusers = only(base_backup(7, superuser=True))
    assert any("superuser" in does for _, does in how_to_stop(superusers, replace(sighting, may_end=True)))
    guarded = only(slot_holder(1), ours(2))
    assert next(how_to_stop(guarded, sighting))[0] == f"backup-guard stop {OURS}"


def test_plain_values_lose_nothing() -> None:
    """A rogue backup travels through XCom and JSON."""
    found = only(base_backup(7))
    assert from_plain(plain(found)) == found
    assert plain(found)["title"] == title(found) == "pg_basebackup (base backup)"


BASELINE = {"full_page_images": 20.0, "transaction_wal": 4000.0}


def load(**values: float) -> LoadSample:
    """A load as it is right after a checkpoint that somebody asked for."""
    usual = {"requested_checkpoints": 1.0, "full_page_images": 900.0, "transaction_wal": 90_000.0}
    return LoadSample(NOON, {**usual, **values})


def test_a_surge_without_a_cause_is_possible_and_no_more() -> None:
    """A checkpoint that was asked for, and whole pages and WAL far above what is usual; CREATE INDEX explains it."""
    found = surge(seen(), load(), BASELINE)
    assert found is not None
    assert (found.certainty, found.rogue) == (Certainty.POSSIBLE, False)
    assert surge(seen(works=("CREATE INDEX",)), load(), BASELINE) is None
    assert surge(seen(), load(requested_checkpoints=0.0), BASELINE) is None
    assert surge(seen(), load(full_page_images=90.0), BASELINE) is None
    assert surge(seen(), load(), {}) is None


NAMES = st.sampled_from(
    [None, "web", "pg_dump", "pg_dumpall", "pg_basebackup", session_name(OURS), "pgBackRest [backup]"]
)
SESSIONS = st.lists(
    st.builds(
        session,
        st.integers(1, 50),
        application_name=NAMES,
        backend_type=st.sampled_from([None, "client backend", "walsender"]),
        backend_start=st.sampled_from([None, NOON]),
        base_backup=st.booleans(),
        copy=st.sampled_from([None, "COPY TO", "COPY FROM"]),
        xmin=st.sampled_from([None, "1", "2"]),
        relations=st.integers(0, 40),
        slots=st.sampled_from([(), ("backup_guard",), ("pg_basebackup_3",)]),
        query=st.sampled_from([None, BASE_BACKUP, "select pg_backup_start('x')", "COPY t (a) TO stdout;"]),
    ),
    unique_by=lambda one: one.pid,
    max_size=8,
)


@given(SESSIONS, st.randoms())
def test_each_session_is_of_one_backup_at_most(sessions: list[Session], random: Any) -> None:
    """However they come: no base backup is overlooked, none counts twice, and the order of the rows says nothing."""
    found = recognise(seen(*sessions))
    pids = [pid for backup in found for pid in backup.pids]
    assert len(pids) == len(set(pids))
    assert {one.pid for one in sessions if one.base_backup} <= set(pids)
    shuffled = list(sessions)
    random.shuffle(shuffled)
    again = recognise(seen(*shuffled))
    assert {backup.id: set(backup.pids) for backup in again} == {backup.id: set(backup.pids) for backup in found}
