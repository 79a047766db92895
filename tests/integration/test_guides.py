"""The guides are true: their commands run in order, on a real server and repository, and say what the pages show."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from airflow_backup_guard.core import BackupPlan
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.postgres.account import account_for, private_folder
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from tests.integration.guarded import back_up, plan_for
from tests.integration.test_docs import S3_ACCESS, TOP, block, need_tools, run_shell
from tests.integration.test_runbooks import Place, major, open_shop  # noqa: F401  # a fixture
from tests.s3_api import s3_api

DOCS = TOP / "docs"


@dataclass
class Guide(Place):
    """A place whose names in the page are more than those of the runbooks."""

    names: dict[str, str] = field(default_factory=dict)

    def here(self, text: str) -> str:
        """What the page says, with this test's names; what is as slow as the defaults are gentle is not waited for."""
        for name, ours in {"--checkpoint fast": "--checkpoint fast --min-rate 100MB/s", **self.names}.items():
            text = text.replace(name, ours)
        return super().here(text)


@pytest.fixture(scope="module")
def shop(major: int) -> Iterator[Place]:  # noqa: F811
    """A server with a shop's rows, and a backup of it."""
    folder = private_folder(account_for(Path("/")), "guides")
    opened = open_shop(folder, major)
    yield opened
    opened.server.close()
    shutil.rmtree(folder)


@pytest.fixture
def guide(shop: Place, cluster_folder: Path) -> Iterator[Guide]:
    """The shared server with an empty repository, and a plan file for it."""
    plan = plan_for(cluster_folder / "backups")
    text = (shop.folder / "shop.toml").read_text().replace(shop.plan.repository, plan.repository)
    (cluster_folder / "shop.toml").write_text(text)
    made = Guide(cluster_folder, shop.server, plan, shop.record)
    yield made
    made.put_away()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an S3 API that commands find by their environment."""
    with s3_api() as url:
        for name, value in {**S3_ACCESS, "AWS_ENDPOINT_URL": url}.items():
            monkeypatch.setenv(name, value)
        yield boto3.client("s3")


def test_the_first_plan(
    major: int,  # noqa: F811
    new_server: Callable[..., LocalServer],
    cluster_folder: Path,
    guide: Guide,
) -> None:
    """A newcomer who follows the page has a role, a checked server, a verified backup, a restore, and a plan."""
    page = DOCS / "first-plan.md"
    server = new_server(major=major)
    hba = [line.replace("10.0.0.0/8", "127.0.0.1/32") for line in block(page, "text", "scram").splitlines()]
    server.set_hba(hba)
    (server.data_directory / "pg_hba.conf").write_text("local all all trust\n")
    (cluster_folder / "shop.toml").write_text(guide.here(block(page, "toml")))
    fresh = replace(guide, server=server, environment={})
    dsn = server.dsn(user="backup_guard", password="choose-another", tcp=True)
    fresh.names = {
        "mkdir -p /srv/backups": "true",  # it belongs to this test already
        "'host=db.example user=backup_guard password=choose-another dbname=postgres'": f'"{dsn}"',
        "/usr/lib/postgresql/18/bin": f"/usr/lib/postgresql/{major}/bin",
    }
    fresh.follow("../first-plan")
    repository = open_repository(guide.plan.repository)
    verification = catalog.last_verification(repository, catalog.find(repository, "latest", "shop"))
    assert verification is not None and verification.verdict is Verdict.VERIFIED
    assert not (cluster_folder / "restored").exists()


def test_backups_in_s3(guide: Guide, s3: Any) -> None:
    """A bucket made as the page says takes a backup, and passes each check of an audit that is about buckets."""
    need_tools("aws")
    guide.follow("../s3")
    assert s3.get_object_lock_configuration(Bucket="example-backups")


def test_encrypted_backups(guide: Guide) -> None:
    """Two people's keys each open what was encrypted to both, a new key opens what came after it, and that is kept."""
    need_tools("age-keygen")
    pytest.importorskip("pyrage")
    guide.follow("../encryption")
    repository = open_repository(guide.plan.repository)
    newest = catalog.find(repository, "latest")
    keys = [
        run_shell('age-keygen -y "$KEY"', {"KEY": str(guide.folder / f"{who}.key")}).strip()
        for who in ("bob", "escrow")
    ]
    assert newest.snapshot.plan["recipients"] == keys
    with pytest.raises(AssertionError, match="none of the 1 identities given opens it"):
        run_shell(f"backup-guard verify latest --full --identity {guide.folder}/alice.key", guide.environment)


def test_a_standby(
    server: LocalServer, guide: Guide, standby_of: Callable[[LocalServer], LocalServer], role_dsn: Callable[..., str]
) -> None:
    """The commands check and back up a standby with its primary's load, and the plan in Python is one."""
    standby = standby_of(server)
    guide.names = {
        "'host=standby.example user=backup_guard'": f'"{role_dsn(standby)}"',
        "'host=primary.example user=backup_guard'": f'"{role_dsn(server)}"',
    }
    guide.follow("../standby")
    record = catalog.find(open_repository(guide.plan.repository), "latest")
    assert record.snapshot.standby
    names: dict[str, Any] = {}
    exec(block(DOCS / "standby.md", "python"), names)
    assert BackupPlan.from_dict(names["plan"].to_dict()) == names["plan"]


def test_windows_and_limits(guide: Guide) -> None:
    """What it has measured and listed runs, but for the hour that is shortened here."""
    back_up(guide.plan, guide.server.dsn())
    guide.names = {
        "record-load --plan-name shop": "record-load --plan-name shop --for 1s",
        "tune --for 1h": "tune --for 3s",
    }
    said = guide.follow("../windows-and-limits")
    assert "No window is proposed" in said
    assert "commit_latency" in said


def test_moving(guide: Guide) -> None:
    """The dump is guarded, the base backup verified, and the plan stands well; the rules are such."""
    need_tools("pg_dump")
    (guide.folder / "dumps").mkdir()
    guide.account.own(guide.folder / "dumps")
    guide.names = {"run -- pg_dump": "run --plan /etc/backup-guard/shop.toml -- pg_dump"}
    file = guide.folder / "shop.toml"
    file.write_text(f'rpo = "26h"\n{file.read_text()}')
    said = guide.follow("../moving")
    assert "is verified" in said
    policy = toml(block(DOCS / "moving.md", "toml"))["watchdog"]
    plan = BackupPlan.from_dict({**guide.plan.to_dict(), "watchdog": policy})
    assert [rule.application_name for rule in plan.watchdog.allow] == ["pgBackRest*", "pg_dump"]


def test_many_clusters(tmp_path: Path) -> None:
    """The DAG of the page is one that Airflow takes, and the group on it is that of the example, step by step."""
    script = block(DOCS / "many-clusters.md", "python") + "print(sorted(dag.task_ids))"
    environment = {"AIRFLOW_HOME": str(tmp_path), "SCRIPT": script, "PYTHON": sys.executable}
    said = run_shell('"$PYTHON" -c "$SCRIPT"', environment).splitlines()[-1]
    assert said == "['back_up.copy', 'back_up.snapshot', 'back_up.snapshot_teardown', 'plans']"
    example = (TOP / "dags" / "many_clusters.py").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```text\n@task_group\n(.*?)^```$", (DOCS / "many-clusters.md").read_text(), re.M | re.S)
    assert [line.split() for line in shown.splitlines() if line.strip()][1:] == [
        line.split()
        for line in example.partition("@task_group\n")[2].splitlines()[1:]
        if line.strip() and '"""' not in line
    ]


def toml(text: str) -> dict[str, Any]:
    """A table of a page."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)
