"""What root proves is proved again as an ordinary user: entering namespaces, low ports, the process's own confinement."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.egress import open_interpreter, program

NOBODY = 65534


@pytest.fixture
def open_folder():
    """Not below pytest's own folder, which is root's alone."""
    with tempfile.TemporaryDirectory(prefix="egress-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


HERE = Path(__file__).resolve().parent


@pytest.mark.skipif(os.geteuid() != 0, reason="all of these tests run as an ordinary user already")
@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
def test_everything_that_matters_as_nobody(open_folder):
    program("bwrap")
    python = open_interpreter(open_folder)
    if any(not parent.stat().st_mode & 0o001 for parent in HERE.parents):
        pytest.skip("another user cannot read this checkout")
    home = open_folder / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    chosen = [
        "test_clients.py::test_urllib",
        "test_clients.py::test_curl",
        "test_clients.py::test_a_hostile_server",
        "test_clients.py::test_an_attached_process_that_dies_leaves_no_way_out",
        "test_backends.py",
        "test_attach.py",
        "test_gate.py",
    ]
    done = subprocess.run(
        [
            python,
            "-m",
            "pytest",
            "-q",
            f"--basetemp={home}/tmp",
            *(f"{HERE}/{one}" for one in chosen),
        ],
        cwd=HERE.parents[2],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout, done.stdout[-2000:]
