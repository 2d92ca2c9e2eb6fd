"""JSON pointers (RFC 6901) into a decoded message: build, split, follow.

A pointer is '' for the document itself or a '/' before each token; '~' and '/' in a token are
written '~0' and '~1'.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def escape(token: str | int) -> str:
    """One member name or array index as it stands in a pointer."""
    if type(token) is int:
        return str(token)
    text = str(token)
    if "~" in text or "/" in text:
        return text.replace("~", "~0").replace("/", "~1")
    return text


def unescape(token: str) -> str:
    """The member name a pointer's token stands for. Raises ValueError for a '~' that is no escape."""
    if "~" not in token:
        return token
    if any(rest[:1] not in {"0", "1"} for rest in token.split("~")[1:]):
        raise ValueError(f"'~' must be followed by 0 or 1 in {token!r}")
    return token.replace("~1", "/").replace("~0", "~")


def build(tokens: Iterable[str | int]) -> str:
    """The pointer with these member names and array indices."""
    return "".join(["/" + escape(token) for token in tokens])


def split(pointer: str) -> list[str]:
    """The tokens of a pointer, unescaped. Raises ValueError when it does not start with '/'."""
    if not pointer:
        return []
    if pointer[0] != "/":
        raise ValueError(f"a JSON pointer is empty or starts with '/': {pointer!r}")
    return [unescape(token) for token in pointer[1:].split("/")]


def step(value: Any, token: str) -> Any:
    """The member or element `token` of `value`. Raises LookupError when there is none.

    Array indices are decimal without leading zeros; '-' (past the end) never exists.
    """
    if type(value) is dict:
        return value[token]
    if type(value) is list:
        return value[_index(token)]
    raise LookupError(f"{type(value).__name__} has no members")


def resolve(document: Any, pointer: str) -> Any:
    """The value at `pointer`. Raises LookupError when nothing is there, ValueError when it is no pointer."""
    value = document
    for token in split(pointer):
        value = step(value, token)
    return value


def locate(document: Any, pointer: str) -> tuple[Any, str | int]:
    """The container that holds the value at `pointer`, and its key or index there.

    Raises ValueError for the document itself, LookupError when nothing is there.
    """
    tokens = split(pointer)
    if not tokens:
        raise ValueError("the document has no container")
    container = document
    for token in tokens[:-1]:
        container = step(container, token)
    step(container, tokens[-1])
    return container, _index(tokens[-1]) if type(container) is list else tokens[-1]


def _index(token: str) -> int:
    if not token.isascii() or not token.isdigit() or (token[0] == "0" and len(token) > 1) or len(token) > 18:
        raise LookupError(f"{token[:40]!r} is not an array index")
    return int(token)
