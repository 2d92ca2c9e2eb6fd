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

        __slots__ = ("limit", "offset", "position", "prev", "segment", "segment_bytes", "segment_number", "seq", "tail")

        limit: int
        offset: int
        prev: str
        seq: int
        tail: mmap
        segment: int
        """The file that `tail` is appended to."""
        segment_number: int
        position: int
        """Bytes in it."""
        segment_bytes: int
        """With so many bytes a segment is full, and the journal begins the next one."""

        def let_go(self) -> None:
            """Hold `tail` no longer: it is about to be closed."""

else:
    Place = core.Place
