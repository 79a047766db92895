"""How each tool is told to make one backup of the same data, at the same compression level and thread count."""

from __future__ import annotations

import argparse
import getpass
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from airflow_backup_guard.core.backup import load
from airflow_backup_guard.core.command import CommandReceipt
from benchmarks.cluster import Cluster
from benchmarks.report import Skipped

LEVEL = 3
THREADS = 2
PGBACKREST_KNOWS = (((0, 0), 14), ((2, 41), 15), ((2, 48), 16), ((2, 54), 17), ((2, 57), 18))
"""The newest major version of PostgreSQL that pgBackRest knows, from which of its own releases on."""
UNTHROTTLED: dict[str, Any] = {"max_rate": "1GiB/s", "min_rate": "1GiB/s"}


@dataclass(frozen=True)
class Task:
    """One backup to run: its command, and what it needs in its environment."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    streams: bool = True
    """Whether the server sees it as a base backup, and says how far it is."""
    remote: bool = True
    """Whether it runs on a machine of its own in production, and not beside the database."""
    span: Callable[[], tuple[float, float] | None] = lambda: None
    """From when to when the backup itself ran, in seconds since 1970, where the command knows better than we do."""


Peer = Callable[[Cluster, Path], Task]
"""Prepares one backup into a folder that is empty; raises :class:`Skipped` where the tool is missing."""


def guarded(options: argparse.Namespace, *, baseline_seconds: float | None = None, **plan: Any) -> Peer:
    """Our own copy; ``plan`` goes above the defaults, and ``--plan`` above both."""

    def prepare(cluster: Cluster, target: Path) -> Task:
        values = {
            "name": "bench",
            "connection": "bench",
            "repository": target.as_uri(),
            "calendar": {"windows": "daily 00:00-24:00", "tz": "UTC"},
            "checkpoint": "fast",
            "compression_level": LEVEL,
            **plan,
            **options.plan,
        }
        seconds = min(3.0, options.seconds) if baseline_seconds is None else baseline_seconds
        asked = {"dsn": cluster.dsn, "plan": values, "baseline_seconds": seconds}
        return Task([sys.executable, "-m", "benchmarks.guarded_copy", json.dumps(asked)])

    return prepare


def guarded_command(options: argparse.Namespace, peer: Peer, *, store: str | None = None) -> Peer:
    """Another tool behind the guard: its processes held, or its stdout paced and stored by the name ``store``."""

    def prepare(cluster: Cluster, target: Path) -> Task:
        task = peer(cluster, target)
        repository = target / "receipts"
        plan = {
            "name": "bench",
            "repository": repository.as_uri(),
            "compression_level": LEVEL,
            "calendar": {"windows": "daily 00:00-24:00", "tz": "UTC"},
            **options.plan,
        }
        file = target / "plan.toml"
        tables = [name for name, value in plan.items() if isinstance(value, dict)]
        lines = [f"{name} = {json.dumps(value)}" for name, value in plan.items() if name not in tables]
        for name in tables:
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in plan[name].items())]
        file.write_text("\n".join(lines) + "\n")
        stored = [] if store is None else ["--store", store]
        words = ["run", "--json", f"--dsn={cluster.dsn}", f"--plan={file}", *stored, "--", *task.command]

        def span() -> tuple[float, float] | None:
            for found in repository.glob("commands/bench/*.json"):
                receipt = load(CommandReceipt, found.read_bytes(), found.name)
                if receipt.ended_at is not None:
                    return receipt.started_at.timestamp(), receipt.ended_at.timestamp()
            return None

        return replace(task, command=[sys.executable, "-m", "airflow_backup_guard", *words], span=span)

    return prepare


def pg_basebackup(*, max_rate: str | None = None) -> Peer:
    """PostgreSQL's own, with its client-side zstd where the build has that, and else piped through zstd."""

    def prepare(cluster: Cluster, target: Path) -> Task:
        program = cluster.server.binaries / "pg_basebackup"
        if not program.exists():
            raise Skipped("this build of PostgreSQL does not bring pg_basebackup")
        common = [str(program), f"--dbname={cluster.dsn}", "--format=tar", "--checkpoint=fast"]
        common += [f"--max-rate={max_rate}"] if max_rate else []
        if has_zstd(cluster):
            return Task([*common, f"--pgdata={target}", f"--compress=client-zstd:level={LEVEL},workers={THREADS}"])
        return Task(piped([*common, "--pgdata=-", "--wal-method=fetch"], target / "base.tar.zst"))

    return prepare


def pg_basebackup_piped(cluster: Cluster, target: Path) -> Task:
    """PostgreSQL's own through the program zstd, as many scripts have it."""
    program = cluster.server.binaries / "pg_basebackup"
    command = [str(program), f"--dbname={cluster.dsn}", "--format=tar", "--pgdata=-", "--wal-method=fetch"]
    return Task(piped([*command, "--checkpoint=fast"], target / "base.tar.zst"))


def pg_dump(cluster: Cluster, target: Path) -> Task:
    """A logical dump: not a peer for recovery, but what many people run."""
    program = cluster.server.binaries / "pg_dump"
    if not program.exists():
        raise Skipped("this build of PostgreSQL does not bring pg_dump")
    command = [str(program), f"--dbname={cluster.dsn}", "--format=custom", "--compress=0"]
    return Task(piped(command, target / "dump.zst"), streams=False)


