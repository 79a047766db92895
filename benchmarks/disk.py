"""A modelled disk: one queue of a known speed for all reads, writes and flushes, as real a block device to PostgreSQL
as any. What waits there waits for the disk and not for a processor, the same at every run.

Memory behind the queue of disk_server.py → nbdfuse → a loop device with direct I/O → ext4. Needs Linux and root.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Skipped

# As a small volume of a cloud: 1,600 pages a second, or 48 MB/s in the requests of 128 KiB that a copy makes.
REQUEST_SECONDS = 0.0005
BYTES_PER_SECOND = 60_000_000
_BYTES = 8 << 30  # only what is written takes memory
_NEEDED = ("nbdfuse", "losetup", "mkfs.ext4", "mount", "umount", "mountpoint")
_READY_SECONDS = 10.0

# Reads "server PID" and "device NAME" from a pipe that only we hold; its end means that all is to go, because it is no
# longer needed or because we were killed. Whoever uses the disk may take a moment to end.
_JANITOR = """
server= device=
while read -r what which; do eval "$what=\\$which"; done
[ -n "$server" ] && kill -USR2 "$server"
for folder in mounted raw; do
  tenths=0
  while mountpoint -q "$1/$folder" && ! umount "$1/$folder" && [ "$tenths" -lt 200 ]; do
    sleep 0.1
    tenths=$((tenths + 1))
  done
  mountpoint -q "$1/$folder" && umount --lazy "$1/$folder"
  [ "$folder" = mounted ] && [ -n "$device" ] && losetup --detach "$device"
done
[ -n "$server" ] && kill "$server"
rm -rf --one-file-system -- "$1"
"""


@dataclass(frozen=True)
class ModelledDisk:
    """A mounted file system on a disk that is as fast as memory until :meth:`slow_down`."""

    folder: Path
    device: str
    server: int

    def slow_down(self) -> None:
        """From now on every request takes its time."""
        os.kill(self.server, signal.SIGUSR1)

    def busy_seconds(self) -> float:
        """For how long there was something to do, so far."""
        return int(Path(f"/sys/block/{Path(self.device).name}/stat").read_text().split()[9]) / 1000

    def forget(self) -> None:
        """Nothing is to be read from memory that the last backup read from the disk."""
        for path in self.folder.rglob("*"):
            # A server's temporary files may go at any time.
            with suppress(FileNotFoundError):
                if path.is_file():
                    with path.open("rb") as file:
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def modelled_disk() -> Iterator[ModelledDisk]:
    """Make one; gone at the end, and when this process is killed. Raises :class:`Skipped` where it cannot be made."""
    if missing := [program for program in _NEEDED if shutil.which(program) is None]:
        raise Skipped(f"a modelled disk needs {', '.join(missing)} (apt-get install libnbd-bin e2fsprogs mount)")
    if os.geteuid() != 0 or not Path("/dev/fuse").exists() or not Path("/dev/loop-control").exists():
        raise Skipped("a modelled disk needs root, /dev/fuse and /dev/loop-control")
    work = Path(tempfile.mkdtemp(prefix="backup-guard-disk-"))
    work.chmod(0o711)
    janitor = subprocess.Popen(
        ["/bin/sh", "-c", _JANITOR, "janitor", work],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    assert janitor.stdin is not None

    def tell(line: str) -> None:
        assert janitor.stdin is not None
        janitor.stdin.write(f"{line}\n".encode())
        janitor.stdin.flush()

    children: list[subprocess.Popen[bytes]] = []
    try:
        yield _made(work, tell, children)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"").decode(errors="replace").strip()
        raise Skipped(f"no modelled disk can be made here: {error.cmd[0]} said: {said}") from error
    finally:
        janitor.stdin.close()
        janitor.wait()
        for child in children:
            child.wait()


def _made(work: Path, tell: Callable[[str], None], children: list[subprocess.Popen[bytes]]) -> ModelledDisk:
    for name in ("raw", "mounted"):
        (work / name).mkdir()
    socket, raw = work / "socket", work / "raw" / "disk"
    served = [sys.executable, "-m", "benchmarks.disk_server", str(socket)]
    server = _started([*served, str(_BYTES), str(REQUEST_SECONDS), str(BYTES_PER_SECOND)], socket, children)
    tell(f"server {server}")
    _started(["nice", "-n", "-10", "nbdfuse", str(raw), "--unix", str(socket)], raw, children)
    device = _output("losetup", "--find", "--show", "--direct-io=on", str(raw))
    tell(f"device {device}")
    _output("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", device)
    _output("mount", "-o", "noatime", device, str(work / "mounted"))
    return ModelledDisk(work / "mounted", device, server)


def _started(command: list[str], creates: Path, children: list[subprocess.Popen[bytes]]) -> int:
    # Ctrl-C in a terminal must not take the disk away from under its file system.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd=Path(__file__).resolve().parent.parent,
        start_new_session=True,
    )
    children.append(process)
    until = time.monotonic() + _READY_SECONDS
    while not creates.exists():
        if process.poll() is not None or time.monotonic() > until:
            raise Skipped(f"no modelled disk can be made here: {' '.join(command[:3])} does not start")
        time.sleep(0.02)
    return process.pid


def _output(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return done.stdout.decode().strip()
