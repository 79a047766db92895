"""The schedule of a backup: in the off-peak windows of its plan, and never outside of them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.timetables.base import DagRunInfo, DataInterval, Timetable

from airflow_backup_guard.core.schedule import OffPeakSchedule

if TYPE_CHECKING:
    from airflow.timetables.base import TimeRestriction

    from airflow_backup_guard.core import BackupPlan, OffPeakCalendar


class OffPeakTimetable(Timetable):
    """One run in each off-peak window: ``DAG("shop_backup", schedule=OffPeakTimetable(plan))``.

    Runs have the moment they begin at as their logical date and as the whole of their data interval, as those of
    Airflow's cron schedules. Bad values raise :class:`~airflow_backup_guard.errors.InvalidPlan` as the DAG is parsed.

    :param when: a plan, or an off-peak calendar
    :param key: what decides where in the window the run begins: the plan's name unless given. Airflow does not
        tell a timetable the id of its DAG, so a calendar alone has no key, and its runs begin as the window opens
    :param spread: the first share of the window that starts are spread over; ``"25%"`` unless given
    :param runs_per_window: more than one divides the window into equal parts, with a run in each
    :param min_window: a window shorter than this has no run, as in ``"45min"``; up to ``"24h"``
    """

    def __init__(
        self,
        when: BackupPlan | OffPeakCalendar,
        *,
        key: str | None = None,
        spread: str | None = None,
        runs_per_window: int = 1,
        min_window: str | timedelta = timedelta(0),
    ) -> None:
        self._set(
            OffPeakSchedule.of(when, key=key, spread=spread, runs_per_window=runs_per_window, min_window=min_window)
        )

    def _set(self, schedule: OffPeakSchedule) -> None:
        self.schedule = schedule
        self.description = schedule.describe()  # Airflow's own database has no room for more than 1000 characters

    def validate(self) -> None:
        """Refuse, as the DAG is parsed, a schedule that would never start a run."""
        self.schedule.check(pendulum.now("UTC"))

    @property
    def summary(self) -> str:
        """What the column "Schedule" shows."""
        return str(self.schedule)

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """The run after the last one that was scheduled, within the DAG's dates; None if there is none."""
        start = self.schedule.next_start(
            last=last_automated_data_interval and last_automated_data_interval.end,
            earliest=restriction.earliest,
            latest=restriction.latest,
            catchup=restriction.catchup,
            now=pendulum.now("UTC"),
        )
        return None if start is None else DagRunInfo.exact(start)

    def infer_manual_data_interval(self, *, run_after: pendulum.DateTime) -> DataInterval:
        """A run that a person starts is at its own moment, in a window or not: the gates decide when it goes on."""
        return DataInterval.exact(run_after)

    def serialize(self) -> dict[str, Any]:
        """The schedule as plain values."""
        return self.schedule.to_dict()

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> OffPeakTimetable:
        """Read what :meth:`serialize` wrote."""
        timetable = cls.__new__(cls)
        timetable._set(OffPeakSchedule.from_dict(data))
        return timetable

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OffPeakTimetable) and self.schedule == other.schedule

    def __hash__(self) -> int:
        return hash(self.schedule)

    def __repr__(self) -> str:
        return f"<OffPeakTimetable {self.schedule}>"
