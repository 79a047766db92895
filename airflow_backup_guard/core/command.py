"""A guarded command: what is asked for, and its receipt.

Keys below a repository's root::

    commands/<plan>/<command_id>.json     the receipt: there once the command begins, complete once it has ended
    commands/<plan>/<command_id>/…        its stdout, if it was to be stored, and telemetry
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from airflow_backup_guard.core.backup import Impact, StoredPart
from airflow_backup_guard.core.duty import parse_max_stop
from airflow_backup_guard.core.units import format_duration, parse_duration
from airflow_backup_guard.errors import InvalidPlan

COMMANDS = "commands/"
"""Where the receipts of all plans lie."""

IO_CLASSES = ("best-effort", "idle")
MAX_STOP = timedelta(seconds=10)
GRACE = timedelta(seconds=3)
"""Within the five seconds that Airflow leaves to a task that it stops."""
NICE = 10
_LONGEST_GRACE = timedelta(minutes=10)


@dataclass(frozen=True)
class GuardedCommand:
    """What to run, and how it is held.

    :param words: the program and its arguments; a shell only where it is one of them
    :param environment: all of it
    :param folder: to run in; None for that of the guard
    :param paces_stdout: True passes its stdout on through the throttle; False lets its processes run for a share of
        the time only, and takes its stdout for a log
    :param max_stop: the longest that it stands still
    :param grace: between SIGTERM and SIGKILL
    :param nice: its niceness, 0 to 19
    :param io_class: ``"best-effort"`` (behind others), ``"idle"`` (only when nobody else wants the disk) or None
    """

    words: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str | None = None
    paces_stdout: bool = False
    max_stop: timedelta = MAX_STOP
    grace: timedelta = GRACE
    nice: int = NICE
    io_class: str | None = IO_CLASSES[0]

    def __post_init__(self) -> None:
        check_words(self.words)
        check_options(self.max_stop, self.grace, self.nice, self.io_class)


def check_words(words: object) -> tuple[str, ...]:
    """A command as a tuple; raises :class:`InvalidPlan` for text, which only a shell could read."""
    fits = isinstance(words, Sequence) and not isinstance(words, str | bytes) and words
    if not fits or not all(isinstance(word, str) and "\0" not in word for word in words) or not words[0]:  # type: ignore[attr-defined,index]
        allowed = 'a list of words, such as ["pg_dump", "shop"]; for a shell, ["sh", "-c", "…"]'
        raise InvalidPlan("command", words, allowed)
    return tuple(words)  # type: ignore[arg-type]


def check_options(max_stop: Any, grace: Any, nice: Any, io_class: Any) -> tuple[timedelta, timedelta]:
    """How long it may stand, and the time between SIGTERM and SIGKILL; raises :class:`InvalidPlan`."""
    if not isinstance(nice, int) or isinstance(nice, bool) or not 0 <= nice <= 19:
        raise InvalidPlan("nice", nice, "a whole number from 0 to 19")
    if io_class is not None and io_class not in IO_CLASSES:
        raise InvalidPlan("io_class", io_class, f"{', '.join(map(repr, IO_CLASSES))} or None")
    wait = parse_duration(grace, "grace")
    if wait > _LONGEST_GRACE:
        shown = grace if isinstance(grace, str) else format_duration(wait)
        raise InvalidPlan("grace", shown, f"a duration up to {format_duration(_LONGEST_GRACE)}")
    return parse_max_stop(max_stop), wait


@dataclass(frozen=True)
class CommandReceipt:
    """What became of one command. Times in UTC and seconds, sizes in bytes.

    ``command`` has no secrets in it. ``exit_status`` is that of the command, 128 + n if signal n ended it, None while
    it runs and where the guard ended it; ``outcome`` is then why. ``seconds_stopped`` is how long its processes stood
    still. ``output_size`` is what it wrote to stdout, where that was paced, and ``parts`` is what is stored of it.
    """

    format: int
    command_id: str
    plan: dict[str, Any]
    command: tuple[str, ...]
    paces_stdout: bool
    started_at: datetime
    ended_at: datetime | None = None
    exit_status: int | None = None
    outcome: str | None = None
    seconds_stopped: float = 0.0
    output_size: int = 0
    parts: tuple[StoredPart, ...] = ()
    impact: Impact | None = None
    written_by: str = ""
    warnings: tuple[str, ...] = field(default=())

    @property
    def plan_name(self) -> str:
        """Name of the plan that it ran under."""
        return str(self.plan["name"])

    @property
    def backup_id(self) -> str:
        """What orders name it by."""
        return self.command_id

    @property
    def seconds(self) -> float:
        """How long it took; 0 while it runs."""
        return 0.0 if self.ended_at is None else (self.ended_at - self.started_at).total_seconds()

    @property
    def stored(self) -> StoredPart | None:
        """Its stdout in the repository."""
        return next((part for part in self.parts if part.kind == "output"), None)


def receipt_key(plan: str, command_id: str) -> str:
    """Where one receipt lies."""
    return f"{COMMANDS}{plan}/{command_id}.json"


def command_prefix(plan: str, command_id: str) -> str:
    """Where the parts of one command lie."""
    return f"{COMMANDS}{plan}/{command_id}/"


def exit_status_of(returned: int) -> int:
    """As shells have it: 128 + n for a command that signal n ended, told as -n."""
    return returned if returned >= 0 else 128 - returned


def names_of(processes: Iterable[str], most: int = 3) -> str:
    """A few of them, for messages."""
    listed = list(processes)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return f"{', '.join(listed[:most])}{more}"