def pg_dump_to_stdout(cluster: Cluster, target: Path) -> Task:
    """The same dump, for whoever reads it."""
    task = pg_dump(cluster, target)
    return replace(task, command=task.command[4:])


def pgbackrest(settings: Mapping[str, str] | None = None) -> Peer:
    """pgBackRest on the same machine: it reads the files itself. WAL archiving is off, as there is none to wait for."""

    def prepare(cluster: Cluster, target: Path) -> Task:
        if shutil.which("pgbackrest") is None:
            raise Skipped("pgBackRest is not installed (apt-get install pgbackrest)")
        server = cluster.server
        version = subprocess.run(["pgbackrest", "version"], capture_output=True, text=True, check=True).stdout.split()[
            1
        ]
        known = [major for first, major in PGBACKREST_KNOWS if _release(version) >= first][-1]
        if server.major > known:
            raise Skipped(f"pgBackRest {version} does not know PostgreSQL {server.major}; try --major {known}")
        values = {
            "repo1-path": str(target / "repository"),
            "repo1-retention-full": "1",
            "repo1-bundle": "y",
            "compress-type": "zst",
            "compress-level": str(LEVEL),
            "process-max": str(THREADS),
            "start-fast": "y",
            "archive-check": "n",
            "log-path": str(target),
            "log-level-console": "warn",
            "lock-path": str(target / "lock"),
            "spool-path": str(target / "spool"),
            **(settings or {}),
        }
        stanza = {
            "pg1-path": str(server.data_directory),
            "pg1-socket-path": str(server.socket_directory),
            "pg1-port": str(server.port),
            "pg1-user": server.superuser,
        }
        configuration = target / "pgbackrest.conf"
        configuration.write_text(_ini({"global": values, "bench": stanza}))
        base = f"pgbackrest --config={configuration} --stanza=bench"
        commands = f"{base} stanza-create\nexec {base} --type=full backup"
        # Newer ones refuse to run as root unless told to; older ones pass over what they do not know.
        environment = {"PGBACKREST_ALLOW_ROOT": "y"}
        return Task(["sh", "-ec", commands], environment, streams=False, remote=False)

    return prepare


def barman(cluster: Cluster, target: Path) -> Task:
    """Barman with its streaming method, which runs pg_basebackup; compressed by gzip, the fastest it offers here."""
    if shutil.which("barman") is None:
        raise Skipped("Barman is not installed (apt-get install barman)")
    server = cluster.server
    values = {
        "barman_home": str(target),
        "barman_lock_directory": str(target),
        "barman_user": getpass.getuser(),
        "configuration_files_directory": str(target / "conf.d"),
        "log_file": str(target / "barman.log"),
    }
    own = {
        "description": "bench",
        "conninfo": cluster.dsn,
        "streaming_conninfo": cluster.dsn,
        "backup_method": "postgres",
        "backup_compression": "gzip",
        "backup_compression_level": "1",
        "backup_compression_format": "tar",
        "streaming_archiver": "on",
        "immediate_checkpoint": "true",
        "path_prefix": str(server.binaries),
        "slot_name": "barman",
        "create_slot": "auto",
    }
    configuration = target / "barman.conf"
    configuration.write_text(_ini({"barman": values, "bench": own}))
    # Barman takes no backup before it has WAL, which its receiver brings; it must not outlive the backup, nor
    # may its slot.
    script = f"""
    barman="barman --config {configuration}"
    $barman receive-wal bench --create-slot
    $barman receive-wal bench & receiver=$!
    trap 'kill $receiver; wait $receiver || true; $barman receive-wal bench --drop-slot' EXIT
    trap 'exit 3' TERM
    sleep 1
    $barman switch-wal --force --archive --archive-timeout 20 bench
    $barman backup bench & wait $!
    """
    return Task(["sh", "-ec", script])


def has_zstd(cluster: Cluster) -> bool:
    """Whether this build of pg_basebackup compresses with zstd itself."""
    return b"ZSTD_createCCtx" in (cluster.server.binaries / "pg_basebackup").read_bytes()


def piped(command: list[str], target: Path) -> list[str]:
    """A command through the program zstd into a file; fails if either does."""
    if shutil.which("zstd") is None:
        raise Skipped("the program zstd is not installed")
    # With a trap, bash waits for both when it is stopped, so that what they used is counted.
    script = f'set -o pipefail; trap "exit 3" TERM; "$@" | zstd -q -{LEVEL} -T{THREADS} -o "$0"'
    return ["bash", "-c", script, str(target), *command]


def stored_bytes(target: Path) -> int:
    """All files of one backup."""
    return sum(path.stat().st_size for path in target.rglob("*") if path.is_file())


def full_speed(options: argparse.Namespace) -> dict[str, Peer]:
    """Every tool with nothing to hold it back."""
    return {
        "guard unthrottled": guarded(options, **UNTHROTTLED),
        "pg_basebackup": pg_basebackup(),
        "pgBackRest": pgbackrest(),
        "Barman": barman,
        "pg_dump": pg_dump,
    }


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _ini(sections: Mapping[str, Mapping[str, str]]) -> str:
    lines = []
    for name, values in sections.items():
        lines += [f"[{name}]", *(f"{key} = {value}" for key, value in values.items())]
    return "\n".join(lines) + "\n"
