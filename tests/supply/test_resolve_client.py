"""Running package clients: bounded in time and output, with an environment that holds no secret of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from callgate.errors import TrustError
from callgate.supply import resolve_client


def run(tmp_path: Path, code: str, **options: float) -> resolve_client.Output:
    return resolve_client.run((sys.executable, "-c", code), tmp_path, **options)  # type: ignore[arg-type]


def test_output_and_code(tmp_path: Path) -> None:
    found = run(tmp_path, "import sys; print('out'); print('error: no', file=sys.stderr); sys.exit(3)")
    assert (found.code, found.out, resolve_client.last_words(found)) == (3, b"out\n", "no")


def test_a_client_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    code = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); open('pid', 'w').write(str(p.pid)); p.wait()"
    with pytest.raises(TrustError, match="in time"):
        run(tmp_path, code, seconds=1.5)
    pid = int((tmp_path / "pid").read_text())
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    assert not state.strip() or state.startswith("Z")


def test_a_client_that_says_too_much_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve_client, "OUTPUT_BYTES", 1000)
    with pytest.raises(TrustError, match="more than 1000 bytes"):
        run(tmp_path, "while True: print('x' * 1000)")


def test_a_client_that_unpacks_too_much_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from callgate.supply import artefacts

    monkeypatch.setattr(artefacts, "MAX_FILES", 20)
    monkeypatch.setattr(resolve_client, "WATCH_S", 0.05)
    code = "import time\nfor n in range(100):\n    open(str(n), 'w').close()\ntime.sleep(60)"
    with pytest.raises(TrustError, match="unpack to more than 20 files"):
        resolve_client.run((sys.executable, "-c", code), tmp_path, watch=resolve_client.size_watch(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit")
def test_no_file_grows_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve_client, "FILE_BYTES", 1 << 20)
    code = (
        "import resource, time\n"
        "while resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY: time.sleep(0.01)\n"
        "with open('big', 'wb') as f:\n    for _ in range(8): f.write(b'x' * (1 << 19)); f.flush()"
    )
    assert run(tmp_path, code).code != 0
    assert os.path.getsize(tmp_path / "big") <= 1 << 20


def test_a_password_in_a_url_is_not_repeated() -> None:
    found = resolve_client.Output(1, b"", "npm error code E401 https://user:word@reg.test/x/y failed\n")
    assert "word" not in resolve_client.last_words(found)
    assert "https://***@reg.test/x/y" in resolve_client.last_words(found)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TrustError) as caught:
        resolve_client.run(("/no/such/program",), tmp_path)
    assert caught.value.next_step
