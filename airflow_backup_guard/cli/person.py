"""Who gives a command, where nobody says otherwise."""

from __future__ import annotations

import getpass
import os
import socket


def person() -> str:
    """``alice@db1``: a note, not a proof."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may run as a user that has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
