"""What callgate changed in which file, so that it can be put back: `clients.json` in the state directory (0600).

The file holds the text of each entry before and after the change, with digests; a line of its own for each record.
Credentials that went into a store are references here too. Arguments may still hold secrets, so nobody else may read
it, and it is printed nowhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from callgate.clients.files import read, write_private
from callgate.clients.formats import FormatName
from callgate.clients.jsonc import parse
from callgate.clients.moving import Moved
from callgate.clients.tree import Canonical, ClientFileError, Node, digest

FILE_NAME = "clients.json"
VERSION = 2
_LONE = ("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Record:
    """One wrapped entry. `file` is the real path; `where` the keys to the entry, its name last."""

    client: str
    file: str
    where: tuple[str, ...]
    gate_name: str
    format: FormatName
    before_text: str
    after_text: str
    touched: tuple[str, ...]
    """The members between whose first and last `after_text` stands."""
    original: Canonical
    wrapped: Canonical
    original_sha256: str = ""
    wrapped_sha256: str = ""
    text_sha256: str = ""
    """Of `before_text` and `after_text`: what is put back is what was taken."""
    backup: str = ""
    at: str = ""
    moved: tuple[Moved, ...] = ()
    """Credentials that stand in a store: `before_text`, `original` and `wrapped` hold their references."""

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        """What it is about."""
        return self.file, self.where

    def sealed(self) -> Record:
        """The same, with its digests."""
        return replace(
            self,
            original_sha256=digest(self.original),
            wrapped_sha256=digest(self.wrapped),
            text_sha256=self._text_digest(),
        )

    def _text_digest(self) -> str:
        moved = "\0" + json.dumps([asdict(one) for one in self.moved]) if self.moved else ""
        return sha256(f"{self.before_text}\0{self.after_text}{moved}".encode(*_LONE)).hexdigest()

    @property
    def intact(self) -> bool:
        """Whether the digests fit."""
        return self.sealed() == self


class Records:
    """All records of a state directory. Raises ClientFileError where the file is damaged or not ours alone."""

    def __init__(self, state: Path) -> None:
        self.path = state / FILE_NAME
        self._records: dict[tuple[str, tuple[str, ...]], Record] = {}
        if self.path.exists():
            for record in _load(self.path):
                self._records[record.key] = record

    def get(self, file: str, where: tuple[str, ...]) -> Record | None:
        """The record of one entry."""
        return self._records.get((file, where))

    def all(self) -> list[Record]:
        """All of them, in the order they were made."""
        return list(self._records.values())

    def of(self, file: str) -> list[Record]:
        """Those of one file."""
        return [record for record in self._records.values() if record.file == file]

    def save(self, add: Iterable[Record] = (), drop: Iterable[Record] = ()) -> None:
        """Change the file: all of it or nothing."""
        for record in drop:
            self._records.pop(record.key, None)
        for record in add:
            self._records[record.key] = record
        lines = ",\n".join("  " + json.dumps(asdict(record)) for record in self._records.values())
        write_private(self.path, f'{{"version": {VERSION}, "records": [\n{lines}\n]}}\n'.encode())


def _load(path: Path) -> list[Record]:
    try:
        document = _python(parse(read(str(path), private=True).text))
        if document["version"] not in ("1", str(VERSION)):
            raise ClientFileError(f"{path} is of version {document['version']}", next_step="use a newer callgate")
        records = [Record(**{**one, **_tuples(one)}) for one in document["records"]]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _damaged(path) from error
    if not all(record.intact for record in records):
        raise _damaged(path)
    return records


def _tuples(record: dict[str, Any]) -> dict[str, Any]:
    moved = tuple(
        Moved(
            tuple(one["path"]),
            one["reference"],
            one["style"],
            tuple((int(at), kind) for at, kind in one["exceptions"]),
            int(one["at"]),
            int(one["length"]),
        )
        for one in record.get("moved", ())
    )
    return {"where": tuple(record["where"]), "touched": tuple(record["touched"]), "moved": moved}


def _damaged(path: Path) -> ClientFileError:
    return ClientFileError(
        f"{path} is damaged: its digests do not fit",
        effect="nothing was changed",
        next_step=f"the files as they were are in {os.path.join(os.path.dirname(path), 'backups')}",
    )


def _python(node: Node) -> Any:
    if node.kind == "map":
        return {member.key: _python(member.node) for member in node.members}
    if node.kind == "list":
        return [_python(item) for item in node.items]
    return node.text
