"""docs/evidence.md: the way to verify without callgate works as it is written there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.audit.evidence import closed_log

DOCUMENT = Path(__file__).parents[2] / "docs" / "evidence.md"


def commands(start: str) -> str:
    """The shell commands of the block that contains `start`, without what they print."""
    block = next(block for block in DOCUMENT.read_text().split("```")[1::2] if start in block)
    lines = block.strip().splitlines()
    kept = [line for line in lines if not line.startswith("Signature")]
    return "\n".join(line.removeprefix("$ ") for line in kept)


def shell(script: str, directory: Path) -> str:
    done = subprocess.run(["sh", "-ec", script], cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_line_names_the_one_before(tmp_path: Path) -> None:
    out = shell(commands("sha256sum"), closed_log(tmp_path))
    digest, name = re.findall(r"[0-9a-f]{64}", out)
    assert digest == name


def test_the_signature_verifies_with_openssl(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    version = subprocess.run([openssl, "version"], capture_output=True, text=True, check=True).stdout if openssl else ""
    if not version.startswith("OpenSSL 3"):
        pytest.skip(f"needs OpenSSL 3, there is {version or 'none'}")
    script = commands("openssl pkeyutl")
    assert shell(script, closed_log(tmp_path)).strip() == "Signature Verified Successfully"
