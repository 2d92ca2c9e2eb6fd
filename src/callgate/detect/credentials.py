"""Is this value a credential? Judged by its own form, by the name it stands under, and by how it looks.

Three entrances, all pure and linear in their input:

- `judge(value, name)`: one value of a configuration, under its key;
- `in_words(words)`: a command line, where an option's name may stand one word before its value;
- `callgate.detect.credential_formats.formats_in(text)`: known forms anywhere in a text.

How sure it is: `certain` (a checksum or a structure says so), `likely` (the issuer's form, or the place where only a
password can be), `possible` (a telling name, and a value that looks made or like a password). What is found is for a
person or for a move to a store, so a doubtful value under a telling name counts; what stands for a value, or names
where it is, does not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias
from urllib.parse import unquote

from callgate.detect.credential_formats import formats_in
from callgate.detect.credential_names import telling
from callgate.detect.placeholders import is_filler, is_placeholder, is_reference

Confidence: TypeAlias = Literal["certain", "likely", "possible"]
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
LONGEST = 64 * 1024
"""Characters of one value that are looked at; what is longer is judged by its beginning."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret and where it stands in what was judged."""

    kind: str
    start: int
    end: int
    confidence: Confidence
    shown: int = 0
    """How many of its first characters may be shown: they are the issuer's, or too few of many to matter."""


def judge(value: str, name: str = "") -> Credential | None:
    """The credential in a value, or None. Whole values and parts of them: a token, a URL's password, after `Bearer`."""
    value = value[:LONGEST]
    if len(value) < 4:
        return None
    found = _by_form(value)
    if found:
        return found
    if is_reference(value):
        return None
    found = in_url(value)
    if found:
        return found
    scheme, space, rest = value.partition(" ")
    if space and scheme.lower() in ("bearer", "token", "basic", "apikey", "bot") and rest.strip():
        after = len(value) - len(rest.lstrip())
        inner = _by_name(rest.strip(), "secret", name)
        return inner and replace(inner, start=inner.start + after, end=inner.end + after, confidence="likely")
    return _by_name(value, telling(name), name)


def _by_form(value: str) -> Credential | None:
    for shape in formats_in(value):
        body = value[shape.start + shape.prefix : shape.end]
        if not shape.proven and (is_placeholder(body) or is_filler(body[-32:])):
            continue
        return Credential(
            shape.kind, shape.start, shape.end, "certain" if shape.proven else "likely", min(4, shape.prefix)
        )
    return None


def in_url(value: str) -> Credential | None:
    """The password of a URL, or a secret among its query."""
    at = value.find("://")
    if at <= 0 or not value[:at].replace("+", "").replace("-", "").isalnum():
        return None
    start = at + 3
    ends = [found for mark in "/?# \t\n" if (found := value.find(mark, start)) >= 0]
    authority = value[start : min(ends, default=len(value))]
    userinfo, has_user, host = authority.rpartition("@")
    user, has_password, password = userinfo.partition(":")
    if user == password and host.partition(":")[0] in _LOOPBACK:
        return None  # `postgres:postgres@localhost`
    if has_user and has_password and _is_word(password):
        begin = start + len(user) + 1
        return Credential("URL password", begin, begin + len(password), "likely")
    if has_user and not has_password and _looks_made(user) and len(user) >= 16:
        return Credential("URL password", start, start + len(user), "likely")
    query = value.find("?", start)
    while query >= 0:
        begin = query + 1
        after = min((f for mark in "&#" if (f := value.find(mark, begin)) >= 0), default=len(value))
        key, equals, text = value[begin:after].partition("=")
        inner = _by_name(unquote(text), _in_query(key), key) if equals else None
        if inner:
            place = begin + len(key) + 1
            return replace(inner, kind="URL parameter", start=place, end=after)
        query = after if after < len(value) and value[after] == "&" else -1
    return None


def _in_query(key: str) -> Literal["password", "secret", "key", ""]:
    return "secret" if key.lower() in ("key", "auth", "code", "sig", "token", "apikey") else telling(key)


def _is_word(password: str) -> bool:
    return bool(password) and not is_reference(password) and not is_placeholder(unquote(password))


