"""How the package's errors meet Airflow: what retries cannot mend fails at once, and the report learns the reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowFailException

from airflow_backup_guard.errors import BackupGuardError

if TYPE_CHECKING:
    from airflow.sdk import Context

PROBLEM_KEY = "problem"
"""XCom key under which a failed task leaves its reason for the report."""


@contextmanager
def told_to_airflow(context: Context) -> Iterator[None]:
    """Leave the reason of an error as an XCom, and raise it so that Airflow retries only where that can help."""
    try:
        yield
    except BackupGuardError as error:
        context["ti"].xcom_push(key=PROBLEM_KEY, value=str(error))
        if error.retryable:
            raise
        raise AirflowFailException(str(error)) from error
