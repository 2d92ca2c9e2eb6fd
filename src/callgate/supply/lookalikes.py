"""Names that look like well-known names: typosquats of packages and of MCP servers.

| reason | `LookAlike.reason` | example |
|---|---|---|
| drawn with other characters | `confusable` | Cyrillic letters, `rnongodb` |
| other separators, or the scope spelt into the name | `separators` | `crossenv`, `modelcontextprotocol-server-git` |
| a known name under a scope that imitates | `scope` | `@playwrite/mcp` |
| a server's name under any other scope or none | `base-name` | `@acme/server-filesystem` |
| the same words in another order | `word-order` | `mcp-git-server` |
| one or two letters off | `spelling` | `expres`, `lodahs` |

Compared with the dated lists of names_npm.py and names_pypi.py, which hold a few hundred names: a name that imitates
another package is not found. Distance is optimal string alignment (one edit: a letter more, less, other, or two
swapped): at most 1 for names of 5 to 8 characters, at most 2 for longer ones (3 for scopes: `playwrite` is 3 away),
none for shorter ones, whose neighbours are mostly honest. A name in the list is clean, and so is everything under the
scope of the name it resembles.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, TypeAlias

from callgate.detect.confusables import skeleton
from callgate.text import visible

Ecosystem: TypeAlias = Literal["npm", "pypi"]
Reason: TypeAlias = Literal["confusable", "separators", "scope", "base-name", "word-order", "spelling"]
MOST: Final = 5
NAME_CHARACTERS: Final = 214
"""npm's own limit."""
SHORT, LONG = 5, 9
_SEPARATORS = str.maketrans("", "", "-_.@/ ")
_WORDS = re.compile(r"[a-z]+|[0-9]+")
# Too common to belong to anyone.
_GENERIC: Final = frozenset(
    {
        "mcp",
        "sdk",
        "cli",
        "core",
        "server",
        "client",
        "types",
        "utils",
        "common",
        "api",
        "mcp-server",
        "inspector",
        "js",
    }
    | {
        "node",
        "web",
        "react",
        "parser",
        "runtime",
        "helper",
        "plugin",
        "config",
        "test",
        "node-server",
        "browser",
        "rest",
    }
)

_MIRRORS: Final = frozenset({"types"})
"""Scopes whose packages are named after others by design."""


@dataclass(frozen=True, slots=True)
class LookAlike:
    """A known name that the given one resembles. `distance` in edits, 0 where they look alike in another way."""

    like: str
    reason: Reason
    distance: int = 0

    def describe(self, name: str) -> str:
        """One line, safe to print."""
        how = {
            "confusable": "is drawn like",
            "separators": "differs only in separators or scope from",
            "scope": "has a scope that imitates the one of",
            "base-name": "has the name of, under another scope,",
            "word-order": "has the words of, in another order,",
            "spelling": f"is {self.distance} letter{'s' if self.distance > 1 else ''} away from",
        }[self.reason]
        return f"'{visible(name, 100)}' {how} '{self.like}'"


def look_alikes(ecosystem: Ecosystem, name: str) -> tuple[LookAlike, ...]:
    """Known names that `name` resembles without being one of them; the clearest first, at most MOST."""
    known = _known(ecosystem)
    name = name[:NAME_CHARACTERS]
    plain = _normal(ecosystem, name)
    if name.isascii() and plain in known.names:
        return ()
    found: dict[str, LookAlike] = {}

    def add(like: str, reason: Reason, distance: int = 0) -> None:
        if like not in found and not _same_owner(plain, like):
            found[like] = LookAlike(like, reason, distance)

    folded = fold(name)
    if not name.isascii() or any(one in name for one in ("rn", "vv", "0", "1")):
        for like in known.drawn.get(_drawn(name), ()):
            add(like, "confusable")
    for like in known.folded.get(folded, ()):
        add(like, "separators")
    scope, base = _parts(plain)
    for like in known.bases.get(base, ()):
        other = _parts(like)[0]
        if scope and other and scope != other and _distance(scope, other) is not None:
            add(like, "scope", _distance(scope, other) or 0)
        elif base not in _GENERIC and _is_server(base) and scope not in _MIRRORS:
            add(like, "base-name")
    words = _words(plain)
    if len(words) > 1:
        for like in known.words.get(words, ()):
            add(like, "word-order")
    for like, distance in _near(known, folded):
        add(like, "spelling", distance)
    return tuple(found.values())[:MOST]


