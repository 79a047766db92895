"""Where backups live: one small protocol for local disks, S3 and memory. Importing it loads no client."""

from airflow_backup_guard.repository.base import ObjectInfo, ObjectWriter, Repository, StoredObject
from airflow_backup_guard.repository.open import connection_id, open_repository

__all__ = ["ObjectInfo", "ObjectWriter", "Repository", "StoredObject", "connection_id", "open_repository"]
