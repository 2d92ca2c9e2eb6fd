"""Container images: the digest in the tag's place, as podman knows it, and as registries' images look."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from callgate.errors import TrustError
from callgate.supply import oci
from callgate.supply.pinned import pinned_launch
from callgate.supply.resolve import lock_server

DIGEST = "sha256:" + "ab" * 32
ID = "cd" * 32


@pytest.fixture
def image(tmp_path: Path) -> Iterator[str]:
    if not shutil.which("podman"):
        if os.environ.get("CALLGATE_REQUIRE_PROGRAMS"):
            pytest.fail("podman is missing")
        pytest.skip("podman is missing")
    name = f"localhost/callgate-test-{os.getpid()}:1.0"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("hello")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"hi\n"))
    done = subprocess.run(["podman", "import", "-", name], input=out.getvalue(), capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"podman cannot import an image here: {done.stderr.decode(errors='replace')[-200:]}")
    yield name
    subprocess.run(["podman", "rmi", "-f", name], capture_output=True, check=False)


def test_an_image_of_this_machine(image: str, state: Path) -> None:
    line = ("podman", "run", "-i", "--rm", "--pull", "always", "-e", "LEVEL", image, "--stdio")
    server = lock_server("box", line, state=state)
    assert server.notes.count("oci-built-here") == 1
    assert server.version.startswith("sha256:")
    found = pinned_launch("box", line, [state / "callgate.lock"], state)
    assert found is not None
    assert found.argv == (
        *(shutil.which("podman"), "run", "--pull=never", "-i", "--rm", "-e", "LEVEL"),
        *(server.version, "--stdio"),
    )
    known = subprocess.run(["podman", "image", "inspect", server.version], capture_output=True, check=False)
    assert known.returncode == 0


def test_an_image_nobody_has(image: str, state: Path) -> None:
    with pytest.raises(TrustError) as caught:
        lock_server("box", ("podman", "run", "localhost/callgate-no-such-image:1"), state=state)
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("image_name", "requested", "known", "reference"),
    [
        ("mcp/git", "1.2", {"RepoDigests": [f"reg.test/mcp/git@{DIGEST}"], "Id": ID}, f"reg.test/mcp/git@{DIGEST}"),
        (
            "reg.test/mcp/git",
            "",
            {"RepoDigests": [f"reg.test/mcp/git@{DIGEST}"], "Id": ID},
            f"reg.test/mcp/git@{DIGEST}",
        ),
        ("mcp/git", DIGEST, {"RepoDigests": [f"reg.test/mcp/git@{DIGEST}"], "Id": ID}, f"reg.test/mcp/git@{DIGEST}"),
        ("git", "1", {"RepoDigests": [f"reg.test/evilgit@{DIGEST}"], "Id": f"sha256:{ID}"}, f"sha256:{ID}"),
        ("git", "1", {"RepoDigests": None, "Id": ID}, f"sha256:{ID}"),
        ("git", "1", {"RepoDigests": ["git@sha256:zz"], "Id": ID}, None),
        ("git", "1", {"RepoDigests": [], "Id": "x"}, None),
    ],
)
def test_how_an_image_is_named(
    image_name: str, requested: str, known: dict[str, object], reference: str | None
) -> None:
    if reference is None:
        with pytest.raises(TrustError, match="not a digest"):
            oci._reference(image_name, requested, known)
        return
    assert oci._reference(image_name, requested, known)[1] == reference
