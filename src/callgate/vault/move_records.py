"""What `callgate secrets move` replaced in which file: `moves.json` in the state directory.

A record says where a reference stands, and how the value was written there: quotes and escapes, not the value, which
only the store has. The digest is under a key of this state directory, and tells whether the value is still the one
that was moved. Credentials of entries that `callgate install` wrapped are kept with the entry instead, in
`clients.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

import jiter

from callgate.errors import SecretError

FILE_NAME: Final = "moves.json"
VERSION: Final = 1
MOST_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class MoveRecord:
    """One value of one file. `file` is the real path; `where` the keys to the value; for `.env` name and number."""

    file: str
    format: str
    where: tuple[str, ...]
    reference: str
    before: str
    """What stood before the value in the same string, for example `Bearer `."""
    style: str
    """How the literal was written; of a `.env` file its quote."""
    exceptions: tuple[tuple[int, str], ...]
    digest: str
    at: str

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        """What it is about."""
        return self.file, self.where

    @property
    def text(self) -> str:
        """What stands in the file in place of the value."""
        return f"{self.before}<{self.reference}>" if self.before else self.reference


def dump(records: Iterable[MoveRecord]) -> bytes:
    """The file; one line a record."""
    lines = ",\n".join("  " + json.dumps(asdict(record)) for record in records)
    return f'{{"version": {VERSION}, "records": [\n{lines}\n]}}\n'.encode()


def load(data: bytes) -> list[MoveRecord]:
    """The records of a file. Raises SecretError where it is not what `dump` wrote."""
    if len(data) > MOST_BYTES:
        raise _damaged()
    try:
        document = jiter.from_json(data, allow_inf_nan=False, catch_duplicate_keys=True)
        if document["version"] != VERSION:
            raise SecretError(
                f"{FILE_NAME} is of version {document['version']!s:.20}", next_step="use a newer callgate"
            )
        return [_record(one) for one in document["records"]]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged() from error


def _record(one: dict[str, Any]) -> MoveRecord:
    exceptions = tuple((int(at), str(kind)) for at, kind in one["exceptions"])
    rest = {name: value for name, value in one.items() if name not in ("where", "exceptions")}
    record = MoveRecord(where=tuple(map(str, one["where"])), exceptions=exceptions, **rest)
    if not all(isinstance(value, str) for value in rest.values()):
        raise TypeError
    return record


def _damaged() -> SecretError:
    return SecretError(
        f"{FILE_NAME} in the state directory is damaged",
        effect="nothing was changed",
        next_step="restore it from a backup; the values are in the store: callgate secrets test --all",
    )
