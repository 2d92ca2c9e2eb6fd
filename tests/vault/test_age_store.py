from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callgate.errors import SecretError
from callgate.vault.fields import NothingStored
from callgate.vault.session import Session
from callgate.vault.stores import open_store
from tests.support.programs import REQUIRED


@pytest.fixture
def age() -> str:
    program = shutil.which("age")
    if program is None:
        reason = "the program age is not installed"
        pytest.fail(reason) if REQUIRED else pytest.skip(reason)
    return str(program)


def read(text: str, state: Path) -> bytes:
    with Session(state) as session:
        return session.resolve(text).value


def test_what_is_put_is_got_and_gone_when_deleted(tmp_path: Path) -> None:
    store = open_store("age", tmp_path)
    text = store.put("cursor/github/GITHUB_TOKEN", b"age-Value-123")
    assert text == "age://cursor%2Fgithub%2FGITHUB_TOKEN"
    assert store.get("cursor/github/GITHUB_TOKEN") == read(text, tmp_path) == b"age-Value-123"
    assert store.delete("cursor/github/GITHUB_TOKEN")
    assert not store.delete("cursor/github/GITHUB_TOKEN")
    with pytest.raises(NothingStored) as error:
        store.get("cursor/github/GITHUB_TOKEN")
    assert text in error.value.next_step


def test_nobody_else_can_read_the_store_and_nothing_in_it_is_plain(tmp_path: Path) -> None:
    open_store("age", tmp_path).put("a", b"age-Value-123")
    directory = tmp_path / "secrets"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in directory.iterdir()) == ["a.age", "identity.txt"]
    for path in directory.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert b"age-Value-123" not in path.read_bytes()


def test_another_value_is_not_written_over(tmp_path: Path) -> None:
    store = open_store("age", tmp_path)
    store.put("a", b"first-Value-1")
    assert store.put("a", b"first-Value-1") == "age://a"
    with pytest.raises(SecretError) as error:
        store.put("a", b"second-Value-2")
    assert "first" not in error.value.diagnostics() and "second" not in error.value.diagnostics()
    store.put("a", b"second-Value-2", replace=True)
    assert store.get("a") == b"second-Value-2"


def test_what_cannot_be_read_is_not_written_over(tmp_path: Path) -> None:
    store = open_store("age", tmp_path)
    store.put("a", b"first-Value-1")
    sealed = (tmp_path / "secrets" / "a.age").read_bytes()
    (tmp_path / "secrets" / "identity.txt").unlink()
    for _ in range(2):  # the second time there is a new identity, which does not fit
        with pytest.raises(SecretError):
            open_store("age", tmp_path).put("a", b"second-Value-2")
        assert (tmp_path / "secrets" / "a.age").read_bytes() == sealed
        open_store("age", tmp_path).put("b", b"other-Value-3")


@pytest.mark.parametrize(
    "name", ["identity.txt", "..", ".", "a/../../b", "x" * 120, "\u00fcml\u00e4ut", "a b%41", "con.age"]
)
def test_any_name_stays_in_the_directory(name: str, tmp_path: Path) -> None:
    store = open_store("age", tmp_path)
    try:
        store.put(name, b"age-Value-123")
    except SecretError:
        assert name in ("..", ".")
        return
    assert store.get(name) == b"age-Value-123"
    assert {path.parent for path in tmp_path.rglob("*.age")} == {tmp_path / "secrets"}


@pytest.mark.parametrize("name", ["", "x" * 121, "a\nb", "\u20ac" * 100])
def test_an_impossible_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SecretError):
        open_store("age", tmp_path).put(name, b"age-Value-123")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(min_size=1, max_size=30), value=st.binary(min_size=1, max_size=500))
def test_any_value_under_any_name(name: str, value: bytes, tmp_path: Path) -> None:
    store = open_store("age", tmp_path)
    try:
        text = store.put(name, value, replace=True)
    except SecretError as error:
        assert value not in error.diagnostics().encode() or len(value) < 8
        return
    assert store.get(name) == read(text, tmp_path) == value


