"""What anybody on the machine can see of processes: their arguments."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, suppress
from pathlib import Path


class ArgumentSampler(AbstractContextManager["ArgumentSampler"]):
    """Collects the arguments of all processes, many times a second, in ``seen``; not those of whoever runs the test."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ArgumentSampler:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.1):
            for entry in Path("/proc").iterdir():
                if entry.name.isdecimal():
                    with suppress(OSError):
                        self.seen.add((entry / "cmdline").read_bytes())


def holders(folder: Path, secrets: dict[str, str], *, but: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Which files below a folder have which secret, decompressed where they are zstd; not those ``but`` by name."""
    import zstandard

    found: dict[str, list[str]] = {}
    for path in folder.rglob("*"):
        if not path.is_file() or path.name in but:
            continue
        with suppress(FileNotFoundError):
            data = path.read_bytes()
            if path.suffix == ".zst":
                with suppress(zstandard.ZstdError):  # what is damaged is looked at as it is
                    data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
            if names := [name for name, secret in secrets.items() if secret.encode() in data]:
                found[str(path)] = names
    return found
