"""The documentation is true: its commands run, its examples load, its links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import attrs
import boto3
import pytest
from moto.server import ThreadedMotoServer

from airflow_backup_guard.cli.settings import tomllib
from airflow_backup_guard.core import BackupPlan, DrillPolicy, RetentionPolicy
from airflow_backup_guard.core.alert_catalogue import CATALOGUE
from airflow_backup_guard.core.backup import FORMAT, BackupRecord, dump_plain, load_plain
from airflow_backup_guard.core.fleet import Protection
from airflow_backup_guard.core.load import SIGNALS
from airflow_backup_guard.core.units import format_duration
from airflow_backup_guard.engine import catalog
from airflow_backup_guard.engine.verify import verify
from airflow_backup_guard.postgres.account import account_for, everything_in
from airflow_backup_guard.postgres.server import LocalServer
from airflow_backup_guard.repository import open_repository
from airflow_backup_guard.repository.read import read_whole
from tests.integration.guarded import back_up, plan_for
from tests.stored import store_backup

TOP = Path(__file__).resolve().parents[2]
PAGES = [
    *(TOP / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY")),
    *sorted((TOP / "docs").rglob("*.md")),
]
EXAMPLE = TOP / "dags" / "guarded_base_backup.py"
S3_ACCESS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
# Which test runs the blocks of a page, and by what it names the page.
_HERE = "alerts audit command dag drill fleet format is-it-a-backup restore retention runbook-generator throttle"
_GUIDES = "encryption first-plan many-clusters moving s3 standby windows-and-limits"
EXECUTED = {
    "README": ("integration/test_docs.py", '"README.md"'),
    **{page: ("integration/test_docs.py", f"{page}.md") for page in _HERE.split()},
    **{page: ("integration/test_guides.py", page) for page in _GUIDES.split()},
    "calendar": ("unit/test_calendar_docs.py", "calendar.md"),
    "control": ("integration/test_control.py", "control.md"),
    "gates": ("integration/test_gate.py", "gates.md"),
    "hours": ("integration/test_hours.py", "hours.md"),
    "timetable": ("acceptance/test_timetable.py", "timetable.md"),
    "verification": ("integration/test_verify.py", "verification.md"),
    "watchdog": ("unit/test_watchdog.py", "watchdog.md"),
    "privileges": ("security/test_privileges.py", "privileges.md"),
    "training/trainee": ("integration/test_gameday.py", '"gameday"'),
    "training/trainer": ("integration/test_gameday.py", '"--trainee"'),
    **{
        f"runbooks/{page.stem}": ("integration/test_runbooks.py", f'"{page.stem}"')
        for page in (TOP / "docs" / "runbooks").glob("*.md")
    },
}
# Commands that pages show and no test runs as they stand there, and why.
_INSTALLS = "it installs programs on this machine"
_OTHERS = "the programs of others; how the guard holds one, tests/integration/test_command_cli.py shows"
NOT_EXECUTED = {
    "README": {
        "backup-guard who": "its output is of a busy minute; test_the_readmes_role_and_commands_are_enough runs it",
        "backup-guard backup": "the same",
    },
    "command": {
        **dict.fromkeys(
            ("backup-guard run --plan", "backup-guard run --dsn", "backup-guard run -- /usr", "backup-guard run -- sh"),
            _OTHERS,
        )
    },
    "first-plan": {
        "pip": _INSTALLS,
        "cp": "tests/acceptance/test_runs.py runs this DAG",
        "airflow": "the same",
    },
    "many-clusters": {"airflow pools": "a command of Airflow's own"},
    "moving": {"pg_dump": "the command that is guarded next", "backup-guard run": _OTHERS},
    "restore": {"backup-guard restore": "the runbook total-loss, which is executed, has it"},
    "throttle": {"backup-guard backup": "the page standby, which is executed, has it"},
    "runbooks/airflow-down": {"backup-guard backup": "a line for cron; the page has run it before"},
    "runbooks/index": {"apt": _INSTALLS, "pip": _INSTALLS},
    "runbooks/wrong-version": {"apt": _INSTALLS, "pip": _INSTALLS},
}
DESCRIBE_DAG = """
import json, sys
from pathlib import Path
names = {"__file__": sys.argv[1]}
exec(compile(Path(sys.argv[1]).read_text(), sys.argv[1], "exec"), names)
dag = names["notify"].dag
tasks = {
    task.task_id: [
        type(task).__name__, sorted(task.upstream_task_ids), task.trigger_rule, getattr(task, "deferrable", None)
    ]
    for task in dag.tasks
}
print(json.dumps([dag.dag_id, str(dag.schedule), dag.max_active_runs, dag.catchup, tasks, names["plan"].to_dict()]))
"""


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """The code blocks of one language, in order, each with the heading that it is under."""
    heading, found = "", []
    pattern = r"^#+ (?P<heading>[^\n]+)$|^```(?P<language>\w+)\n(?P<code>.*?)^```$"
    for match in re.finditer(pattern, page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        heading = match["heading"] or heading
        if match["language"] == language:
            found.append((heading, match["code"]))
    return found


def block(page: Path, language: str, containing: str = "") -> str:
    """The one code block of a page that is of this language and has this text."""
    (code,) = [code for _, code in blocks(page, language) if containing in code]
    return code


def need_tools(*tools: str) -> None:
    """Skip the test, with the reason, where a command-line tool is missing."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed here")


