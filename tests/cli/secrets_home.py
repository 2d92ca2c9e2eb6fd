"""A home directory with clients of every format, a configuration and a `.env` file, full of canaries."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
from pathlib import Path

from callgate.cli import secrets

PREFIX = "cNry7"
"""Every canary begins so: grep for it finds any of them, whole or cut."""


def canary(number: int) -> str:
    """A value that nothing else in the world has."""
    return f"{PREFIX}x{number}Qz8Vn2xL0pTr6Wk{number}"


C = [canary(number) for number in range(30)]

CLIENTS: dict[str, str] = {
    ".cursor/mcp.json": f"""{{
  // my servers
  "mcpServers": {{
\t"github": {{ "command": "npx", "env": {{ "GITHUB_TOKEN": "{C[0]}" /* mine */, "DEBUG": "1" }}, "args": ["-y", "x"], }},
    "jira": {{
      "command": "uvx", // é
      "args": ["jira"],
      "env": {{"JIRA_API_TOKEN": "{C[1]}", "JIRA_URL": "https://me:{C[2]}@jira.internal/"}}
    }},
    "plain": {{ "command": "npx", "env": {{ "MAX_TOKENS": "4096", "TOKEN": "${{TOKEN}}" }} }}
  }}
}}
""",
    ".config/Code/User/mcp.json": f'{{\r\n\t"servers": {{\r\n\t\t"a": {{"type": "stdio", "command": "npx", "env": {{"API_KEY": "{C[3]}"}}}}\r\n\t}}\r\n}}',
    ".codex/config.toml": f"""# é
model = "x"
[mcp_servers.sentry]
command = "npx" # c
args = [ "sentry",
  "x", # y
]
env = {{ SENTRY_AUTH_TOKEN = '{C[4]}', LEVEL = "debug" }}
[mcp_servers.two]
command = "two"
[mcp_servers.two.env]
TWO_SECRET = \"\"\"{C[5]}\"\"\" # long
""",
    ".config/goose/config.yaml": f"""# top
extensions:
  slack:
    enabled: true
    cmd: npx
    args: [-y, slack]   # c
    envs:
      SLACK_BOT_TOKEN: {C[6]}
      SLACK_TEAM: 'T1'   # é
      SLACK_SECRET: "{C[7][:-2]}\\x{ord(C[7][-2]):02x}{C[7][-1]}"
    type: stdio
""",
    ".continue/config.yaml": f"""name: x
mcpServers:
  - name: brave
    command: npx
    env:
      BRAVE_API_KEY: '{C[8]}'
""",
    ".config/opencode/opencode.jsonc": f'{{"mcp": {{"o": {{"type": "local", "command": ["npx", "o"], "environment": {{"O_TOKEN": "{C[9]}"}},}},}},}}',
    ".config/zed/settings.json": f'{{"theme": "x", /* z */ "context_servers": {{"z": {{"source": "custom", "command": "z", "env": {{"Z_TOKEN": "{C[10]}"}}}}}}}}\n',
    ".config/amp/settings.json": f'{{"amp.mcpServers": {{"m": {{"command": "m", "env": {{"M_PASSWORD": "{C[11]}"}}}}}}}}\n',
}  # fmt: skip
CONFIGURATION = f"""# the team's
[servers.remote]
url = "https://x.internal/mcp"
headers = {{ Authorization = "Bearer {C[12]}", X-Team = "t" }} # c

[servers.db]
command = ["db"]
[servers.db.environment]
DB_PASSWORD = '{C[13]}'
DB_HOST = "db.internal"
"""
ENV = f"""# é
A=1
export TOKEN={C[14]} # why
PASSWORD="{C[15]}"\r
SECRET = '{C[16]}'
"""


def make(home: Path) -> None:
    """Write all of it."""
    for name, text in {**CLIENTS, ".config/callgate/callgate.toml": CONFIGURATION, "project/.env": ENV}.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        path.chmod(0o600)


def contents(home: Path) -> dict[str, bytes]:
    """All files and what is in them, but for callgate's own state."""
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in sorted(home.rglob("*"))
        if path.is_file() and ".local" not in path.parts
    }


def leaks(*folders: Path) -> list[str]:
    """Every file in which part of a canary stands in plain text."""
    return [
        str(path)
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if stat.S_ISREG(path.lstat().st_mode) and PREFIX.encode() in path.read_bytes()
    ]


def run(*arguments: str, stdin: bytes | None = None) -> tuple[int, str]:
    """Exit code and everything `callgate secrets` printed."""
    out = io.StringIO()
    before = sys.stdin
    try:
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin or b""))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = secrets.main(list(arguments))
    finally:
        sys.stdin = before
    return code, out.getvalue()


def environment(home: Path) -> dict[str, str]:
    """For a process of its own: nothing of the person who runs the tests."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "CALLGATE_STATE_DIR": str(home / ".local/state/callgate"),
        "COLUMNS": "80",
        "NO_COLOR": "1",
        "LANG": "C.UTF-8",
    }
