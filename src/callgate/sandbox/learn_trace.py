"""What `strace -ff -ttt -qq -xx -y` wrote, as facts: which files were read, written, started, which peers asked for.

Every byte of it may come from a hostile program: strings are hexadecimal there (`-xx`), so nothing in them can end a
field; lines, files and results are limited.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

TRACED = "trace=%file,connect"
OPTIONS = ("-ff", "-ttt", "-qq", "-xx", "-y", "-s", "4096", "-e", TRACED, "-e", "signal=none")
MAX_BYTES = 64 * 1024 * 1024
"""Of all files together; what lies beyond is not read, and `Trace.cut` says so."""
MAX_LINE = 32 * 1024
MAX_FACTS = 20_000
_WORDS = 4
_WRITING = frozenset(
    [
        "mkdir",
        "mkdirat",
        "rename",
        "renameat",
        "renameat2",
        "unlink",
        "unlinkat",
        "rmdir",
        "link",
        "linkat",
        "symlink",
        "symlinkat",
        "truncate",
        "creat",
        "mknod",
        "mknodat",
        "chmod",
        "fchmodat",
        "chown",
        "fchownat",
        "lchown",
        "utimensat",
    ]
)
_TWO_PATHS = frozenset({"rename", "renameat", "renameat2", "link", "linkat"})
_LINKS = frozenset({"symlink", "symlinkat"})
_WRITE_FLAGS = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC")
_REFUSED = ("EACCES", "EPERM", "EROFS")


@dataclass(slots=True)
class Trace:
    """Facts of one run. Paths are absolute and normal; a refused one was asked for and not given."""

    read: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    started: set[str] = field(default_factory=set)
    refused_read: set[str] = field(default_factory=set)
    refused_write: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    """Asked for and not there, as the server saw it."""
    missing_write: set[str] = field(default_factory=set)
    """The same, to be written."""
    peers: set[str] = field(default_factory=set)
    """`address:port` and `unix:path`."""
    cut: bool = False


def read_traces(folder: str, argv: Sequence[str]) -> Trace:
    """All of a run's files. What the sandbox did before `argv` was started does not count."""
    trace = Trace()
    files = [os.path.join(folder, name) for name in os.listdir(folder)]
    begin, own = _begin(files, argv)
    left = MAX_BYTES
    for path in sorted(files):
        first = True
        for stamp, line in _lines(path):
            left -= len(line)
            if left < 0 or len(trace.read) > MAX_FACTS or len(trace.missing) > MAX_FACTS:
                trace.cut = True
                return trace
            if first and path != own and stamp < begin:
                break  # a process of the sandbox itself
            first = False
            if stamp >= begin:
                _take(trace, line)
    return trace


def _begin(files: list[str], argv: Sequence[str]) -> tuple[float, str]:
    """When and by which process the server itself was started; at once where that was not seen.

    Its first words are compared: what confines it may be the same interpreter.
    """
    programs, words = {argv[0], os.path.realpath(argv[0])}, list(argv[1:_WORDS])
    for path in files:
        for stamp, line in _lines(path):
            if line.startswith("execve(") and line.rstrip().endswith(" = 0"):
                strings = _strings(line)
                if strings and strings[0] in programs and strings[2 : 1 + _WORDS][: len(words)] == words:
                    return stamp, path
    return 0.0, ""


def _lines(path: str) -> Iterator[tuple[float, str]]:
    with open(path, encoding="ascii", errors="replace") as file:
        while line := file.readline(MAX_LINE):
            stamp, _, rest = line.partition(" ")
            try:
                yield float(stamp), rest
            except ValueError:
                continue  # the rest of an overlong line


def _take(trace: Trace, line: str) -> None:
    name, bracket, rest = line.partition("(")
    arguments, equals, result = rest.rpartition(") = ")
    if not bracket or not equals:
        return
    if name == "connect":
        peer = _peer(arguments)
        if peer:
            trace.peers.add(peer)
        return
    strings = _strings(arguments)
    if name in _LINKS:
        strings = strings[1:]  # the first one is text, not a path
    failed = result.startswith("-1 ")
    error = result.split(" ", 2)[1] if failed else ""
    writes = name in _WRITING or (name.startswith("open") and any(flag in arguments for flag in _WRITE_FLAGS))
    for place, text in enumerate(strings[: 2 if name in _TWO_PATHS else 1]):
        path = _absolute(arguments, text, place)
        if not path:
            continue
        if error in _REFUSED:
            (trace.refused_write if writes else trace.refused_read).add(path)
        elif error == "ENOENT":
            (trace.missing_write if writes else trace.missing).add(path)
        elif failed:
            continue
        elif name == "execve":
            trace.started.add(path)
        elif writes:
            trace.written.add(path)
        elif name.startswith("open"):
            trace.read.add(path)


def _absolute(arguments: str, text: str, place: int) -> str:
    if text.startswith("/"):
        return os.path.normpath(text)
    folders = [_plain(part.partition(">")[0]) for part in arguments.split("<")[1:]]
    if text and len(folders) > place and folders[place].startswith("/"):
        return os.path.normpath(os.path.join(folders[place], text))
    return ""


def _strings(arguments: str) -> list[str]:
    """The quoted strings, in order."""
    parts = arguments.split('"')
    return [_plain(parts[at]) for at in range(1, len(parts) - 1, 2)]


def _plain(text: str) -> str:
    r"""`\x2f\x61` as `/a`."""
    try:
        return os.fsdecode(bytes.fromhex(text.replace("\\x", "")))
    except ValueError:
        return ""


def _peer(arguments: str) -> str:
    if "sa_family=AF_UNIX" in arguments:
        strings = _strings(arguments)
        return f"unix:{strings[0]}" if strings and strings[0] else ""
    port = arguments.partition("port=htons(")[2].partition(")")[0]
    address = _strings(arguments)
    if "sa_family=AF_INET" not in arguments or not port.isdigit() or port == "0" or not address:
        return ""
    return f"[{address[-1]}]:{port}" if ":" in address[-1] else f"{address[-1]}:{port}"
