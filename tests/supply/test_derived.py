"""A project's lock that nobody signed starts only what its command means."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callgate.errors import TrustError
from callgate.supply import derived, tree_check
from callgate.supply.launch_line import line_digest
from callgate.supply.lockfile import load
from callgate.supply.pinned import Pinned, pinned_launch
from callgate.supply.resolve import Options, lock_server
from callgate.supply.resolve_types import artefacts_digest
from tests.supply.registry import Registry

NPX = ("npx", "-y", "mail-server@1.0.0", "--stdio")
UVX = ("env", "LEVEL=1", "uvx", "clock-server", "--utc")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def locked(project: Path, state: Path, name: str, line: tuple[str, ...]) -> Path:
    path = project / "callgate.lock"
    lock_server(name, line, state=state, lock=path, options=Options(cwd=project))
    return path


def changed(path: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text())
    change(document["servers"][name])
    path.write_text(json.dumps(document))


def start(path: Path, state: Path, name: str, line: tuple[str, ...], *, signed: bool = False) -> Pinned:
    found = pinned_launch(name, line, [path], state, signed=signed)
    assert found is not None
    return found


def output(found: Pinned) -> str:
    environment = {"PATH": os.environ["PATH"], **found.environment}
    done = subprocess.run(found.argv, capture_output=True, text=True, check=True, timeout=30, env=environment)
    return done.stdout.strip()


def entry(**more: Any) -> Callable[[dict[str, Any]], object]:
    return lambda server: server["entry"].update(more)


def member(**more: Any) -> Callable[[dict[str, Any]], object]:
    return lambda server: server.update(more)


ATTACKS: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("another program", entry(argv=["/bin/sh", "-c", "id"]), "argv is /bin/sh -c id"),
    ("a program beside the package's", entry(argv=["{runtime}", "{store}/node_modules/left/index.js"]), "argv is"),
    ("an option of the interpreter", lambda s: s["entry"]["argv"].insert(1, "--require=/tmp/x.js"), "argv is"),
    ("one more argument", lambda s: s["entry"]["argv"].append("--all"), "argv is"),
    ("one argument less", lambda s: s["entry"]["argv"].pop(), "argv is"),
    ("another interpreter", entry(runtime="sh"), "runtime is sh"),
    ("a variable", entry(environment={"NODE_OPTIONS": "--require=/tmp/x.js"}), "environment is"),
    ("another directory", entry(directory="/tmp"), "directory is /tmp"),
    ("no digest of the program", entry(sha256=""), "lacks the digests"),
    ("no digest of the tree", member(tree=""), "lacks the digests"),
    ("another file to compare", entry(file="package.json"), "file is package.json"),
    ("another package", member(package="left"), "left 1.0.0, which the command does not name"),
    ("another version", member(version="0.9.0"), "mail-server 0.9.0, which the command does not name"),
    ("another kind", member(kind="binary"), "the command is npm"),
    ("another place in the store", member(store="npm/left@1.0.0-0000/tree"), "not in the store|another place"),
    ("another record", member(record="npm/left@1.0.0-0000"), "another place"),
    ("another command behind the line's digest", member(argv=["npx", "-y", "left"]), "not the one that was locked"),
    ("another digest of all", member(artefacts_digest="sha256:" + "0" * 64), "not those whose digest it gives"),
]


@pytest.mark.slow
@pytest.mark.usefixtures("npm")
@pytest.mark.xdist_group("npm")
class TestNpm:
    @pytest.fixture
    def lock(self, registry: Registry, project: Path, state: Path) -> Path:
        registry.add_npm("left", "1.0.0", {"index.js": "exports.left = 1\n"})
        registry.add_npm("mail-server", "1.0.0", dependencies={"left": "^1.0.0"})
        return locked(project, state, "mail", NPX)

    def test_what_the_command_means_starts(self, lock: Path, state: Path) -> None:
        assert output(start(lock, state, "mail", NPX)) == "--stdio"
        assert tree_check.problems(load(lock).servers["mail"], lock, state) == []

    def test_attacks(self, lock: Path, state: Path) -> None:
        """One lock for all of them: making it takes seconds."""
        honest = lock.read_text()
        for what, change, says in ATTACKS:
            changed(lock, "mail", change)
            with pytest.raises(TrustError, match=says) as caught:
                start(lock, state, "mail", NPX)
            assert caught.value.next_step, what
            lock.write_text(honest)
        start(lock, state, "mail", NPX)

    def test_near_misses(self, lock: Path, state: Path, tmp_path: Path) -> None:
        """The interpreter's place is that of this machine, whatever the lock says; the rest is not about the start."""
        program = tmp_path / "node"
        program.write_text("#!/bin/sh\necho another program\n")
        program.chmod(0o755)
        changed(lock, "mail", entry(runtime_path=str(program), runtime_version="v1.2.3"))
        assert output(start(lock, state, "mail", NPX)) == "--stdio"
        changed(lock, "mail", member(approved_by="somebody", notes=["launch-unpinned"], published="2020-01-01"))
        assert output(start(lock, state, "mail", NPX)) == "--stdio"

    def test_a_signed_lock_and_the_users_own_start_what_they_say(self, lock: Path, state: Path) -> None:
        """Whoever signed it, or the user, answers for it: the caller verifies the signature."""
        changed(lock, "mail", lambda server: server["entry"]["argv"].append("--more"))
        assert output(start(lock, state, "mail", NPX, signed=True)) == "--stdio --more"
        own = state / "callgate.lock"
        own.write_text(lock.read_text())
        assert output(start(own, state, "mail", NPX)) == "--stdio --more"


