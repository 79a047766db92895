"""Orders to a copy or a guarded command that runs, through its repository: given from anywhere that reaches it, obeyed
within two seconds.

An order is an object of its own with a number, created only if that number is free, so that of two orders at once
neither is lost. The copy looks for new ones about once a second, and answers each with an empty object.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from airflow_backup_guard.core import backup
from airflow_backup_guard.core.backup import Attempt, Snapshot
from airflow_backup_guard.core.command import COMMANDS, CommandReceipt, receipt_key
from airflow_backup_guard.core.control import (
    CONTROL,
    OBEYED,
    Action,
    Controlled,
    Order,
    Orders,
    order_key,
    orders_prefix,
)
from airflow_backup_guard.core.units import Rate
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.errors import (
    BackupDamaged,
    BackupGuardError,
    BackupNotRunning,
    InvalidPlan,
    ObjectExists,
    ObjectMissing,
)
from airflow_backup_guard.repository.base import ObjectInfo, Repository
from airflow_backup_guard.repository.read import read_whole

if TYPE_CHECKING:
    from airflow_backup_guard.engine.throttle import Throttle  # who gives an order needs no psycopg

RUNNING = "running"
"""In place of a backup's id: the one that runs."""

OBEY_SECONDS = 5.0
"""How long :func:`carry_out` waits for an answer."""

_POLL_SECONDS = 0.75
_CLEAN_SECONDS = 15.0
_WAIT_SECONDS = 0.2
_JOIN_SECONDS = 5.0
_LAST_COMMANDS = 8
_READERS = 8  # fewer than the connections that boto3 keeps
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Given:
    """An order and where it lies."""

    key: str
    order: Order


@dataclass(frozen=True)
class Outcome:
    """What became of an order after ``seconds``.

    ``obeyed`` is True if a copy obeys it, False if the copy had ended before, None if none has answered: it has yet to
    begin, its worker is dead, or it cannot read the repository; then the order stays, for whichever reads it first.
    ``ended``: nothing of the copy is left.
    """

    obeyed: bool | None
    ended: bool
    seconds: float


def running(repository: Repository, plan_name: str | None = None) -> list[Snapshot]:
    """The backups that have begun and not ended, of one plan or of all, by plan; the newest of each cluster.

    Two guarded copies of a cluster never run at once, so an older one is dead. The newest may be dead as well, or its
    copy may have yet to begin: only an answer to an order tells.
    """
    prefix = backup.attempts_prefix(plan_name) if plan_name else "attempts/"
    newest = {(found.plan_name, found.cluster.system_identifier): found for found in _open_attempts(repository, prefix)}
    return list(newest.values())


def running_commands(repository: Repository, plan_name: str | None = None) -> list[CommandReceipt]:
    """The guarded commands that have begun and not ended, among the last few of each plan."""
    by_plan: dict[str, list[str]] = {}
    for info in repository.list(f"{COMMANDS}{plan_name}/" if plan_name else COMMANDS):
        plan, _, name = info.key.removeprefix(COMMANDS).partition("/")
        if "/" not in name and name.endswith(".json"):
            by_plan.setdefault(plan, []).append(info.key)
    receipts = [_open_command(repository, key) for keys in by_plan.values() for key in keys[-_LAST_COMMANDS:]]
    return [receipt for receipt in receipts if receipt is not None]


def find(repository: Repository, backup_id: str = RUNNING, plan_name: str | None = None) -> Snapshot | CommandReceipt:
    """The backup or guarded command that runs by this id, or the only one that runs; raises
    :class:`BackupNotRunning`."""
    if backup_id == RUNNING:
        candidates: list[Snapshot | CommandReceipt] = [
            *running(repository, plan_name),
            *running_commands(repository, plan_name),
        ]
        if len(candidates) == 1:
            return candidates[0]
        what = "several backups run" if candidates else "no backup runs"
        raise _not_running(repository, f"In {repository.url} {what}.", candidates)
    for key in _keys_of_attempts(repository, "attempts/"):
        if key.endswith(f"/{backup_id}.json") and (found := _open_attempt(repository, key)):
            return found
    for receipt in running_commands(repository, plan_name):
        if receipt.command_id == backup_id:
            return receipt
    raise _not_running(repository, f"Backup {backup_id} does not run.", running(repository, plan_name))


