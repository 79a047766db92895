"""What only S3 can do wrong: be away, refuse, lose answers, break off, hang, and take parts of limited number."""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from airflow_backup_guard.errors import (
    BackupGuardError,
    ObjectExists,
    ObjectMissing,
    RepositoryDenied,
    RepositoryFull,
    RepositoryUnavailable,
)
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.codec import EncodingWriter
from airflow_backup_guard.repository.s3 import S3Repository
from airflow_backup_guard.repository.s3_errors import s3_errors_explained
from airflow_backup_guard.repository.s3_writer import part_size
from tests.integration.repository.conftest import writers_threads

if TYPE_CHECKING:
    from tests.integration.repository.conftest import Proxy

Connect = Callable[..., Any]
PART = part_size(1)


def all_uses(repository: S3Repository) -> list[Callable[[], object]]:
    """Every call that talks to the server."""

    def write(size: int) -> None:
        with repository.writer("a") as writer:
            writer.write(bytes(size))
            writer.commit()

    return [
        lambda: write(1),
        lambda: write(PART + 1),
        lambda: repository.put("a", b""),
        lambda: repository.reader("a"),
        lambda: list(repository.list("")),
        lambda: repository.delete("a"),
        lambda: repository.delete_all(["a", "b"]),
        lambda: repository.abort_writes(""),
    ]


def test_missing_bucket(s3_endpoint: str, connect: Connect) -> None:
    """A missing bucket is named, with the remedy, and boto's own error is kept as the cause."""
    for use in all_uses(S3Repository(connect(s3_endpoint), "no-such-bucket", "p")):
        with pytest.raises(RepositoryUnavailable, match=r"no-such-bucket/p.*Create the bucket") as caught:
            use()
        assert isinstance(caught.value.__cause__, ClientError)


def test_unreachable(connect: Connect) -> None:
    """An endpoint where nobody listens is unavailable."""
    for use in all_uses(S3Repository(connect("http://127.0.0.1:9"), "bucket", "p")):
        with pytest.raises(RepositoryUnavailable, match=r"s3://bucket/p.* cannot be reached .*127\.0\.0\.1:9"):
            use()


