"""Where the next record goes, and what it follows: the part of a journal that changes with each record.

Native where it was built, so that the native lane writes records without asking Python for each number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.native import core

if TYPE_CHECKING or core is None:
    from mmap import mmap

    class Place:
        """`tail[offset:limit]` is free for records; a negative `limit` says that each is the journal's own business."""

        __slots__ = ("limit", "offset", "prev", "seq", "tail")

        limit: int
        offset: int
        prev: str
        seq: int
        tail: mmap

        def let_go(self) -> None:
            """Hold `tail` no longer: it is about to be closed."""

else:
    Place = core.Place
