"""Alerts that really arrive: by mail and by web hook, from the command line and from a copy under load."""

from __future__ import annotations

import email
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from email.message import Message
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from airflow_backup_guard.cli import main
from airflow_backup_guard.core import AlertChannel, AlertRules, BackupPlan, LoadLimits
from airflow_backup_guard.core.alert_log import Delivery, deliveries_prefix
from airflow_backup_guard.core.backup import load
from airflow_backup_guard.engine import alerting as sending
from airflow_backup_guard.engine.alert_watch import alerting
from airflow_backup_guard.engine.copy import copy
from airflow_backup_guard.engine.snapshot import take_snapshot
from airflow_backup_guard.engine.stop import Stop
from airflow_backup_guard.errors import InvalidPlan
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.read import read_whole
from tests.integration.guarded import BASELINE_SECONDS, plan_for
from tests.webhook import Webhook

TELLER = "tests.webhook.Teller"
PLAN_FILE = """
name = "shop"
repository = "{repository}"

[calendar]
windows = "daily 00:00-24:00"
tz = "UTC"

[alerts]
raise_after = "1min"

[[alerts.channels]]
name = "mail"
notifier = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"
[alerts.channels.arguments]
to = "dba@example.com"
from_email = "backup@example.com"
subject = "{{{{ alert_title }}}}"
html_content = "{{{{ alert_html }}}}"
smtp_conn_id = "mail"

[[alerts.channels]]
name = "hook"
severity = "critical"
after = "15min"
notifier = "airflow.providers.http.notifications.http.HttpNotifier"
[alerts.channels.arguments]
http_conn_id = "webhook"
endpoint = "alert"
json = {{ title = "{{{{ alert_title }}}}", key = "{{{{ alert_key }}}}", text = "{{{{ alert_text }}}}" }}
"""


class Mailbox:
    """What a mail server was given."""

    def __init__(self) -> None:
        self.mails: list[Message] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        self.mails.append(email.message_from_bytes(envelope.content, policy=default))
        return "250 OK"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    """A web hook, to which the Airflow connection ``webhook`` leads."""
    with Webhook() as webhook:
        monkeypatch.setenv("AIRFLOW_CONN_WEBHOOK", webhook.connection)
        yield webhook


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """A mail server, to which the Airflow connection ``mail`` leads."""
    mailbox = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        extra = {"disable_ssl": True, "disable_tls": True}
        connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_MAIL", json.dumps(connection))
        yield mailbox
    finally:
        controller.stop()


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    """A plan with a mail channel, and a web hook that is for critical alerts that last."""
    (tmp_path / "backups").mkdir()
    path = tmp_path / "shop.toml"
    path.write_text(PLAN_FILE.format(repository=(tmp_path / "backups").as_uri()))
    return path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other at once."""
    monkeypatch.setattr(sending, "_WAITS_SECONDS", (0.1, 0.1))


def alert(*options: str) -> subprocess.CompletedProcess[str]:
    """``backup-guard alert --test``, in a process of its own: Airflow takes all logs of the one that imports it."""
    command = [sys.executable, "-m", "airflow_backup_guard", "alert", "--test", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def kept(repository: Repository, plan: str = "shop") -> list[Delivery]:
    """What the repository says of messages, in their order."""
    keys = sorted(info.key for info in repository.list(deliveries_prefix(plan)))
    return [load(Delivery, read_whole(repository, key), key) for key in keys]


def test_a_test_reaches_every_channel(plan_file: Path, mailbox: Mailbox, hook: Webhook) -> None:
    """Mail and web hook each get a message that says what it is, whatever severity and time they have in the plan."""
    answer = alert("--plan", str(plan_file))
    assert answer.stdout == "A test alert of plan shop:\n  mail  sent\n  hook  sent\n", answer
    assert answer.returncode == 0
    (mail,) = mailbox.mails
    assert mail["Subject"] == "shop: Test of the alert channels" and mail["To"] == "dba@example.com"
    body = mail.get_body(("html",))  # type: ignore[attr-defined]
    assert body is not None and "Somebody tried whether alerts arrive" in body.get_content()
    (told,) = hook.told
    assert told["key"] == "shop/test" and "sent by" in told["text"]
    deliveries = kept(open_repository((plan_file.parent / "backups").as_uri()))
    assert {(found.channel, found.transition, found.problem) for found in deliveries} == {
        ("mail", "test", ""),
        ("hook", "test", ""),
    }


def test_a_dead_channel_is_told_of(plan_file: Path, mailbox: Mailbox, hook: Webhook) -> None:
    """A channel that fails is tried three times, reported through the other, kept, and is the exit status."""
    hook.broken = True
    ended = alert("--plan", str(plan_file), "--json")
    assert ended.returncode == 1
    assert hook.refused == 3
    subjects = sorted(mail["Subject"] for mail in mailbox.mails)
    assert subjects == ["shop: Channel hook does not work (warning)", "shop: Test of the alert channels"]
    answer = json.loads(ended.stdout)
    (failed,) = [found for found in answer["deliveries"] if found["problem"]]
    assert failed["channel"] == "hook" and failed["tries"] == 3 and "503" in failed["problem"]


@pytest.mark.parametrize(
    ("notifier", "arguments", "expected"),
    [
        ("tests.webhook.Tailor", {}, "has no attribute 'Tailor'"),
        ("airflow_providers.carrier_pigeon.PigeonNotifier", {}, "is its provider installed?"),
        (TELLER, {"speed": 3}, "unexpected keyword argument 'speed'"),
    ],
)
def test_a_channel_that_does_not_exist(notifier: str, arguments: dict[str, Any], expected: str) -> None:
    """A wrong class, provider or argument is said at once, with what is wrong; it is not tried again."""
    with pytest.raises(InvalidPlan, match=re.escape(expected)):
        sending.notifier_of(AlertChannel(name="hook", notifier=notifier, arguments=arguments))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["alert", "--plan", "{plan}"], "--test"),
        (["alert", "--test", "--plan", "{plan}", "--channel", "pigeon"], "no alert channel pigeon"),
        (["alert", "--test", "--repository", "file:///tmp"], "has no alert channels"),
    ],
)
def test_wrong_use(plan_file: Path, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is sent by mistake, and what is missing is said."""
    assert main([argument.format(plan=plan_file) for argument in arguments]) == 2
    assert expected in capsys.readouterr().err