def test_no_credentials(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Without credentials the repository is denied, and says where to give them."""
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    client = boto3.session.Session(region_name="us-east-1").client("s3", endpoint_url=s3_endpoint)
    with pytest.raises(RepositoryDenied, match="AWS_ACCESS_KEY_ID"):
        S3Repository(client, "bucket").put("a", b"")


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("AccessDenied", RepositoryDenied, "policy"),
        ("403", RepositoryDenied, "policy"),
        ("ExpiredToken", RepositoryDenied, "Renew"),
        ("SignatureDoesNotMatch", RepositoryDenied, "key"),
        ("RequestTimeTooSkewed", RepositoryDenied, "clock"),
        ("PermanentRedirect", RepositoryUnavailable, "region"),
        ("QuotaExceeded", RepositoryFull, "quota"),
        ("SlowDown", RepositoryUnavailable, "try again"),
        ("NoSuchKey", ObjectMissing, "not there"),
        ("ConditionalRequestConflict", ObjectExists, "already there"),
    ],
)
def test_error_codes(code: str, kind: type[BackupGuardError], words: str) -> None:
    """Each refusal that S3 documents becomes the error that says what to do."""
    with pytest.raises(kind, match=words) as caught, s3_errors_explained("s3://bucket/key"):
        raise ClientError({"Error": {"Code": code, "Message": "why"}}, "PutObject")
    assert "s3://bucket/key" in str(caught.value)
    assert f"PutObject: {code}: why" in str(caught.value)


@pytest.mark.parametrize(("size", "requests"), [(PART, 1), (PART + 1, 2)])
def test_every_byte_has_a_checksum(s3_endpoint: str, connect: Connect, bucket: str, size: int, requests: int) -> None:
    """One put for what fits in a part, and on each request a checksum of the whole body for the server to compare."""
    client = connect(s3_endpoint)
    seen: list[dict[str, str]] = []
    for operation in ("PutObject", "UploadPart"):
        client.meta.events.register(
            f"before-send.s3.{operation}", lambda request, **_: seen.append(dict(request.headers))
        )
    data = os.urandom(size)
    with S3Repository(client, bucket).writer("a") as writer:
        writer.write(data)
        writer.commit()
    assert len(seen) == requests
    if requests == 1:
        expected = [base64.b64encode(hashlib.sha256(data).digest())]
        assert [headers["x-amz-checksum-sha256"] for headers in seen] == expected
    else:
        expected = [base64.b64encode(zlib.crc32(part).to_bytes(4, "big")) for part in (data[:PART], data[PART:])]
        assert sorted(headers["x-amz-checksum-crc32"] for headers in seen) == sorted(expected)


@pytest.mark.parametrize("size", [0, 1000, PART + 1])
def test_a_key_of_kms_is_passed_through(s3_endpoint: str, connect: Connect, bucket: str, size: int) -> None:
    """With a key in the URL every object is encrypted with it, however it is written, and is read as any other."""
    client = connect(s3_endpoint)
    asked: list[Any] = []
    for operation in ("PutObject", "CreateMultipartUpload"):
        client.meta.events.register(
            f"before-call.s3.{operation}",
            lambda params, **_: asked.append(params["headers"]["x-amz-server-side-encryption-bucket-key-enabled"]),
        )
    session = boto3.session.Session("test", "test", region_name="us-east-1")
    key = session.client("kms", endpoint_url=s3_endpoint).create_key()["KeyMetadata"]["Arn"]
    repository = open_repository(f"s3://{bucket}/p?kms_key={key}", s3_client=client)
    data = os.urandom(size)
    with repository.writer("written") as writer:
        writer.write(data)
        writer.commit()
    repository.put("put", data, if_absent=True)
    for name in ("written", "put"):
        with repository.reader(name) as reader:
            assert reader.read() == data
        found = client.head_object(Bucket=bucket, Key=f"p/{name}")
        assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", key)
    assert asked == ["true", "true"]


def test_parts_hold_the_longest_object() -> None:
    """S3's 10,000 parts of growing size hold its longest object, each within S3's bounds, and none shrinks."""
    sizes = [part_size(number) for number in range(1, 10_001)]
    assert sum(sizes) >= 5 << 40
    assert sizes == sorted(sizes)
    assert sizes[0] > (16 << 20) + (1 << 18)
    assert sizes[-1] <= 5 << 30


def test_memory_is_flat_as_far_as_it_can_be() -> None:
    """Three parts are 60 MiB up to 147 GB in one object, and the docstring's figures beyond are true."""
    sizes = [part_size(number) for number in range(1, 10_001)]
    assert sum(size for size in sizes if size == PART) // 10**9 == 146
    assert 3 * PART == 60 << 20
    written = list(itertools.accumulate(sizes))
    for stored, memory in ((200e9, 0.3e9), (400e9, 1.3e9), (600e9, 2.7e9), (680e9, 5.4e9), (5.49e12, 5.4e9)):
        part = next(size for size, end in zip(sizes, written, strict=True) if end > stored)
        assert 2 * part == pytest.approx(memory, rel=0.12), stored


MEMORY = """
import os, sys
from airflow_backup_guard.repository import open_repository

def peak():  # in KiB; getrusage would tell the parent's
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

repository = open_repository(sys.argv[1])
repository.put("warm", b"")
chunk = os.urandom(1 << 18)
before = peak()
with repository.writer("a") as archive, repository.writer("b") as segment:
    for number in range(4 * 250):
        archive.write(chunk)
        if number < 4 * 16:
            segment.write(chunk)
print((peak() - before) >> 10)
"""


def test_memory(s3_endpoint: str, bucket: str) -> None:
    """Writing 250 MiB faster than the server takes it, with a WAL segment open beside it, needs 130 MB at most."""
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_endpoint,
    }
    command = [sys.executable, "-c", MEMORY, f"s3://{bucket}/p"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert 40 < int(done.stdout) < 115


def test_delete_all_says_what_stayed(s3_endpoint: str, connect: Connect, bucket: str) -> None:
    """What S3 refuses for single keys of a request that it accepts is an error that names one and counts them."""
    client = connect(s3_endpoint)
    repository = S3Repository(client, bucket, "p")
    for key in ("a", "b", "c"):
        repository.put(key, b"")

    def refuse(parsed: dict[str, Any], **_: Any) -> None:
        parsed["Errors"] = [{"Key": f"p/{key}", "Code": "AccessDenied", "Message": "no"} for key in ("b", "c")]

    client.meta.events.register("after-call.s3.DeleteObjects", refuse)
    with pytest.raises(RepositoryDenied, match=r"/p/b, one of 2 such, .*AccessDenied: no.*policy"):
        repository.delete_all(["a", "b", "c"])
    assert "a" not in [info.key for info in repository.list("")]


def test_delete_all_takes_few_requests(s3_endpoint: str, connect: Connect, bucket: str) -> None:
    """A thousand keys are one request."""
    client = connect(s3_endpoint)
    seen: list[str] = []
    client.meta.events.register("before-send.s3", lambda request, **_: seen.append(request.url))
    S3Repository(client, bucket).delete_all(f"wal/{number}" for number in range(2001))
    assert len(seen) == 3


def test_read_goes_on_after_cuts(s3_endpoint: str, connect: Connect, bucket: str, proxy: Proxy) -> None:
    """A reader whose connection is cut again and again gives the whole object all the same."""
    data = os.urandom(3_000_000)
    S3Repository(connect(s3_endpoint), bucket).put("a", data)
    proxy.cuts = [1_000_000, 300_000, 700_000]
    with S3Repository(connect(proxy.url), bucket).reader("a") as reader:
        assert reader.read() == data
    assert proxy.connections == 4


def test_read_gives_up(s3_endpoint: str, connect: Connect, bucket: str, proxy: Proxy) -> None:
    """A reader that gets no byte in five tries says where it broke off."""
    S3Repository(connect(s3_endpoint), bucket).put("a", os.urandom(3_000_000))
    headers = 300  # enough for the first line, too few for a body
    client = connect(proxy.url, retries={"total_max_attempts": 1})
    proxy.cuts = [1_000_000]
    with S3Repository(client, bucket).reader("a") as reader:
        reader.read(100_000)
        proxy.cuts += [headers] * 20
        with pytest.raises(RepositoryUnavailable, match=r"broke off 5 times after \d+ of 3000000 bytes"):
            reader.read()
    assert proxy.connections <= 6


def test_replaced_while_read(s3_endpoint: str, connect: Connect, bucket: str, proxy: Proxy) -> None:
    """A reader never joins two objects, even where the second took the first's key in mid-read."""
    repository = S3Repository(connect(s3_endpoint), bucket)
    repository.put("a", bytes(3_000_000))
    proxy.cuts = [1_000_000]
    with S3Repository(connect(proxy.url), bucket).reader("a") as reader:
        reader.read(100_000)
        repository.put("a", bytes([1]) * 3_000_000)
        with pytest.raises(ObjectMissing, match="replaced"):
            reader.read()


def test_long_read_is_of_several_connections_and_goes_on_after_cuts(
    s3_endpoint: str, connect: Connect, bucket: str, proxy: Proxy
) -> None:
    """Whatever sizes it is asked for in; and a reader that is closed early leaves no thread."""
    data = os.urandom(21_000_001)
    S3Repository(connect(s3_endpoint), bucket).put("a", data)
    proxy.cuts = [3_000_000, 1_000_000, 2_000_000]
    repository = S3Repository(connect(proxy.url), bucket)
    with repository.reader("a") as reader:
        assert reader.read(17) + reader.read(5_000_000) + reader.read() == data
        assert reader.read(1) == b""
    assert proxy.connections > 4
    with repository.reader("a") as reader:
        assert reader.read(5_000_000) == data[:5_000_000]
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("s3-read")]


