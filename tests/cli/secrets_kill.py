"""Runs `callgate secrets move`, or its undo, again and again, each time killed one step later; looks at what is left.

    python -m tests.cli.secrets_kill FOLDER move|undo FIRST STRIDE

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

from callgate.cli import install, secrets
from tests.cli.secrets_home import PREFIX, C, leaks
from tests.support.kill import afresh, killed

FILES = {
    ".cursor/mcp.json": f'{{\n  "mcpServers": {{\n    // c\n    "a": {{"command": "npx", "env": {{"A_TOKEN": "{C[0]}"}}}}}}}}\n',
    ".config/callgate/callgate.toml": f"[servers.s]\ncommand = ['s']\n[servers.s.environment]\nS_TOKEN = '{C[1]}' # c\n",
    "p/.env": f"E_TOKEN={C[2]}\n",
}  # fmt: skip
VALUES = {".cursor/mcp.json": C[0], ".config/callgate/callgate.toml": C[1], "p/.env": C[2]}


def quiet(run: Any, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a sub-command."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run.main(list(arguments))
    return code, out.getvalue()


def dying(arguments: tuple[str, ...], step: int) -> bool:
    """Whether the command was killed before its `step`th step; false when it had fewer."""
    return killed(lambda: quiet(secrets, *arguments)[0], step)[0]


class Desk:
    """A home, its state, and the two contents its files may have."""

    def __init__(self, folder: Path, which: str) -> None:
        self.folder, self.home, self.state = folder, folder / "home", folder / "state"
        self.which = which
        os.environ |= {"HOME": str(self.home), "CALLGATE_STATE_DIR": str(self.state)}
        env = str(self.home / "p/.env")
        self.move = ("move", "--to", "age", "--yes", env)
        self.undo = ("move", "--undo", "--yes")
        afresh(folder, self._plain)
        self.plain = self.now()
        afresh(folder, self._moved)
        self.moved = self.now()

    def now(self) -> dict[str, bytes]:
        return {name: (self.home / name).read_bytes() for name in FILES}

    def fresh(self) -> None:
        """As before the command that is killed."""
        afresh(self.folder, self._moved if self.which == "undo" else self._plain)

    def _plain(self) -> None:
        self.state.mkdir()
        for name, text in FILES.items():
            (self.home / name).parent.mkdir(parents=True, exist_ok=True)
            (self.home / name).write_bytes(text.encode())
        options = install.parser().format_help()
        leave = [one for one in ("--keep-secrets", "--no-lock", "--no-hooks") if one in options]
        quiet(install, "--yes", *leave)

    def _moved(self) -> None:
        self._plain()
        quiet(secrets, *self.move)

    def look(self) -> list[str]:
        """What is wrong right after a kill: a file that is neither, or a value that is nowhere any more."""
        wrong = []
        for name, data in self.now().items():
            if data not in (self.plain[name], self.moved[name]):
                wrong.append(f"{name} is neither")
            elif data == self.moved[name]:
                references = [one for one in data.decode().replace('"', " ").split() if "age://" in one]
                reference = next(
                    one for one in (r.partition("=")[2] or r for r in references) if one.startswith("age://")
                )
                if quiet(secrets, "test", reference)[0] != 0:
                    wrong.append(f"{name} names {reference}, which is nowhere")
        return wrong


def main(folder: Path, which: str, first: int, stride: int) -> None:
    """Every `stride`th step from `first` on."""
    desk = Desk(folder, which)
    wrong: list[str] = []
    steps = first
    while True:
        desk.fresh()
        if not dying(desk.move if which == "move" else desk.undo, steps):
            break
        wrong += [f"{steps}: {what}" for what in desk.look()]
        order = [(desk.move, desk.moved), (desk.undo, desk.plain)]
        for again, want in order if which == "move" or steps // stride % 2 else [order[1], *order]:
            code, out = quiet(secrets, *again)
            if code or desk.now() != want:
                wrong.append(f"{steps}: {again[1]} afterwards: {code} {out}")
            if want is desk.moved and (left := leaks(folder)):
                wrong.append(f"{steps}: in plain text after a move: {left}")
            if PREFIX in out:
                wrong.append(f"{steps}: printed")
        left = sorted(str(path.relative_to(desk.home)) for path in desk.home.rglob("*") if path.is_file())
        if left != sorted(FILES):
            wrong.append(f"{steps}: left over: {left}")
        steps += stride
    print(json.dumps({"steps": steps, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
