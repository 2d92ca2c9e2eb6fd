"""Without the extra `callgate[sign]`: a clear error where it is needed, and everything else works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent.parent / "fixtures/supply"
PROGRAM = """
import sys
from pathlib import Path
for name in ("sigstore", "pypi_attestations", "tuf", "asn1crypto", "hvac"):
    sys.modules[name] = None
from callgate.errors import TrustError
place, state = Path(sys.argv[1]), Path(sys.argv[2])
try:
    {call}
except TrustError as error:
    print(error.diagnostics())
"""
SDIST = "pep740/pypi_attestations-0.0.19.tar.gz"


def run(call: str, state: Path) -> str:
    words = [sys.executable, "-c", PROGRAM.format(call=call), str(FIXTURES), str(state)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    "call",
    [
        "from callgate.supply.mcpb_signature import verify; verify(place / 'clock-signed.mcpb')",
        f"from callgate.supply.pep740 import verify_provenance as v; v(b'{{}}', place / '{SDIST}')",
        f"from callgate.supply.sigstore_bundle import verify_bundle as v; v(place / '{SDIST}.provenance', place)",
        "from callgate.supply.npm_provenance import Package, verify_provenance as v; v(b'{}', Package('a', '1', ''))",
        f"from callgate.supply.catalogue import add; add(state, 'team', 'file:///none', place / '{SDIST}')",
    ],
)
def test_what_needs_the_extra_says_so(call: str, tmp_path: Path) -> None:
    out = run(call, tmp_path)
    assert "which is not installed" in out and "install callgate[sign]" in out


def test_what_does_not_need_it_works(tmp_path: Path) -> None:
    call = "from callgate.supply.mcpb import read_bundle; print(read_bundle(place / 'clock-signed.mcpb').manifest.name)"
    assert run(call, tmp_path) == "clock\n"
    calls = [
        "(state / 'callgate.lock').write_bytes(b'{\"servers\": {}}')",
        "from callgate.supply import keys, signers, lock_signature as s",
        "keys.generate(state / 'k.pem')",
        "s.sign_lock(state / 'callgate.lock', signers.FileSigner(state / 'k.pem'), state)",
        "print(s.verify_lock(state / 'callgate.lock', [state / 'k.pub.pem'], 1, state).threshold)",
    ]
    assert run("; ".join(calls), tmp_path) == "1\n"
