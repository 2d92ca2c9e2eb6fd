"""What `callgate secrets rotate` tells running programs: a counter in the state directory that goes up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

EVERY_S = 2.0
"""Between two looks."""


def mark(state: Path) -> bytes:
    """The counter of now: take it before values are read, so that no rotation between is missed."""
    try:
        return (state / "generation").read_bytes()
    except OSError:
        return b""


class Rotation:
    """Looks at the counter in a thread of its own, and calls `turned` there each time it has changed, until `close`.

    Also when `due` says that something else is to be done there.
    """

    __slots__ = ("_due", "_ended", "_since", "_state", "_turned")

    def __init__(
        self, state: Path, since: bytes, turned: Callable[[], None], name: str, due: Callable[[], bool] = lambda: False
    ) -> None:
        from threading import Event, Thread

        self._due = due
        self._state = state
        self._since = since
        self._turned = turned
        self._ended = Event()
        Thread(target=self._watch, daemon=True, name=f"secrets of {name}").start()

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S):
            now = mark(self._state)
            if now != self._since or self._due():
                self._since = now
                self._turned()

    def close(self) -> None:
        """Look no more. Does not wait."""
        self._ended.set()
