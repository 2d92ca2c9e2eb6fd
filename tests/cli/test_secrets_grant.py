"""`callgate secrets grant`, `grants`, `revoke`, and what install and move grant: with the real `callgate run`."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from callgate.audit.query import Filter, all_records
from callgate.cli.main import main
from callgate.errors import ConfigError, SecretError
from callgate.vault.grants import read
from callgate.vault.stores import open_store
from tests.support.processes import CALLGATE, lasting_input

VALUE = "vend_live_9fKq27LmXw4RtB8sYcZ1"
REFERENCE = "age://vendor"
SERVER = """\
import os, sys
print("LENGTH", len(os.environ.get("TOKEN", "")), file=sys.stderr, flush=True)
"""

needs_bubblewrap = pytest.mark.skipif(
    not os.access("/usr/bin/bwrap", os.X_OK) and "CALLGATE_REQUIRE_PROGRAMS" not in os.environ,
    reason="no bubblewrap here",
)


class Home:
    """A home with one secret, a project that somebody else wrote, and a server in each."""

    def __init__(self, folder: Path) -> None:
        self.path, self.project = folder / "home", folder / "project"
        self.state = Path(os.environ["CALLGATE_STATE_DIR"])
        self.project.mkdir()
        self.path.mkdir()
        store = open_store("age", self.state)
        store.put("vendor", VALUE.encode())
        store.close()
        for place in (self.path, self.project):
            (place / "server.py").write_text(SERVER)

    def line(self, place: Path) -> list[str]:
        return [sys.executable, str(place / "server.py")]

    def committed(self, *options: str, **env: str) -> dict[str, Any]:
        """An entry of the project's, behind the gate already."""
        args = ["run", "--name", "vendor", "--env", "TOKEN", *options, "--", *self.line(self.project)]
        entry = {"command": CALLGATE, "args": args, "env": {"TOKEN": REFERENCE, **env}}
        (self.project / ".mcp.json").write_text(json.dumps({"mcpServers": {"vendor": entry}}))
        return entry

    def client(self, entry: dict[str, Any]) -> None:
        """The same in the user's own file."""
        (self.path / ".cursor").mkdir(exist_ok=True)
        (self.path / ".cursor/mcp.json").write_text(json.dumps({"mcpServers": {"vendor": entry}}))

    def entry(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / ".cursor/mcp.json").read_text())["mcpServers"]["vendor"]
        return found


