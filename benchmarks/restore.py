"""Restore: MB of database per second, from what each tool has stored of the same data into an empty folder.

All have stored it with zstd level 3; pgBackRest restores with two processes. The guard holds every byte against two
checksums meanwhile, pgBackRest every file against one, and tar none, so a variant has pg_verifybackup after it. "guard
verify" reads and checks all of a backup, and writes nothing. The S3 server is moto with TLS, as in raw_copy.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import peers
from benchmarks.cluster import Cluster, filled_cluster
from benchmarks.job import failure_skips, have_memory_ready, run_job
from benchmarks.raw_copy import local_variants, s3_server, s3_variants
from benchmarks.report import Rounds, Skipped, chosen, parser

COLUMNS = {
    "MB/s": ("mb_per_second", "{:.0f}"),
    "s": ("seconds", "{:.1f}"),
    "CPU s/GB": ("cpu_per_gb", "{:.2f}"),
    "peak memory, MB": ("peak_memory_mb", "{:.0f}"),
}


class Stored(NamedTuple):
    """A backup that was made: its folder, what its tool said, and what the tool needs in its environment."""

    folder: Path
    output: str
    environment: Mapping[str, str]


Back = Callable[[Cluster, Stored, Path], list[str]]
"""The command that restores a backup into an empty folder."""


def _guard(verb: str, *options: str) -> Back:
    def command(cluster: Cluster, stored: Stored, target: Path) -> list[str]:
        url = json.loads(stored.output)["snapshot"]["plan"]["repository"]
        to = ["--to", str(target)] if verb == "restore" else []
        return [sys.executable, "-m", "airflow_backup_guard", verb, "latest", "--repository", url, *to, *options]

    return command


def _pgbackrest(cluster: Cluster, stored: Stored, target: Path) -> list[str]:
    configuration = stored.folder / "pgbackrest.conf"
    return ["pgbackrest", f"--config={configuration}", "--stanza=bench", f"--pg1-path={target}", "restore"]


def _tar(*, verified: bool = False) -> Back:
    def command(cluster: Cluster, stored: Stored, target: Path) -> list[str]:
        if shutil.which("zstd") is None:
            raise Skipped("the program zstd is not installed")
        script = 'tar --extract --directory="$1" --use-compress-program="zstd -d" --file="$0/base.tar.zst"'
        # Where pg_basebackup compresses by itself, WAL and manifest are beside the archive; they are in it elsewhere.
        script += ' && if [ -e "$0/pg_wal.tar" ]; then tar --extract --directory="$1/pg_wal" --file="$0/pg_wal.tar"'
        script += ' && cp "$0/backup_manifest" "$1"; fi'
        if verified:
            program = cluster.server.binaries / "pg_verifybackup"
            if not program.exists():
                raise Skipped("this build of PostgreSQL does not bring pg_verifybackup")
            script += f' && {program} --no-parse-wal --quiet "$1"'
        return ["sh", "-ec", script, str(stored.folder), str(target)]

    return command


VARIANTS: dict[str, tuple[str, Back]] = {
    "guard": ("guard", _guard("restore", "--json")),
    "pgBackRest": ("pgBackRest", _pgbackrest),
    "tar of pg_basebackup": ("pg_basebackup", _tar()),
    "tar, then pg_verifybackup": ("pg_basebackup", _tar(verified=True)),
    "guard from S3": ("guard to S3", _guard("restore", "--json")),
    "pgBackRest from S3": ("pgBackRest to S3", _pgbackrest),
    "guard verify": ("guard", _guard("verify", "--full", "--json")),
}
"""Which backup each takes, and how."""


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    options = parser(__doc__, scale=40).parse_args(arguments)
    names = chosen(list(VARIANTS), options.variants)
    with ExitStack() as stack:
        cluster = stack.enter_context(filled_cluster(options))
        tools = local_variants(options)
        if any(VARIANTS[name][0].endswith("to S3") for name in names):
            tools.update(s3_variants(options, stack.enter_context(s3_server(cluster))))
        made: dict[str, Stored] = {}

        def measure(name: str) -> Mapping[str, Any]:
            tool, back = VARIANTS[name]
            with failure_skips():
                if tool not in made:
                    folder = stack.enter_context(cluster.target())
                    task = tools[tool](cluster, folder)
                    made[tool] = Stored(folder, run_job(cluster, task).output, task.environment)
                return _measure(cluster, made[tool], back)

        rounds = Rounds("restore", options)
        rounds.extra = {"major": cluster.server.major, "database_bytes": cluster.size()}
        rounds.run(names, measure)
    rounds.finish(f"Restore of PostgreSQL {cluster.server.major}", COLUMNS)


def _measure(cluster: Cluster, stored: Stored, back: Back) -> Mapping[str, Any]:
    with cluster.target() as folder:
        target = folder / "data"
        target.mkdir(mode=0o700)
        task = peers.Task(back(cluster, stored, target), stored.environment, streams=False)
        have_memory_ready(2 * cluster.size())
        done = run_job(cluster, task, memory=True, poll_seconds=0.05)
        size, found = cluster.size(), peers.stored_bytes(target)
    if back is not VARIANTS["guard verify"][1] and found < size:
        raise Skipped(f"it restored {found} bytes of a database of {size}")
    return {
        "mb_per_second": size / done.wall / 1e6,
        "seconds": done.wall,
        "cpu_per_gb": done.cpu_seconds / size * 1e9,
        "peak_memory_mb": done.peak_memory / 1e6,
    }


if __name__ == "__main__":
    main()
