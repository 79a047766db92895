"""PostgreSQL backups from Airflow that cannot hurt the database."""

__version__ = "0.1.0"
