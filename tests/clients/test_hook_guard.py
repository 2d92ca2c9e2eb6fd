"""What a hook says of built-in tools."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.clients import hook_snapshot
from callgate.clients.hook_guard import MAX_TEXT, judge_paths, judge_shell
from callgate.clients.hook_snapshot import Snapshot
from callgate.clients.machine import Machine

STATE = "hook-state"
CLIENT = "hook-client-file"
OWN = "hook-own-file"


@pytest.fixture(name="home")
def _home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    (home / ".local/state/callgate/keys").mkdir(parents=True)
    (home / ".cursor").mkdir()
    (home / "work").mkdir()
    return home


@pytest.fixture(name="snapshot")
def _snapshot(home: Path) -> Snapshot:
    state = home / ".local/state/callgate"
    hook_snapshot.write(state, Machine("linux", str(home), {}), (str(home / "bin/callgate"),))
    return hook_snapshot.load(str(state))


ATTACKS = [
    ("callgate uninstall --yes", "hook-uninstall"),
    ("cd /tmp && /usr/bin/callgate uninstall", "hook-uninstall"),
    ("'call''gate' un\\install", "hook-uninstall"),
    ("A=b env C=d callgate uninstall", "hook-uninstall"),
    ("sh -c 'callgate uninstall --yes'", "hook-uninstall"),
    ('bash -lc "true; callgate uninstall"', "hook-uninstall"),
    ("eval callgate uninstall", "hook-uninstall"),
    ("sudo -n callgate uninstall", "hook-uninstall"),
    ("echo $(callgate uninstall)", "hook-uninstall"),
    ("true | xargs callgate uninstall", "hook-uninstall"),
    ("uvx callgate uninstall", "hook-uninstall"),
    ("python3 -m callgate.cli.main uninstall", "hook-uninstall"),
    ("python3 -E -P -mcallgate.cli.main uninstall", "hook-uninstall"),
    ("! callgate uninstall", "hook-uninstall"),
    ("{ callgate uninstall; }", "hook-uninstall"),
    ("if true; then A=b callgate uninstall; fi", "hook-uninstall"),
    ("while :; do callgate uninstall; done", "hook-uninstall"),
    ("callgate trust lock x -- cmd --help", "hook-callgate"),
    ("callgate trust lock x -- cmd --dry-run", "hook-callgate"),
    ("$'callgate' uninstall", "hook-uninstall"),
    ("$'c\\x61llgate' uninstall '{home}/.local/state/callgate'", STATE),
    ("rm -rf $'{home}/.local/state/callgate'", STATE),
    ('rm -rf $"{home}/.local/state/callgate"', STATE),
    ("tar x -f a -C{home}/.local/state/callgate", STATE),
    ("tar x -f a -C~/.local/state/callgate", STATE),
    ("grep -r x ~/.local/state/callgate/", STATE),
    ("cat ~/.local/state/callgate/*/identity.txt", STATE),
    ("cat ~/.local/state/callgate/k*/x", STATE),
    ("grep -r x ~/.local/state", STATE),
    ("rg x ~/.local", STATE),
    ("timeout 5 sh -c 'sh -c \"callgate uninstall\"'", "hook-uninstall"),
    ("python3 /usr/bin/callgate uninstall", "hook-uninstall"),
    ("callgate audit prune --before 2099-01-01", "hook-callgate"),
    ("callgate $(echo uninstall)", "hook-callgate"),
    ("callgate pins approve files", "hook-callgate"),
    ("callgate trust update --yes x", "hook-callgate"),
    ("callgate secrets set keyring://a/b", "hook-callgate"),
    ("callgate install --unknown-servers ask --yes", "hook-callgate"),
    ("pkill -9 callgate", "hook-kill"),
    ("killall callgate", "hook-kill"),
    ("rm -rf ~/.local/state/callgate", STATE),
    ("rm -rf ~/.local/state/", STATE),
    ("rm -rf $HOME/.local/state/callgate/hooks", STATE),
    ("cd ~/.local/state && rm -r callgate", STATE),
    ("rm ~/.local/state/c*/hooks/snapshot.json", STATE),
    ("echo '{}' > ~/.local/state/callgate/hooks/snapshot.json", STATE),
    ("tee ~/.local/state/callgate/clients.json < x", STATE),
    ("dd if=/dev/zero of=${HOME}/.local/state/callgate/pins.db", STATE),
    ("cat ~/.local/state/callgate/keys/audit-ed25519.pem", STATE),
    ("python3 -c 'import shutil; shutil.rmtree(\"{home}/.local/state/callgate\")'", STATE),
    ("ln -s ~/.local/state/callgate/keys /tmp/k", STATE),
    ("echo x > ~/.cursor/mcp.json", CLIENT),
    ("sed -i s/callgate/x/ ~/.claude.json", CLIENT),
    ("cd ~/.cursor; cp /tmp/evil mcp.json", CLIENT),
    ("mv /tmp/x ~/.claude/settings.json", CLIENT),
    ("rm -rf ~/.cursor", CLIENT),
    ("rm ~/.codex/hooks.json ~/.codex/*.toml", CLIENT),
    ("echo '{}' > .mcp.json", CLIENT),
    ("cp evil.json ./.claude/settings.local.json", CLIENT),
    ("node -e 'fs.writeFileSync(\".cursor/mcp.json\", x)'", CLIENT),
    ("cat x | tee {home}/.cursor/hooks.json", CLIENT),
    ("git checkout evil -- .mcp.json", CLIENT),
    ("git diff --no-index --output=.mcp.json a b", CLIENT),
    ("uniq evil.json .mcp.json", CLIENT),
    ("xxd -r evil.hex ~/.cursor/mcp.json", CLIENT),
    ("tree -o ~/.cursor/mcp.json", CLIENT),
    ("jq . x > callgate.lock", OWN),
    ("rm callgate.lock.sig", OWN),
    ("echo 'callgate uninstall", "hook-unclear"),
]
ORDINARY = [
    "ls -la; pytest -q && git status",
    "npm install && npm run build > build.log 2>&1",
    "cd src && make -j4",
    "rm -rf build dist",
    "cat README.md | head -20",
    "python3 -c 'print(1)'",
    'for f in *.py; do echo "$f"; done',
    "git commit -m 'A change'",
    "sort -t $'\\t' -k2 x",
    "tar -C/tmp/x -xf a",
    "if true; then make; fi",
    "echo 'unbalanced",
    "find . -name '*.json' | xargs grep mcp",
    "docker run -v \"$PWD:/src\" image sh -c 'make test'",
    "curl -s https://example.test/x | tee out.json",
    "",
]
NEAR_MISSES = [
    "callgate status",
    "callgate doctor --json",
    "callgate audit tail -n 5",
    "callgate audit prune --dry-run",
    "callgate",
    "git add .mcp.json && git commit -m 'Add .mcp.json, see docs/mcp.md'",
    "grep -rn x ~/work ~/.cursor",
    "tree -L 2 ~/.local",
    "callgate pins list",
    "callgate trust verify",
    "callgate uninstall --help",
    "callgate uninstall --dry-run",
    "callgate --version",
    "git commit -m 'Explain callgate uninstall'",
    "echo callgate uninstall",
    "grep -rn 'callgate uninstall' docs",
    "cat ~/.cursor/mcp.json",
    "ls -la ~/.local/state/callgate",
    "git diff -- .mcp.json",
    "jq .mcpServers ~/.claude.json",
    "head -3 callgate.lock",
    "vim mcp.json",
    "cp x docs/mcp.json",
    "rm -rf ~/.cursorrc ~/.local/share/x",
    "touch ~/.local/state/other",
    "echo '{}' > .mcp.json.example",
    "pkill node",
    "make callgate",
    "ls ~ / /home",
]


@pytest.mark.parametrize(("command", "rule"), ATTACKS)
def test_what_is_aimed_at_the_gate(command: str, rule: str, home: Path, snapshot: Snapshot) -> None:
    found = judge_shell(command.replace("{home}", str(home)), str(home / "work"), snapshot)
    assert found is not None
    assert found[1] == rule
    denied = rule in (STATE, "hook-uninstall", "hook-kill")
    assert found[0] == ("deny" if denied else "ask")


@pytest.mark.parametrize("command", [*ORDINARY, *NEAR_MISSES])
def test_what_is_not(command: str, home: Path, snapshot: Snapshot) -> None:
    assert judge_shell(command, str(home / "work"), snapshot) is None


def test_a_command_that_is_too_long(home: Path, snapshot: Snapshot) -> None:
    found = judge_shell("x" * (MAX_TEXT + 1), str(home), snapshot)
    assert found is not None
    assert found[:2] == ("ask", "hook-too-long")


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("~/.local/state/callgate/hooks/snapshot.json", STATE),
        ("{home}/.local/state/../state/callgate/x", STATE),
        ("../.cursor/mcp.json", CLIENT),
        (".mcp.json", CLIENT),
        ("sub/.cursor/hooks.json", CLIENT),
        ("{home}/.claude/settings.json", CLIENT),
        ("callgate.lock", OWN),
        ("{home}/bin/callgate", "hook-program"),
        ("link/clients.json", STATE),
        ("src/mcp.json", ""),
        (".vscode/settings.json", ""),
        ("mcp.json", ""),
        ("a.mcp.json", ""),
        ("x" * 5000, ""),
        ("a\0b", ""),
    ],
)
def test_files_that_are_written(path: str, rule: str, home: Path, snapshot: Snapshot) -> None:
    os.symlink(home / ".local/state/callgate", home / "work/link")
    found = judge_paths([path.replace("{home}", str(home))], str(home / "work"), snapshot)
    assert (found[1] if found else "") == rule


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("~/.local/state/callgate/keys/audit-ed25519.pem", STATE),
        ("~/.local/state/callgate/secrets/a.age", STATE),
        ("~/.local/state/callgate/hooks/snapshot.json", ""),
        ("~/.cursor/mcp.json", ""),
        ("callgate.lock", ""),
    ],
)
def test_files_that_are_read(path: str, rule: str, home: Path, snapshot: Snapshot) -> None:
    found = judge_paths([path.replace("~", str(home))], str(home), snapshot, reading=True)
    assert (found[1] if found else "") == rule


def test_a_search_reads_all_that_is_below(home: Path, snapshot: Snapshot) -> None:
    for path, rule in ((".local/state", STATE), (".local/state/callgate", STATE), ("work", ""), (".cursor", "")):
        found = judge_paths([str(home / path)], "/", snapshot, reading=True, below=True)
        assert (found[1] if found else "") == rule, path


def test_edits_of_settings_can_be_refused(home: Path) -> None:
    state = home / ".local/state/callgate"
    hook_snapshot.write(state, Machine("linux", str(home), {}), ("/x/callgate",), chosen={"config": "deny"})
    hook_snapshot.write(state, Machine("linux", str(home), {}), ("/x/callgate",))  # the policy stays
    found = judge_paths([".mcp.json"], str(home), hook_snapshot.load(str(state)))
    assert found is not None
    assert found[0] == "deny"


def test_capitals_do_not_matter_where_the_file_system_folds_them(home: Path) -> None:
    state = home / ".local/state/callgate"
    hook_snapshot.write(state, Machine("darwin", str(home), {}), ("/x/callgate",))
    snapshot = hook_snapshot.load(str(state))
    for path in (".MCP.json", str(home / ".Cursor/MCP.JSON"), str(home / ".local/STATE/callgate/x")):
        assert judge_paths([path], str(home), snapshot) is not None


@given(st.text(max_size=200), st.booleans())
def test_any_text_gets_an_answer(text: str, near: bool) -> None:
    """An error would refuse the call: fail closed, and an agent that cannot work."""
    document = {
        "version": 1,
        "home": "/h",
        "state": "/h/s",
        "fold": False,
        "programs": [],
        "packages": [],
        "gateways": [],
        "policy": hook_snapshot.DEFAULT_POLICY,
        "guarded": ["/h/.x.json"],
        "tails": ["/.mcp.json"],
        "places": {},
    }
    found = judge_shell(f"rm {text}; cat '{text}' > \"$HOME/{text}\"" if near else text, "/h/w", Snapshot(document))
    assert found is None or found[0] in ("deny", "ask")
