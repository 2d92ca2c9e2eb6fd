"""When a running gate looks for evidence that is to be removed, and the process that removes it.

At a quiet moment some seconds after the start, and every ten minutes at most; not at all where another process of this
state directory has looked within that time, nor in the first ten minutes of a state directory. The work is done by a
process of its own (`main`): it reads and verifies what goes.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

from orjson import dumps

from callgate.audit.child import Child
from callgate.audit.records import Record, parse
from callgate.audit.retention_lock import AtWork, look_is_due
from callgate.config import AuditConfig

EVERY_S: Final = 600.0
"""Between two looks, of all processes together."""
FIRST_S: Final = 3.0
"""From the start of a process to its first look: not while it still has to answer its first request."""
NICE: Final = 10
_LISTED: Final = 10
_SETTINGS: Final = ("keep_days", "keep_bytes", "keep_at_least_days")
_PROGRAM: Final = "import sys; from callgate.audit.retention_timer import main; sys.exit(main())"


class RetentionTimer:
    """Of one journal. Does nothing where the configuration keeps everything."""

    __slots__ = ("_audit_dir", "_child", "_due", "_question", "_told")

    def __init__(self, state_dir: Path, config: AuditConfig) -> None:
        self._audit_dir = state_dir / "audit"
        self._child = Child(_PROGRAM, str(state_dir))
        self._question = dumps({name: getattr(config, name) for name in _SETTINGS})
        self._told: Record = {}
        wanted = config.keep_days or config.keep_bytes
        self._due = time.monotonic() + FIRST_S if wanted else float("inf")

    def tick(self) -> Record | None:
        """At a quiet moment: look when it is time to. What was removed and what had to stay, once there is something.

        Never waits, raises nothing.
        """
        if self._child.busy:
            answer = self._child.take()
            fields = (parse(answer) if answer else None) or {}
            if fields and fields != self._told:  # what could not be removed is said once, not every ten minutes
                self._told = fields
                return fields
            return None
        now = time.monotonic()
        if now >= self._due:
            self._due = now + EVERY_S
            if look_is_due(self._audit_dir, EVERY_S):
                self._child.start(self._question)
        return None

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return self._child.busy

    def drop(self) -> None:
        """The gate ends; what was begun is finished without it."""
        self._child.drop()


def main() -> int:
    """Remove what the settings on standard input say, and write what came of it: `{}` for nothing."""
    from callgate.audit.retention import configured, prune
    from callgate.errors import AuditError

    settings = parse(sys.stdin.buffer.readline(_LISTED * 100))
    if settings is None or len(sys.argv) != 2:
        return 2
    os.nice(NICE)
    wanted = configured(AuditConfig(**settings), time.time_ns() // 1000)
    fields: Record = {}
    try:
        result = prune(Path(sys.argv[1]), wanted)
    except AtWork:  # as of two workers that were started at once: it does what we would do
        fields = {}
    except AuditError as error:
        fields = {"failed": error.what}
    else:
        if result.removals:
            fields = {
                "records": result.records,
                "bytes": result.bytes,
                "logs": len(result.removals),
                "newest": max(one.newest for one in result.removals),
                "reason": wanted.reason,
                "chains": [one.chain for one in result.removals[:_LISTED]],
            }
        if result.kept:
            fields["kept"] = dict(result.kept[:_LISTED])
    sys.stdout.buffer.write(dumps(fields) + b"\n")
    return 0
