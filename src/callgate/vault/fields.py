"""One member out of a stored document: JSON, or lines of `NAME=value`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from callgate.errors import SecretError

MOST_BYTES: Final = 65_536
"""Largest secret."""
MOST_DOCUMENT: Final = 1_048_576
"""Largest document that a secret is taken from."""


class NothingStored(SecretError):
    """The store answered, and there is no such secret in it."""


def value_of(document: bytes | Mapping[str, Any], key: tuple[str, ...], reference: str) -> bytes:
    """The secret that `key` names in `document`; without a key the whole. Raises SecretError, never with a value.

    A document of members needs a key, unless it has exactly one member.
    """
    if isinstance(document, bytes) and not key:
        return _checked(document, reference)
    members: Any = _members(document, reference) if isinstance(document, bytes) else document
    if not key:
        if len(members) != 1:
            raise SecretError(
                f"{reference} holds {len(members)} members, not one value",
                next_step="name one of them: #key at its end",
            )
        return _text(next(iter(members.values())), reference)
    found: Any = members
    for level in key:
        if isinstance(found, Mapping) and level in found:
            found = found[level]
        elif isinstance(found, list) and level.isascii() and level.isdecimal() and int(level[:9]) < len(found):
            found = found[int(level)]
        else:
            raise NothingStored(
                f"{reference}: there is no such member in what is stored",
                next_step="check the spelling of the key after #; a dot in a name is written %2E",
            )
    return _text(found, reference)


def _members(document: bytes, reference: str) -> Mapping[str, Any]:
    if len(document) > MOST_DOCUMENT:
        raise SecretError(
            f"{reference}: the document has more than {MOST_DOCUMENT} bytes", next_step="store less in it"
        )
    stripped = document.strip()
    if stripped[:1] == b"{":
        import jiter

        try:
            found = jiter.from_json(stripped, allow_inf_nan=False, catch_duplicate_keys=True)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise SecretError(
                f"{reference}: what is stored is not valid JSON", next_step="leave the key out, or correct it"
            )
        return found
    lines: dict[str, str] = {}
    for line in document.decode("utf-8", "replace").splitlines():
        name, separator, value = line.strip().removeprefix("export ").partition("=")
        if separator and not name.startswith("#"):
            lines[name.strip()] = _unquoted(value.strip())
    if not lines:
        raise SecretError(
            f"{reference}: what is stored has no members", next_step="leave the key out: the whole is the secret"
        )
    return lines


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def _text(value: Any, reference: str) -> bytes:
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, str | int):
        return _checked(str(value).encode("utf-8", "surrogatepass"), reference)
    if isinstance(value, float):
        return repr(value).encode()
    kind = "empty" if value is None else "a list or an object"
    raise SecretError(
        f"{reference} is {kind}, not a text", next_step="name a member of it after #, with a dot between levels"
    )


def _checked(value: bytes, reference: str) -> bytes:
    if not value:
        raise NothingStored(f"{reference} is empty", next_step="store a value there")
    if len(value) > MOST_BYTES:
        raise SecretError(
            f"{reference} has more than {MOST_BYTES} bytes", next_step="a secret is shorter: check what is stored"
        )
    return value
