"""The codec: what goes in comes out, what is damaged never does, and no thread or memory is left behind."""

from __future__ import annotations

import hashlib
import io
import random
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout

import pytest
import zstandard

from airflow_backup_guard.errors import (
    BackupDamaged,
    ExtraMissing,
    InvalidPlan,
    ObjectMissing,
    RepositoryFull,
    RepositoryUnavailable,
    RestoreRefused,
)
from airflow_backup_guard.repository.age import AgeFilter
from airflow_backup_guard.repository.base import ObjectWriter, StoredObject
from airflow_backup_guard.repository.codec import DecodedReader, EncodingWriter, open_decoded, suffix
from airflow_backup_guard.repository.compression import Compression
from airflow_backup_guard.repository.frames import Frame, frames
from airflow_backup_guard.repository.memory import MemoryRepository

SECRET = "AGE-SECRET-KEY-1JFSEMTYH3EMD62RN6XDKMJ6KPZE4VVDRZ7VNWDMQGDUVVPLTE69QUQ8LEK"
BITS = random.Random(20240601).randbytes


@pytest.fixture(scope="module")
def keys() -> tuple[str, str]:
    """An age key pair: public and secret."""
    pyrage = pytest.importorskip("pyrage")
    identity = pyrage.x25519.Identity.generate()
    return str(identity.to_public()), str(identity)


@pytest.fixture(params=["zstd", "age"])
def pair(request: pytest.FixtureRequest) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Recipients and identities: none, then one of each."""
    if request.param == "zstd":
        return (), ()
    public, secret = request.getfixturevalue("keys")
    return (public,), (secret,)


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    """After each test, no thread of the codec lives, but for one that ends its frame after an abort."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("zstd"):
            thread.join(5)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("age", "zstd", "in-turn"))]


def decompressed(chunks: Iterator[bytes]) -> list[bytes]:
    """The content of frames, as it comes."""
    return [frame.content() if isinstance(frame, Frame) else frame for frame in frames(chunks)]


def contents(reader: DecodedReader, rest: Callable[[], None] = lambda: None) -> list[bytes]:
    """All that a reader decodes in threads."""
    content: list[bytes] = []

    def take(piece: bytes) -> Callable[[], None]:
        content.append(piece)
        return rest

    reader.read_in_threads(take)
    return content


