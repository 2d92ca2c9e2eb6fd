"""Without the native lane nothing is missing; where it can be built, it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from callgate import native
from tests.core.messages import needs_core

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    "tests/gate/test_answered.py",
    "tests/gate/test_channel.py",
    "tests/gate/test_client_messages.py",
    "tests/gate/test_express.py",
    "tests/gate/test_server_messages.py",
    "tests/gate/test_substitutes.py",
    "tests/audit/test_scope.py",
    "tests/audit/test_writer.py",
)


def test_it_is_built_where_it_must_be() -> None:
    assert needs_core().INTERFACE == native.INTERFACE


def test_one_that_was_built_for_another_interface_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs_core(), "INTERFACE", native.INTERFACE + 1)
    assert native._load() is None


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_gate_passes_its_tests_without_it() -> None:
    command = [sys.executable, "-m", "pytest", "-q", *PARTS]
    environment = {**os.environ, "CALLGATE_NATIVE": "off", "CI": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:]


def test_off_means_off() -> None:
    program = "from callgate import native; print(native.core)"
    environment = {**os.environ, "CALLGATE_NATIVE": "off"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"