def test_long_read_of_what_is_replaced(s3_endpoint: str, connect: Connect, bucket: str) -> None:
    """It ends with the first range that is another object's, however often it is asked."""
    repository = S3Repository(connect(s3_endpoint), bucket)
    repository.put("a", bytes(40_000_000))
    with repository.reader("a") as reader:
        assert reader.read(100_000) == bytes(100_000)
        repository.put("a", bytes([1]) * 40_000_000)
        for _ in range(2):
            with pytest.raises(ObjectMissing, match="replaced"):
                reader.read()


def test_long_read_of_a_service_without_ranges(s3_endpoint: str, connect: Connect, bucket: str) -> None:
    """It is told, and nothing of the wrong place is taken for the right one."""
    client = connect(s3_endpoint)
    repository = S3Repository(client, bucket)
    repository.put("a", bytes(20_000_000))
    client.meta.events.register("before-parameter-build.s3.GetObject", lambda params, **_: params.pop("Range", None))
    with repository.reader("a") as reader:
        for _ in range(2):
            with pytest.raises(RepositoryUnavailable, match=r"4194304 of 20000000 .*did not give the range"):
                reader.read()


def test_claim_whose_answer_is_lost(s3_endpoint: str, connect: Connect, bucket: str, proxy: Proxy) -> None:
    """A conditional put that S3 stored, but whose answer was lost, is not taken for somebody else's."""
    proxy.cuts = [0]
    S3Repository(connect(proxy.url), bucket).put("claim", b"mine", if_absent=True)
    assert proxy.connections > 1
    proxy.cuts = [0]
    with pytest.raises(ObjectExists):
        S3Repository(connect(proxy.url), bucket).put("claim", b"another's", if_absent=True)


def test_failed_part(connect: Connect, s3_endpoint: str, bucket: str) -> None:
    """A part that cannot be sent fails the writer, and no upload is left."""
    client = connect(s3_endpoint)

    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "UploadPart")

    client.meta.events.register("before-send.s3.UploadPart", refuse)
    writer = S3Repository(client, bucket).writer("a")
    writer.write(bytes(PART + 1))
    with pytest.raises(RepositoryDenied):
        writer.commit()
    with pytest.raises(RepositoryDenied):
        writer.write(b"more")
    writer.abort()
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def end_of(use: Callable[[], object]) -> Future[object]:
    """What becomes of a call in a thread that the end of the tests does not wait for."""
    future: Future[object] = Future()

    def run() -> None:
        try:
            future.set_result(use())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="blocked", daemon=True).start()
    return future


