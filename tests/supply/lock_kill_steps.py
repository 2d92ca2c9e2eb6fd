"""Locks a server again and again, each time killed one step later, and looks at what is left.

    python -m tests.supply.lock_kill_steps FOLDER lock|update

A step is a call that changes or syncs files, within callgate itself. Each run is a process of its own that ends by
SIGKILL. Prints one JSON document: how many runs were killed, and what was wrong after which of them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from callgate.errors import TrustError
from callgate.supply import artefacts, lockfile, npm
from callgate.supply.lockfile import Artefact, Entry
from callgate.supply.pinned import pinned_launch
from callgate.supply.resolve import Options, lock_server
from callgate.supply.resolve_types import Fetched, Resolved, Wanted
from tests.support.kill import killed

LINE = ("npx", "-y", "mail")
VERSION = "1.0.0"


def resolve(wanted: Wanted, work: Path) -> Resolved:
    """As npm would, without it: thousands of runs."""
    digest = "sha512-" + ("A" if VERSION == "1.0.0" else "B") * 86 + "=="
    return Resolved("npm", "mail", VERSION, f"pkg:npm/mail@{VERSION}", (Artefact(f"pkg:npm/mail@{VERSION}", digest),))


def fetch(wanted: Wanted, resolved: Resolved) -> Fetched:
    """Builds and seals a small tree by the same steps as npm's."""
    where = artefacts.key("npm", "mail", resolved.version, resolved.digest.removeprefix("sha256:"))
    with artefacts.building(wanted.state) as folder:
        tree = folder / artefacts.TREE
        (tree / "mail").mkdir()
        (tree / "mail" / "index.js").write_text(f"console.log('{resolved.version}')\n")
        digest = artefacts.digest_of(tree / "mail" / "index.js")
        _, whole = artefacts.seal(wanted.state, folder, where, "mail")
    entry = Entry(("{runtime}", "{store}/mail/index.js"), "mail/index.js", digest, "cat", "/bin/cat", own="mail")
    return Fetched(entry, f"{where}/tree", where, whole, "here")


def dying(state: Path, step: int, *, fresh: bool) -> bool:
    """Whether the run was killed before its `step`th step; false when it had fewer."""

    def work() -> int:
        lock_server("mail", LINE, state=state, options=Options(fresh=fresh))
        return 0

    ended, code = killed(work, step)
    if code:
        raise SystemExit(f"the run failed at step {step}")
    return ended


def look(state: Path, allowed: set[str]) -> list[str]:
    """What is wrong right after the kill: a lock that is neither, a start that works with something else."""
    wrong = []
    path = state / "callgate.lock"
    versions = {one.version for one in lockfile.load(path).servers.values()} or {""}
    if not versions <= allowed:
        wrong.append(f"the lock holds {versions}")
    try:
        found = pinned_launch("mail", LINE, [path], state)
    except TrustError as error:
        wrong.append(f"the start fails: {error.what}")
    else:
        said = subprocess.run(found.argv, capture_output=True, text=True, check=True).stdout if found else ""
        if said.strip() not in {f"console.log('{one}')" if one else "" for one in versions}:
            wrong.append(f"started {said}")
    return wrong


def main(folder: Path, which: str) -> None:
    """All steps."""
    global VERSION
    npm.resolve, npm.fetch, npm.provenance = resolve, fetch, lambda *_: {}
    wrong: list[str] = []
    step = 0
    while True:
        artefacts.remove(folder)
        state = folder / "state"
        state.mkdir(parents=True)
        VERSION = "1.0.0"
        if which == "update":
            lock_server("mail", LINE, state=state)
            VERSION = "2.0.0"
        if not dying(state, step, fresh=which == "update"):
            break
        allowed = {"1.0.0", "2.0.0"} if which == "update" else {"", "1.0.0"}
        wrong += [f"{step}: {what}" for what in look(state, allowed)]
        lock_server("mail", LINE, state=state, options=Options(fresh=which == "update"))
        wrong += [f"{step}, again: {what}" for what in look(state, {VERSION})]
        left = [path.name for path in (state / "artefacts").glob(".new-*")] + [p.name for p in state.glob("*.tmp")]
        if left:
            wrong.append(f"{step}: left over: {left}")
        step += 1
    shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({"steps": step, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
