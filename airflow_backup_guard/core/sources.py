"""What calendars of others forbid: where they are, and what was read there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from airflow_backup_guard.errors import InvalidPlan

_ALLOWED = (
    '"https://host/maintenance.ics", "http://…" or "file:///absolute/path.ics", '
    "without a password, spaces, ';' or parentheses in it"
)


@dataclass(frozen=True)
class Reading:
    """What a source forbids from ``start`` up to ``end``, as (start, end, label) in UTC; or why that is not known."""

    source: str
    start: datetime
    end: datetime
    periods: tuple[tuple[datetime, datetime, str], ...] = ()
    problem: str = ""

    def covers(self, moment: datetime) -> bool:
        """Whether it is known what is forbidden at ``moment``."""
        return not self.problem and self.start <= moment < self.end


def is_source(text: object) -> bool:
    """Whether a blackout is written as a reference, ``scheme://…``."""
    return isinstance(text, str) and re.match(r"\s*[A-Za-z][A-Za-z0-9+.-]*:/", text) is not None


def parse_source(text: str, field: str = "blackout") -> str:
    """Check the URL of an iCalendar file; raises :class:`InvalidPlan` naming ``field``."""
    url = text.strip()
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises for one that is no number
    except ValueError:
        raise InvalidPlan(field, _without_password(url), _ALLOWED) from None
    remote = parts.scheme in ("http", "https") and parts.hostname
    local = parts.scheme == "file" and not parts.netloc and len(parts.path) > 1
    if not (remote or local) or "@" in parts.netloc or not url.isprintable() or set(url) & set(" ;()"):
        raise InvalidPlan(field, _without_password(url), _ALLOWED)
    return url


def shown_source(url: str) -> str:
    """The URL for people: without its query, which may be a secret."""
    return url.partition("?")[0]


def _without_password(url: str) -> str:
    return re.sub(r"//.*@", "//***@", url)
