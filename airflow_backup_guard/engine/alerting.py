"""Sends alerts through a plan's channels, beside the work that they are about: nothing here can hold it up or fail it.

A channel's notifier is any class that is made of keyword arguments and called with a context, as Airflow's are.
"""

from __future__ import annotations

import copy
import importlib
import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.alert_log import Delivery, delivery_key
from airflow_backup_guard.core.alert_rules import AlertChannel, Severity
from airflow_backup_guard.core.alert_text import template_values, title
from airflow_backup_guard.core.alerts import Alert, Condition, event
from airflow_backup_guard.core.plan import BackupPlan
from airflow_backup_guard.errors import BackupGuardError, InvalidPlan
from airflow_backup_guard.repository.base import Repository

_WAITS_SECONDS = (2.0, 10.0)
"""How long before the second try, and before the third and last one."""

_CLOSE_SECONDS = 30.0
_LONGEST_ERROR = 200
_log = logging.getLogger(__name__)

# Airflow's modules import each other in circles, and half of one must not meet another thread's half.
_importing = threading.Lock()


def notifier_of(channel: AlertChannel) -> Callable[[dict[str, Any]], Any]:
    """A new notifier; raises :class:`InvalidPlan` where there is no such class, or it takes no such arguments."""
    module_name, _, name = channel.notifier.rpartition(".")
    field = f"alerts.channels.{channel.name}.notifier"
    try:
        with _importing:
            kind = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        allowed = f"the path of a class that this Python can import ({error}); is its provider installed?"
        raise InvalidPlan(field, channel.notifier, allowed) from error
    try:
        notifier = kind(**copy.deepcopy(channel.arguments))  # one renders its templates in place
    except Exception as error:
        allowed = f"what {channel.notifier} takes ({_safe(error)})"
        raise InvalidPlan(f"alerts.channels.{channel.name}.arguments", sorted(channel.arguments), allowed) from error
    if not callable(notifier):
        raise InvalidPlan(field, channel.notifier, "a class whose instances are called with a context")
    return notifier  # type: ignore[no-any-return]


class AlertSender(AbstractContextManager["AlertSender"]):
    """Sends from entry to exit, each channel in a thread of its own, in the order that alerts were given.

    One that fails is tried three times; that it did is told through the others, and kept. Exit waits a while for what
    is under way.
    """

    def __init__(
        self,
        plan: BackupPlan,
        repository: Repository | None,
        context: Mapping[str, Any] | None = None,
        link: str = "",
    ) -> None:
        """``repository`` keeps what was sent; ``context`` and ``link`` are of the run that it is about."""
        self._plan = plan
        self._repository = repository
        self._context = dict(context or {})
        self._link = link
        self._lines = {channel.name: _Line(channel, self._deliver) for channel in plan.alerts.channels}
        self._told_of: set[str] = set()
        self._closing = threading.Event()
        self.deliveries: list[Delivery] = []
        """What became of each message so far."""

    def send(self, alert: Alert) -> None:
        """Log an alert, and hand it to its channels; returns at once."""
        _log.warning("Alert: %s: %s", title(alert), alert.condition.measured)
        for name in alert.channels:
            self._lines[name].put(alert)

    def close(self, seconds: float = _CLOSE_SECONDS) -> None:
        """Wait until all is sent, no longer than that; what is not is logged."""
        until = time.monotonic() + seconds
        # A line that gives up tells the others: none may end before all are empty.
        while time.monotonic() < until and any(line.busy for line in self._lines.values()):
            time.sleep(0.05)
        self._closing.set()
        for line in self._lines.values():
            if line.busy:
                _log.warning("Alert channel %s: %d messages could not be sent in time", line.channel.name, line.pending)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _deliver(self, channel: AlertChannel, alert: Alert) -> None:
        problem = ""
        tries = 0
        for wait in (0.0, *_WAITS_SECONDS):
            if self._closing.wait(wait):
                break
            tries += 1
            try:
                notifier_of(channel)({**self._context, **template_values(alert, self._link)})
                problem = ""
                break
            except InvalidPlan as error:
                problem = str(error)
                break
            except Exception as error:
                problem = _safe(error)
                _log.warning("Alert channel %s, try %d: %s", channel.name, tries, problem)
        self._keep(Delivery.of(alert, channel.name, datetime.now(timezone.utc), tries, problem))
        if problem:
            self._tell_others(channel, alert, tries, problem)

    def _tell_others(self, channel: AlertChannel, alert: Alert, tries: int, problem: str) -> None:
        _log.error("Alert channel %s does not work, after %d tries: %s", channel.name, tries, problem)
        about_a_channel = alert.condition.key.startswith("channel.")
        if channel.name in self._told_of or about_a_channel:
            return
        self._told_of.add(channel.name)
        said = f'"{title(alert)}" could not be sent through {channel.name} in {tries} tries: {problem}'
        condition = Condition(
            f"channel.{channel.name}", Severity.WARNING, f"Channel {channel.name} does not work", said
        )
        report = event(self._plan.name, self._plan.alerts, condition, datetime.now(timezone.utc))
        for name in report.channels:
            if name != channel.name:
                self._lines[name].put(report)

    def _keep(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        if self._repository is None:
            return
        try:
            self._repository.put(delivery_key(self._plan.name, delivery), backup.dump(delivery))
        except BackupGuardError as error:
            _log.warning("That an alert was sent could not be kept: %s", error)


class _Line:
    """A channel's thread; it is started at the first message, and dies with the process, however a notifier hangs."""

    def __init__(self, channel: AlertChannel, deliver: Callable[[AlertChannel, Alert], None]) -> None:
        self.channel = channel
        self._deliver = deliver
        self._queue: queue.Queue[Alert] = queue.Queue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, alert: Alert) -> None:
        self._queue.put(alert)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"alerts-{self.channel.name}", daemon=True)
                self._thread.start()

    @property
    def pending(self) -> int:
        return self._queue.unfinished_tasks

    @property
    def busy(self) -> bool:
        return self.pending > 0

    def _work(self) -> None:
        while True:
            alert = self._queue.get()
            try:
                self._deliver(self.channel, alert)
            except Exception:
                _log.exception("Alert channel %s", self.channel.name)
            finally:
                self._queue.task_done()


def _safe(error: Exception) -> str:
    """One line about it, without the paths of URLs: those of web hooks are secrets."""
    lines = str(error).splitlines()
    said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    said = re.sub(r"(https?://)(?:[^/\s@]*@)?([^/\s?]+)[^\s'\")]*", r"\1\2/…", said)
    said = re.sub(r"\burl: /\S*", "url: /…", said)  # as requests and urllib3 have it
    return said if len(said) <= _LONGEST_ERROR else f"{said[: _LONGEST_ERROR - 1]}…"