def run_shell(script: str, environment: dict[str, str], **options: Any) -> str:
    """Run with bash, to be ended by the first error; returns what it wrote."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
        **{"cwd": "/", **options},
    )
    assert done.returncode == 0, f"{script}\n--- ended with status {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.fixture
def source(new_server: Callable[..., LocalServer], cluster_folder: Path) -> Callable[..., LocalServer]:
    """``source(18, tablespace=True)``: a server with rows, whose own pg_hba.conf lets its superuser in by socket."""

    def make(major: int, *, tablespace: bool = False) -> LocalServer:
        server = new_server(major=major)
        (server.data_directory / "pg_hba.conf").write_text("local all all trust\n")
        server.sql("CREATE TABLE plain AS SELECT n FROM generate_series(1, 5000) n")
        if tablespace:
            space = cluster_folder / "the original place"
            space.mkdir()
            account_for(server.data_directory).own(space)
            server.sql(f"CREATE TABLESPACE fast LOCATION '{space}'")
            server.sql("CREATE TABLE spaced TABLESPACE fast AS SELECT n FROM generate_series(1, 7000) n")
        return server

    return make


class ByHand:
    """Runs the page's commands as the user who runs PostgreSQL."""

    def __init__(self, server: LocalServer, folder: Path, repository: Path, record: BackupRecord) -> None:
        self.server = server
        self.account = account_for(server.data_directory)
        self.repository = repository
        self.data = folder / "restored data"
        self.spaces = folder / "new spaces"
        self.environment = {
            "LC_ALL": "C",
            "PATH": f"{server.binaries}{os.pathsep}{os.environ['PATH']}",
            "REPOSITORY": str(repository),
            "PLAN": record.plan_name,
            "BACKUP_ID": record.backup_id,
            "PGDATA": str(self.data),
            "TABLESPACES": str(self.spaces),
        }

    def restore(self, *, leave_out: str = "\0") -> str:
        """All lines of the page's commands but those for S3, and those with ``leave_out``; returns what they wrote."""
        for path in everything_in(self.repository):
            self.account.own(path)
        commands = [code for heading, code in blocks(TOP / "docs" / "format.md", "sh") if heading != "From S3"]
        assert len(commands) == 7
        script = "\n".join(line for line in "\n".join(commands).splitlines() if leave_out not in line)
        try:
            return run_shell(script, self.environment, **self.account.options())
        finally:
            if (self.data / "postmaster.pid").exists():
                options = self.account.options()
                run_shell('pg_ctl --pgdata="$PGDATA" --mode=immediate stop', self.environment, **options)


