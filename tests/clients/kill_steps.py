"""Runs `callgate install` or `uninstall` again and again, each time killed one step later, and looks at what is left.

    python -m tests.clients.kill_steps FOLDER install|uninstall

A step is a call that changes or syncs files. Each run is a process of its own that ends by SIGKILL. Prints one JSON
document: how many runs were killed, and what was wrong after which of them.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from callgate.cli import install, status, uninstall
from tests.clients.roundtrip import MARK
from tests.support.kill import afresh, killed

FILES = {
    ".cursor/mcp.json": (
        '{\n  "mcpServers": {\n    // c\n    "a": {"command": "npx", "env": {"API_TOKEN": "'
        f'{MARK}-8f2K1q"}}}},\n    "b": {{"url": "http://h/?api_key={MARK}-Qw72kZ8p&v=1"}}}}}}\n'
    ),
    ".codex/config.toml": (
        f'[mcp_servers.c]\ncommand = "uvx" # c\nenv = {{ SECRET_KEY = \'{MARK}-Zx81\' }}\nargs = ["x"]\n'
    ),
    ".claude/settings.json": '{"hooks": {"PreToolUse": [ /* mine */ ]}, "model": "x"}\n',
}
SERVERS = (".cursor/mcp.json", ".codex/config.toml")
INSTALL = ("--yes", "--no-lock", "--secrets-to", "age")


def quiet(run: Any, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a sub-command."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run.main(list(arguments))
    return code, out.getvalue()


def dying(run: Any, step: int) -> bool:
    """Whether the command was killed before its `step`th step; false when it had fewer."""
    arguments = INSTALL if run is install else ("--yes",)
    return killed(lambda: quiet(run, *arguments)[0], step)[0]


def main(folder: Path, which: str) -> None:
    """All steps."""
    home, state = folder / "home", folder / "state"
    os.environ |= {"HOME": str(home), "CALLGATE_STATE_DIR": str(state)}
    plain = {name: text.encode() for name, text in FILES.items()}

    def now() -> dict[str, bytes]:
        return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}

    def before() -> None:
        state.mkdir()
        for name, data in plain.items():
            (home / name).parent.mkdir(parents=True)
            (home / name).write_bytes(data)

    def after() -> None:
        before()
        quiet(install, *INSTALL)

    afresh(folder, after)
    wrapped = now()
    wrong = [] if MARK.encode() not in b"".join(wrapped.values()) else ["the credentials are not moved"]
    steps = 0
    while True:
        afresh(folder, before if which == "install" else after)
        if not dying(install if which == "install" else uninstall, steps):
            break
        wrong += [f"{steps}: {what}" for what in look(now(), plain, wrapped)]
        for path in state.rglob("*"):
            if path.is_file() and MARK.encode() in path.read_bytes():
                wrong.append(f"{steps}: {path.name} holds a credential")
        then = [(install, wrapped), (uninstall, plain)]
        for again, want in then if steps % 2 else [then[1], *then]:
            code, out = quiet(again, *(INSTALL if again is install else ("--yes",)))
            if code or now() != want:
                differ = sorted(name for name in {*now(), *want} if now().get(name) != want.get(name))
                wrong.append(f"{steps}: {again.__name__} afterwards: {code} {differ} {out}")
        steps += 1
    print(json.dumps({"steps": steps, "wrong": wrong}))


def look(files: dict[str, bytes], plain: dict[str, bytes], wrapped: dict[str, bytes]) -> list[str]:
    """What is wrong right after the kill: a file that is neither, or a status that says something else."""
    wrong = [
        f"{name} is neither"
        for name in {*plain, *wrapped}
        if files.get(name) not in (plain.get(name), wrapped.get(name))
    ]
    _, out = quiet(status, "--json")
    for one in json.loads(out)["files"]:
        name = next(name for name in SERVERS if one["path"].endswith(name))
        want = "wrapped" if files[name] == wrapped[name] else "not wrapped"
        states = {server["state"] for server in one["servers"]}
        if states != {want} or one["problem"]:
            wrong.append(f"{name} is {want}, status says {states} {one['problem']}")
    return wrong


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