def fold(name: str) -> str:
    """A name without case, separators and scope marks, compatibility forms replaced (NFKC)."""
    return unicodedata.normalize("NFKC", name).casefold().translate(_SEPARATORS)


@dataclass(frozen=True, slots=True)
class _Known:
    names: frozenset[str]
    drawn: dict[str, list[str]]
    folded: dict[str, list[str]]
    bases: dict[str, list[str]]
    words: dict[tuple[str, ...], list[str]]
    choices: tuple[str, ...]


@cache
def _known(ecosystem: Ecosystem) -> _Known:
    if ecosystem == "npm":
        from callgate.supply.names_npm import NAMES
    else:
        from callgate.supply.names_pypi import NAMES
    known = _Known(NAMES, {}, {}, {}, {}, tuple(dict.fromkeys(fold(name) for name in sorted(NAMES))))
    for name in sorted(NAMES):
        known.drawn.setdefault(_drawn(name), []).append(name)
        known.folded.setdefault(fold(name), []).append(name)
        known.bases.setdefault(_parts(name)[1], []).append(name)
        known.words.setdefault(_words(name), []).append(name)
    return known


def _drawn(name: str) -> str:
    """What a name looks like, without case."""
    return skeleton(unicodedata.normalize("NFKC", name).casefold().replace("vv", "w")).casefold()


def _normal(ecosystem: Ecosystem, name: str) -> str:
    """The name as the registry compares it: PyPI's own rule (PEP 503), lower case for npm."""
    lower = name.casefold()
    return "-".join(part for part in re.split(r"[-_.]+", lower) if part) if ecosystem == "pypi" else lower


def _parts(name: str) -> tuple[str, str]:
    """Scope without `@`, and the rest."""
    if name.startswith("@") and "/" in name:
        scope, _, base = name[1:].partition("/")
        return scope, base
    return "", name


def _same_owner(name: str, like: str) -> bool:
    scope = _parts(name)[0]
    return bool(scope) and scope == _parts(like)[0]


def _is_server(base: str) -> bool:
    return bool({"mcp", "server"} & set(_WORDS.findall(base)))


def _words(name: str) -> tuple[str, ...]:
    return tuple(sorted(_WORDS.findall(name)))


def _allowed(size: int) -> int:
    return 0 if size < SHORT else 1 if size < LONG else 2


def _distance(one: str, other: str) -> int | None:
    """Edits between two scopes when they are few enough to be an imitation."""
    from rapidfuzz.distance import OSA

    size = min(len(one), len(other))
    allowed = 3 if size >= LONG else _allowed(size)
    distance = int(OSA.distance(one, other, score_cutoff=allowed))
    return distance if 0 < distance <= allowed else None


def _near(known: _Known, folded: str) -> list[tuple[str, int]]:
    from rapidfuzz import process
    from rapidfuzz.distance import OSA

    cutoff = _allowed(len(folded) + 2)
    hits = (
        process.extract(folded, known.choices, scorer=OSA.distance, score_cutoff=cutoff, limit=MOST) if cutoff else []
    )
    out = []
    for choice, distance, _ in hits:
        if 0 < distance <= _allowed(min(len(choice), len(folded) + 1)):
            out += [(like, int(distance)) for like in known.folded[choice]]
    return sorted(out, key=lambda pair: pair[1])
