"""The file of grants: what is believed, and what two writers, a kill and a stranger's file leave of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callgate.errors import SecretError
from callgate.vault import grants
from callgate.vault.grants import FILE_NAME, Grant, read
from callgate.vault.grants_file import changing
from tests.support.kill import killed

START = "0123456789abcdef" * 2
ONE = Grant("keyring://callgate/a", START, ("npx", "-y", "x"))
TWO = Grant(
    "age://b", START, url="https://far.example/mcp", owners=("entry\0mcpServers\0b\0/home/me/.cursor/mcp.json",)
)


def granted(state: Path, *given: Grant) -> Path:
    with changing(state) as draft:
        draft.add(given or (ONE, TWO))
    return state / FILE_NAME


def test_what_was_granted_is_read_again_and_holds_for_nothing_else(tmp_path: Path) -> None:
    assert not read(tmp_path).sealed and not read(tmp_path).grants
    path = granted(tmp_path)
    found = read(tmp_path)
    assert found.sealed and set(found.grants) == {ONE.key, TWO.key}
    assert path.stat().st_mode & 0o777 == 0o600
    assert found.near(ONE.reference, ONE.command, "")
    for command in (("npx", "-y"), ("npx", "-y", "x", "more"), ("npx", "-y x"), ("npx", "x", "-y")):
        assert not found.near(ONE.reference, command, "")
    assert not found.near("keyring://callgate/b", ONE.command, "")


def test_nothing_is_written_where_nothing_changed_or_something_went_wrong(tmp_path: Path) -> None:
    before = granted(tmp_path).stat()
    granted(tmp_path)
    with pytest.raises(ZeroDivisionError), changing(tmp_path) as draft:
        draft.revoke([ONE])
        raise ZeroDivisionError
    assert (tmp_path / FILE_NAME).stat().st_ino == before.st_ino and len(read(tmp_path).grants) == 2


def test_a_grant_ends_with_its_last_owner(tmp_path: Path) -> None:
    granted(tmp_path, ONE, Grant(ONE.reference, ONE.start, ONE.command, owners=("other",)))
    with changing(tmp_path) as draft:
        draft.believe(str(tmp_path / "callgate.toml"), "other")
    for owner, left in ((grants.PERSON, 1), ("other", 0)):
        with changing(tmp_path) as draft:
            draft.release(lambda one, _, owner=owner: one == owner)  # type: ignore[misc]
        assert len(read(tmp_path).grants) == left and len(read(tmp_path).configurations) == left


def _edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return edit


def _here(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """The same for what was granted in this place."""
    return _edited(lambda document: [change(one) for one in document["places"].values()])


def _to_a_link(path: Path) -> None:
    path.rename(path.with_suffix(".there"))
    path.symlink_to(path.with_suffix(".there"))


def _to_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _to_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


ATTACKS: dict[str, Callable[[Path], object]] = {
    "not ours alone: the group reads": lambda path: path.chmod(0o640),
    "not ours alone: others write": lambda path: path.chmod(0o602),
    "a link": _to_a_link,
    "a pipe": _to_a_pipe,
    "a directory": _to_a_directory,
    "empty": lambda path: path.write_bytes(b""),
    "no map": lambda path: path.write_text("[]"),
    "two documents": lambda path: path.write_bytes(path.read_bytes() * 2),
    "twice the same member": lambda path: path.write_text(
        path.read_text().replace('"places"', '"version": 1, "places"')
    ),
    "another version": _edited(lambda one: one.update(version=2)),
    "no places": _edited(lambda one: one.pop("places")),
    "places are a list": _edited(lambda one: one.update(places=[])),
    "a place is a list": _edited(lambda one: one["places"].update({"0" * 64: []})),
    "too many places": _edited(lambda one: one["places"].update({str(number): {} for number in range(101)})),
    "a member more": _edited(lambda one: one.update(more=1)),
    "a place with a member more": _here(lambda one: one.update(more=1)),
    "a place without grants": _here(lambda one: one.pop("grants")),
    "grants are a map": _here(lambda one: one.update(grants={})),
    "a grant is a text": _here(lambda one: one["grants"].append("keyring://a/b")),
    "no reference": _here(lambda one: one["grants"][0].update(reference="")),
    "a reference is a list": _here(lambda one: one["grants"][0].update(reference=["keyring://a/b"])),
    "any command": _here(lambda one: one["grants"][0].update(command=[])),
    "a command is a text": _here(lambda one: one["grants"][0].update(command="npx")),
    "a command and a URL": _here(lambda one: one["grants"][0].update(url="https://a.example/")),
    "a word is a number": _here(lambda one: one["grants"][0].update(command=["npx", 1])),
    "any start": _here(lambda one: one["grants"][0].update(start="")),
    "a start is a pattern": _here(lambda one: one["grants"][0].update(start="*" * 32)),
    "nobody's": _here(lambda one: one["grants"][0].update(owners=[])),
    "a grant with a member more": _here(lambda one: one["grants"][0].update(any=True)),
    "a configuration is a text": _here(lambda one: one.update(configurations={"/a": "b"})),
    "too many": _here(lambda one: one.update(grants=one["grants"] * 6000)),
    "too large": lambda path: path.write_bytes(path.read_bytes() + b" " * grants.MOST_BYTES),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_file_that_is_not_as_it_was_written_is_refused(tmp_path: Path, attack: str) -> None:
    path = granted(tmp_path)
    ATTACKS[attack](path)
    with pytest.raises(SecretError, match="cannot be read from") as caught:
        read(tmp_path)
    assert str(path) in caught.value.what and "callgate secrets grant" in caught.value.next_step
    with pytest.raises(SecretError), changing(tmp_path):
        pass  # and nothing is written over it


def test_a_torn_file_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    path = granted(tmp_path)
    whole = path.read_bytes()
    for length in range(len(whole.rstrip())):
        path.write_bytes(whole[:length])
        with pytest.raises(SecretError):
            read(tmp_path)
    path.write_bytes(whole)
    assert len(read(tmp_path).grants) == 2


def test_what_was_granted_elsewhere_counts_for_nothing_and_is_kept(tmp_path: Path) -> None:
    """As in a file that somebody committed: it is whole and private, and was made in another place."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    shutil.copy2(granted(theirs, ONE), ours / FILE_NAME)
    found = read(ours)
    assert not found.grants and not found.configurations and not found.sealed
    granted(ours, TWO)
    assert set(read(ours).grants) == {TWO.key}
    shutil.copy2(ours / FILE_NAME, theirs / FILE_NAME)  # one home, seen from two machines
    assert set(read(theirs).grants) == {ONE.key}
    with changing(theirs) as draft:
        draft.revoke([ONE])
    shutil.copy2(theirs / FILE_NAME, ours / FILE_NAME)
    assert set(read(ours).grants) == {TWO.key} and not read(theirs).grants


