"""Archives of strangers, unpacked so that nothing lands outside a fresh directory.

ZIP (stored and deflated), tar and tar.gz, told apart by their first bytes. Refused, each with its own error:

- names that are absolute, climb (`..`), hold a backslash, a drive letter, a NUL, a control or hidden character,
  or are not UTF-8 (a ZIP name beyond ASCII needs the UTF-8 flag: without it readers disagree on the name);
- two members for one path, also where only case or Unicode normalisation tells them apart, and a member below a file;
- symbolic links that leave the archive or pass through another link; all hard links, devices, pipes, sparse files;
- encrypted members, other compression methods, ZIP members that share bytes, members after which data do not verify;
- more than `Limits` says in entries, bytes, depth or ratio. Sizes are counted while unpacking, never believed.

Files get mode 0644, or 0755 where the archive says executable; directories 0755; nothing is set-id; owners and times
are the reader's own.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, NoReturn, TypeAlias, cast

from callgate.errors import TrustError
from callgate.text import hidden_at, visible

MIB = 1024 * 1024
_CHUNK = 256 * 1024
_SMALL = 8 * MIB
"""Below this size no ratio makes a bomb."""
_HEADER_BYTES = MIB
"""The longest extended tar header that is read into memory."""

Kind: TypeAlias = Literal["file", "directory", "link"]
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, ValueError, RecursionError)


@dataclass(frozen=True, slots=True)
class Limits:
    """The most an archive may hold. `ratio` is unpacked to packed bytes, of the whole archive."""

    entries: int = 50_000
    total_bytes: int = 1024 * MIB
    entry_bytes: int = 512 * MIB
    archive_bytes: int = 512 * MIB
    depth: int = 40
    path_bytes: int = 1024
    ratio: int = 250


@dataclass(frozen=True, slots=True)
class Member:
    """One entry: its path with `/`, its size in bytes, and a link's target."""

    path: str
    kind: Kind
    size: int = 0
    executable: bool = False
    target: str = ""


@dataclass(slots=True)
class _Raw:
    """A member as the archive has it, before judgement."""

    name: str
    kind: Kind
    size: int
    mode: int
    open: Callable[[], IO[bytes]]
    target: str = ""