def test_secrets_of_a_hook_stay_secret() -> None:
    """The path of a web hook's URL is its password: it shows neither in logs nor in what is kept."""
    refused = ConnectionError(
        "HTTPSConnectionPool(host='hooks.example', port=443): Max retries exceeded with url: /services/T0/B0/s3cr3t"
    )
    assert "s3cr3t" not in sending._safe(refused)
    assert sending._safe(ValueError("404 for https://hooks.example/services/s3cr3t?x=1")) == (
        "ValueError: 404 for https://hooks.example/…"
    )


def alarming(folder: Path, *channels: AlertChannel) -> BackupPlan:
    """A plan whose copy takes a few seconds, and whose thresholds every commit is over."""
    rules = AlertRules(
        channels=channels,
        thresholds=LoadLimits(commit_latency=(timedelta(microseconds=1), "100s"), read_latency="100s"),
        raise_after="1s",
    )
    return plan_for(folder, alerts=rules, max_rate="20MB/s", min_rate="20MB/s")


@pytest.mark.usefixtures("impatient")
def test_a_copy_alerts_and_goes_on(guard_dsn: str, tmp_path: Path, hook: Webhook) -> None:
    """A copy whose load is over the threshold tells so once, while it runs, and that it is over at its end; a channel
    that does not work keeps neither the copy nor the other channel from its work."""
    dead = AlertChannel(name="dead", notifier=TELLER, arguments={"url": "http://127.0.0.1:9/secret"})
    live = AlertChannel(name="hook", notifier=TELLER, arguments={"url": hook.connection})
    plan = alarming(tmp_path / "backups", live, dead)
    repository = open_repository(plan.repository)
    with alerting(plan, repository, link="https://airflow.example/run") as watch:
        record = copy(
            plan,
            take_snapshot(plan, guard_dsn, repository),
            guard_dsn,
            repository,
            stop=Stop(),
            on_progress=watch.progress,
            on_load=watch.load,
            baseline_seconds=BASELINE_SECONDS,
        )
    assert record.database_size > 0
    told = hook.about("shop/load.commit_latency")
    assert [message["state"] for message in told] == ["raised", "over"]
    raised, over = told
    assert "> 0.0 ms" in raised["text"] and "since" in raised["text"] and "do 1" in raised["text"]
    assert raised["severity"] == "warning" and raised["link"] == "https://airflow.example/run"
    assert "what was watched has ended" in over["text"]
    assert [message["state"] for message in hook.about("shop/channel.dead")] == ["raised"]
    assert {found.problem != "" for found in kept(repository) if found.channel == "dead"} == {True}
