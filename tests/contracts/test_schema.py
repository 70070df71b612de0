"""The schema comes up from nothing, on both ledgers, and nobody works on one that is not his."""

import sqlite3
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Connection, create_engine, inspect, select, text

from pgw.core.errors import Code, PgwError
from pgw.core.ledger.configuration import SEED
from pgw.core.ledger.engine.columns import metadata
from pgw.core.ledger.engine.store import HEAD, identity, migrations_home, open_engine, schema_status, upgrade
from pgw.core.ledger.tables import configurations
from pgw.server.run import _prepare_store
from pgw.settings import load

ROOT = Path(__file__).parents[2]
BUILD_LIMIT_S = 120

UPGRADE = """
import sys
import pgw
from pgw.core.ledger.engine.store import migrations_home, upgrade

sys.stdin.readline()
print(upgrade(sys.argv[1]).current, pgw.__file__, migrations_home())
"""


@contextmanager
def _connected(database: str) -> Iterator[Connection]:
    engine = open_engine(database)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _upgrading(database: str, **options: object) -> "subprocess.Popen[str]":
    """Start a process that upgrades as soon as it reads a line."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", UPGRADE, database], text=True, **pipes, **options)  # type: ignore[call-overload, no-any-return]


def test_a_new_ledger_has_the_schema_a_name_and_its_first_configuration(empty_database: str) -> None:
    assert upgrade(empty_database).current == HEAD
    with _connected(empty_database) as connection:
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}
        subjects = connection.execute(select(configurations.c.subject).order_by(configurations.c.version))
        assert subjects.scalars().all() == [subject for subject, _ in SEED]
        assert len(identity(connection)) == 36


def test_a_second_upgrade_changes_nothing(own_database: str) -> None:
    with _connected(own_database) as connection:
        before = (identity(connection), connection.execute(select(configurations)).all())
    assert upgrade(own_database).is_current
    with _connected(own_database) as connection:
        assert (identity(connection), connection.execute(select(configurations)).all()) == before


def test_several_processes_upgrade_one_new_database_at_once(empty_database: str) -> None:
    """Each of many servers starting together may find nothing there: one makes it, the others wait."""
    started = [_upgrading(empty_database) for _ in range(4)]
    for each in started:
        assert each.stdin is not None
        each.stdin.write("now\n")
        each.stdin.flush()
    ends = [(*each.communicate(timeout=60), each.returncode) for each in started]
    assert [code for _, _, code in ends] == [0, 0, 0, 0], "\n".join(told for _, told, _ in ends)
    with _connected(empty_database) as connection:
        assert len(connection.execute(select(configurations)).all()) == len(SEED)
        assert len(identity(connection)) == 36


def test_the_migrations_make_exactly_what_the_tables_say(database: str) -> None:
    with _connected(database) as connection:
        config = Config()
        config.set_main_option("script_location", str(migrations_home()))
        config.attributes["connection"] = connection
        command.check(config)
        checks = {name: _checks(connection, name) for name in metadata.tables}
    assert checks == {
        name: {str(each.name) for each in table.constraints if isinstance(each, CheckConstraint)}
        for name, table in metadata.tables.items()
    }


def _checks(connection: Connection, table: str) -> set[str]:
    return {str(each["name"]) for each in inspect(connection).get_check_constraints(table)}


def test_the_migrated_file_is_word_for_word_the_one_the_tables_would_make(tmp_path: Path) -> None:
    """`alembic check` sees no CHECK's words and no STRICT; SQLite keeps the statements themselves."""
    upgrade(f"sqlite:///{tmp_path / 'migrated.db'}")
    engine = create_engine(f"sqlite:///{tmp_path / 'created.db'}")
    metadata.create_all(engine)
    engine.dispose()
    assert _statements(tmp_path / "migrated.db") == _statements(tmp_path / "created.db")


def _statements(path: Path) -> dict[str, list[str]]:
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        kept = text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type <> 'trigger'")
        found = connection.execute(kept).all()
    engine.dispose()
    return {name: sorted(_clauses(sql)) for name, sql in found if "alembic" not in name}


