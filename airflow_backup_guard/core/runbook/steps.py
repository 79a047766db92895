"""The steps of a recovery, each with the commands of this very cluster."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_backup_guard.core.audit.values import moment
from airflow_backup_guard.core.backup import BackupRecord, Tablespace
from airflow_backup_guard.core.drill_policy import DrillCheck
from airflow_backup_guard.core.repository_url import without_connection
from airflow_backup_guard.core.runbook.blocks import Block, Bullets, Commands, Heading, Paragraph
from airflow_backup_guard.core.runbook.facts import Facts
from airflow_backup_guard.core.runbook.places import (
    DATA,
    KEY_FILE,
    OWNER,
    PORT,
    TABLESPACES,
    encrypted,
    programs,
    settings_elsewhere,
)
from airflow_backup_guard.core.secrets import without_secrets
from airflow_backup_guard.core.shell import command, database_option, quoted
from airflow_backup_guard.core.units import format_duration


def steps(facts: Facts, record: BackupRecord) -> Iterator[Block]:
    """From an empty machine to a database that applications may use, and that is backed up again."""
    yield from _preparation(facts, record)
    yield from _first_steps(facts, record)
    yield from _restore(facts, record)
    yield from _look(facts, record)
    yield from _into_service(facts, record)
    yield from _one_table(facts)


def _preparation(facts: Facts, record: BackupRecord) -> Iterator[Block]:
    major, extra = record.snapshot.cluster.major, "[age]" if encrypted(record) else ""
    yield Heading("Before you begin")
    yield Paragraph(
        f"The commands are for bash, as root on Linux, with PostgreSQL {major} as Debian and Ubuntu install it; no "
        f"other major version will do. sudo -u {OWNER} stands before what the user must do who runs PostgreSQL. A "
        "machine that has nothing yet needs:"
    )
    package = f"airflow-backup-guard{extra}=={facts.version}"
    yield Commands(f"apt install postgresql-{major}\n{command('pip', 'install', package)}", ready=False)
    if encrypted(record):
        yield Paragraph(f"Put the file with the age secret key at {KEY_FILE}, readable for root alone.")
    if facts.plan.repository.startswith("s3:"):
        yield Paragraph(
            "Say who you are to the store, by the variables of AWS (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
            "AWS_DEFAULT_REGION, and AWS_ENDPOINT_URL for a store of another make) or by a profile."
        )
    yield Paragraph("Say where the backups are:")
    yield Commands(f"export BACKUP_GUARD_REPOSITORY={quoted(without_connection(facts.plan.repository))}")


def _first_steps(facts: Facts, record: BackupRecord) -> Iterator[Block]:
    name = ("--plan-name", facts.plan.name)
    yield Heading("1. See what there is")
    yield Paragraph(
        "If a newer backup is verified by now, put its id in place of the one in the commands below. A newer one that "
        "is not verified loses less, and the restore checks every byte: try it if there is time for a second try."
    )
    yield Commands(command("backup-guard", "list", name))
    yield Heading("2. Keep it from expiring meanwhile")
    yield Commands(command("backup-guard", "hold", record.backup_id, name, ("--reason", "the server is lost")))


def _restore(facts: Facts, record: BackupRecord) -> Iterator[Block]:
    yield Heading("3. Restore it, and start PostgreSQL where only this machine reaches it")
    if any(not space.location.startswith("/") for space in record.tablespaces):
        yield Paragraph("It has tablespaces in place, which this command refuses: restore it by hand, as below.")
    own_settings = not settings_elsewhere(record)
    yield Commands(_restore_command(facts, record, start=own_settings))
    yield Paragraph(
        "Every byte is checked as it is written. What is cut off goes on with the same command and --resume. A folder "
        "that is not empty is refused: take others."
    )
    if not own_settings:
        yield from _start_without_settings(record)
    if facts.before is not None:
        yield Heading("If that backup turns out to be damaged")
        yield Paragraph("Restore the one before it, and put its id in place of the other:")
        yield Commands(_restore_command(facts, facts.before, start=not settings_elsewhere(facts.before)))


def _restore_command(facts: Facts, record: BackupRecord, start: bool) -> str:
    mappings = [("--tablespace-mapping", _mapping(space)) for space in record.tablespaces]
    return command(
        "backup-guard",
        "restore",
        record.backup_id,
        ("--plan-name", facts.plan.name),
        ("--to", DATA),
        ("--owner", OWNER),
        *mappings,
        *([("--identity", KEY_FILE)] if encrypted(record) else []),
        *(["--start", ("--port", PORT)] if start else []),
    )


def _mapping(space: Tablespace) -> str:
    """As the command reads it: an = within a path has a backslash before it."""
    old = without_secrets(space.location).replace("=", "\\=")
    return f"{old}={TABLESPACES}/{space.oid}"


def _start_without_settings(record: BackupRecord) -> Iterator[Block]:
    """As ``--start`` does it, for a server that kept its configuration where no base backup has it."""
    yield Paragraph(
        "The original kept postgresql.conf and pg_hba.conf outside of its data directory, so that they are in no "
        "backup. To look at the data, these will do. Put copies of the real ones in their place before applications "
        "come back."
    )
    start = (
        f"sudo -u {OWNER} {programs(record)}/pg_ctl -D {DATA} -l {DATA}/startup.log \\\n"
        f'    -o "-c listen_addresses=127.0.0.1 -c port={PORT} -c unix_socket_directories={DATA}" \\\n'
        "    -o \"-c archive_mode=off -c ssl=off -c shared_preload_libraries=''\" \\\n"
        '    -o "-c max_logical_replication_workers=0" \\\n'
        "    -w -t 3600 start"
    )
    yield Commands(
        f"sudo -u {OWNER} touch {DATA}/postgresql.conf\n"
        f"echo 'local all all trust' | sudo -u {OWNER} tee {DATA}/pg_hba.conf\n{start}"
    )


def _look(facts: Facts, record: BackupRecord) -> Iterator[Block]:
    yield Heading("4. Look at it, before anybody else does")
    yield Paragraph("Are all databases there?")
    sizes = "SELECT datname, pg_size_pretty(pg_database_size(oid)) FROM pg_database"
    yield Commands(_psql(facts, "postgres", sizes))
    if facts.plan.drill.checks:
        yield Paragraph("The drills of this plan ask these questions. The answers should be as good now:")
    for name, check in facts.plan.drill.checks:
        yield Paragraph(f"{name}: {_wanted(check)}")
        yield Commands(_psql(facts, check.database, check.sql))
    if facts.plan.drill.extensions:
        yield Paragraph(f"One database at least must have each of: {', '.join(facts.plan.drill.extensions)}. See \\dx.")
    yield Paragraph(
        f"Tell people that they are back at {moment(record.ended_at)}, and that what they did later is lost. Let "
        "somebody who knows the data look, and say yes."
    )


def _one_table(facts: Facts) -> Iterator[Block]:
    server = (f"--host={DATA}", f"--port={PORT}", f"--username={facts.plan.drill.superuser}")
    yield Heading("If only a table is lost, and the server runs")
    yield Paragraph(
        "Stop what does the damage. Restore and start as in step 3: a newer backup may have the damage in it, and "
        "backup-guard restore --before TIME takes the newest from before a moment. Then take the table from there to a "
        "file, and from the file to the database. Name database and table in place of the words in capitals."
    )
    dump = command("sudo", ("-u", OWNER), "pg_dump", *server, "--dbname=DATABASE", "--table=SCHEMA.TABLE")
    load = command(
        "psql", "--dbname=DATABASE", "--single-transaction", "--set=ON_ERROR_STOP=1", "--file=/srv/table.sql"
    )
    yield Commands(f"{dump} >/srv/table.sql\n{load}", ready=False)


def _psql(facts: Facts, database: str, sql: str) -> str:
    return command(
        "sudo",
        ("-u", OWNER),
        "psql",
        f"--host={DATA}",
        f"--port={PORT}",
        f"--username={facts.plan.drill.superuser}",
        database_option(database),
        f"--command={sql}",
    )


def _wanted(check: DrillCheck) -> str:
    if check.max_age is not None:
        return f"not older than {format_duration(check.max_age)} at the time of the backup"
    return "true" if check.min is None else f"{check.min:g} or more"


def _into_service(facts: Facts, record: BackupRecord) -> Iterator[Block]:
    name = ("--plan-name", facts.plan.name)
    yield Heading("5. Stop it, and put it into service")
    yield Commands(command("sudo", ("-u", OWNER), f"{programs(record)}/pg_ctl", ("-D", DATA), "stop"))
    yield Paragraph(
        f"See {DATA}/postgresql.conf and pg_hba.conf: addresses, port, memory, archive_command and data_directory are "
        "those of the original, and may not fit. Then start it as your system starts PostgreSQL, and build standbys "
        "anew from it."
    )
    yield Heading("6. Back it up at once")
    yield Paragraph(
        "Nothing protects what is written to it from now on. Name the new server in place of NEW-SERVER; then let the "
        f"connection {facts.plan.connection} of Airflow lead to it."
    )
    recipients = [("--recipient", key) for key in facts.plan.recipients]
    backup = command("backup-guard", "backup", name, *recipients)
    yield Commands(
        f"export BACKUP_GUARD_DSN='host=NEW-SERVER user=backup_guard dbname=postgres'\nbackup-guard check\n{backup}",
        ready=False,
    )
    yield Heading("7. When it is over")
    yield Bullets(
        (
            "A new backup is there and verified: backup-guard verify latest.",
            "The next run of the DAG backs up the new server, and a drill passes: backup-guard drill.",
            "The hold is released:",
        )
    )
    yield Commands(command("backup-guard", "release", record.backup_id, name))
