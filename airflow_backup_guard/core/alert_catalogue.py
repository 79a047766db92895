"""Every alert that there is: what it means, and the first three things to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One kind of alert. ``key`` is that of its conditions, or what they begin with if it ends with a dot."""

    key: str
    title: str
    meaning: str
    first: tuple[str, str, str]


_WHO = "Ask who: backup-guard who names every backup that runs on this database, and what else loads it."
_PAUSE = "Take the backup out of it: backup-guard pause; backup-guard resume takes that back."
_STOP = "If the application suffers, end it: backup-guard stop. The next run starts afresh, nothing is lost."
_LOOK = "Look at the server's log and disk, and at pg_stat_activity: what has it been doing since then?"
_PLAN = "If that is how this database always is, raise the threshold; backup-guard tune proposes one."


def _of_load(signal: str, title: str, meaning: str, first: tuple[str, str, str]) -> Entry:
    return Entry(f"load.{signal}", title, meaning, first)


CATALOGUE: tuple[Entry, ...] = (
    _of_load(
        "commit_latency",
        "Commits are slow",
        "A tiny commit takes longer than the threshold, and so do those of the application.",
        (_WHO, _PAUSE, _LOOK),
    ),
    _of_load(
        "read_latency",
        "Reads on the standby are slow",
        "A tiny query on the standby that is backed up takes longer than the threshold.",
        (_WHO, _PAUSE, _LOOK),
    ),
    _of_load(
        "replay_lag",
        "The standby falls behind",
        "What the standby shows is older than the threshold: its disk cannot replay and be copied at once.",
        (_PAUSE, "See whether a long query on the standby holds back replay.", _LOOK),
    ),
    _of_load(
        "wal_rate",
        "Much is written",
        "The server writes more WAL a second than the threshold: a batch, a bulk load, or a vacuum runs.",
        ("Find the writer in pg_stat_activity; is a batch late, or early?", _PAUSE, _PLAN),
    ),
    _of_load(
        "tuple_rate",
        "Many rows are written",
        "More rows a second are inserted, updated and deleted than the threshold.",
        ("Find the writer in pg_stat_activity; is a batch late, or early?", _PAUSE, _PLAN),
    ),
    _of_load(
        "commit_rate",
        "Many transactions",
        "More transactions a second end than the threshold: the hour is busier than planned.",
        ("See whether the hour is a quiet one still: backup-guard hours.", _PAUSE, _PLAN),
    ),
    _of_load(
        "transaction_wal",
        "Transactions write much WAL each",
        "WAL per transaction is above the threshold, as after a checkpoint or while any backup runs.",
        (_WHO, "See whether checkpoints come too often: max_wal_size, checkpoint_timeout.", _PLAN),
    ),
    _of_load(
        "full_page_images",
        "Many full-page images",
        "Whole pages go into the WAL, as after a checkpoint or while any backup runs.",
        (_WHO, "See whether checkpoints come too often: max_wal_size, checkpoint_timeout.", _PLAN),
    ),
    _of_load(
        "requested_checkpoints",
        "Checkpoints before their time",
        "The server must checkpoint because WAL fills up, or because somebody asks for it.",
        (_WHO, "Raise max_wal_size if the writers are welcome.", _PAUSE),
    ),
    _of_load(
        "replication_lag",
        "A standby lags behind",
        "A standby has not yet received, or replayed, more WAL than the threshold.",
        ("See pg_stat_replication: which standby, and is it its network or its disk?", _PAUSE, _STOP),
    ),
    _of_load(
        "retained_wal",
        "A slot retains WAL",
        "A replication slot keeps more WAL than the threshold; it can fill the disk of the server.",
        (
            "See pg_replication_slots: whose is it, is it active?",
            "Revive its reader, or drop a slot that nobody needs.",
            "Watch the free space of pg_wal; max_slot_wal_keep_size is the safety net.",
        ),
    ),
    _of_load(
        "io_waits",
        "Sessions wait for the disk",
        "More sessions wait for I/O than the threshold: the disk has more to do than it can.",
        (_WHO, _PAUSE, _LOOK),
    ),
    _of_load(
        "lock_waits",
        "Sessions wait for locks",
        "More sessions wait for a lock than the threshold. A base backup takes none; a dump, a migration does.",
        ("See who holds it: pg_blocking_pids() of those that wait.", _WHO, "End the blocker if it may be ended."),
    ),
    _of_load(
        "block_read_time",
        "Reading a block takes long",
        "The server waits longer for each block than the threshold: the disk is slow, or busy.",
        (_WHO, _PAUSE, _LOOK),
    ),
    _of_load(
        "active_sessions",
        "Many sessions are busy",
        "More sessions work at once than the threshold.",
        ("See pg_stat_activity: what do they run, since when?", _PAUSE, _PLAN),
    ),
    Entry(
        "load.custom.",
        "A signal of your own is over its limit",
        "A query of the plan (limits.custom) gives more than its threshold.",
        ("Whoever wrote the signal knows what it means; it is in the plan.", _PAUSE, _PLAN),
    ),
    Entry(
        "load.unknown",
        "The load cannot be measured",
        "Something that the plan limits cannot be read. The copy takes that for bad, and only crawls.",
        (
            "Read the reason: a grant that is missing, a server that does not answer?",
            "backup-guard check says what the role lacks.",
            "If the server does not answer anybody, see to it first; the copy does it no harm now.",
        ),
    ),
    Entry(
        "copy.late",
        "The backup will not be done within its window",
        "At this pace the copy ends after its off-peak window.",
        (
            "See why it is slow: backup-guard show --picture, or the task's log.",
            "Decide: let it go on, or backup-guard stop before the day begins.",
            "If it is late every night: a longer window, a higher max_rate, or a standby as the source.",
        ),
    ),
    Entry(
        "gate.starved",
        "The backup is held up by the load",
        "The load has not dropped for so long that the RPO is in danger (warning) or missed (critical).",
        (
            "Find what loads the database now, and whether it can wait.",
            "See whether this hour is still a quiet one: backup-guard hours.",
            "Raise the limits if they are too strict, or let the plan go on slowly: when_starved.",
        ),
    ),
    Entry(
        "backup.failed",
        "A task of the backup failed",
        "There may be no new backup of this run. Those that were there are untouched.",
        (
            "Read the reason in this message; the log of the task has the rest.",
            "See what there is to restore from: backup-guard list.",
            "Mend the cause, then clear the task; a retry starts afresh.",
        ),
    ),
    Entry(
        "backup.overdue",
        "There is no new verified backup",
        "No backup was verified in time. A disaster now would lose everything since the last one.",
        (
            "See what there is: backup-guard list; what runs: backup-guard running.",
            "See why the run waits or has failed: the gates' and the copy's logs.",
            "If it cannot wait for the next window: backup-guard backup --outside-window, at a low --max-rate.",
        ),
    ),
    Entry(
        "drill.failed",
        "A restore drill failed",
        "A backup was restored on trial, and did not pass or could not be tried. A recovery may fail in the same way.",
        (
            "Read the reason in this message: is it the backup, the machine that drills, or a question of the plan's?",
            "Try another one: backup-guard drill BACKUP_ID. backup-guard hold keeps one that passes.",
            "Mend the cause, and drill again; do not wait for the next week.",
        ),
    ),
    Entry(
        "audit.failed",
        "An audit did not pass",
        "Something that was promised about backups is not so, or could not be looked at.",
        (
            "Read the report that is named in this message: each finding has its evidence and its remedy.",
            "Mend the critical ones, and audit again: backup-guard audit.",
            "What cannot be mended now: accept it, with an owner and a last day.",
        ),
    ),
    Entry(
        "rogue.",
        "Somebody else backs up this database",
        "A backup runs here that is not the guard's, and that the plan does not allow.",
        (
            "See whose it is and how to stop it: backup-guard who.",
            "If the application suffers, end it: pg_terminate_backend() of the process ids in this message.",
            "Find the script and its schedule; put it behind the guard with backup-guard run, or on the allow-list.",
        ),
    ),
    Entry(
        "channel.",
        "An alert channel does not work",
        "An alert could not be sent through this channel, after several tries.",
        (
            "Read the reason; is the Airflow connection of that channel right?",
            "Try it: backup-guard alert --test.",
            "Until it works, people hear through the other channels only.",
        ),
    ),
    Entry(
        "test",
        "Test of the alert channels",
        "Somebody tried whether alerts arrive.",
        ("Nothing.", "If you should not be told: change the plan's channels.", "Tell whoever asked that it arrived."),
    ),
)


def entry_of(key: str) -> Entry:
    """The entry of a condition's key; raises :class:`KeyError` for one that has none."""
    for entry in CATALOGUE:
        if key == entry.key or (entry.key.endswith(".") and key.startswith(entry.key)):
            return entry
    raise KeyError(key)
