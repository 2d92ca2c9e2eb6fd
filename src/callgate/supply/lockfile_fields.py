"""Reading members of a lock: types, sizes and names, with errors that name the place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, cast

from callgate.config import SANDBOXES, SandboxConfig, SecretConfig
from callgate.errors import TrustError
from callgate.text import visible

MAX_TEXT = 262_144
MAX_ITEMS = 50_000
_DELIVERIES = ("auto", "sentinel", "file", "environment")


def wrong(where: str, key: str, what: str) -> TrustError:
    """The error about a member."""
    return TrustError(
        f"{where}: {visible(key, 100)}: {what}",
        next_step="restore the lock from version control, or lock the server anew: callgate trust lock",
    )


def only(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """No member beside `known`."""
    for key in table:
        if key not in known:
            raise wrong(where, key, "unknown member")


def names_of(kind: type, annotation: str) -> set[str]:
    """The names of a dataclass's fields of one type."""
    return {one.name for one in fields(kind) if one.type == annotation}


def text(table: Mapping[str, Any], key: str, where: str) -> str:
    """A string; missing: ''."""
    value = table.get(key, "")
    if type(value) is not str or len(value) > MAX_TEXT or "\0" in value:
        raise wrong(where, key, "must be a string")
    return value


def texts(table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    """A list of strings; missing: ()."""
    value = table.get(key, [])
    if type(value) is not list or len(value) > MAX_ITEMS:
        raise wrong(where, key, "must be a list of strings")
    if not all(type(one) is str and len(one) <= MAX_TEXT and "\0" not in one for one in value):
        raise wrong(where, key, "must be a list of strings")
    return tuple(value)


def table(outer: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """An object; missing: {}."""
    value = outer.get(key, {})
    if type(value) is not dict or len(value) > MAX_ITEMS:
        raise wrong(where, key, "must be an object")
    return value


def tables(outer: Mapping[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    """A list of objects; missing: []."""
    value = outer.get(key, [])
    if type(value) is not list or len(value) > MAX_ITEMS or not all(type(one) is dict for one in value):
        raise wrong(where, key, "must be a list of objects")
    return cast("list[dict[str, Any]]", value)


def text_map(outer: Mapping[str, Any], key: str, where: str) -> dict[str, str]:
    """An object of strings; missing: {}."""
    found = table(outer, key, where)
    return {name: text(found, name, f"{where}.{key}") for name in found}


def digest(outer: Mapping[str, Any], key: str, where: str) -> str:
    """`sha256:` and 64 hexadecimal digits, or `sha512-` and base64."""
    value = text(outer, key, where)
    kind, _, rest = value.partition(":")
    if kind == "sha256" and len(rest) == 64 and set(rest) <= set("0123456789abcdef"):
        return value
    if value.startswith("sha512-") and len(value) == 95:
        return value
    raise wrong(where, key, "is not a digest")


def sandbox(found: Mapping[str, Any], where: str) -> SandboxConfig:
    """A server's sandbox as a table of the lock."""
    own = {"private_networks", "egress_proxy"}  # what only the user's own configuration says
    only(found, {one.name for one in fields(SandboxConfig)} - own, where)
    numbers: dict[str, Any] = {}
    for key in ("processes", "memory_mib", "cpus", "file_mib", "disk_mib", "descriptors"):
        value = found.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
            raise wrong(where, key, "must be a number above zero")
        numbers[key] = value
    backend = text(found, "backend", where) or None
    if backend is not None and backend not in SANDBOXES:
        raise wrong(where, "backend", "unknown")
    return SandboxConfig(
        backend=cast("Any", backend),
        read=texts(found, "read", where),
        write=texts(found, "write", where),
        network=texts(found, "network", where),
        environment=texts(found, "environment", where),
        **numbers,
    )


def secrets(found: Mapping[str, Any], where: str) -> dict[str, SecretConfig]:
    """References to secrets. A literal value is an error."""
    out = {}
    for name in found:
        one = table(found, name, where)
        at = f"{where}.{visible(name, 60)}"
        only(one, {f.name for f in fields(SecretConfig)}, at)
        ref = text(one, "ref", at)
        if "://" not in ref:
            raise wrong(at, "ref", "must be a reference such as keyring://service/user")
        deliver = text(one, "deliver", at) or "auto"
        if deliver not in _DELIVERIES:
            raise wrong(at, "deliver", "unknown")
        out[name] = SecretConfig(ref=ref, deliver=cast("Any", deliver), hosts=texts(one, "hosts", at))
    return out
