"""One answer to one question about a database, a repository or a backup, with what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CheckStatus(str, Enum):
    """``unknown`` means that it could not be looked at, which is never a pass."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Check:
    """``detail`` says what was found; ``transient`` that waiting may help; ``remedy`` what a person can do."""

    name: str
    status: CheckStatus
    detail: str
    remedy: str = ""
    transient: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.detail} {self.remedy}".strip()
