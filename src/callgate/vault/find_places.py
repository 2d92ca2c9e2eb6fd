"""Where credentials are known to lie: shell histories, and the files in which programs keep what they sign in with.

Paths are below the home directory. `format` says how a file is read (`find_text.READERS`, or `json`, `yaml`, `toml`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

HISTORIES: Final = (
    ".bash_history",
    ".zsh_history",
    ".zhistory",
    ".histfile",
    ".history",
    ".local/share/fish/fish_history",
    ".python_history",
    ".node_repl_history",
    ".psql_history",
    ".mysql_history",
    ".rediscli_history",
)


@dataclass(frozen=True, slots=True)
class Known:
    """A file that keeps credentials. `what` names its program."""

    path: str
    format: str
    what: str


KNOWN: Final = (
    Known(".netrc", "netrc", "curl, git and others"),
    Known(".git-credentials", "urls", "git"),
    Known(".config/git/credentials", "urls", "git"),
    Known(".npmrc", "ini", "npm"),
    Known(".yarnrc.yml", "yaml", "Yarn"),
    Known(".pypirc", "ini", "twine"),
    Known(".config/pip/pip.conf", "ini", "pip"),
    Known(".cargo/credentials.toml", "toml", "Cargo"),
    Known(".gem/credentials", "ini", "RubyGems"),
    Known(".aws/credentials", "ini", "AWS"),
    Known(".aws/config", "ini", "AWS"),
    Known(".azure/msal_token_cache.json", "json", "Azure"),
    Known(".config/gcloud/application_default_credentials.json", "json", "Google Cloud"),
    Known(".config/gh/hosts.yml", "yaml", "GitHub CLI"),
    Known(".config/glab-cli/config.yml", "yaml", "GitLab CLI"),
    Known(".docker/config.json", "json", "Docker"),
    Known(".config/containers/auth.json", "json", "Podman"),
    Known(".kube/config", "yaml", "Kubernetes"),
    Known(".terraform.d/credentials.tfrc.json", "json", "Terraform"),
    Known(".vault-token", "whole", "HashiCorp Vault"),
    Known(".pgpass", "pgpass", "PostgreSQL"),
    Known(".my.cnf", "ini", "MySQL"),
    Known(".boto", "ini", "boto"),
    Known(".s3cfg", "ini", "s3cmd"),
    Known(".databrickscfg", "ini", "Databricks"),
    Known(".cache/huggingface/token", "whole", "Hugging Face"),
    Known(".config/rclone/rclone.conf", "ini", "rclone"),
    Known(".mcp-auth", "tree", "mcp-remote"),
    Known(".claude/.credentials.json", "json", "Claude Code"),
    Known(".codex/auth.json", "json", "Codex"),
    Known(".gemini/oauth_creds.json", "json", "Gemini CLI"),
    Known(".gemini/.env", "env", "Gemini CLI"),
    Known(".ssh", "tree", "OpenSSH"),
    Known(".config/age/keys.txt", "text", "age"),
    Known(".config/sops/age/keys.txt", "text", "SOPS"),
    Known(".env", "env", "programs started in the home directory"),
)
LEAVE_OUT: Final = frozenset(
    {
        ".git", ".hg", ".svn", "node_modules", ".venv", "venv", "site-packages", "__pycache__", ".tox",
        ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".import_linter_cache", ".cache",
        "dist", "build", "target", ".Trash", "Trash", "Library", "vendor", ".rustup", ".nvm", ".pyenv",
        ".npm", "go", "snap", ".gradle", ".m2", ".local", "proc", "sys", "dev",
    }
)  # fmt: skip
"""Directories a walk does not enter: what is in them was made by programs, from elsewhere."""


_BY_NAME: Final = {
    ".netrc": "netrc",
    ".npmrc": "ini",
    ".pypirc": "ini",
    ".git-credentials": "urls",
    ".pgpass": "pgpass",
}
_BY_ENDING: Final = {
    ".json": "json",
    ".jsonc": "json",
    ".toml": "toml",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".ini": "ini",
    ".cfg": "ini",
    ".conf": "ini",
    ".properties": "ini",
    ".pem": "key",
    ".key": "key",
    ".p8": "key",
    ".sh": "env",
}


def histories(home: str, environ: Mapping[str, str]) -> list[str]:
    """The shell histories there may be, that of `HISTFILE` first."""
    named = environ.get("HISTFILE", "")
    return [*([named] if os.path.isabs(named) else []), *(os.path.join(home, name) for name in HISTORIES)]


def is_env_file(name: str) -> bool:
    """`.env`, `.env.local`, `prod.env`; not the examples beside them."""
    lower = name.lower()
    if lower.endswith((".example", ".sample", ".template", ".dist", ".md", ".ts", ".js", ".py")):
        return False
    return lower == ".env" or lower.startswith(".env.") or lower.endswith(".env") or lower == ".envrc"


def format_of(name: str) -> str:
    """How a file of this name is read; empty: it is not a file of configuration."""
    lower = name.lower()
    if is_env_file(lower):
        return "env"
    if lower.startswith("id_") and "." not in lower:
        return "key"
    return _BY_NAME.get(lower, "") or _BY_ENDING.get(os.path.splitext(lower)[1], "")
