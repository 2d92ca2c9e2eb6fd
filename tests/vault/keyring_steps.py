"""What the keyring test does inside a session bus of its own: start a keyring, and use it. Prints `steps done`."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from callgate.errors import SecretError
from callgate.vault.fields import NothingStored
from callgate.vault.providers.keyring_store import KeyringProvider
from callgate.vault.session import Session
from callgate.vault.stores import best_store, open_store

CANARY = b"keyring-Canary-123"


def start_keyring() -> None:
    subprocess.run(
        ["gnome-keyring-daemon", "--unlock", "--components=secrets"],
        input=b"password of the keyring",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
        timeout=30,
    )
    end = time.monotonic() + 30
    while not KeyringProvider().works():
        assert time.monotonic() < end, "the keyring did not start"
        time.sleep(0.05)


def refused(work: object) -> SecretError:
    try:
        work()  # type: ignore[operator]
    except SecretError as error:
        assert CANARY.decode() not in error.diagnostics()
        return error
    raise AssertionError("it was not refused")


def main() -> None:
    state = Path(sys.argv[1])
    start_keyring()
    store = best_store(state)
    assert store.name == "keyring"
    text = store.put("cursor/github/TOKEN", CANARY)
    assert text == "keyring://callgate/cursor%2Fgithub%2FTOKEN", text
    assert store.get("cursor/github/TOKEN") == CANARY
    with Session(state) as session:
        assert session.resolve(text).value == CANARY
    refused(lambda: store.put("cursor/github/TOKEN", b"another-Value"))
    store.put("cursor/github/TOKEN", b"another-Value", replace=True)
    assert store.get("cursor/github/TOKEN") == b"another-Value"
    assert store.delete("cursor/github/TOKEN")
    assert not store.delete("cursor/github/TOKEN")
    missing = refused(lambda: store.get("cursor/github/TOKEN"))
    assert isinstance(missing, NothingStored)
    assert f"callgate secrets set {text}" in missing.next_step
    for value in (b"\xff\xfe", b"a\0b"):
        assert "text only" in refused(lambda value=value: store.put("binary", value)).what
    other = open_store("keyring", state, place="my app")
    other.put("me@example.com", "p\u00e4ss w\u00f6rd".encode())
    assert other.reference("me@example.com") == "keyring://my%20app/me@example.com"
    with Session(state) as session:
        assert session.resolve("keyring://my app/me@example.com").value == "p\u00e4ss w\u00f6rd".encode()
    print("steps done")


if __name__ == "__main__":
    main()
