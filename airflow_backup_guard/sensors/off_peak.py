"""The gate on the calendar: opens inside of the plan's off-peak windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import timezone

from airflow_backup_guard.sensors.gate import Gate

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger


class OffPeakSensor(Gate):
    """Waits for an off-peak window of ``plan.calendar``. Returns the window's end and a text that explains it."""

    def look(self) -> tuple[bool, dict[str, Any]]:
        """Hold the present moment against the calendar."""
        calendar, now = self.plan.calendar, timezone.utcnow()
        end = calendar.window_end(now)
        if end is None:
            text = f"outside of {calendar} ({calendar.tz}); the next window opens {calendar.next_start(now)}"
        elif calendar.always_open:
            text = f"inside of {calendar} ({calendar.tz}), which never closes"
        else:
            text = f"inside of {calendar} ({calendar.tz}), until {end}"
        seen = {"gate": "off-peak", "opened": end is not None, "window_end": end and end.isoformat(), "text": text}
        return end is not None, seen

    def waiting(self) -> BaseTrigger:
        """Until the next window opens."""
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger

        moment = self.plan.calendar.next_start(timezone.utcnow())
        return DateTimeTrigger(moment=moment or timezone.utcnow())
