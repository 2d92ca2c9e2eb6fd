"""Local programs, binaries and bundles: pinned where they are, or unpacked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from callgate.errors import TrustError
from callgate.supply import local_rules, lockfile
from callgate.supply.pinned import Pinned, pinned_launch
from callgate.supply.resolve import Options, lock_server
from callgate.supply.resolve_update import drop, propose


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "lib").mkdir(parents=True)
    (folder / "pyproject.toml").write_text("")
    (folder / "server.py").write_text("import sys\nprint(*sys.argv[1:])\n")
    (folder / "lib" / "tools.py").write_text("x = 1\n")
    return folder


def lock(state: Path, cwd: Path, *line: str) -> Pinned:
    lock_server("own", line, state=state, options=Options(cwd=cwd))
    return start(state, *line)


def start(state: Path, *line: str) -> Pinned:
    found = pinned_launch("own", line, [state / "callgate.lock"], state)
    assert found is not None
    return found


def output(found: Pinned) -> str:
    return subprocess.run(found.argv, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def test_a_script_and_its_project(project: Path, state: Path) -> None:
    line = (sys.executable, "-u", "server.py", "a", "b")
    found = lock(state, project, *line)
    assert found.argv == (sys.executable, "-u", str(project / "server.py"), "a", "b")
    assert output(found) == "a b"
    (project / "lib" / "tools.py").write_text("x = 2\n")
    with pytest.raises(TrustError, match=r"lib/tools.py \(changed\)"):
        start(state, *line)
    (project / "lib" / "tools.py").write_text("x = 1\n")
    assert output(start(state, *line)) == "a b", "what counts is the content"
    (project / "server.py").write_text("print('other')")
    with pytest.raises(TrustError) as caught:
        start(state, *line)
    assert "callgate trust lock own" in caught.value.next_step
    assert output(lock(state, project, *line)) == "other"


def test_a_look_at_a_change_does_not_take_it(project: Path, state: Path) -> None:
    line = (sys.executable, "server.py")
    lock(state, project, *line)
    before = lockfile.load(state / "callgate.lock").servers["own"]
    (project / "lib" / "tools.py").write_text("x = 2\n")
    proposal = propose(before, state, Options(cwd=project))
    assert not proposal.nothing
    with pytest.raises(TrustError, match=r"lib/tools.py \(changed\)"):
        start(state, *line)
    drop(proposal, state)
    with pytest.raises(TrustError):
        start(state, *line)
    (project / "lib" / "tools.py").write_text("x = 1\n")
    start(state, *line)


@pytest.mark.parametrize("name", [".git", "node_modules", "__pycache__", ".venv"])
def test_what_tools_make_does_not_count(project: Path, state: Path, name: str) -> None:
    line = (sys.executable, "server.py")
    lock(state, project, *line)
    (project / name).mkdir()
    (project / name / "x").write_text("y")
    start(state, *line)


def test_a_module_below_the_directory(project: Path, state: Path) -> None:
    (project / "own").mkdir()
    (project / "own" / "__main__.py").write_text("print('main')\n")
    line = (sys.executable, "-m", "own", "x")
    assert lock(state, project, *line).argv == (sys.executable, "-m", "own", "x")
    (project / "own" / "__main__.py").write_text("print('evil')\n")
    with pytest.raises(TrustError):
        start(state, *line)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (("python3", "-m", "no_such_module_here"), "in no place that can be told"),
        (("node", "missing.js"), "there is no file"),
        (("no-such-program-here", "x"), "there is no program"),
        (("uv", "run", "--directory", ".", "tool"), "an environment that uv makes"),
        (("node", "-e", "1"), "holds the program's code"),
        (("npm", "run", "x"), "more than one plain command"),
        (("callgate", "run", "--url", "https://h.test/mcp"), "no artefact"),
        (("node", "server.py", "{store}/x"), "stands for something else"),
        (("env", "PATH=/x", "node", "server.py"), "changes PATH"),
        (("deno", "run", "npm:pkg@1.0.0"), "cannot be pinned"),
    ],
)
def test_what_cannot_be_pinned(project: Path, state: Path, line: tuple[str, ...], says: str) -> None:
    with pytest.raises(TrustError, match=says) as caught:
        lock(state, project, *line)
    assert caught.value.next_step


def test_a_binary_by_itself(tmp_path: Path, state: Path) -> None:
    program = tmp_path / "server"
    program.write_text("#!/bin/sh\necho one $1\n")
    program.chmod(0o755)
    line = (str(program), "x")
    assert output(lock(state, tmp_path, *line)) == "one x"
    program.write_text("#!/bin/sh\necho two\n")
    with pytest.raises(TrustError, match="not the one that was locked"):
        start(state, *line)


def test_a_project_never_is_a_home_or_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "package.json").write_text("{}")
    (tmp_path / "a.js").write_text("")
    assert local_rules.project(tmp_path / "a.js") is None
    assert local_rules.project(Path("/a.js")) is None


# --- bundles ---------------------------------------------------------------------------------------------------


def bundle(path: Path, manifest: dict[str, object], **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, text in files.items():
            archive.writestr(name.replace("__", "/").replace("_js", ".js"), text)
    return path


def manifest(**server: object) -> dict[str, object]:
    config = {"command": "node", "args": ["${__dirname}/server/index.js", "--x"], "env": {"HERE": "${__dirname}"}}
    return {
        "manifest_version": "0.3",
        "name": "notes",
        "version": "1.2.0",
        "description": "d",
        "author": {"name": "a"},
        "server": {"type": "node", "entry_point": "server/index.js", "mcp_config": config, **server},
    }


@pytest.mark.usefixtures("npm")
def test_a_bundle(tmp_path: Path, state: Path) -> None:
    file = bundle(tmp_path / "notes.mcpb", manifest(), server__index_js="console.log(process.argv[2])\n")
    found = lock(state, tmp_path, str(file))
    assert output(found) == "--x"
    assert found.environment == {"HERE": found.store}
    assert found.server["version"] == "1.2.0"
    os.unlink(file)
    assert output(start(state, str(file))) == "--x"


def test_a_hostile_bundle(tmp_path: Path, state: Path) -> None:
    file = tmp_path / "evil.mcpb"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest()))
        archive.writestr("../../evil", "x")
    with pytest.raises(TrustError):
        lock(state, tmp_path, str(file))
    assert not (state / "callgate.lock").exists()


@pytest.mark.usefixtures("npm")
def test_the_signer_of_a_bundle_is_kept(tmp_path: Path, state: Path) -> None:
    pytest.importorskip("asn1crypto")
    from tests.supply.test_mcpb_signature import signed

    file = tmp_path / "clock.mcpb"
    file.write_bytes(signed())
    server = lock_server("own", (str(file),), state=state)
    assert server.provenance["mcpb"]["subject"] == "CN=Publisher"
    assert server.provenance["mcpb"]["trusted"] is False
    secret = next(one.partition(" ")[2] for one in server.notes if one.startswith("mcpb-secret "))
    assert secret not in server.entry.environment
    data = bytearray(file.read_bytes())
    data[data.index(b"manifest.json") + 40] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(TrustError):
        lock_server("other", (str(file),), state=state)
