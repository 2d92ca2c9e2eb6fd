"""A directory that another server exchanges for a link while this one is started is not what this one gets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from callgate.errors import SandboxError
from callgate.sandbox.backend import Backend
from callgate.sandbox.bubblewrap import BubblewrapBackend
from callgate.sandbox.landlock import LandlockBackend
from callgate.sandbox.spec import Mount, SandboxSpec
from tests.sandbox import boxes

BACKENDS = [
    pytest.param(BubblewrapBackend, marks=boxes.needs_bubblewrap),
    pytest.param(LandlockBackend, marks=boxes.needs_landlock),
]


class Exchanging:
    """A backend beside which somebody acts between the preparation and the spawn."""

    def __init__(self, backend: Backend, place: Path, target: str) -> None:
        self.backend = backend
        self.place = place
        self.target = target

    def prepare(self, spec: SandboxSpec, argv: list[str]) -> object:
        prepared = self.backend.prepare(spec, argv)
        exchange(self.place, self.target)
        return prepared


def exchange(place: Path, target: str) -> None:
    place.rename(place.with_name("away"))
    place.symlink_to(target)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text("KEY")
    data = tmp_path / "project" / "data"
    data.mkdir(parents=True)
    (data / "key").write_text("harmless")
    return data


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("writable", [False, True])
def test_a_link_that_appears_before_the_mount(project: Path, backend: type[Backend], writable: bool) -> None:
    spec = SandboxSpec("test", mounts=(Mount(str(project), writable),))
    command = ["/bin/cat", str(project / "key")]
    assert boxes.output(backend(), spec, command) == (0, "harmless")
    status, text = boxes.output(Exchanging(backend(), project, "../private"), spec, command)  # type: ignore[arg-type]
    assert status != 0 and "KEY" not in text and "not what was named" in text


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_link_that_appears_before_the_preparation(project: Path, backend: type[Backend]) -> None:
    spec = SandboxSpec("test", mounts=(Mount(str(project)),))
    exchange(project, "../private")
    for one in (spec, dataclasses.replace(spec, mounts=(), home=str(project))):
        with pytest.raises(SandboxError, match="was exchanged"):
            backend().prepare(one, ["/bin/true"])
