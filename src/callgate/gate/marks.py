"""What of a channel each message looks at. Native where it was built, so that the native lane need not ask Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.native import core

if TYPE_CHECKING or core is None:

    class Marks:
        """The channel says what they mean."""

        __slots__ = ("modern", "replayable")

        modern: bool
        replayable: bool

else:
    Marks = core.Marks
