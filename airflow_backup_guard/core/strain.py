"""How much slower commits are than they would be without the copy: the delay that the control law steers by. On a
standby, which commits nothing, reads stand in for them.

Means of many commits on both sides, because single ones differ by more than a backup does. The baseline ages, as the
application's own load changes under a copy of hours: every so often the copy makes way for two seconds, and it is
measured anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from math import exp, fsum, log
from typing import NamedTuple

_WINDOW_SECONDS = 5.0
_FEWEST_SAMPLES = 3
# What a copy set in motion (writes that the kernel holds, a queue at the disk) takes a moment to go away.
_SETTLE_SECONDS = 1.0
_MEASURE_SECONDS = 3.0
# A copy that has been at its floor for so long makes way already: what it measures there is the baseline. Else it would
# take an application that became busier for its own harm, and stay there until the next refresh.
_REST_SECONDS = 5.0
# Nobody asks for so long only while critical load keeps the copy paused, and what commits take then is no baseline.
_UNASKED_SECONDS = 2.0
# A few dozen commits make a rough baseline: it is measured again soon at first, and then more and more seldom.
_REFRESH_SECONDS = (8.0, 15.0, 15.0, 30.0, 45.0)
# Commits that are faster than without a copy mean that the application does less now than when that was measured.
_OUTDATED_STRAIN = 0.8
_REFRESH_AT_MOST_EVERY_SECONDS = 10.0
# A new measurement that is off by more than noise replaces the old one; otherwise both count, against the noise.
_NOISE = 1.3
_LEAST_SECONDS = 1e-6
_BASELINE_SAMPLES = 120
# Nobody feels a fifth of a millisecond, and on a fast disk it would be several times the baseline.
_UNFELT_SECONDS = 0.0002


class _Sample(NamedTuple):
    at: float
    latency: float
    rate: float


class Strain:
    """Collects latencies in seconds; times in seconds of any monotonic clock, passed in."""

    def __init__(self) -> None:
        self._recent: deque[_Sample] = deque()
        self._clean: deque[float] = deque(maxlen=_BASELINE_SAMPLES)
        self._new: list[float] = []
        self._out_of_the_way_since: float | None = None
        self._refreshed_at: float | None = None
        self._refreshes = 0
        self._refreshing_since: float | None = None
        self._asked_at: float | None = None

    @property
    def baseline(self) -> float | None:
        """Typical latency while the copy was out of the way, in seconds; None until it was measured."""
        return _typical(self._clean) if len(self._clean) >= _FEWEST_SAMPLES else None

    def add(self, now: float, latency: float, *, rate: float, out_of_the_way: bool) -> None:
        """One commit took ``latency`` while the copy was allowed ``rate`` bytes per second; ``out_of_the_way`` while it
        reads nothing, or no more than its floor."""
        self._recent.append(_Sample(now, latency, rate))
        while self._recent[0].at < now - _WINDOW_SECONDS:
            self._recent.popleft()
        if self._refreshed_at is None:
            self._clean.append(latency)  # there is no copy yet, and nothing that would have to settle
        elif not out_of_the_way:
            self._out_of_the_way_since = None
        elif self._out_of_the_way_since is None:
            self._out_of_the_way_since = now
        elif now - self._out_of_the_way_since >= _SETTLE_SECONDS:
            self._new.append(latency)

    def begin(self, now: float) -> None:
        """The copy begins: what was measured until now is its baseline."""
        self._refreshed_at = now

    def value(self, now: float) -> float | None:
        """Latency over the last five seconds as a multiple of the baseline; None if either is not known."""
        recent, baseline = self._within_window(now), self.baseline
        if baseline is None or len(recent) < _FEWEST_SAMPLES:
            return None
        return (_typical([sample.latency for sample in recent]) + _UNFELT_SECONDS) / (baseline + _UNFELT_SECONDS)

    def rate(self, now: float) -> float | None:
        """Bytes per second that were allowed in the mean while what :meth:`value` tells was measured."""
        recent = self._within_window(now)
        return fsum(sample.rate for sample in recent) / len(recent) if recent else None

    def _within_window(self, now: float) -> list[_Sample]:
        return [sample for sample in self._recent if sample.at >= now - _WINDOW_SECONDS]

    def make_way(self, now: float) -> bool:
        """True while the copy shall stay at its floor, for the baseline to be measured anew. To be asked at every
        sample of a copy that is not paused for its load."""
        if self._refreshed_at is None:
            return False
        if self._asked_at is not None and now - self._asked_at > _UNASKED_SECONDS:
            self._out_of_the_way_since = None
            self._new.clear()
        self._asked_at = now
        if self._refreshing_since is None and self._is_due(now - self._refreshed_at, self.value(now)):
            self._refreshing_since = now
        measured = self._refreshing_since is not None and now - self._refreshing_since >= _MEASURE_SECONDS
        if measured or self._is_at_rest(now, self._refreshed_at):
            # What sent the copy to its floor may have passed already, so that its rest is no reason to measure seldom.
            self._refreshes = min(self._refreshes + 1, len(_REFRESH_SECONDS) - 1) if measured else 0
            self._renew()
            self._refreshing_since, self._refreshed_at = None, now
        return self._refreshing_since is not None

    def _is_due(self, age: float, strain: float | None) -> bool:
        outdated = strain is None or strain < _OUTDATED_STRAIN
        return age >= (_REFRESH_AT_MOST_EVERY_SECONDS if outdated else _REFRESH_SECONDS[self._refreshes])

    def _is_at_rest(self, now: float, refreshed_at: float) -> bool:
        since = self._out_of_the_way_since
        return since is not None and now - max(since, refreshed_at) >= _REST_SECONDS

    def _renew(self) -> None:
        baseline = self.baseline
        if baseline is not None and len(self._new) >= _FEWEST_SAMPLES:
            ratio = (_typical(self._new) + _UNFELT_SECONDS) / (baseline + _UNFELT_SECONDS)
            if not 1 / _NOISE < ratio < _NOISE:
                self._clean.clear()
                self._refreshes = 0
        self._clean.extend(self._new)
        self._new.clear()


def _typical(latencies: Collection[float]) -> float:
    """The geometric mean. Latencies spread by factors, which the median wastes half of the samples on; and it feels the
    slow ones, which are the first to show a queue, without one that hung deciding alone."""
    return exp(fsum(log(max(latency, _LEAST_SECONDS)) for latency in latencies) / len(latencies))
