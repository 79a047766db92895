"""Every error the package raises on purpose: what happened, to what, and what to do about it."""

from __future__ import annotations

from typing import ClassVar


class BackupGuardError(Exception):
    """Root of all errors of this package.

    ``retryable`` is a property of the type: True where the same call may succeed later without anybody
    changing anything, so that Airflow retries make sense.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(f"{message} {remedy}".strip())

    def advise(self, remedy: str, *, instead: bool = False) -> None:
        """Add to what can be done about it, or say that ``instead``, where somebody further up knows more."""
        self.remedy = remedy if instead else f"{self.remedy} {remedy}".strip()
        self.args = (f"{self.message} {self.remedy}".strip(),)


class InvalidPlan(BackupGuardError, ValueError):
    """A value of a plan, a calendar, a limit or an option is not one that is allowed."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        self.field = field
        self.value = value
        self.allowed = allowed
        super().__init__(f"{field}: {value!r} is not valid.", remedy=f"Allowed: {allowed}.")


class SourceUnavailable(BackupGuardError):
    """The database cannot be reached, or the connection to it broke."""

    retryable = True


class SourceBusy(BackupGuardError):
    """The database cannot take a backup now: another one runs, or no WAL sender or slot is free."""

    retryable = True


class SourceUnsuitable(BackupGuardError):
    """The database, as it is set up, cannot be backed up this way: version, role, privilege, pg_hba.conf."""


class PreflightFailed(BackupGuardError):
    """A check before the backup failed, and will fail again until somebody changes something."""


class PreflightNotYet(PreflightFailed):
    """A check before the backup failed for a reason that passes: another backup, a server that restarts."""

    retryable = True


class RepositoryUnavailable(BackupGuardError):
    """The repository cannot be reached or does not exist."""

    retryable = True


class RepositoryDenied(BackupGuardError):
    """The repository refuses our credentials or permissions."""


class RepositoryFull(BackupGuardError):
    """The repository has no space left."""


class ObjectMissing(BackupGuardError):
    """An object that should be in the repository is not there."""


class ObjectExists(BackupGuardError):
    """An object that must be written only once is there already."""


class ExtraMissing(BackupGuardError):
    """An optional dependency that this call needs is not installed."""


class BudgetSpent(BackupGuardError):
    """The copy took longer, or was paused for longer, than its plan allows, or its window ended."""


class WindowMissed(BackupGuardError):
    """The off-peak window that a run was due in can no longer take it, and its plan does not wait for another."""


class LoadNeverDropped(BackupGuardError):
    """The load did not drop in time for the plan's RPO, and the plan says not to go on."""

    retryable = True


class BackupMissing(BackupGuardError):
    """No backup by this id or description is visible in the repository."""


class BackupNotRunning(BackupGuardError):
    """An order was given to a backup that has ended, or never began."""


class BackupStopped(BackupGuardError):
    """The backup was stopped on purpose, by a person or a signal; the next try starts afresh."""

    retryable = True


class CommandNotFound(BackupGuardError):
    """A command that shall be guarded is not there, or the folder that it shall run in."""


class CommandNotExecutable(BackupGuardError):
    """A command that shall be guarded cannot be run."""


class CommandFailed(BackupGuardError):
    """A guarded command ended with a status other than 0."""

    retryable = True


class CommandEscaped(BackupGuardError):
    """A guarded command left processes behind, or cannot be held: what it does is not guarded."""


class CommandLost(BackupGuardError):
    """The process that held a guarded command was killed, and the command with it."""

    retryable = True


class BackupDamaged(BackupGuardError):
    """What is stored is not what was backed up."""


class RestoreRefused(BackupGuardError):
    """The restore would overwrite something, or cannot fit where it was asked to go."""
