"""The self-test finds what a sandbox does not hold: it is tried on sandboxes with holes."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from callgate.sandbox import selftest
from callgate.sandbox.backend import Backend, Prepared, Probe
from callgate.sandbox.bubblewrap import BubblewrapBackend
from callgate.sandbox.landlock import LandlockBackend, NoBackend
from callgate.sandbox.selftest import probe
from callgate.sandbox.spec import SandboxSpec
from tests.sandbox import boxes_user
from tests.sandbox.boxes import needs_bubblewrap, needs_landlock


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param(BubblewrapBackend, id="bubblewrap", marks=needs_bubblewrap),
        pytest.param(LandlockBackend, id="landlock", marks=needs_landlock),
    ],
)
def test_our_backends_hold_every_escape(backend: type[BubblewrapBackend | LandlockBackend]) -> None:
    found = backend().probe()
    assert found.usable, found
    assert len(found.checks) >= 32 and all(check.held for check in found.checks)


class WithHomes:
    """No confinement, but the environment a program needs."""

    name = "open"

    def probe(self) -> Probe:
        return probe(self, "")

    def prepare(self, spec: SandboxSpec, argv: Sequence[str]) -> Prepared:
        prepared = NoBackend().prepare(spec, argv)
        return Prepared(prepared.argv, {**prepared.environment, "HOME": os.environ["HOME"]})


@pytest.fixture
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.mark.usefixtures("own_home")
def test_without_a_sandbox_nearly_everything_is_open() -> None:
    found = probe(WithHomes(), "")
    opened = {check.name for check in found.checks if not check.held}
    assert not found.usable
    assert opened >= {
        "read_secret", "list_directory", "write_outside", "tcp_loopback", "udp_loopback", "unix_path", "unix_abstract",
        "netlink_socket", "environ_of_others", "signal_victim", "setuid_programs", "memory_file", "dropped_program",
        "leaked_descriptor", "limits_of_others", "terminal_input", "terminal_input_wide",
    }  # fmt: skip
    assert not opened & {"works_home", "works_programs", "own_environment"}
    assert "read_secret" in found.reason


class Changed:
    """bubblewrap with one thing undone."""

    name = "changed"

    def __init__(self, *, drop: str = "", words: int = 1, add: Sequence[str] = ()) -> None:
        self._drop = drop
        self._words = words
        self._add = list(add)

    def probe(self) -> Probe:
        return probe(self, "")

    def prepare(self, spec: SandboxSpec, argv: Sequence[str]) -> Prepared:
        prepared = BubblewrapBackend().prepare(spec, argv)
        words = list(prepared.argv)
        if self._drop:
            at = words.index(self._drop)
            del words[at : at + self._words]
        end = words.index("--")
        words[end:end] = self._add
        return Prepared(
            tuple(words),
            prepared.environment,
            prepared.cwd,
            prepared.pass_fds,
            started=prepared.started,
            abandon=prepared.abandon,
        )


@needs_bubblewrap
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (Changed(drop="--seccomp", words=2), "Seccomp is not 2"),
        (Changed(add=["--share-net"]), "net namespace is the host's"),
        (Changed(drop="--cap-drop", words=2, add=["--cap-add", "ALL"]), "Cap"),
        (Changed(add=["--no-such-option"]), "no-such-option"),
    ],
    ids=["filter", "network", "capabilities", "option"],
)
def test_a_sandbox_with_a_part_missing_does_not_start(changed: Changed, said: str) -> None:
    found = changed.probe()
    assert not found.usable and said in found.reason


@needs_bubblewrap
def test_a_root_that_shows_too_much_is_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    import tempfile

    place = tempfile.gettempdir()
    found = Changed(add=["--bind", place, place]).probe()
    opened = {check.name for check in found.checks if not check.held}
    assert "read_secret" in opened and "list_directory" in opened and not found.usable


class Silent:
    name = "silent"

    def probe(self) -> Probe:
        return probe(self, "")

    def prepare(self, spec: SandboxSpec, argv: Sequence[str]) -> Prepared:
        return Prepared(("/usr/bin/printf", "read_secret held EPERM\nworks_home held x\n"), {})


def test_a_test_that_does_not_run_to_its_end_proves_nothing() -> None:
    found = Silent().probe()
    assert not found.usable and "did not come to its end" in found.reason


class Missing:
    name = "missing"

    def probe(self) -> Probe:
        return probe(self, "")

    def prepare(self, spec: SandboxSpec, argv: Sequence[str]) -> Prepared:
        return Prepared(("/nowhere/program",), {})


class Slow:
    name = "slow"

    def probe(self) -> Probe:
        return probe(self, "")

    def prepare(self, spec: SandboxSpec, argv: Sequence[str]) -> Prepared:
        return Prepared(("/bin/sleep", "60"), {})


def test_what_cannot_start_or_does_not_end_is_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot be started" in Missing().probe().reason
    monkeypatch.setattr(selftest, "SECONDS", 0.2)
    assert "longer than" in Slow().probe().reason


@pytest.mark.usefixtures("own_home")
def test_what_is_not_promised_does_not_count() -> None:
    backend: Backend = WithHomes()
    names = [check.name for check in probe(backend, "").checks]
    assert probe(backend, "", not_promised=names).usable


SCRIPT = """
import sys
from callgate.sandbox.bubblewrap import BubblewrapBackend
from callgate.sandbox.landlock import LandlockBackend
found = {"bubblewrap": BubblewrapBackend, "landlock": LandlockBackend}[sys.argv[1]]().probe()
print(found.usable, len(found.checks), found.reason)
"""


@pytest.mark.parametrize(
    "name",
    [pytest.param("bubblewrap", marks=boxes_user.needs_bubblewrap), pytest.param("landlock", marks=needs_landlock)],
)
def test_they_hold_for_an_unprivileged_user(name: str) -> None:
    found = boxes_user.run(SCRIPT, name)
    assert found.stdout.startswith("True 3"), found
