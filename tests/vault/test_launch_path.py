"""What a launch without secrets pays: a few small modules, and none of a library."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "hvac",
    "boto3",
    "botocore",
    "keyring",
    "pyrage",
    "requests",
    "hyperscan",
    "orjson",
    "jiter",
    "threading",
    "subprocess",
    "urllib.parse",
    "base64",
    "secrets",
    "random",
)
PRESENCE = {
    "callgate",
    "callgate.errors",
    "callgate.vault",
    "callgate.vault.presence",
    "callgate.vault.known_tokens",
    "callgate.vault.reference",
}


def imported(code: str) -> set[str]:
    """The modules that `code` brings in, beside those of an interpreter that has read callgate's configuration."""
    script = f"import sys, callgate.config\nbefore = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_asking_whether_there_are_secrets_imports_three_modules() -> None:
    found = imported(
        "from callgate.vault.presence import has_credentials\n"
        "assert not has_credentials({'PATH': '/usr/bin', 'A': 'file:///x'}, {})"
    )
    assert found <= PRESENCE


def test_a_delivery_without_secrets_imports_three_more() -> None:
    found = imported(
        "from callgate.vault.delivery import deliver\nassert deliver({'A': 'b'}, {}, None, gated=True).redactor is None"
    )
    ours = {name for name in found if name.startswith("callgate")}
    assert ours <= PRESENCE | {"callgate.vault.delivered", "callgate.vault.delivery", "callgate.vault.headers"}
    assert not found & set(HEAVY)


def test_secrets_of_one_store_load_the_library_of_that_store_only() -> None:
    found = imported(
        "import os, pathlib\nos.environ['T'] = 'x'\n"
        "from callgate.vault.delivery import deliver\nfrom callgate.vault.session import Session\n"
        "with Session(pathlib.Path('/nonexistent')) as session:\n"
        "    assert deliver({'A': 'env://T'}, {}, session, gated=False).environment == {'A': 'x'}"
    )
    assert not found & (set(HEAVY) - {"threading", "urllib.parse", "base64"})


def test_asking_whether_a_secret_was_granted_loads_next_to_nothing() -> None:
    found = imported(
        "import tempfile\nfrom callgate.launching import plan\nbefore = set(sys.modules)\n"
        "from callgate.launching.granted import check_command, own\nfrom callgate.vault.grants import read, seal\n"
        "folder = tempfile.gettempdir()\nassert seal(folder) and not read(folder).sealed and own.usual('state')"
    )
    assert not found & (set(HEAVY) | {"hashlib", "json", "dataclasses", "re"})