def start(entry: dict[str, Any], cwd: Path) -> tuple[int, str]:
    """As a client starts it: the exit code, and what it says."""
    with lasting_input() as stdin:
        done = subprocess.run(
            [entry["command"], *entry["args"]],
            env={**os.environ, **entry["env"]},
            cwd=cwd,
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert VALUE not in done.stdout + done.stderr
    return done.returncode, done.stderr


def given(entry: dict[str, Any], cwd: Path) -> bool:
    """Whether the server got the secret."""
    code, said = start(entry, cwd)
    got = f"LENGTH {len(VALUE)}" in said
    assert got or (code == 3 and "was not granted" in said), said
    return got


@pytest.fixture(name="home")
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name in ("XDG_CONFIG_HOME", "CODEX_HOME", "CLAUDE_CONFIG_DIR", "COPILOT_HOME", "CLINE_DIR", "OPENCODE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return Home(tmp_path)


def test_a_committed_entry_gets_nothing_until_it_is_granted(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    entry = home.committed()
    code, said = start(entry, home.project)
    assert code == 3 and f"{REFERENCE} was not granted to this command" in said and "LENGTH" not in said
    notes = [record["fields"] for _, record in all_records(home.state / "audit", Filter()) if record["kind"] == "note"]
    (failed,) = [fields for fields in notes if "was not granted" in str(fields.get("reason"))]
    assert failed["server"] == "vendor"

    (told,) = [line for line in said.splitlines() if "callgate secrets grant" in line]
    words = shlex.split(told[told.rindex("callgate secrets grant") :])
    assert words[-2:] == home.line(home.project) and VALUE not in told
    assert main(words[1:]) == 0
    assert given(entry, home.project)
    assert not given(home.committed(EXTRA="1", TOKEN=REFERENCE) | {"args": [*entry["args"], "--more"]}, home.project)

    capsys.readouterr()
    assert main(["secrets", "grants"]) == 0
    shown = capsys.readouterr().out
    assert REFERENCE in shown and str(home.project / "server.py") in shown and "by callgate secrets grant" in shown
    assert main(["secrets", "grants", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (row,) = document["grants"]
    assert row["reference"] == REFERENCE and row["command"] == home.line(home.project)

    assert main(["secrets", "revoke", REFERENCE, "--", *home.line(home.path)]) == 1
    assert main(["secrets", "revoke", REFERENCE, "--", *home.line(home.project)]) == 0
    assert not given(entry, home.project)
    assert main(["secrets", "revoke", REFERENCE]) == 1


def test_granted_before_it_ever_started(home: Home) -> None:
    line = home.line(home.project)
    assert main(["secrets", "grant", REFERENCE, "--as", "TOKEN", "--", *line]) == 0
    assert given(home.committed(), home.project) and given(home.committed(), home.path)
    level = home.committed("--env", "LEVEL", LEVEL="debug")
    assert not given(level, home.project)
    assert main(["secrets", "grant", REFERENCE, "--as", "TOKEN", "--env", "LEVEL=debug", "--", *line]) == 0
    assert given(level, home.project)
    bearer = home.committed(TOKEN=f"Bearer <{REFERENCE}>")
    code, said = start(bearer, home.project)
    assert code == 3 and "was not granted" in said
    assert main(["secrets", "grant", REFERENCE, "--env", f"TOKEN=Bearer <{REFERENCE}>", "--", *line]) == 0
    assert f"LENGTH {len(VALUE) + 7}" in start(bearer, home.project)[1]


def test_a_project_brings_its_own_settings_and_state(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that an entry may point callgate to."""
    line, entry = home.line(home.project), home.committed()
    assert main(["secrets", "grant", REFERENCE, "--as", "TOKEN", "--", *line]) == 0
    assert given(entry, home.project)
    settings = home.project / "callgate.toml"
    settings.write_text(
        f'state_dir = "{home.state}"\nlaunch = {{ sandbox = "none" }}\n'
        f'[servers.vendor]\ncommand = {json.dumps(line)}\n[servers.vendor.secrets.TOKEN]\nref = "{REFERENCE}"\n'
    )
    theirs = home.project / ".config/callgate/callgate.toml"
    theirs.parent.mkdir(parents=True)
    theirs.write_text(settings.read_text())
    bare: dict[str, Any] = {"command": CALLGATE, "env": {}, "args": ["run", "--name", "vendor", "--", *line]}
    for more in (
        {"args": ["run", "--config", str(settings), *bare["args"][1:]]},
        {"env": {"CALLGATE_CONFIG": str(settings)}},
    ):
        assert not given({**bare, **more}, home.project)
    monkeypatch.delenv("CALLGATE_CONFIG")
    for name, value in (("HOME", home.project), ("XDG_CONFIG_HOME", home.project / ".config")):
        assert not given({**bare, "env": {name: str(value)}}, home.project)

    state = home.project / "state"
    state.mkdir(mode=0o700)
    (state / "grants.json").write_bytes((home.state / "grants.json").read_bytes())
    (state / "grants.json").chmod(0o600)
    code, said = start(home.committed("--state", str(state), "--sandbox", "none"), home.project)
    assert code == 3 and "was not granted" in said and "LENGTH" not in said


def test_settings_that_a_person_calls_theirs(home: Home) -> None:
    line = home.line(home.project)
    settings = home.path / "callgate.toml"
    settings.write_text(
        f'launch = {{ sandbox = "none" }}\n[servers.vendor]\ncommand = {json.dumps(line)}\n'
        f'[servers.vendor.secrets.TOKEN]\nref = "{REFERENCE}"\n'
    )
    entry = {"command": CALLGATE, "env": {}}
    entry["args"] = ["run", "--config", str(settings), "--name", "vendor", "--", *line]
    assert not given(entry, home.project)
    assert main(["secrets", "grant", "--config", str(settings)]) == 0
    assert given(entry, home.project)
    assert main(["secrets", "revoke", "--config", str(settings)]) == 0
    assert not given(entry, home.project)
    assert main(["secrets", "revoke", "--config", str(settings)]) == 1


def test_install_grants_what_it_moves_and_uninstall_takes_it_back(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    home.client({"command": sys.executable, "args": home.line(home.path)[1:], "env": {"TOKEN": VALUE, "LEVEL": "1"}})
    before = (home.path / ".cursor/mcp.json").read_bytes()
    install = ["install", "--yes", "--secrets-to", "age", "--no-hooks", "--no-lock"]
    assert main([*install, "--dry-run"]) == 0
    assert "Grant" not in capsys.readouterr().out and not read(home.state).grants
    assert main(install) == 0
    out = capsys.readouterr().out
    assert "grant    vendor  age://vendor.TOKEN" in out
    entry = home.entry()
    assert given(entry, home.path) and given(entry, home.project)
    stranger = {**entry, "args": [*entry["args"][:-1], str(home.project / "server.py")]}
    assert not given(stranger, home.project)
    assert main(install) == 0
    assert "nothing to wrap" in capsys.readouterr().out

    (home.state / "grants.json").unlink()  # as of an installation before there were grants
    assert not given(entry, home.path)
    assert main(install) == 0
    assert "grant    vendor" in capsys.readouterr().out
    assert given(entry, home.path)

    assert main(["uninstall", "--yes"]) == 0
    assert (home.path / ".cursor/mcp.json").read_bytes() == before
    assert not read(home.state).grants and not read(home.state).configurations
    assert not given(entry, home.path)


def test_files_are_put_back_whatever_became_of_the_grants(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.client({"command": sys.executable, "args": home.line(home.path)[1:], "env": {"TOKEN": VALUE}})
    before = (home.path / ".cursor/mcp.json").read_bytes()
    install = ["install", "--yes", "--secrets-to", "age", "--no-hooks", "--no-lock"]
    assert main(install) == 0
    (home.state / "grants.json").chmod(0o644)
    assert main(install) == 3  # and nothing was written over
    assert main(["uninstall", "--yes"]) == 3
    assert "grants.json" in capsys.readouterr().err
    assert (home.path / ".cursor/mcp.json").read_bytes() == before
    (home.state / "grants.json").unlink()
    assert main(["uninstall", "--yes"]) == 0
    assert main(install) == 0 and given(home.entry(), home.path)


def test_a_kill_before_the_file_was_written_leaves_no_grant_behind(home: Home) -> None:
    """Grants come first; what an entry was granted that never got behind the gate ends with the next command."""
    from callgate.vault.grants import Grant
    from callgate.vault.grants_file import changing

    left = Grant(REFERENCE, "0" * 32, ("x",), owners=(f"entry\0mcpServers\0gone\0{home.path}/.cursor/mcp.json",))
    kept = Grant(REFERENCE, "0" * 32, ("y",))
    with changing(home.state) as draft:
        draft.add([left, kept])
    assert main(["install", "--yes", "--no-hooks", "--no-lock"]) == 0
    assert set(read(home.state).grants) == {kept.key}


@needs_bubblewrap
@pytest.mark.usefixtures("confined")
@pytest.mark.parametrize("lock", ["--lock", "--no-lock"])
def test_what_a_new_user_installs_starts_in_its_sandbox_and_nothing_near_it_does(home: Home, lock: str) -> None:
    home.client({"command": sys.executable, "args": home.line(home.path)[1:], "env": {"TOKEN": VALUE}})
    assert main(["install", "--yes", "--secrets-to", "age", "--no-hooks", lock]) == 0
    entry = home.entry()
    assert given(entry, home.path) and given(entry, home.project)
    at = entry["args"].index("--")
    for words in (["--sandbox", "none"], ["--env", "NODE_OPTIONS"], ["--env", "TOKEN*", "--env", "LEVEL"]):
        other = {**entry, "args": [*entry["args"][:at], *words, *entry["args"][at:]]}
        other["env"] = {**entry["env"], "NODE_OPTIONS": "--require=/tmp/evil.js", "LEVEL": "1"}
        assert not given(other, home.project), words
    assert main(["uninstall", "--yes"]) == 0
    assert not given(entry, home.path)


def test_install_grants_what_stood_there_and_was_shown(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    for project in (False, True):
        plain = {"command": sys.executable, "args": home.line(home.project)[1:], "env": {"TOKEN": REFERENCE}}
        (home.project / ".mcp.json").write_text(json.dumps({"mcpServers": {"vendor": plain}}))
        where = ["--project", str(home.project)] if project else []
        assert main(["install", *where, "--no-hooks", "--no-lock"]) == (1 if project else 0)  # nobody is there to agree
        out = capsys.readouterr().out
        assert ("grant    vendor  age://vendor" in out) == project and not read(home.state).grants
    assert main(["install", *where, "--no-hooks", "--no-lock", "--yes"]) == 0
    entry = json.loads((home.project / ".mcp.json").read_text())["mcpServers"]["vendor"]
    assert given(entry, home.project)
    assert main(["uninstall", "--yes"]) == 0
    assert not given(entry, home.project)


def test_an_entry_that_came_wrapped_is_granted_nothing_by_install(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = home.committed()
    assert main(["install", "--project", str(home.project), "--yes", "--no-hooks", "--no-lock"]) == 0
    assert "grant    " not in capsys.readouterr().out
    assert not given(entry, home.project)


def test_two_entries_that_start_the_same_share_a_grant_until_both_are_gone(home: Home) -> None:
    plain = {"command": sys.executable, "args": home.line(home.path)[1:], "env": {"TOKEN": REFERENCE}}
    home.client(plain)
    (home.path / ".gemini").mkdir()
    (home.path / ".gemini/settings.json").write_text(json.dumps({"mcpServers": {"vendor": plain}}))
    assert main(["install", "--yes", "--no-hooks", "--no-lock"]) == 0
    entry = home.entry()
    assert main(["uninstall", "--yes", "--client", "cursor"]) == 0
    assert given(entry, home.path)
    assert main(["uninstall", "--yes"]) == 0
    assert not given(entry, home.path)


def test_move_grants_and_its_undo_takes_back(home: Home) -> None:
    args = ["run", "--name", "vendor", "--env", "TOKEN", "--", *home.line(home.path)]
    home.client({"command": CALLGATE, "args": args, "env": {"TOKEN": VALUE}})
    assert main(["secrets", "move", "--to", "age", "--yes"]) == 0
    entry = home.entry()
    assert entry["env"]["TOKEN"] == "age://vendor.TOKEN"
    assert given(entry, home.path)
    assert main(["secrets", "move", "--undo", "--yes"]) == 0
    assert home.entry()["env"]["TOKEN"] == VALUE
    assert not read(home.state).grants


def test_a_damaged_file_gives_nothing_and_is_not_written_over(home: Home) -> None:
    assert main(["secrets", "grant", REFERENCE, "--as", "TOKEN", "--", *home.line(home.project)]) == 0
    path = home.state / "grants.json"
    path.write_bytes(path.read_bytes()[:-5])
    code, said = start(home.committed(), home.project)
    assert code == 3 and "it is damaged" in said and "LENGTH" not in said
    for words in (["grants"], ["grant", REFERENCE, "--as", "TOKEN", "--", "x"], ["revoke", REFERENCE]):
        with pytest.raises(SecretError, match="it is damaged"):
            secrets(*words)


def secrets(*words: str) -> int:
    from callgate.cli import secrets as command

    return command.main(list(words))


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [
        (["grant", "--as", "T", "--", "x"], SecretError, "not a reference"),
        (["grant", VALUE, "--as", "T", "--", "x"], SecretError, "not a reference"),
        (["grant", REFERENCE, "--as", "T"], ConfigError, "to what it is granted"),
        (["grant", REFERENCE, "--url", "https://x/", "--", "x"], ConfigError, "to what it is granted"),
        (["grant", REFERENCE, "--", "x"], ConfigError, "in which variable"),
        (["grant", REFERENCE, "--env", "CG_NOT_THERE", "--", "x"], ConfigError, "no such variable"),
        (["grant", REFERENCE, "--start", "x", "--", "x"], ConfigError, "what a refused start says"),
        (["grant", REFERENCE, "--as", "T", "--", "x", REFERENCE], ConfigError, "on a command line"),
        (["grant", "--config", "/nowhere/callgate.toml"], ConfigError, "is no file"),
    ],
)
def test_what_cannot_be_granted_is_said(home: Home, words: list[str], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        secrets(*words)
    assert VALUE not in str(caught.value)
    assert not read(home.state).grants


def test_nothing_printed_holds_a_credential_of_a_command_line(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    line = [*home.line(home.project), "--api-key", VALUE]
    entry = home.committed()
    entry["args"] = [*entry["args"][: entry["args"].index("--") + 1], *line]
    code, said = start(entry, home.project)  # asserts that it is not shown
    assert code == 3 and "holds a credential and is not shown" in said
    assert main(["secrets", "grant", REFERENCE, "--as", "TOKEN", "--", *line]) == 0
    assert main(["secrets", "grants"]) == 0
    assert main(["secrets", "grants", "--json"]) == 0
    assert VALUE not in capsys.readouterr().out
