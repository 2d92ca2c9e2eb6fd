"""A client's file as it may be shown: values that may be secrets are replaced by `***`.

Masked are all values of `env` and `headers`, values of members and options with a telling name, credentials in URLs,
and every long word that looks made by a machine, in comments too. Too much is masked rather than too little: what is
shown is for recognising an entry, not for copying it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from callgate.clients.formats import FormatName, Splice, splice, string
from callgate.clients.tree import Canonical, Node, is_reference
from callgate.clients.url_parts import references

MASK = "***"
_ENVIRONMENTS = frozenset({"env", "envs", "environment", "headers", "http_headers", "env_http_headers", "requestinit"})
_TELLING = (
    "token",
    "secret",
    "passw",
    "passphrase",
    "apikey",
    "api_key",
    "api-key",
    "access_key",
    "access-key",
    "accesskey",
    "auth",
    "bearer",
    "cookie",
    "credential",
    "private_key",
    "private-key",
    "privatekey",
    "connection-string",
    "connection_string",
    "session",
    "dsn",
)
_SERVER = frozenset({"command", "cmd", "url", "uri", "httpUrl", "serverUrl", "baseUrl"})
_PAIRS = frozenset({"-e", "--env", "-H", "--header", "--headers"})
"""Options whose value is NAME=VALUE or NAME: VALUE."""
_WORD = re.compile(r"[A-Za-z0-9+_=~-]{20,}")
_PREFIXES = re.compile(
    r"\b(?:sk|pk|rk|ghp|gho|ghu|ghs|github_pat|glpat|xox[a-z]|npm|hf|AKIA|ASIA|AIza|eyJ)[-_A-Za-z0-9.]{8,}"
)


def telling(name: str) -> bool:
    """Whether what has this name is likely a secret."""
    lower = name.lower()
    return lower in ("key", "-k", "pat", "pwd", "--key", "--pat") or any(part in lower for part in _TELLING)


def mask_words(words: Sequence[str]) -> list[str]:
    """A command line without its secrets."""
    out: list[str] = []
    before = ""
    for word in words:
        out.append(_mask_word(word, before))
        before = word
    return out


def _mask_word(word: str, before: str) -> str:
    if before in _PAIRS or (before.startswith("-") and "=" not in before and telling(before) and word[:2] != "--"):
        for separator in ("=", ":"):
            name, found, _ = word.partition(separator)
            if found and before in _PAIRS:
                return f"{name}{separator}{MASK}"
        return word if before in ("-e", "--env") else MASK
    name, found, value = word.partition("=")
    if "://" not in name:
        if found and value and (telling(name) or name in _PAIRS):
            return f"{name}={MASK}"
        name, found, _ = word.partition(":")
        if found and name and telling(name) and not any(c in " /" for c in name.lstrip('{["')):
            return f"{name}:{MASK}"  # a header
        if word.startswith(("{", "[")) and telling(word):
            return MASK
    if " " in word:
        return " ".join(mask_words(word.split(" ")))
    return mask_address(word) if "://" in word else mask_line(word)


def mask_url(word: str) -> str:
    """A URL without user, password, and values of its query and fragment."""
    scheme, found, rest = word.partition("://")
    if not found:
        return word
    place, query, values = rest.partition("?")
    authority, slash, path = place.partition("/")
    if "@" in authority:
        authority = f"{MASK}@{authority.rpartition('@')[2]}"
    if query:
        values = "&".join(_masked_pair(one) for one in values.split("&"))
    return f"{scheme}://{authority}{slash}{path}{query}{values}"


def _masked_pair(pair: str) -> str:
    name, found, value = pair.partition("=")
    if found and references(value) and value[0] + value[-1] == "<>":
        return pair
    return f"{name}={MASK}" if found else MASK


def mask_address(url: str) -> str:
    """A server's URL without its secrets; who knows the path of some may use them."""
    place, mark, _ = url.partition("#")
    return mask_line(mask_url(place)) + (mark and mark + MASK)


def mask_line(line: str) -> str:
    """A line without words that look like keys: known prefixes, or 20 and more letters and digits mixed."""
    return _WORD.sub(lambda found: MASK if _machine_made(found.group()) else found.group(), _PREFIXES.sub(MASK, line))


def _machine_made(word: str) -> bool:
    digits = sum(c.isdigit() for c in word)
    mixed = digits >= 3 and sum(c.isalpha() for c in word) >= 3 and any(c.isupper() for c in word)
    return mixed or digits >= 12


def _is_server(names: Sequence[str]) -> bool:
    """Whether a map of these members is a server, whose name may well have "auth" in it."""
    return not _SERVER.isdisjoint(names)


def mask_text(text: str, format_: FormatName, root: Node, start: int = 0, end: int | None = None) -> str:
    """A part of a file (default: all) without its secrets; its lines stay, unless a secret has several."""
    end = len(text) if end is None else end
    splices: list[Splice] = []
    for node, shown in _masked(root, "", start, end, secret=False):
        if shown != node.text:
            new = MASK if shown == MASK else string(format_, shown)
            splices.append(Splice(max(node.start, start) - start, min(node.end, end) - start, new))
    return "\n".join(mask_line(line) for line in splice(text[start:end], splices).split("\n"))


def _masked(node: Node, key: str, start: int, end: int, *, secret: bool) -> Iterator[tuple[Node, str]]:
    """The strings between two places, and how each may be shown."""
    if (node.start >= end or node.end <= start) and (node.start >= 0 or node.kind == "scalar"):
        return
    names = [member.key for member in node.members]
    secret = secret or key.lower() in _ENVIRONMENTS or (telling(key) and not _is_server(names))
    if node.kind == "map":
        for member in node.members:
            yield from _masked(member.node, member.key, start, end, secret=secret)
    elif node.kind == "list":
        words = [item.text if item.kind == "scalar" else "" for item in node.items]
        for item, shown in zip(node.items, mask_words(words), strict=True):
            if item.kind != "scalar":
                yield from _masked(item, "", start, end, secret=secret)
            elif (item.string or secret) and item.start < end and item.end > start:
                yield item, _hidden(item.text) if secret else shown
    elif secret:
        yield node, _hidden(node.text)
    elif node.string:
        yield node, mask_words([node.text])[0]


def mask_value(value: Canonical, key: str = "", *, secret: bool = False) -> Canonical:
    """A kept value without its secrets, as plain JSON."""
    names = list(value) if isinstance(value, dict) else []
    secret = secret or key.lower() in _ENVIRONMENTS or (telling(key) and not _is_server(names))
    if isinstance(value, dict):
        return {name: mask_value(item, name, secret=secret) for name, item in value.items()}
    if isinstance(value, list):
        words = [item[1:] if isinstance(item, str) else "" for item in value]
        shown = [MASK] * len(words) if secret else mask_words(words)
        return [
            one if isinstance(item, str) else mask_value(item, secret=secret)
            for item, one in zip(value, shown, strict=True)
        ]
    return _hidden(value[1:]) if secret else mask_words([value[1:]])[0]


def _hidden(text: str) -> str:
    """A value that may be a credential: a reference to where one is kept may be shown, and what is empty."""
    return mask_url(text) if not text or is_reference(text) else MASK