def give(repository: Repository, to: Controlled, order: Order) -> Given:
    """Store an order to a copy or a command, which obeys it within two seconds.

    Raises :class:`InvalidPlan` for a limit that the plan forbids, and :class:`BackupNotRunning` if the copy ended
    meanwhile.
    """
    plan, backup_id = to.plan_name, to.backup_id
    _check_limit(order, to)
    given: Given | None = None
    while given is None:
        names = [info.key.rpartition("/")[2] for info in repository.list(orders_prefix(plan, backup_id))]
        taken = [int(match[1]) for name in names if (match := re.fullmatch(r"(\d+)\.json", name, re.ASCII))]
        key = order_key(plan, backup_id, max(taken, default=0) + 1)
        try:
            repository.put(key, backup.dump(order), if_absent=True)
        except ObjectExists:
            continue  # somebody else gave an order just now
        given = Given(key, order)
    if not (
        _open_attempt(repository, backup.attempt_key(plan, backup_id))
        or _open_command(repository, receipt_key(plan, backup_id))
    ):
        repository.delete(given.key)
        raise _not_running(repository, f"Backup {backup_id} has just ended.", running(repository))
    return given


def wait_until_obeyed(repository: Repository, given: Given, seconds: float) -> bool | None:
    """Wait for the copy's answer: True if it obeys, False if it has ended; None if it is dead, or has yet to begin."""
    answer = given.key.removesuffix(".json") + OBEYED
    until = time.monotonic() + seconds
    while True:
        there = _keys_beside(repository, given)
        if answer in there:
            return True
        if given.key not in there:
            return False
        if time.monotonic() >= until:
            return None
        time.sleep(_WAIT_SECONDS)


def wait_until_ended(repository: Repository, given: Given, seconds: float) -> bool:
    """Wait until a stop has had its effect, and what the copy stored is removed; False if it takes longer."""
    until = time.monotonic() + seconds
    while ongoing := given.key in _keys_beside(repository, given):
        if time.monotonic() >= until:
            break
        time.sleep(_WAIT_SECONDS)
    return not ongoing


def carry_out(repository: Repository, to: Controlled, order: Order) -> Outcome:
    """Give an order and wait for its effect; of a stop, until the copy has ended and removed what it stored.

    Raises what :func:`give` raises.
    """
    began = time.monotonic()
    given = give(repository, to, order)
    obeyed = wait_until_obeyed(repository, given, OBEY_SECONDS)
    seconds = round(time.monotonic() - began, 1)
    ended = obeyed is False
    if obeyed and order.action is Action.STOP:
        ended = wait_until_ended(repository, given, _CLEAN_SECONDS)
    elif ended and order.action is Action.STOP:
        # It was too quick for its answer to be seen, unless it was whole before it read the order.
        obeyed = not any(repository.list(backup.record_key(to.plan_name, to.backup_id)))
    return Outcome(obeyed, ended, seconds)


def orders_to(repository: Repository, to: Controlled) -> Orders:
    """What is in force for one backup or command; what cannot be read is left out."""
    listed = _listed(repository, orders_prefix(to.plan_name, to.backup_id))
    return _in_force(_read(repository, listed)[0])


def clear(repository: Repository, plan: str, backup_id: str, *, for_retry: bool = False) -> None:
    """Remove the orders to a copy that has ended; ``for_retry`` keeps a pause and a limit that are in force.

    A stop has had its effect, and shall not stop the retry, too.
    """
    prefix = orders_prefix(plan, backup_id)
    with _or_later():
        kept: set[str] = set()
        if for_retry:
            given, _ = _read(repository, _listed(repository, prefix))
            orders = _in_force(given)
            kept = {item.key for item in given if item.order in (orders.pause, orders.limit)}
        for info in list(repository.list(prefix)):
            if info.key not in kept:
                repository.delete(info.key)


def sweep(repository: Repository, plan: str, before: str) -> None:
    """Remove the orders to all backups of a plan that are older than the one by the id ``before``."""
    prefix = f"{CONTROL}{plan}/"
    with _or_later():
        for info in list(repository.list(prefix)):
            if info.key.removeprefix(prefix).partition("/")[0] < before:
                repository.delete(info.key)


class ControlWatch(AbstractContextManager["ControlWatch"]):
    """Looks for orders from ``start`` to ``end`` in a thread of its own, and hands them to the throttle and the stop.

    While the repository cannot be read, the last orders stay in force. After ``end`` nothing is obeyed any more.
    """

    def __init__(self, repository: Repository, plan: str, backup_id: str, throttle: Throttle, stop: Stop) -> None:
        self._repository = repository
        self._prefix = orders_prefix(plan, backup_id)
        self._throttle = throttle
        self._stop = stop
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="control-watch", daemon=True)
        self._last: list[ObjectInfo] = []
        self._known: set[str] = set()
        self._unanswered: list[str] = []
        self._failing = False

    def start(self) -> None:
        """Begin to look; an order that is there already is obeyed at once."""
        self._thread.start()

    def end(self) -> None:
        """Obey no more. Idempotent; waits a little for a repository that is slow, and not for one that hangs."""
        with self._lock:
            self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_SECONDS)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def _watch(self) -> None:
        while not self._ending.is_set():
            began = time.monotonic()
            try:
                self._look()
                self._answer()
                self._failing = False
            except Exception as error:
                # Whatever it is, it must not be the end of all control.
                if not self._failing:
                    _log.warning("Orders to this copy cannot be read; the last ones stay in force: %s", error)
                self._failing = True
            self._ending.wait(max(0.0, began + _POLL_SECONDS - time.monotonic()))

    def _look(self) -> None:
        listed = _listed(self._repository, self._prefix)
        if listed == self._last:
            return
        given, unreadable = _read(self._repository, listed)
        orders = _in_force(given)
        with self._lock:
            if self._ending.is_set():
                return
            self._throttle.set_orders(orders)
            if orders.stop is not None:
                self._stop.request(orders.stop.origin)
        self._last = listed
        for item in given:
            if item.key not in self._known:
                _log.warning("Order: %s", item.order)
                self._unanswered.append(item.key)
        for key, error in unreadable.items():
            if key not in self._known:
                _log.warning("Not an order, and ignored: %s", error)
        self._known |= {info.key for info in listed}

    def _answer(self) -> None:
        while self._unanswered:
            self._repository.put(self._unanswered[0].removesuffix(".json") + OBEYED, b"")
            del self._unanswered[0]


