"""Connections are checked: a server by another name or of another authority is refused; nothing goes on in plain."""

from __future__ import annotations

import ipaddress
import os
import ssl
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine.snapshot import check
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.errors import BackupGuardError
from airflow_backup_guard.postgres.account import account_for, private_folder
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from tests.integration.guarded import back_up, plan_for
from tests.integration.test_backup import supports_tls

NAME = "db.example"


class Authority:
    """A certificate authority, and the certificates that it gives, as files."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = folder / f"{name}.crt"
        made = self._made(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        self.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def give(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of a server by this name, or this address."""
        key = ec.generate_private_key(ec.SECP256R1())
        of: x509.GeneralName = x509.DNSName(name)
        if name[0].isdigit():
            of = x509.IPAddress(ipaddress.ip_address(name))
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        made = self._made(subject, key, x509.SubjectAlternativeName([of]))
        certificate, private = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        private.write_bytes(key.private_bytes(*form))
        private.chmod(0o600)
        return certificate, private

    def _made(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.now(timezone.utc)
        builder = x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(days=1),
            not_valid_after=now + timedelta(days=1),
        )
        return builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints)).sign(
            self._key, hashes.SHA256()
        )


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where certificates are, for whoever runs PostgreSQL, too."""
    account = account_for(Path("/"))
    made = private_folder(account, "tls")
    yield made
    for path in made.iterdir():
        path.unlink()
    made.rmdir()


@pytest.fixture(scope="module")
def authorities(folder: Path) -> tuple[Authority, Authority]:
    """The one that is trusted, and another one."""
    return Authority(folder, "ours"), Authority(folder, "another")


@pytest.fixture(scope="module")
def tls_server(folder: Path, authorities: tuple[Authority, Authority]) -> Iterator[LocalServer]:
    """A PostgreSQL whose name is NAME, and which speaks nothing but TLS over TCP."""
    certificate, key = authorities[0].give(NAME)
    for path in (certificate, key):
        account_for(folder).own(path)
    major = next((major for major in (18, 17, 15) if supports_tls(major)), None)
    if major is None:
        pytest.skip("no PostgreSQL here was built with TLS")
    settings = {"fsync": "off", "ssl": "on", "ssl_key_file": str(key), "ssl_cert_file": str(certificate)}
    with LocalServer.create(major=major, settings=settings) as server:
        server.sql("CREATE ROLE guard LOGIN REPLICATION PASSWORD 'guard' IN ROLE pg_monitor")
        server.set_hba([f"hostssl {what} guard 127.0.0.1/32 scram-sha-256" for what in ("all", "replication")])
        yield server


def dsn_of(server: LocalServer, authority: Authority, *, name: str = NAME, mode: str = "verify-full") -> str:
    """How to connect to the server as ``name``, at the loopback, trusting ``authority``."""
    return (
        f"host={name} hostaddr=127.0.0.1 port={server.port} user=guard password=guard dbname=postgres "
        f"sslmode={mode} sslrootcert={authority.certificate}"
    )


def test_a_backup_with_verify_full_is_whole_and_every_session_is_encrypted(
    tls_server: LocalServer, authorities: tuple[Authority, Authority], tmp_path: Path
) -> None:
    """Copy, WAL, probes and slot: the server takes nothing but TLS, so all of them spoke it."""
    plan = plan_for(tmp_path / "backups")
    record = back_up(plan, dsn_of(tls_server, authorities[0]))
    assert verify(record, open_repository(plan.repository)).verdict is Verdict.VERIFIED


@pytest.mark.parametrize(
    ("trusted", "name", "said"),
    [
        ("another", NAME, "certificate verify failed"),
        ("ours", "other.example", 'does not match host name "other.example"'),
    ],
    ids=["another authority", "another name"],
)
def test_another_server_than_the_one_that_is_meant_is_refused(
    tls_server: LocalServer,
    authorities: tuple[Authority, Authority],
    tmp_path: Path,
    trusted: str,
    name: str,
    said: str,
) -> None:
    """Before a password is sent, finally, and with what to do; nothing is asked again without TLS."""
    plan = plan_for(tmp_path / "backups")
    authority = authorities[0] if trusted == "ours" else authorities[1]
    checks = check(plan, dsn_of(tls_server, authority, name=name), open_repository(plan.repository)).checks
    (refused,) = [found for found in checks if found.name == "connection"]
    assert said in refused.detail
    assert "sslrootcert" in refused.remedy and "verify-full" in refused.remedy
    assert not refused.transient
    with pytest.raises(BackupGuardError) as caught:
        back_up(plan, dsn_of(tls_server, authority, name=name))
    assert not caught.value.retryable


def test_a_server_without_tls_is_refused(
    tls_server: LocalServer, server: LocalServer, authorities: tuple[Authority, Authority], tmp_path: Path
) -> None:
    """With verify-full a server that offers none gets no password; and a server that demands it takes no plain one."""
    plan = plan_for(tmp_path / "backups")
    repository = open_repository(plan.repository)
    for dsn, said in (
        (dsn_of(server, authorities[0]), "does not support SSL"),
        (dsn_of(tls_server, authorities[0], mode="disable"), "no encryption"),
    ):
        (refused,) = [found for found in check(plan, dsn, repository).checks if found.name == "connection"]
        assert said in refused.detail
        assert refused.remedy and not refused.transient


# S3


@pytest.fixture(scope="module")
def s3_port(authorities: tuple[Authority, Authority]) -> Iterator[int]:
    """An S3 API behind TLS, whose certificate is for 127.0.0.1 and not for localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authorities[0].give("127.0.0.1"))
    app = DomainDispatcherApplication(create_backend_app)
    listening = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=context)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    yield listening.port
    listening.shutdown()
    thread.join()


def used(monkeypatch: pytest.MonkeyPatch, endpoint: str, authority: Authority | None, *, create: bool = False) -> str:
    """What comes of using a bucket there, configured by the environment alone, as on a worker."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "REQUESTS_"))]:
        monkeypatch.delenv(name)
    if authority is not None:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.certificate))
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    repository = open_repository("s3://tls/backups")
    try:
        if create:
            repository.place[0].create_bucket(Bucket="tls")  # type: ignore[attr-defined]
        repository.put("a", b"words")
        with repository.reader("a") as reader:
            return reader.read().decode()
    except BackupGuardError as error:
        return f"{type(error).__name__} {error}"


def test_a_bucket_behind_tls_is_checked(
    s3_port: int, authorities: tuple[Authority, Authority], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It works with the authority that gave the certificate; with another one, with none, by another name and in plain
    text it is refused, and the error says what to do."""
    ours, another = authorities
    assert used(monkeypatch, f"https://127.0.0.1:{s3_port}", ours, create=True) == "words"
    for endpoint, authority in (
        (f"https://127.0.0.1:{s3_port}", another),
        (f"https://127.0.0.1:{s3_port}", None),
        (f"https://localhost:{s3_port}", ours),
    ):
        said = used(monkeypatch, endpoint, authority)
        assert said.startswith("RepositoryDenied "), said
        assert "AWS_CA_BUNDLE" in said and "certificate" in said
    assert used(monkeypatch, f"http://127.0.0.1:{s3_port}", ours).startswith("RepositoryUnavailable ")
