"""``python -m airflow_backup_guard`` is the command ``backup-guard``."""

import sys

from airflow_backup_guard.cli import main

sys.exit(main())
