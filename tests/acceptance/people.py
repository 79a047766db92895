"""Names, roles and passwords of those who log in, and what is hidden from one of them."""

from __future__ import annotations

ACCOUNTS = {"alice": "admin", "viewer": "viewer", "stranger": "admin"}
"""Names and roles; each one's password is the name, and ``-secret``."""

HIDDEN = {"slow", "halt_slow"}
"""The DAGs that ``stranger`` has no access to, whatever the role."""
