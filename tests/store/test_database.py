"""Opening, migrating and sharing the state database."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from callgate.errors import StoreError
from callgate.store.database import FILE_NAME, Store, migrate
from callgate.store.generation import Generation
from callgate.store.migrations import MIGRATIONS
from callgate.store.view import FILE_NAME as VIEW_FILE_NAME


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def schema(path: Path) -> list[str]:
    with sqlite3.connect(path) as database:
        return [row[0] for row in database.execute("SELECT sql FROM sqlite_schema ORDER BY name")]


def test_a_new_database_is_private_durable_and_of_the_newest_schema(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "state")
    assert store.query("PRAGMA journal_mode") == [("wal",)]
    assert store.query("PRAGMA synchronous") == [(2,)]
    assert store.query("PRAGMA foreign_keys") == [(1,)]
    assert store.query("PRAGMA user_version") == [(len(MIGRATIONS),)]
    for path in (tmp_path / "state").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    store.close()
    assert VIEW_FILE_NAME == FILE_NAME


def test_a_state_that_others_can_write_is_not_read(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    (tmp_path / FILE_NAME).chmod(0o666)
    with pytest.raises(StoreError, match="can be written by other users"):
        Store.open(tmp_path)


@pytest.mark.parametrize("version", range(len(MIGRATIONS)))
def test_every_older_schema_is_brought_up(tmp_path: Path, version: int) -> None:
    (tmp_path / "old").mkdir(mode=0o700)
    database = connect(tmp_path / "old" / FILE_NAME)
    migrate(database, tmp_path, MIGRATIONS[:version])
    database.close()
    Store.open(tmp_path / "old").close()
    Store.open(tmp_path / "new").close()
    assert schema(tmp_path / "old" / FILE_NAME) == schema(tmp_path / "new" / FILE_NAME)


STEPS = (
    ("CREATE TABLE one (x)", "INSERT INTO one VALUES (1)"),
    ("ALTER TABLE one ADD COLUMN y", "UPDATE one SET y = 2"),
    ("CREATE TABLE three (z)", "INSERT INTO three SELECT y FROM one"),
)


@pytest.mark.parametrize("version", range(len(STEPS)))
def test_steps_run_in_order_and_once(tmp_path: Path, version: int) -> None:
    database = connect(tmp_path / "db")
    migrate(database, tmp_path, STEPS[:version])
    migrate(database, tmp_path, STEPS)
    migrate(database, tmp_path, STEPS)
    assert database.execute("SELECT x, y, z FROM one, three").fetchall() == [(1, 2, 2)]
    database.close()


def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    database = connect(tmp_path / FILE_NAME)
    database.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 3}")
    database.close()
    (tmp_path / FILE_NAME).chmod(0o600)
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(StoreError, match="newer callgate") as caught:
        Store.open(tmp_path)
    assert "update callgate" in caught.value.next_step
    assert len((tmp_path / FILE_NAME).read_bytes()) == len(before)


def test_a_migration_that_fails_half_way_leaves_the_old_schema(tmp_path: Path) -> None:
    database = connect(tmp_path / "db")
    migrate(database, tmp_path, STEPS[:1])
    broken = (*STEPS[:2], ("CREATE TABLE four (x)", "INSERT INTO nowhere VALUES (1)"))
    with pytest.raises(sqlite3.Error):
        migrate(database, tmp_path, broken)
    assert database.execute("PRAGMA user_version").fetchone() == (1,)
    assert [row[1] for row in database.execute("PRAGMA table_info(one)")] == ["x"]
    migrate(database, tmp_path, STEPS)
    assert database.execute("PRAGMA user_version").fetchone() == (3,)
    database.close()


def test_a_process_killed_in_mid_migration_leaves_the_old_schema(tmp_path: Path) -> None:
    path = tmp_path / "db"
    database = connect(path)
    database.execute("PRAGMA journal_mode = WAL")
    migrate(database, tmp_path, STEPS[:1])
    database.close()
    code = (
        "import os, sys, sqlite3; from pathlib import Path; from callgate.store.database import migrate\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.create_function('die', 0, lambda: os.kill(os.getpid(), 9))\n"
        "steps = (('CREATE TABLE one (x)',), ('ALTER TABLE one ADD COLUMN y', 'SELECT die()'))\n"
        "migrate(database, Path('.'), steps)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], timeout=30, check=False).returncode == -9
    database = connect(path)
    assert database.execute("PRAGMA user_version").fetchone() == (1,)
    assert database.execute("SELECT * FROM one").fetchall() == [(1,)]
    migrate(database, tmp_path, STEPS)
    assert database.execute("SELECT x, y FROM one").fetchall() == [(1, 2)]
    database.close()


def test_a_transaction_is_all_or_nothing_and_told_to_others(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    before = store.generation.value
    with pytest.raises(KeyboardInterrupt), store.transaction() as database:
        database.execute("INSERT INTO listings VALUES ('s', 'tool', 1.0, 0)")
        raise KeyboardInterrupt
    assert store.query("SELECT * FROM listings") == []
    assert store.generation.value == before
    with store.transaction():
        pass
    assert store.generation.value == before, "nothing changed, nobody needs to look"
    with store.transaction() as database:
        database.execute("INSERT INTO listings VALUES ('s', 'tool', 1.0, 0)")
    assert store.generation.value == before + 1
    store.close()


def test_a_writer_waits_its_turn_and_not_for_ever(tmp_path: Path) -> None:
    holder, other = Store.open(tmp_path), Store.open(tmp_path, wait_ms=100)
    with holder.transaction() as database:
        database.execute("INSERT INTO listings VALUES ('s', 'tool', 1.0, 0)")
        assert other.query("SELECT * FROM listings") == [], "readers do not wait"
        start = time.monotonic()
        with pytest.raises(StoreError, match="locked") as caught, other.transaction():
            pass
        assert time.monotonic() - start < 5
    assert "try again" in caught.value.next_step
    with other.transaction() as database:
        database.execute("UPDATE listings SET complete = 1")
    assert holder.query("SELECT complete FROM listings") == [(1,)]
    holder.close()
    other.close()


def test_a_damaged_file_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(b"this is no database" * 1000)
    path.chmod(0o600)
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path)
    assert "move it away" in caught.value.next_step


def test_many_processes_may_open_a_new_state_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from callgate.store.database import Store\n"
        "store = Store.open(Path(sys.argv[1]))\n"
        "with store.transaction() as database:\n"
        "    database.execute(\"INSERT INTO listings VALUES (?, 'tool', 1.0, 0)\", (sys.argv[2],))\n"
    )
    state = str(tmp_path / "state")
    running = [subprocess.Popen([sys.executable, "-c", code, state, str(n)]) for n in range(6)]
    assert [process.wait(60) for process in running] == [0] * 6
    store = Store.open(tmp_path / "state")
    assert store.query("SELECT count(*) FROM listings") == [(6,)]
    store.close()


class Interrupted(BaseException):
    """As the watchdog of the gate interrupts a control."""


@pytest.mark.parametrize("after", ["BEGIN IMMEDIATE", "COMMIT"])
def test_a_transaction_that_is_interrupted_leaves_no_lock_and_nobody_untold(tmp_path: Path, after: str) -> None:
    """An alarm that rings while SQLite waits for a lock or for the disk interrupts when that statement is done."""

    class Connection(sqlite3.Connection):
        ringing = after

        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            done = super().execute(sql, *parameters)
            if sql == self.ringing:
                self.ringing = ""
                raise Interrupted
            return done

    Store.open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None, factory=Connection)
    store, other = Store(connection, Generation(tmp_path), tmp_path / FILE_NAME), Store.open(tmp_path, wait_ms=50)
    before = other.generation.value
    insert = "INSERT INTO listings VALUES (?, 'tool', 1, 0)"
    with pytest.raises(Interrupted), store.transaction() as database:
        database.execute(insert, ("one",))
    told = other.generation.value != before
    assert told == bool(other.query("SELECT 1 FROM listings")) == (after == "COMMIT")
    for each in (other, store):
        with each.transaction() as database:
            database.execute(insert, (f"from {each is store}",))
    store.close()
    other.close()
