"""When a copy that runs will be done, and whether that is within its window."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

_MEMORY = timedelta(minutes=3)
_SPACING = timedelta(seconds=1)
_LEAST = timedelta(seconds=20)
# A pace that would miss the window is news once it has lasted: one pause of a minute is none.
_LASTING = timedelta(minutes=1)
_NEVER_SECONDS = 366 * 86400.0


class Outlook:
    """Extrapolates how fast the copy was over the last three minutes; ``window_end`` is None without a window."""

    def __init__(self, window_end: datetime | None) -> None:
        self.window_end = window_end
        self.finish: datetime | None = None
        """When it will be done at this pace; None while too little is known, or it does not move."""
        self._seen: deque[tuple[datetime, int]] = deque()
        self._late_since: datetime | None = None
        self._now: datetime | None = None

    def add(self, now: datetime, done: int, left: int) -> None:
        """At ``now``, ``done`` bytes were read and about ``left`` are to come."""
        if self._seen and now < self._seen[-1][0]:  # the clock was set back, and what was seen says nothing any more
            self._seen.clear()
            self._late_since = None
        if self._seen and now - self._seen[-1][0] < _SPACING:
            return
        self._now = now
        self._seen.append((now, done))
        while now - self._seen[0][0] > _MEMORY:
            self._seen.popleft()
        then, before = self._seen[0]
        elapsed = now - then
        if elapsed >= _LEAST:
            seconds = left / max(done - before, 0.001) * elapsed.total_seconds()
            self.finish = now + timedelta(seconds=seconds) if seconds < _NEVER_SECONDS else None
        on_time = self.window_end is None or (self.finish is not None and self.finish <= self.window_end)
        if on_time or elapsed < _LEAST or not left:
            self._late_since = None
        elif self._late_since is None:
            self._late_since = now

    @property
    def is_late(self) -> bool:
        """Whether it has looked for a minute as if the copy would not be done within its window, or that is over."""
        if self._now is None or self.window_end is None or self._late_since is None:
            return False
        return self._now - self._late_since >= _LASTING or self._now >= self.window_end
