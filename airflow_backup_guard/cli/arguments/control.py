"""The options of running, pause, resume, limit, stop: orders to a copy or a guarded command that runs."""

from __future__ import annotations

from airflow_backup_guard.cli.arguments import shared

_RUNNING = """\
Show the backups and guarded commands that have begun and not ended, and the
orders that are in force for each. One whose worker died is shown as well,
until the next backup of its cluster: only the answer to an order proves that
a copy lives.
"""
_PAUSE = """\
Let a copy that runs only trickle, at its plan's min_rate, until "resume". It
does not stop reading for good, as the server would cut it off.
"""
_RESUME = """\
Take back "pause": the copy reads as fast again as the load of the database
allows. A pause for the load itself is not taken back: that ends with the load.
"""
_LIMIT = """\
Let a copy that runs read no faster than RATE, from its plan's min_rate to its
max_rate, and slower where the load demands it; "none" takes that back.
"""
_STOP = """\
End a copy that runs, and remove what it stored. The database is rid of it
within two seconds. If Airflow retries the task, that try begins anew.
"""
_ORDER = """
The order goes through the repository, from any machine that can write there,
and is obeyed within two seconds. The exit status is 0 once the copy says so.
"""


def add(commands: shared.Commands) -> None:
    """Add these commands."""
    at = "--repository file:///srv/backups"
    command = shared.command(commands, "running", "the copies that run, and their orders", _RUNNING, f"running {at}")
    shared.repository(command)
    shared.plan_name(command)
    why = "--reason 'checkout is slow'"
    for name, title, about, example in (
        ("pause", "let a copy that runs only trickle", _PAUSE, f"pause {why} \\\n      {at}"),
        ("resume", "let it read as fast as the load allows", _RESUME, f"resume {at}"),
        ("limit", "let it read no faster than this", _LIMIT, f"limit 20MB/s {why} \\\n      {at}"),
        ("stop", "end it, and clean up", _STOP, f"stop {why} \\\n      {at}"),
    ):
        command = shared.command(commands, name, title, about + _ORDER, example)
        if name == "limit":
            command.add_argument("rate", metavar="RATE", help='such as 20MB/s, or "none"')
        command.add_argument(
            "backup_id", metavar="BACKUP_ID", nargs="?", default="running", help="not needed if only one runs"
        )
        command.add_argument("--reason", metavar="TEXT", default="", help="why; it is kept with the order")
        command.add_argument("--by", metavar="NAME", help="who gives the order (you, as user@host)")
        shared.repository(command)
        shared.plan_name(command)