def _by_name(value: str, tells: str, name: str) -> Credential | None:
    bare = value.strip()
    if not tells or is_placeholder(bare, name) or is_reference(bare) or _is_place(bare) or _is_plain(bare):
        return None
    if any(char.isspace() for char in bare) and not (tells == "password" and len(bare) <= 128 and bare.count(" ") <= 8):
        return None
    if tells == "password":
        good = len(bare) >= 4
    elif tells == "secret":
        good = len(bare) >= 8 and (_looks_made(bare) or (_is_environment(name) and len(bare) >= 10 and _dense(bare)))
    else:
        good = len(bare) >= 16 and sum(c.isdigit() for c in bare) >= 2 and _looks_made(bare) and _dense(bare)
    if not good:
        return None
    start = value.find(bare)
    shown = 2 if len(bare) >= 20 else 0
    return Credential("password" if tells == "password" else "secret", start, start + len(bare), "possible", shown)


def _is_environment(name: str) -> bool:
    """`JIRA_API_TOKEN`: written as a variable, where a value is meant to be the thing itself."""
    return "_" in name and name.isupper()


def _is_place(value: str) -> bool:
    """A path, a URL without secrets, a host with a port, an address."""
    if value.startswith(("./", "../", "~/", "\\\\", "/")) and not (
        value[0] == "/" and len(value) > 39 and _looks_made(value)
    ):
        return True
    if len(value) > 2 and value[0].isalpha() and value[1] == ":" and value[2] in "\\/":
        return True
    scheme = value.partition("://")
    if scheme[1] and scheme[0].replace("+", "").isalnum():
        return True
    return value.count("@") == 1 and value.rpartition("@")[2].count(".") >= 1 and " " not in value and len(value) < 80


def _is_plain(value: str) -> bool:
    """Numbers, versions, dates, and code."""
    if len(value) < 4 or (value.replace(".", "").replace("-", "").replace(":", "").isdigit() and len(value) < 16):
        return value.isdigit() is False or len(value) < 6
    return value[-1] in ";{}" or "()" in value or "=>" in value or " = " in value


def _dense(value: str) -> bool:
    """At least 2.5 bits a character (Shannon, over its own characters)."""
    return entropy(value) >= 2.5


def entropy(value: str) -> float:
    """Bits a character, by the frequencies of the value's own characters; at most log2 of its length."""
    if not value:
        return 0.0
    size = len(value)
    return -sum(n / size * math.log2(n / size) for n in Counter(value).values())


def _looks_made(value: str) -> bool:
    """Whether letters, capitals and digits change places more often than words do."""
    changes, before = 0, ""
    for char in value:
        now = "d" if char.isdigit() else "u" if char.isupper() else "l" if char.isalpha() else ""
        if now and before and now != before and not (before == "u" and now == "l"):
            changes += 1
        before = now
    return changes >= max(3, len(value) // (8 if any(char.isdigit() for char in value) else 4))


def in_words(words: Sequence[str]) -> list[tuple[int, Credential]]:
    """The credentials of a command line, each with the number of its word.

    Looks at `--token X`, `--token=X`, `NAME=X`, `-H 'Name: X'`, `-u user:password`, and each word by itself.
    """
    out: list[tuple[int, Credential]] = []
    option = ""
    for number, word in enumerate(words):
        found = _word(word, option)
        if found:
            out.append((number, found))
        option = word if word[:1] == "-" and "=" not in word and len(word) <= 80 else ""
    return out


_USER_OPTIONS = frozenset({"-u", "--user", "--proxy-user", "-U"})
_HEADER_OPTIONS = frozenset({"-H", "--header", "--headers", "--add-header"})


def _word(word: str, option: str) -> Credential | None:
    found = _by_form(word)
    if found or len(word) > LONGEST:
        return found
    if option in _HEADER_OPTIONS or (":" in word and not word.startswith("-") and "://" not in word):
        name, colon, value = word.partition(":")
        if colon and name.replace("-", "").isalnum() and telling(name):
            return _shifted(judge(value.strip(), name), word, value.strip())
    if option in _USER_OPTIONS:
        user, colon, password = word.partition(":")
        if colon and _is_word(password) and user and len(password) >= 4:
            return Credential("password", len(user) + 1, len(word), "likely")
    name, equals, value = word.partition("=")
    if equals and value and name.lstrip("-").replace("-", "").replace("_", "").isalnum():
        return _shifted(judge(value, name.lstrip("-")), word, value)
    if option and not word.startswith("-"):
        return judge(word, option.lstrip("-")) if telling(option.lstrip("-")) else in_url(word)
    return in_url(word)


def _shifted(found: Credential | None, word: str, value: str) -> Credential | None:
    by = len(word) - len(value)
    return found and replace(found, start=found.start + by, end=found.end + by)
