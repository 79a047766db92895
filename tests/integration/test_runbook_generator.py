"""The runbook of a cluster gets that cluster back: what it says is done, command by command, after the loss."""

from __future__ import annotations

import json
import re
import shutil
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import attrs
import pytest

from airflow_backup_guard.cli import main
from airflow_backup_guard.core import BackupPlan, DrillCheck, DrillPolicy, RetentionPolicy
from airflow_backup_guard.core.runbook.facts import runbook_key
from airflow_backup_guard.core.verification import Verdict
from airflow_backup_guard.engine.expire import expire, propose
from airflow_backup_guard.engine.listing import list_backups
from airflow_backup_guard.engine.runbook import keep_runbook
from airflow_backup_guard.postgres.account import account_for, everything_in
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.base import Repository
from airflow_backup_guard.repository.read import read_whole
from tests.conftest import SMALL, need_major
from tests.integration.guarded import back_up, plan_for
from tests.integration.test_docs import need_tools, run_shell
from tests.integration.test_runbooks import HBA, ROWS, Place
from tests.stored import store_backup

DAMAGED = "If that backup turns out to be damaged"
BY_HAND = "If backup-guard itself cannot be had: by hand"
CHECKS = DrillPolicy(
    amcheck="off", checks={"orders": DrillCheck(sql="SELECT count(*) FROM orders", database="the shop's = 1", min=5000)}
)
DATABASE = "dbname='the shop\\'s = 1'"


def sections(page: str) -> dict[str, str]:
    """The commands under each heading of a runbook, as Markdown."""
    found = {}
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        blocks = re.findall(r"^(`{3,})sh\n(.*?)^\1$", section, re.MULTILINE | re.DOTALL)
        found[section.partition("\n")[0]] = "".join(code for _, code in blocks)
    return found


def kept(repository: Repository) -> str:
    """The runbook that is kept, as Markdown; its HTML is there, too."""
    assert read_whole(repository, runbook_key("shop", ".html")).endswith(b"</html>\n")
    return read_whole(repository, runbook_key("shop", ".md")).decode()


def write_plan(plan: BackupPlan, folder: Path) -> str:
    """A plan file with what the tests here need of it, and somebody to call."""
    checks = "\n".join(
        f'[drill.checks.{name}]\nsql = "{one.sql}"\ndatabase = "{one.database}"\nmin = {one.min}'
        for name, one in plan.drill.checks
    )
    path = folder / "shop.toml"
    path.write_text(
        f'name = "shop"\nrepository = "{plan.repository}"\nrecipients = {json.dumps(plan.recipients)}\n'
        f'contacts = [["Alice", "+1 555 0100"]]\n[calendar]\nwindows = "daily 00:00-24:00"\ntz = "UTC"\n'
        f'[drill]\namcheck = "off"\n{checks}\n'
    )
    return str(path)


def lose(place: Place, *folders: Path) -> None:
    """The server, its data and its tablespaces are gone."""
    place.server.kill()
    for folder in (place.server.data_directory, *folders):
        shutil.rmtree(folder)


