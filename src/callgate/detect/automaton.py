"""All byte patterns of all controls as one automaton, run once over each serialised message.

Hyperscan (Vectorscan) in block mode: linear time on any input, about 0.3 µs for a 200-byte message that hits
nothing and a few µs for 20 KB. Compiling takes tens of milliseconds, loading the serialised database
microseconds, so the database is kept in a private directory (`database_cache`).

Where hyperscan has no wheel, google-re2 serves (linear as well), and where that is missing too, the standard
library's `re`, one search a pattern: correct, 50 to 500 times slower, and only as linear as the patterns are
(a test holds every registered pattern to that).

Threads and processes: the automaton owns one scratch space, so one thread may scan at a time; a second one
gets an error from Hyperscan, never a wrong answer. A forked child has its own copy and may go on scanning.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from callgate.errors import CallgateError

Engine: TypeAlias = Literal["hyperscan", "re2", "re"]
Scan: TypeAlias = Callable[[bytes], tuple[int, ...]]

ENGINES: Final[tuple[Engine, ...]] = ("hyperscan", "re2", "re")
NO_HITS: Final[tuple[int, ...]] = ()


class Automaton:
    """One database over `patterns`, a sequence of (name, expression); ids are positions in it.

    `scan(data)` returns the sorted ids of the patterns found, `NO_HITS` for none. `cache_dir` is a private
    directory for the compiled database (made with mode 0700 if missing); None compiles each time. `engine`
    forces one; the default takes the first of `ENGINES` that is installed.

    Raises CallgateError for a duplicate name and for an expression the engine refuses.
    """

    __slots__ = ("engine", "names", "scan")

    engine: Engine
    names: tuple[str, ...]
    scan: Scan

    def __init__(
        self,
        patterns: Sequence[tuple[str, bytes]],
        cache_dir: Path | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.names = tuple(name for name, _ in patterns)
        if len(set(self.names)) != len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise CallgateError(f"patterns named twice: {', '.join(twice)}", next_step="give each pattern its own name")
        self.engine = engine or _installed()
        if not patterns:
            self.scan = _nothing
        elif self.engine == "hyperscan":
            self.scan = _hyperscan(patterns, cache_dir)
        elif self.engine == "re2":
            self.scan = _re2(patterns)
        else:
            self.scan = _re(patterns)


def _installed() -> Engine:
    for engine in ENGINES[:-1]:
        try:
            importlib.import_module(engine)
        except ImportError:
            continue
        return engine
    return "re"


def _nothing(_data: bytes) -> tuple[int, ...]:
    return NO_HITS


def _refused(name: str, reason: object) -> CallgateError:
    return CallgateError(
        f"pattern {name} cannot be compiled: {reason}",
        effect="nothing was started",
        next_step="write it without look-around, back-references and empty matches",
    )


def _hyperscan(patterns: Sequence[tuple[str, bytes]], cache_dir: Path | None) -> Scan:
    import hyperscan

    database: Any = None
    store = None
    if cache_dir is not None:
        from callgate.detect.database_cache import DatabaseCache

        store = DatabaseCache(cache_dir, patterns, _version(hyperscan))
        stored = store.read()
        if stored is not None:
            try:
                database = hyperscan.loadb(stored, mode=hyperscan.HS_MODE_BLOCK)
            except hyperscan.error:  # another CPU or library build: compile for this one
                database = None
    if database is None:
        database = _compile(patterns)
        if store is not None:
            store.write(hyperscan.dumpb(database))
    database.scratch = hyperscan.Scratch(database)
    return _collector(database.scan)


def _version(module: Any) -> str:
    return str(module.__version__)


def _compile(patterns: Sequence[tuple[str, bytes]]) -> Any:
    import hyperscan

    def build(some: Sequence[tuple[str, bytes]]) -> Any:
        database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        database.compile(
            expressions=[expression for _, expression in some],
            ids=list(range(len(some))),
            elements=len(some),
            flags=[hyperscan.HS_FLAG_SINGLEMATCH] * len(some),
        )
        return database

    try:
        return build(patterns)
    except hyperscan.error as error:
        for pattern in patterns:
            try:
                build([pattern])
            except hyperscan.error as reason:
                raise _refused(pattern[0], reason) from reason
        raise _refused("set", error) from error


def _collector(search: Callable[..., Any]) -> Scan:
    def on_match(pattern: int, _start: int, _end: int, _flags: int, found: list[int]) -> None:
        found.append(pattern)

    def scan(data: bytes) -> tuple[int, ...]:
        found: list[int] = []  # of this scan alone: two threads must not take each other's hits
        search(data, on_match, 0, found)
        return tuple(sorted(found)) if found else NO_HITS

    return scan


def _re2(patterns: Sequence[tuple[str, bytes]]) -> Scan:
    re2: Any = importlib.import_module("re2")  # optional, without types

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1  # bytes as they are
    options.log_errors = False
    options.max_mem = 64 * 1024 * 1024
    collection = re2.Set.SearchSet(options)
    for name, expression in patterns:
        try:
            collection.Add(expression)
        except re2.error as error:
            raise _refused(name, error) from error
    collection.Compile()
    match = collection.Match

    def scan(data: bytes) -> tuple[int, ...]:
        found = match(data)  # None, not [], when nothing matched
        return tuple(sorted(found)) if found else NO_HITS

    return scan


def _re(patterns: Sequence[tuple[str, bytes]]) -> Scan:
    import re

    searches: list[Callable[[bytes], object]] = []
    for name, expression in patterns:
        try:
            searches.append(re.compile(expression).search)
        except re.error as error:
            raise _refused(name, error) from error

    def scan(data: bytes) -> tuple[int, ...]:
        found = tuple(index for index, search in enumerate(searches) if search(data))
        return found or NO_HITS

    return scan
