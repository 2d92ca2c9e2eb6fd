"""npm packages against a registry of our own: what is taken, what is not, and what runs then."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from callgate.errors import TrustError
from callgate.supply import artefacts, lockfile
from callgate.supply.lockfile import LockedServer
from callgate.supply.pinned import Pinned, pinned_launch
from callgate.supply.resolve import Options, lock_server
from tests.supply.registry import Registry

pytestmark = [pytest.mark.usefixtures("npm"), pytest.mark.xdist_group("npm"), pytest.mark.slow]
LINE = ("npx", "-y", "mail-server", "--stdio")


def days_ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def pinned(state: Path, line: tuple[str, ...] = LINE, name: str = "mail") -> Pinned:
    found = pinned_launch(name, line, [state / "callgate.lock"], state)
    assert found is not None
    return found


def output(found: Pinned) -> str:
    return subprocess.run(found.argv, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


@pytest.fixture
def mail(registry: Registry) -> Registry:
    registry.add_npm("left", "1.0.0", {"index.js": "exports.left = 1\n"})
    registry.add_npm("mail-server", "1.0.15", published=days_ago(60), dependencies={"left": "^1.0.0"})
    registry.add_npm("mail-server", "1.0.16", published=days_ago(3), dependencies={"left": "^1.0.0"})
    return registry


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("kept")
    yield folder
    artefacts.remove(folder)


@pytest.fixture
def locked(mail: Registry, state: Path, kept: Path) -> LockedServer:
    """The server, locked in `state`: by the first test that needs it, and copied for the others. npm takes its time."""
    if not (kept / "callgate.lock").exists():
        lock_server("mail", LINE, state=state)
        shutil.copytree(state, kept, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copytree(kept, state, symlinks=True, dirs_exist_ok=True)
    return lockfile.load(state / "callgate.lock").servers["mail"]


def test_the_newest_release_that_is_old_enough_is_taken_and_starts_offline(mail: Registry, state: Path) -> None:
    server = lock_server("mail", LINE, state=state)
    assert (server.version, server.kind, server.purl) == ("1.0.15", "npm", "pkg:npm/mail-server@1.0.15")
    assert [one.purl for one in server.artefacts] == ["pkg:npm/left@1.0.0", "pkg:npm/mail-server@1.0.15"]
    assert all(one.digest.startswith("sha512-") for one in server.artefacts)
    assert server.publisher == ("publisher alice", "maintainer alice")
    assert server.published.startswith(days_ago(60)[:10])
    mail.npm.clear()  # the registry is gone
    mail.asked.clear()
    found = pinned(state)
    assert output(found) == "--stdio"
    assert os.path.basename(found.argv[0]) == "node"
    assert found.facts["purl"] == "pkg:npm/mail-server@1.0.15"
    assert not mail.asked


def test_the_store_is_read_only(locked: LockedServer, state: Path) -> None:
    tree = Path(pinned(state).store)
    modes = {stat.S_IMODE(path.lstat().st_mode) for path in tree.rglob("*") if not path.is_symlink()}
    assert modes <= {0o444, 0o555}
    assert stat.S_IMODE(tree.stat().st_mode) == 0o555
    assert stat.S_IMODE((state / "callgate.lock").stat().st_mode) == 0o600


@pytest.mark.parametrize("spec", ["mail-server@1.0.16", "mail-server@^1.0.16"])
def test_a_young_release_that_is_asked_for_needs_a_word(mail: Registry, state: Path, spec: str) -> None:
    with pytest.raises(TrustError) as caught:
        lock_server("mail", ("npx", "-y", spec), state=state)
    assert "--no-cooldown" in caught.value.next_step
    assert not (state / "callgate.lock").exists()
    server = lock_server("mail", ("npx", "-y", spec), state=state, options=Options(no_cooldown=True))
    assert (server.version, server.cooldown) == ("1.0.16", "")


def test_a_registry_without_dates_is_told_apart(mail: Registry, state: Path) -> None:
    mail.times = False
    with pytest.raises(TrustError, match="no release date"):
        lock_server("mail", LINE, state=state)
    assert lock_server("mail", LINE, state=state, options=Options(no_cooldown=True)).version == "1.0.16"


def test_a_young_dependency_is_not_taken_either(mail: Registry, state: Path) -> None:
    mail.add_npm("left", "1.0.1", published=days_ago(1))
    purls = {one.purl for one in lock_server("mail", LINE, state=state).artefacts}
    assert "pkg:npm/left@1.0.0" in purls


def test_install_scripts_never_run_and_are_listed(mail: Registry, state: Path, tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    hooks = dict.fromkeys(("preinstall", "install", "postinstall", "prepare"), f"touch {witness}")
    mail.add_npm("left", "1.0.0", scripts=hooks)
    mail.add_npm("gyp", "1.0.0", {"binding.gyp": "{}"})
    mail.add_npm("mail-server", "1.0.15", dependencies={"left": "1.0.0", "gyp": "1.0.0"}, scripts=hooks)
    server = lock_server("mail", LINE, state=state)
    output(pinned(state))
    assert not witness.exists()
    assert len([one for one in server.install_scripts if "touch" in one]) == 6
    assert any(one.startswith("gyp@1.0.0: install: node-gyp") for one in server.install_scripts)


def test_locking_again_changes_nothing(mail: Registry, state: Path) -> None:
    lock_server("mail", LINE, state=state)
    before = (state / "callgate.lock").read_bytes()
    mail.add_npm("mail-server", "1.0.14", published=days_ago(90))
    mail.add_npm("mail-server", "1.1.0", published=days_ago(30), dependencies={"left": "^1.0.0"})
    lock_server("mail", LINE, state=state)
    assert (state / "callgate.lock").read_bytes() == before
    assert lock_server("mail", LINE, state=state, options=Options(fresh=True)).version == "1.1.0"


def test_other_bytes_under_the_same_version_are_refused(mail: Registry, state: Path) -> None:
    lock_server("mail", LINE, state=state)
    mail.add_npm("mail-server", "1.0.15", {"more.js": "1"}, published=days_ago(60), dependencies={"left": "^1.0.0"})
    with pytest.raises(TrustError, match="other bytes"):
        lock_server("mail", LINE, state=state)
    assert output(pinned(state)) == "--stdio"


def test_bytes_that_are_not_what_the_registry_promised_are_refused(mail: Registry, state: Path) -> None:
    one = mail.npm["mail-server"]["1.0.15"]
    other = mail.add_npm("other", "1.0.0", {"x.js": "evil"})
    one.served = other.data
    with pytest.raises(TrustError, match="digest"):
        lock_server("mail", LINE, state=state)
    assert not (state / "callgate.lock").exists()
    assert list((state / "artefacts").glob("npm/*")) == []


def test_a_store_that_is_gone_says_how_to_get_it_back(mail: Registry, state: Path) -> None:
    lock_server("mail", LINE, state=state)
    before = (state / "callgate.lock").read_bytes()
    folder = next((state / "artefacts" / "npm").iterdir())
    subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)
    shutil.rmtree(folder)
    with pytest.raises(TrustError) as caught:
        pinned(state)
    assert caught.value.next_step == "fetch it again: callgate trust lock mail"
    mail.add_npm("mail-server", "1.2.0", published=days_ago(30))
    lock_server("mail", LINE, state=state)
    assert output(pinned(state)) == "--stdio"
    assert (state / "callgate.lock").read_bytes() == before


@pytest.mark.parametrize("how", ["entry", "dependency", "added", "removed", "link"])
def test_tampering_in_the_store_stops_the_start(locked: LockedServer, state: Path, how: str) -> None:
    tree = Path(pinned(state).store)
    modules = tree / "node_modules"
    victim = modules / ("left/index.js" if how in ("dependency", "removed", "link") else "mail-server/index.js")
    victim.parent.chmod(0o755)
    victim.chmod(0o644)
    if how in ("entry", "dependency"):
        times = victim.stat()
        victim.write_text("console.log('evil')\n")
        os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif how == "added":
        (victim.parent / "package.js").write_text("evil")
    else:
        victim.unlink()
        if how == "link":
            victim.symlink_to("/dev/null")
    victim.parent.chmod(0o555)
    with pytest.raises(TrustError) as caught:
        pinned(state)
    assert "mail" in caught.value.what
    assert "index.js" in caught.value.what or "package.js" in caught.value.what


def test_touched_times_alone_do_not_stop_the_start(locked: LockedServer, state: Path) -> None:
    tree = Path(pinned(state).store)
    os.utime(tree / "node_modules", ns=(1, 1))
    assert output(pinned(state)) == "--stdio"
    record = tree.parent / "quick"
    assert record.stat().st_mtime > 10**9  # renewed, so that the next start is quick again


def test_another_launch_line_is_not_started(locked: LockedServer, state: Path) -> None:
    with pytest.raises(TrustError, match="not the one that was locked"):
        pinned(state, (*LINE, "--more"))
    assert pinned_launch("other", ("npx", "other"), [state / "callgate.lock"], state) is None
    same = pinned_launch("", LINE, [state / "missing", state / "callgate.lock"], state)
    assert same is not None and same.server["name"] == "mail"


@pytest.mark.parametrize(
    ("bins", "line", "file"),
    [
        ({"a": "a.js", "tool": "t.js"}, ("npx", "-y", "-p", "tool@1.0.0", "a"), "a.js"),
        ({"a": "a.js", "tool": "t.js"}, ("npx", "tool@1.0.0"), "t.js"),
        ({"only": "./sub/o.js"}, ("npx", "tool@1.0.0"), "sub/o.js"),
        ({"x": "t.js", "y": "./t.js"}, ("npx", "tool@1.0.0"), None),
        ({"x": "a.js", "y": "t.js"}, ("npx", "tool@1.0.0"), None),
        ({"tool": "../../../etc/passwd"}, ("npx", "tool@1.0.0"), None),
        ({"tool": "missing.js"}, ("npx", "tool@1.0.0"), None),
    ],
)
def test_which_program_of_a_package(
    registry: Registry, state: Path, bins: dict[str, str], line: tuple[str, ...], file: str | None
) -> None:
    text = "#!/usr/bin/env -S node --no-warnings\nconsole.log(require('path').basename(__filename), process.execArgv)\n"
    registry.add_npm("tool", "1.0.0", {"a.js": text, "t.js": text, "sub/o.js": text}, bin=bins)
    if file is None:
        with pytest.raises(TrustError):
            lock_server("tool", line, state=state)
        return
    lock_server("tool", line, state=state)
    assert output(pinned(state, line, "tool")).split()[0] == os.path.basename(file)
    assert "--no-warnings" in pinned(state, line, "tool").argv


@pytest.mark.parametrize("spec", ["https://h.test/x.tgz", "git+https://h.test/x.git", "user/repo", "file:../x"])
def test_a_dependency_from_outside_the_registry_is_refused(mail: Registry, state: Path, spec: str) -> None:
    url = spec.replace("https://h.test/x.tgz", f"{mail.url}/npm/-/left/1.0.0.tgz")
    mail.add_npm("mail-server", "1.0.15", published=days_ago(60), dependencies={"left": url})
    with pytest.raises(TrustError):
        lock_server("mail", LINE, state=state)
    assert not (state / "callgate.lock").exists()


def test_an_alias_of_the_registry_is_fine(mail: Registry, state: Path) -> None:
    mail.add_npm("mail-server", "1.0.15", published=days_ago(60), dependencies={"l": "npm:left@^1.0.0"})
    assert "pkg:npm/left@1.0.0" in {one.purl for one in lock_server("mail", LINE, state=state).artefacts}


def test_an_unknown_package_is_a_clear_error(registry: Registry, state: Path) -> None:
    with pytest.raises(TrustError, match="could not resolve no-such-thing"):
        lock_server("x", ("npx", "no-such-thing"), state=state)


def test_too_much_is_not_unpacked(mail: Registry, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mail.add_npm("mail-server", "1.0.15", {"bomb": b"\0" * (3 << 20)}, published=days_ago(60))
    small = artefacts.Limits(files=100_000, total_bytes=1 << 20, file_bytes=1 << 20)
    original = artefacts.walk
    monkeypatch.setattr(artefacts, "walk", lambda top, limits=small, skip=None: original(top, small, skip))
    with pytest.raises(TrustError, match="more than 1048576 bytes"):
        lock_server("mail", LINE, state=state)
    assert not (state / "callgate.lock").exists()
    assert not list((state / "artefacts").glob(".new-*"))


def test_the_lock_reads_back_as_it_was_written(mail: Registry, state: Path) -> None:
    server = lock_server("mail", LINE, state=state)
    assert lockfile.load(state / "callgate.lock").servers["mail"] == server


def test_environment_and_prefixes_of_the_line_hold(mail: Registry, state: Path) -> None:
    line = ("env", "LEVEL=3", "sh", "-c", "MODE=x npx -y mail-server@1.0.15 a 'b c'")
    lock_server("mail", line, state=state)
    found = pinned(state, line)
    assert found.environment == {"LEVEL": "3", "MODE": "x"}
    assert output(found) == "a b c"


def test_what_others_put_beside_the_work_counts_for_nothing(
    mail: Registry, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "package.json").write_text('{"workspaces": ["callgate-*", "callgate-*/*"]}')
    (shared / ".npmrc").write_text("registry=http://127.0.0.1:9/\n")
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    mine = tmp_path / "mine"
    mine.write_text(f"registry={mail.url}/npm/\n")
    monkeypatch.delenv("npm_config_registry")
    monkeypatch.setenv("npm_config_userconfig", str(mine))
    assert lock_server("mail", LINE, state=state).package == "mail-server"


def test_no_repository_is_cloned_by_an_npm_that_cannot_refuse_it(
    mail: Registry, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, witness = tmp_path / "older", tmp_path / "cloned"
    folder.mkdir()
    # npm before 11 passes over what it does not know.
    drop = 'for one do shift; case $one in --allow-*) ;; *) set -- "$@" "$one" ;; esac; done'
    (folder / "npm").write_text(f'#!/bin/sh\n{drop}\nexec {shutil.which("npm")} "$@"\n')
    (folder / "git").write_text(f"#!/bin/sh\n: > {witness}\nexit 1\n")
    for name in ("npm", "git"):
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    needs = {"left": f"git+file://{tmp_path}/repository"}
    mail.add_npm("mail-server", "1.0.15", published=days_ago(60), dependencies=needs)
    with pytest.raises(TrustError, match="from a repository, not from the registry"):
        lock_server("mail", LINE, state=state, options=Options(version="1.0.15"))
    assert not witness.exists()
