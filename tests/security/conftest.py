"""How long the fuzzers run: ``BACKUP_GUARD_FUZZ`` is the number of examples of each; `make fuzz` sets thousands."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FUZZ = settings(
    deadline=None,  # a busy machine is no fault of the code
    max_examples=int(os.environ.get("BACKUP_GUARD_FUZZ", "40")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
