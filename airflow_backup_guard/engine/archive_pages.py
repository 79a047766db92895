"""Checks the data pages in the members of an archive, while other threads read and decode it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from airflow_backup_guard.core.pages import PageFindings, PageRun, WholePages, check_pages, first_block
from airflow_backup_guard.engine.archive import Piece


class ArchivePages:
    """Checks the pages in pieces of members: told of in their order, and checked by any thread in any order.

    ``checked`` is how many pages were right, ``other_size`` how many are of a size that cannot be checked here, and
    ``wrong`` what was found in each file, by its path, that has wrong ones.
    """

    def __init__(self, start_lsn: int) -> None:
        self._start_lsn = start_lsn
        self._pages: WholePages | None = None
        self._lock = threading.Lock()
        self.checked = 0
        self.other_size = 0
        self.wrong: dict[str, PageFindings] = {}

    def begin(self, piece: Piece) -> Callable[[], None]:
        """Return what checks the pages that are whole with this piece, if they are many or the last of their file."""
        path = piece.member.path
        if piece.offset == 0:
            block = None if piece.member.is_folder else first_block(path)
            self._pages = None if block is None else WholePages(block)
        run = self._pages.feed(piece.content, is_last=piece.is_last) if self._pages is not None else None
        return lambda: self._check(path, run) if run else None

    def _check(self, path: str, run: PageRun) -> None:
        # One thread at a time: numpy lets go of the interpreter for moments so short that two take longer than one.
        with self._lock:
            found = check_pages(run, self._start_lsn)
            self.checked += found.checked - found.other_size - len(found.wrong)
            self.other_size += found.other_size
            if found.wrong:
                self.wrong.setdefault(path, PageFindings()).add(found)
