"""Which operating-system user runs PostgreSQL, as it refuses root, and folders that this user can reach."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_backup_guard.errors import SourceUnsuitable

# sockaddr_un holds 107 characters and the end on Linux, 103 on macOS and the BSDs.
_LONGEST_SOCKET_PATH = 103


@dataclass(frozen=True)
class Account:
    """A user and its group by number; both None: whoever runs this process."""

    uid: int | None = None
    gid: int | None = None

    def options(self) -> dict[str, Any]:
        """What ``subprocess`` needs to start a program as this user, without sudo or su."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    @property
    def name(self) -> str:
        """For messages."""
        uid = os.geteuid() if self.uid is None else self.uid
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return f"user {uid}"

    def own(self, path: Path) -> None:
        """Give one file or folder to this user, if it is another."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def can(self, permission: str, path: Path) -> bool:
        """Whether the user may read (``r``), write (``w``), or enter or run (``x``) the path."""
        return (
            subprocess.run(  # noqa: S603
                ["/bin/sh", "-c", f'test -{permission} "$1"', "test", str(path)],
                cwd="/",
                check=False,
                **self.options(),
            ).returncode
            == 0
        )


def account_for(folder: Path) -> Account:
    """Who runs PostgreSQL on this data directory (there or not yet).

    As it is when we are not root. As root: the owner of the folder, or ``nobody`` when root owns it.
    """
    if os.geteuid() != 0:
        return Account()
    if folder.exists() and (owner := folder.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


def private_folder(account: Account, purpose: str = "server") -> Path:
    """A new folder under the temporary folder, mode 0700, owned and reachable by the account, its path short
    enough for PostgreSQL's socket. The caller removes it."""
    tried = []
    for parent in dict.fromkeys([tempfile.gettempdir(), "/tmp", "/var/tmp"]):  # noqa: S108
        try:
            folder = Path(tempfile.mkdtemp(prefix=f"backup-guard-{purpose}-", dir=parent))
        except OSError as error:
            tried.append(f"{parent} ({error.strerror})")
            continue
        account.own(folder)
        if len(os.fsencode(folder / ".s.PGSQL.65535")) > _LONGEST_SOCKET_PATH:
            tried.append(f"{parent} (path too long for a socket)")
        elif not account.can("x", folder):
            tried.append(f"{parent} (cannot be reached by {account.name})")
        else:
            return folder
        folder.rmdir()
    raise SourceUnsuitable(
        f"No temporary folder suits PostgreSQL run by {account.name}: tried {', '.join(tried)}.",
        remedy="Set TMPDIR to a short path that this user can reach.",
    )


def hand_over(data_directory: Path, account: Account) -> None:
    """Give a data directory of root's to the account, with its tablespaces and a pg_wal kept elsewhere."""
    if account.uid is None or data_directory.stat().st_uid == account.uid:
        return
    for path in everything_in(data_directory):
        account.own(path)


def everything_in(folder: Path) -> Iterator[Path]:
    """The folder and all in it, and what its tablespace and WAL links point to if it is a data directory."""
    yield folder
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            yield Path(parent) / name
    for link in [folder / "pg_wal", *(folder / "pg_tblspc").glob("*")]:
        if link.is_symlink() and link.is_dir():
            yield from everything_in(link.resolve())


def check_reachable(folder: Path, account: Account) -> None:
    """Raise :class:`SourceUnsuitable` if the account cannot get at the folder."""
    if account.uid is not None and not account.can("x", folder):
        raise SourceUnsuitable(
            f"PostgreSQL refuses to run as root, and {account.name}, who runs it, cannot reach {folder}.",
            remedy="Choose a folder whose parents all let that user in (mode o+x), such as one in /var/tmp.",
        )
