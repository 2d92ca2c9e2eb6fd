"""Pinned definitions: what was approved, what waits, who last saw what.

Three tables (migrations.py, step 1):

- `definitions`: every body that matters, by server, kind, key and digest; `approved` ones are the
  baseline, several for an item whose server shows different callers different texts; `pending` ones wait
  for a person; `rejected` ones keep the "no".
- `listings`: since when a server's items of a kind are pinned, and whether a complete list was seen.
- `sightings`: where a principal last saw something else than the baseline: `withheld`, `absent`, or `ok`
  (an approved variant while another principal was shown a withheld one).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import orjson

from callgate.errors import StoreError
from callgate.frozen import dataclass

if TYPE_CHECKING:
    import sqlite3

    from callgate.store.database import Store

Verdict: TypeAlias = Literal["ok", "withheld", "absent"]
AFTER_CHANGE: Final = "changed"
Place: TypeAlias = tuple[str, str, str, str]
"""Server, kind, key and digest of a stored definition."""

VARIANTS: Final = 8
"""Approved bodies kept for one item; approving a ninth drops the oldest."""
WAITING: Final = 5000
"""Definitions of one server that may wait for approval at once."""

_LISTED: Final = (
    "INSERT INTO listings VALUES (?, ?, ?, ?)"
    " ON CONFLICT (server, kind) DO UPDATE SET complete = 1 WHERE excluded.complete AND NOT complete"
)


_UNSEEN: Final = "DELETE FROM sightings WHERE server = ? AND kind = ? AND key = ? AND principal = ?"
_APPROVED: Final = (
    "SELECT 1 FROM definitions WHERE server = ? AND kind = ? AND key = ? AND digest = ? AND state = 'approved'"
)


class KindPins:
    """Everything known of one server's items of one kind, without the bodies."""

    __slots__ = ("approved", "complete", "first_at", "rejected", "sightings")

    def __init__(self) -> None:
        self.approved: dict[str, tuple[str, ...]] = {}
        """Key: digests of the approved bodies, oldest first."""
        self.rejected: set[tuple[str, str]] = set()
        """(key, digest)"""
        self.sightings: dict[str, dict[str, tuple[Verdict, str]]] = {}
        """Key: principal: (verdict, digest)."""
        self.first_at: float | None = None
        self.complete = False


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a principal is shown now; `body` only for a definition that has to wait.

    The digest of what is absent: AFTER_CHANGE where it was withheld before, else empty.
    """

    key: str
    verdict: Verdict
    digest: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Definition:
    """One stored body with its state."""

    server: str
    kind: str
    key: str
    digest: str
    state: str
    body: Any
    seen_at: float
    decided_at: float | None
    decided_by: str

    @property
    def place(self) -> Place:
        """What it is stored under."""
        return self.server, self.kind, self.key, self.digest


class PinStore:
    """Reads and writes pins. Every write is one transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, server: str, kind: str) -> KindPins:
        """The pins of one kind."""
        pins = KindPins()
        query = self._store.query
        rows: Any = query(
            "SELECT key, digest, state FROM definitions WHERE server = ? AND kind = ? AND state != 'pending'"
            " ORDER BY key, COALESCE(decided_at, seen_at)",
            (server, kind),
        )
        for key, digest, state in rows:
            if state == "approved":
                pins.approved[key] = (*pins.approved.get(key, ()), digest)
            else:
                pins.rejected.add((key, digest))
        rows = query(
            "SELECT key, principal, verdict, digest FROM sightings WHERE server = ? AND kind = ?", (server, kind)
        )
        for key, principal, verdict, digest in rows:
            pins.sightings.setdefault(key, {})[principal] = (verdict, digest)
        rows = query("SELECT first_at, complete FROM listings WHERE server = ? AND kind = ?", (server, kind))
        for first_at, complete in rows:
            pins.first_at, pins.complete = first_at, bool(complete)
        return pins

    def bodies(self, server: str, kind: str, key: str | None = None) -> dict[tuple[str, str], Any]:
        """(key, digest): approved body, of one item or of all of a kind."""
        rows: Any = self._store.query(
            "SELECT key, digest, body FROM definitions"
            " WHERE server = ? AND kind = ? AND state = 'approved' AND (? IS NULL OR key = ?)",
            (server, kind, key, key),
        )
        return {(name, digest): _parsed(body) for name, digest, body in rows}

    def pin_first(
        self, server: str, kind: str, items: Iterable[tuple[str, str, bytes]], *, complete: bool = False
    ) -> set[str]:
        """Pin (key, digest, body) of items nobody pinned before; the keys that were pinned by this call.

        `complete`: these are all there are, so that what comes later is new.

        The first writer wins: an item another process pinned meanwhile, or a list it has completed, is
        left alone, and the caller compares with it.
        """
        now = time.time()
        pinned: set[str] = set()
        with self._store.transaction() as database:
            closed = database.execute(
                "SELECT complete FROM listings WHERE server = ? AND kind = ?", (server, kind)
            ).fetchone()
            if closed and closed[0] and kind != "resource":
                return pinned
            database.execute(_LISTED, (server, kind, now, complete))
            for key, digest, body in items:
                known = database.execute(
                    "SELECT 1 FROM definitions WHERE server = ? AND kind = ? AND key = ? AND state = 'approved'",
                    (server, kind, key),
                ).fetchone()
                if known is None:
                    database.execute(
                        "INSERT OR REPLACE INTO definitions VALUES (?, ?, ?, ?, 'approved', ?, ?, ?, 'first use')",
                        (server, kind, key, digest, body, now, now),
                    )
                    pinned.add(key)
        return pinned

    def see(
        self,
        server: str,
        kind: str,
        principal: str,
        sightings: Iterable[Sighting],
        *,
        gone: Iterable[str] = (),
        complete: bool = False,
    ) -> None:
        """Record what a principal is shown now; forget its sightings of the keys in `gone`."""
        now = time.time()
        with self._store.transaction() as database:
            if complete:
                database.execute(_LISTED, (server, kind, now, True))
            for key in gone:
                database.execute(_UNSEEN, (server, kind, key, principal))
            for sighting in sightings:
                if sighting.body:
                    if database.execute(_APPROVED, (server, kind, sighting.key, sighting.digest)).fetchone():
                        # meanwhile: noted as withheld, it would be refused until somebody lists again
                        database.execute(_UNSEEN, (server, kind, sighting.key, principal))
                        continue
                    database.execute(
                        "INSERT OR IGNORE INTO definitions VALUES (?, ?, ?, ?, 'pending', ?, ?, NULL, '')",
                        (server, kind, sighting.key, sighting.digest, sighting.body, now),
                    )
                database.execute(
                    "INSERT OR REPLACE INTO sightings VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (server, kind, sighting.key, principal, sighting.digest, sighting.verdict, now),
                )
            _drop_unseen(database, server, kind)
            waiting = database.execute(
                "SELECT count(*) FROM definitions WHERE server = ? AND state = 'pending'", (server,)
            ).fetchone()[0]
            if waiting > WAITING:
                raise StoreError(
                    f"more than {WAITING} changed definitions of {server} wait for approval",
                    effect="the answer was refused",
                    next_step=f"look at them: callgate pins diff {server}; or start over: callgate pins reset {server}",
                )

    def decide(
        self, places: Iterable[Place], *, approve: bool, by: str, record: Callable[[list[bool]], object]
    ) -> list[bool]:
        """Approve or reject waiting definitions; for each whether it did wait (still).

        `record` gets the same to put it on record, before any of it counts: what it raises leaves everything as it was.
        """
        with self._store.transaction() as database:
            done = [_decided(database, place, approve, by) for place in places]
            record(done)
        return done

    def reset(self, server: str, *, record: Callable[[int], object]) -> int:
        """Forget everything about a server; the number of definitions forgotten. `record`: as for `decide`."""
        with self._store.transaction() as database:
            count = int(database.execute("DELETE FROM definitions WHERE server = ?", (server,)).rowcount)
            database.execute("DELETE FROM sightings WHERE server = ?", (server,))
            database.execute("DELETE FROM listings WHERE server = ?", (server,))
            record(count)
        return count

    def servers(self) -> list[str]:
        """Names of all servers with pins."""
        rows: Any = self._store.query("SELECT server FROM definitions UNION SELECT server FROM listings ORDER BY 1")
        return [row[0] for row in rows]

    def seen_by(self, server: str) -> dict[tuple[str, str, str], list[str]]:
        """(kind, key, digest): principals it is shown to instead of the baseline; digest '' for absent items."""
        rows: Any = self._store.query(
            "SELECT kind, key, CASE verdict WHEN 'absent' THEN '' ELSE digest END, principal FROM sightings"
            " WHERE server = ? AND verdict != 'ok' ORDER BY principal",
            (server,),
        )
        found: dict[tuple[str, str, str], list[str]] = {}
        for kind, key, digest, principal in rows:
            found.setdefault((kind, key, digest), []).append(principal)
        return found

    def definitions(self, server: str, state: str | None = None) -> list[Definition]:
        """The stored definitions of a server, of one state or all."""
        rows: Any = self._store.query(
            "SELECT server, kind, key, digest, state, body, seen_at, decided_at, decided_by FROM definitions"
            " WHERE server = ? AND (? IS NULL OR state = ?) ORDER BY kind, key, COALESCE(decided_at, seen_at)",
            (server, state, state),
        )
        return [
            Definition(server, kind, key, digest, found, _parsed(body), seen_at, decided_at, decided_by)
            for server, kind, key, digest, found, body, seen_at, decided_at, decided_by in rows
        ]


