"""What a launch waits for: the modules that are loaded before the server is spawned."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SLOW = {"typing", "dataclasses", "inspect", "re", "enum", "pathlib", "collections", "functools", "subprocess", "tomllib",
        "asyncio", "socket", "signal", "json", "orjson", "hyperscan", "sqlite3", "cryptography", "argparse"}  # fmt: skip
"""Each of them costs between one and thirty milliseconds."""
PROGRAM = """
import os, sys
before = set(sys.modules)
spawn = os.posix_spawn
def stop(path, argv, *_, **__):
    if argv[-1] == "callgate-test":
        print(*sorted(set(sys.modules) - before))
        os._exit(0)
    return spawn(path, argv, *_, **__)
os.posix_spawn = stop
from callgate.cli.main import main
main(sys.argv[1:])
"""


def loaded(tmp_path: Path, *words: str) -> set[str]:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, "run", "--name", "s", *words],
        env={**os.environ, "CALLGATE_STATE_DIR": str(tmp_path)}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return set(found.stdout.split())


def test_an_unconfined_server_waits_for_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALLGATE_CONFIG")
    modules = loaded(tmp_path, "--sandbox", "none", "--", "/bin/echo", "callgate-test")
    assert not sorted(modules & SLOW)
    assert not {one for one in modules if one.startswith(("callgate.sandbox", "callgate.supply"))}
    assert len(modules) < 40


def test_settings_with_variables_of_programs_are_not_parsed_at_the_second_start(tmp_path: Path) -> None:
    """One of the variables may be a credential: nothing of it is kept, and yet a launch waits for little."""
    settings = tmp_path / "callgate.toml"
    settings.write_text(
        '[launch]\nvariables = { NPM_TOKEN = "TOKEN-1" }\n[audit]\ncontent = "full"\n[servers.s.sandbox]\nread = []\n'
    )
    subprocess.run(
        [sys.executable, "-m", "callgate.cli.main", "trust", "prune", "--config", str(settings)],
        env={**os.environ, "CALLGATE_STATE_DIR": str(tmp_path)}, capture_output=True, check=True, timeout=60,
    )  # a command of the user's own: from here on the file is the user's  # fmt: skip
    words = ["--config", str(settings), "--sandbox", "none", "--", "/bin/echo", "callgate-test"]
    assert "tomllib" in loaded(tmp_path, *words)
    modules = loaded(tmp_path, *words)
    assert "callgate.config.servers" in modules
    assert not sorted(modules & SLOW)
    assert len(modules) < 45
    kept = [path.read_bytes() for path in (tmp_path / "cache").iterdir()]
    assert kept and not [text for text in kept if b"TOKEN-1" in text]


def test_a_confined_server_waits_for_little_more(tmp_path: Path, confined: None) -> None:
    program = ["--", "/bin/echo", "callgate-test"]
    subprocess.run(
        [sys.executable, "-m", "callgate.cli.main", "run", "--name", "s", *program], input=b"", capture_output=True,
        env={**os.environ, "CALLGATE_STATE_DIR": str(tmp_path)}, check=False, timeout=60,
    )  # the first start proves the sandbox  # fmt: skip
    wrapped = PROGRAM.replace('argv[-1] == "callgate-test"', 'argv[0].endswith("bwrap") and "--info-fd" not in argv')
    found = subprocess.run(
        [sys.executable, "-c", wrapped, "run", "--name", "s", "--sandbox", "bubblewrap", *program],
        env={**os.environ, "CALLGATE_STATE_DIR": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if found.returncode and not os.environ.get("CALLGATE_REQUIRE_PROGRAMS"):
        pytest.skip("no bubblewrap that can be used")
    modules = set(found.stdout.split())
    assert "callgate.sandbox.bubblewrap" in modules, found.stderr
    assert not sorted(modules & SLOW)
    assert not {one for one in modules if one.startswith(("callgate.supply", "callgate.sandbox.egress"))}
    assert len(modules) < 65
