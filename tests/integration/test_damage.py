"""Random damages to stored bytes: verification finds every one, and names the object.

The suite does a share of them; all thousand, or others, are for::

    BACKUP_GUARD_DAMAGES=1000 BACKUP_GUARD_DAMAGE_SEED=1 python -m pytest -s tests/integration/test_damage.py
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import boto3
import pyrage
import pytest
from moto.server import ThreadedMotoServer

from airflow_backup_guard.core.backup import BackupRecord
from airflow_backup_guard.core.verification import ObjectState, Verdict
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.postgres.account import account_for
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.s3 import S3Repository
from tests.conftest import SMALL, prepare
from tests.integration.guarded import CopyInFlight, back_up, plan_for

DAMAGES = int(os.environ.get("BACKUP_GUARD_DAMAGES", "60"))
SEED = int(os.environ.get("BACKUP_GUARD_DAMAGE_SEED", "1"))
IN_S3 = 0.1  # of all
WEEK = timedelta(days=7)


@dataclass
class Subject:
    """A backup that is damaged, and put right again."""

    name: str
    repository: Repository
    record: BackupRecord
    sound: Verdict
    objects: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part in self.record.parts:
            with self.repository.reader(part.key) as stored:
                self.objects[part.key] = stored.read()

    def put_right(self, keys: set[str]) -> None:
        """Store what was there."""
        for key in keys:
            self.repository.put(key, self.objects[key])


@pytest.fixture(scope="module")
def subjects(
    tmp_path_factory: pytest.TempPathFactory, tablespace_server: LocalServer, role_dsn: Callable[..., str]
) -> Iterator[list[Subject]]:
    """A backup with a tablespace and several segments of WAL in a folder, the same in S3, and an encrypted one."""
    dsn = role_dsn(tablespace_server)
    folder = tmp_path_factory.mktemp("damage")
    plan = plan_for(folder / "plain", max_rate="30MB/s", min_rate="30MB/s")
    with CopyInFlight(plan, dsn) as copying:
        tablespace_server.sql("SELECT pg_switch_wal()")
        tablespace_server.sql("INSERT INTO spaced SELECT n FROM generate_series(1, 1000) n; SELECT pg_switch_wal()")
        copying.end()
    assert copying.record is not None, copying.error
    recipient = str(pyrage.x25519.Identity.generate().to_public())
    locked = plan_for(folder / "locked", recipients=[recipient])
    s3 = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    s3.start()
    host, port = s3.get_host_and_port()
    session = boto3.session.Session("test", "test", region_name="us-east-1")
    client = session.client("s3", endpoint_url=f"http://{host}:{port}")
    client.create_bucket(Bucket="damage")
    bucket, local = S3Repository(client, "damage"), open_repository(plan.repository)
    for info in local.list(""):
        with local.reader(info.key) as stored:
            bucket.put(info.key, stored.read())
    yield [
        Subject("folder", local, copying.record, Verdict.VERIFIED),
        Subject("encrypted", open_repository(locked.repository), back_up(locked, dsn), Verdict.READABLE),
        Subject("S3", bucket, copying.record, Verdict.VERIFIED),
    ]
    s3.stop()


@pytest.fixture(scope="module")
def tablespace_server() -> Iterator[LocalServer]:
    """A server with a table in a tablespace."""
    with LocalServer.create(major=18, settings=SMALL) as server:
        prepare(server)
        account = account_for(server.data_directory)
        space = server.data_directory.parent / f"{server.data_directory.name}-space"
        space.mkdir()
        account.own(space)
        server.sql(f"CREATE TABLESPACE fast LOCATION '{space}'")
        server.sql("CREATE TABLE spaced TABLESPACE fast AS SELECT n FROM generate_series(1, 5000) n; CHECKPOINT")
        yield server  # its folder goes with it, and so does the tablespace beside it


def flip(subject: Subject, chance: random.Random) -> set[str]:
    """One bit of one object."""
    key = chance.choice(list(subject.objects))
    content = bytearray(subject.objects[key])
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    subject.repository.put(key, bytes(content))
    return {key}


def truncate(subject: Subject, chance: random.Random) -> set[str]:
    """The end of one object is gone: a byte, or all but a few, or anything in between."""
    key = chance.choice(list(subject.objects))
    size = len(subject.objects[key])
    subject.repository.put(key, subject.objects[key][: chance.choice([size - 1, chance.randrange(size), 0])])
    return {key}


def swap(subject: Subject, chance: random.Random) -> set[str]:
    """Two objects have each other's content."""
    one, other = chance.sample(list(subject.objects), 2)
    subject.repository.put(one, subject.objects[other])
    subject.repository.put(other, subject.objects[one])
    return {one, other}


def delete(subject: Subject, chance: random.Random) -> set[str]:
    """One object is gone, or now and then the whole folder."""
    keys = list(subject.objects)
    gone = set(keys) if chance.random() < 0.1 else {chance.choice(keys)}
    subject.repository.delete_all(gone)
    return gone


def replace(subject: Subject, chance: random.Random) -> set[str]:
    """Something else of the same size: noise, zeros, itself with two pieces exchanged, or its last page lost."""
    key = chance.choice(list(subject.objects))
    content = subject.objects[key]
    middle = chance.randrange(1, len(content))
    other = chance.choice(
        [
            chance.randbytes(len(content)),
            bytes(len(content)),
            content[middle:] + content[:middle],
            content[: -min(4096, len(content) - 1)] + bytes(min(4096, len(content) - 1)),
        ]
    )
    assert other != content
    subject.repository.put(key, other)
    return {key}


KINDS = (flip, truncate, swap, delete, replace)


def test_every_damage_is_found_and_named(subjects: list[Subject]) -> None:
    """Whether all is read again or only what is not as it was when it was read; and nothing else is accused."""
    for subject in subjects:
        assert verify(subject.record, subject.repository).verdict is subject.sound
    done: Counter[tuple[str, str]] = Counter()
    missed = []
    for number in range(DAMAGES):
        chance = random.Random(f"{SEED}-{number}")
        # Each place with each kind, and each of those with and without what is known from before.
        subject = subjects[2] if chance.random() < IN_S3 else chance.choice(subjects[:2])
        kind = KINDS[number % len(KINDS)]
        keys = kind(subject, chance)
        found = verify(subject.record, subject.repository, max_age=chance.choice([WEEK, None]))
        named = {o.key for o in found.objects if o.state not in (ObjectState.OK, ObjectState.LOCKED)}
        lines = [problem for problem in found.problems if any(problem.startswith(f"{key}: ") for key in keys)]
        if found.verdict is not Verdict.DAMAGED or named != keys or len(lines) != len(keys):
            missed.append((number, subject.name, kind.__name__, sorted(keys), found.verdict, sorted(named)))
        done[subject.name, kind.__name__] += 1
        subject.put_right(keys)
    for (place, name), count in sorted(done.items()):
        print(f"{place:<10} {name:<10} {count}")
    assert missed == []
    for subject in subjects:
        assert verify(subject.record, subject.repository, max_age=WEEK).verdict is subject.sound
        assert catalog.last_verification(subject.repository, subject.record) is not None