class FailingWriter(ObjectWriter):
    """A repository that is full after ``room`` bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.aborted = False

    def write(self, data: bytes | memoryview) -> None:
        """Take less and less."""
        self.room -= len(data)
        if self.room < 0:
            raise RepositoryFull("full")

    def commit(self) -> StoredObject:
        """Never."""
        raise RepositoryFull("full")

    def abort(self) -> None:
        """Remember it."""
        self.aborted = True


def store(data: bytes, recipients: tuple[str, ...] = (), **options: int) -> tuple[MemoryRepository, StoredObject]:
    """A repository with ``data`` in it."""
    repository = MemoryRepository()
    with EncodingWriter(repository.writer(f"a{suffix(recipients)}"), recipients=recipients, **options) as writer:
        writer.write(data)
        stored, raw_size = writer.commit()
    assert raw_size == len(data)
    return repository, stored


def stored_bytes(repository: MemoryRepository, stored: StoredObject) -> bytes:
    """What is stored, as it is."""
    return repository.reader(stored.key).read()


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 131_072, 131_073, 3_000_001])
@pytest.mark.parametrize("chunk", [1_000_003, 32_768])
def test_round_trip(pair: tuple[tuple[str, ...], tuple[str, ...]], size: int, chunk: int) -> None:
    """Whatever the sizes, what is read is what was written, and the stored bytes are counted and digested."""
    recipients, identities = pair
    data = (BITS(size // 2) + bytes(size))[:size]
    repository = MemoryRepository()
    with EncodingWriter(repository.writer(f"a{suffix(recipients)}"), recipients=recipients) as writer:
        for start in range(0, size, chunk):
            writer.write(memoryview(data)[start : start + chunk])
        stored, raw_size = writer.commit()
    assert raw_size == size
    assert hashlib.sha256(stored_bytes(repository, stored)).hexdigest() == stored.sha256
    with open_decoded(repository, stored.key, identities) as reader:
        pieces = list(iter(lambda: reader.read(chunk), b""))
        assert (reader.stored_size, reader.stored_sha256) == (stored.size, stored.sha256)
    assert b"".join(pieces) == data
    assert {len(piece) for piece in pieces[:-1]} <= {chunk}


@pytest.mark.parametrize("options", [{"level": 1}, {"level": 19}, {"threads": 2}])
def test_options(options: dict[str, int]) -> None:
    """Levels and threads change how it is stored, not what."""
    data = BITS(300_000) * 4
    repository, stored = store(data, **options)
    assert open_decoded(repository, stored.key).read() == data


def test_frames_carry_checksums() -> None:
    """Each frame has zstd's checksum of its content, so that damage shows without our records too."""
    repository, stored = store(b"some content")
    assert zstandard.get_frame_parameters(stored_bytes(repository, stored)).has_checksum


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
@pytest.mark.parametrize("threads", [0, 2])
def test_cut_short_between_frames(size: int, threads: int) -> None:
    """Frames of 1 MiB, which say how long they are, are followed by another: that one is missing shows, by itself."""
    repository, stored = store(BITS(size), threads=threads)
    whole, sizes, ends = stored_bytes(repository, stored), [], [0]
    while ends[-1] < len(whole):
        frame = whole[ends[-1] :]
        sizes.append(zstandard.frame_content_size(frame))
        decoder = zstandard.ZstdDecompressor().decompressobj()
        decoder.decompress(frame)
        ends.append(len(whole) - len(decoder.unused_data))
    assert sizes == [1 << 20] * (size >> 20) + [size % (1 << 20)]
    for end in ends[:-1]:
        repository.put(stored.key, whole[:end])
        with open_decoded(repository, stored.key) as reader, pytest.raises(BackupDamaged, match="cut short"):
            reader.read()


def test_what_hardly_compresses_takes_little_time() -> None:
    """After a frame of such the next is at level 1, whatever the plan's; after one that compresses, not."""
    text = b"".join(b"%d is a number, and %d is one, too\n" % (n, n * n) for n in range(60_000))[: 2 << 20]
    dense, frame = BITS(1 << 20), 1 << 20
    sizes: list[int] = []
    compression = Compression(lambda out: sizes.append(len(out)), 19, 0)
    for data in (text, dense, text):
        compression.feed(memoryview(data))
    slow, quick = (len(zstandard.ZstdCompressor(level=level).compress(text[:frame])) for level in (19, 1))
    assert slow * 1.1 < quick
    assert sizes[0] == pytest.approx(slow, rel=0.05)
    assert sizes[3] == pytest.approx(quick, rel=0.05)
    assert sizes[4] == pytest.approx(len(zstandard.ZstdCompressor(level=19).compress(text[frame:])), rel=0.05)


def test_frames_are_given_in_order_and_one_at_a_time() -> None:
    """Whichever thread is done first; and while nobody takes them, only so many wait for it."""
    written: list[bytes] = []
    enough, go_on, busy = threading.Event(), threading.Event(), threading.Lock()

    def take(frame: bytes) -> None:
        assert busy.acquire(blocking=False), "two at a time"
        if not written:
            enough.set()
            assert go_on.wait(30)
        written.append(frame)
        busy.release()

    data = [BITS(1 << 20) if number % 3 else bytes(1 << 20) for number in range(24)]
    fed = 0
    compression = Compression(take, 9, 3)

    def feed() -> None:
        nonlocal fed
        for content in data:
            compression.feed(memoryview(content))
            fed += 1
        compression.finish()

    with ThreadPoolExecutor(1) as pool:
        feeding = pool.submit(feed)
        assert enough.wait(30)
        with pytest.raises(FutureTimeout):
            feeding.result(0.3)
        assert fed <= 6
        go_on.set()
        feeding.result(30)
    compression.close(wait=True)
    assert b"".join(decompressed(iter(written))) == b"".join(data)


