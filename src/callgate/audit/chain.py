"""The rules of a hash-chained log, without any I/O. In the order in which they are checked:

1. A line ends in a newline, is one JSON object, and is canonical (sorted keys, compact, UTF-8).
2. `chain` is the log's id; a record of another log does not belong here.
3. `seq` is 1 in the first record and one more in each that follows, across segments.
4. `prev` is the SHA-256 of the line before; in the first record, of the `opened` line of the index.
5. The first record is `open`, no other is; nothing follows `close`.
6. `about` is 0 or the `seq` of an earlier record.
7. A checkpoint covers an earlier record, carries that line's digest, and its signature verifies.
"""

from __future__ import annotations

import hashlib
from typing import Final

GENESIS: Final = "0" * 64
"""`prev` where nothing is before."""


def digest_of(line: bytes) -> str:
    """Hex SHA-256 of a line, newline included."""
    return hashlib.sha256(line).hexdigest()
