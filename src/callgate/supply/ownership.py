"""Whether an artefact says that it belongs to the registry entry that names it, and whether the entry is in order.

The official MCP registry (server.json, schema 2025-12-11) proves ownership by what the publisher put into the artefact:

| registry type | proof |
|---|---|
| npm | `package.json` has `"mcpName": NAME` |
| pypi, nuget | the README (long description) holds `mcp-name: NAME` |
| oci | the image has the label `io.modelcontextprotocol.server.name=NAME` |
| mcpb | none in the artefact: `fileSha256` in the entry |

Everything is looked at offline, on the artefact. A name `io.github.OWNER/…` belongs to that GitHub account.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from callgate.supply.finding import Finding
from callgate.supply.place import parse_object
from callgate.text import visible

SERVER_JSON_BYTES: Final = 1024 * 1024
README_CHARACTERS: Final = 4 * 1024 * 1024
OCI_LABEL: Final = "io.modelcontextprotocol.server.name"
TYPES: Final = ("npm", "pypi", "oci", "nuget", "mcpb")
TRANSPORTS: Final = ("stdio", "streamable-http", "sse")
# Reverse DNS, one slash, a name: each part bounded, nothing to backtrack over.
_NAME = re.compile(r"[A-Za-z0-9.-]{1,150}/[A-Za-z0-9._-]{1,100}")
_RANGE = re.compile(r"[\^~*<>=|]|(^|\.)[xX](\.|$)|^latest$|^next$| - ")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FLOATING_TAGS = frozenset({"latest", "main", "master", "edge", "stable", "nightly", "dev"})


def npm_owner(package_json: bytes, name: str) -> Finding | None:
    """None when `package.json` proves the entry's name."""
    told = parse_object(package_json, "package.json").get("mcpName")
    return _differs("npm", "package.json says mcpName", told, name)


def readme_owner(readme: str, name: str, kind: str = "pypi") -> Finding | None:
    """None when a README (long description) holds `mcp-name: NAME`, as a word of its own."""
    told = ""
    text = readme[:README_CHARACTERS]
    at = text.find("mcp-name:")
    while at >= 0:
        words = text[at + len("mcp-name:") : at + 400].split(None, 1)
        told = words[0].removesuffix("-->") if words else ""
        if told == name:
            return None
        at = text.find("mcp-name:", at + 1)
    return _differs(kind, "the README says mcp-name", told or None, name)


def oci_owner(labels: Mapping[str, Any], name: str) -> Finding | None:
    """None when an image's labels prove the entry's name."""
    return _differs("oci", f"the label {OCI_LABEL} is", labels.get(OCI_LABEL), name)


def namespace_owner(name: str, repository: str) -> Finding | None:
    """None when a name `io.github.OWNER/…` goes with a repository of that owner; other namespaces are not judged."""
    space = name.partition("/")[0]
    if not space.lower().startswith("io.github."):
        return None
    owner = space[len("io.github.") :].lower()
    told = repository.lower().removeprefix("https://").removeprefix("git+https://")
    if told.startswith(f"github.com/{owner}/"):
        return None
    what = f"the name belongs to the GitHub account '{visible(owner, 60)}', the repository is "
    return Finding("entry-namespace", "warn", what + (f"'{visible(repository, 120)}'" if repository else "not told"))


def _differs(kind: str, where: str, told: Any, name: str) -> Finding | None:
    if told == name:
        return None
    if told is None:
        return Finding(
            "entry-ownership", "warn", f"the {kind} artefact does not say that it belongs to '{visible(name, 100)}'"
        )
    what = f"{where} '{visible(str(told), 100)}', the entry is '{visible(name, 100)}'"
    return Finding("entry-ownership", "refuse", what)


