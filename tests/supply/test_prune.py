"""Trees that no lock refers to: which of them go, and which never do."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from callgate.cli import trust
from callgate.errors import ConfigError, TrustError
from callgate.supply import artefacts, known_locks, lockfile, pinned, resolve
from callgate.supply.lockfile import Entry, LockedServer
from callgate.supply.prune import prune
from tests.support.kill import killed

DAY = 86400.0


def tree(state: Path, name: str, *, days: float = 100) -> LockedServer:
    """A sealed tree of that age, and a server that is started from it."""
    where = f"npm/{name}@1.0.0-0123456789abcdef"
    with artefacts.building(state) as folder:
        (folder / "tree" / "sub").mkdir()
        (folder / "tree" / "sub" / "index.js").write_text(f"// {name}\n" * 1000)
        digest = artefacts.digest_of(folder / "tree" / "sub" / "index.js")
        _, whole = artefacts.seal(state, folder, where, "sub")
    then = time.time() - days * DAY
    os.utime(artefacts.root(state) / where, (then, then))
    entry = Entry(("/bin/cat", "{store}/sub/index.js"), "sub/index.js", digest, own="sub")
    return LockedServer(name, ("npx", name), "npm", entry, store=f"{where}/tree", record=where, tree=whole)


def put(path: Path, server: LockedServer) -> None:
    lockfile.edit(path, lambda old: old.put(server))


def there(state: Path) -> set[str]:
    return {path.name.partition("@")[0] for path in (state / "artefacts" / "npm").iterdir()}


def fates(state: Path, **options: object) -> dict[str, str]:
    found = prune(state, **options)  # type: ignore[arg-type]
    return {one.record.removeprefix("npm/").partition("@")[0]: one.fate for one in found.trees}


def test_what_no_lock_names_and_is_old_goes(state: Path, tmp_path: Path) -> None:
    own, project, configured = tree(state, "own"), tree(state, "project"), tree(state, "configured")
    tree(state, "old")
    tree(state, "young", days=29)
    put(state / "callgate.lock", own)
    for name, server in (("project", project), ("configured", configured)):
        (tmp_path / name).mkdir()
        put(tmp_path / name / "callgate.lock", server)
    known_locks.remember(state, tmp_path / "project" / "callgate.lock")
    more = [tmp_path / "configured" / "callgate.lock"]

    found = prune(state, more)
    assert [(one.record[:7], one.fate) for one in found.trees] == [("npm/old", "unused"), ("npm/you", "young")]
    assert found.trees[0].size > 10_000
    assert found.kept == 3
    assert there(state) == {"own", "project", "configured", "old", "young"}, "looking removes nothing"

    assert fates(state, more=more, remove=True) == {"old": "removed", "young": "young"}
    assert there(state) == {"own", "project", "configured", "young"}
    assert not list((state / "artefacts").glob(".new-*"))
    assert fates(state, more=more, remove=True, days=7) == {"young": "removed"}


def test_nothing_that_may_be_in_the_middle_of_being_locked(state: Path) -> None:
    tree(state, "new", days=0.5 / 24)
    tree(state, "older", days=1.5 / 24)
    assert fates(state, days=0, remove=True) == {"new": "young", "older": "removed"}


def test_a_lock_that_is_gone_and_one_that_was_forgotten(state: Path, tmp_path: Path) -> None:
    path = tmp_path / "callgate.lock"
    put(path, tree(state, "project"))
    known_locks.remember(state, path)
    assert fates(state, remove=True) == {}
    assert known_locks.forget(state, path)
    assert not known_locks.forget(state, path)
    assert fates(state) == {"project": "unused"}
    known_locks.remember(state, path)
    path.unlink()
    found = prune(state, remove=True)
    assert found.gone == (str(path),)
    assert [one.fate for one in found.trees] == ["removed"]


@pytest.mark.parametrize("which", ["own", "project"])
def test_a_lock_that_cannot_be_read_ends_it(state: Path, tmp_path: Path, which: str) -> None:
    tree(state, "old")
    path = (state if which == "own" else tmp_path) / "callgate.lock"
    path.write_text("{")
    known_locks.remember(state, path)
    with pytest.raises(TrustError, match="cannot be told") as caught:
        prune(state, remove=True)
    assert caught.value.effect == "nothing was removed"
    assert there(state) == {"old"}


@pytest.mark.parametrize("how", ["a directory nobody may enter", "a loop of links"])
def test_a_lock_that_cannot_be_reached_is_not_one_that_is_gone(state: Path, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    put(folder / "callgate.lock", tree(state, "project"))
    known_locks.remember(state, folder / "callgate.lock")
    if how == "a loop of links":
        folder.rename(tmp_path / "real")
        folder.symlink_to("project")
    elif os.getuid() == 0:
        pytest.skip("root may enter every directory")
    else:
        folder.chmod(0)
    try:
        with pytest.raises(TrustError, match="cannot be told: cannot reach the lock"):
            prune(state, remove=True)
    finally:
        if not folder.is_symlink():
            folder.chmod(0o755)
    assert there(state) == {"project"}


def test_what_is_no_tree_is_left_alone(state: Path) -> None:
    tree(state, "old")
    (state / "artefacts" / "npm" / "file").write_text("x")
    assert fates(state, remove=True) == {"old": "removed"}
    assert there(state) == {"file"}


@pytest.mark.parametrize("again", [False, True])
def test_a_tree_that_goes_while_a_start_takes_hold_of_it(
    state: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """Between opening it and locking it: what is held then is not what has its place."""
    server = tree(state, "x")
    record = artefacts.root(state) / server.record
    real = fcntl.flock

    def late(descriptor: int, what: int) -> None:
        if record.exists():
            record.rename(record.with_name("away"))
            if again:
                record.mkdir()
        real(descriptor, what)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(TrustError, match="just being removed"):
        pinned._hold(str(record))
    monkeypatch.undo()
    if again:
        record.rmdir()
    with pytest.raises(TrustError, match="just being removed"):
        pinned._hold(str(record))


def test_a_damaged_record_of_locks_ends_it(state: Path, tmp_path: Path) -> None:
    tree(state, "old")
    known_locks.remember(state, tmp_path / "callgate.lock")
    for text in (json.dumps({"locks": ["relative"]}), "{"):
        (state / "trust" / "known-locks.json").write_text(text)
        with pytest.raises(TrustError, match="is damaged") as caught:
            prune(state, remove=True)
        assert caught.value.next_step.startswith("remove it:")
    assert there(state) == {"old"}


def test_the_record_of_locks(state: Path, tmp_path: Path) -> None:
    known_locks.remember(state, state / "callgate.lock")
    assert known_locks.paths(state) == [], "the user's own is known anyway"
    for number in (1, 2, 1):
        known_locks.remember(state, tmp_path / str(number))
    assert known_locks.paths(state) == [str(tmp_path / "2"), str(tmp_path / "1")]


STARTS = """
import sys
from pathlib import Path
from callgate.supply.pinned import pinned_launch
state, lock = Path(sys.argv[1]), Path(sys.argv[2])
found = pinned_launch("used", ["npx", "used"], [lock], state, signed=True)
print(found.argv[-1], flush=True)
sys.stdin.read()
"""


def test_never_a_tree_that_a_running_server_was_started_from(state: Path, tmp_path: Path) -> None:
    """It is held by the process that started it, by whatever lock, also when that lock names another tree by now."""
    lock = tmp_path / "callgate.lock"
    put(lock, tree(state, "used"))
    tree(state, "old")
    words = [sys.executable, "-c", STARTS, str(state), str(lock)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline().endswith("sub/index.js\n")
        lock.unlink()
        assert fates(state, remove=True) == {"used": "in use", "old": "removed"}
        process.stdin.close()
        assert process.wait(60) == 0
    assert fates(state, remove=True) == {"used": "removed"}


def test_no_start_from_a_tree_that_is_being_removed(state: Path, tmp_path: Path) -> None:
    lock = tmp_path / "callgate.lock"
    server = tree(state, "used")
    put(lock, server)
    held = os.open(artefacts.root(state) / server.record, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    words = [sys.executable, "-c", STARTS, str(state), str(lock)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=30)
    os.close(held)
    assert done.returncode
    assert "is just being removed" in done.stderr


def test_killed_at_every_step(tmp_path: Path) -> None:
    """What is left is whole and starts, or is cleared away by the next one; what a lock names stays."""
    step = 0
    while True:
        state = tmp_path / str(step)
        state.mkdir(mode=0o700)
        put(state / "callgate.lock", tree(state, "kept"))
        old = tree(state, "old")
        ended, code = killed(lambda state=state: len(prune(state, remove=True).trees) - 1, step)
        if not ended:
            assert code == 0
            break
        left = artefacts.root(state) / old.record
        if left.exists():
            assert artefacts.tree_digest(artefacts.listing(left / "tree")) == old.tree, step
        prune(state, remove=True)
        assert there(state) == {"kept"}, step
        assert not list((state / "artefacts").glob(".new-*")), step
        step += 1
        assert step < 500
    assert step > 10


def test_links_and_strangers_in_the_store_are_left_alone(state: Path, tmp_path: Path) -> None:
    tree(state, "old")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("x")
    os.symlink(outside, state / "artefacts" / "npm" / "link@1-0")
    os.symlink(outside, state / "artefacts" / "pypi")
    (state / "artefacts" / "notes").mkdir()
    assert fates(state, remove=True) == {"old": "removed"}
    assert (outside / "file").exists()
    assert (state / "artefacts" / "notes").exists()


def test_the_command(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALLGATE_STATE_DIR", str(state))
    put(state / "callgate.lock", tree(state, "own"))
    tree(state, "old")
    assert trust.main(["prune"]) == 0
    said = capsys.readouterr().out
    assert "1 in the store are in a lock, 1 are in none" in said
    assert "unused      0.0 MiB, 100 days old: npm/old@1.0.0-0123456789abcdef" in said
    assert "nothing was removed; --yes removes 1" in said
    assert trust.main(["prune", "--days", "365"]) == 0
    assert "nothing to remove (--days 365)" in capsys.readouterr().out
    assert trust.main(["prune", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["dry_run"], document["kept"], document["ok"]) == (True, 1, True)
    assert [(one["record"], one["fate"]) for one in document["trees"]] == [("npm/old@1.0.0-0123456789abcdef", "unused")]
    assert trust.main(["prune", "--yes"]) == 0
    assert "removed: 0.0 MiB" in capsys.readouterr().out
    assert there(state) == {"own"}
    (tmp_path / "project").mkdir()
    assert trust.main(["verify", "--project", str(tmp_path / "project")]) == 1  # nothing is locked there
    assert known_locks.paths(state) == [str(tmp_path / "project" / "callgate.lock")]
    assert trust.main(["prune", "--forget", str(tmp_path / "project" / "callgate.lock")]) == 0
    assert known_locks.paths(state) == []


def test_json_of_what_is_wrong_and_of_what_is_forgotten(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALLGATE_STATE_DIR", str(state))
    monkeypatch.delenv("CALLGATE_CONFIG", raising=False)
    with pytest.raises(ConfigError):
        trust.main(["prune", "--json", "--days", "-1"])
    assert "from 0 to 36500" in json.loads(capsys.readouterr().out)["error"]["what"]
    path = tmp_path / "x\x7f" / "callgate.lock"
    known_locks.remember(state, path)
    assert trust.main(["prune", "--json"]) == 0
    said = capsys.readouterr().out
    assert "\x7f" not in said
    assert json.loads(said)["gone"] == [str(path)]
    for known in (True, False):
        assert trust.main(["prune", "--json", "--forget", str(path)]) == 0
        assert json.loads(capsys.readouterr().out)["forgotten"] is known


def test_what_is_not_taken_goes_unless_somebody_has_it(state: Path, tmp_path: Path) -> None:
    """`discard`: a refused update must not take what a project's lock names, or a running server has."""
    project, running, free = tree(state, "project"), tree(state, "running"), tree(state, "free")
    put(tmp_path / "callgate.lock", project)
    known_locks.remember(state, tmp_path / "callgate.lock")
    descriptor = os.open(artefacts.root(state) / running.record, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    for server in (project, running, free):
        resolve.discard(state, server)
    assert there(state) == {"project", "running"}
    os.close(descriptor)
    (tmp_path / "callgate.lock").write_text("{")
    resolve.discard(state, running)
    assert there(state) == {"project", "running"}, "what a lock that cannot be read names is not known"
    known_locks.forget(state, tmp_path / "callgate.lock")
    resolve.discard(state, running)
    resolve.discard(state, running)
    assert there(state) == {"project"}
