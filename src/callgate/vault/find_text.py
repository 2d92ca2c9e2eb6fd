"""Credentials in files of lines: `.env`, shell histories, netrc, INI files, lists of URLs, and any other text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from callgate.detect.credential_formats import formats_in
from callgate.detect.credentials import Credential, in_url, in_words, judge
from callgate.detect.placeholders import is_filler, is_placeholder, is_reference
from callgate.vault.find import Hit

LONGEST_LINE: Final = 65_536
"""Characters of a line that are judged; of a longer one only known forms are found."""


def lines(text: str) -> Iterator[tuple[int, str]]:
    """Each line without its end, and where it begins. Only LF and CR LF end lines."""
    at = 0
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        line = text[at:end]
        yield at, line.removesuffix("\r")
        at = end + 1


def in_env_file(text: str) -> Iterator[Hit]:
    """`NAME=value`, also `export NAME="value"  # comment`, as programs and shells read `.env` files."""
    for assignment in assignments(text):
        name, start, end = assignment
        value = text[start:end]
        found = judge(value, name)
        if found:
            yield Hit(start + found.start, start + found.end, name, found, value[found.start : found.end])


def assignments(text: str) -> Iterator[tuple[str, int, int]]:
    """Name, and where the value stands, without its quotes. Values over several lines are left to known forms."""
    for at, line in lines(text):
        if len(line) > LONGEST_LINE:
            continue
        body = line.lstrip()
        offset = at + len(line) - len(body)
        if body.startswith("export "):
            shorter = body[7:].lstrip()
            offset += len(body) - len(shorter)
            body = shorter
        name, equals, rest = body.partition("=")
        name = name.rstrip()
        if not equals or not name.replace("_", "").replace(".", "").replace("-", "").isalnum():
            continue
        start = offset + len(body) - len(rest)
        stripped = rest.lstrip(" \t")
        start += len(rest) - len(stripped)
        quote = stripped[:1]
        if quote in ("'", '"', "`"):
            close = stripped.find(quote, 1)
            while close > 0 and quote == '"' and stripped[close - 1] == "\\":
                close = stripped.find(quote, close + 1)
            if close > 0:
                yield name, start + 1, start + close
            continue
        comment = stripped.find(" #")
        value = (stripped if comment < 0 else stripped[:comment]).rstrip()
        if value:
            yield name, start, start + len(value)


def in_known_forms(text: str) -> Iterator[Hit]:
    """Credentials of known forms anywhere in a text."""
    for shape in formats_in(text):
        body = text[shape.start + shape.prefix : shape.end]
        if shape.proven or not (is_placeholder(body) or is_filler(body[-32:])):
            confidence = "certain" if shape.proven else "likely"
            credential = Credential(shape.kind, 0, shape.end - shape.start, confidence, shape.prefix)  # type: ignore[arg-type]
            yield Hit(shape.start, shape.end, "", credential, text[shape.start : shape.end])


def in_history(text: str) -> Iterator[Hit]:
    """A shell's history: bash, zsh with its extended lines, fish, and those of database clients."""
    taken: set[int] = set()
    for at, line in lines(text):
        if len(line) > LONGEST_LINE or not _worth_a_look(line.lower()):
            continue
        command = _command(line)
        for word, found in _in_command(command):
            start = text.find(word[found.start : found.end], at, at + len(line))
            start = at if start < 0 else start  # quoted in pieces: the line is place enough
            taken.add(at)
            yield Hit(start, start + 1, _program(command), found, word[found.start : found.end])
    for hit in in_known_forms(text):
        if text.rfind("\n", 0, hit.start) + 1 not in taken:
            yield hit


_HINTS: Final = (
    "pass", "pw", "secret", "token", "key", "cred", "bearer", "auth", "pat", "jwt", "cookie", "conn", "session", "dsn",
    "salt", "seed", "mnemonic", "otp", "signature", "sid", "-u", "--user", "@", "?",
)  # fmt: skip
"""One of these stands in every command in which something but a known form can be found."""


def _worth_a_look(lower: str) -> bool:
    return any(hint in lower for hint in _HINTS)


def _command(line: str) -> str:
    if line.startswith(": ") and ";" in line[:32]:  # zsh: `: 1700000000:0;command`
        return line.partition(";")[2]
    if line.startswith("- cmd: "):  # fish
        return line[7:].replace("\\\\", "\\")
    return line


def _in_command(command: str) -> Iterator[tuple[str, Credential]]:
    words = split_words(command)
    for number, found in in_words(words):
        yield words[number], found


def _program(command: str) -> str:
    for word in command.split()[:8]:
        base = word.rpartition("/")[2]
        if "=" not in word and not word.startswith("-") and base not in ("sudo", "env", "export", "time", "exec"):
            return base[:40] if base.replace("-", "").replace("_", "").replace(".", "").isalnum() else ""
    return ""