@contextmanager
def _or_later() -> Iterator[None]:
    """Orders that cannot be removed, as another user's may not, are no reason for a backup to fail."""
    try:
        yield
    except BackupGuardError as error:
        _log.warning("Orders that are over could not be removed; the next copy tries again: %s", error)


def _listed(repository: Repository, prefix: str) -> list[ObjectInfo]:
    found = [info for info in repository.list(prefix) if not info.key.endswith(OBEYED)]
    return sorted(found, key=lambda info: (len(info.key), info.key))


def _read(repository: Repository, listed: Iterable[ObjectInfo]) -> tuple[list[Given], dict[str, BackupDamaged]]:
    given: list[Given] = []
    unreadable: dict[str, BackupDamaged] = {}
    for info in listed:
        try:
            given.append(Given(info.key, backup.load(Order, read_whole(repository, info.key), info.key)))
        except ObjectMissing:
            continue  # withdrawn just now
        except BackupDamaged as error:
            unreadable[info.key] = error
    return given, unreadable


def _in_force(given: Iterable[Given]) -> Orders:
    orders = Orders()
    for item in given:
        orders = orders.after(item.order)
    return orders


def _keys_beside(repository: Repository, given: Given) -> set[str]:
    """The keys of all orders and answers to the same copy; whoever cleans up after it removes them last."""
    folder, _, _ = given.key.rpartition("/")
    return {info.key for info in repository.list(f"{folder}/")}


def _check_limit(order: Order, to: Controlled) -> None:
    floor, ceiling = (Rate.parse(to.plan[name], name) for name in ("min_rate", "max_rate"))
    if order.action is Action.LIMIT and order.rate is not None and not floor <= order.rate <= ceiling:
        allowed = (
            f"{floor} to {ceiling}, or none: the server was given the plan's max_rate as MAX_RATE when the copy "
            "began, and sends no faster; below the plan's min_rate it may cut the copy off"
        )
        raise InvalidPlan("limit", str(order.rate), allowed)


def _keys_of_attempts(repository: Repository, prefix: str) -> list[str]:
    return [info.key for info in repository.list(prefix)]


def _open_attempts(repository: Repository, prefix: str) -> list[Snapshot]:
    # Attempts that failed stay, and may be many by now.
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda key: _open_attempt(repository, key), _keys_of_attempts(repository, prefix))
        return [snapshot for snapshot in found if snapshot is not None]


def _open_attempt(repository: Repository, key: str) -> Snapshot | None:
    """The snapshot of an attempt that has no outcome and did not become a backup either."""
    try:
        attempt = backup.load(Attempt, read_whole(repository, key), key)
    except ObjectMissing:
        return None
    except BackupDamaged as error:
        _log.warning("%s", error)  # one of them must not keep a person from stopping another
        return None
    snapshot = attempt.snapshot
    whole = any(repository.list(backup.record_key(snapshot.plan_name, snapshot.backup_id)))
    return None if attempt.outcome is not None or whole else snapshot


def _open_command(repository: Repository, key: str) -> CommandReceipt | None:
    """The receipt of a command that has not ended."""
    try:
        receipt = backup.load(CommandReceipt, read_whole(repository, key), key)
    except ObjectMissing:
        return None
    except BackupDamaged as error:
        _log.warning("%s", error)
        return None
    return receipt if receipt.ended_at is None else None


def _not_running(repository: Repository, message: str, candidates: Sequence[Controlled]) -> BackupNotRunning:
    if not candidates:
        return BackupNotRunning(message, remedy=f"Nothing runs in {repository.url}; see backup-guard list.")
    named = ", ".join(f"{found.backup_id} of plan {found.plan_name}" for found in candidates)
    return BackupNotRunning(message, remedy=f"What runs: {named}. Name one by its id, or with --plan-name.")
