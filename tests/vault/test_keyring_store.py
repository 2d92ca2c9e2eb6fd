from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from callgate.errors import SecretError
from callgate.vault.providers.keyring_store import _find_bus
from callgate.vault.session import Session
from callgate.vault.stores import best_store, open_store
from tests.support.programs import REQUIRED

ROOT = Path(__file__).parents[2]
STEPS = Path(__file__).with_name("keyring_steps.py")


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """A home of its own, and no bus of the person who runs the tests."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700, exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "PYTHONDONTWRITEBYTECODE")}
    own = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(runtime), "PYTHONPATH": str(ROOT)}
    return {**kept, **own, "XDG_DATA_HOME": str(tmp_path / "data"), **more}


@pytest.mark.slow
def test_a_real_keyring(tmp_path: Path) -> None:
    missing = [name for name in ("dbus-run-session", "gnome-keyring-daemon") if shutil.which(name) is None]
    if missing:
        reason = f"not installed: {', '.join(missing)}"
        pytest.fail(reason) if REQUIRED else pytest.skip(reason)
    done = subprocess.run(
        ["dbus-run-session", "--", sys.executable, str(STEPS), str(tmp_path / "state")],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "steps done" in done.stdout, done.stdout + done.stderr
    assert "keyring-Canary-123" not in done.stdout + done.stderr


@pytest.mark.slow
def test_the_bus_of_the_session_is_found_without_a_variable(tmp_path: Path) -> None:
    """Some clients hand what they start a few variables only."""
    missing = [name for name in ("dbus-daemon", "gnome-keyring-daemon") if shutil.which(name) is None]
    if missing:
        reason = f"not installed: {', '.join(missing)}"
        pytest.fail(reason) if REQUIRED else pytest.skip(reason)
    own = environment(tmp_path)
    address = f"unix:path={own['XDG_RUNTIME_DIR']}/bus"
    words = ["dbus-daemon", "--session", "--nofork", "--print-address", f"--address={address}"]
    with subprocess.Popen(words, env=own, stdout=subprocess.PIPE) as bus:
        try:
            assert bus.stdout and bus.stdout.readline()
            done = subprocess.run(
                [sys.executable, str(STEPS), str(tmp_path / "state")],
                env=own,
                capture_output=True,
                text=True,
                timeout=100,
                check=False,
            )
        finally:
            bus.kill()
    assert "steps done" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["a file", "a link", "nothing"])
def test_what_is_no_socket_of_the_user_is_no_bus(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with socket.socket(socket.AF_UNIX) as elsewhere:
        elsewhere.bind(str(tmp_path / "real"))
        if kind == "a file":
            (tmp_path / "bus").touch()
        elif kind == "a link":
            (tmp_path / "bus").symlink_to(tmp_path / "real")
        _find_bus()
    assert "DBUS_SESSION_BUS_ADDRESS" not in os.environ


@pytest.fixture
def no_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


SCRIPT = """
import pathlib, sys
from callgate.errors import SecretError
from callgate.vault.session import Session
from callgate.vault.stores import best_store, open_store
state = pathlib.Path(sys.argv[1])
assert best_store(state).name == "age"
for work in (lambda: Session(state).resolve("keyring://a/b"), lambda: open_store("keyring", state).put("a", b"plain-Value-1")):
    try:
        work()
    except SecretError as error:
        assert "keyring" in error.what, error.what
        assert error.next_step
    else:
        raise AssertionError("it was not refused")
print("refused")
"""


@pytest.mark.parametrize(
    "backend",
    ["", "keyring.backends.fail.Keyring", "keyring.backends.null.Keyring", "keyring.backends.chainer.ChainerBackend"],
)
def test_without_a_real_keyring_nothing_is_kept_in_plain_text(backend: str, tmp_path: Path) -> None:
    more = {"PYTHON_KEYRING_BACKEND": backend} if backend else {}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "state")],
        env=environment(tmp_path, DBUS_SESSION_BUS_ADDRESS="disabled:", **more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "refused\n", done.stderr
    assert not any(b"plain-Value-1" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_backend_in_plain_text_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "lib" / "keyrings" / "alt"
    package.mkdir(parents=True)
    (package / "file.py").write_text(
        "from keyring.backend import KeyringBackend\n"
        "class PlaintextKeyring(KeyringBackend):\n"
        "    priority = 9\n"
        "    def get_password(self, *_): return 'plain'\n"
        "    def set_password(self, *_): pass\n"
        "    def delete_password(self, *_): pass\n"
    )
    more = {"PYTHON_KEYRING_BACKEND": "keyrings.alt.file.PlaintextKeyring"}
    env = environment(tmp_path, **more)
    env["PYTHONPATH"] += f"{os.pathsep}{tmp_path / 'lib'}"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "state")],
        env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "refused\n", done.stderr


@pytest.mark.parametrize("settings", ["[backend]\nkeyring-path={lib}\ndefault-keyring=own.K\n", "keyring-path", "\xff"])
def test_settings_that_a_variable_points_to_load_no_code(settings: str, tmp_path: Path) -> None:
    """An entry may set XDG_CONFIG_HOME for its server; the gate stands outside of the sandbox."""
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    folder = tmp_path / "config" / "python_keyring"
    folder.mkdir(parents=True)
    (folder / "keyringrc.cfg").write_bytes(settings.replace("{lib}", str(tmp_path)).encode("latin-1"))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "state")],
        env=environment(tmp_path, XDG_CONFIG_HOME=str(tmp_path / "config")),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "refused\n", done.stderr
    assert not (tmp_path / "ran").exists()


def test_the_place_of_a_store_is_named(tmp_path: Path) -> None:
    assert open_store("keyring", tmp_path, place="my/app").reference("a b") == "keyring://my%2Fapp/a%20b"
    assert open_store("awssm", tmp_path).reference("github/TOKEN") == "awssm://callgate/github%2FTOKEN"
    for name, place in (("age", "x"), ("paper", "")):
        with pytest.raises(SecretError):
            open_store(name, tmp_path, place=place)
    assert best_store.__module__ == open_store.__module__
    assert Session(tmp_path).close() == ()