def split_words(command: str) -> list[str]:
    """The words of a command as a POSIX shell cuts them, without expansions; an open quote ends with the line."""
    words: list[str] = []
    word: list[str] = []
    quote = ""
    inside = False
    at, size = 0, len(command)
    while at < size:
        char = command[at]
        at += 1
        if quote:
            if char == quote:
                quote = ""
            elif char == "\\" and quote == '"' and command[at : at + 1] in ('"', "\\", "$", "`"):
                word.append(command[at])
                at += 1
            else:
                word.append(char)
        elif char in "'\"":
            quote, inside = char, True
        elif char == "\\" and at < size:
            word.append(command[at])
            at += 1
            inside = True
        elif char.isspace() or char in ";|&()<>":
            if inside or word:
                words.append("".join(word))
            word, inside = [], False
        else:
            word.append(char)
    if inside or word:
        words.append("".join(word))
    return words


def in_netrc(text: str) -> Iterator[Hit]:
    """`machine HOST login USER password SECRET`, over as many lines as it likes."""
    before, machine, at = "", "", 0
    for word in text.split():
        at = text.find(word, at)
        if before == "machine":
            machine = word
        elif before in ("password", "account") and not is_placeholder(word) and not is_reference(word):
            yield Hit(at, at + len(word), machine, Credential("password", 0, len(word), "likely"), word)
        before = word if before not in ("password", "account", "login", "machine") else ""
        at += len(word)


def in_ini(text: str) -> Iterator[Hit]:
    """`key = value` or `key: value` under `[sections]`: INI files, `.npmrc`, `.pypirc`, properties."""
    section = ""
    for at, line in lines(text):
        body = line.strip()
        if body.startswith("[") and body.endswith("]"):
            section = body[1:-1]
        if not body or body[0] in "#;[" or len(line) > LONGEST_LINE:
            continue
        places = [place for mark in "=:" if (place := line.find(mark)) >= 0]
        if line.lstrip().startswith("//"):  # .npmrc: `//host/:_authToken=VALUE`
            places = [line.find("=")] if "=" in line else []
        if not places:
            continue
        name, value = line[: min(places)].strip(), line[min(places) + 1 :]
        start = at + min(places) + 1 + len(value) - len(value.lstrip())
        value = value.strip()
        if value[:1] in ("'", '"') and value[-1:] == value[:1] and len(value) > 1:
            start, value = start + 1, value[1:-1]
        name = name.rpartition(":")[2] or name
        found = judge(value, name.lstrip("_"))
        if found:
            label = f"{section}.{name}" if section else name
            yield Hit(start + found.start, start + found.end, label, found, value[found.start : found.end])


def in_urls(text: str) -> Iterator[Hit]:
    """One URL a line with the credentials in it: `.git-credentials`."""
    for at, line in lines(text):
        found = in_url(line[:LONGEST_LINE])
        if found:
            host = line[found.end :].partition("@")[2][:80]
            yield Hit(at + found.start, at + found.end, host, found, line[found.start : found.end])


def in_key_file(text: str) -> Iterator[Hit]:
    """A private key that no passphrase protects."""
    for hit in in_known_forms(text):
        if hit.credential.kind == "private key" and _is_encrypted(hit.value):
            continue
        yield hit


def in_pgpass(text: str) -> Iterator[Hit]:
    """`host:port:database:user:password`; a backslash before a colon makes it part of a field."""
    for at, line in lines(text):
        parts = line.replace("\\\\", "\0\0").replace("\\:", "\0\0").split(":")
        if len(parts) == 5 and not line.startswith("#") and len(parts[4]) > 1 and not is_placeholder(parts[4]):
            start = at + len(line) - len(parts[4])
            credential = Credential("password", 0, len(parts[4]), "likely")
            yield Hit(start, at + len(line), line.partition(":")[0], credential, text[start : at + len(line)])


def in_token_file(text: str) -> Iterator[Hit]:
    """A file that is nothing but one token."""
    value = text.strip()
    if 8 <= len(value) <= 4096 and len(value.split()) == 1 and not is_placeholder(value) and not is_reference(value):
        start = text.find(value)
        yield Hit(start, start + len(value), "", Credential("token", 0, len(value), "likely", 2), value)


def _is_encrypted(pem: str) -> bool:
    if "ENCRYPTED" in pem:
        return True
    if "BEGIN OPENSSH PRIVATE KEY" not in pem:
        return False
    import base64

    body = "".join(pem.split("\n")[1:4])
    head = base64.b64decode(body[: len(body) // 4 * 4], validate=False)[:64]
    # openssh-key-v1: a length and the name of the cipher follow the magic (PROTOCOL.key, section 1).
    return head.startswith(b"openssh-key-v1\0") and head[15:23] != b"\0\0\0\x04none"


READERS: Final[dict[str, Callable[[str], Iterator[Hit]]]] = {
    "env": in_env_file,
    "history": in_history,
    "netrc": in_netrc,
    "ini": in_ini,
    "urls": in_urls,
    "key": in_key_file,
    "pgpass": in_pgpass,
    "whole": in_token_file,
    "text": in_known_forms,
}
"""How each kind of file is read."""
