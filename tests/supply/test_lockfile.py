"""The lock's format: what is written reads back, and nothing else is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.config import SandboxConfig, SecretConfig
from callgate.errors import TrustError
from callgate.supply import lockfile
from callgate.supply.lockfile import Artefact, Entry, LockedServer, LockFile, edit, load, parse, serialise
from callgate.supply.pinned import pinned_launch

DIGEST = "sha256:" + "0123456789abcdef" * 4
HERE = Path("callgate.lock")
SERVER = LockedServer(
    name="mail",
    argv=("npx", "-y", "mail"),
    kind="npm",
    entry=Entry(("{runtime}", "{store}/x.js"), "x.js", "0" * 64, "node", environment={"A": "b"}),
    purl="pkg:npm/mail@1.0.0",
    artefacts=(Artefact("pkg:npm/mail@1.0.0", "sha512-" + "A" * 86 + "==", "f", (DIGEST,)),),
    store="npm/mail/tree",
    sandbox=SandboxConfig(read=("/data",), cpus=1.5, backend="bubblewrap"),
    secrets={"TOKEN": SecretConfig("vault://a/b#c", "sentinel", ("h.test",))},
    definitions={"tool:send": DIGEST},
    provenance={"npm": {"repository": "a/b"}},
)


def table(server: LockedServer = SERVER) -> dict[str, Any]:
    return json.loads(serialise(LockFile(HERE, {server.name: server})))  # type: ignore[no-any-return]


def test_written_and_read_back() -> None:
    lock = LockFile(HERE, {"mail": SERVER, "other": replace(SERVER, name="other", argv=("x",))})
    data = serialise(lock)
    assert parse(data, HERE) == lock
    assert serialise(parse(data, HERE)) == data
    assert data.endswith(b"}\n") and b'  "servers": {' in data


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(
    st.builds(
        LockedServer,
        name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
        argv=st.lists(TEXT, min_size=1, max_size=4).map(tuple),
        kind=TEXT,
        entry=st.builds(
            Entry, argv=st.lists(TEXT, min_size=1, max_size=3).map(tuple), environment=st.dictionaries(TEXT, TEXT)
        ),
        purl=TEXT,
        notes=st.lists(TEXT, max_size=3).map(tuple),
        definitions=st.dictionaries(TEXT, TEXT, max_size=3),
        sandbox=st.builds(SandboxConfig, read=st.lists(TEXT).map(tuple), memory_mib=st.none() | st.integers(1, 2**40)),
    )
)
@settings(max_examples=80)
def test_any_lock_reads_back(server: LockedServer) -> None:
    lock = LockFile(HERE, {server.name: server})
    assert parse(serialise(lock), HERE) == lock


def wrong(change: Any) -> bytes:
    document = table()
    change(document, document["servers"]["mail"])
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b'{"version": 1, "version": 1}',
        b'{"version": 2, "servers": {}}',
        b'{"version": true, "servers": {}}',
        b'{"version": 1, "servers": []}',
        b'{"version": 1, "servers": {}, "more": 1}',
        b'{"version": 1, "servers": {"a b": {}}}',
        b'{"version": 1, "servers": {"a": []}}',
        b'{"version": 1, "servers": {"a": {}}}',
        b'{"version": 1, "servers": {"a": {"argv": "npx"}}}',
        b"\xff",
        wrong(lambda d, s: s.update(extra=1)),
        wrong(lambda d, s: s.update(argv=[])),
        wrong(lambda d, s: s.update(argv=["npx\0"])),
        wrong(lambda d, s: s.update(line="0")),
        wrong(lambda d, s: s.update(record="/etc")),
        wrong(lambda d, s: s["entry"].update(argv=[])),
        wrong(lambda d, s: s["entry"].update(x=1)),
        wrong(lambda d, s: s["artefacts"][0].update(digest="md5:00")),
        wrong(lambda d, s: s["artefacts"][0].update(digest="sha256:" + "g" * 64)),
        wrong(lambda d, s: s["sandbox"].update(cpus=-1)),
        wrong(lambda d, s: s["sandbox"].update(backend="vm")),
        wrong(lambda d, s: s["sandbox"].update(read="x")),
        wrong(lambda d, s: s["secrets"]["TOKEN"].update(ref="hunter2")),
        wrong(lambda d, s: s["secrets"]["TOKEN"].update(deliver="post")),
        wrong(lambda d, s: s.update(definitions={"a": 1})),
        json.dumps({"version": 1, "servers": {f"s{n}": {} for n in range(1001)}}).encode(),
    ],
)
def test_what_is_not_a_lock_is_refused_with_advice(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(TrustError) as caught:
        parse(data, HERE)
    assert caught.value.next_step
    path = tmp_path / "callgate.lock"
    path.write_bytes(data)
    try:  # the launch path reads less, and never fails in another way
        pinned_launch("mail", ("npx", "-y", "mail"), [path], tmp_path)
    except TrustError as error:
        assert error.next_step


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | TEXT,
        lambda x: st.lists(x, max_size=3) | st.dictionaries(TEXT, x, max_size=3),
    )
)
@settings(max_examples=100)
def test_the_launch_path_takes_any_entry(tmp_path_factory: pytest.TempPathFactory, entry: Any) -> None:
    folder = tmp_path_factory.mktemp("lock")
    document = {"version": 1, "servers": {"mail": entry}}
    if isinstance(entry, dict):
        entry["line"] = SERVER.line
    (folder / "callgate.lock").write_text(json.dumps(document))
    try:
        pinned_launch("mail", SERVER.argv, [folder / "callgate.lock"], folder)
    except TrustError as error:
        assert error.next_step


def test_find_add_remove(tmp_path: Path) -> None:
    path = tmp_path / "state" / "callgate.lock"
    assert load(path).servers == {}
    edit(path, lambda old: old.put(SERVER))
    lock = load(path)
    assert lock.find("mail") == lock.find("", SERVER.argv) == SERVER
    assert lock.find("x", ("npx",)) is None
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.stat().st_mtime_ns
    edit(path, lambda old: old.put(SERVER))
    assert path.stat().st_mtime_ns == before, "what did not change is not written"
    assert edit(path, lambda old: old.without("mail")).servers == {}


def test_what_cannot_be_read_back_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "callgate.lock"
    edit(path, lambda old: old.put(SERVER))
    before = path.read_bytes()
    with pytest.raises(TrustError):
        edit(path, lambda old: old.put(replace(SERVER, secrets={"T": SecretConfig("literal-value")})))
    assert path.read_bytes() == before


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "callgate.lock"
    code = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from callgate.supply.lockfile import edit, LockedServer, Entry\n"
        "for n in range(15):\n"
        "    one = LockedServer(f'{sys.argv[1]}{n}', ('x', sys.argv[1], str(n)), 'npm', Entry(('x',)))\n"
        "    edit(Path(sys.argv[2]), lambda old: old.put(one))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, name, str(path)]) for name in "ab"]
    assert [one.wait(60) for one in running] == [0, 0]
    assert len(load(path).servers) == 30
    assert os.listdir(tmp_path) == ["callgate.lock"]


def test_a_lock_that_is_a_pipe_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockfile, "MAX_BYTES", 100)
    path = tmp_path / "callgate.lock"
    path.write_bytes(b" " * 101)
    with pytest.raises(TrustError, match="larger than 100"):
        load(path)
