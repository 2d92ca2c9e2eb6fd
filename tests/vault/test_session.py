from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from callgate.errors import SecretError
from callgate.vault import session as session_module
from callgate.vault.deadline import within
from callgate.vault.fields import NothingStored
from callgate.vault.session import MOST_CACHED_S, Session


class Clock:
    """The session's time, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(session_module, "time", made)
    return made


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first-Value-1")
    path.chmod(0o600)
    return path


def test_a_value_is_kept_for_five_minutes_and_not_longer(token: Path, clock: Clock) -> None:
    with Session(token.parent) as session:
        text = f"file://{token}"
        assert session.resolve(text).value == b"first-Value-1"
        token.write_text("second-Value-2")
        clock.now += MOST_CACHED_S - 1
        assert session.resolve(text).value == b"first-Value-1"
        clock.now += 2
        assert session.resolve(text).value == b"second-Value-2"


def test_what_cannot_be_read_again_is_an_error_when_it_is_old(token: Path, clock: Clock) -> None:
    with Session(token.parent) as session:
        session.resolve(f"file://{token}")
        token.unlink()
        assert session.resolve(f"file://{token}").value == b"first-Value-1"
        clock.now += MOST_CACHED_S + 1
        with pytest.raises(SecretError):
            session.resolve(f"file://{token}")


def test_refreshing_tells_what_changed_and_keeps_what_it_cannot_read(token: Path) -> None:
    problems: list[SecretError] = []
    with Session(token.parent, on_problem=problems.append) as session:
        token.write_text('{"a": "a-Value", "b": "b-Value"}')
        texts = [f"file://{token}#a", f"file://{token}#b"]
        assert [session.resolve(text).value for text in texts] == [b"a-Value", b"b-Value"]
        assert session.refresh() == ()
        token.write_text('{"a": "a-Value", "b": "new-Value"}')
        assert [(secret.reference, secret.value) for secret in session.refresh()] == [(texts[1], b"new-Value")]
        token.unlink()
        assert session.refresh() == ()
        assert len(problems) == 1
        assert session.resolve(texts[1]).value == b"new-Value"


def test_values_are_overwritten_at_the_end(token: Path) -> None:
    session = Session(token.parent)
    session.resolve(f"file://{token}")
    (entry,) = session._entries.values()
    buffers = [entry.content, *entry.values.values()]
    session.close()
    assert all(set(buffer) == {0} for buffer in buffers)
    assert session.close() == ()
    with pytest.raises(SecretError):
        session.resolve(f"file://{token}")


def test_no_repr_shows_a_value(token: Path) -> None:
    with Session(token.parent) as session:
        secret = session.resolve(f"file://{token}")
        assert "first" not in repr(secret) + str(secret) + repr(session)
        assert (secret.lease_s, secret.renewable, secret.scheme) == (0.0, False, "file")


def test_many_threads_share_one_session(token: Path) -> None:
    found: list[bytes] = []
    with Session(token.parent) as session:
        threads = [
            threading.Thread(target=lambda: found.append(session.resolve(f"file://{token}").value)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [b"first-Value-1"] * 8


def test_work_that_hangs_is_given_up() -> None:
    release = threading.Event()
    started = time.monotonic()
    with pytest.raises(SecretError) as error:
        within(0.2, "the store", release.wait, lambda _: SecretError("never"))
    release.set()
    assert time.monotonic() - started < 30
    assert error.value.what == "the store did not answer within 0.2 s"


def test_at_the_end_of_the_program_secrets_are_given_back_all_the_same() -> None:
    script = (
        "import atexit\nfrom callgate.errors import SecretError\nfrom callgate.vault.deadline import within\n"
        "atexit.register(lambda: print(within(30, 'x', lambda: 'given back', lambda e: SecretError('never'))))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("given back\n", "")


def test_what_went_wrong_is_told_without_the_original_error() -> None:
    def fail() -> None:
        raise ValueError("the answer was: secret-Value-1")

    with pytest.raises(SecretError) as error:
        within(30, "the store", fail, lambda problem: SecretError(type(problem).__name__))
    assert (error.value.what, error.value.__cause__, error.value.__context__) == ("ValueError", None, None)

    def nothing() -> None:
        raise NothingStored("nothing", next_step="put it there")

    with pytest.raises(NothingStored) as missing:
        within(30, "the store", nothing, lambda _: SecretError("never"))
    assert missing.value.next_step == "put it there"
    assert missing.value.__context__ is None
