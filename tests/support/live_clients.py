"""Real MCP clients, each in a home of its own, where nothing answers but a stand-in for a model on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import REQUIRED, ROOT, client_package, node

PORT = 8765
"""Of the stand-in, in a network namespace that holds nothing else."""
MODEL = f"http://127.0.0.1:{PORT}"
RUN_S = 90.0
PATIENCE_S = 60
"""How long clients wait for a server to begin; without it, ten and five seconds, which a busy machine may need."""


@dataclass(frozen=True, slots=True)
class LiveClient:
    """A client: its settings for servers and model, and how it is asked one question without a terminal."""

    name: str
    file: str
    """Below the home directory."""
    settings: Callable[[str, str, str], str]
    """Of Python, a server's script, and its token."""
    command: Callable[[], list[str]]
    environment: dict[str, str]


def _codex(python: str, script: str, token: str) -> str:
    return f"""\
model = "stand-in"   # kept
model_provider = "here"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.here]
name = "here"
base_url = "{MODEL}/v1"
wire_api = "responses"
env_key = "STAND_IN_KEY"

[mcp_servers.adder]
command = "{python}"
args = ['{script}']   # kept, too
startup_timeout_sec = {PATIENCE_S}
env = {{ API_TOKEN = "{token}" }}
"""


def _gemini(python: str, script: str, token: str) -> str:
    server = {"command": python, "args": [script], "env": {"API_TOKEN": token}, "trust": True}
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
        "mcpServers": {"adder": server},
    }
    return json.dumps(settings, indent=4) + "\n"


def _opencode(python: str, script: str, token: str) -> str:
    return f"""\
{{
  // kept
  "autoupdate": false,
  "share": "disabled",
  "model": "here/stand-in",
  "small_model": "here/stand-in",
  "provider": {{
    "here": {{
      "npm": "@ai-sdk/openai-compatible",
      "name": "here",
      "options": {{"baseURL": "{MODEL}/v1", "apiKey": "none"}},
      "models": {{"stand-in": {{"name": "stand-in"}}}},
    }},
  }},
  "mcp": {{
    "adder": {{
      "type": "local",
      "command": ["{python}", "{script}"],
      "timeout": {PATIENCE_S * 1000},
      "environment": {{"API_TOKEN": "{token}"}},
    }},
  }},
}}
"""


CODEX = LiveClient(
    "codex",
    ".codex/config.toml",
    _codex,
    lambda: [str(_only(client_package("@openai/codex-linux-x64"), "codex")), "exec", "--skip-git-repo-check"],
    {"STAND_IN_KEY": "none"},
)
GEMINI = LiveClient(
    "gemini-cli",
    ".gemini/settings.json",
    _gemini,
    lambda: [
        *(node(), str(client_package("@google/gemini-cli") / "bundle" / "gemini.js")),
        *("-m", "gemini-2.5-flash", "--yolo", "-p"),
    ],
    {"GOOGLE_GEMINI_BASE_URL": MODEL, "GEMINI_API_KEY": "none", "GEMINI_CLI_TRUST_WORKSPACE": "true"},
)
OPENCODE = LiveClient(
    "opencode",
    ".config/opencode/opencode.jsonc",
    _opencode,
    lambda: [str(_only(client_package("opencode-linux-x64"), "opencode")), "run"],
    {f"OPENCODE_DISABLE_{name}": "1" for name in ("MODELS_FETCH", "AUTOUPDATE", "DEFAULT_PLUGINS", "LSP_DOWNLOAD")},
)
FREE = (CODEX, GEMINI, OPENCODE)


def _only(folder: Path, name: str) -> Path:
    (found,) = (path for path in folder.rglob(name) if path.is_file() and path.parent.name == "bin")
    return found


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client did: its exit code, what it printed, and each question it asked the model."""

    code: int
    out: str
    asked: list[dict[str, Any]]

    @property
    def told(self) -> str:
        """The last question, which holds the results of all tools, as one text."""
        return json.dumps(self.asked[-1]["body"]) if self.asked else ""


class Desk:
    """A home with clients, an ordinary user's rights, and a network in which only the stand-in answers."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("bwrap") is None:
            pytest.fail("bwrap is not installed") if REQUIRED else pytest.skip("bwrap is not installed")
        self.home = folder / "home"
        self.talk = folder / "talk"
        for path in (self.home / "project", self.talk):
            path.mkdir(parents=True)

    @property
    def state(self) -> Path:
        """Where callgate keeps its own, as for any user."""
        return self.home / ".local" / "state" / "callgate"

    def run(self, command: list[str], script: Sequence[dict[str, Any]] = (), **environment: str) -> Answer:
        """One command in there, while the stand-in follows `script`."""
        (self.talk / "script.json").write_text(json.dumps(list(script) or [{"text": "ok"}]))
        asked = self.talk / "asked"
        asked.unlink(missing_ok=True)
        own = {
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{Path(node()).parent}:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "NO_COLOR": "1",
            **environment,
        }
        inside = [
            *("bwrap", "--unshare-user", "--uid", "1000", "--gid", "1000", "--unshare-net"),
            *(
                "--die-with-parent",
                "--ro-bind",
                "/",
                "/",
                "--dev",
                "/dev",
                "--bind",
                "/proc",
                "/proc",
                "--tmpfs",
                "/tmp",
            ),
            *(word for path in (self.home, self.talk) for word in ("--bind", str(path), str(path))),
            *("--ro-bind", str(ROOT), str(ROOT), "--chdir", str(self.home / "project")),
            *("--setenv", "PYTHONPATH", str(ROOT)),
            *(sys.executable, "-m", "tests.support.model", str(self.talk), str(PORT), str(self.talk / "script.json")),
            *("--", "env", "-u", "PYTHONPATH", *command),
        ]
        with subprocess.Popen(
            inside,
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                out, _ = process.communicate(timeout=RUN_S)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        lines = asked.read_text().splitlines() if asked.exists() else []
        return Answer(process.returncode, out, [json.loads(line) for line in lines])

    def callgate(self, *words: str) -> Answer:
        """callgate, as the user starts it."""
        return self.run([str(Path(sys.executable).with_name("callgate")), *words])

    def ask(self, client: LiveClient, script: list[dict[str, Any]], *options: str) -> Answer:
        """The client, asked one question."""
        return self.run([*client.command(), *options, "do it"], script, **client.environment)


def files_with(folder: Path, text: str) -> list[str]:
    """The files below a directory that hold a text."""
    every = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [os.fspath(path.relative_to(folder)) for path in every if text.encode() in path.read_bytes()]
