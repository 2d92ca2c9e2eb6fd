from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.errors import SandboxError
from callgate.sandbox import apparmor
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
    return [line.strip() for line in apparmor.profile_text(spec).splitlines()]


def test_what_is_written_is_never_mapped_or_started() -> None:
    found = rules(SPEC)
    assert found[0] == "profile callgate-acme_files_1 flags=(attach_disconnected) {"
    assert '"/srv/store/pkg/**" mrix,' in found
    assert '"/srv/My Work \\[1\\]/**" rwlk,' in found
    for line in found:
        target, _, permissions = line.rstrip(",").rpartition(" ")
        if target.startswith(('"', "/", "owner")) and "w" in permissions:
            assert not {"x", "m"} & set(permissions), line


def test_no_secret_is_in_it() -> None:
    text = apparmor.profile_text(SPEC)
    assert "never in a profile" not in text
    assert '"/run/secrets/token" r,' in text


def test_the_network_only_where_it_was_asked_for() -> None:
    assert "network inet stream," in rules(SPEC)
    assert not any(line.startswith("network") for line in rules(SandboxSpec("none")))


@pytest.mark.usefixtures("_parser")
def test_it_compiles() -> None:
    assert apparmor.check(apparmor.profile_text(SPEC)) == ""
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
    paths = ["/srv/" + name.replace("/", "_") for name in names]
    spec = SandboxSpec("x", mounts=tuple(Mount(path) for path in paths))
    text = apparmor.profile_text(spec)
    assert len(text.splitlines()) == len(apparmor.profile_text(SandboxSpec("x")).splitlines()) + 3 * len(set(paths))
    assert apparmor.check(text) == ""


@pytest.mark.parametrize("path", ["relative", "/a\nb", "/a\x00b"])
def test_paths_that_cannot_be_held_are_refused(path: str) -> None:
    with pytest.raises(SandboxError):
        apparmor.profile_text(SandboxSpec("x", mounts=(Mount(path),)))


def test_a_kernel_without_apparmor_is_said() -> None:
    if apparmor.kernel_has_it():
        pytest.skip("this kernel has AppArmor")
    with pytest.raises(SandboxError, match="no AppArmor"):
        apparmor.load(apparmor.profile_text(SPEC))
    assert apparmor.loaded() == frozenset()


@pytest.mark.usefixtures("_parser")
@pytest.mark.skipif(os.getuid() != 0 or not apparmor.kernel_has_it(), reason="root and a kernel with AppArmor only")
def test_it_is_loaded_where_the_kernel_has_it() -> None:
    spec = SandboxSpec("callgate-test")
    assert apparmor.load(apparmor.profile_text(spec)) == ""
    assert apparmor.profile_name(spec) in apparmor.loaded()
