"""Files of callgate's own, written whole or not at all, and JSON from outside read strictly."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jiter

from callgate.errors import TrustError
from callgate.text import visible

JSON_BYTES = 16 * 1024 * 1024


def write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put `data` at `path` atomically: after a crash the old or the new content is there. Raises TrustError."""
    beside = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(beside, flags, mode)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            os.replace(beside, path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise TrustError(
            f"cannot write {visible(str(path), 300)}: {error.strerror}",
            effect="nothing was changed",
            next_step="check the disk and the directory's permissions",
        ) from error


def read(path: Path, limit: int = JSON_BYTES, what: str = "file") -> bytes:
    """At most `limit` bytes of a regular file. Raises TrustError for a missing, unreadable or larger one."""
    shown = visible(str(path), 300)
    try:
        # Non-blocking, so that a named pipe in the place of a file does not hang the reader.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        raise TrustError(f"there is no {what} {shown}", next_step="check the path") from error
    except OSError as error:
        raise TrustError(f"cannot read {what} {shown}: {error.strerror}", next_step="check its permissions") from error
    if len(data) > limit:
        raise TrustError(f"{what} {shown} is larger than {limit} bytes", next_step="check where it came from")
    return data


def parse_object(data: bytes, what: str, limit: int = JSON_BYTES) -> dict[str, Any]:
    """A JSON object (RFC 8259): UTF-8, no duplicate member, no NaN. Raises TrustError naming `what`."""
    if len(data) > limit:
        raise TrustError(f"{what} is larger than {limit} bytes", next_step="check where it came from")
    try:
        value = jiter.from_json(data, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise TrustError(
            f"{what} is not strict JSON: {visible(str(error), 200)}", next_step="get it again from its source"
        ) from error
    if not isinstance(value, dict):
        raise TrustError(f"{what} is not a JSON object", next_step="get it again from its source")
    return value
