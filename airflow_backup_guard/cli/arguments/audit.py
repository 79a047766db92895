"""The options of audit: whether what was promised is so."""

from __future__ import annotations

from pathlib import Path

from airflow_backup_guard.cli.arguments import shared

_AUDIT = """\
Hold plans against evidence: what backups wrote down of themselves, drills, test
alerts, and what the database and the store say of themselves. Each check
passes, fails or is unknown, which is no pass. What is found is compared with
the last audit of that plan, and stored beside its backups.

Without --plan it audits every plan that the repository has a backup of, as its
newest backup was made. Without a connection, what only the database knows is
unknown.

Each audit has the digests of the one before. --verify-chain audits nothing, and
finds audits that were changed, removed or put in. That the newest ones were
removed only a digest shows that was kept elsewhere: give it with --expect.

The exit status is 0 only if every plan passed, but for risks that are accepted.
"""
_EXAMPLES = """\
example:
  backup-guard audit --plan shop.toml --dsn 'host=db.example user=guard' \\
      --html audit.html
  backup-guard audit --verify-chain --repository file:///srv/backups

example of a file of risks, for --accept:
  [[accepted]]
  check = "BG023"            # docs/audit.md has all checks
  plan = "shop"              # of every plan without it
  owner = "alice@example.com"
  until = 2027-01-31         # from the next day on it fails again
  reason = "the bucket gets Object Lock with its move in January"
"""


def add(commands: shared.Commands) -> None:
    """Add this command."""
    command = shared.command(commands, "audit", "is what was promised so? with evidence", _AUDIT)
    command.epilog = _EXAMPLES
    shared.database(command)
    command.add_argument(
        "--dsn-of",
        action="append",
        default=[],
        metavar="PLAN=DSN",
        help="how to connect to the database of one of several plans; may be repeated",
    )
    command.add_argument(
        "--repository", metavar="URL", help="file:///absolute/path or s3://bucket/prefix ($BACKUP_GUARD_REPOSITORY)"
    )
    command.add_argument(
        "--plan",
        dest="plans",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="plan file, TOML; may be repeated",
    )
    command.add_argument("--plan-name", metavar="NAME", help="of the plans in the repository, only this one")
    command.add_argument("--period", metavar="TIME", default="92d", help="how far back to look (92d, a quarter)")
    command.add_argument("--accept", type=Path, metavar="FILE", help="risks that somebody has accepted, TOML")
    command.add_argument("--html", type=Path, metavar="FILE", help="write the report, to read and print")
    command.add_argument("--markdown", type=Path, metavar="FILE", help="write the report as Markdown")
    command.add_argument("--verify-chain", action="store_true", help="only look whether stored audits are as made")
    command.add_argument("--expect", metavar="SHA256", default="", help="an audit with this SHA-256 must be there")
