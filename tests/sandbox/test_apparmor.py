from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.errors import SandboxError
from callgate.sandbox import apparmor, container_backend
from callgate.sandbox.container import Engine
from callgate.sandbox.spec import Destination, Mount, SandboxSpec, SecretFile
from tests.support.programs import REQUIRED

SPEC = SandboxSpec(
    "acme/files 1",
    mounts=(Mount("/srv/store/pkg"), Mount("/srv/My Work [1]", writable=True)),
    network=(Destination("api.example"),),
    secret_files=(SecretFile("token", b"never in a profile"),),
)


@pytest.fixture
def _parser() -> None:
    if not apparmor.parser():
        if REQUIRED:
            pytest.fail("apparmor_parser is missing")
        pytest.skip("apparmor_parser is missing")


def rules(spec: SandboxSpec) -> list[str]:
    return [line.strip() for line in apparmor.profile(spec).text.splitlines()]


def test_what_is_written_is_never_mapped_or_started() -> None:
    found = rules(SPEC)
    name = apparmor.profile(SPEC).name
    assert found[0] == f"profile {name} flags=(attach_disconnected) {{"
    assert name.startswith("callgate-acme_files_1-") and len(name.rpartition("-")[2]) == apparmor.DIGEST
    assert '"/srv/store/pkg/**" mrix,' in found
    assert '"/srv/My Work \\[1\\]/**" rwlk,' in found
    for line in found:
        target, _, permissions = line.rstrip(",").rpartition(" ")
        if target.startswith(('"', "/", "owner")) and "w" in permissions:
            assert not {"x", "m"} & set(permissions), line


def test_no_secret_is_in_it() -> None:
    text = apparmor.profile(SPEC).text
    assert "never in a profile" not in text
    # Nor its name: `explain`, which resolves no secret, writes the same profile as a start needs.
    assert text == apparmor.profile(dataclasses.replace(SPEC, secret_files=())).text


def test_the_network_only_where_it_was_asked_for() -> None:
    assert "network inet stream," in rules(SPEC)
    assert not any(line.startswith("network") for line in rules(SandboxSpec("none")))


@pytest.mark.usefixtures("_parser")
def test_it_compiles() -> None:
    assert apparmor.check(apparmor.profile(SPEC).text) == ""
    assert apparmor.check("profile broken {") != ""


@pytest.mark.usefixtures("_parser")
@settings(max_examples=15)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=12),
        max_size=4,
    )
)
def test_any_path_compiles_and_stays_one_rule(names: list[str]) -> None:
    paths = ["/srv/" + name.replace("/", "_") + "x" * name.endswith("\\") for name in names]
    spec = SandboxSpec("x", mounts=tuple(Mount(path) for path in paths))
    text = apparmor.profile(spec).text
    assert len(text.splitlines()) == len(apparmor.profile(SandboxSpec("x")).text.splitlines()) + 3 * len(set(paths))
    assert apparmor.check(text) == ""


@pytest.mark.parametrize("path", ["relative", "/a\nb", "/a\x00b", "/a\\"])
def test_paths_that_cannot_be_held_are_refused(path: str) -> None:
    with pytest.raises(SandboxError):
        apparmor.profile(SandboxSpec("x", mounts=(Mount(path),)))


def test_a_kernel_without_apparmor_is_said() -> None:
    if apparmor.kernel_has_it():
        pytest.skip("this kernel has AppArmor")
    with pytest.raises(SandboxError, match="no AppArmor"):
        apparmor.load(apparmor.profile(SPEC).text)
    assert apparmor.loaded() == frozenset()


def test_the_name_says_what_is_in_it() -> None:
    name = apparmor.profile(SPEC).name
    assert apparmor.profile(dataclasses.replace(SPEC, environment={"A": "b"}, cwd="/srv/store")).name == name
    for change in ({"mounts": (Mount("/srv/store/pkg"),)}, {"network": ()}, {"home": "/srv/home"}, {"name": "other"}):
        assert apparmor.profile(dataclasses.replace(SPEC, **change)).name != name