@pytest.mark.parametrize("machine", [b"", b"another one\n"])
def test_another_machine_has_grants_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: bytes) -> None:
    granted(tmp_path)
    other = tmp_path / "machine-id"
    other.write_bytes(machine)
    monkeypatch.setattr(grants, "_MACHINE", ("/nowhere", str(other)))
    assert not read(tmp_path).grants and not read(tmp_path).sealed
    granted(tmp_path, ONE)
    assert set(read(tmp_path).grants) == {ONE.key}
    monkeypatch.undo()
    assert set(read(tmp_path).grants) == {ONE.key, TWO.key}


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    os.chown(granted(tmp_path), 12345, 12345)
    with pytest.raises(SecretError, match="belongs to you"):
        read(tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        Grant("keyring://a/b", START, ("x" * 300_000,)),
        Grant("keyring://a/b", START, ("x",) * 2000),
        Grant("keyring://a/b", START, ("x\udfff",)),
        Grant("keyring://a/b", START, ()),
        Grant("keyring://a/b", "short", ("x",)),
    ],
)
def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, bad: Grant) -> None:
    granted(tmp_path)
    with pytest.raises(SecretError, match="cannot be granted"):
        granted(tmp_path, bad)
    assert len(read(tmp_path).grants) == 2


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from callgate.vault.grants import Grant; from callgate.vault.grants_file import changing\n"
        "for number in range(20):\n"
        "    with changing(Path(sys.argv[1])) as draft:\n"
        f"        draft.add([Grant(f'age://{{sys.argv[2]}}-{{number}}', {START!r}, ('x',))])\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(number)]) for number in range(3)]
    while any(one.poll() is None for one in writers):
        read(tmp_path)  # never half of it
    assert [one.wait(60) for one in writers] == [0, 0, 0]
    assert len(read(tmp_path).grants) == 60


def test_a_writer_waits_for_another_and_says_so_at_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callgate.vault.grants_file.LOCK_S", 0.05)
    with changing(tmp_path), pytest.raises(SecretError, match="another callgate"), changing(tmp_path):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_every_step_it_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    path = granted(tmp_path, ONE)

    def work() -> int:
        granted(tmp_path, TWO)
        return 0

    outcomes = []
    for step in range(100):
        granted(tmp_path, ONE)
        with changing(tmp_path) as draft:
            draft.revoke([TWO])
        ended, code = killed(work, step)
        outcomes.append(frozenset(read(tmp_path).grants))
        assert outcomes[-1] in ({ONE.key}, {ONE.key, TWO.key})
        if not ended:
            assert code == 0
            break
    assert len(outcomes) > 5 and {ONE.key} in outcomes and outcomes[-1] == {ONE.key, TWO.key}
    assert [one.name for one in tmp_path.iterdir() if "tmp" in one.name] == []
    assert path.stat().st_mode & 0o777 == 0o600
