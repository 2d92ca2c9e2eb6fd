"""The state database: one SQLite file, used by many processes at once.

- `callgate.db` in the state directory, mode 0600, directory not writable by others: a file that another
  user could change is refused, for it decides what passes.
- WAL with `synchronous=FULL`: readers never wait for a writer, and what was committed survives a power cut.
- Writers take turns: `transaction()` begins with the write lock and waits for it at most `wait_ms`.
- Opening migrates, in one transaction; a file of a newer callgate is refused.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from callgate.errors import StoreError
from callgate.store.migrations import MIGRATIONS
from callgate.store.privacy import check_directory, check_file

if TYPE_CHECKING:
    from callgate.store.generation import Generation
    from callgate.store.pins import PinStore

FILE_NAME: Final = "callgate.db"
WAIT_MS: Final = 5000
"""How long a command waits for another process' transaction."""


class Store:
    """An open state database. One thread at a time; never carried across `fork`."""

    def __init__(self, connection: sqlite3.Connection, generation: Generation, path: Path) -> None:
        self._connection = connection
        self.generation = generation
        self.path = path

    @classmethod
    def open(cls, state_dir: Path, *, wait_ms: int = WAIT_MS) -> Store:
        """Open, and make or migrate, the database of a state directory. Raises StoreError."""
        from callgate.store.generation import Generation

        path = state_dir / FILE_NAME
        check_directory(state_dir)
        check_file(path)
        try:
            connection = sqlite3.connect(path, timeout=wait_ms / 1000, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _failure(path, error) from error
        try:
            _use_wal(connection, wait_ms)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            migrate(connection, path)
        except sqlite3.Error as error:
            connection.close()
            raise _failure(path, error) from error
        except BaseException:
            connection.close()
            raise
        return cls(connection, Generation(state_dir), path)

    @property
    def pins(self) -> PinStore:
        """The pinned definitions."""
        from callgate.store.pins import PinStore

        return PinStore(self)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: all of it or nothing. Other processes are told when it is committed."""
        changes = self._connection.total_changes
        try:
            # Within the same `try`: a control may be interrupted right after this has taken the lock.
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
                changes = self._connection.total_changes
            if isinstance(error, sqlite3.Error):
                raise _failure(self.path, error) from error
            raise
        finally:  # also where it was interrupted once all was committed: nobody reads again what nobody tells of
            if self._connection.total_changes != changes:
                self.generation.advance()

    def query(self, statement: str, parameters: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """All rows of a SELECT."""
        try:
            return self._connection.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise _failure(self.path, error) from error

    def close(self) -> None:
        """Close the file and the counter."""
        self._connection.close()
        self.generation.close()


def migrate(connection: sqlite3.Connection, path: Path, steps: tuple[tuple[str, ...], ...] = MIGRATIONS) -> None:
    """Bring a file to the newest schema, in one transaction. Raises StoreError when the file is newer."""
    if _version(connection) == len(steps):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)  # another process may have migrated while this one waited
        if version > len(steps):
            raise StoreError(
                f"{path} was written by a newer callgate (schema {version}, this one knows {len(steps)})",
                effect="the state was left as it is",
                next_step="update callgate, or use another state_dir",
            )
        for step in steps[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _use_wal(connection: sqlite3.Connection, wait_ms: int) -> None:
    """Switch to WAL. SQLite does not wait for a lock here by itself, so two first openers could collide."""
    end = time.monotonic() + wait_ms / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() >= end:
                raise
            time.sleep(0.005)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _failure(path: Path, error: sqlite3.Error) -> StoreError:
    text = str(error)
    if "locked" in text or "busy" in text:
        step = "another callgate holds the database; try again"
    elif "malformed" in text or "not a database" in text:
        step = "the file is damaged: move it away; the next run pins anew"
    elif "disk" in text or "full" in text or "I/O" in text:
        step = "free space on the disk"
    else:
        step = "check the file's owner, mode and disk"
    return StoreError(f"{path}: {text}", effect="nothing was changed", next_step=step)
