"""`audit/retention.lock`: one process removes old evidence at a time, and never while another verifies it.

The file's time of change says when somebody last looked whether there is something to remove.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from callgate.audit.files import opened
from callgate.errors import AuditError

LOCK_NAME: Final = "retention.lock"


class AtWork(AuditError):
    """Another process removes or verifies."""


@contextmanager
def reading(audit_dir: Path) -> Iterator[bool]:
    """Whether it is sure that no evidence is removed meanwhile.

    Makes no file: where none is, nothing was ever removed here. But the first to remove something may come now.
    """
    try:
        descriptor = opened(audit_dir / LOCK_NAME)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield True
    finally:
        os.close(descriptor)


@contextmanager
def removing(audit_dir: Path) -> Iterator[None]:
    """The right to remove. Raises AtWork."""
    descriptor = os.open(audit_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AtWork(
                "the evidence is being verified or pruned by another process", next_step="try again in a moment"
            ) from error
        os.utime(descriptor)
        yield
    finally:
        os.close(descriptor)


def look_is_due(audit_dir: Path, every_s: float) -> bool:
    """Whether nobody has looked for `every_s` seconds. Where nobody ever has, the time begins to run now."""
    path = audit_dir / LOCK_NAME
    try:
        # A time that is still to come is of a clock that was wrong: waiting for it would keep everything until then.
        return not 0.0 <= time.time() - path.stat().st_mtime <= every_s
    except FileNotFoundError:
        with suppress(OSError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError:
        pass
    return False
