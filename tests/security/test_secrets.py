"""Secrets that the command line is given are shown nowhere: not in what it prints, stores or starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pyrage
import pytest

from airflow_backup_guard.postgres.server import LocalServer
from tests.security.sampler import ArgumentSampler, holders

IDENTITY, OTHER = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
SECRETS = {
    "password": "Plant1-Pa55'word of/the@database",
    "password in a URI": quote("Plant1-Pa55'word of/the@database", safe=""),
    "its middle": "Pa55'word",
    "wrong": "Plant2-wrong-Pa55word",
    "aws": "Plant3SecretKeyOfTheBucket",
    "restic": "Plant4-restic-password",
    "identity": str(IDENTITY),
    "another identity": str(OTHER),
}


@pytest.fixture(scope="module")
def secretive() -> Iterator[LocalServer]:
    """A server whose role has a password that is not to be seen."""
    with LocalServer.create(major=18, settings={"fsync": "off", "shared_buffers": "32MB"}) as server:
        password = SECRETS["password"].replace("'", "''")
        server.sql(f"CREATE ROLE guard LOGIN REPLICATION PASSWORD '{password}' IN ROLE pg_monitor")
        server.set_hba([f"host {what} guard 127.0.0.1/32 scram-sha-256" for what in ("all", "replication")])
        yield server


def test_planted_secrets_are_found_nowhere(secretive: LocalServer, tmp_path: Path) -> None:
    """Commands that succeed and commands that fail, for a wrong host, password, bucket, identity or connection string:
    no secret is in their output, in the repository (decompressed), or in the arguments of any
    process while they run; and each failure says what is wrong."""
    repository = tmp_path / "backups"
    identity, other, broken = (tmp_path / f"{name}.identity" for name in ("right", "other", "broken"))
    identity.write_text(f"{IDENTITY}\n")
    other.write_text(f"{OTHER}\n")
    broken.write_text(f"{IDENTITY}x\n")
    port, escaped = secretive.port, SECRETS["password in a URI"]
    dsn = f"postgresql://guard:{escaped}@127.0.0.1:{port}/postgres"
    quoted = SECRETS["password"].replace("'", "\\'")
    keywords = f"host=127.0.0.1 port={port} user=guard dbname=postgres password='{quoted}'"
    bucket = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "AKIAPLANTED",
        "AWS_SECRET_ACCESS_KEY": SECRETS["aws"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "BACKUP_GUARD_REPOSITORY": "s3://nowhere/backups",
    }
    printing = 'echo "with $RESTIC_PASSWORD"; echo "and $RESTIC_PASSWORD" >&2; exit 3'
    seen: dict[str, str] = {}

    def run(words: str, *more: str, status: int, said: str, **environment: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "airflow_backup_guard", *words.split(), *more],
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PG"))},
                "BACKUP_GUARD_DSN": dsn,
                "BACKUP_GUARD_REPOSITORY": repository.as_uri(),
                **environment,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        seen[f"{words} {said}"] = output = done.stdout + done.stderr
        assert done.returncode == status, (words, output)
        assert said in output, (words, output)

    with ArgumentSampler() as arguments:
        run(f"backup --checkpoint fast --recipient {IDENTITY.to_public()}", status=0, said="is stored in")
        run("backup --checkpoint fast --plan-name plain", status=0, said="is stored in", BACKUP_GUARD_DSN=keywords)
        run(f"verify latest --plan-name default --identity {identity}", status=0, said="ok  identity")
        run("audit --plan-name plain", status=1, said="BG013")
        run("run", "--", "sh", "-c", printing, status=3, said="with ***", RESTIC_PASSWORD=SECRETS["restic"])

        restore = f"restore latest --plan-name default --to {tmp_path}/restored --identity"
        run(f"{restore} {other}", status=1, said="none of the 1 identities")
        run(f"{restore} {broken}", status=2, said="identit")
        wrong = dsn.replace(escaped, SECRETS["wrong"])
        run("check", status=1, said="password authentication failed", BACKUP_GUARD_DSN=wrong)
        run("backup --json", status=1, said="Check host, port", BACKUP_GUARD_DSN=dsn.replace(str(port), "1"))
        run("who", status=2, said="dsn", BACKUP_GUARD_DSN=f"postgresql://guard:{SECRETS['password']}@db/postgres")
        run("list", status=1, said="cannot be reached", **bucket)

    for words, output in seen.items():
        assert [name for name, secret in SECRETS.items() if secret in output] == [], words
    assert holders(repository, SECRETS) == {}
    lines = b"\n".join(arguments.seen)
    assert b"airflow_backup_guard" in lines
    assert [name for name, secret in SECRETS.items() if secret.encode() in lines] == []
