"""The process that signs: whose modules it loads."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from callgate.audit.child import Child
from callgate.audit.signer import Signer

FIRST = {"chain": "c", "covers": 1, "digest": "d", "signed_at": 1}

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


def test_an_interrupt_after_the_process_has_started_gives_no_record_anothers_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = Signer(tmp_path)
    start = Child.start

    def interrupted(child: Child, question: bytes) -> bool:
        start(child, question)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Child, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            signer.start(FIRST)
    signer.start({**FIRST, "covers": 9})  # asked for while the first is under way: not begun
    select.select([signer._child._answer], [], [], 60)
    signed = signer.take()
    assert signed is not None
    assert {name: signed[name] for name in FIRST} == FIRST
    assert signed["signature"]
