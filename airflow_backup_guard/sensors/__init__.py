"""Gates: sensors that keep a backup from starting at the wrong time."""

from airflow_backup_guard.sensors.off_peak import OffPeakSensor
from airflow_backup_guard.sensors.write_load import WriteLoadSensor

__all__ = ["OffPeakSensor", "WriteLoadSensor"]
