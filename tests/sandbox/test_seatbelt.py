from __future__ import annotations

import os
from pathlib import Path

import pytest

from callgate.errors import SandboxError
from callgate.sandbox import seatbelt
from callgate.sandbox.spec import Destination, Limits, Mount, SandboxSpec, SecretFile

SNAPSHOT = Path(__file__).parent / "seatbelt.sb"
SPEC = SandboxSpec(
    'files "one"', mounts=(Mount("/opt/store/pkg"), Mount("/srv/work", writable=True), Mount("/srv/work/.git/hooks"))
)


def text(spec: SandboxSpec = SPEC, port: int = 0) -> str:
    return seatbelt.profile_text(spec, "/srv/home", "/srv/tmp", port)


def test_the_profile_is_as_it_was_read() -> None:
    assert text(port=40123) == SNAPSHOT.read_text()


def test_everything_is_denied_first() -> None:
    lines = text().splitlines()
    assert lines[0] == "(version 1)"
    assert lines[1].startswith("(deny default ")
    assert not any(line in ("(allow file-read*)", "(allow network*)", "(allow default)") for line in lines)


def test_parentheses_are_even() -> None:
    depth, quoted, last = 0, False, ""
    for char in text():
        if char == '"' and last != "\\":
            quoted = not quoted
        if not quoted:
            depth += {"(": 1, ")": -1}.get(char, 0)
        assert depth >= 0
        last = "" if last == "\\" else char
    assert depth == 0 and not quoted


def test_without_a_gate_there_is_no_network() -> None:
    assert "(allow network" not in text()
    assert '(allow network-outbound (remote ip "localhost:40123"))' in text(port=40123)


def test_written_places_are_never_programs() -> None:
    lines = text().splitlines()
    denied = next(n for n, line in enumerate(lines) if line.startswith("(deny process-exec"))
    allowed = next(n for n, line in enumerate(lines) if line.startswith("(allow process-exec"))
    assert denied > allowed
    assert all(f'(subpath "{path}")' in lines[denied] for path in ("/srv/home", "/srv/tmp", "/srv/work"))


def test_what_is_read_only_inside_a_written_place_stays_and_cannot_be_moved() -> None:
    assert '(deny file-write* (subpath "/srv/work/.git/hooks"))' in text()
    assert '(deny file-write-unlink (literal "/srv/work/.git/hooks") (literal "/srv/work/.git"))' in text()


@pytest.mark.parametrize("path", ["/a\nb", "/" + "x" * 1100])
def test_paths_that_cannot_be_held_are_refused(path: str) -> None:
    with pytest.raises(SandboxError):
        text(SandboxSpec("x", mounts=(Mount(path),)))


def test_quotes_do_not_end_a_literal() -> None:
    assert '(subpath "/srv/a\\"b\\\\c")' in text(SandboxSpec("x", mounts=(Mount('/srv/a"b\\c'),)))


def test_elsewhere_it_says_so() -> None:
    if os.uname().sysname == "Darwin":
        assert seatbelt.SeatbeltBackend().probe().checks
    else:
        probe = seatbelt.SeatbeltBackend().probe()
        assert not probe.usable and "macOS" in probe.reason


def test_a_prepared_command(tmp_path: Path) -> None:
    spec = SandboxSpec("x", environment={"TOKEN": "s3cret"}, limits=Limits(file_bytes=1 << 20))
    wrapped = seatbelt.SeatbeltBackend().prepare(spec, ["/usr/bin/true"])
    assert wrapped.argv[:2] == ("/usr/bin/sandbox-exec", "-p")
    assert wrapped.argv[-1] == "/usr/bin/true"
    assert "RLIMIT_FSIZE=1048576" in wrapped.argv[-2]
    assert "s3cret" not in " ".join(wrapped.argv)
    temporary = wrapped.environment["TMPDIR"]
    assert os.path.isdir(temporary)
    assert wrapped.abandon is not None
    wrapped.abandon()
    assert not os.path.exists(temporary)


def test_the_limiter_limits_and_becomes_the_program() -> None:
    import subprocess
    import sys

    command = [sys.executable, "-I", "-S", "-c", seatbelt._LIMITER, seatbelt._limits(Limits(descriptors=77))]
    said = subprocess.run(
        [*command, "/bin/sh", "-c", "ulimit -n; ulimit -c"], capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == ["77", "0"]


def test_the_gate_is_the_only_way_out() -> None:
    spec = SandboxSpec("x", network=(Destination("api.example"),))
    wrapped = seatbelt.SeatbeltBackend().prepare(spec, ["/usr/bin/true"])
    assert wrapped.abandon is not None
    try:
        port = wrapped.environment["HTTPS_PROXY"].rpartition(":")[2]
        assert f'(allow network-outbound (remote ip "localhost:{port}"))' in wrapped.argv[2]
    finally:
        wrapped.abandon()


def test_secret_files_are_refused() -> None:
    with pytest.raises(SandboxError, match="in memory"):
        seatbelt.SeatbeltBackend().prepare(SandboxSpec("x", secret_files=(SecretFile("k", b"v"),)), ["/usr/bin/true"])
