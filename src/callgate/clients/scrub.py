"""Earlier copies of clients' files: what goes into a store must not stay there in plain text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from callgate.clients.files import MAX_BYTES, write_private
from callgate.clients.tree import ClientFileError
from callgate.text import visible

LEAST = 8
"""Characters from which on a value is replaced wherever it stands, not only as it was written in the file."""


def scrub(state: Path, literals: Sequence[tuple[str, str, str, str]]) -> None:
    """Put references in the place of values in all backups. `literals`: as written, old and new; value; reference.

    Also removes what an interrupted command left there. Raises ClientFileError where a backup cannot be changed.
    """
    folder = state / "backups"
    if not literals or not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.name.endswith(".callgate-tmp"):
            path.unlink(missing_ok=True)  # of an interrupted command
            continue
        try:
            data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else b""
        except OSError as error:
            raise ClientFileError(
                f"cannot read {visible(str(path), 300)}: {error.strerror}",
                effect="nothing was changed: it may hold credentials that go into a store",
                next_step="check its mode, or delete it",
            ) from error
        new = data
        for old_literal, new_literal, value, reference in literals:
            new = new.replace(old_literal.encode("utf-8", "surrogatepass"), new_literal.encode())
            if len(value) >= LEAST:
                new = new.replace(value.encode("utf-8", "surrogatepass"), reference.encode())
        if new != data:
            write_private(path, new)
