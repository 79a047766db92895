"""The game day: live through a backup at noon on this machine, find it, stop it, and restore a table.

Everything lives in a temporary folder and is gone at the end, also after Ctrl-C; what is kept is a page on how it went.
Exit status 0 if every act was done, 1 if one was skipped or failed, 130 if interrupted.
"""

from __future__ import annotations

import argparse
import getpass
import json
import shutil
import signal
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console

from airflow_backup_guard.errors import BackupGuardError
from demo.run import interrupted
from gameday.acts import ACTS, ActFailed
from gameday.play import play
from gameday.shop import Shop
from gameday.summary import Summary, as_markdown


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gameday", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--unattended", action="store_true", help="play it without a person")
    parser.add_argument("--trainee", default=getpass.getuser(), help="who takes part (the user's name)")
    parser.add_argument("--megabytes", type=int, default=300, help="size of the shop's goods (300)")
    parser.add_argument("--record", type=Path, default=Path("gameday-records"), help="where to keep how it went")
    options = parser.parse_args()
    if options.megabytes < 1:
        parser.error("--megabytes must be 1 or more")
    if not options.unattended and not sys.stdin.isatty():
        parser.error("a game day needs a terminal; without a person it is --unattended")
    return options


def _keep(summary: Summary, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    who = "".join(letter if letter.isalnum() else "-" for letter in summary.trainee)
    path = folder / f"{summary.began:%Y%m%dT%H%M%SZ}-{who}.md"
    path.write_text(as_markdown(summary), encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps(summary.to_dict(), indent=2) + "\n", encoding="utf-8")
    return path


def main() -> int:
    """Play it; returns the exit status."""
    options = _options()
    console = Console()
    signal.signal(signal.SIGTERM, interrupted)
    began = datetime.now(timezone.utc)
    work = Path(tempfile.mkdtemp(prefix="backup-guard-gameday-"))
    # PostgreSQL runs as another user when this one is root, and must be able to get to what is restored here.
    work.chmod(0o711)
    try:
        console.print("Opening the shop, which takes a moment.")
        with Shop(work, options.megabytes) as shop:
            if not options.unattended:
                console.print("Open a second terminal, and type there:")
                console.print(f"  . {shop.settings}", style="bold", soft_wrap=True, markup=False, highlight=False)
            acts = play(ACTS, shop, console, unattended=options.unattended)
    except (ActFailed, BackupGuardError) as error:
        print(f"\nThe game day failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; everything is cleaned up.", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(work, ignore_errors=True)
    summary = Summary(options.trainee, began, options.unattended, acts)
    kept = _keep(summary, options.record)
    verdict = "Every act is done." if summary.passed else "Not every act is done."
    console.print(f"\n{verdict} How it went is kept in\n{kept}", markup=False, highlight=False, soft_wrap=True)
    return 0 if summary.passed else 1


if __name__ == "__main__":
    sys.exit(main())
