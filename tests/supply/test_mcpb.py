from __future__ import annotations

import copy
import io
import zipfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.errors import TrustError
from callgate.supply.finding import refused
from callgate.supply.mcpb import compare_tools, open_bundle, read_bundle
from callgate.supply.mcpb_command import command
from callgate.supply.mcpb_manifest import parse_manifest

CLOCK: dict[str, Any] = {
    "manifest_version": "0.3",
    "name": "clock",
    "version": "1.0.0",
    "description": "Tells the time",
    "author": {"name": "Example"},
    "server": {
        "type": "node",
        "entry_point": "server/index.js",
        "mcp_config": {
            "command": "node",
            "args": ["${__dirname}/server/index.js", "${user_config.zones}", "--level=${user_config.level}"],
            "env": {"API_KEY": "${user_config.api_key}", "MODE": "plain"},
            "platform_overrides": {"win32": {"command": "node.exe", "args": []}},
        },
    },
    "tools": [{"name": "now"}, {"name": "later"}],
    "user_config": {
        "api_key": {"type": "string", "title": "Key", "description": "", "sensitive": True, "required": True},
        "zones": {"type": "string", "title": "Zones", "description": "", "multiple": True},
        "level": {"type": "number", "title": "Level", "description": "", "default": 3},
    },
}


def changed(**changes: Any) -> dict[str, Any]:
    """The clock with members changed: `server__type="node"` reaches inside."""
    document = copy.deepcopy(CLOCK)
    for path, value in changes.items():
        *parents, last = path.split("__")
        table = document
        for parent in parents:
            table = table[parent]
        table[last] = value
    return document


