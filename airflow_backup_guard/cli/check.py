"""``backup-guard check``: may a backup begin?"""

from __future__ import annotations

import argparse
import os

from airflow_backup_guard.cli import settings
from airflow_backup_guard.cli.answer import Answer, lines
from airflow_backup_guard.cli.rows import check_rows
from airflow_backup_guard.core.backup import dump_plain
from airflow_backup_guard.core.check import CheckStatus
from airflow_backup_guard.engine import snapshot
from airflow_backup_guard.postgres.check import preflight
from airflow_backup_guard.postgres.check_load import check_load_connection
from airflow_backup_guard.repository.open import open_repository


def run(arguments: argparse.Namespace) -> Answer:
    """Ask the database, and the repository if one is named."""
    dsn = settings.dsn(arguments)
    if arguments.plan or arguments.repository or os.environ.get(settings.REPOSITORY):
        plan, load_dsn = settings.plan_with_load(arguments)
        readiness = snapshot.check(plan, dsn, open_repository(plan.repository), load_dsn=load_dsn)
    else:
        database, load_dsn = preflight(dsn), settings.load_dsn(arguments)
        load = () if load_dsn is None else (check_load_connection(load_dsn, database.cluster),)
        readiness = snapshot.Readiness(database, (*database.checks, *load))
    document = {
        "ready": not readiness.failed,
        "checks": [dump_plain(check) for check in readiness.checks],
        "cluster": dump_plain(readiness.database.cluster) if readiness.database.cluster else None,
        "database_size": readiness.database.content.size if readiness.database.content else None,
    }
    return Answer(document, [lines(check_rows(readiness.checks)), "", _verdict(readiness)], not readiness.failed)


def _verdict(readiness: snapshot.Readiness) -> str:
    if readiness.failed:
        waiting = " Waiting may help." if all(check.transient for check in readiness.failed) else ""
        return f"Not ready: {', '.join(check.name for check in readiness.failed)}.{waiting}"
    warnings = sum(check.status is CheckStatus.WARNING for check in readiness.checks)
    return "Ready for a backup" + (f", with {warnings} to look at." if warnings else ".")
