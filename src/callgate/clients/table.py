"""Every MCP client callgate knows: where it keeps its servers, and how it writes one. Facts only; other modules act.

Paths are templates: `~` is the home directory, `{config}` the platform's directory for settings, `{NAME|default}` an
environment variable with its default (`{NAME|}`: no file unless it is set), `*` any one name. Relative paths belong to
a project. A `*` among the keys stands for every member.

Gathered from the clients' documentation and open-source installers in November 2026; see docs/clients.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from callgate.clients.formats import FormatName

Scope: TypeAlias = Literal["user", "project", "managed"]
System: TypeAlias = Literal["linux", "darwin", "win32"]
ALL: Final[tuple[System, ...]] = ("linux", "darwin", "win32")


@dataclass(frozen=True, slots=True)
class Shape:
    """How a client writes a server."""

    command: str = "command"
    args: str = "args"
    """Empty: `command` is a list with the arguments in it."""
    urls: tuple[str, ...] = ("url",)
    kind: str = "type"
    """The member that says which transport it is, where there is one."""
    stdio: str = "stdio"
    """What that member says for a server on stdin and stdout."""
    stdio_only: bool = False
    env: str = "env"
    """The member that holds variables with their values."""
    env_names: tuple[str, ...] = ()
    """Members that list the names of variables whose values the client has elsewhere."""


@dataclass(frozen=True, slots=True)
class Place:
    """Files of one kind: their path, and where in them the servers are."""

    path: str
    keys: tuple[str, ...] = ("mcpServers",)
    format: FormatName = "json"
    scope: Scope = "user"
    systems: tuple[System, ...] = ALL
    named: bool = False
    """The servers are a list, and each has a member `name`."""
    hands_off: str = ""
    """Why callgate looks at these files and never changes them."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client. `name` is what `--client` takes."""

    name: str
    title: str
    places: tuple[Place, ...]
    shape: Shape = field(default_factory=Shape)
    outside: str = ""
    """Where it keeps servers that no file shows."""


def _project(path: str, keys: tuple[str, ...] = ("mcpServers",), format_: FormatName = "json") -> Place:
    return Place(path, keys, format_, "project")


_CODE = ("Code", "Code - Insiders")
_SERVERS = ("servers",)
_CODEX = ("mcp_servers",)
_NO_PLUGINS = "the next update of the plugin would replace it"
_ARCHIVED = "the client was discontinued in May 2026"


def _global_storage(extension: str, file: str, hands_off: str = "") -> tuple[Place, ...]:
    """A file in VS Code's storage for one extension."""
    return tuple(
        Place(f"{{config}}/{code}/User/globalStorage/{extension}/settings/{file}", hands_off=hands_off)
        for code in _CODE
    )


