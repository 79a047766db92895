"""The way back with standard tools alone: the very commands of docs/format.md, which the tests run."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.repository_url import parse_repository_url
from airflow_backup_guard.core.runbook.blocks import Block, Commands, Heading, Paragraph
from airflow_backup_guard.core.runbook.facts import Facts
from airflow_backup_guard.core.runbook.places import BY_HAND, KEY_FILE, OWNER, encrypted, programs, settings_elsewhere
from airflow_backup_guard.core.shell import quoted

FROM_S3 = r"""aws s3 cp "$S3_URL/records/$PLAN/$BACKUP_ID.json" "$REPOSITORY/records/$PLAN/$BACKUP_ID.json"
aws s3 cp --recursive "$S3_URL/backups/$PLAN/$BACKUP_ID" "$REPOSITORY/backups/$PLAN/$BACKUP_ID"
"""

COMPARE = r"""cd "$REPOSITORY"
awk -F '"' '$2 == "key" {key = $4} $2 == "sha256" {print $4 "  " key}' "records/$PLAN/$BACKUP_ID.json" |
  sha256sum --check --strict
"""

UNPACK = r"""decode() {
  case $1 in
    *.age) age --decrypt --identity "$IDENTITY" "$1" ;;
    *) cat "$1" ;;
  esac | zstd --decompress --stdout --quiet
}

umask 077
cd "$REPOSITORY/backups/$PLAN/$BACKUP_ID"
cd "./$(ls | grep '^try-' | sort -t - -k 2 -n | tail -n 1)"   # where a copy was retried
mkdir -p "$PGDATA"
chmod 700 "$PGDATA"
[ -z "$(ls -A "$PGDATA")" ]   # ends here if anything is in it
decode base.tar.zst* | tar --extract --file=- --directory="$PGDATA" --preserve-permissions --no-same-owner
decode backup_manifest.zst* >"$PGDATA/backup_manifest"
for segment in wal/*; do
  name=${segment#wal/}
  decode "$segment" >"$PGDATA/pg_wal/${name%%.*}"
done
"""

UNPACK_TABLESPACES = r"""for archive in [0-9]*.tar.zst*; do
  [ -e "$archive" ] || continue
  oid=${archive%%.*}
  mkdir -p "$TABLESPACES/$oid"
  decode "$archive" | tar --extract --file=- --directory="$TABLESPACES/$oid" --preserve-permissions --no-same-owner
  ln -s "$TABLESPACES/$oid" "$PGDATA/pg_tblspc/$oid"
  printf '%s %s\n' "$oid" "$TABLESPACES/$oid" >>"$PGDATA/tablespace_map.new"
done
[ ! -e "$PGDATA/tablespace_map.new" ] || mv "$PGDATA/tablespace_map.new" "$PGDATA/tablespace_map"
"""

CHECK = r"""pg_verifybackup --ignore tablespace_map "$PGDATA"
"""

START = r"""rm -f "$PGDATA/standby.signal"
pg_ctl --pgdata="$PGDATA" --log="$PGDATA/restored.log" --wait --timeout=3600 start --options=" \
  -c listen_addresses='' -c unix_socket_directories='$PGDATA' -c archive_mode=off -c ssl=off \
  -c shared_preload_libraries='' -c max_logical_replication_workers=0"
"""

LOOK = r"""port=$(sed -n 4p "$PGDATA/postmaster.pid")
psql --host="$PGDATA" --port="$port" --username=postgres --dbname=postgres --command='
  SELECT datname, pg_size_pretty(pg_database_size(oid)) FROM pg_database'
"""

STOP = r"""pg_ctl --pgdata="$PGDATA" --wait stop
"""


def by_hand(facts: Facts, record: BackupRecord) -> Iterator[Block]:
    """The section, for the newest backup and where it is stored."""
    url = parse_repository_url(facts.plan.repository)
    age, key = (", age", " and the key") if encrypted(record) else ("", "")
    yield Heading("If backup-guard itself cannot be had: by hand")
    yield Paragraph(
        f"The backup is PostgreSQL's own files in standard containers. It takes zstd, tar, sha256sum, awk{age} and "
        f"the programs of PostgreSQL {record.snapshot.cluster.major}. As root, make a folder for the user who runs "
        f"PostgreSQL, see that this user may read the backups{key}, and go on as that user:"
    )
    yield Commands(f"install --directory --owner={OWNER} --mode=700 {BY_HAND}\nsudo -u {OWNER} bash", ready=False)
    yield Paragraph("What follows is one script, which the first error ends. It begins with:")
    folder = f"{BY_HAND}/fetched" if url.scheme == "s3" else url.path
    variables = {
        "REPOSITORY": folder,
        "PLAN": record.plan_name,
        "BACKUP_ID": record.backup_id,
        "PGDATA": f"{BY_HAND}/data",
        "TABLESPACES": f"{BY_HAND}/tablespaces",
        **({"IDENTITY": KEY_FILE} if encrypted(record) else {}),
        **({"S3_URL": "/".join(filter(None, (f"s3://{url.bucket}", url.path)))} if url.scheme == "s3" else {}),
    }
    yield Commands(
        "\n".join(
            [
                "set -euo pipefail",
                *(f"{name}={quoted(value)}" for name, value in variables.items()),
                f"PATH={programs(record)}:$PATH",
            ]
        )
    )
    if url.scheme == "s3":
        yield from _steps(("Fetch it, with the command of AWS:", FROM_S3))
    look = LOOK.replace("--username=postgres", f"--username={quoted(facts.plan.drill.superuser)}")
    yield from _steps(
        ("Every object must be OK:", COMPARE),
        ("Unpack:", UNPACK),
        *([("Tablespaces, before the first start:", UNPACK_TABLESPACES)] if record.tablespaces else []),
        ("Have PostgreSQL check it:", CHECK),
    )
    if settings_elsewhere(record):
        yield Paragraph("The original kept its configuration files elsewhere. To look at the data, these will do:")
        yield Commands('touch "$PGDATA/postgresql.conf"\necho \'local all all trust\' >"$PGDATA/pg_hba.conf"')
    yield from _steps(("Start it where nobody reaches it, and look:", START + look), ("Stop it:", STOP))


def _steps(*steps: tuple[str, str]) -> Iterator[Block]:
    for said, code in steps:
        yield Paragraph(said)
        yield Commands(code.rstrip("\n"))
