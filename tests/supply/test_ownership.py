from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.errors import TrustError
from callgate.supply.ownership import OCI_LABEL, lint_server_json, namespace_owner, npm_owner, oci_owner, readme_owner

NAME = "io.github.acme/clock"
HEX = "ab" * 32
ENTRY: dict[str, Any] = {
    "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
    "name": NAME,
    "description": "Tells the time",
    "version": "1.0.0",
    "repository": {"url": "https://github.com/acme/clock", "source": "github"},
    "packages": [
        {
            "registryType": "npm",
            "identifier": "@acme/clock",
            "version": "1.0.0",
            "transport": {"type": "stdio"},
            "environmentVariables": [{"name": "CLOCK_API_KEY", "isSecret": True, "isRequired": True}],
        }
    ],
}


def weight(finding) -> str:
    return finding.weight if finding else ""


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"mcpName": NAME}, ""),
        ({"mcpName": "io.github.evil/clock"}, "refuse"),
        ({}, "warn"),
        ({"mcpName": 7}, "refuse"),
    ],
)
def test_npm(document: dict[str, Any], expected: str) -> None:
    assert weight(npm_owner(orjson.dumps({"name": "clock", **document}), NAME)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"# Clock\n<!-- mcp-name: {NAME} -->\n", ""),
        (f"mcp-name: {NAME}", ""),
        (f"<!--mcp-name:{NAME}-->", ""),
        (f"mcp-name: other/one\nmcp-name: {NAME}\n", ""),
        ("# Clock", "warn"),
        ("mcp-name:", "warn"),
        ("mcp-name: io.github.evil/clock", "refuse"),
        (f"mcp-name: {NAME}-fork", "refuse"),
        (f"the name is {NAME}", "warn"),
    ],
)
def test_pypi(text: str, expected: str) -> None:
    assert weight(readme_owner(text, NAME)) == expected


def test_oci() -> None:
    assert oci_owner({OCI_LABEL: NAME}, NAME) is None
    assert weight(oci_owner({OCI_LABEL: "x/y"}, NAME)) == "refuse"
    assert weight(oci_owner({}, NAME)) == "warn"


def test_namespaces() -> None:
    assert namespace_owner(NAME, "https://github.com/Acme/clock") is None
    assert namespace_owner("com.acme/clock", "https://github.com/other/x") is None
    assert weight(namespace_owner(NAME, "https://github.com/acme-evil/clock")) == "warn"
    assert weight(namespace_owner(NAME, "https://github.com.evil.test/acme/clock")) == "warn"
    assert weight(namespace_owner(NAME, "")) == "warn"


def package(**changes: Any) -> dict[str, Any]:
    return {**ENTRY, "packages": [{**ENTRY["packages"][0], **changes}]}


def found(entry: dict[str, Any]) -> dict[str, str]:
    return {one.rule: one.weight for one in lint_server_json(orjson.dumps(entry))}


def test_an_entry_in_order() -> None:
    assert found(ENTRY) == {}
    remote = {key: value for key, value in ENTRY.items() if key != "packages"}
    assert found({**remote, "remotes": [{"type": "streamable-http", "url": "https://clock.test/mcp"}]}) == {}
    assert found(package(registryType="oci", identifier=f"registry.test/acme/clock@sha256:{HEX}", version=None)) == {}
    assert found(package(registryType="mcpb", identifier="https://clock.test/c.mcpb", fileSha256=HEX)) == {}


@pytest.mark.parametrize(
    ("entry", "rule", "expected"),
    [
        ({**ENTRY, "name": "clock"}, "entry-name", "refuse"),
        ({**ENTRY, "name": "a/b/c"}, "entry-name", "refuse"),
        ({**ENTRY, "name": None}, "entry-name", "refuse"),
        ({**ENTRY, "version": "^1.0.0"}, "entry-version", "refuse"),
        ({**ENTRY, "version": "latest"}, "entry-version", "refuse"),
        ({**ENTRY, "version": "1.x"}, "entry-version", "refuse"),
        ({**ENTRY, "description": "x" * 101}, "entry-description", "warn"),
        ({**ENTRY, "repository": {"url": "https://github.com/evil/clock"}}, "entry-namespace", "warn"),
        ({**ENTRY, "packages": []}, "entry-empty", "refuse"),
        ({**ENTRY, "packages": "x"}, "entry-empty", "refuse"),
        ({**ENTRY, "packages": [7]}, "entry-package", "refuse"),
        (package(registryType="cargo"), "entry-package", "refuse"),
        (package(registry_name="npm"), "entry-old-schema", "refuse"),
        (package(version=">=1.0.0"), "entry-version", "refuse"),
        (package(version=None), "entry-version", "refuse"),
        (package(registryType="oci", identifier="acme/clock:latest"), "entry-floating", "refuse"),
        (package(registryType="oci", identifier="acme/clock"), "entry-floating", "refuse"),
        (package(registryType="oci", identifier="acme/clock:1.0.0"), "entry-floating", "warn"),
        (package(registryType="mcpb", identifier="https://clock.test/c.mcpb"), "entry-digest", "refuse"),
        (package(registryType="mcpb", identifier="http://c.test/c.mcpb", fileSha256=HEX), "entry-package", "refuse"),
        (package(fileSha256="abc"), "entry-digest", "refuse"),
        (package(transport={"type": "carrier-pigeon"}), "entry-transport", "warn"),
        (package(environmentVariables=[{"name": "API_TOKEN"}]), "entry-secret", "warn"),
        (package(environmentVariables=[{"name": "K", "isSecret": True, "default": "x"}]), "entry-secret", "refuse"),
        (package(packageArguments=[{"name": "--key", "isSecret": True}]), "entry-secret", "warn"),
        (package(runtimeArguments=[{"value": "--privileged"}]), "entry-privilege", "refuse"),
        ({**ENTRY, "remotes": [{"type": "sse", "url": "http://clock.test"}]}, "entry-remote", "warn"),
        ({**ENTRY, "remotes": [{"type": "stdio", "url": "https://clock.test"}]}, "entry-remote", "refuse"),
    ],
)
def test_entries_with_faults(entry: dict[str, Any], rule: str, expected: str) -> None:
    assert found(entry).get(rule) == expected


def test_what_is_no_entry() -> None:
    for data in (b"", b"[]", b'{"name": 1, "name": 2}'):
        with pytest.raises(TrustError, match=r"server\.json"):
            lint_server_json(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(member=st.sampled_from(sorted(ENTRY)), inner=st.sampled_from(["", *ENTRY["packages"][0]]), value=JSON)
def test_any_value_anywhere_gives_findings(member: str, inner: str, value: Any) -> None:
    entry = package(**{inner: value}) if inner else {**ENTRY, member: value}
    assert all(one.what.isprintable() for one in lint_server_json(orjson.dumps(entry)))