@pytest.mark.parametrize("tablespace", [False, True], ids=["plain", "tablespace"])
@pytest.mark.parametrize("major", [15, 18])
def test_the_page_restores_a_backup_by_hand(
    source: Callable[..., LocalServer],
    role_dsn: Callable[..., str],
    cluster_folder: Path,
    major: int,
    tablespace: bool,
) -> None:
    """Its commands, as they stand there, restore, check and start a backup; the tablespace is where they put it."""
    need_tools("zstd", "tar", "sha256sum", "awk")
    server = source(major, tablespace=tablespace)
    folder = cluster_folder / "backups"
    by_hand = ByHand(server, cluster_folder, folder, back_up(plan_for(folder), role_dsn(server)))
    server.sql("DROP TABLE plain")
    said = by_hand.restore()
    assert "base.tar.zst: OK" in said
    assert "successfully verified" in said
    assert "template1" in said
    with LocalServer(by_hand.data) as restored:
        assert restored.sql("SELECT count(*) FROM plain") == "5000"
        if tablespace:
            assert restored.sql("SELECT count(*) FROM spaced") == "7000"
            where = "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'fast'"
            (space,) = by_hand.spaces.iterdir()
            assert restored.sql(where) == str(space)


def test_the_page_restores_an_encrypted_backup_by_hand(
    source: Callable[..., LocalServer], role_dsn: Callable[..., str], cluster_folder: Path
) -> None:
    """The same commands open what a plan with recipients stored, and nothing without the key does."""
    need_tools("zstd", "age", "age-keygen")
    pytest.importorskip("pyrage")
    server = source(18, tablespace=True)
    key = cluster_folder / "age.key"
    run_shell('age-keygen -o "$KEY"', {"KEY": str(key)})
    account_for(server.data_directory).own(key)
    recipient = run_shell('age-keygen -y "$KEY"', {"KEY": str(key)}).strip()
    folder = cluster_folder / "backups"
    record = back_up(plan_for(folder, recipients=[recipient]), role_dsn(server))
    assert all(part.key.endswith(".zst.age") for part in record.parts)
    by_hand = ByHand(server, cluster_folder, folder, record)
    by_hand.environment["IDENTITY"] = str(key)
    by_hand.restore()
    with LocalServer(by_hand.data) as restored:
        assert restored.sql("SELECT (SELECT count(*) FROM plain), (SELECT count(*) FROM spaced)") == "5000|7000"


