"""The schema of the state database, as numbered steps from an empty file.

`PRAGMA user_version` holds how many steps a file has had. Steps are never edited once released, only
added; each is a tuple of statements, and all that a file lacks run in one transaction.
"""

from __future__ import annotations

from typing import Final

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE definitions (
            server TEXT NOT NULL,
            kind TEXT NOT NULL,
            key TEXT NOT NULL,
            digest TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('approved', 'pending', 'rejected')),
            body BLOB NOT NULL,
            seen_at REAL NOT NULL,
            decided_at REAL,
            decided_by TEXT NOT NULL DEFAULT '',
            PRIMARY KEY (server, kind, key, digest)
        ) WITHOUT ROWID""",
        """CREATE TABLE listings (
            server TEXT NOT NULL,
            kind TEXT NOT NULL,
            first_at REAL NOT NULL,
            complete INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (server, kind)
        ) WITHOUT ROWID""",
        """CREATE TABLE sightings (
            server TEXT NOT NULL,
            kind TEXT NOT NULL,
            key TEXT NOT NULL,
            principal TEXT NOT NULL,
            digest TEXT NOT NULL,
            verdict TEXT NOT NULL CHECK (verdict IN ('ok', 'withheld', 'absent')),
            at REAL NOT NULL,
            PRIMARY KEY (server, kind, key, principal)
        ) WITHOUT ROWID""",
    ),
)
"""Step 1: the pins of definition-pins (store/pins.py)."""
