"""Variables, files and the program of 1Password."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from callgate.config import Config
from callgate.errors import SecretError
from callgate.outside import caller, remembered
from callgate.outside.remembered import Remembered
from callgate.vault.fields import NothingStored
from callgate.vault.providers import open_provider
from callgate.vault.providers.onepassword import OnePasswordProvider
from callgate.vault.reference import parse
from callgate.vault.session import Session

OP = """#!{python}
import os, sys, time
words = sys.argv[1:]
assert words[:2] == ["read", "--no-newline"], words
known = {{"op://Private/My Login/password": "op-Value-123", "op://Private/x/otp?attribute=otp": "492039"}}
reference = words[2]
if reference in known:
    sys.stdout.write(known[reference])
elif "slow" in reference:
    time.sleep(60)
elif "locked" in reference:
    sys.exit("[ERROR] 2026/11/22 you are not currently signed in. op-Value-123 Please run `op signin`")
else:
    sys.exit('[ERROR] 2026/11/22 "nope" isn\\'t an item in the "Private" vault. op-Value-123')
"""


@pytest.fixture
def op(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "op"
    program.parent.mkdir()
    program.write_text(OP.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return program


def read(text: str, state: Path) -> bytes:
    with Session(state) as session:
        return session.resolve(text).value


def test_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CG_T", "v\u00e4lue ")
    assert read("env://CG_T", tmp_path) == "v\u00e4lue ".encode()
    monkeypatch.setenv("CG_T", "")
    for name in ("CG_T", "CG_NONE"):
        with pytest.raises(SecretError) as error:
            read(f"env://{name}", tmp_path)
        assert name in error.value.next_step


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o666])
def test_a_file_that_others_can_reach_is_refused(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("file-Value-1\n")
    path.chmod(mode)
    with pytest.raises(SecretError) as error:
        read(f"file://{path}", tmp_path)
    assert f"{mode:04o}" in error.value.what and "chmod 600" in error.value.next_step
    path.chmod(0o400)
    assert read(f"file://{path}", tmp_path) == b"file-Value-1"


def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can make a file of another user")
    path = tmp_path / "token"
    path.write_text("x")
    path.chmod(0o600)
    os.chown(path, 4242, 4242)
    with pytest.raises(SecretError) as error:
        read(f"file://{path}", tmp_path)
    assert "belongs to another user" in error.value.what


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path / "fifo", tmp_path, tmp_path / "none"):
        with pytest.raises(SecretError):
            read(f"file://{path}", tmp_path)
    big = tmp_path / "big"
    big.write_bytes(b"x" * 1_100_000)
    big.chmod(0o600)
    with pytest.raises(SecretError) as error:
        read(f"file://{big}", tmp_path)
    assert "1048576" in error.value.what


def test_a_link_is_followed_and_the_file_behind_it_checked(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("file-Value-1\r\n")
    path.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(path)
    assert read(f"file://{link}", tmp_path) == b"file-Value-1"
    path.chmod(0o644)
    with pytest.raises(SecretError):
        read(f"file://{link}", tmp_path)


def test_a_member_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("A=1\nTOKEN='x y'\n")
    path.chmod(0o600)
    assert read(f"file://{path}#TOKEN", tmp_path) == b"x y"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_1password_is_asked_by_argument_list(op: Path, tmp_path: Path) -> None:
    assert read("op://Private/My Login/password", tmp_path) == b"op-Value-123"
    assert read("op://Private/My%20Login/password", tmp_path) == b"op-Value-123"
    assert read("op://Private/x/otp?attribute=otp", tmp_path) == b"492039"


@pytest.mark.parametrize(("item", "hint"), [("locked", "op signin"), ("nope", "op item list")])
def test_what_1password_says_is_not_repeated(item: str, hint: str, op: Path, tmp_path: Path) -> None:
    with pytest.raises(SecretError) as error:
        read(f"op://Private/{item}/password", tmp_path)
    assert hint in error.value.next_step
    assert "op-Value-123" not in error.value.diagnostics()


def test_an_entry_does_not_say_which_op_it_is(op: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "_own", False)
    with pytest.raises(SecretError, match="a client's entry decides") as error:
        read("op://Private/My Login/password", tmp_path)
    assert "launch.programs" in error.value.next_step


def test_the_op_that_the_user_used_gets_its_settings_and_nothing_that_loads_code(
    op: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    op.write_text(op.read_text() + f"\nopen({str(seen)!r}, 'w').write(repr(dict(os.environ)))\n")
    remembered.write(str(tmp_path), Remembered({"op": str(op)}))
    monkeypatch.setattr(caller, "_own", False)
    monkeypatch.chdir("/")
    caller.settle(Config(), tmp_path)
    names = ("OP_SERVICE_ACCOUNT_TOKEN", "OP_CONNECT_HOST", "OP_SESSION_x", "OP_CONFIG_DIR", "LD_AUDIT", "GITHUB_TOKEN")
    for name in names:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PATH", "/evil")
    assert read("op://Private/My Login/password", tmp_path) == b"op-Value-123"
    assert [name for name in names if f"'{name}'" in seen.read_text()] == list(names[:3])
    assert "/evil" not in seen.read_text()


def test_1password_has_a_time_limit(op: Path) -> None:
    with pytest.raises(SecretError) as error:
        OnePasswordProvider(seconds=0.5).read(parse("op://Private/slow/password"))
    assert "did not answer" in error.value.what


def test_without_its_program_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SecretError) as error:
        read("op://Private/x/y", tmp_path)
    assert "op" in error.value.what and "install" in error.value.next_step


def test_there_is_no_other_store(tmp_path: Path) -> None:
    with pytest.raises(SecretError):
        open_provider("gopher", tmp_path)
    assert issubclass(NothingStored, SecretError)
