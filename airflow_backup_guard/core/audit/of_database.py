"""Checks of the database server and of the role that backups are made as."""

from __future__ import annotations

from datetime import date, timedelta

from airflow_backup_guard.core.audit.facts import Database, Facts, Slot
from airflow_backup_guard.core.audit.values import Judgement, fails, moment, passes, unknown
from airflow_backup_guard.core.check import CheckStatus
from airflow_backup_guard.core.names import SLOT_NAME
from airflow_backup_guard.core.units import Size
from airflow_backup_guard.core.watchdog import Policy

SUPPORT_ENDS = {
    15: date(2027, 11, 11),
    16: date(2028, 11, 9),
    17: date(2029, 11, 8),
    18: date(2030, 11, 14),
}
"""The final release of each major version, from https://www.postgresql.org/support/versioning/."""

_ORPHANED_AFTER = timedelta(hours=1)  # a standby that restarts is back sooner


def least_privilege(database: Database, facts: Facts) -> Judgement:
    """The role may nothing that backups do not need."""
    if database.superuser:
        return fails(f"Role {database.role} is a superuser: whoever has its password owns the server.")
    surplus = list(database.surplus)
    if database.may_end and facts.plan.watchdog.policy is not Policy.TERMINATE:
        surplus.append("pg_signal_backend, as the plan's watchdog ends nothing")
    if surplus:
        return fails(f"Role {database.role} has more than it needs: {', '.join(surplus)}.")
    return passes(f"Role {database.role} may no more than a backup needs.")


def enough_privilege(database: Database, facts: Facts) -> Judgement:
    """The role may back up, see the load, and end rogue backups if the plan says so."""
    missing = []
    for name in ("replication privilege", "monitor privilege"):
        check = database.check(name)
        if check is None:
            return unknown(f"The preflight did not come to its question about the {name}.")
        if check.status is not CheckStatus.OK:
            missing.append(check.detail)
    if facts.plan.watchdog.policy is Policy.TERMINATE and not database.may_end:
        missing.append(f"Role {database.role} is no member of pg_signal_backend, and the watchdog shall end backups.")
    return fails(" ".join(missing)) if missing else passes(f"Role {database.role} may all that the plan asks of it.")


def database_tls(database: Database, facts: Facts) -> Judgement:
    """Our own connection is encrypted, or does not leave the server's machine."""
    if database.tls:
        return passes(f"The connection of this audit uses {database.tls}.")
    if database.stays_on_host:
        return passes("The connection does not leave the server's machine.")
    return fails("The connection of this audit, made as those of backups are, is not encrypted.")


def checksums(database: Database, facts: Facts) -> Judgement:
    """The server notices damage on its disk before a backup copies it."""
    return _as_preflight(database, "data checksums", "Data checksums are {}.")


def slot_limit(database: Database, facts: Facts) -> Judgement:
    """A replication slot cannot fill the server's disk."""
    return _as_preflight(database, "slot WAL limit", "A slot keeps {} of WAL at most.")


def no_orphan_slots(database: Database, facts: Facts) -> Judgement:
    """Each replication slot has a reader."""
    orphans = [slot for slot in database.slots if _is_orphan(slot, facts)]
    if orphans:
        return fails(f"Nobody reads {len(orphans)} of {len(database.slots)} slots: {'; '.join(map(_text, orphans))}.")
    return passes(
        f"Each of {len(database.slots)} replication slots has a reader." if database.slots else "There is none."
    )


def supported(database: Database, facts: Facts) -> Judgement:
    """PostgreSQL's developers still mend this major version."""
    major = database.server_version // 10000
    ends = SUPPORT_ENDS.get(major)
    if ends is None:
        return unknown(f"When support of PostgreSQL {major} ends is not known to this release.")
    if facts.end.date() > ends:
        return fails(f"Support of PostgreSQL {major} ended on {ends:%Y-%m-%d}.")
    return passes(f"PostgreSQL {major} is supported until {ends:%Y-%m-%d}.")


def _as_preflight(database: Database, name: str, said: str) -> Judgement:
    check = database.check(name)
    if check is None:
        failed = [str(one) for one in database.checks if one.status is CheckStatus.FAILED]
        return unknown(f"The preflight did not come to that question: {' '.join(failed[:1]) or 'it ended early.'}")
    return passes(said.format(check.detail)) if check.status is CheckStatus.OK else fails(check.detail)


def _is_orphan(slot: Slot, facts: Facts) -> bool:
    if slot.active or slot.temporary or slot.name == SLOT_NAME:
        return False
    return slot.inactive_since is None or facts.end - slot.inactive_since > _ORPHANED_AFTER


def _text(slot: Slot) -> str:
    held = "" if slot.retained is None else f" holds {Size(slot.retained)} of WAL"
    since = "" if slot.inactive_since is None else f", idle since {moment(slot.inactive_since)}"
    return f"{slot.name}{held}{since}"