class TestEntry:
    """Which profile a start enters, by what the kernel says it has."""

    @pytest.fixture
    def policy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(apparmor, "POLICY", str(tmp_path))
        monkeypatch.setattr(apparmor, "kernel_has_it", lambda: True)
        return tmp_path

    @staticmethod
    def put(policy: Path, name: str, mode: str = "enforce", number: int = 17) -> None:
        (policy / f"{name}.{number}").mkdir()
        (policy / f"{name}.{number}" / "mode").write_text(mode + "\n")

    def test_none_is_said(self, policy: Path) -> None:
        found = apparmor.entry(SPEC)
        assert not found.name and "no profile of this server" in found.missing

    def test_the_one_of_these_rules(self, policy: Path) -> None:
        name = apparmor.profile(SPEC).name
        self.put(policy, name)
        (policy / "firefox.3").mkdir()
        assert apparmor.loaded() == {name}
        found = apparmor.entry(SPEC)
        assert (found.name, found.missing) == (name, "")

    def test_a_stale_one_is_said_and_not_used(self, policy: Path) -> None:
        (policy / f"{apparmor.profile(dataclasses.replace(SPEC, network=())).name}.17").mkdir()
        found = apparmor.entry(SPEC)
        assert not found.name and "of other settings" in found.missing

    def test_one_that_only_complains_is_said_and_not_used(self, policy: Path) -> None:
        self.put(policy, apparmor.profile(SPEC).name, "complain")
        found = apparmor.entry(SPEC)
        assert not found.name and "not in enforce mode" in found.missing

    def test_where_bubblewrap_has_a_profile_that_bars_it_it_is_said(self, policy: Path) -> None:
        name = apparmor.profile(SPEC).name
        self.put(policy, name)
        assert apparmor.entry(SPEC, maker="/usr/bin/bwrap").name == name
        self.put(policy, "bwrap", number=3)
        found = apparmor.entry(SPEC, maker="/usr/bin/bwrap")
        assert not found.name and "profile of bubblewrap" in found.missing
        assert apparmor.entry(SPEC, maker="/usr/local/bin/bwrap").name == name
        assert apparmor.entry(SPEC).name == name

    def test_a_temporary_place_that_it_does_not_know_is_said(self, policy: Path) -> None:
        name = apparmor.profile(SPEC).name
        self.put(policy, name)
        assert apparmor.entry(SPEC, temporary="/tmp/callgate-1").name == name
        found = apparmor.entry(SPEC, temporary="/var/tmp/callgate-1")
        assert not found.name and "TMPDIR" in found.missing

    def test_a_path_it_cannot_hold_is_said_and_the_server_starts(self, policy: Path) -> None:
        self.put(policy, apparmor.profile(SPEC).name)
        found = apparmor.entry(dataclasses.replace(SPEC, mounts=(Mount("/a\nb"),)))
        assert not found.name and "cannot hold the path" in found.missing

    def test_root_loads_what_is_not_there_and_not_without_end(
        self, policy: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        taken: list[str] = []
        monkeypatch.setattr("os.geteuid", lambda: 0)
        monkeypatch.setattr(apparmor, "parser", lambda: "/sbin/apparmor_parser")
        monkeypatch.setattr(apparmor, "load", taken.append)
        wanted = apparmor.profile(SPEC)
        apparmor.load_own(SPEC)
        assert taken == [wanted.text]
        apparmor.load_own(dataclasses.replace(SPEC, mounts=(Mount("/a\nb"),)))
        for number in range(apparmor.KEPT):
            self.put(policy, f"{wanted.name.rpartition('-')[0]}-{number:012x}", number=number)
        apparmor.load_own(SPEC)
        assert taken == [wanted.text]
        assert f"{apparmor.KEPT} profiles" in apparmor.entry(SPEC).missing

    def test_what_somebody_set_to_complain_is_not_loaded_over(
        self, policy: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("os.geteuid", lambda: 0)
        monkeypatch.setattr(apparmor, "parser", lambda: "/sbin/apparmor_parser")
        monkeypatch.setattr(apparmor, "load", pytest.fail)
        self.put(policy, apparmor.profile(SPEC).name, "complain")
        apparmor.load_own(SPEC)

    @pytest.mark.parametrize("name", ["acme/files 1-2", "acme", "acme/files 12"])
    def test_that_of_another_server_is_not_it(self, policy: Path, name: str) -> None:
        (policy / f"{apparmor.profile(dataclasses.replace(SPEC, name=name)).name}.17").mkdir()
        found = apparmor.entry(SPEC)
        assert not found.name and "no profile of this server" in found.missing

    def test_podman_without_root_uses_none_and_says_so(self, policy: Path) -> None:
        self.put(policy, apparmor.profile(SPEC).name)
        engine = Engine(name="podman", program="/usr/bin/podman", rootless=True)
        found = container_backend._profile(engine, SPEC, None)
        assert not found.name and "podman uses none without root" in found.missing
        assert container_backend._profile(dataclasses.replace(engine, rootless=False), SPEC, None).name

    def test_while_a_sandbox_proves_itself_there_is_none(self, policy: Path) -> None:
        spec = dataclasses.replace(SPEC, apparmor=False)
        (policy / f"{apparmor.profile(spec).name}.17").mkdir()
        found = apparmor.entry(spec)
        assert (found.name, found.missing) == ("", "")

    def test_a_kernel_without_it_has_nothing_missing(self, policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(apparmor, "kernel_has_it", lambda: False)
        found = apparmor.entry(SPEC)
        assert (found.name, found.missing) == ("", "")