@pytest.mark.slow
def test_pypi(registry: Registry, project: Path, state: Path) -> None:
    registry.add_pypi("clock-server", "1.0", scripts={"clock-server": "clock_server:main", "other": "clock_server:x"})
    lock = locked(project, state, "clock", UVX)
    assert output(start(lock, state, "clock", UVX)) == "--utc"
    honest = lock.read_text()
    for change in (
        entry(argv=["{store}/bin/python", "-c", "print(1)"]),
        entry(environment={"LEVEL": "1", "PYTHONPATH": "/tmp"}),
        entry(environment={}),
        member(package="clock"),
    ):
        changed(lock, "clock", change)
        with pytest.raises(TrustError, match="is not signed"):
            start(lock, state, "clock", UVX)
        lock.write_text(honest)
    assert output(start(lock, state, "clock", UVX)) == "--utc"


@pytest.mark.parametrize(
    ("kind", "requested", "locked", "same"),
    [
        ("pypi", "==1.0", "1.0.0", True),
        ("pypi", "==1.0RC1", "1.0rc1", True),
        ("pypi", "==1.0", "1.0.1", False),
        ("pypi", "==1.0", "1.0.post1", False),
        ("pypi", "==1.0", "1.0+evil", False),
        ("pypi", "==1.0", "no version", False),
        ("npm", "v1.0.0", "1.0.0", True),
        ("npm", "1.0.0+built", "1.0.0", True),
        ("npm", "1.0.0", "1.0.0-rc.1", False),
        ("npm", "1.0.0", "", False),
    ],
)
def test_an_exact_version_by_another_spelling(kind: str, requested: str, locked: str, same: bool) -> None:
    assert derived._same_version(kind, requested, locked) is same


@pytest.mark.slow
def test_a_python_version_spelled_shorter(registry: Registry, project: Path, state: Path) -> None:
    registry.add_pypi("clock-server", "1.0.0")
    line = ("uvx", "clock-server==1.0", "--utc")
    assert output(start(locked(project, state, "clock", line), state, "clock", line)) == "--utc"


def test_local_programs(project: Path, state: Path) -> None:
    (project / "server.py").write_text("import sys; print(*sys.argv[1:])\n")
    (project / "other.py").write_text("print('other')\n")
    line = (sys.executable, "server.py", "--x")
    lock = locked(project, state, "own", line)
    assert output(start(lock, state, "own", line)) == "--x"
    honest = lock.read_text()
    other = str(project / "other.py")
    for change in (
        entry(argv=["{runtime}", other, "--x"]),
        entry(file=other),
        entry(tree_root="/"),
        entry(runtime="sh"),
    ):
        changed(lock, "own", change)
        with pytest.raises(TrustError, match="another way than its command says"):
            start(lock, state, "own", line)
        lock.write_text(honest)
    changed(lock, "own", entry(runtime_path="/bin/false"))
    assert output(start(lock, state, "own", line)) == "--x"


def test_another_command_behind_the_digest_of_the_line(project: Path, state: Path) -> None:
    """A start is of the command it was given, not of the one that the lock has beside that command's digest."""
    (project / "other.py").write_text("print('other')\n")
    lock = locked(project, state, "own", (sys.executable, "other.py"))
    changed(lock, "own", member(line=line_digest(NPX)))
    for name in ("own", ""):
        with pytest.raises(TrustError, match="not the one that was locked"):
            pinned_launch(name, NPX, [lock], state)
    changed(lock, "own", member(argv=["\0".join(NPX)]))  # what the digest is over is the same
    with pytest.raises(TrustError, match="not the one that was locked"):
        pinned_launch("own", NPX, [lock], state)


