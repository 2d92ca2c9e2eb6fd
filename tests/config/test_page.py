"""docs/configuration.md names every key of the configuration, with its true default and limits."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from callgate.config import (
    DEFAULT_LISTEN,
    AuditConfig,
    Config,
    ControlConfig,
    LaunchConfig,
    Limits,
    ListenConfig,
    SandboxConfig,
    SecretConfig,
    ServerConfig,
)
from callgate.config.document import parse
from callgate.errors import ConfigError
from callgate.sandbox import spec

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
SECTIONS: dict[str, tuple[type, set[str], set[str]]] = {
    "Top level": (Config, {"listen", "limits", "audit", "controls", "servers", "launch", "source"}, set()),
    "listen": (ListenConfig, {"host", "port"}, {"address"}),
    "limits": (Limits, set(), set()),
    "audit": (AuditConfig, set(), set()),
    "servers.NAME": (ServerConfig, {"name", "sandbox", "secrets"}, set()),
    "servers.NAME.sandbox": (SandboxConfig, set(), set()),
    "servers.NAME.secrets.VARIABLE": (SecretConfig, set(), set()),
    "launch": (LaunchConfig, set(), set()),
    "controls.ID": (ControlConfig, {"options"}, set()),
}
OF_THE_SANDBOX = {
    "processes": spec.Limits().processes,
    "memory_mib": spec.Limits().memory_bytes // spec.MIB,
    "file_mib": spec.Limits().file_bytes // spec.MIB,
    "disk_mib": spec.Limits().disk_bytes // spec.MIB,
    "descriptors": spec.Limits().descriptors,
}


def tables() -> dict[str, dict[str, tuple[str, str]]]:
    """Section → key → (default, allowed)."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    section = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith(("## ", "### ")):
            section = line.lstrip("# ").partition(":")[0].strip("`[]")
            found[section] = {}
        elif line.startswith("| `"):
            key, default, allowed, _ = (cell.strip() for cell in line.strip("|").split("|", 3))
            found[section][key.strip("`")] = (default, allowed)
    return found


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_there_and_no_other(section: str) -> None:
    kind, not_keys, more = SECTIONS[section]
    assert tables()[section].keys() == {field.name for field in fields(kind)} - not_keys | more


def test_defaults_are_true() -> None:
    for section, keys in tables().items():
        by_name = {field.name: field for field in fields(SECTIONS[section][0])}
        for key, (default, _) in keys.items():
            if not default.startswith("`") or " with " in default:
                continue  # said in words
            written = tomllib.loads(f"x = {default.strip('`')}")["x"]
            if key == "address":
                assert written == DEFAULT_LISTEN
                continue
            if section == "servers.NAME.sandbox" and key in OF_THE_SANDBOX:
                assert written == OF_THE_SANDBOX[key]
                continue
            field = by_name[key]
            true: Any = field.default if field.default is not MISSING else field.default_factory()  # type: ignore[misc]
            assert (list(true) if isinstance(true, tuple) else true) == written, key


def bounded() -> list[tuple[str, str, int, int]]:
    return [
        (section, key, *map(int, allowed.split(" to ")))  # type: ignore[misc]
        for section, keys in tables().items()
        for key, (_, allowed) in keys.items()
        if " to " in allowed
    ]


@pytest.mark.parametrize(("section", "key", "low", "high"), bounded())
def test_limits_are_true(section: str, key: str, low: int, high: int) -> None:
    def table(value: int) -> dict[str, Any]:
        path = section.replace("NAME", "s").split(".")
        document: dict[str, Any] = {key: value, **({"url": "http://h/"} if section == "servers.NAME" else {})}
        if key == "threshold":
            document["signers"] = [f"key-{number}" for number in range(100)]
        for name in reversed(path):
            document = {name: document}
        return document

    for value in (low, high):
        parse(table(value))
    for value in (low - 1, high + 1):
        with pytest.raises(ConfigError):
            parse(table(value))
