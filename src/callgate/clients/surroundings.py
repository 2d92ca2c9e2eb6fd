"""Files around the servers of a client: hooks and settings, managed ones, skills, instructions. Facts only.

Templates as in `table`. Hooks are installed for the clients of HOOK_FILES; what is in the other lists is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from callgate.clients.table import System

HOOK_FILES: Final[Mapping[str, str]] = {
    "claude-code": "{CLAUDE_CONFIG_DIR|~/.claude}/settings.json",
    "cursor": "~/.cursor/hooks.json",
    "codex": "{CODEX_HOME|~/.codex}/hooks.json",
}
"""Where a client reads a person's hooks."""

PROJECT_SETTINGS: Final = (
    ".claude/settings.json",
    ".claude/settings.local.json",
    ".cursor/hooks.json",
    ".codex/hooks.json",
)
"""Files of a project that can hold hooks: code that runs when the project is opened or a tool is called."""

MANAGED: Final[Mapping[System, tuple[str, ...]]] = {
    "linux": (
        "/etc/claude-code/managed-settings.json",
        "/etc/cursor/hooks.json",
        "/etc/codex/requirements.toml",
    ),
    "darwin": (
        "/Library/Application Support/ClaudeCode/managed-settings.json",
        "/Library/Application Support/Cursor/hooks.json",
        "/etc/codex/requirements.toml",
    ),
    "win32": (
        "C:/Program Files/ClaudeCode/managed-settings.json",
        "C:/ProgramData/Cursor/hooks.json",
        "{ProgramData|C:/ProgramData}/OpenAI/Codex/requirements.toml",
    ),
}
"""What an administrator decides for a client; never changed by callgate."""

SKILLS: Final = (
    "~/.claude/skills",
    "~/.agents/skills",
    "~/.copilot/skills",
    "{CODEX_HOME|~/.codex}/skills",
    "~/.gemini/skills",
    ".claude/skills",
    ".agents/skills",
    ".cursor/skills",
    ".github/skills",
    ".kiro/skills",
    ".windsurf/skills",
)
"""Directories of skills: of the user, then of a project."""

INSTRUCTIONS: Final = (
    "CLAUDE.md",
    "AGENTS.md",
    "GEMINI.md",
    ".cursor/rules",
    ".github/copilot-instructions.md",
)
"""Files and directories of a project that a model reads as instructions."""
