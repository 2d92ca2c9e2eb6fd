"""Arguments that look like secrets. Their values are never returned, only where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from callgate.text import visible

REFERENCES = ("vault://", "awssm://", "keyring://", "age://", "op://", "env://", "file://")
_NAMES = ("token", "secret", "passw", "apikey", "api_key", "api-key", "access_key", "access-key", "credential")
_WHOLE = frozenset(("key", "pat", "pwd", "auth", "bearer", "authorization", "cookie"))
_PREFIXES = ("ghp_", "gho_", "ghu_", "ghs_", "github_pat_", "glpat-", "npm_", "hf_", "AKIA", "ASIA", "AIza", "eyJ")
_MORE_PREFIXES = ("sk-", "sk_", "pk_", "rk_", "xoxb-", "xoxp-", "xoxa-", "xapp-", "dop_v1_", "pypi-")
_PAIRS = frozenset(("-e", "--env", "-H", "--header"))
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_=-.")


def secret_arguments(argv: Sequence[str]) -> list[str]:
    """Where in `argv` a secret seems to stand: `argument 4 (--api-key)`. Safe to print."""
    places = []
    before = ""
    for at, word in enumerate(argv):
        name = _secret_in(word, before)
        if name is not None:
            places.append(f"argument {at}" + (f" ({visible(name, 40)})" if name else ""))
        before = word
    return places


def _secret_in(word: str, before: str) -> str | None:
    """The name under which `word` holds a secret ('' for none), or None."""
    header, colon, value = word.partition(":")
    said = before in _PAIRS or value.startswith(" ")
    if colon and said and _telling(header) and not any(char in " /=" for char in header):
        return header if _secret_value(value.strip(), telling=True) else None
    if word.startswith(("{", "[")):
        return _in_json(word)
    if " " in word:  # a whole command in one word
        inner = ""
        for part in word.split():
            if _secret_in(part, inner) is not None:
                return ""
            inner = part
        return None
    if "://" in word and not word.startswith("-") and "=" not in word.partition("://")[0]:
        return _in_url(word)
    name, given, value = word.partition("=")
    if before in _PAIRS and not given:
        name, given, value = word.partition(":")
    if given and name:
        if "://" in value and _in_url(value) is not None:
            return name
        return name if _secret_value(value, telling=_telling(name)) else None
    if before.startswith("-") and "=" not in before and _telling(before) and not word.startswith("-"):
        return before if _secret_value(word, telling=True) else None
    return "" if _secret_value(word, telling=False) else None


def _in_url(word: str) -> str | None:
    if word.startswith(REFERENCES):
        return None
    authority = word.partition("://")[2].partition("/")[0]
    if "@" in authority and ":" in authority.rpartition("@")[0]:
        return "password in a URL"
    query = word.partition("?")[2]
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if value and _secret_value(value, telling=_telling(name)):
            return name
    return None


def _in_json(word: str) -> str | None:
    """The member of a JSON text that holds a secret: of each two strings the first may be the second's name."""
    for name, value in pairwise(["", *word.split('"')[1::2]]):
        if _secret_value(value, telling=_telling(name)):
            return name
    return None


def _telling(name: str) -> bool:
    lower = name.lstrip("-").lower()
    if lower.endswith(("-env", "_env", "-file", "_file", "-name", "_name", "-path", "_path", "-url", "_url")):
        return False
    return any(part in lower for part in _NAMES) or not _WHOLE.isdisjoint(lower.replace("_", "-").split("-"))


def _secret_value(value: str, *, telling: bool) -> bool:
    """Whether `value` is likely a secret. Behind a telling name much shorter ones are."""
    value = value.strip("\"'").removeprefix("Bearer ").removeprefix("Basic ")
    if not value or value.startswith(REFERENCES) or "${" in value or value.startswith(("$", "%", "/", "./", "~")):
        return False
    if value.startswith((*_PREFIXES, *_MORE_PREFIXES)) and len(value) >= 16:
        return True
    if telling:
        return len(value) >= 6 and value.lower() not in ("default", "required", "disabled", "enabled", "bearer")
    if len(value) < 24 or not _LETTERS.issuperset(value) or "/" in value or value.startswith("sha"):
        return False
    digits = sum(c.isdigit() for c in value)
    upper = sum("A" <= c <= "Z" for c in value)
    lower = sum("a" <= c <= "z" for c in value)
    return digits >= 4 and upper >= 3 and lower >= 3 and value.count(".") < 3 and value.count("-") < 4