CLIENTS: Final[tuple[Client, ...]] = (
    Client(
        "claude-desktop",
        "Claude Desktop",
        (Place("{config}/Claude/claude_desktop_config.json"),),
        Shape(stdio_only=True),
        outside="remote servers are Connectors of the account, desktop extensions are kept by the app, and "
        "organisations distribute configurations of their own",
    ),
    Client(
        "claude-code",
        "Claude Code",
        (
            Place("{CLAUDE_CONFIG_DIR|~}/.claude.json"),
            Place("{CLAUDE_CONFIG_DIR|~}/.claude.json", ("projects", "*", "mcpServers")),
            Place("~/.claude/plugins/cache/*/*/.mcp.json", hands_off=_NO_PLUGINS),
            Place("~/.claude/plugins/cache/*/*/*/.mcp.json", hands_off=_NO_PLUGINS),
            Place("~/.claude/plugins/cache/*/*/.claude-plugin/plugin.json", hands_off=_NO_PLUGINS),
            Place("~/.claude/plugins/cache/*/*/*/.claude-plugin/plugin.json", hands_off=_NO_PLUGINS),
            _project(".mcp.json"),
            Place("/etc/claude-code/managed-mcp.json", scope="managed", systems=("linux",)),
            Place("/Library/Application Support/ClaudeCode/managed-mcp.json", scope="managed", systems=("darwin",)),
            Place("C:/Program Files/ClaudeCode/managed-mcp.json", scope="managed", systems=("win32",)),
        ),
        outside="connectors of a claude.ai account",
    ),
    Client(
        "cursor",
        "Cursor",
        (
            Place("~/.cursor/mcp.json"),
            Place("~/.cursor/plugins/*/.mcp.json", hands_off=_NO_PLUGINS),
            Place("~/.cursor/plugins/*/*/.mcp.json", hands_off=_NO_PLUGINS),
            _project(".cursor/mcp.json"),
            _project(".mcp.json"),
        ),
    ),
    Client(
        "vscode",
        "VS Code",
        (
            *(Place(f"{{config}}/{code}/User/mcp.json", _SERVERS) for code in _CODE),
            *(Place(f"{{config}}/{code}/User/settings.json", ("mcp", "servers")) for code in _CODE),
            Place("~/.vscode-server/data/User/mcp.json", _SERVERS, systems=("linux",)),
            Place("~/.vscode-server-insiders/data/User/mcp.json", _SERVERS, systems=("linux",)),
            _project(".vscode/mcp.json", _SERVERS),
            _project(".vscode/settings.json", ("mcp", "servers")),
            _project(".devcontainer/devcontainer.json", ("customizations", "vscode", "mcp", "servers")),
            _project(".mcp.json"),
        ),
        outside="servers that extensions register, and profiles other than the default one",
    ),
    Client(
        "copilot-cli",
        "GitHub Copilot CLI",
        (Place("{COPILOT_HOME|~/.copilot}/mcp-config.json"), _project(".mcp.json")),
    ),
    Client(
        "codex",
        "Codex",
        (
            Place("{CODEX_HOME|~/.codex}/config.toml", _CODEX, "toml"),
            Place("{CODEX_HOME|~/.codex}/*.config.toml", _CODEX, "toml"),
            _project(".codex/config.toml", _CODEX, "toml"),
            Place("/etc/codex/config.toml", _CODEX, "toml", "managed", ("linux", "darwin")),
            Place("{ProgramData|C:/ProgramData}/OpenAI/Codex/config.toml", _CODEX, "toml", "managed", ("win32",)),
        ),
        Shape(env_names=("env_vars",)),
    ),
    Client(
        "gemini-cli",
        "Gemini CLI",
        (
            Place("~/.gemini/settings.json"),
            _project(".gemini/settings.json"),
            Place("/etc/gemini-cli/settings.json", scope="managed", systems=("linux",)),
            Place("/Library/Application Support/GeminiCli/settings.json", scope="managed", systems=("darwin",)),
            Place("{ProgramData|C:/ProgramData}/gemini-cli/settings.json", scope="managed", systems=("win32",)),
        ),
        Shape(urls=("httpUrl", "url")),
    ),
    Client(
        "antigravity",
        "Antigravity",
        (Place("~/.gemini/antigravity/mcp_config.json"), Place("~/.gemini/config/mcp_config.json")),
        Shape(urls=("serverUrl", "url")),
    ),
    Client(
        "windsurf",
        "Windsurf",
        (
            Place("~/.codeium/windsurf/mcp_config.json"),
            Place("~/.codeium/mcp_config.json"),
            _project(".mcp.json"),
        ),
        Shape(urls=("serverUrl", "url")),
    ),
    Client(
        "zed",
        "Zed",
        (
            Place("{XDG_CONFIG_HOME|~/.config}/zed/settings.json", ("context_servers",), systems=("linux", "darwin")),
            Place("{config}/Zed/settings.json", ("context_servers",), systems=("darwin", "win32")),
            _project(".zed/settings.json", ("context_servers",)),
        ),
        outside="servers that Zed extensions bring",
    ),
    Client(
        "kiro",
        "Kiro",
        (
            Place("~/.kiro/settings/mcp.json"),
            Place("~/.kiro/agents/*.json"),
            _project(".kiro/settings/mcp.json"),
            _project(".kiro/agents/*.json"),
        ),
    ),
    Client(
        "goose",
        "Goose",
        (
            Place(
                "{XDG_CONFIG_HOME|~/.config}/goose/config.yaml", ("extensions",), "yaml", systems=("linux", "darwin")
            ),
            Place("{config}/Block/goose/config/config.yaml", ("extensions",), "yaml", systems=("win32",)),
            Place("~/AppData/Block/goose/config.yaml", ("extensions",), "yaml", systems=("win32",)),
        ),
        Shape(command="cmd", urls=("uri",), env="envs", env_names=("env_keys",)),
        outside="recipes",
    ),
    Client(
        "cline",
        "Cline",
        (
            *_global_storage("saoudrizwan.claude-dev", "cline_mcp_settings.json"),
            Place("{CLINE_DIR|~/.cline}/data/settings/cline_mcp_settings.json"),
        ),
    ),
    Client(
        "roo-code",
        "Roo Code",
        (
            *_global_storage("rooveterinaryinc.roo-cline", "mcp_settings.json", _ARCHIVED),
            Place(".roo/mcp.json", scope="project", hands_off=_ARCHIVED),
        ),
    ),
    Client(
        "continue",
        "Continue",
        (
            Place("~/.continue/config.yaml", format="yaml", named=True),
            Place("~/.continue/mcpServers/*.yaml", format="yaml", named=True),
            Place(".continue/mcpServers/*.yaml", format="yaml", scope="project", named=True),
            Place(".continue/mcpServers/*.json", scope="project"),
        ),
        outside="assistants of the Continue hub",
    ),
    Client("lm-studio", "LM Studio", (Place("~/.lmstudio/mcp.json"), Place("~/.cache/lm-studio/mcp.json"))),
    Client(
        "opencode",
        "opencode",
        (
            Place("{XDG_CONFIG_HOME|~/.config}/opencode/opencode.json", ("mcp",)),
            Place("{XDG_CONFIG_HOME|~/.config}/opencode/opencode.jsonc", ("mcp",)),
            Place("{OPENCODE_CONFIG|}", ("mcp",)),
            Place("{OPENCODE_CONFIG_DIR|}/opencode.json", ("mcp",)),
            Place("{OPENCODE_CONFIG_DIR|}/opencode.jsonc", ("mcp",)),
            _project("opencode.json", ("mcp",)),
            _project("opencode.jsonc", ("mcp",)),
            Place("/etc/opencode/opencode.json", ("mcp",), scope="managed", systems=("linux",)),
        ),
        Shape(args="", stdio="local", env="environment"),
    ),
    Client(
        "amp",
        "Amp",
        (
            Place("{XDG_CONFIG_HOME|~/.config}/amp/settings.json", ("amp.mcpServers",), systems=("linux", "darwin")),
            Place("{config}/amp/settings.json", ("amp.mcpServers",), systems=("win32",)),
            _project(".amp/settings.json", ("amp.mcpServers",)),
        ),
    ),
    Client(
        "junie",
        "JetBrains Junie",
        (Place("~/.junie/mcp/mcp.json"), _project(".junie/mcp/mcp.json")),
        Shape(stdio_only=True),
        outside="the settings of the JetBrains IDE, AI Assistant's servers included",
    ),
    Client(
        "amazon-q",
        "Amazon Q Developer",
        (
            Place("~/.aws/amazonq/mcp.json"),
            Place("~/.aws/amazonq/default.json"),
            Place("~/.aws/amazonq/agents/*.json"),
            Place("~/.aws/amazonq/cli-agents/*.json"),
            _project(".amazonq/mcp.json"),
            _project(".amazonq/cli-agents/*.json"),
        ),
    ),
    Client(
        "mistral-vibe",
        "Mistral Vibe",
        (
            Place("~/.vibe/config.toml", ("mcp_servers",), "toml", named=True),
            Place(".vibe/config.toml", ("mcp_servers",), "toml", "project", named=True),
        ),
        Shape(kind="transport"),
    ),
    Client("kimi", "Kimi CLI", (Place("~/.kimi/mcp.json"),)),
    Client("factory", "Factory", (Place("~/.factory/mcp.json"), _project(".factory/mcp.json"))),
    Client(
        "trae",
        "Trae",
        (Place("{config}/Trae/User/mcp.json"), _project(".trae/mcp.json")),
    ),
    Client(
        "qoder",
        "Qoder",
        (Place("{config}/Qoder/SharedClientCache/mcp.json"),),
    ),
    Client(
        "mcporter",
        "MCPorter",
        (
            Place("~/.mcporter/mcporter.json"),
            Place("~/.mcporter/mcporter.jsonc"),
            _project("config/mcporter.json"),
        ),
        Shape(urls=("baseUrl", "url")),
    ),
)
BY_NAME: Final = {client.name: client for client in CLIENTS}

NO_FILES: Final[tuple[tuple[str, str], ...]] = (
    ("claude.ai", "connectors are kept in the account and called from Anthropic's servers"),
    ("ChatGPT", "apps and connectors are kept in the account and called from OpenAI's servers"),
)
"""Clients without any file on this machine."""