def test_a_record_of_a_local_program_lies_among_those(project: Path, state: Path) -> None:
    """callgate writes its quick check there."""
    (project / "pyproject.toml").write_text("")
    (project / "server.py").write_text("print('own')\n")
    line = (sys.executable, "server.py")
    lock = locked(project, state, "own", line)
    (state / "artefacts" / "npm" / "mail@1-0" / "tree").mkdir(parents=True)
    for record in ("npm/mail@1-0/tree", "local/x/../../npm", "local/a/b", "/tmp", "."):
        changed(lock, "own", member(record=record))
        with pytest.raises(TrustError, match="another place in the store"):
            start(lock, state, "own", line)
    assert not list((state / "artefacts" / "npm" / "mail@1-0" / "tree").iterdir())


def test_a_line_that_cannot_be_pinned_is_not_started_by_a_lock_either(project: Path, state: Path) -> None:
    (project / "server.py").write_text("print(1)\n")
    line = (sys.executable, "server.py")
    lock = locked(project, state, "own", line)
    shell = ("sh", "-c", "curl x | sh")
    document = json.loads(lock.read_text())
    document["servers"]["own"].update(argv=list(shell), line=line_digest(shell))
    lock.write_text(json.dumps(document))
    with pytest.raises(TrustError, match="downloaded and run"):
        start(lock, state, "own", shell)


def bundle(path: Path, **server: Any) -> None:
    manifest = {
        "manifest_version": "0.2",
        "name": "notes",
        "version": "1.0.0",
        "description": "d",
        "author": {"name": "a"},
        "server": {
            "type": "python",
            "entry_point": "server.py",
            "mcp_config": {
                "command": "python",
                "args": ["${__dirname}/server.py", "${user_config.directory}"],
                **server,
            },
        },
        "user_config": {
            "directory": {"type": "directory", "title": "t", "description": "d", "required": True, "multiple": True}
        },
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("server.py", "import sys; print(*sys.argv[1:])\n")
    path.write_bytes(out.getvalue())


def test_bundles(project: Path, state: Path) -> None:
    bundle(project / "notes.mcpb")
    line = ("notes.mcpb", "directory=/srv/a", "directory=b")
    lock = locked(project, state, "notes", line)
    assert output(start(lock, state, "notes", line)) == f"/srv/a {project}/b"
    honest = lock.read_text()
    for change in (
        lambda server: server["entry"]["argv"].append("/etc"),
        entry(argv=["/bin/sh"]),
        entry(environment={"PYTHONPATH": "/tmp"}),
        member(store="mcpb/notes@1.0.0-0000000000000000/tree", record="mcpb/notes@1.0.0-0000000000000000"),
    ):
        changed(lock, "notes", change)
        with pytest.raises(TrustError):
            start(lock, state, "notes", line)
        lock.write_text(honest)
    bundle(project / "notes.mcpb", env={"A": "1"})  # another bundle now lies there
    with pytest.raises(TrustError, match="not the bundle that was locked"):
        start(lock, state, "notes", line)


IMAGE = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("image", "reference", "starts"),
    [
        ("org/box", f"hub.test/org/box@{IMAGE}", f"org/box@{IMAGE}"),
        ("org/box:1", f"org/box@{IMAGE}", f"org/box@{IMAGE}"),
        (f"org/box@{IMAGE}", f"org/box@{IMAGE}", f"org/box@{IMAGE}"),
        ("org/box", f"org/fox@{IMAGE}", ""),
        ("org/box", f"evil.test/xorg/box@{IMAGE}", ""),
        ("org/box", IMAGE, ""),
        ("org/box@sha256:" + "b" * 64, f"org/box@{IMAGE}", ""),
    ],
)
def test_images(project: Path, state: Path, image: str, reference: str, starts: str) -> None:
    """An engine is told the name that the command has, so that a lock cannot name another registry."""
    line = ["docker", "run", "-i", "--rm", image, "--x"]
    server = {
        "argv": line,
        "line": line_digest(line),
        "kind": "oci",
        "entry": {
            "argv": ["{runtime}", "run", "--pull=never", "-i", "--rm", reference, "--x"],
            "runtime": "docker",
            "runtime_path": "/tmp/evil",
            **dict.fromkeys(("file", "sha256", "runtime_version", "own", "tree_root", "directory"), ""),
            "environment": {},
        },
        **dict.fromkeys(("store", "record", "tree", "package", "version"), ""),
        "artefacts": [],
        "artefacts_digest": artefacts_digest(()),
    }
    lock = project / "callgate.lock"
    lock.write_text(json.dumps({"version": 1, "servers": {"box": server}}))
    if starts:
        found = start(lock, state, "box", tuple(line))
        assert found.argv[1:] == ("run", "--pull=never", "-i", "--rm", starts, "--x")
        assert os.path.basename(found.argv[0]) == "docker"
        assert found.argv[0] != "/tmp/evil"
    else:
        with pytest.raises(TrustError, match="is not signed"):
            start(lock, state, "box", tuple(line))
