"""Where a text could send data, or fetch it from: URLs, hosts, addresses, paths, account-like numbers.

Used on the two sides of a change, so precision matters only for what is new. Tokenised by hand, in one
pass: no pattern that hostile text could blow up.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_DELIMITERS: Final = str.maketrans(dict.fromkeys("<>()[]{}\"'`,;|*\u201c\u201d\u2018\u2019\u00ab\u00bb", " "))
_EDGE: Final = ".:!?=&"
_SIGNS: Final = frozenset("./\\@:~$%0123456789")
"""A token without any of these names no destination."""


def _set(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


_FILE_ENDINGS: Final = _set(
    "bash bat bin c cfg conf cpp cs css csv db dll doc docx env exe gif go gz h html ini ipynb java jpeg jpg js",
    "json jsonl key kdbx lock log md mjs mp3 mp4 pdf pem php plist png ppt pptx ps1 py rb rs rtf sh sql sqlite svg",
    "tar toml ts tsv tsx txt wav webp xls xlsx xml yaml yml zip",
)
_NOT_FILES: Final = _set(
    "node.js next.js vue.js react.js nuxt.js d3.js three.js p5.js chart.js express.js deno.js socket.io asp.net",
    "vb.net",
)
_TLDS: Final = _set(
    "com net org info biz name pro edu gov mil int arpa app dev page cloud site online store shop tech xyz top club",
    "live life world space website fun icu vip work works today news blog wiki link click download zip mov monster",
    "quest rest bar cam cyou sbs lol pics buzz email host hosting press agency digital network systems solutions",
    "services support team tools codes software global group media studio design art gallery directory run bot chat",
    "ninja rocks wtf ltd llc finance capital bank money cash fund trade exchange market onion local localhost",
    "internal lan corp home test example invalid mobi asia cat jobs tel travel xxx google amazon aws azure",
)
_LONG_NUMBER = 8
_LONG_TOKEN = 24


def destinations(text: str) -> set[str]:
    """All destinations named in `text`, normalised (NFKC, lower case) so that only a new one differs."""
    return split(text)[0]


def split(text: str) -> tuple[set[str], str]:
    """The destinations of `text`, and the text without them: what they are spelt of is not read as words."""
    found: set[str] = set()
    kept: list[str] = []
    for line in unicodedata.normalize("NFKC", text).splitlines():
        if _SIGNS.isdisjoint(line):
            kept += (line, "\n")
            continue
        marked = line.translate(_DELIMITERS)  # one character for one, so places are the same in both
        done = place = 0
        for token in marked.split():
            place = marked.index(token, place)
            name = _name(token)
            if name:
                found.add(name)
                kept += (line[done:place], _stop(token))
                done = place + len(token)
            place += len(token)
        kept += (line[done:], "\n")
    return found, "".join(kept)


def _name(raw: str) -> str:
    """The destination a token names, or ''."""
    if _SIGNS.isdisjoint(raw):
        return ""
    token = raw.rstrip(_EDGE).lstrip("!?=&")
    return _classify(token) if len(token) >= 3 else ""


def _stop(token: str) -> str:
    return token[-1] if token[-1] in ".!?" else ""


def _classify(token: str) -> str:
    low = token.casefold()
    if "://" in low or low.startswith(("mailto:", "javascript:", "data:", "tel:", "//", "\\\\", "ftp.")):
        return low
    if "@" in low[1:]:
        local, _, host = low.rpartition("@")
        if local and "." in host:
            return low
    if low.startswith(("/", "~", "./", "../", "$", "%")) or low[1:3] == ":\\":
        return _path(low)
    host = low.partition("/")[0]
    if _is_host(host, token):
        return low
    name = low.rpartition("/")[2]
    if name.startswith(".") and name[1:2].isalpha():
        return low
    ending = name.rpartition(".")[2] if "." in name else ""
    if ending in _FILE_ENDINGS and name not in _NOT_FILES:
        return low
    return low if _is_account(token) else ""


def _path(low: str) -> str:
    """A path, or '' for the lone marks prose is full of ("/", "~5", "$10", "and/or")."""
    body = low.lstrip("/~.$%")
    return low if any(map(str.isalpha, body)) else ""


def _is_host(host: str, token: str) -> bool:
    name, _, port = host.partition(":")
    if name == "localhost" or (name.count(":") == 0 and host.count(":") >= 2 and _is_hex_groups(host)):
        return True
    if host.count(":") >= 2:
        return _is_hex_groups(host)
    if port and not port.isdigit():
        return False
    labels = name.split(".")
    if len(labels) < 2 or not all(labels):
        return False
    if len(labels) == 4 and all(label.isdigit() and len(label) <= 3 for label in labels):
        return True
    last = labels[-1]
    if not all(label.replace("-", "").replace("_", "").isalnum() for label in labels) or not last.isalpha():
        return False
    if name in _NOT_FILES or len(labels[0]) < 2 or _is_sentence_join(token):
        return False
    if last in _FILE_ENDINGS and last not in _TLDS and len(labels) == 2 and "/" not in token:
        return False  # a file name; counted as a path by the caller
    return last in _TLDS or (len(last) == 2) or not last.isascii()


def _is_sentence_join(token: str) -> bool:
    """Whether the dot is a full stop without its space: `files.Returns`."""
    before, _, after = token.partition(".")
    return before[-1:].islower() and after[:1].isupper() and after[1:].islower()


def _is_hex_groups(host: str) -> bool:
    groups = host.strip("[]").split("%")[0].split(":")
    return (
        len(groups) >= 3
        and all(len(g) <= 4 and all(c in "0123456789abcdef" for c in g) for g in groups)
        and any(groups)
    )


def _is_account(token: str) -> bool:
    """Long numbers and long mixed tokens: accounts, phone numbers, wallets, keys, encoded payloads."""
    compact = token.replace("-", "").replace("+", "")
    if compact.isdigit():
        return len(compact) >= _LONG_NUMBER and not _is_date(token)
    if len(compact) < 12 or not compact.isalnum():
        return len(compact) >= _LONG_TOKEN and all(c.isalnum() or c in "_-+/=%." for c in compact) and _mixed(compact)
    return _mixed(compact) and (len(compact) >= _LONG_TOKEN or sum(map(str.isdigit, compact)) >= _LONG_NUMBER)


def _mixed(token: str) -> bool:
    return any(map(str.isdigit, token)) and any(map(str.isalpha, token))


def _is_date(token: str) -> bool:
    parts = token.split("-")
    return len(parts) == 3 and [len(p) for p in parts] == [4, 2, 2]