def unpack(source: Path | bytes, into: Path, limits: Limits | None = None, *, strip: int = 0) -> tuple[Member, ...]:
    """Unpack an archive into `into`, which must not exist and is removed again when anything is refused.

    `strip` leaves out that many leading components (1 for npm's `package/`); every member must have them.
    Raises TrustError. Members come in the archive's order, with final paths.
    """
    limits = limits or Limits()
    try:
        into.mkdir(mode=0o755)
    except OSError as error:
        raise TrustError(
            f"cannot unpack into {visible(str(into), 300)}: {error.strerror}", next_step="name a directory that is new"
        ) from error
    try:
        with _opened(source, limits) as file:
            found = tuple(_unpack(file, into, limits, strip))
        for path, target in _links(found).items():
            # Links come last, so that no file is ever written through one.
            (into / path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            os.symlink(target, into / path)
    except BaseException:
        shutil.rmtree(into, ignore_errors=True)
        raise
    return found


def members(source: Path | bytes, limits: Limits | None = None) -> tuple[Member, ...]:
    """What an archive holds, under the same rules, with every byte read and nothing written. Raises TrustError."""
    limits = limits or Limits()
    with _opened(source, limits) as file:
        found = tuple(_unpack(file, None, limits, 0))
    _links(found)
    return found


def _refuse(what: str, next_step: str = "do not use this archive; get it again from its publisher") -> NoReturn:
    raise TrustError(what, effect="nothing was unpacked", next_step=next_step)


def _opened(source: Path | bytes, limits: Limits) -> IO[bytes]:
    if isinstance(source, bytes):
        if len(source) > limits.archive_bytes:
            _refuse(f"the archive is larger than {limits.archive_bytes} bytes")
        return io.BytesIO(source)
    shown = visible(str(source), 300)
    try:
        state = os.stat(source)
        if not stat.S_ISREG(state.st_mode):
            _refuse(f"{shown} is not a file", "name an archive")
        if state.st_size > limits.archive_bytes:
            _refuse(f"{shown} is larger than {limits.archive_bytes} bytes")
        return open(source, "rb")
    except OSError as error:
        raise TrustError(f"cannot read {shown}: {error.strerror}", next_step="check the path") from error


def _unpack(file: IO[bytes], into: Path | None, limits: Limits, strip: int) -> Iterator[Member]:
    packed = file.seek(0, os.SEEK_END)
    file.seek(0)
    paths = _Paths(limits, strip)
    total = 0
    try:
        for raw in _entries(file, limits):
            path = paths.admit(raw)
            if not path:
                continue  # the stripped top directory itself
            size = 0
            if raw.kind == "file":
                allowed = min(limits.entry_bytes, limits.total_bytes - total)
                with raw.open() as content:
                    size = _copy(content, into / path if into else None, raw.mode, allowed, path)
                total += size
                if total > _SMALL and total > packed * limits.ratio:
                    _refuse(f"the archive unpacks to more than {limits.ratio} times its size")
            elif raw.kind == "directory" and into:
                (into / path).mkdir(mode=0o755, parents=True, exist_ok=True)
            executable = raw.kind == "file" and bool(raw.mode & 0o111)
            yield Member(path, raw.kind, size, executable, raw.target)
    except _DAMAGED as error:
        _refuse(f"the archive is damaged: {visible(str(error) or type(error).__name__, 200)}")
    except OSError as error:
        raise TrustError(f"cannot unpack: {error.strerror or error}", next_step="check the disk") from error


def _copy(content: IO[bytes], target: Path | None, mode: int, allowed: int, path: str) -> int:
    """Write one file of at most `allowed` bytes; returns how many."""
    descriptor = -1
    if target is not None:
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(target, flags, 0o755 if mode & 0o111 else 0o644)
    size = 0
    try:
        while chunk := content.read(_CHUNK):
            size += len(chunk)
            if size > allowed:
                _refuse(f"'{visible(path, 200)}' makes the archive unpack to more than is allowed")
            if descriptor >= 0:
                view = memoryview(chunk)
                while view:
                    view = view[os.write(descriptor, view) :]
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return size


def _links(found: tuple[Member, ...]) -> dict[str, str]:
    """The links of an archive by path. Refuses those that leave it."""
    links = {member.path: member.target for member in found if member.kind == "link"}
    for path, target in links.items():
        reached = _inside(path, target, links)
        if reached:
            _refuse(f"the link '{visible(path, 200)}' to '{visible(target, 200)}' {reached}")
    return links


def _inside(path: str, target: str, links: Mapping[str, str]) -> str:
    """Why a relative link does not stay in the archive; '' when it does. No step may pass through another link."""
    if target.startswith("/") or "\\" in target or "\0" in target or not target:
        return "leads out of the archive"
    place = path.split("/")[:-1]
    for part in target.split("/"):
        if "/".join(place) in links:
            return "passes through another link"
        if part == "..":
            if not place:
                return "leads out of the archive"
            place.pop()
        elif part not in ("", "."):
            place.append(part)
    return ""


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


class _Paths:
    """The paths so far, and what a further one may not be."""

    def __init__(self, limits: Limits, strip: int) -> None:
        self._limits = limits
        self._strip = strip
        self._kinds: dict[str, Kind] = {}
        self._spelt: dict[str, str] = {}
        self._written: set[str] = set()
        self._count = 0

    def admit(self, raw: _Raw) -> str:
        """The path a member is written to; '' for a directory that is stripped away whole."""
        self._count += 1
        if self._count > self._limits.entries:
            _refuse(f"the archive has more than {self._limits.entries} entries")
        path = self._checked(raw.name)
        if not path:
            if raw.kind != "directory":
                _refuse(f"'{visible(raw.name, 200)}' is not below the {self._strip} directories to leave out")
            return ""
        for parent in _parents(path):
            self._claim(parent, "directory")
        self._claim(path, raw.kind)
        if len(self._kinds) > 2 * self._limits.entries:
            _refuse(f"the archive makes more than {self._limits.entries} directories")
        return path

    def _claim(self, path: str, kind: Kind) -> None:
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
        spelt = self._spelt.setdefault(key, path)
        if spelt != path:
            _refuse(f"'{visible(path, 200)}' and '{visible(spelt, 200)}' are one path on some systems")
        before = self._kinds.setdefault(path, kind)
        if before != kind:
            _refuse(f"'{visible(path, 200)}' is a {before} and a {kind}")
        if kind != "directory":
            if path in self._written:
                _refuse(f"'{visible(path, 200)}' is in the archive twice")
            self._written.add(path)

    def _checked(self, name: str) -> str:
        shown = visible(name, 200)
        if len(name.encode("utf-8", "surrogatepass")) > self._limits.path_bytes:
            _refuse(f"the name '{visible(name, 60)}' is longer than {self._limits.path_bytes} bytes")
        if any("\ud800" <= char <= "\udfff" for char in name):
            _refuse(f"the name '{shown}' is not UTF-8")
        if any(hidden_at(name, index) for index in range(len(name))) or any(ord(char) < 32 for char in name):
            _refuse(f"the name '{shown}' holds characters that cannot be seen")
        if "\\" in name:
            _refuse(f"the name '{shown}' holds a backslash, which some systems take for a separator")
        if name.startswith("/") or name[1:2] == ":":
            _refuse(f"the name '{shown}' is absolute")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            _refuse(f"the name '{shown}' climbs out of the archive")
        if len(parts) > self._limits.depth:
            _refuse(f"the name '{visible(name, 60)}' is more than {self._limits.depth} levels deep")
        if any(len(part.encode()) > 255 for part in parts):
            _refuse(f"the name '{visible(name, 60)}' has a part longer than 255 bytes")
        return "/".join(parts[self._strip :])


def _entries(file: IO[bytes], limits: Limits) -> Iterator[_Raw]:
    start = file.read(512)
    file.seek(0)
    if start.startswith(b"PK\x03\x04"):
        yield from _zip(file, limits)
    elif start.startswith(b"\x1f\x8b"):
        yield from _gzip(file, limits)
    elif start[257:262] == b"ustar":
        yield from _tar(file, limits)
    elif start.startswith(b"PK\x05\x06"):
        return  # an empty ZIP
    else:
        _refuse("this is neither a ZIP nor a tar archive", "name an archive")


def _zip(file: IO[bytes], limits: Limits) -> Iterator[_Raw]:
    end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if end is None or end[5] > limits.entries * 128 + MIB:
        _refuse("the archive's directory is missing, or too large to read")
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        if len(infos) > limits.entries:
            _refuse(f"the archive has more than {limits.entries} entries")
        _no_overlap(infos)
        for info in infos:
            name = info.orig_filename
            shown = visible(name, 200)
            if info.flag_bits & 0x41:
                _refuse(f"'{shown}' is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                _refuse(f"'{shown}' is compressed in a way that is not read (method {info.compress_type})")
            if not name.isascii() and not info.flag_bits & 0x800:
                _refuse(f"the name '{shown}' is not marked as UTF-8")
            if info.file_size > limits.entry_bytes:
                _refuse(f"'{shown}' says it is larger than {limits.entry_bytes} bytes")
            mode = info.external_attr >> 16
            kind: Kind = "directory" if name.endswith("/") else "file"
            target = ""
            form = stat.S_IFMT(mode)
            if form == stat.S_IFLNK:
                kind, target = "link", _link_text(archive, info)
            elif form and form not in (stat.S_IFREG, stat.S_IFDIR):
                _refuse(f"'{shown}' is neither a file, a directory nor a link")

            def opened(info: zipfile.ZipInfo = info) -> IO[bytes]:
                return archive.open(info)

            yield _Raw(name, kind, info.file_size, mode, opened, target)


def _link_text(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    with archive.open(info) as content:
        data = content.read(4097)
    try:
        return data.decode() if len(data) <= 4096 else ""
    except UnicodeDecodeError:
        return ""


def _no_overlap(infos: list[zipfile.ZipInfo]) -> None:
    """Members that share bytes make a small file unpack to a huge one."""
    end = 0
    for info in sorted(infos, key=lambda one: one.header_offset):
        if info.header_offset < end:
            _refuse(f"'{visible(info.filename, 200)}' shares its bytes with another member")
        end = info.header_offset + 30 + len(info.orig_filename.encode("utf-8", "surrogatepass")) + info.compress_size


def _gzip(file: IO[bytes], limits: Limits) -> Iterator[_Raw]:
    """A tar.gz, unpacked to a temporary file first: its size is known before tar's own tricks are met."""
    packed = file.seek(0, os.SEEK_END)
    file.seek(0)
    # Headers and padding come on top of the contents.
    allowed = limits.total_bytes + limits.entries * 1536 + MIB
    with tempfile.TemporaryFile() as plain:
        stream = zlib.decompressobj(wbits=31)
        size = 0
        while chunk := file.read(_CHUNK):
            while chunk:
                piece = stream.decompress(chunk, _CHUNK)
                size += len(piece)
                if size > allowed or (size > _SMALL and size > packed * limits.ratio):
                    _refuse(f"the archive unpacks to more than is allowed ({limits.ratio} times its size)")
                plain.write(piece)
                chunk = stream.unconsumed_tail
            if stream.eof:
                break
        if not stream.eof:
            _refuse("the archive is damaged: it ends too soon")
        if stream.unused_data.strip(b"\0") or file.read(1).strip(b"\0"):
            _refuse("something follows the compressed data")
        plain.seek(0)
        yield from _tar(cast("IO[bytes]", plain), limits)


class _Bounded(io.RawIOBase):
    """A file of which a tar reader can read neither too much at once nor the same bytes for ever."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._left = 2 * file.seek(0, os.SEEK_END) + MIB
        file.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET and offset < 0:
            raise tarfile.ReadError("a negative size")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or size > _HEADER_BYTES:
            raise tarfile.ReadError("a header of more than a MiB")
        data = self._file.read(size)
        self._left -= max(len(data), 64)
        if self._left < 0:
            raise tarfile.ReadError("it leads in circles")
        return data


def _tar(file: IO[bytes], limits: Limits) -> Iterator[_Raw]:
    with tarfile.open(fileobj=cast("IO[bytes]", _Bounded(file)), mode="r:", errorlevel=2, encoding="utf-8") as archive:
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # a list of all would only cost memory
            name, shown = info.name, visible(info.name, 200)
            if info.size < 0:
                _refuse(f"'{shown}' has a negative size")
            kind: Kind
            if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not _sparse(info):
                kind = "file"
            elif info.isdir():
                kind = "directory"
            elif info.issym():
                kind = "link"
            else:
                _refuse(f"'{shown}' is neither a file, a directory nor a symbolic link")
            if kind == "file" and info.size > limits.entry_bytes:
                _refuse(f"'{shown}' says it is larger than {limits.entry_bytes} bytes")

            def opened(info: tarfile.TarInfo = info) -> IO[bytes]:
                return cast("IO[bytes]", archive.extractfile(info))

            yield _Raw(name, kind, info.size, info.mode, opened, info.linkname if kind == "link" else "")


def _sparse(info: tarfile.TarInfo) -> bool:
    return info.sparse is not None or any(key.startswith("GNU.sparse") for key in info.pax_headers)
