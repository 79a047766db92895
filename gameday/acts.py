"""The acts of the game day, in their order: what is told, what is to be done, and how one sees that it was done."""

from __future__ import annotations

import json
import shlex
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gameday.shop import ROGUE_ROLE, SCRIPT, Shop

UNGUARDED = "BG010"
"""The check of an audit that no backup runs which nobody guards."""
_GUARD = f"{shlex.quote(sys.executable)} -m airflow_backup_guard"


@dataclass(frozen=True)
class Act:
    """One act. ``begin`` changes the shop; ``done`` looks whether it is as it should be, given what the trainee typed
    last; ``perform`` does what the trainee would, and returns what they would type. The figures after one that
    ``settles`` are taken once they are of the shop as it is then."""

    name: str
    story: str
    task: str
    hint: str
    done: Callable[[Shop, str], bool]
    perform: Callable[[Shop], str]
    begin: Callable[[Shop], None] = lambda shop: None
    end: Callable[[Shop], None] = lambda shop: None
    settles: bool = False


class ActFailed(Exception):
    """A command of an unattended act did not do what it should."""


def _run(shop: Shop, command: str) -> str:
    done = shop.shell(command)
    if done.returncode != 0:
        raise ActFailed(f"{command}\nended with status {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def _look(shop: Shop, command: str) -> dict[str, Any]:
    """The JSON document of a command whose verdict may be bad."""
    said = shop.shell(f"{_GUARD} {command} --json").stdout
    try:
        document: dict[str, Any] = json.loads(said)
    except ValueError:
        raise ActFailed(f"backup-guard {command} answered no JSON: {said}") from None
    return document


def _who(shop: Shop) -> str:
    for _ in range(10):
        # Between two of the script's backups there is none to see.
        for backup in _look(shop, "who").get("backups", []):
            if backup["rogue"] and backup["user"]:
                return str(backup["user"])
    raise ActFailed("backup-guard who saw no rogue backup")


def _stop(shop: Shop) -> str:
    shop.end_script()
    _run(shop, f"psql -qtc \"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROGUE_ROLE}'\"")
    return ""


def _back_up(shop: Shop) -> str:
    _run(shop, f"{_GUARD} backup --plan-name shop --checkpoint fast")
    return ""


def _restore(shop: Shop) -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # A trainee who skipped may have come half of the way.
    target = shop.scratch if not shop.scratch.exists() else shop.scratch.with_name("scratch-again")
    _run(shop, f"{_GUARD} restore latest --to {shlex.quote(str(target))} --start --port {port}")
    _run(shop, f"pg_dump -p {port} --clean --if-exists -t customers shop | psql -q -v ON_ERROR_STOP=1 shop")
    return ""


def _failed_checks(shop: Shop) -> list[str]:
    checks = _look(shop, "check").get("checks", [])
    return [str(check["name"]) for check in checks if check["status"] == "failed"]


def _check(shop: Shop) -> str:
    for _ in range(10):
        for name in _failed_checks(shop):
            return name
    raise ActFailed("backup-guard check found nothing wrong while a backup ran")


def _audit(shop: Shop) -> str:
    for _ in range(10):
        # The script's backups come and go; an audit sees what runs while it looks.
        for audit in _look(shop, "audit").get("audits", []):
            if any(found["check"] == UNGUARDED and found["verdict"] == "fail" for found in audit["findings"]):
                return UNGUARDED
    raise ActFailed("backup-guard audit saw no backup that nobody guards")


ACTS = (
    Act(
        "The shop at noon",
        "This is a shop, and its PostgreSQL. Customers order, and each order is a commit. Below are the orders a "
        "second and how long the slowest of twenty takes: that is what customers feel.",
        "Remember both figures. Then press Enter.",
        "It is enough to know roughly what is normal here. Press Enter.",
        done=lambda shop, typed: typed == "ready" and shop.figures()[0] > 0,
        perform=lambda shop: "ready",
        settles=True,
    ),
    Act(
        "The diagnosis",
        "Something has begun. Orders are slow, people think of an attack. Is it one?",
        "In the second terminal:  backup-guard who\nThen type here the role that the load comes from.",
        "The line “who” of the answer says “role …”. The role's name is the answer. Ask again if you see no backup.",
        begin=Shop.start_script,
        done=lambda shop, typed: typed == ROGUE_ROLE,
        perform=_who,
    ),
    Act(
        "The stop",
        f"It is a backup: an old script, {SCRIPT}, that somebody's cron runs at noon, without any limit.",
        "End it, so that it stays away. What “backup-guard who” says under “to stop it” ends the backup; the script "
        "that starts it again has to end, too. Nothing is to be typed here.",
        f"pgrep -f {SCRIPT}  shows the processes of the script; end them with kill, the oldest and its loops. Then do\n"
        f"psql -c \"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROGUE_ROLE}'\"",
        done=lambda shop, typed: shop.script_is_gone(),
        perform=_stop,
        settles=True,
    ),
    Act(
        "The guarded backup",
        "The shop still needs a backup, and it is still noon. A guarded one follows the load of the database.",
        "In the second terminal:  backup-guard backup --plan-name shop --checkpoint fast\n"
        "Watch the figures below meanwhile.",
        "The command ends with a report of what commits felt. The act is done as soon as  backup-guard list  has "
        "the backup.",
        done=lambda shop, typed: shop.backups() > 0,
        perform=_back_up,
    ),
    Act(
        "The lost table",
        "A colleague was in the wrong terminal: DROP TABLE customers. There is a backup.",
        "Bring the table back, with every row, while the shop stays open. In the second terminal:\n"
        'backup-guard restore latest --to "$SCRATCH" --start --port 5433\n'
        "Then take the table from there, and put it into the shop.",
        "pg_dump -p 5433 -t customers shop | psql shop",
        begin=Shop.drop_customers,
        done=lambda shop, typed: shop.customers_are_back(),
        perform=_restore,
    ),
    Act(
        "What would have caught it",
        "Tomorrow's noon: the script is back in somebody's cron, and your backup is due. What tells you before you "
        "start?",
        "In the second terminal:  backup-guard check\nThen type here the name of the check that fails.",
        "Each line begins with the name of a check; the one that fails says that a backup already loads the server.",
        begin=Shop.start_script,
        done=lambda shop, typed: typed == "other backups",
        perform=_check,
    ),
    Act(
        "The audit",
        "The script still runs, and nobody looks any more. Once a quarter somebody asks for proof that backups are "
        "safe here.",
        "In the second terminal:  backup-guard audit\nThen type here the id of the check that saw the script's backup, "
        "such as BG001.",
        "Look for “fail” and “guarded by nobody”; the id is at the beginning of that line. If it passed, the audit "
        "looked between two backups of the script: audit again.",
        done=lambda shop, typed: typed.upper() == UNGUARDED and shop.audits() > 0,
        perform=_audit,
        end=Shop.end_script,
    ),
)
"""A further act goes to the end."""
