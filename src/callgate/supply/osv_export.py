"""OSV exports: `all.zip` of an ecosystem, a directory of ZIPs or of records, or one record. All within limits."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from callgate.errors import TrustError
from callgate.text import visible

RECORD_BYTES: Final = 8 * 1024 * 1024
MOST_RECORDS: Final = 2_000_000
TOTAL_BYTES: Final = 16 * 1024 * 1024 * 1024
EXPORT_BYTES: Final = 4 * 1024 * 1024 * 1024
_DIRECTORY_BYTES: Final = 256 * 1024 * 1024
"""Of the ZIP's own directory."""


def records(export: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every record, within the limits."""
    shown = visible(str(export), 300)
    total = 0
    for count, (name, data) in enumerate(_files(export), 1):
        total += len(data)
        if count > MOST_RECORDS or total > TOTAL_BYTES:
            raise TrustError(f"{shown} holds more than an export can", next_step="check where it came from")
        yield name, data


def _files(export: Path) -> Iterator[tuple[str, bytes]]:
    if export.is_dir():
        for folder, directories, names in os.walk(export):
            directories.sort()
            for name in sorted(names):
                if name.endswith((".json", ".zip")):
                    yield from _file(Path(folder) / name)
    else:
        yield from _file(export)


def _file(path: Path) -> Iterator[tuple[str, bytes]]:
    shown = visible(str(path), 300)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > EXPORT_BYTES:
                raise TrustError(f"{shown} is no file, or larger than an export", next_step="name an OSV export")
            if path.suffix == ".json":
                yield path.name, file.read(RECORD_BYTES + 1)
            else:
                yield from _zip(file, shown)
    except OSError as error:
        raise TrustError(f"cannot read {shown}: {error.strerror}", next_step="check the path") from error


def _zip(file: Any, shown: str) -> Iterator[tuple[str, bytes]]:
    try:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
        if end is None or end[5] > _DIRECTORY_BYTES:
            raise TrustError(f"{shown} is no ZIP, or its directory is too large", next_step="name an OSV export")
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                if info.is_dir() or not info.filename.endswith(".json"):
                    continue
                with archive.open(info) as content:
                    yield info.filename, content.read(RECORD_BYTES + 1)  # never more, whatever it says of itself
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise TrustError(f"{shown} is damaged: {visible(str(error), 100)}", next_step="download it again") from error
