"""`manifest.json` of an MCPB bundle, versions 0.1 to 0.4, checked. Unknown members are kept by name, not refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from callgate.errors import TrustError
from callgate.supply.place import parse_object
from callgate.text import visible

ServerType: TypeAlias = Literal["node", "python", "binary", "uv"]
SERVER_TYPES: Final = ("node", "python", "binary", "uv")
VERSIONS: Final = ("0.1", "0.2", "0.3", "0.4")
MANIFEST_BYTES: Final = 1024 * 1024
_OPTION_TYPES = ("string", "number", "boolean", "directory", "file")
_KNOWN: Final = frozenset(
    # One a line would be a page: these are the members of the schema of version 0.4.
    "$schema dxt_version manifest_version name display_name version description long_description author repository "  # noqa: SIM905
    "homepage documentation support icon icons screenshots localization server tools tools_generated prompts "
    "prompts_generated keywords license privacy_policies compatibility user_config _meta".split()
)


@dataclass(frozen=True, slots=True)
class Option:
    """One entry of `user_config`. A sensitive one's value is a secret."""

    name: str
    type: str
    required: bool = False
    sensitive: bool = False
    multiple: bool = False
    default: Any = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that holds together. Texts are as the publisher wrote them."""

    name: str
    version: str
    manifest_version: str
    type: ServerType
    entry_point: str
    command: str
    args: tuple[str, ...]
    env: Mapping[str, str]
    overrides: Mapping[str, Mapping[str, Any]]
    options: Mapping[str, Option]
    tools: tuple[str, ...] = ()
    tools_generated: bool = False
    platforms: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def parse_manifest(data: bytes) -> Manifest:
    """A manifest, checked. Raises TrustError with the member that is wrong."""
    document = parse_object(data, "manifest.json", MANIFEST_BYTES)
    version = document.get("manifest_version", document.get("dxt_version"))
    if version not in VERSIONS:
        raise wrong("manifest_version", f"is {visible(str(version), 40)}, not one of {', '.join(VERSIONS)}")
    server = _table(document, "server")
    config = _table(server, "mcp_config", "server.mcp_config") if "mcp_config" in server else {}
    kind = server.get("type")
    if kind not in SERVER_TYPES or (kind == "uv" and version != "0.4"):
        raise wrong("server.type", f"is {visible(str(kind), 40)}, not one of {', '.join(SERVER_TYPES)}")
    return Manifest(
        name=_text(document, "name"),
        version=_text(document, "version"),
        manifest_version=version,
        type=kind,
        entry_point=_entry_point(_text(server, "entry_point", "server.entry_point")),
        command=_text(config, "command", "server.mcp_config.command"),
        args=_texts(config.get("args", []), "server.mcp_config.args"),
        env=_environment(config.get("env", {}), "server.mcp_config.env"),
        overrides=_overrides(config.get("platform_overrides", {})),
        options=_options(document.get("user_config", {})),
        tools=tuple(_text(one, "name", "tools.name") for one in _tables(document.get("tools", []), "tools")),
        tools_generated=document.get("tools_generated") is True,
        platforms=_platforms(document.get("compatibility", {})),
        unknown=tuple(sorted(set(document) - _KNOWN)),
    )


def wrong(member: str, what: str) -> TrustError:
    """The error for a member of a manifest. `what` is safe to print."""
    return TrustError(
        f"manifest.json: {member} {what}", next_step="ask the bundle's publisher, or use another way to install it"
    )


def _table(table: Mapping[str, Any], name: str, shown: str = "") -> dict[str, Any]:
    value = table.get(name)
    if not isinstance(value, dict):
        raise wrong(shown or name, "is missing or not an object")
    return value


def _tables(value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or len(value) > 2000 or not all(isinstance(one, dict) for one in value):
        raise wrong(name, "is not a list of at most 2000 objects")
    return value


def _text(table: Mapping[str, Any], name: str, shown: str = "") -> str:
    value = table.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 4096 or "\0" in value:
        raise wrong(shown or name, "is missing or not a text of at most 4096 characters")
    return value


def _texts(value: Any, name: str) -> tuple[str, ...]:
    ok = isinstance(value, list) and len(value) <= 500
    if not ok or not all(isinstance(one, str) and len(one) <= 32768 and "\0" not in one for one in value):
        raise wrong(name, "is not a list of at most 500 texts")
    return tuple(value)


def _environment(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > 500:
        raise wrong(name, "is not an object of at most 500 members")
    for key, one in value.items():
        if not isinstance(one, str) or "\0" in one + key or "=" in key or not key:
            raise wrong(f"{name}.{visible(key, 60)}", "is not a variable with a text")
    return dict(value)


def _overrides(value: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict) or len(value) > 16:
        raise wrong("server.mcp_config.platform_overrides", "is not an object")
    out: dict[str, dict[str, Any]] = {}
    for platform in value:
        name = f"server.mcp_config.platform_overrides.{visible(platform, 40)}"
        table = _table(value, platform, name)
        out[platform] = {}
        if "command" in table:
            out[platform]["command"] = _text(table, "command", f"{name}.command")
        if "args" in table:
            out[platform]["args"] = _texts(table["args"], f"{name}.args")
        if "env" in table:
            out[platform]["env"] = _environment(table["env"], f"{name}.env")
    return out


def _options(value: Any) -> dict[str, Option]:
    if not isinstance(value, dict) or len(value) > 500:
        raise wrong("user_config", "is not an object of at most 500 members")
    out: dict[str, Option] = {}
    for name in value:
        shown = f"user_config.{visible(name, 60)}"
        one = _table(value, name, shown)
        if one.get("type") not in _OPTION_TYPES:
            raise wrong(f"{shown}.type", f"is not one of {', '.join(_OPTION_TYPES)}")
        flags = {flag: one.get(flag, False) for flag in ("required", "sensitive", "multiple")}
        if not all(isinstance(flag, bool) for flag in flags.values()):
            raise wrong(shown, "has a flag that is not true or false")
        out[name] = Option(name, one["type"], default=one.get("default"), **flags)
    return out


def _platforms(value: Any) -> tuple[str, ...]:
    return _texts(value.get("platforms", []), "compatibility.platforms") if isinstance(value, dict) else ()


def _entry_point(path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or "\\" in path or ".." in parts or not parts:
        raise wrong("server.entry_point", f"'{visible(path, 100)}' is not a path inside the bundle")
    return "/".join(parts)
