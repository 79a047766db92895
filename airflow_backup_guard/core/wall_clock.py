"""What the clock on a wall shows, as a moment in UTC, also where the clock jumps."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo

_SECOND = timedelta(seconds=1)


def shown(wall: datetime, zone: tzinfo, *, again: bool) -> datetime:
    """When, in UTC, the clock of ``zone`` shows ``wall``: the first time, or ``again``; if it never does, the jump."""
    utc = wall.replace(tzinfo=zone, fold=int(again)).astimezone(timezone.utc)
    if _on_wall(utc, zone) == wall:
        return utc
    # The two readings of a time that does not exist lie on either side of the jump (PEP 495).
    before, after = sorted(wall.replace(tzinfo=zone, fold=fold).astimezone(timezone.utc) for fold in (0, 1))
    while after - before > _SECOND:
        middle = before + (after - before) // _SECOND // 2 * _SECOND
        before, after = (middle, after) if _on_wall(middle, zone) < wall else (before, middle)
    return after


def _on_wall(utc: datetime, zone: tzinfo) -> datetime:
    return utc.astimezone(zone).replace(tzinfo=None)


def widest(start: datetime, end: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    """From the first time that the clock shows ``start`` to the last time that it shows ``end``, in UTC.

    The two are equal where the clock skipped all that lay between.
    """
    return shown(start, zone, again=False), shown(end, zone, again=True)
