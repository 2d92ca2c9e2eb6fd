from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from callgate.cli.sandbox import main
from callgate.errors import ConfigError

PYTHON = next((p for p in ("/usr/bin/python3", "/usr/local/bin/python3") if os.access(p, os.X_OK)), "/usr/bin/python3")
SERVER = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        result = {"tools": []} if message["method"] == "tools/list" else {
            "protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "x", "version": "1"}}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""


@pytest.fixture
def project() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="callgate-cli-", dir="/var/tmp"))
    (path / "server.py").write_text(SERVER)
    (path / "work").mkdir()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def configuration(project: Path, tmp_path: Path) -> Path:
    path = tmp_path / "callgate.toml"
    path.write_text(
        f'[servers.files]\ncommand = ["{PYTHON}", "{project}/server.py", "{project}/work"]\n'
        'environment = { TOKEN = "s3cret-value" }\n'
        '[servers.files.sandbox]\nprocesses = 17\nnetwork = ["api.example.com"]\n'
        '[servers.far]\nurl = "https://mcp.example.com/mcp"\n'
    )
    return path


def test_doctor_says_what_holds(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    usable = [one["backend"] for one in report["backends"] if one["usable"]]
    assert code == (0 if usable else 1)
    assert report["automatic"] == (usable[0] if usable else None)
    for one in report["backends"]:
        assert one["usable"] or one["reason"]
    assert main(["doctor"]) == code
    text = capsys.readouterr().out
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "user namespaces" in text


def test_doctor_names_every_escape_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    if main(["doctor", "-v"]) == 0:
        assert "held  read_secret" in capsys.readouterr().out


def test_explain_a_server_of_the_configuration(
    configuration: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["explain", "files", "--config", str(configuration), "--json"])
    out = capsys.readouterr().out
    record = json.loads(out)
    assert code == (0 if record["starts"] else 1)
    assert record["limits"]["processes"] == 17
    assert record["network"] == ["api.example.com:443"]
    assert "TOKEN" in record["variables"]
    assert "s3cret-value" not in out
    assert {"source": f"{project}/work", "target": f"{project}/work", "writable": True} in record["mounts"]


def test_explain_says_which_private_networks_are_open(
    tmp_path: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "callgate.toml"
    path.write_text(
        f'[servers.git]\ncommand = ["{PYTHON}", "{project}/server.py"]\n[servers.git.sandbox]\n'
        'network = ["gitlab.example.internal"]\nprivate_networks = ["10.20.0.0/16"]\n'
    )
    main(["explain", "git", "--config", str(path)])
    assert "  private   10.20.0.0/16, only as gitlab.example.internal:443" in capsys.readouterr().out
    main(["explain", "git", "--config", str(path), "--json"])
    assert json.loads(capsys.readouterr().out)["private_networks"] == ["10.20.0.0/16"]


def test_explain_a_command_in_words(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["explain", "--read", str(project / "work"), "--", PYTHON, str(project / "server.py")])
    text = capsys.readouterr().out
    assert "a python server, unpinned" in text
    assert str(project / "work") in text
    assert "network   none" in text


@pytest.mark.parametrize(
    ("kind", "begins"), [("apparmor", "profile callgate-"), ("seatbelt", "(version 1)"), ("seccomp", "{")]
)
def test_explain_prints_profiles(kind: str, begins: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--profile", kind, "--", PYTHON, str(project / "server.py")]) == 0
    assert capsys.readouterr().out.startswith(begins)


def test_explain_says_why_a_server_would_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--", "/nonexistent/server"]) == 1
    assert "would not start" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv",
    [["explain"], ["explain", "nobody"], ["doctor", "--", "x"], ["learn", "--seconds", "-1", "--", "/usr/bin/true"]],
)
def test_usage_errors(argv: list[str]) -> None:
    with pytest.raises(ConfigError):
        main(argv)


def test_a_server_behind_a_url_does_not_run_here(configuration: Path) -> None:
    with pytest.raises(ConfigError, match="URL"):
        main(["explain", "far", "--config", str(configuration)])


def _needs(*programs: str) -> None:
    for program in programs:
        if not os.access(program, os.X_OK):
            pytest.skip(f"{program} is missing")


def test_learn_shows_the_difference_and_changes_nothing(
    configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _needs("/usr/bin/strace", PYTHON)
    before = configuration.read_text()
    assert main(["learn", "files", "--config", str(configuration)]) == 0
    text = capsys.readouterr().out
    assert "it answered initialize and listed 0 tools" in " ".join(text.split())
    assert '-network = ["api.example.com"]' in text
    assert configuration.read_text() == before


def test_learn_appends_where_it_is_told_to(
    configuration: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _needs("/usr/bin/strace", PYTHON)
    target = configuration.parent / "new.toml"
    command = ["--", PYTHON, str(project / "server.py")]
    assert main(["learn", "--append", str(target), *command]) == 0
    assert "[servers." in target.read_text()
    with pytest.raises(ConfigError, match="second table"):
        main(["learn", "--append", str(target), *command])


def test_in_the_open_only_when_said_and_said_aloud(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _needs("/usr/bin/strace", PYTHON)
    assert main(["learn", "--open", "--json", "--", PYTHON, str(project / "server.py")]) == 0
    said = capsys.readouterr()
    assert "WITHOUT a sandbox" in said.err
    assert json.loads(said.out)["confined"] is False


def test_a_client_can_use_the_server_meanwhile(project: Path) -> None:
    _needs("/usr/bin/strace", PYTHON)
    command = [sys.executable, "-m", "callgate.cli.main", "sandbox", "learn", "--attach", "--"]
    done = subprocess.run(
        [*command, PYTHON, str(project / "server.py")],
        input='{"jsonrpc":"2.0","id":7,"method":"tools/list"}\n',
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout) == {"jsonrpc": "2.0", "id": 7, "result": {"tools": []}}
    assert "Today's settings are the least it needs" in done.stderr


def test_explain_finds_a_server_of_the_lock(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from callgate.supply.lockfile import Entry, LockedServer, edit

    state = Path(os.environ["CALLGATE_STATE_DIR"])
    argv = (PYTHON, str(project / "server.py"))
    script = hashlib.sha256((project / "server.py").read_bytes()).hexdigest()
    entry = Entry(argv, file=argv[1], sha256=script)
    edit(state / "callgate.lock", lambda lock: lock.put(LockedServer("locked", argv, "local", entry)))
    assert main(["explain", "locked", "--json"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["argv"] == list(argv)


def test_a_server_nobody_configured_is_explained_under_the_name_it_runs_by(
    configuration: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its profile and its home are named after it, so the advice must not lose the name."""
    monkeypatch.setenv("CALLGATE_CONFIG", str(configuration))
    with pytest.raises(ConfigError) as raised:
        main(["explain", "notes"])
    assert "callgate sandbox explain notes -- COMMAND" in raised.value.diagnostics()
    assert main(["explain", "notes", "--profile", "apparmor", "--", PYTHON, "-c", "0"]) == 0
    assert "profile callgate-notes-" in capsys.readouterr().out