def _clauses(statement: str) -> list[str]:
    """Take a statement apart at its commas: a column that was added later stands behind the others, on their line."""
    body, _, table_options = statement.rpartition(")")
    return [" ".join(part.replace("(", " ").replace(")", " ").split()) for part in (*body.split(","), table_options)]


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations_home()))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and lay its files out, as an installation would."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_S,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (archive,) = folder.glob("*.whl")
    with zipfile.ZipFile(archive) as files:
        files.extractall(folder / "site")
    return folder / "site"


def test_an_installed_wheel_brings_its_migrations_and_upgrades_with_them(wheel: Path, empty_database: str) -> None:
    versions = {path.name for path in (ROOT / "sql/versions").glob("*.py")}
    assert {path.name for path in (wheel / "pgw/_sql/versions").glob("*.py")} == versions
    process = _upgrading(empty_database, cwd=wheel.parent, env={"PYTHONPATH": str(wheel)})
    out, told = process.communicate("now\n", timeout=60)
    assert (out.split(), told) == ([HEAD, str(wheel / "pgw/__init__.py"), str(wheel / "pgw/_sql")], "")
    assert schema_status(empty_database).is_current


def test_looking_at_a_ledger_that_is_not_there_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(PgwError, match="PGW_HOME") as refusal:
        schema_status(f"sqlite:///{tmp_path / 'pgw.db'}")
    assert refusal.value.code is Code.STORE_ABSENT
    assert list(tmp_path.iterdir()) == []


def test_a_new_postgresql_is_set_up_in_development_only(database_url: str) -> None:
    production = load({"DATABASE_URL": database_url, "PGW_ENV": "production"})
    with pytest.raises(PgwError, match="pgw db upgrade") as refusal:
        _prepare_store(production)
    assert refusal.value.code is Code.OLD_SCHEMA
    assert schema_status(production.database).current is None
    _prepare_store(load({"DATABASE_URL": database_url}))
    assert schema_status(production.database).current == HEAD


@pytest.mark.parametrize("environment", ["development", "production"])
def test_a_server_refuses_an_older_postgresql_and_names_the_command(database_url: str, environment: str) -> None:
    """Upgrading a shared database is its operator's decision, never the side effect of a start."""
    settings = load({"DATABASE_URL": database_url, "PGW_ENV": environment})
    upgrade(settings.database)
    with _connected(settings.database) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
        connection.commit()
    with pytest.raises(PgwError, match=r"has schema 0000, this pgw needs .*pgw db upgrade") as refusal:
        _prepare_store(settings)
    assert refusal.value.code is Code.OLD_SCHEMA
    assert schema_status(settings.database).current == "0000"


def test_an_address_nobody_answers_at_is_refused_without_its_password() -> None:
    database = load({"DATABASE_URL": "postgres://pgw:hunter22@127.0.0.1:1/pgw"}).database
    with pytest.raises(PgwError) as refusal:
        upgrade(database)
    assert refusal.value.code is Code.STORE_ABSENT
    assert "hunter22" not in refusal.value.detail


def test_a_schema_newer_than_this_program_is_refused_in_words(own_database: str) -> None:
    """An old pgw on a ledger that was upgraded by a new one: nothing is touched, and the way out is named."""
    with _connected(own_database) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        connection.commit()
    with pytest.raises(PgwError, match="newer") as refusal:
        upgrade(own_database)
    assert refusal.value.code is Code.OLD_SCHEMA
    assert schema_status(own_database).current == "9999"


def test_a_new_file_another_process_is_writing_is_waited_for(tmp_path: Path) -> None:
    """Two servers start on a new home: the switch to the write-ahead log must not fail for the other's transaction."""
    path = tmp_path / "pgw.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.1, other.execute, ["ROLLBACK"])
        release.start()
        try:
            assert upgrade(f"sqlite:///{path}").is_current
        finally:
            release.join()