def test_what_has_few_symbols_and_no_repetitions_compresses_after_what_hardly_does() -> None:
    """Such as what PostgreSQL keeps beside a table, in hex: half of it, at every level that looks at symbols."""
    sizes: list[int] = []
    compression = Compression(lambda out: sizes.append(len(out)), 3, 0)
    for data in (BITS(1 << 20), *(BITS(1 << 19).hex().encode() for _ in range(3))):
        compression.feed(memoryview(data))
    assert sizes[0] > 1 << 20
    assert max(sizes[1:]) < 0.6 * (1 << 20)


def test_cut_short(pair: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    """An object that ends early, at any byte, is damaged, and never the shorter original."""
    recipients, identities = pair
    repository, stored = store(BITS(1000) + bytes(300_000), recipients)
    whole = stored_bytes(repository, stored)
    for end in range(len(whole)):
        repository.put(stored.key, whole[:end])
        with open_decoded(repository, stored.key, identities) as reader, pytest.raises(BackupDamaged, match=r"a\.zst"):
            reader.read()


def test_altered(pair: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    """A flipped bit is found, or lies where it changes nothing of the content."""
    recipients, identities = pair
    data = BITS(500) + bytes(2000)
    repository, stored = store(data, recipients)
    whole = stored_bytes(repository, stored)
    found = 0
    for bit in range(len(whole) * 8):
        altered = bytearray(whole)
        altered[bit // 8] ^= 1 << bit % 8
        repository.put(stored.key, bytes(altered))
        with open_decoded(repository, stored.key, identities) as reader:
            try:
                assert reader.read() == data
            except (BackupDamaged, RestoreRefused):
                found += 1
    assert found >= len(whole) * 8 - 20


@pytest.mark.parametrize("garbage", [b"\0", b"garbage", b"\x28\xb5\x2f\xfd", bytes(100_000)])
def test_trailing_garbage(pair: tuple[tuple[str, ...], tuple[str, ...]], garbage: bytes) -> None:
    """Anything after the end is damage, also where the content fills age's chunks exactly."""
    recipients, identities = pair
    for data in (b"content", BITS(65_536 - 13), BITS(65_536)):
        repository, stored = store(data, recipients)
        repository.put(stored.key, stored_bytes(repository, stored) + garbage)
        with open_decoded(repository, stored.key, identities) as reader, pytest.raises(BackupDamaged):
            reader.read()


def test_no_end_before_it_is_proven() -> None:
    """In pieces too, all reads of a damaged object end in the error, not in an empty read."""
    repository, stored = store(BITS(1 << 20) + bytes(1000))
    repository.put(stored.key, stored_bytes(repository, stored)[:-1])
    with open_decoded(repository, stored.key) as reader:
        assert len(reader.read(1 << 20)) == 1 << 20
        for _ in range(2):
            with pytest.raises(BackupDamaged, match="cut short"):
                reader.read(1)


@pytest.mark.parametrize("size", [0, 1 << 20, 3 << 20])
def test_no_end_before_what_follows_an_empty_frame(size: int) -> None:
    """Whole frames are followed by an empty one, which is not the end of what is stored."""
    repository, stored = store(bytes(size))
    repository.put(stored.key, stored_bytes(repository, stored) + b"more")
    with open_decoded(repository, stored.key) as reader:
        assert len(reader.read(size)) == size
        for _ in range(2):
            with pytest.raises(BackupDamaged, match="cut short"):
                reader.read1()


def test_no_end_after_threads_have_found_damage() -> None:
    """Whoever goes on to read learns of it again."""
    repository, stored = store(BITS(3 << 20))
    repository.put(stored.key, stored_bytes(repository, stored)[:-1])
    with open_decoded(repository, stored.key) as reader:
        with pytest.raises(BackupDamaged, match="cut short"):
            contents(reader)
        with pytest.raises(BackupDamaged, match="cut short"):
            reader.read(1)


@pytest.mark.parametrize("blocks", [0, 1, 2, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("chunk", [1, 2, 7, 100_000, 1 << 20])
@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("sized", [True, False])
def test_frames_of_any_number_of_blocks(blocks: int, chunk: int, checksum: bool, sized: bool) -> None:
    """With and without a checksum, wherever the stored chunks end; a frame that does not say how much it holds, or
    holds much, in pieces of 128 KiB at most, and any other at once."""
    data = (BITS(1000) * 1200)[: blocks << 17]
    frame = zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=sized).compress(data)
    if blocks == 8 and sized:
        frame += zstandard.ZstdCompressor().compress(b"")  # as after a full one of ours, there must be another
    chunks = (frame[at : at + chunk] for at in range(0, len(frame), chunk))
    pieces = decompressed(chunks)
    assert b"".join(pieces) == data
    most = 1 << 20 if sized and blocks <= 8 else 1 << 17
    assert all(0 < len(piece) <= most for piece in pieces)
    assert len(pieces) <= 2 or most == 1 << 17


@pytest.mark.parametrize("size", [1, 64, 255, 256, 512, 1000, 65_791, 65_792, 1 << 18, 1 << 20])
def test_a_header_with_a_flipped_bit(size: int) -> None:
    """Whatever it says then of how much the frame holds, even nothing: it is found, or the content is the same."""
    data = BITS(size)
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(data)
    end = zstandard.ZstdCompressor().compress(b"")
    for bit in range(12 * 8):
        altered = bytearray(frame)
        altered[bit // 8] ^= 1 << bit % 8
        try:
            content = b"".join(decompressed(iter([bytes(altered) + end])))
        except (ValueError, zstandard.ZstdError):
            continue
        assert content == data


def test_a_frame_that_takes_more_than_it_holds() -> None:
    """A megabyte at most needs few more bytes, so no more are gathered: blocks may be empty, and have no end."""
    empty_block = b"\0\0\0"
    header = zstandard.ZstdCompressor().compress(b"one")[:6]  # magic, flags, and how much it holds

    def endless() -> Iterator[bytes]:
        yield header
        for _ in range(100):
            yield empty_block * 10_000
        raise AssertionError("it reads on")

    with pytest.raises(ValueError, match="takes more than it holds"):
        decompressed(endless())


def test_frames_are_read_across() -> None:
    """Frames one after the other are one content, as for zstd itself."""
    repository, stored = store(b"one ")
    frames = stored_bytes(repository, stored) * 3 + zstandard.ZstdCompressor().compress(b"two")
    repository.put(stored.key, frames)
    assert open_decoded(repository, stored.key).read() == b"one one one two"


def test_memory_is_bounded(pair: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    """64 MiB that compress to almost nothing, or not at all, need a few MiB on both ways."""
    recipients, identities = pair
    noise = BITS(1 << 20)
    for chunk in (bytes(1 << 20), noise):
        repository = MemoryRepository()
        key = f"a{suffix(recipients)}"
        counter = FailingWriter(1 << 40)
        tracemalloc.start()
        with EncodingWriter(counter, recipients=recipients) as writer:
            for _ in range(64):
                writer.write(chunk)
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
        tracemalloc.stop()
        with EncodingWriter(repository.writer(key), recipients=recipients) as writer:
            for _ in range(64):
                writer.write(chunk)
            writer.commit()
        tracemalloc.start()
        with open_decoded(repository, key, identities) as reader:
            while reader.read(1 << 18):
                pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 12 << 20


def test_full_repository(pair: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    """The repository's error reaches the caller, the target is aborted and nothing hangs."""
    recipients, _ = pair
    target = FailingWriter(1 << 20)
    noise = BITS(1 << 20)

    def write() -> None:
        with EncodingWriter(target, recipients=recipients) as writer:
            for _ in range(64):
                writer.write(noise)

    with pytest.raises(RepositoryFull):
        write()
    assert target.aborted


def test_no_commit_after_an_error(pair: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    """A caller that goes on after a failed write cannot commit what has a hole."""
    recipients, _ = pair
    target = FailingWriter(0)
    writer = EncodingWriter(target, recipients=recipients)
    with pytest.raises(RepositoryFull):
        writer.write(BITS(4 << 20))
    assert target.aborted


def test_abort(pair: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    """An abort, before or after writing, leaves nothing; after a commit it does nothing."""
    recipients, _ = pair
    repository = MemoryRepository()
    for data in (b"", BITS(3 << 20)):
        with EncodingWriter(repository.writer("a"), recipients=recipients) as writer:
            writer.write(data)
    assert list(repository.list("")) == []
    with EncodingWriter(repository.writer("a"), recipients=recipients) as writer:
        writer.commit()
        writer.abort()
        writer.abort()
    assert len(list(repository.list(""))) == 1


def test_reader_closed_early(pair: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    """A reader that is closed in the middle leaves no thread."""
    recipients, identities = pair
    repository, stored = store(BITS(4 << 20), recipients)
    with open_decoded(repository, stored.key, identities) as reader:
        assert len(reader.read(100)) == 100
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read(1)


def test_read_in_threads(pair: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    """It is the same content of the same stored bytes, in order, in pieces of a MiB at most."""
    recipients, identities = pair
    data = BITS(3 << 20) * 4 + b"end"
    repository, stored = store(data, recipients)
    with open_decoded(repository, stored.key, identities) as reader:
        pieces = contents(reader)
        assert b"".join(pieces) == data
        assert max(map(len, pieces)) <= 1 << 20
        assert (reader.stored_size, reader.stored_sha256) == (stored.size, stored.sha256)


def test_damage_that_threads_find(pair: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    """All before it is taken; it is still read to its end, to be told by its size and digest."""
    recipients, identities = pair
    data = BITS(6 << 20)
    repository, stored = store(data, recipients)
    altered = bytearray(stored_bytes(repository, stored))
    altered[(2 << 20) + 500_000] ^= 1
    repository.put(stored.key, bytes(altered))
    with open_decoded(repository, stored.key, identities) as reader:
        taken: list[bytes] = []

        def take(content: bytes) -> Callable[[], None]:
            taken.append(content)
            return lambda: None

        with pytest.raises(BackupDamaged, match=r"a\.zst"):
            reader.read_in_threads(take)
        assert len(taken) == 2 or (recipients and len(taken) < 2)  # age may have gone on to it already
        assert data.startswith(b"".join(taken))
        reader.skip_rest()
        assert reader.stored_size == stored.size
        assert reader.stored_sha256 == hashlib.sha256(altered).hexdigest()


def test_a_repository_that_fails_while_threads_read() -> None:
    """Its error reaches the caller as it is, and again; so does one of who takes the content."""
    repository, stored = store(BITS(6 << 20))
    source = repository.reader(stored.key)

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if source.tell() > 3 << 20:
                raise RepositoryUnavailable("It is away.")
            return source.read(size)

    with DecodedReader(Failing(), stored.key) as reader:
        with pytest.raises(RepositoryUnavailable, match="It is away"):
            contents(reader)
        with pytest.raises(RepositoryUnavailable, match="It is away"):
            reader.read()

    def rest() -> None:
        raise OSError("disk full")

    with open_decoded(repository, stored.key) as reader, pytest.raises(OSError, match="disk full"):
        contents(reader, rest)


def test_more_than_was_written() -> None:
    """A few stored bytes can stand for any number, so there is a bound to what is decoded."""
    repository, stored = store(bytes(5 << 20))
    reads: list[Callable[[DecodedReader], object]] = [DecodedReader.read, contents]
    for read in reads:
        with open_decoded(repository, stored.key, most=5 << 20) as reader:
            read(reader)
        with (
            open_decoded(repository, stored.key, most=(5 << 20) - 1) as reader,
            pytest.raises(BackupDamaged, match="holds more than was written"),
        ):
            read(reader)


def test_another_digest() -> None:
    """What can be decoded, but is not what was written, has no end."""
    repository, stored = store(b"content")
    with DecodedReader(repository.reader(stored.key), stored.key, sha256=stored.sha256) as reader:
        assert reader.read() == b"content"
    with DecodedReader(repository.reader(stored.key), stored.key, sha256=stored.sha256) as reader:
        assert contents(reader) == [b"content"]
    with DecodedReader(repository.reader(stored.key), stored.key, sha256="0" * 64) as reader:
        assert reader.read(7) == b"content"
        for _ in range(2):
            with pytest.raises(BackupDamaged, match=f"SHA-256 is {stored.sha256}"):
                reader.read(1)
    with (
        DecodedReader(repository.reader(stored.key), stored.key, sha256="0" * 64) as reader,
        pytest.raises(BackupDamaged, match=f"SHA-256 is {stored.sha256}"),
    ):
        contents(reader)


@pytest.mark.parametrize("after", [0, 1, 5_000_000])
def test_failing_thread(after: int) -> None:
    """If the encrypting thread fails, at once or later, the caller gets its error and never waits for ever."""

    def convert(source: AgeFilter, sink: AgeFilter) -> None:
        taken = 0
        while taken < after:
            taken += len(source.read(8192))
        raise OSError("thread")

    filter_ = AgeFilter(convert)

    def feed() -> None:
        for _ in range(20):
            filter_.feed(bytes(1 << 20))

    with pytest.raises(OSError, match="thread"):
        feed()
    with pytest.raises(OSError, match="thread"):
        filter_.finish()
    filter_.cancel()


def test_keys_that_do_not_fit(keys: tuple[str, str]) -> None:
    """Missing and wrong keys are told apart from damage."""
    public, _ = keys
    repository, stored = store(b"content", (public,))
    with open_decoded(repository, stored.key) as reader:
        with pytest.raises(InvalidPlan, match=r"identities.*encrypted"):
            reader.read()
        # The stored bytes can be read without any key.
        reader.skip_rest()
        assert (reader.stored_size, reader.stored_sha256) == (stored.size, stored.sha256)
    pyrage = pytest.importorskip("pyrage")
    other = str(pyrage.x25519.Identity.generate())
    with open_decoded(repository, stored.key, [other]) as reader, pytest.raises(RestoreRefused, match="none of the 1"):
        reader.read()


def test_invalid_keys(keys: tuple[str, str]) -> None:
    """Texts that are no keys are refused, the secret ones without being shown."""
    public, _ = keys
    target = FailingWriter(0)
    with pytest.raises(InvalidPlan, match="recipients: 'age1nonsense'"):
        EncodingWriter(target, recipients=["age1nonsense"])
    assert target.aborted
    repository, stored = store(b"content", (public,))
    wrong = [SECRET.replace("Q", "B")]
    with open_decoded(repository, stored.key, wrong) as reader, pytest.raises(InvalidPlan) as caught:
        reader.read()
    assert "1JFS" not in str(caught.value)


def test_several_recipients(keys: tuple[str, str]) -> None:
    """Any one of the recipients opens it."""
    pyrage = pytest.importorskip("pyrage")
    other = pyrage.x25519.Identity.generate()
    repository, stored = store(b"content", (keys[0], str(other.to_public())))
    for identity in (keys[1], str(other)):
        with open_decoded(repository, stored.key, [identity]) as reader:
            assert reader.read() == b"content"


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyrage, what to install is said."""
    monkeypatch.setitem(sys.modules, "pyrage", None)
    target = FailingWriter(0)
    with pytest.raises(ExtraMissing, match=r"pip install 'airflow-backup-guard\[age\]'"):
        EncodingWriter(target, recipients=["age1"])
    assert target.aborted
    repository = MemoryRepository()
    repository.put("a.zst.age", b"")
    with open_decoded(repository, "a.zst.age", [SECRET]) as reader, pytest.raises(ExtraMissing, match="pip install"):
        reader.read()


@pytest.mark.parametrize("level", [0, 20, -1])
def test_invalid_level(level: int) -> None:
    """A level outside zstd's range is refused."""
    with pytest.raises(InvalidPlan, match="level"):
        EncodingWriter(FailingWriter(0), level=level)


class BlockedWriter(ObjectWriter):
    """A repository that has stopped answering: what calls it waits until it is aborted."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.aborted = threading.Event()

    def write(self, data: bytes | memoryview) -> None:
        """Wait for the abort."""
        self.entered.set()
        self.aborted.wait()
        raise ValueError("closed")

    def commit(self) -> StoredObject:
        """Wait for the abort."""
        self.write(b"")
        raise AssertionError

    def abort(self) -> None:
        """End the wait."""
        self.aborted.set()


@pytest.mark.parametrize("call", ["write", "commit"])
def test_abort_of_a_blocked_writer(pair: tuple[tuple[str, ...], tuple[str, ...]], call: str) -> None:
    """An abort from another thread reaches a target that does not answer, and the call that waits raises."""
    target = BlockedWriter()
    writer = EncodingWriter(target, level=1, threads=2, recipients=pair[0])
    data = BITS(1 << 20)

    def use() -> None:
        while call == "write":
            writer.write(data)
        writer.commit()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(use)
        assert target.entered.wait(30)
        writer.abort()
        with pytest.raises(ValueError, match=r"closed|ended"):
            waiting.result(30)
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"more")
    with pytest.raises(ValueError, match="closed"):
        writer.commit()


@pytest.mark.parametrize("threads", [0, 2])
def test_a_hole_is_never_committed(threads: int) -> None:
    """After one write that failed, in whichever thread, none goes to the target, and nothing can be committed."""

    class Once(FailingWriter):
        written = 0

        def write(self, data: bytes | memoryview) -> None:
            assert not self.written, "a frame after the one that failed"
            self.written += 1
            raise RepositoryFull("full")

    target = Once(0)
    writer = EncodingWriter(target, threads=threads)

    def write_and_commit() -> None:
        for _ in range(12):
            writer.write(BITS(1 << 20))
        writer.commit()

    with pytest.raises(RepositoryFull):
        write_and_commit()
    assert target.aborted
    for call in (writer.commit, lambda: writer.write(b"more")):
        with pytest.raises(ValueError, match="closed"):
            call()


@pytest.mark.parametrize("threads", [0, 2])
def test_a_commit_that_failed_is_not_tried_again(threads: int) -> None:
    """The last frame was handed over, and whether it arrived is not known. After a commit nothing is written."""
    target = FailingWriter(1 << 20)
    writer = EncodingWriter(target, threads=threads)
    writer.write(b"some")
    with pytest.raises(RepositoryFull):
        writer.commit()
    assert target.aborted
    with pytest.raises(ValueError, match="closed"):
        writer.commit()
    repository = MemoryRepository()
    whole = EncodingWriter(repository.writer("a.zst"), threads=threads)
    whole.commit()
    with pytest.raises(ValueError, match="closed"):
        whole.write(b"more")


@pytest.mark.parametrize("threads", [0, 2])
def test_abort_of_a_busy_writer(pair: tuple[tuple[str, ...], tuple[str, ...]], threads: int) -> None:
    """An abort from another thread, at any moment, ends a writer that is inside of zstd or age, and crashes neither."""
    data = BITS(1 << 19)
    for round_ in range(20):
        repository = MemoryRepository()
        writer = EncodingWriter(repository.writer("a"), level=1, threads=threads, recipients=pair[0])
        begun = threading.Event()

        def use(writer: EncodingWriter = writer, begun: threading.Event = begun, many: int = round_) -> None:
            while True:
                for _ in range(many + 1):
                    writer.write(data)
                begun.set()

        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(use)
            assert begun.wait(30)
            writer.abort()
            with pytest.raises(ValueError, match=r"closed|ended"):
                working.result(30)
        assert list(repository.list("")) == []


def test_names() -> None:
    """The name tells how an object is stored; others are refused, and missing ones are missing."""
    assert (suffix(), suffix(["age1"])) == (".zst", ".zst.age")
    with pytest.raises(InvalidPlan, match="zst"):
        open_decoded(MemoryRepository(), "base.tar.gz")
    with pytest.raises(ObjectMissing):
        open_decoded(MemoryRepository(), "base.tar.zst")


def test_reads_like_a_file() -> None:
    """The reader serves what takes binary files."""
    repository, stored = store(b"one\ntwo\n")
    with open_decoded(repository, stored.key) as reader:
        assert list(io.TextIOWrapper(reader)) == ["one\n", "two\n"]
