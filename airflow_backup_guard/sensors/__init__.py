"""Gates, which keep a backup from starting at the wrong time, and the watchdog, which looks for those of others."""

from airflow_backup_guard.sensors.off_peak import OffPeakSensor
from airflow_backup_guard.sensors.rogue_backup import RogueBackupSensor
from airflow_backup_guard.sensors.write_load import WriteLoadSensor

__all__ = ["OffPeakSensor", "RogueBackupSensor", "WriteLoadSensor"]