def packed(document: dict[str, Any], files: dict[str, bytes] | None = None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("manifest.json", orjson.dumps(document))
        for path, data in (files if files is not None else {"server/index.js": b"run()"}).items():
            archive.writestr(path, data)
    return out.getvalue()


def rules(document: dict[str, Any], files: dict[str, bytes] | None = None) -> dict[str, str]:
    return {one.rule: one.weight for one in read_bundle(packed(document, files)).findings}


def test_an_ordinary_bundle(tmp_path: Path) -> None:
    bundle = open_bundle(packed(CLOCK), tmp_path / "out")
    assert bundle.findings == () and not bundle.signed
    assert (tmp_path / "out/server/index.js").read_bytes() == b"run()"
    made = command(bundle.manifest, tmp_path / "out", {"api_key": "s3cret", "zones": ["UTC", "CET"]})
    assert made.argv == ("node", f"{tmp_path}/out/server/index.js", "UTC", "CET", "--level=3")
    assert made.env == {"API_KEY": "s3cret", "MODE": "plain"} and made.secrets == ("API_KEY",)


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3", "0.4"])
def test_all_versions(version: str) -> None:
    assert parse_manifest(orjson.dumps(changed(manifest_version=version))).manifest_version == version


def test_uv_is_of_version_4(tmp_path: Path) -> None:
    uv = {"type": "uv", "entry_point": "server/main.py", "mcp_config": {"command": "uv", "args": ["run"]}}
    assert parse_manifest(orjson.dumps(changed(manifest_version="0.4", server=uv))).type == "uv"
    with pytest.raises(TrustError, match=r"server\.type"):
        parse_manifest(orjson.dumps(changed(server=uv)))


def test_the_command_of_another_platform(tmp_path: Path) -> None:
    manifest = parse_manifest(orjson.dumps(CLOCK))
    assert command(manifest, tmp_path, {"api_key": "x"}, platform="win32").argv == ("node.exe",)


@pytest.mark.parametrize(
    ("changes", "values", "because"),
    [
        ({}, {}, "'api_key' has no value"),
        ({}, {"api_key": ""}, "'api_key' has no value"),
        ({}, {"api_key": ["a", "b"]}, "takes one value"),
        ({}, {"api_key": "a\0b"}, "neither text"),
        ({"server__mcp_config__args": ["${user_config.nope}"]}, {"api_key": "x"}, "user_config lacks"),
        ({"server__mcp_config__args": ["${SSH_AUTH_SOCK}"]}, {"api_key": "x"}, "is unknown"),
        ({"server__mcp_config__args": ["${user_config.api_key}"]}, {"api_key": "x"}, "into the arguments"),
        ({"server__mcp_config__args": ["a${user_config.zones}"]}, {"api_key": "x", "zones": ["a", "b"]}, "middle"),
    ],
)
def test_commands_that_cannot_be_made(changes, values, because, tmp_path: Path) -> None:
    manifest = parse_manifest(orjson.dumps(changed(**changes)))
    with pytest.raises(TrustError, match=because) as caught:
        command(manifest, tmp_path, values)
    assert "x" not in caught.value.what.split()


def test_what_is_filled_in_is_not_expanded_again(tmp_path: Path) -> None:
    manifest = parse_manifest(orjson.dumps(CLOCK))
    made = command(manifest, tmp_path, {"api_key": "${HOME}", "zones": ["${user_config.api_key}", "$(id)"]})
    assert made.env["API_KEY"] == "${HOME}"
    assert made.argv[2:4] == ("${user_config.api_key}", "$(id)")


@pytest.mark.parametrize(
    ("document", "because"),
    [
        (changed(manifest_version="9.9"), "manifest_version"),
        (changed(server__entry_point="../x.js"), "not a path inside"),
        (changed(server__entry_point="/bin/sh"), "not a path inside"),
        (changed(server__mcp_config__args="rm -rf"), "not a list"),
        (changed(server__mcp_config__args=["a\0b"]), "not a list"),
        (changed(server__mcp_config__env={"A=B": "x"}), "not a variable"),
        (changed(server__mcp_config__command=""), "command is missing"),
        (changed(user_config={"x": {"type": "shell"}}), "is not one of"),
        (changed(user_config={"x": {"type": "string", "sensitive": "yes"}}), "not true or false"),
        (changed(tools="all"), "not a list"),
        (changed(name=""), "name is missing"),
        (changed(server="node"), "server is missing"),
    ],
)
def test_manifests_that_are_wrong(document, because) -> None:
    with pytest.raises(TrustError, match=because) as caught:
        parse_manifest(orjson.dumps(document))
    assert caught.value.next_step


def test_manifests_that_are_no_json() -> None:
    for data in (b"", b"[]", b'{"name": 1, "name": 2}', b'{"a": NaN}', b"\xff", b"[" * 5000):
        with pytest.raises(TrustError, match=r"manifest\.json"):
            parse_manifest(data)


@pytest.mark.parametrize(
    ("document", "rule", "weight"),
    [
        (changed(server__entry_point="other.js"), "mcpb-entry-point", "refuse"),
        (changed(server__mcp_config__command="bash"), "mcpb-command", "refuse"),
        (changed(server__mcp_config__command="/usr/bin/curl"), "mcpb-command", "refuse"),
        (changed(server__mcp_config__command="npx"), "mcpb-command", "refuse"),
        (changed(server__mcp_config__command="${__dirname}/gone"), "mcpb-command", "refuse"),
        (changed(server__mcp_config__platform_overrides={"darwin": {"command": "sh"}}), "mcpb-command", "refuse"),
        (changed(server__mcp_config__args=["--key=${user_config.api_key}"]), "mcpb-secret-argument", "refuse"),
        (changed(server__mcp_config__args=["-e", "fetch('//x')"]), "mcpb-inline-code", "warn"),
        (changed(user_config__api_key__sensitive=False), "mcpb-option-not-sensitive", "warn"),
        (changed(user_config__api_key__default="shared"), "mcpb-shared-secret", "warn"),
        (changed(autostart=True), "mcpb-unknown-member", "note"),
        (changed(tools=[]), "mcpb-no-tools", "note"),
    ],
)
def test_what_the_manifest_gives_away(document, rule, weight) -> None:
    assert rules(document)[rule] == weight
    assert refused(read_bundle(packed(document)).findings) == (weight == "refuse")


@pytest.mark.parametrize(
    "document",
    [
        changed(server__mcp_config__args=["--export", "${__dirname}/server/index.js"]),
        changed(user_config__token_file={"type": "string"}),
        changed(user_config__tokenizer={"type": "string"}),
        changed(tools=[], tools_generated=True),
        changed(_meta={"com.example": {}}),
    ],
)
def test_what_only_looks_odd(document) -> None:
    assert rules(document) == {}


def test_programs_the_manifest_does_not_name() -> None:
    files = {"server/index.js": b"run()", "lib/helper": b"\x7fELF\2\1\1", "lib/readme": b"MIT"}
    assert rules(CLOCK, files) == {"mcpb-program": "warn"}
    addon = {"server/index.js": b"run()", "build/sqlite.node": b"\x7fELF\2\1\1"}
    assert rules(CLOCK, addon) == {"mcpb-program": "note"}
    binary = changed(server={"type": "binary", "entry_point": "run", "mcp_config": {"command": "${__dirname}/run"}})
    assert rules(binary, {"run": b"\x7fELF\2\1\1"}) == {}


def test_declared_tools_against_live_ones() -> None:
    manifest = parse_manifest(orjson.dumps(CLOCK))
    same = compare_tools(manifest, ["later", "now"])
    assert (same.undeclared, same.missing) == ((), ())
    other = compare_tools(manifest, ["now", "run_shell"])
    assert (other.undeclared, other.missing, other.generated) == (("run_shell",), ("later",), False)
    assert compare_tools(parse_manifest(orjson.dumps(changed(tools_generated=True))), ["x"]).generated


def test_bundles_that_are_hostile(tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="climbs out"):
        open_bundle(packed(CLOCK, {"../x": b""}), tmp_path / "out")
    with pytest.raises(TrustError, match=r"no manifest\.json"):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("inner/manifest.json", b"{}")
        open_bundle(out.getvalue(), tmp_path / "out")
    with pytest.raises(TrustError, match="manifest_version"):
        open_bundle(packed({}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PLACES = [
    "server",
    "server__type",
    "server__mcp_config",
    "server__mcp_config__env",
    "server__mcp_config__args",
    "tools",
]
PLACES += ["user_config", "user_config__api_key", "compatibility", "server__mcp_config__platform_overrides", "name"]


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(PLACES), value=JSON)
def test_any_value_anywhere_is_a_manifest_or_a_clear_error(place: str, value: Any) -> None:
    try:
        bundle = read_bundle(packed(changed(**{place: value})))
        command(bundle.manifest, Path("/x"), {"api_key": "k"})
    except TrustError as error:
        assert error.next_step and "\n" not in error.what