def test_the_runbook_is_followed_after_the_loss(cluster_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A drill that cannot keep the page passes and says so; the verification keeps it; with nothing but that page, the
    server is restored, looked at and released, and all rows are there."""
    need_major(18)
    need_tools("psql")
    server = LocalServer.create(cluster_folder / "original", major=18, settings=SMALL).start()
    (server.data_directory / "pg_hba.conf").write_text(HBA)
    server.sql("""CREATE DATABASE "the shop's = 1" """)
    server.sql(ROWS, DATABASE)
    plan = plan_for(cluster_folder / "backups", drill=CHECKS)
    place = Place(cluster_folder, server, plan, back_up(plan, server.dsn()))
    repository = open_repository(plan.repository)
    try:
        file = write_plan(plan, cluster_folder)
        (in_the_way := cluster_folder / "backups" / "runbooks").write_text("")
        assert main(["drill", "--plan", file, "--scratch", str(cluster_folder / "drills")]) == 0
        said = capsys.readouterr().out
        assert "passed its drill" in said and "The recovery runbook could not be kept beside the backups" in said
        in_the_way.unlink()
        assert main(["verify", "latest", "--plan", file]) == 0
        lose(place)
        page = kept(repository)
        assert "missing or wrong" not in page
        found = sections(page)
        script = "".join(code for heading, code in found.items() if heading not in (DAMAGED, BY_HAND))
        said = place.run(place.here(script))
        assert "PostgreSQL 18 runs on it" in said
        assert re.search(r"^ +5000$", said, re.MULTILINE)
        assert not any(one.hold for one in list_backups(repository).backups)
        with LocalServer(cluster_folder / "restored") as restored:
            assert restored.sql("SELECT count(*), max(order_id) FROM orders", DATABASE) == "5000|5000"
    finally:
        place.put_away()
        server.close()


def test_the_runbook_of_an_encrypted_cluster_is_followed(
    cluster_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a tablespace, a server whose settings lie elsewhere, and a key: the drill keeps the page; its steps bring
    all rows back, and so do its commands for standard tools alone, without this package."""
    need_tools("psql", "zstd", "age", "age-keygen")
    pytest.importorskip("pyrage")
    need_major(15)
    original, space, key = (cluster_folder / name for name in ("original", "the old space", "age.key"))
    run_shell('age-keygen -o "$KEY"', {"KEY": str(key)})
    recipient = run_shell('age-keygen -y "$KEY"', {"KEY": str(key)}).strip()
    LocalServer.create(original, major=15, settings=SMALL).close()
    account = account_for(original)
    space.mkdir()
    for path in (space, key):
        account.own(path)
    shutil.move(original / "postgresql.conf", cluster_folder / "elsewhere.conf")
    (original / "pg_hba.conf").unlink()
    server = LocalServer(original, settings={"config_file": str(cluster_folder / "elsewhere.conf")}).start()
    server.sql(f"CREATE TABLESPACE space LOCATION '{space}'")
    server.sql('CREATE DATABASE "the shop\'s = 1" TABLESPACE space')
    server.sql(ROWS, DATABASE)
    plan = plan_for(cluster_folder / "backups", recipients=[recipient], drill=CHECKS)
    place = Place(cluster_folder, server, plan, back_up(plan, server.dsn()))
    repository = open_repository(plan.repository)
    try:
        file = write_plan(plan, cluster_folder)
        where = ["--plan", file, "--identity", str(key)]
        assert main(["drill", *where, "--scratch", str(cluster_folder / "drills")]) == 0
        assert "is kept beside the backups" in capsys.readouterr().out
        lose(place, space)
        found = sections(kept(repository))
        script = "".join(code for heading, code in found.items() if heading not in (DAMAGED, BY_HAND))
        assert re.search(r"^ +5000$", place.run(place.here(script)), re.MULTILINE)
        place.put_away()
        for path in everything_in(cluster_folder / "backups"):
            account.own(path)
        (by_hand := cluster_folder / "by-hand").mkdir(mode=0o700)
        account.own(by_hand)
        said = run_shell(place.here(found[BY_HAND]), place.environment, **account.options())
        assert "base.tar.zst.age: OK" in said and "successfully verified" in said
        for folder in (cluster_folder / "restored", by_hand / "data"):
            with LocalServer(folder) as restored:
                assert restored.sql("SELECT count(*) FROM orders", DATABASE) == "5000"
    finally:
        place.put_away()
        server.close()


NOW = datetime.now(timezone.utc)


def test_the_newest_plan_and_verified_backup_count(tmp_path: Path) -> None:
    """The page names the newest verified backup, the one before it and a newer one that is not, passes over one that
    cannot be read, and is of the plan that the newest backup was made under; without any backup it cannot be known."""
    plan = plan_for(tmp_path / "backups")
    repository = open_repository(plan.repository)
    assert "has no backup" in keep_runbook(repository, "shop").said
    older, old, broken = (store_backup(repository, NOW - timedelta(days=days), name="shop") for days in (3, 2, 1))
    newest = store_backup(repository, NOW, None, contacts=[["Zoe", "+1 555 0199"]])
    repository.put(f"records/shop/{broken.backup_id}.json", b"{")
    assert keep_runbook(repository, "shop").good
    page = kept(repository)
    assert f"* backup to restore: {old.backup_id}, verified on" in page
    assert f"* the verified one before it: {older.backup_id}" in page
    assert f"* newer, and not verified: {newest.backup_id}" in page
    assert "* Zoe: +1 555 0199" in page
    assert f"{broken.backup_id}.json cannot be read" in page.partition("## Whom to call")[0].replace("\\", "")


def test_two_who_write_it_at_once_spoil_nothing(tmp_path: Path) -> None:
    """Whoever reads meanwhile finds whole pages."""
    plan = plan_for(tmp_path / "backups", contacts=[("Alice", "+1 555 0100")])
    repository = open_repository(plan.repository)
    store_backup(repository, NOW, name="shop")
    assert keep_runbook(repository, "shop", plan).good
    whole = kept(repository)
    pages = {whole, keep_and_read(repository, attrs.evolve(plan, contacts=[("Zoe", "+1 555 0199")]))}
    results: list[bool] = []

    def write(contacts: list[tuple[str, str]]) -> None:
        results.extend(keep_runbook(repository, "shop", attrs.evolve(plan, contacts=contacts)).good for _ in range(2))

    writers = [
        threading.Thread(target=write, args=[contacts])
        for contacts in ([("Alice", "+1 555 0100")], [("Zoe", "+1 555 0199")])
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert without_times(kept(repository)) in set(map(without_times, pages))
        writers[0].join(0.02)
    assert results == [True] * 4


def keep_and_read(repository: Repository, plan: BackupPlan) -> str:
    """The page, written anew."""
    assert keep_runbook(repository, "shop", plan).good
    return kept(repository)


def without_times(page: str) -> str:
    """The page but for ages and times, which are those of its writing."""
    return re.sub(r"\d+(ms|s|min|h)?\b", "N", re.sub(r"(\d+\w+ ?)+ old", "N old", page))


def test_an_expiry_and_a_listing_leave_it_alone(tmp_path: Path) -> None:
    """It stays where it is when backups go, and no listing takes it for anything of theirs."""
    plan = plan_for(tmp_path / "backups", retention=RetentionPolicy(keep_last=1))
    repository = open_repository(plan.repository)
    for days in (3, 2, 1):
        store_backup(repository, NOW - timedelta(days=days), name="shop")
    assert keep_runbook(repository, "shop", plan).good
    before = kept(repository)
    expiry = propose(repository, "shop", plan.retention, "UTC")
    assert len(expiry.expired) == 2 and not expiry.left_over
    assert not expire(expiry, repository).failures
    assert kept(repository) == before
    found = list_backups(repository)
    assert len(found.backups) == 1 and not found.unreadable


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To stdout, to files, as JSON, beside the backups; by a plan file, by a name, or the only plan there is. Status 1
    says that something is missing; two plans, or none, are told."""
    plan = plan_for(tmp_path / "backups")
    repository = open_repository(plan.repository)
    where = ["runbook", "--repository", plan.repository]
    assert main(where) == 1
    assert "has no backup" in capsys.readouterr().err
    record = store_backup(repository, NOW, name="shop")
    assert main(where) == 1
    assert capsys.readouterr().out.startswith("# Recovery runbook: shop\n")
    assert main([*where, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["plan_name"], answer["backup_id"], answer["verified"]) == ("shop", record.backup_id, True)
    assert [gap["remedy"] for gap in answer["gaps"]] and not answer["good"]
    files = [tmp_path / "it.html", tmp_path / "it.md"]
    options = ["--html", str(files[0]), "--markdown", str(files[1]), "--store"]
    assert main(["runbook", "--plan", write_plan(plan, tmp_path), *options]) == 1
    said = capsys.readouterr().out
    assert "No restore was ever tried" in said and f"as {runbook_key('shop', '.html')}" in said
    assert files[1].read_text() == kept(repository) and "+1 555 0100" in files[0].read_text()
    assert main([*where, "--html", str(tmp_path / "nowhere" / "it.html")]) == 2
    store_backup(repository, NOW, Verdict.DAMAGED, name="other")
    assert main(where) == 1
    assert "several plans: other, shop" in capsys.readouterr().err
    assert main([*where, "--plan-name", "other"]) == 1
    assert "There is no backup that could be restored" in capsys.readouterr().out
