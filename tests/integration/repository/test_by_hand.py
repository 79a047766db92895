"""What is stored opens with the command-line tools of its formats, without this package."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from airflow_backup_guard.repository.codec import EncodingWriter, suffix
from airflow_backup_guard.repository.local import LocalRepository


@pytest.mark.parametrize("encrypted", [False, True])
def test_by_hand(tmp_path: Path, encrypted: bool) -> None:
    """``age -d | zstd -d``, or ``zstd -d`` alone, gives the content back."""
    for tool in ("zstd", *(("age", "age-keygen") if encrypted else ())):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed here")
    recipients = []
    key_file = tmp_path / "key.txt"
    if encrypted:
        pytest.importorskip("pyrage")
        subprocess.run(["age-keygen", "-o", key_file], check=True, capture_output=True)
        recipients = [subprocess.run(["age-keygen", "-y", key_file], check=True, capture_output=True).stdout.decode()]
    data = os.urandom(1_000_000) + bytes(1_000_000)
    repository = LocalRepository(tmp_path / "backups")
    with EncodingWriter(repository.writer(f"base.tar{suffix(recipients)}"), recipients=recipients) as writer:
        writer.write(data)
        stored, _ = writer.commit()
    content = (repository.root / stored.key).read_bytes()
    if encrypted:
        content = subprocess.run(["age", "-d", "-i", key_file], input=content, check=True, capture_output=True).stdout
    assert subprocess.run(["zstd", "-dc"], input=content, check=True, capture_output=True).stdout == data
