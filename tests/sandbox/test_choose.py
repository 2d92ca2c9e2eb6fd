"""The choice of a backend: what was proved is kept, a weaker one is never taken in silence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from callgate.errors import SandboxError
from callgate.sandbox import choose as choosing
from callgate.sandbox.backend import Probe
from callgate.sandbox.bubblewrap import BubblewrapBackend
from callgate.sandbox.choose import Kept, advice, choose, order, probe_all
from callgate.sandbox.landlock import LandlockBackend
from callgate.sandbox.spec import SandboxSpec
from tests.sandbox.boxes import needs_bubblewrap, needs_landlock

SPEC = SandboxSpec("test", environment={"PATH": "/usr/bin:/bin"})


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Probe]:
    """What each backend finds, and how often it was asked, under `asked:NAME`."""
    found = {name: Probe(name, usable=True, version="1") for name in ("bubblewrap", "landlock", "podman", "docker")}
    asked: dict[str, int] = {}

    class Fake:
        def __init__(self, name: str) -> None:
            self.name = name

        def probe(self) -> Probe:
            asked[self.name] = asked.get(self.name, 0) + 1
            return found[self.name]

        def prepare(self, spec: SandboxSpec, argv: object) -> object:
            return argv

    monkeypatch.setattr(choosing, "make", lambda name, *rest: Fake(name))
    monkeypatch.setattr(choosing, "LINUX", ("landlock", "podman", "docker"))
    found["asked"] = asked  # type: ignore[assignment]
    return found


@needs_bubblewrap
def test_the_first_is_taken_and_proved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = choose("auto", tmp_path)
    assert chosen.name == "bubblewrap" and chosen.notices == ()
    monkeypatch.setattr(BubblewrapBackend, "probe", lambda self: pytest.fail("it was proved already"))
    assert choose("auto", tmp_path).name == choose("bubblewrap", tmp_path).name == "bubblewrap"
    prepared = choose("auto", tmp_path).prepare(SPEC, ["/usr/bin/true"])
    assert prepared.abandon
    prepared.abandon()
    assert os.stat(tmp_path / "sandbox").st_mode & 0o777 == 0o700


@needs_bubblewrap
@pytest.mark.parametrize("content", ["", "garbage", "\0" * 100, "x\nusable\n\n\n\n"])
def test_a_damaged_file_is_as_none(tmp_path: Path, content: str) -> None:
    choose("bubblewrap", tmp_path)
    path = tmp_path / "sandbox" / "probe-bubblewrap"
    whole = path.read_text()
    path.write_text(content)
    assert choose("bubblewrap", tmp_path).name == "bubblewrap" and path.read_text() == whole
    path.write_text(whole.rsplit("\n", 2)[0] + "\n")  # the last line is gone
    assert choose("bubblewrap", tmp_path).name == "bubblewrap" and path.read_text() == whole


def test_the_proof_is_made_again_when_what_it_depends_on_changes(
    tmp_path: Path, probes: dict[str, Probe], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, int] = probes["asked"]  # type: ignore[assignment]
    for _ in range(3):
        assert choose("auto", tmp_path).name == "landlock"
    assert asked == {"landlock": 1}
    boot = tmp_path / "boot"
    boot.write_text("another boot")
    monkeypatch.setattr(choosing, "_BOOT", str(boot))
    choose("auto", tmp_path)
    assert asked == {"landlock": 2}
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    choose("auto", tmp_path)
    assert asked == {"landlock": 3}


def test_auto_takes_a_later_one_and_says_so(tmp_path: Path, probes: dict[str, Probe]) -> None:
    probes["landlock"] = Probe("landlock", usable=False, reason="it does not hold: read_secret")
    for _ in range(2):  # found out, and kept
        chosen = choose("auto", tmp_path)
        assert chosen.name == "podman"
        assert chosen.notices == ("the sandbox landlock could not be used: it does not hold: read_secret",)


@needs_landlock
def test_what_could_not_be_used_stands_first_in_what_is_not_enforced() -> None:
    prepared = choosing.Chosen(LandlockBackend(), ("the sandbox x could not be used",)).prepare(SPEC, ["/usr/bin/true"])
    assert prepared.abandon and prepared.not_enforced[0] == "the sandbox x could not be used"
    prepared.abandon()


def test_a_failure_is_believed_for_a_while(
    tmp_path: Path, probes: dict[str, Probe], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, int] = probes["asked"]  # type: ignore[assignment]
    probes["landlock"] = Probe("landlock", usable=False, reason="busy")
    choose("auto", tmp_path)
    choose("auto", tmp_path)
    assert asked == {"landlock": 1, "podman": 1}
    os.utime(tmp_path / "sandbox" / "probe-landlock", (0, 0))
    probes["landlock"] = Probe("landlock", usable=True)
    assert choose("auto", tmp_path).name == "landlock" and asked["landlock"] == 2


def test_a_named_one_or_none(tmp_path: Path, probes: dict[str, Probe]) -> None:
    probes["podman"] = Probe("podman", usable=False, reason="there is no podman")
    with pytest.raises(SandboxError, match=r"podman.*there is no podman") as caught:
        choose("podman", tmp_path)
    assert "install podman" in caught.value.next_step
    probes["podman"] = Probe("podman", usable=True)
    assert choose("podman", tmp_path).name == "podman"  # asked again: it may have been installed


def test_none_only_by_name_and_nothing_falls_back_to_it(tmp_path: Path, probes: dict[str, Probe]) -> None:
    for name in ("landlock", "podman", "docker"):
        probes[name] = Probe(name, usable=False, reason=f"no {name}")
    with pytest.raises(SandboxError, match="no sandbox can be used") as caught:
        choose("auto", tmp_path)
    assert all(f"no {name}" in caught.value.what for name in ("landlock", "podman", "docker"))
    assert "--sandbox none" in caught.value.next_step
    assert choose("none", tmp_path).name == "none"


def test_a_name_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="no sandbox 'vault\\\\x1b'"):
        choose("vault\x1b", tmp_path)


def test_a_container_is_run_by_a_container_engine(tmp_path: Path, probes: dict[str, Probe]) -> None:
    assert choose("auto", tmp_path, kind="container").name == "podman"
    assert order("container") == ("podman", "docker")


def test_a_state_directory_that_cannot_be_written_costs_time_only(tmp_path: Path, probes: dict[str, Probe]) -> None:
    (tmp_path / "file").touch()
    assert choose("auto", tmp_path / "file").name == "landlock"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("10000", "1", "1"), "apparmor_parser -r"),
        (("10000", "0", "0"), "unprivileged_userns_clone=1"),
        (("0", "1", "0"), "max_user_namespaces"),
        (("10000", "1", "0"), "sandbox doctor"),
    ],
)
def test_advice_fits_the_machine(
    tmp_path: Path, values: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / str(number) for number in range(3)]
    for path, value in zip(paths, values, strict=True):
        path.write_text(value + "\n")
    monkeypatch.setattr(choosing, "_SWITCHES", tuple(map(str, paths)))
    monkeypatch.setattr(choosing, "programs", lambda: ["/usr/bin/bwrap"])
    assert said in advice("bubblewrap")
    monkeypatch.setattr(choosing, "programs", list)
    assert "install bubblewrap" in advice("bubblewrap")


def test_every_backend_is_tried_for_a_report(tmp_path: Path, probes: dict[str, Probe]) -> None:
    asked: dict[str, int] = probes["asked"]  # type: ignore[assignment]
    choose("auto", tmp_path)
    assert [found.backend for found in probe_all(tmp_path)] == ["landlock", "podman", "docker"]
    assert asked == {"landlock": 2, "podman": 1, "docker": 1}


def test_a_proof_during_which_the_machine_changed_is_not_kept(
    tmp_path: Path, probes: dict[str, Probe], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = iter(["one", "two", "three", "four"])
    monkeypatch.setattr(choosing, "_key", lambda name: next(keys))
    assert Kept(str(tmp_path)).try_now("landlock").usable
    assert not (tmp_path / "sandbox").exists()
