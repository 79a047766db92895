"""What a recovery runbook says: for somebody who has never restored this cluster, at night, with all else down."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from airflow_backup_guard.core.audit.report import WORDS
from airflow_backup_guard.core.audit.values import moment
from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.repository_url import parse_repository_url, without_connection
from airflow_backup_guard.core.runbook.blocks import (
    Block,
    Bullets,
    Heading,
    Paragraph,
    Table,
    html_document,
    markdown_page,
)
from airflow_backup_guard.core.runbook.by_hand import by_hand
from airflow_backup_guard.core.runbook.facts import Facts
from airflow_backup_guard.core.runbook.places import DATA, TABLESPACES
from airflow_backup_guard.core.runbook.steps import steps
from airflow_backup_guard.core.units import Rate, Size, format_duration, whole_seconds

_SUPPOSED_RATE = Rate.parse("100MB/s")
_NEVER = (
    "Never restore over what is left of the old data directory: it may hold what the backup does not. Move it aside.",
    "Never let anybody start the old server while applications reach the new one.",
    "Never let applications in before somebody has looked at the data and said yes.",
    "Never run backup-guard expire, and remove nothing from the repository, until it is over.",
    "Never give an age secret key to a machine or a person who does not need it, and never store it with the backups.",
)


def markdown(facts: Facts) -> str:
    """The runbook as Markdown."""
    return markdown_page(_title(facts), tuple(_page(facts)))


def html(facts: Facts) -> str:
    """The runbook as one file of HTML."""
    return html_document(_title(facts), tuple(_page(facts)))


def _title(facts: Facts) -> str:
    return f"Recovery runbook: {facts.plan.name}"


def _page(facts: Facts) -> Iterator[Block]:
    yield Paragraph(
        f"How to get the PostgreSQL server of plan {facts.plan.name} back from its backups when the server, its disk "
        "or its data is lost. It needs neither that server nor Airflow: only the backups, and a machine to restore to."
    )
    yield Paragraph(
        f"Written on {moment(facts.status.at)} by airflow-backup-guard {facts.version}, from what was stored then. "
        "Print it, or keep it where it can be read when nothing else can."
    )
    if facts.gaps:
        yield Heading("Before anything happens: what is missing or wrong")
        yield Bullets(tuple(map(str, facts.gaps)), bad=True)
    yield from _people(facts)
    yield from _known(facts)
    if (record := facts.backup) is not None:
        yield from _times(facts, record)
        yield from _room(record)
        yield from steps(facts, record)
        yield from by_hand(facts, record)
    yield Heading("Never")
    yield Bullets(_NEVER)
    yield Heading("Words")
    yield Table(tuple(pair for pair in WORDS if pair[0] in ("RPO", "RTO", "drill", "verified")))


def _people(facts: Facts) -> Iterator[Block]:
    yield Heading("Whom to call")
    if facts.plan.contacts:
        yield Paragraph("In this order:")
        yield Table(facts.plan.contacts)
    else:
        yield Paragraph("The plan of these backups names nobody.")


def _known(facts: Facts) -> Iterator[Block]:
    yield Heading("What there is")
    yield Table(tuple(_rows(facts)))


def _rows(facts: Facts) -> Iterator[tuple[str, str]]:
    plan, status = facts.plan, facts.status
    yield "backups are stored in", without_connection(plan.repository)
    if (given := parse_repository_url(plan.repository).connection_id) is not None:
        yield "credentials", f"in Airflow, the connection {given}"
    newest = status.newest
    if (record := facts.backup) is not None:
        cluster, snapshot = record.snapshot.cluster, record.snapshot
        yield "server", f"PostgreSQL {cluster.major}, cluster {cluster.system_identifier}"
        yield "databases", ", ".join(f"{one.name} ({Size(one.size)})" for one in snapshot.databases) or "not known"
        for space in record.tablespaces:
            yield "tablespace", f"{space.name}, which was at {space.location}"
        yield "backup to restore", f"{record.backup_id}, {_trust(facts, record)}"
        yield "it brings back", f"the state of {moment(record.ended_at)}; what was committed later is lost"
        yield "its size", f"{Size(record.database_size)}, stored as {Size(record.stored_size)}"
        if keys := snapshot.plan.get("recipients"):
            yield "encrypted to", f"{', '.join(keys)}: it takes the secret key of one of them"
        before = facts.before
        yield (
            "the verified one before it",
            "none" if before is None else f"{before.backup_id}, the state of {moment(before.ended_at)}",
        )
        if newest is not None and newest.backup_id > record.backup_id:
            state = "not verified" if newest.trust else "DAMAGED"
            yield f"newer, and {state}", f"{newest.backup_id}, of {moment(newest.taken_at)}"
    yield "RPO agreed on", "none" if plan.rpo is None else format_duration(plan.rpo)
    yield "RPO when this was written", status.reason
    yield "RTO agreed on", "none" if plan.rto is None else format_duration(plan.rto)
    yield "RTO of the last drill", _drilled(facts)


def _trust(facts: Facts, record: BackupRecord) -> str:
    last = facts.status.last_verified
    if not facts.verified:
        return "which was NOT verified"
    if last is None or last.backup_id != record.backup_id:
        return "verified"
    return f"verified on {moment(last.verified_at)}"


def _drilled(facts: Facts) -> str:
    drill = facts.status.drill
    if drill is None:
        return "there was none"
    how = "passed" if drill.passed else "FAILED"
    took = drill.rto_seconds
    reached = "the server never answered" if took is None else f"the server answered after {_about(took)}"
    return f"{reached}; the drill {how} on {moment(drill.ended_at)}, with backup {drill.backup_id}"


def _times(facts: Facts, record: BackupRecord) -> Iterator[Block]:
    yield Heading("How long it takes")
    drill = facts.status.drill
    took = {} if drill is None else {stage.name: stage.seconds for stage in drill.stages}
    if drill is None or drill.rto_seconds is None or not {"restore", "recovery"} <= took.keys():
        least = _about(record.database_size / _SUPPOSED_RATE)
        yield Paragraph(
            f"No drill has measured it. To write {Size(record.database_size)} at {_SUPPOSED_RATE}, if repository and "
            f"disk are that fast, takes {least} alone; to that add the recovery of the server."
        )
        return
    grown = record.database_size / facts.drilled_size if facts.drilled_size else 1.0
    restoring, recovering = took["restore"] * grown, took["recovery"]
    yield Table(
        (
            ("restore", f"about {_about(restoring)}"),
            ("start and recovery", f"about {_about(recovering)}"),
            ("both", f"about {_about(restoring + recovering)}"),
        )
    )
    was = f" with {Size(facts.drilled_size)}" if facts.drilled_size else ""
    yield Paragraph(
        f"As the drill of {moment(drill.ended_at)} measured it on its machine{was}, for {Size(record.database_size)}. "
        "To that add a new machine, the look at the data, the first backup, and the change of addresses."
    )


def _about(seconds: float) -> str:
    return whole_seconds(timedelta(seconds=seconds), least=1)


def _room(record: BackupRecord) -> Iterator[Block]:
    yield Heading("How much room it takes")
    spaces = {str(space.oid) for space in record.tablespaces}
    needed = {DATA: 0, **{f"{TABLESPACES}/{oid}": 0 for oid in sorted(spaces)}}
    for part in record.parts:
        if part.kind in ("archive", "wal"):
            needed[f"{TABLESPACES}/{part.name}" if part.name in spaces else DATA] += part.content_size
    yield Table(tuple((folder, str(Size(size))) for folder, size in needed.items()))
    yield Paragraph("And room to grow. The restore looks before it writes, and says what is missing.")