def lint_server_json(data: bytes) -> list[Finding]:
    """What is wrong with a registry entry. Raises TrustError where it is no JSON object."""
    entry = parse_object(data, "server.json", SERVER_JSON_BYTES)
    out: list[Finding] = []

    def add(rule: str, weight: Any, what: str, where: str = "") -> None:
        out.append(Finding(rule, weight, what, where))

    name = entry.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        add("entry-name", "refuse", f"'{visible(str(name), 100)}' is not of the form reverse.dns/name", "name")
        name = ""
    version = entry.get("version")
    if not isinstance(version, str) or not version or _RANGE.search(version[:255]):
        add("entry-version", "refuse", f"'{visible(str(version), 60)}' is not one exact version", "version")
    description = entry.get("description")
    if not isinstance(description, str) or not 1 <= len(description) <= 100:
        add("entry-description", "warn", "there is none of 1 to 100 characters", "description")
    repository = entry.get("repository")
    url = repository.get("url", "") if isinstance(repository, dict) else ""
    if name and (finding := namespace_owner(name, str(url))):
        out.append(finding)
    packages, remotes = entry.get("packages", []), entry.get("remotes", [])
    if not isinstance(packages, list) or not isinstance(remotes, list) or not (packages or remotes):
        add("entry-empty", "refuse", "it names neither packages nor remotes")
        return out
    for index, package in enumerate(packages[:100]):
        where = f"packages[{index}]"
        if not isinstance(package, dict):
            add("entry-package", "refuse", "is not an object", where)
            continue
        out += _package(package, where)
    for index, remote in enumerate(remotes[:100]):
        address = remote.get("url") if isinstance(remote, dict) else None
        kind = remote.get("type") if isinstance(remote, dict) else None
        if kind not in TRANSPORTS[1:] or not isinstance(address, str):
            add("entry-remote", "refuse", "has no address or an unknown type", f"remotes[{index}]")
        elif not address.startswith("https://"):
            add("entry-remote", "warn", f"'{visible(address, 100)}' is not https", f"remotes[{index}]")
    return out


def _package(package: Mapping[str, Any], where: str) -> list[Finding]:
    out: list[Finding] = []
    kind, identifier = package.get("registryType"), package.get("identifier")
    version, sha256 = package.get("version"), package.get("fileSha256")
    if "registry_type" in package or "registry_name" in package:
        out.append(Finding("entry-old-schema", "refuse", "is of a schema from before 2025-09", where))
        return out
    if kind not in TYPES or not isinstance(identifier, str) or not 0 < len(identifier) <= 500:
        out.append(Finding("entry-package", "refuse", f"'{visible(str(kind), 40)}' is no registry type", where))
        return out
    shown = visible(identifier, 100)
    if kind in ("npm", "pypi", "nuget") and (not isinstance(version, str) or _RANGE.search(version[:255])):
        out.append(Finding("entry-version", "refuse", f"'{shown}' has no exact version", where))
    if kind == "oci" and "@sha256:" not in identifier:
        tag = identifier.rpartition("/")[2].partition(":")[2]
        floating = not tag or tag in _FLOATING_TAGS
        what = f"'{shown}' names no digest: what it means can change"
        out.append(Finding("entry-floating", "refuse" if floating else "warn", what, where))
    if kind == "mcpb" and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
        out.append(Finding("entry-digest", "refuse", f"'{shown}' has no fileSha256", where))
    elif sha256 is not None and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
        out.append(Finding("entry-digest", "refuse", "fileSha256 is not 64 hexadecimal digits", where))
    if kind == "mcpb" and not identifier.startswith("https://"):
        out.append(Finding("entry-package", "refuse", f"'{shown}' is not an https address", where))
    transport = package.get("transport")
    if not isinstance(transport, dict) or transport.get("type") not in TRANSPORTS:
        out.append(Finding("entry-transport", "warn", "has no known transport", where))
    out += _inputs(package, where)
    return out


def _inputs(package: Mapping[str, Any], where: str) -> list[Finding]:
    """Variables and arguments: secrets are marked, and none has a value in the entry."""
    out: list[Finding] = []
    for member in ("environmentVariables", "runtimeArguments", "packageArguments"):
        listed = package.get(member, [])
        for one in listed if isinstance(listed, list) else []:
            if not isinstance(one, dict):
                continue
            called = str(one.get("name") or one.get("valueHint") or "")
            at = f"{where}.{member}"
            sounds = any(word in called.upper() for word in ("TOKEN", "SECRET", "PASSWORD", "API_KEY", "APIKEY"))
            if sounds and one.get("isSecret") is not True:
                out.append(Finding("entry-secret", "warn", f"'{visible(called, 80)}' is not marked isSecret", at))
            if one.get("isSecret") is True and (one.get("value") or one.get("default")):
                out.append(Finding("entry-secret", "refuse", f"'{visible(called, 80)}' has a value in the entry", at))
            if one.get("isSecret") is True and member != "environmentVariables":
                out.append(Finding("entry-secret", "warn", f"'{visible(called, 80)}' goes into the arguments", at))
            if member == "runtimeArguments" and str(one.get("value", "")) in ("--privileged", "--network=host"):
                out.append(Finding("entry-privilege", "refuse", f"asks for {visible(str(one['value']), 40)}", at))
    return out