def _parsed(body: bytes) -> Any:
    return orjson.loads(body)  # noqa: TID251 - what this store was given: canonical JSON, parsed strictly before


def _decided(database: sqlite3.Connection, place: Place, approve: bool, by: str) -> bool:
    """One decision; False when the definition does not wait."""
    done = database.execute(
        "UPDATE definitions SET state = ?, decided_at = ?, decided_by = ?"
        " WHERE server = ? AND kind = ? AND key = ? AND digest = ? AND state IN ('pending', 'rejected')",
        ("approved" if approve else "rejected", time.time(), by, *place),
    ).rowcount
    if done and approve:
        database.execute("DELETE FROM sightings WHERE server = ? AND kind = ? AND key = ? AND digest = ?", place)
        database.execute(
            "DELETE FROM definitions WHERE server = ?1 AND kind = ?2 AND key = ?3 AND state = 'approved'"
            " AND digest NOT IN (SELECT digest FROM definitions WHERE server = ?1 AND kind = ?2 AND key = ?3"
            " AND state = 'approved' ORDER BY COALESCE(decided_at, seen_at) DESC LIMIT ?4)",
            (*place[:3], VARIANTS),
        )
    return bool(done)


def _drop_unseen(database: sqlite3.Connection, server: str, kind: str) -> None:
    """Forget waiting definitions that nobody is shown any more."""
    database.execute(
        "DELETE FROM definitions WHERE server = ? AND kind = ? AND state = 'pending' AND NOT EXISTS ("
        " SELECT 1 FROM sightings s WHERE s.server = definitions.server AND s.kind = definitions.kind"
        " AND s.key = definitions.key AND s.digest = definitions.digest)",
        (server, kind),
    )
