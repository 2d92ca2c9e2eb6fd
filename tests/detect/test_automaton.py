"""One scan, all patterns; a cache that is never trusted blindly; three engines that agree."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import hyperscan
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.detect import automaton
from callgate.detect.automaton import ENGINES, NO_HITS, Automaton, Engine
from callgate.errors import CallgateError

PATTERNS = [
    ("word", rb"hello"),
    ("bytes", rb"\xe2\x80[\xaa-\xae]"),
    ("backspace", rb"[^\\](\\\\)*\\b"),
    ("end", rb"bye$"),
]


def build(engine: Engine) -> Automaton:
    if engine == "re2":
        pytest.importorskip("re2", reason="google-re2 is not installed")
    return Automaton(PATTERNS, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_finds_each_pattern_once_and_in_order(engine: Engine) -> None:
    scan = build(engine).scan
    assert scan(b"nothing") is NO_HITS
    assert scan(b"") is NO_HITS
    assert scan(b"hello hello") == (0,)
    assert scan("a\u202eb hello".encode()) == (0, 1)
    assert scan(rb'"\b"') == (2,)
    assert scan(rb'"\\b"') is NO_HITS
    assert scan(rb'"\\\b"') == (2,)
    assert scan(b"hello \xe2\x80\xad bye") == (0, 1, 3)
    assert scan(b"nothing") is NO_HITS


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([b"hello", b"\\", b"b", b'"', b"\xe2\x80", b"\xab", b"bye", b"\n", b"x"])))
def test_engines_agree(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    expected = AGREEING[0].scan(data)
    assert all(other.scan(data) == expected for other in AGREEING[1:])


AGREEING = [Automaton(PATTERNS, engine=engine) for engine in ("re", "hyperscan")]


def test_default_is_hyperscan_here() -> None:
    assert Automaton(PATTERNS).engine == "hyperscan"


def test_falls_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hyperscan", None)
    monkeypatch.setitem(sys.modules, "re2", None)
    assert Automaton(PATTERNS).engine == "re"


def test_no_patterns_find_nothing() -> None:
    assert Automaton([]).scan(b"anything") is NO_HITS


@pytest.mark.parametrize("engine", ENGINES)
def test_a_refused_pattern_is_named(engine: Engine) -> None:
    if engine == "re2":
        pytest.importorskip("re2", reason="google-re2 is not installed")
    with pytest.raises(CallgateError, match="pattern broken cannot be compiled"):
        Automaton([("fine", b"a"), ("broken", b"(b")], engine=engine)


def test_look_around_is_refused() -> None:
    with pytest.raises(CallgateError, match="pattern behind cannot be compiled"):
        Automaton([("behind", rb"(?<=a)b")])


def test_duplicate_name_is_refused() -> None:
    with pytest.raises(CallgateError, match="named twice: same"):
        Automaton([("same", b"a"), ("same", b"b")])


def test_hits_do_not_leak_from_a_failed_scan() -> None:
    scan = Automaton(PATTERNS).scan
    with pytest.raises(TypeError):
        scan(None)  # type: ignore[arg-type]
    assert scan(b"nothing") is NO_HITS


class TestCache:
    def test_second_start_does_not_compile(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        cache = tmp_path / "cache"
        Automaton(PATTERNS, cache_dir=cache)
        (file,) = cache.iterdir()
        assert cache.stat().st_mode & 0o777 == 0o700
        assert file.stat().st_mode & 0o777 == 0o600

        monkeypatch.setattr(automaton, "_compile", forbidden)
        assert Automaton(PATTERNS, cache_dir=cache).scan(b"say hello") == (0,)

    def test_other_patterns_have_another_file(self, tmp_path: Path) -> None:
        Automaton(PATTERNS, cache_dir=tmp_path / "c")
        assert Automaton(PATTERNS[:1], cache_dir=tmp_path / "c").scan(b"bye") is NO_HITS
        assert len(list((tmp_path / "c").iterdir())) == 2

    @pytest.mark.parametrize(
        "content", [b"", b"rubbish" * 100, b"CGHSDB1\n" + bytes(32) + b"x" * 1000], ids=["empty", "rubbish", "digest"]
    )
    def test_a_corrupt_file_is_replaced(self, tmp_path: Path, content: bytes) -> None:
        cache = tmp_path / "cache"
        Automaton(PATTERNS, cache_dir=cache)
        (file,) = cache.iterdir()
        good = file.read_bytes()
        file.write_bytes(content)
        assert Automaton(PATTERNS, cache_dir=cache).scan(b"say hello") == (0,)
        assert file.read_bytes() == good
        assert [path.name for path in cache.iterdir()] == [file.name]

    def test_a_well_signed_file_that_is_no_database_is_replaced(self, tmp_path: Path) -> None:
        import hashlib

        cache = tmp_path / "cache"
        Automaton(PATTERNS, cache_dir=cache)
        (file,) = cache.iterdir()
        good = file.read_bytes()
        file.write_bytes(b"CGHSDB1\n" + hashlib.sha256(b"no database").digest() + b"no database")
        assert Automaton(PATTERNS, cache_dir=cache).scan(b"say hello") == (0,)
        assert file.read_bytes() == good

    def test_a_file_others_can_write_is_not_trusted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        cache = tmp_path / "cache"
        Automaton(PATTERNS, cache_dir=cache)
        (file,) = cache.iterdir()
        file.chmod(0o666)
        assert compiled(monkeypatch, cache)

    def test_a_directory_others_can_write_is_not_trusted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        cache = tmp_path / "cache"
        Automaton(PATTERNS, cache_dir=cache)
        cache.chmod(0o777)
        assert compiled(monkeypatch, cache)

    def test_a_link_is_not_followed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        cache = tmp_path / "cache"
        Automaton(PATTERNS, cache_dir=cache)
        (file,) = cache.iterdir()
        elsewhere = tmp_path / "elsewhere"
        file.rename(elsewhere)
        file.symlink_to(elsewhere)
        assert compiled(monkeypatch, cache)

    def test_a_directory_that_cannot_be_written_is_no_error(self, tmp_path: Path) -> None:
        blocked = tmp_path / "file"
        blocked.write_text("in the way")
        assert Automaton(PATTERNS, cache_dir=blocked / "cache").scan(b"say hello") == (0,)


def forbidden(*args: object) -> None:
    raise AssertionError("compiled although a database was there")


def compiled(monkeypatch: pytest.MonkeyPatch, cache: Path) -> bool:
    calls: list[int] = []
    real = automaton._compile

    def counting(patterns: object) -> object:
        calls.append(1)
        return real(patterns)  # type: ignore[arg-type]

    monkeypatch.setattr(automaton, "_compile", counting)
    assert Automaton(PATTERNS, cache_dir=cache).scan(b"say hello") == (0,)
    return bool(calls)


def test_a_scan_from_two_threads_never_answers_wrongly() -> None:
    scan = Automaton(PATTERNS).scan
    wrong: list[object] = []

    def work(data: bytes, expected: tuple[int, ...]) -> None:
        for _ in range(2000):
            try:
                found = scan(data)
            except hyperscan.error:  # scratch in use: refused, not wrong
                continue
            if not set(expected) <= set(found):
                wrong.append(found)

    threads = [threading.Thread(target=work, args=arguments) for arguments in ((b"hello", (0,)), (b"hello" * 9, (0,)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_scans() -> None:
    scan = Automaton(PATTERNS).scan
    child = os.fork()
    if child == 0:
        os._exit(0 if scan(b"hello") == (0,) and scan(b"x") == () else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_scan_is_cheap() -> None:
    scan = Automaton(PATTERNS).scan
    data = b"x" * 200
    best = 1.0
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(2000):
            scan(data)
        best = min(best, (time.perf_counter() - start) / 2000)
    assert best < 20e-6  # about 0.3 µs on an idle machine
