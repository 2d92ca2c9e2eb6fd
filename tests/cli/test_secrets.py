"""`callgate secrets`, as a person meets it: nothing it prints or leaves holds a value, and undo gives back every byte."""

from __future__ import annotations

import io
import json
import os
import pty
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from callgate.cli import install
from callgate.cli.main import main
from callgate.errors import ConfigError, SecretError
from tests.cli import secrets_home as made
from tests.cli.secrets_home import C, contents, leaks, run
from tests.support.programs import REQUIRED

VARIABLES = (
    "XDG_CONFIG_HOME",
    "CODEX_HOME",
    "CLAUDE_CONFIG_DIR",
    "COPILOT_HOME",
    "CLINE_DIR",
    "OPENCODE_CONFIG",
    "HISTFILE",
    "CALLGATE_CONFIG",
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (*VARIABLES, "OPENCODE_CONFIG_DIR", "DBUS_SESSION_BUS_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    for name, value in made.environment(folder).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    made.make(folder)
    return folder


def state(home: Path) -> Path:
    return home / ".local/state/callgate"


def installed(*more: str) -> None:
    """Put the entries behind the gate, and leave their credentials where they are."""
    options = install.parser().format_help()
    leave = [one for one in ("--keep-secrets", "--no-lock", "--no-hooks") if one in options]
    assert install.main(["--yes", *leave, *more]) in (0, 1)


# --- find ---------------------------------------------------------------------------------------


def test_find_shows_every_place_and_no_value(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / ".bash_history").write_text(f"export T={C[0]}\nPGPASSWORD={C[20]} psql\n")
    (home / "srv").mkdir()
    (home / "srv/index.js").write_text("")
    (home / "srv/.env").write_text(f"SRV_SECRET={C[21]}\n")
    (home / ".gemini").mkdir()
    (home / ".gemini/settings.json").write_text(
        json.dumps({"mcpServers": {"s": {"command": "node", "args": [str(home / "srv/index.js"), "--api-key", C[22]]}}})
    )
    (home / ".netrc").write_text(f"machine x login y password {C[23]}\n")
    (home / ".netrc").chmod(0o644)
    code, out = run("find", "--json")
    assert code == 1
    report = json.loads(out)
    assert report["version"] == 1
    found = {(os.path.relpath(one["path"], home), one["key"], one["server"]) for one in report["findings"]}
    for want in (
        (".cursor/mcp.json", "env.GITHUB_TOKEN", "github"),
        (".cursor/mcp.json", "env.JIRA_API_TOKEN", "jira"),
        (".cursor/mcp.json", "env.JIRA_URL", "jira"),
        (".config/Code/User/mcp.json", "env.API_KEY", "a"),
        (".codex/config.toml", "env.SENTRY_AUTH_TOKEN", "sentry"),
        (".codex/config.toml", "env.TWO_SECRET", "two"),
        (".config/goose/config.yaml", "envs.SLACK_BOT_TOKEN", "slack"),
        (".config/goose/config.yaml", "envs.SLACK_SECRET", "slack"),
        (".continue/config.yaml", "env.BRAVE_API_KEY", "brave"),
        (".config/opencode/opencode.jsonc", "environment.O_TOKEN", "o"),
        (".config/zed/settings.json", "env.Z_TOKEN", "z"),
        (".config/amp/settings.json", "env.M_PASSWORD", "m"),
        (".config/callgate/callgate.toml", "headers.Authorization", "remote"),
        (".config/callgate/callgate.toml", "environment.DB_PASSWORD", "db"),
        (".gemini/settings.json", "args[2]", "s"),
        (".netrc", "x", ""),
        ("srv/.env", "SRV_SECRET", ""),
        (".bash_history", "psql", ""),
    ):
        assert want in found, want
    assert not [one for one in report["findings"] if one["key"].endswith((".DEBUG", "MAX_TOKENS", ".TOKEN", ".LEVEL"))]
    digests = {
        one["digest"] for one in report["findings"] if one["path"].endswith((".bash_history", "cursor/mcp.json"))
    }
    same = [one["digest"] for one in report["findings"] if one["key"] == "env.GITHUB_TOKEN"]
    assert same[0] in digests
    netrc = next(one for one in report["findings"] if one["path"].endswith(".netrc"))
    assert netrc["mode"] == "0644"
    arguments = next(one for one in report["findings"] if one["key"] == "args[2]")
    assert arguments["in_arguments"]
    assert "processes" in arguments["rotate"]
    assert made.PREFIX not in out
    code, text = run("find")
    assert code == 1
    assert made.PREFIX not in text
    assert all(len(line) <= 80 or home.name in line for line in text.splitlines())
    assert "project/.env" not in text
    assert run("find", "--home")[1].count("project/.env") == 1
    assert leaks(state(home)) == []


def test_find_named_places_and_nothing(home: Path) -> None:
    empty = home / "empty"
    empty.mkdir()
    (empty / "x.json").write_text('{"a": "b"}')
    assert run("find", str(empty)) == (0, "no plaintext credential in 1 file\n")
    code, out = run("find", str(home / "project"))
    assert code == 1
    assert "3 plaintext credentials (3 different) in 1 of 1 file" in out
    (empty / "hidden\u202ename.env").write_text(f"A_SECRET={C[3]}\n")
    assert "\u202e" not in run("find", str(empty))[1]
    assert main(["secrets", "find", str(home / "none")]) == 2
    assert main(["secrets", "find", "--client", "nobody"]) == 2


def test_a_broken_file_is_said_and_still_looked_at(home: Path) -> None:
    (home / ".cursor/mcp.json").write_text('{ broken "ghp_' + "a1B2c3D4e5" * 4 + '"')
    code, out = run("find")
    assert code == 1
    assert "not looked at: ~/.cursor/mcp.json: not readable as json: line 1" in out


def test_a_large_client_file_and_a_broken_configuration(home: Path) -> None:
    padding = {f"key{number}": "history " * 20 for number in range(35_000)}
    document = {"projects": padding, "mcpServers": {"s": {"command": "x", "env": {"S_TOKEN": C[20]}}}}
    (home / ".claude.json").write_text(json.dumps(document))
    assert (home / ".claude.json").stat().st_size > 5 * 1024 * 1024
    (home / ".config/callgate/callgate.toml").write_text("[broken\n")
    code, out = run("find")
    assert code == 1
    assert "s: env.S_TOKEN" in out
    assert "not looked at: ~/.config/callgate/callgate.toml: not readable" in out


def test_names_of_a_hostile_project(home: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    evil = "e\u202e\x1b[2J/../" + "x" * 300
    entry = {"command": "callgate", "args": ["run", "--", "x"], "env": {f"{evil}TOKEN": C[21], "A_TOKEN": "age://../x"}}
    (project / ".mcp.json").write_text(json.dumps({"mcpServers": {evil: entry}}))
    for command in (["find", "--project", str(project)], ["move", "--to", "age", "--yes", "--project", str(project)]):
        out = run(*command)[1]
        assert "\u202e" not in out
        assert "\x1b" not in out
        assert made.PREFIX not in out
    assert C[21] not in (project / ".mcp.json").read_text()
    stored = [path for path in (state(home) / "secrets").iterdir() if path.suffix == ".age"]
    assert len(stored) == 3  # two of callgate.toml
    assert all(len(path.name) < 200 and path.parent == state(home) / "secrets" for path in stored)
    assert run("move", "--undo", "--yes", "--project", str(project))[0] == 0
    assert json.loads((project / ".mcp.json").read_text()) == {"mcpServers": {evil: entry}}


# --- move and undo ------------------------------------------------------------------------------


def test_move_and_undo_every_format(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    installed()
    capsys.readouterr()
    before = contents(home)
    env = str(home / "project/.env")
    assert leaks(state(home))  # the backups and records of install hold what the files hold

    code, out = run("move", "--to", "age", "--yes", env)
    assert made.PREFIX not in out
    assert "age://github.GITHUB_TOKEN" in out
    assert leaks(home) == []
    assert code == 0, out
    moved = contents(home)
    assert moved != before
    assert b'GITHUB_TOKEN": "age://github.GITHUB_TOKEN" /* mine */' in moved[".cursor/mcp.json"]
    assert b'"Bearer <age://remote.Authorization>"' in moved[".config/callgate/callgate.toml"]
    assert b"TOKEN=age://project.TOKEN # why\n" in moved["project/.env"]
    assert b'PASSWORD="age://project.PASSWORD"\r\n' in moved["project/.env"]

    assert run("move", "--to", "age", "--yes", env) == (0, "nothing to move\n")
    assert run("find")[0] == 0
    code, out = run("test", "--all")
    assert code == 0, out
    assert out.count("yes  age://") == 17

    code, out = run("move", "--undo", "--yes")
    assert code == 0, out
    assert made.PREFIX not in out
    assert contents(home) == before
    assert sorted(path.name for path in (state(home) / "secrets").iterdir()) == ["fingerprint.key", "identity.txt"]
    assert run("move", "--undo", "--yes") == (0, "nothing to put back\n")


def test_an_install_that_moves_cleans_the_backups_of_an_earlier_one(home: Path) -> None:
    plain = contents(home)
    installed()
    assert leaks(state(home))
    options = install.parser().format_help()
    more = [one for one in ("--no-lock", "--no-hooks") if one in options]
    assert install.main(["--yes", *more, "--secrets-to", "age"]) == 0
    assert leaks(state(home)) == []
    assert all(".config/callgate" in path or "project/.env" in path for path in leaks(home))
    assert main(["uninstall", "--yes"]) == 0
    assert contents(home) == plain


def test_uninstall_after_a_move_puts_back_what_was_before_install(home: Path) -> None:
    plain = contents(home)
    installed()
    assert run("move", "--to", "age", "--yes")[0] == 0
    assert main(["uninstall", "--yes"]) == 0
    assert {name: data for name, data in contents(home).items() if "callgate.toml" not in name} == {
        name: data for name, data in plain.items() if "callgate.toml" not in name
    }


def test_entries_past_the_gate_are_refused(home: Path) -> None:
    before = contents(home)
    code, out = run("move", "--to", "age", "--yes", "--client", "cursor")
    assert code == 1
    assert "github: left: not behind the gate" in out
    assert "callgate install puts it there" in out
    assert contents(home) == before


def test_entries_wrapped_by_hand(home: Path) -> None:
    (home / ".gemini").mkdir()
    text = (
        '{"mcpServers": {"h": {"command": "callgate", "args": ["run", "--name", "h", "--", "npx"], '
        f'"env": {{"A_TOKEN": "{C[1][:3]}\\u00{ord(C[1][3]):02X}{C[1][4:]}"}}}}}}}}'
    )
    (home / ".gemini/settings.json").write_text(text)
    assert json.loads(text)["mcpServers"]["h"]["env"]["A_TOKEN"] == C[1]
    code, out = run("move", "--to", "age", "--yes", "--client", "gemini-cli")
    assert code == 0, out
    assert '"A_TOKEN": "age://h.A_TOKEN"' in (home / ".gemini/settings.json").read_text()
    assert run("move", "--undo", "--yes", "--client", "gemini-cli")[0] == 0
    assert (home / ".gemini/settings.json").read_text() == text


@pytest.mark.parametrize(("options", "code"), [(["--dry-run"], 0), ([], 1), (["--yes", "--dry-run"], 0)])
def test_nothing_is_written_unless_someone_agrees(home: Path, options: list[str], code: int) -> None:
    installed()
    before = contents(home)
    kept = sorted(path.name for path in state(home).rglob("*"))
    assert run("move", "--to", "age", *options)[0] == code
    assert contents(home) == before
    assert {path.name for path in state(home).rglob("*")} - set(kept) <= {"secrets", "fingerprint.key"}


@pytest.mark.parametrize(("answer", "done"), [("y\n", True), ("n\n", False)])
def test_a_terminal_is_asked(home: Path, answer: str, done: bool) -> None:
    leader, follower = pty.openpty()
    os.write(leader, answer.encode())
    result = subprocess.run(
        [sys.executable, "-m", "callgate.cli.main", "secrets", "move", "--to", "age"],
        stdin=follower, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(leader)
    os.close(follower)
    assert "Move 2 credentials to age? [y/N]" in result.stdout
    assert ("age://" in (home / ".config/callgate/callgate.toml").read_text()) == done
    assert made.PREFIX not in result.stdout + result.stderr


def test_chosen_servers_and_clients(home: Path) -> None:
    installed()
    before = contents(home)
    assert run("move", "--to", "age", "--yes", "--server", "jira")[0] == 0
    changed = [name for name, data in contents(home).items() if data != before[name]]
    assert changed == [".cursor/mcp.json"]
    assert C[0].encode() in contents(home)[".cursor/mcp.json"]
    assert run("move", "--to", "age", "--yes", "--client", "codex")[0] == 0
    changed = [name for name, data in contents(home).items() if data != before[name]]
    assert changed == [".codex/config.toml", ".cursor/mcp.json"]
    assert run("move", "--undo", "--yes", "--client", "codex")[0] == 0
    assert contents(home)[".codex/config.toml"] == before[".codex/config.toml"]
    assert run("move", "--undo", "--yes")[0] == 0
    assert contents(home) == before


def test_a_name_that_is_taken_by_another_value(home: Path) -> None:
    assert run("set", "age://db.DB_PASSWORD", stdin=b"somebody else's")[0] == 0
    code, out = run("move", "--to", "age", "--yes", "--server", "db")
    assert code == 0, out
    assert '"age://db.DB_PASSWORD-2"' in (home / ".config/callgate/callgate.toml").read_text()
    assert run("test", "age://db.DB_PASSWORD")[0] == 0
    assert run("move", "--undo", "--yes")[0] == 0
    assert (home / ".config/callgate/callgate.toml").read_text() == made.CONFIGURATION
    assert run("test", "age://db.DB_PASSWORD")[0] == 0
    assert run("test", "age://db.DB_PASSWORD-2")[0] == 1


def test_a_file_that_was_edited_since(home: Path) -> None:
    path = home / ".config/callgate/callgate.toml"
    assert run("move", "--to", "age", "--yes")[0] in (0, 1)
    text = path.read_text()
    path.write_text("# new first line\n" + text.replace("age://db.DB_PASSWORD", "hunter2"))
    code, out = run("move", "--undo", "--yes")
    assert code == 1
    assert "changed since it was moved" in out
    assert path.read_text() == "# new first line\n" + made.CONFIGURATION.replace(f"'{C[13]}'", '"hunter2"')
    path.unlink()
    code, out = run("move", "--undo", "--yes")
    assert "the file is gone" in out


def test_undo_without_the_store_changes_nothing(home: Path) -> None:
    installed("--client", "codex")
    assert run("move", "--to", "age", "--yes")[0] in (0, 1)
    moved = contents(home)
    shutil.rmtree(state(home) / "secrets")
    code, out = run("move", "--undo", "--yes")
    assert code == 1
    assert "cannot be put back" in out
    assert contents(home) == moved


def test_who_could_read_it_says_what_to_rotate(home: Path, tmp_path: Path) -> None:
    path = home / ".config/callgate/callgate.toml"
    for folder in (path, *path.parents):
        if str(folder).startswith(str(tmp_path.parent.parent)) or folder == path:
            folder.chmod(0o755 if folder.is_dir() else 0o644)
    out = run("move", "--to", "age", "--yes")[1]
    readable = all(folder.stat().st_mode & 0o001 for folder in path.parents)
    assert ("rotate age://db.DB_PASSWORD: every user of this machine could read it" in out) == readable
    (home / ".bash_history").write_text(f"export X={C[0]}\n")
    (home / ".bash_history").chmod(0o600)
    installed("--client", "cursor")
    out = run("move", "--to", "age", "--yes")[1]
    assert "the same value still lies in ~/.bash_history:1" in out


def test_an_unclear_env_value_is_left(home: Path) -> None:
    path = home / "project/.env"
    path.write_text(f'A_SECRET="{C[1]}\\n"\nB_SECRET={C[2]}#x\nC_SECRET={C[3]}\n')
    code, out = run("move", "--to", "age", "--yes", "--server", "none", str(path))
    assert code == 1
    assert out.count("in different ways") == 2
    assert path.read_text() == f'A_SECRET="{C[1]}\\n"\nB_SECRET={C[2]}#x\nC_SECRET=age://project.C_SECRET\n'
    assert main(["secrets", "move", "--yes", str(home / ".cursor/mcp.json")]) == 2


def test_half_a_character_is_left(home: Path) -> None:
    path = home / ".config/callgate/callgate.toml"
    (home / ".gemini").mkdir()
    command = '"command": "callgate", "args": ["run", "--", "x"]'
    text = (
        f'{{"mcpServers": {{"h": {{{command}, "env": {{"A_\\ud800TOKEN": "{C[1]}", "B_TOKEN": "{C[2]}\\udfff"}}}}}}}}'
    )
    (home / ".gemini/settings.json").write_text(text)
    code, out = run("move", "--to", "age", "--yes")
    assert code == 1
    assert out.count("half a character") == 2
    assert (home / ".gemini/settings.json").read_text() == text
    assert run("move", "--undo", "--yes")[0] == 0
    assert path.read_text() == made.CONFIGURATION


def test_the_server_gets_the_value(home: Path, tmp_path: Path) -> None:
    """What the client passes on is the reference; what the server has is the value, and nobody else."""
    import hashlib

    script = tmp_path / "server.py"
    script.write_text(
        "import hashlib, os, sys\n"
        "print(hashlib.sha256(os.environ['GITHUB_TOKEN'].encode()).hexdigest(), file=sys.stderr, flush=True)\n"
        "sys.stdin.read()\n"
    )
    path = home / ".cursor/mcp.json"
    entry = {"command": sys.executable, "args": [str(script)], "env": {"GITHUB_TOKEN": C[0]}}
    path.write_text(json.dumps({"mcpServers": {"github": entry}}))
    installed("--client", "cursor")
    assert run("move", "--to", "age", "--yes", "--client", "cursor")[0] == 0
    wrapped = json.loads(path.read_text())["mcpServers"]["github"]
    assert wrapped["env"] == {"GITHUB_TOKEN": "age://github.GITHUB_TOKEN"}

    def started(*more: str) -> str:
        at = wrapped["args"].index("run") + 1
        result = subprocess.run(
            [wrapped["command"], *wrapped["args"][:at], *more, *wrapped["args"][at:]],
            env={**os.environ, **wrapped["env"]},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert made.PREFIX not in result.stderr + result.stdout
        return result.stderr

    digest = hashlib.sha256(C[0].encode()).hexdigest()
    refused = started("--sandbox", "none")  # what was moved is for the server as it was: confined
    assert digest not in refused and "was not granted" in refused
    (told,) = [line for line in refused.splitlines() if "callgate secrets grant" in line]
    words = shlex.split(told[told.rindex("callgate secrets grant") :])
    assert run(*words[2:])[0] == 0
    assert digest in started("--sandbox", "none")


def test_links_stay_links_and_modes_stay(home: Path) -> None:
    path = home / ".config/callgate/callgate.toml"
    real = home / "dotfiles.toml"
    shutil.move(path, real)
    real.chmod(0o640)
    path.symlink_to(real)
    assert run("move", "--to", "age", "--yes", "--server", "db")[0] == 0
    assert path.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert "age://db.DB_PASSWORD" in real.read_text()


# --- set, test, rotate --------------------------------------------------------------------------


def test_set_test_and_rotate(home: Path) -> None:
    assert run("set", "age://x.Y", stdin=C[1].encode() + b"\n") == (0, "stored: age://x.Y\n")
    assert run("test", "age://x.Y") == (0, "yes  age://x.Y  (age)\n")
    with pytest.raises(SecretError, match="another value"):
        run("set", "age://x.Y", stdin=C[2].encode())
    assert run("set", "--replace", "age://x.Y", stdin=C[2].encode())[0] == 0
    code, out = run("rotate", "age://x.Y", stdin=C[3].encode() + b"\r\n")
    assert code == 0
    assert "the old value is kept: age://x.Y.previous" in out
    assert "used in no file that callgate knows" in out
    from callgate.vault.session import Session

    with Session(state(home)) as session:
        assert session.resolve("age://x.Y").value.decode() == C[3]
        assert session.resolve("age://x.Y.previous").value.decode() == C[2]
    assert leaks(state(home)) == []
    with pytest.raises(ConfigError, match="no value on standard input"):
        run("set", "age://z", stdin=b"\n")


def test_rotate_says_where_and_undo_takes_the_present_value(home: Path) -> None:
    assert run("move", "--to", "age", "--yes", "--server", "db")[0] == 0
    generation = state(home) / "generation"
    before = generation.read_bytes() if generation.exists() else b""
    code, out = run("rotate", "db.DB_PASSWORD", stdin=b"another 'value' \xc3\xa9")
    assert code == 0
    assert "used in ~/.config/callgate/callgate.toml:9: servers.db.environment.DB_PASSWORD" in out
    assert generation.read_bytes() != before
    assert main(["secrets", "rotate", "nobody.X"]) == 2
    code, out = run("move", "--undo", "--yes")
    assert code == 0
    assert "it was rotated since" in out
    import tomllib

    text = (home / ".config/callgate/callgate.toml").read_text()
    assert tomllib.loads(text)["servers"]["db"]["environment"]["DB_PASSWORD"] == "another 'value' é"


def test_test_tells_no_value_and_what_to_do(home: Path) -> None:
    code, out = run("test", "age://nothing", f"{C[5]}", "env://CALLGATE_TEST_NOT_SET")
    assert code == 1
    assert out.count("no   ") == 3
    assert made.PREFIX not in out
    assert "callgate secrets set age://nothing" in " ".join(out.split())
    code, out = run("test", "--json", C[5])
    assert code == 1
    assert made.PREFIX not in out
    assert json.loads(out)["references"][0]["ok"] is False
    assert main(["secrets", "test"]) == 2


def test_a_prompt_shows_nothing(home: Path) -> None:
    child, leader = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-m", "callgate.cli.main", "secrets", "set", "age://typed.X"])
    shown = b""
    for question in (b"(not shown): ", b"again: "):
        while question not in shown:
            shown += os.read(leader, 1000)
        os.write(leader, C[4].encode() + b"\n")
    while b"stored" not in shown:
        shown += os.read(leader, 1000)
    os.waitpid(child, 0)
    os.close(leader)
    assert made.PREFIX.encode() not in shown
    assert run("test", "age://typed.X")[0] == 0


def test_no_value_is_taken_from_the_command_line() -> None:
    for command in ("set", "rotate"):
        assert main_exit(["secrets", command, "age://x", "value"]) == 2


def main_exit(argv: list[str]) -> int:
    try:
        return main(argv)
    except SystemExit as error:
        return int(str(error.code))


# --- a real keyring -----------------------------------------------------------------------------


def test_a_real_keyring(home: Path) -> None:
    if not (shutil.which("dbus-run-session") and shutil.which("gnome-keyring-daemon")):
        reason = "dbus-run-session and gnome-keyring-daemon are not installed"
        pytest.fail(reason) if REQUIRED else pytest.skip(reason)
    installed()
    before = contents(home)
    program = f"{sys.executable} -m callgate.cli.main secrets"
    env = home / "project/.env"
    script = f"""
    printf pw | gnome-keyring-daemon --unlock --components=secrets >/dev/null || exit 90
    {program} move --yes {env} || exit 91
    {program} test --all || exit 92
    {program} find || exit 93
    grep -rq {made.PREFIX} {home} --include='*' --exclude-dir=keyrings && exit 94
    printf new-Value-99 | {program} rotate db.DB_PASSWORD || exit 95
    printf %s '{C[13]}' | {program} rotate keyring://callgate/db.DB_PASSWORD || exit 96
    {program} move --undo --yes || exit 97
    {program} test keyring://callgate/github.GITHUB_TOKEN && exit 98
    exit 0
    """
    result = subprocess.run(
        ["dbus-run-session", "--", "sh", "-c", script], capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "keyring://callgate/github.GITHUB_TOKEN" in result.stdout
    assert made.PREFIX not in result.stdout + result.stderr
    assert contents(home) | {} == before | {name: data for name, data in contents(home).items() if "keyrings" in name}