def wait_until(true: Callable[[], object]) -> None:
    """Wait for what happens in another thread, and fail if it does not."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


# S3 is asked with a timeout of ten minutes, so that none of these bounds can be met but by the abort.
SLOW = {"read_timeout": 600, "retries": {"total_max_attempts": 1}}
PROMPT = 5.0  # "about a second", on a machine that has other things to do


def assert_abort_is_prompt(abort: Callable[[], None], blocked: Future[object]) -> None:
    """The abort returns, and the call that waited raises, long before S3's timeout."""
    time.sleep(0.1)
    assert not blocked.done()
    started = time.monotonic()
    abort()
    assert time.monotonic() - started < PROMPT
    with pytest.raises(ValueError, match="closed"):
        blocked.result(PROMPT)


@pytest.mark.parametrize("size", [1, PART - 1])
def test_abort_of_a_commit_that_hangs(connect: Connect, silent: str, size: int) -> None:
    """A commit in one request that S3 never answers, or never takes whole, ends with an abort."""
    writer = S3Repository(connect(silent, **SLOW), "bucket").writer("a")
    writer.write(bytes(size))
    assert_abort_is_prompt(writer.abort, end_of(writer.commit))


def test_abort_before_the_upload_has_an_id(connect: Connect, silent: str) -> None:
    """A write whose upload S3 does not begin ends with an abort."""
    writer = S3Repository(connect(silent, **SLOW), "bucket").writer("a")
    assert_abort_is_prompt(writer.abort, end_of(lambda: writer.write(bytes(PART + 1))))


def test_an_upload_that_begins_after_the_abort_is_dropped(
    s3_endpoint: str, connect: Connect, bucket: str, proxy: Proxy
) -> None:
    """S3 answers the request for an upload only once nobody wants it any more: it is aborted all the same."""
    repository = S3Repository(connect(proxy.url, **SLOW), bucket)
    repository.put("warm", b"")
    proxy.stalled.set()
    writer = repository.writer("a")
    assert_abort_is_prompt(writer.abort, end_of(lambda: writer.write(bytes(PART + 1))))
    proxy.stalled.clear()
    wait_until(lambda: not writers_threads())
    assert "Uploads" not in connect(s3_endpoint).list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize("recipients", [False, True], ids=["zstd", "age"])
def test_abort_of_parts_that_hang(
    s3_endpoint: str, connect: Connect, bucket: str, proxy: Proxy, recipients: bool
) -> None:
    """Parts that S3 stops taking fill the memory; an abort through the codec ends the write that waits for room."""
    keys = []
    if recipients:
        pyrage = pytest.importorskip("pyrage")
        keys = [str(pyrage.x25519.Identity.generate().to_public())]
    target = S3Repository(connect(proxy.url, **SLOW), bucket).writer("a")
    writer = EncodingWriter(target, level=1, threads=2, recipients=keys)

    def write() -> None:
        while True:
            writer.write(os.urandom(1 << 18))
            if target._upload:
                proxy.stalled.set()

    blocked = end_of(write)
    wait_until(lambda: blocked.done() or (proxy.stalled.is_set() and target._in_flight >= 2 * PART))
    assert_abort_is_prompt(writer.abort, blocked)
    assert not [thread for thread in threading.enumerate() if thread.name == "age"]
    proxy.stalled.clear()
    wait_until(lambda: not writers_threads())
    assert "Uploads" not in connect(s3_endpoint).list_multipart_uploads(Bucket=bucket)


def test_abort_of_a_last_request_that_hangs(s3_endpoint: str, connect: Connect, bucket: str, proxy: Proxy) -> None:
    """All parts are stored, and S3 does not answer the request that would join them."""
    client = connect(proxy.url, **SLOW)
    client.meta.events.register("before-send.s3.CompleteMultipartUpload", lambda **_: proxy.stalled.set())
    writer = S3Repository(client, bucket).writer("a")
    writer.write(bytes(PART + 1))
    blocked = end_of(writer.commit)
    wait_until(proxy.stalled.is_set)
    assert_abort_is_prompt(writer.abort, blocked)
    proxy.stalled.clear()
    wait_until(lambda: not writers_threads())
    assert "Uploads" not in connect(s3_endpoint).list_multipart_uploads(Bucket=bucket)


def test_abort_of_a_slow_upload(s3_endpoint: str, connect: Connect, bucket: str) -> None:
    """An abort cuts the parts under way short and leaves no upload."""
    client = connect(s3_endpoint)
    writer = S3Repository(client, bucket).writer("a")
    writer.write(bytes(2 * PART + 1))
    writer.abort()
    wait_until(lambda: not writers_threads())
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
