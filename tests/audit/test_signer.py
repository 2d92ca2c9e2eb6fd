"""The process that signs: whose modules it loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import select, sys
from pathlib import Path
from callgate.audit.signer import Signer
state = Path(sys.argv[1])
signer = Signer(state)
signer.start({"chain": "c", "covers": 1, "digest": "d", "signed_at": "t"})
select.select([signer._child._answer], [], [], 60)
found = signer.take()
sys.stdout.write("signed" if found and found["signature"] else "unsigned")
"""


def test_a_servers_modules_are_not_loaded_where_the_key_is(tmp_path: Path) -> None:
    hostile, witness, state = tmp_path / "server", tmp_path / "ran", tmp_path / "state"
    hostile.mkdir()
    state.mkdir(mode=0o700)
    for name in ("sitecustomize", "cryptography", "callgate", "orjson"):
        (hostile / f"{name}.py").write_text(f"open({str(witness)!r}, 'w')\n")
    done = subprocess.run(
        [sys.executable, "-E", "-P", "-c", PROGRAM, str(state)],
        env={**os.environ, "PYTHONPATH": str(hostile)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout == "signed", done.stderr
    assert not witness.exists()
