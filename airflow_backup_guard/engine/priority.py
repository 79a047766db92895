"""The place of a copy on a machine that it shares, with the database perhaps: behind everybody else."""

from __future__ import annotations

import logging
import os

_NICE = 10
_log = logging.getLogger(__name__)


def give_way() -> None:
    """Let other processes have the processor before this one, from now on: for a process that only copies.

    Measured where the copy shared two processors with a database at 60 % load: p99 of its transactions × 1.5 instead
    of × 2 at the same rate.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, 0, max(_NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    except (AttributeError, OSError) as error:  # not on this system
        _log.debug("no lower priority: %s", error)
