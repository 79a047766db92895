"""How fast the counters of a server grow, over about the last second or the last minute."""

from __future__ import annotations

from collections import deque

FIRST = "a rate needs two samples"
RESET = "the statistics were reset"
RESTARTED = "the server was restarted, or another one answers"


class CounterHistory:
    """The last minute of counters that only grow; times in seconds of any monotonic clock, passed in."""

    def __init__(self, keep_seconds: float = 60.0) -> None:
        self._keep_seconds = keep_seconds
        self._seen: dict[str, deque[tuple[float, float]]] = {}
        self._epochs: dict[str, object] = {}
        self._reasons: dict[str, str] = {}

    def add(self, name: str, now: float, value: float, epoch: object = None) -> None:
        """A counter stands at ``value``. Another ``epoch`` than before (when it was reset last), or a smaller value,
        means that it began anew."""
        seen = self._seen.setdefault(name, deque())
        if seen and (epoch != self._epochs[name] or value < seen[-1][1]):
            self.forget(name, RESET)
        seen.append((now, value))
        self._epochs[name] = epoch
        # One that is older stays: it is where the last minute began.
        while len(seen) > 1 and seen[1][0] <= now - self._keep_seconds:
            seen.popleft()

    def forget(self, name: str, reason: str) -> None:
        """The counter begins anew, for this reason."""
        self._reasons[name] = reason
        if name in self._seen:
            self._seen[name].clear()

    def forget_all(self, reason: str) -> None:
        """All counters begin anew."""
        for name in self._seen:
            self.forget(name, reason)

    def growth(self, name: str, seconds: float) -> tuple[float, float] | None:
        """By how much a counter grew, and in how many seconds: at least as many as asked for, where the history
        reaches back that far. None before its second value; :meth:`reason` then says why."""
        seen = self._seen.get(name, deque())
        if len(seen) < 2:
            return None
        now, value = seen[-1]
        earlier = [entry for entry in seen if entry[0] <= now - seconds]
        at, was = earlier[-1] if earlier else seen[0]
        return value - was, max(now - at, 1e-3)

    def reason(self, name: str) -> str:
        """Why there is no growth yet."""
        return self._reasons.get(name, FIRST)