def test_the_page_restores_from_s3_by_hand(
    source: Callable[..., LocalServer],
    role_dsn: Callable[..., str],
    cluster_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the page's aws commands fetch is a repository like one that was written to a folder."""
    need_tools("zstd", "aws")
    server = source(18)
    s3 = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    s3.start()
    try:
        host, port = s3.get_host_and_port()
        for name, value in {**S3_ACCESS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            monkeypatch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="backups")
        url = "s3://backups/postgres"
        plan = plan_for(cluster_folder / "unused", repository=url)
        by_hand = ByHand(server, cluster_folder, cluster_folder / "fetched", back_up(plan, role_dsn(server)))
        commands = [code for heading, code in blocks(TOP / "docs" / "format.md", "sh") if heading == "From S3"]
        run_shell("\n".join(commands), {**by_hand.environment, "S3_URL": url})
    finally:
        s3.stop()
    by_hand.restore()
    with LocalServer(by_hand.data) as restored:
        assert restored.sql("SELECT count(*) FROM plain") == "5000"


@pytest.mark.parametrize("name", ["base.tar.zst", "backup_manifest.zst"])
def test_the_page_ends_at_a_damaged_object(
    source: Callable[..., LocalServer], role_dsn: Callable[..., str], cluster_folder: Path, name: str
) -> None:
    """One changed bit ends the commands at the comparison, before anything is unpacked."""
    need_tools("zstd")
    server = source(18)
    folder = cluster_folder / "backups"
    record = back_up(plan_for(folder), role_dsn(server))
    (damaged,) = folder.rglob(name)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    by_hand = ByHand(server, cluster_folder, folder, record)
    with pytest.raises(AssertionError, match=f"{re.escape(name)}: FAILED"):
        by_hand.restore()
    assert not by_hand.data.exists()


def test_the_page_says_why_the_tablespace_map_matters(
    source: Callable[..., LocalServer], role_dsn: Callable[..., str], cluster_folder: Path
) -> None:
    """A server that starts with the old map leads its tablespace to the original's files, as the page warns."""
    need_tools("zstd")
    server = source(18, tablespace=True)
    folder = cluster_folder / "backups"
    by_hand = ByHand(server, cluster_folder, folder, back_up(plan_for(folder), role_dsn(server)))
    server.stop()
    by_hand.restore(leave_out="tablespace_map.new")
    (link,) = (by_hand.data / "pg_tblspc").iterdir()
    assert link.readlink() == cluster_folder / "the original place"


def test_the_example_of_a_record_is_one() -> None:
    """The JSON on the page loads as a record of the present format, and writing it again loses nothing."""
    example = json.loads(block(TOP / "docs" / "format.md", "json"))
    record = load_plain(BackupRecord, example)
    assert record.format == FORMAT
    assert dump_plain(record) == example
    assert BackupPlan.from_dict(record.snapshot.plan).to_dict() == record.snapshot.plan


def test_every_field_of_a_record_is_explained() -> None:
    """The table names each field, by its path or in the row of what it belongs to, and none that there is not."""
    page = (TOP / "docs" / "format.md").read_text(encoding="utf-8")
    rows = [row for row in page.splitlines() if row.startswith("| `")]
    named = {name: row for row in rows for name in re.findall(r"`([\w.\[\]]+)`", row.split("|")[1])}
    existing = set()
    for path, name in record_fields(BackupRecord):
        existing.add(f"{path}{name}")
        parents = [row for parent, row in named.items() if path.removesuffix("[].").rstrip(".") == parent]
        inside = any(other.startswith((f"{path}{name}.", f"{path}{name}[].")) for other in named)
        explained = f"{path}{name}" in named or inside or any(f"`{name}`" in row for row in parents)
        assert explained, f"{path}{name} is not explained"
    assert named.keys() <= existing


def record_fields(kind: type, path: str = "") -> Iterator[tuple[str, str]]:
    """Path and name of each field of a dataclass and of the dataclasses in it."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        yield path, field.name
        inner = hints[field.name]
        if is_dataclass(inner):
            yield from record_fields(inner, f"{path}{field.name}.")
        elif get_args(inner) and is_dataclass(get_args(inner)[0]):
            yield from record_fields(get_args(inner)[0], f"{path}{field.name}[].")


def test_every_field_of_a_plan_is_explained() -> None:
    """The tables have a row for each field, in order and with its default, and for each signal of the limits."""
    page = (TOP / "docs" / "dag.md").read_text(encoding="utf-8")
    section = page.partition("\n## The plan\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in section.splitlines() if row.startswith("| `")]
    plan = {name: default for name, default, *_ in rows}
    expected = attrs.fields(BackupPlan)
    assert list(plan) == [*(f"`{field.name}`" for field in expected), *(f"`{signal}`" for signal in SIGNALS)]
    for field in expected:
        default = plan[f"`{field.name}`"]
        value = field.default.value if isinstance(field.default, Enum) else field.default
        value = format_duration(value) if isinstance(value, timedelta) else value
        if field.default is attrs.NOTHING:
            assert default == "none, required"
        elif isinstance(value, str | int):
            assert default.strip("`") == (str(value) if type(value) in (int, bool) else f'"{value}"')


def test_the_readme_shows_the_dag_that_there_is(tmp_path: Path) -> None:
    """Its Python runs, and makes the same plan and the same tasks in the same order as the example DAG."""
    shown = tmp_path / "readme.py"
    shown.write_text(block(TOP / "README.md", "python"), encoding="utf-8")
    # Airflow shall not look at this machine's configuration, nor the example at this shell's.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "SHOP_"))}
    described = []
    for path in (shown, EXAMPLE):
        done = subprocess.run(
            [sys.executable, "-c", DESCRIBE_DAG, str(path)],
            env={**inherited, "AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(TOP)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        described.append(json.loads(done.stdout.splitlines()[-1]))
    assert described[0] == described[1]


def test_the_readmes_role_and_commands_are_enough(
    new_server: Callable[..., LocalServer], tmp_path: Path, cluster_folder: Path
) -> None:
    """A role made as the README says may back up with the command line as the README shows it; the restore starts."""
    server = new_server()
    readme = TOP / "README.md"
    server.sql(block(readme, "sql").replace("'…'", "'secret'"))
    server.set_hba([line.replace("10.0.0.0/8", "127.0.0.1/32") for line in block(readme, "text", "scram").splitlines()])
    server.sql("CREATE TABLE plain AS SELECT n FROM generate_series(1, 5000) n; CHECKPOINT")
    lines = block(readme, "sh", "backup-guard backup").splitlines()
    commands = [line for line in lines if not line.startswith("export ")]
    assert [line.split()[:2][1] for line in commands] == ["check", "backup", "verify", "restore"]
    # What is as slow as the README's defaults are gentle is not waited for here.
    commands[1] += " --checkpoint fast --min-rate 100MB/s"
    (tmp_path / "backups").mkdir()
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "BACKUP_GUARD_DSN": server.dsn(user="backup_guard", password="secret", tcp=True),
        "BACKUP_GUARD_REPOSITORY": (tmp_path / "backups").as_uri(),
    }
    assert {f"export {name}=" for name in list(environment)[1:]} == {
        line[: line.index("=") + 1] for line in lines if line.startswith("export ")
    }
    said = run_shell(
        "\n".join(["backup-guard who", *commands]).replace("/srv/restored", str(cluster_folder / "data")), environment
    )
    assert "Ready for a backup" in said
    assert "verified: every byte" in said
    with LocalServer(cluster_folder / "data") as restored:
        assert restored.sql("SELECT count(*) FROM plain") == "5000"
    repository = open_repository(environment["BACKUP_GUARD_REPOSITORY"])
    assert not verify(catalog.find(repository, "latest"), repository).problems


def test_the_commands_of_the_retention_page_run(tmp_path: Path) -> None:
    """As they stand there: one only shows, one removes, a hold is put and taken off; and its rules are the policy's."""
    page = TOP / "docs" / "retention.md"
    repository = open_repository((tmp_path / "backups").as_uri())
    for days in range(20):
        store_backup(repository, datetime.now(timezone.utc) - timedelta(days=days))
    environment = {
        "BACKUP_GUARD_REPOSITORY": repository.url,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    looking, holding = (code for _, code in blocks(page, "sh"))
    said = run_shell(looking, environment)
    assert "Nothing was removed. This frees" in said
    assert "Removed:" in said
    assert 6 < len(list(repository.list("records/"))) < 20
    assert "case 4711" in run_shell(holding, environment)
    rules = block(page, "text", "RetentionPolicy(").strip().removeprefix("retention=")
    assert eval(rules, {"RetentionPolicy": RetentionPolicy}).keep_monthly == 12
    rows = re.findall(r"^\| `(\w+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [field.name for field in attrs.fields(RetentionPolicy)]


def test_the_commands_of_the_page_on_plans_run(tmp_path: Path) -> None:
    """Each command tells of a plan that stands well, and its states are all that there are."""
    store_backup(open_repository(tmp_path.as_uri()), datetime.now(timezone.utc), connection="shop", rpo="26h")
    page = TOP / "docs" / "fleet.md"
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "BACKUP_GUARD_REPOSITORY": tmp_path.as_uri(),
    }
    said = run_shell(block(page, "sh"), environment)
    assert said.count("protected") == 3
    explained = re.findall(r"^\| (\w[\w ]*) \| ", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(explained) == {"word", *(state.value for state in Protection)}


def test_the_drill_page_is_true(server: LocalServer, guard_dsn: str, tmp_path: Path) -> None:
    """Its commands run and pass, its policy constructs, and its table has each field of it."""
    page = TOP / "docs" / "drill.md"
    plan = plan_for(tmp_path / "repository")
    back_up(plan, guard_dsn)
    environment = {
        "BACKUP_GUARD_REPOSITORY": plan.repository,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    assert "passed its drill, on PostgreSQL 18." in run_shell(block(page, "sh"), environment)
    names: dict[str, Any] = {}
    exec(block(page, "python"), names)
    assert DrillPolicy.from_dict(names["policy"].to_dict()) == names["policy"]
    table = page.read_text(encoding="utf-8").partition("| field | default |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [field.name for field in attrs.fields(DrillPolicy)]


def test_the_page_on_the_runbook_is_true(tmp_path: Path) -> None:
    """Its commands write the page, its contacts are those of a plan, and of a plan file, and its sections are there."""
    page = TOP / "docs" / "runbook-generator.md"
    repository = open_repository((tmp_path / "backups").as_uri())
    names: dict[str, Any] = {}
    exec(block(page, "python"), names)
    store_backup(repository, datetime.now(timezone.utc), contacts=names["plan"].to_dict()["contacts"])
    environment = {
        "BACKUP_GUARD_REPOSITORY": repository.url,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    # No drill was made, and so each ends with 1.
    commands = "".join(f"{command} || test $? = 1\n" for command in block(page, "sh").splitlines())
    said = run_shell(commands, environment, cwd=tmp_path)
    stored = [info.key for info in repository.list("runbooks/")]
    assert stored == block(page, "text").split()
    assert all(key in said for key in stored) and "No restore was ever tried" in said
    title = (tmp_path / "runbook.md").read_text(encoding="utf-8").splitlines()[0]
    assert title == read_whole(repository, stored[1]).decode().splitlines()[0] == "# Recovery runbook: shop"
    assert "Alice, who has the age key" in (tmp_path / "runbook.html").read_text(encoding="utf-8")
    contacts = tuple(map(tuple, tomllib.loads(block(page, "toml"))["contacts"]))
    assert contacts == names["plan"].contacts


def test_the_page_on_audits_is_true(tmp_path: Path) -> None:
    """Its commands run on a repository with a backup, its risks are such, and its task is one that Airflow takes."""
    page = TOP / "docs" / "audit.md"
    repository = open_repository((tmp_path / "backups").as_uri())
    store_backup(repository, datetime.now(timezone.utc))
    environment = {
        "BACKUP_GUARD_REPOSITORY": repository.url,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "AIRFLOW_HOME": str(tmp_path),
    }
    audit, verify_chain = block(page, "sh").splitlines()
    assert "Not passed" in run_shell(f"{audit} || test $? = 1", environment, cwd=tmp_path)
    assert (tmp_path / "audit.html").exists()
    assert "1 audits, each as it was made" in run_shell(verify_chain, environment)
    (tmp_path / "risks.toml").write_text(block(page, "toml").replace("BG023", "BG009"), encoding="utf-8")
    assert "Accepted by alice" in run_shell(f"{audit} --accept risks.toml || test $? = 1", environment, cwd=tmp_path)
    plan = (
        "from airflow_backup_guard.core import BackupPlan, OffPeakCalendar\n"
        "calendar = OffPeakCalendar.parse('daily 01:00-05:00', tz='UTC')\n"
        "shop = BackupPlan(name='shop', connection='shop', repository='file:///srv/backups', calendar=calendar)\n"
        "warehouse = shop\n"
    )
    script = plan + block(page, "python") + "print(audit.task_id, len(audit.plans), audit.accepted[0].owner)"
    assert "audit 2 alice" in run_shell(
        '"$PYTHON" -c "$SCRIPT"', {**environment, "SCRIPT": script, "PYTHON": sys.executable}
    )


def test_the_pages_on_the_load_are_true(server: LocalServer, guard_dsn: str, tmp_path: Path) -> None:
    """One answers whose the load is; the other watches, for less than its hour, and draws what a copy did."""
    plan = plan_for(tmp_path / "repository")
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "BACKUP_GUARD_REPOSITORY": plan.repository,
        "BACKUP_GUARD_DSN": guard_dsn,
    }
    ask = block(TOP / "docs" / "is-it-a-backup.md", "sh")
    said = run_shell(ask.replace("'host=db.example user=backup_guard'", f'"{guard_dsn}"'), environment)
    assert "its load is not a backup" in " ".join(said.split())
    back_up(plan, guard_dsn)
    watch, draw = (code for _, code in blocks(TOP / "docs" / "throttle.md", "sh"))
    assert "commit_latency" in run_shell(watch.replace("1h", "3s"), environment)
    run_shell(draw, environment, cwd=tmp_path)
    assert (tmp_path / "copy.svg").read_text(encoding="utf-8").startswith("<svg")


def test_the_notifiers_of_the_page_render_the_report(tmp_path: Path) -> None:
    """The example constructs, and its templates take the title, and the report with what HTML must not read."""
    script = block(TOP / "docs" / "dag.md", "python") + (
        "notifiers[0].render_template_fields({'backup_title': 'good', 'backup_report': '2 ms < 25 ms'})\n"
        "print(notifiers[0].subject, notifiers[0].html_content)"
    )
    environment = {"AIRFLOW_HOME": str(tmp_path), "SCRIPT": script, "PYTHON": sys.executable}
    said = run_shell('"$PYTHON" -c "$SCRIPT"', environment)
    assert said.splitlines()[-1] == "good <pre>2 ms &lt; 25 ms</pre>"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_executed(page: Path) -> None:
    """A page with commands or code has a test that runs them; one that is only shown has its reason."""
    text = page.read_text(encoding="utf-8")
    name = page.stem if page.parent in (TOP, TOP / "docs") else f"{page.parent.name}/{page.stem}"
    if re.search(r"^```(sh|python|toml|sql|json)$", text, re.MULTILINE):
        assert name in EXECUTED, f"{name} has blocks; run them in a test, and say here in which"
        module, by = EXECUTED[name]
        assert by in (TOP / "tests" / module).read_text(encoding="utf-8")
    shown = re.findall(r"^```(?:text|console)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    command = re.compile(r"(?:\$ |\S+ \S+ \* \* \* +(?:\w+ )?)?((?:backup-guard|pg_dump|pip|apt|airflow|aws|cp) \S.*)")
    commands = [found[1] for one in shown for line in one.splitlines() if (found := command.fullmatch(line))]
    reasons = NOT_EXECUTED.get(name, {})
    for line in commands:
        assert any(line.startswith(known) for known in reasons), f"{line!r} is not run, and nobody says why"
    for known in reasons:
        assert any(line.startswith(known) for line in commands), f"{known!r} is not in {name} any more"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_file_names_lead_somewhere(page: Path) -> None:
    """Every relative link has its file and heading, every path that is named exists, and so does every make target."""
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{target} is not there"
        assert not anchor or anchor in anchors(file), f"{target} has no such heading"
    for named in re.findall(r"`([\w.-]+(?:/[\w.-]+)*/?)`", prose):
        if named.split("/")[0] in {path.name for path in TOP.iterdir()} - {"build"}:  # what commands leave there
            assert (TOP / named).exists(), f"{named} is not there"
    makefile = (TOP / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target} is not there"


def anchors(page: Path) -> set[str]:
    """What headings of a page are called in links."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_list() -> None:
    """docs/index.md links to each page beside it."""
    index = (TOP / "docs" / "index.md").read_text(encoding="utf-8")
    for page in (TOP / "docs").glob("*.md"):
        assert page.name == "index.md" or f"]({page.name})" in index, f"{page.name} is not in docs/index.md"


def test_every_metric_of_the_page_is_one_that_is_sent() -> None:
    """Each name is in the code that sends gauges of its group; that what is sent is on the page, a real run shows."""
    page = (TOP / "docs/metrics.md").read_text()
    package = TOP / "airflow_backup_guard"
    senders = {
        "copy": "operators/live.py",
        "backup": "hooks/metrics.py",
        "drill": "operators/drill.py",
        "audit": "operators/audit.py",
        "gate": "sensors/gate.py",
    }
    described = re.findall(r"`backup_guard\.<plan>\.(\w+)\.([\w.]+)`", page)
    assert {group for group, _ in described} == set(senders)
    for group, name in described:
        code = (package / senders[group]).read_text()
        assert re.search(rf"\b{name.split('.')[-1]}\b\W*[=:]", code), f"{group}.{name}"


def test_the_dashboard_shows_metrics_that_there_are() -> None:
    """Each query of the example dashboard asks for a gauge that the page on metrics describes."""
    page = (TOP / "docs/metrics.md").read_text()
    described = {name.replace(".", "_") for name in re.findall(r"`backup_guard\.<plan>\.([\w.]+)`", page)}
    dashboard = json.loads((TOP / "docs/grafana-dashboard.json").read_text())
    asked = re.findall(r"airflow_backup_guard_\$\{plan\}_(\w+)", json.dumps(dashboard))
    assert asked and set(asked) <= described


def test_the_catalogue_of_alerts_is_whole() -> None:
    """The page on alerts has each alert with its meaning and the first three things to do."""
    page = (TOP / "docs/alerts.md").read_text()
    listed = {heading for heading, _, _ in re.findall(r"^### (`[\w.]+`)( .*)?\n\n(.*)$", page, re.MULTILINE)}
    assert listed == {f"`{entry.key}`" for entry in CATALOGUE}
    for entry in CATALOGUE:
        steps = "\n".join(f"{number}. {thing}" for number, thing in enumerate(entry.first, 1))
        assert f"### `{entry.key}` {entry.title}\n\n{entry.meaning}\n\n{steps}\n" in page


def test_the_commands_of_the_page_are_guarded(source: Callable[..., LocalServer], tmp_path: Path) -> None:
    """Both ways to hold pg_dump leave a dump that pg_restore can read."""
    server = source(18)
    server.sql("CREATE DATABASE shop")
    server.sql("CREATE TABLE plain AS SELECT n FROM generate_series(1, 5000) n", "shop")
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{server.binaries}{os.pathsep}{os.environ['PATH']}",
        "BACKUP_GUARD_DSN": server.dsn(),
        "PGHOST": str(server.socket_directory),
        "PGPORT": str(server.port),
        "PGUSER": server.superuser,
    }
    commands = block(TOP / "docs" / "command.md", "sh").replace("/srv/backups", str(tmp_path)).splitlines()
    assert len(commands) == 2
    for command in commands:
        said = run_shell(f"{command}\npg_restore --list {tmp_path}/shop.dump; rm {tmp_path}/shop.dump", environment)
        assert "pg_dump ended well" in said
        assert "TABLE DATA public plain" in said


def test_the_task_of_the_page_constructs(tmp_path: Path) -> None:
    """The example of a guarded command is one that Airflow takes."""
    script = block(TOP / "docs" / "command.md", "python") + "print(backup.task_id, backup.template_fields)"
    environment = {"AIRFLOW_HOME": str(tmp_path), "SCRIPT": script, "PYTHON": sys.executable}
    assert "backup ('command', 'env'" in run_shell('"$PYTHON" -c "$SCRIPT"', environment)


def test_the_page_on_restoring_restores(source: Callable[..., LocalServer], tmp_path: Path) -> None:
    """All commands write a data directory, and the task is one that Airflow takes."""
    server = source(18)
    plan = plan_for(tmp_path / "backups")
    back_up(plan, server.dsn())
    page = TOP / "docs" / "restore.md"
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "BACKUP_GUARD_REPOSITORY": plan.repository,
        "AIRFLOW_HOME": str(tmp_path),
        "SCRIPT": block(page, "python") + "print(restore.task_id, restore.max_rate)",
    }
    said = run_shell(block(page, "sh").replace("/srv/", f"{tmp_path}/"), environment)
    assert said.count("is restored to") == 3
    for folder in ("restored", "from-before", "in-steps"):
        assert (tmp_path / folder / "global" / "pg_control").exists()
    assert "restore 200MB/s" in run_shell(f'"{sys.executable}" -c "$SCRIPT"', environment)


def test_the_alerts_of_the_page_construct(tmp_path: Path) -> None:
    """The rules are those of a plan, and the DAG with its deadline and its callback is one that Airflow takes."""
    rules, dag = (code for _, code in blocks(TOP / "docs" / "alerts.md", "python"))
    script = f"""
from airflow_backup_guard.core import BackupPlan, OffPeakCalendar
from airflow_backup_guard.operators import PostgresSnapshotOperator
{rules}
calendar = OffPeakCalendar.parse("daily 01:00-05:00", tz="UTC")
plan = BackupPlan(name="shop", connection="shop", repository="file:///srv/backups", calendar=calendar, alerts=alerts)
assert BackupPlan.from_dict(plan.to_dict()) == plan
{dag}
print(snapshot.dag.deadline[0].callback.path, [channel.name for channel in alerts.channels])
"""
    environment = {"AIRFLOW_HOME": str(tmp_path), "SCRIPT": script, "PYTHON": sys.executable}
    said = run_shell('"$PYTHON" -c "$SCRIPT"', environment)
    assert "airflow_backup_guard.notifications.backup_guard.BackupGuardNotifier ['chat', 'on-call']" in said