def test_two_processes_agree_on_one_identity(tmp_path: Path) -> None:
    start = threading.Barrier(6)
    problems: list[SecretError] = []

    def put(number: int) -> None:
        start.wait()
        try:
            open_store("age", tmp_path).put(f"n{number}", b"age-Value-123")
        except SecretError as error:
            problems.append(error)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert all(open_store("age", tmp_path).get(f"n{number}") == b"age-Value-123" for number in range(6))


def test_an_identity_that_others_can_read_is_refused(tmp_path: Path) -> None:
    store = open_store("age", tmp_path)
    store.put("a", b"age-Value-123")
    (tmp_path / "secrets" / "identity.txt").chmod(0o644)
    with pytest.raises(SecretError) as error:
        store.get("a")
    assert "chmod 600" in error.value.next_step


def test_files_of_the_age_program(age: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = tmp_path / "key.txt"
    subprocess.run([f"{age}-keygen", "-o", identity], check=True, capture_output=True)
    recipient = subprocess.run(
        [f"{age}-keygen", "-y", identity], check=True, capture_output=True, text=True
    ).stdout.strip()
    for options in ([], ["-a"]):
        sealed = tmp_path / f"keys{len(options)}.age"
        subprocess.run(
            [age, "-r", recipient, *options, "-o", sealed], input=b'{"gh": {"token": "age-Value-123"}}\n', check=True
        )
        assert read(f"age://{sealed}#gh.token?identity={identity}", tmp_path) == b"age-Value-123"
        assert read(f"age://{sealed}?identity={identity}", tmp_path) == b'{"gh": {"token": "age-Value-123"}}'
        with pytest.raises(SecretError):
            read(f"age://{sealed}#gh.token", tmp_path)
        monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(identity))
        assert read(f"age://{sealed}#gh.token", tmp_path) == b"age-Value-123"
        monkeypatch.delenv("SOPS_AGE_KEY_FILE")


def test_the_age_program_reads_callgates_store(age: str, tmp_path: Path) -> None:
    open_store("age", tmp_path).put("a", b"age-Value-123")
    directory = tmp_path / "secrets"
    done = subprocess.run(
        [age, "-d", "-i", directory / "identity.txt", directory / "a.age"], check=True, capture_output=True
    )
    assert done.stdout == b"age-Value-123"


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_ssh_keys_open_what_was_encrypted_to_them(kind: str, age: str, tmp_path: Path) -> None:
    key = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", key], check=True)
    sealed = tmp_path / "t.age"
    subprocess.run([age, "-R", f"{key}.pub", "-o", sealed], input=b"age-Value-123\n", check=True)
    assert read(f"age://{sealed}?identity={key}", tmp_path) == b"age-Value-123"
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "passphrase", "-f", key], check=True)
    with pytest.raises(SecretError) as error:
        read(f"age://{sealed}?identity={key}", tmp_path)
    assert "passphrase" in error.value.next_step


def test_other_age_files_are_not_written(tmp_path: Path) -> None:
    from callgate.vault.reference import parse
    from callgate.vault.stores import set_secret

    with pytest.raises(SecretError):
        set_secret(parse(f"age://{tmp_path}/x.age"), b"age-Value-123", tmp_path)
    set_secret(parse("age://mine"), b"age-Value-123", tmp_path)
    assert read("age://mine", tmp_path) == b"age-Value-123"
    with pytest.raises(SecretError):
        set_secret(parse("env://MINE"), b"age-Value-123", tmp_path)


def test_a_disk_that_is_full_is_said_and_the_old_value_stays(tmp_path: Path) -> None:
    open_store("age", tmp_path).put("a", b"first-Value-1")
    script = (
        "import pathlib, resource, sys\n"
        "from callgate.errors import SecretError\nfrom callgate.vault.stores import open_store\n"
        "store = open_store('age', pathlib.Path(sys.argv[1]))\n"
        "store.get('a')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\n"
        "try:\n    store.put('a', b'second-Value-2', replace=True)\n"
        "except SecretError as error:\n    print(error.what)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "cannot be written: File too large" in done.stdout
    assert open_store("age", tmp_path).get("a") == b"first-Value-1"
    assert sorted(path.name for path in (tmp_path / "secrets").iterdir()) == ["a.age", "identity.txt"]


def test_a_disk_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("not a directory")
    with pytest.raises(SecretError) as error:
        open_store("age", tmp_path).put("a", b"age-Value-123")
    assert "Not a directory" in error.value.what
