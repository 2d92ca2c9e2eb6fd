"""What changed between two releases, as far as it can be told by reading: new hosts, new powers, new packages.

Text of JavaScript, TypeScript and Python is scanned for a fixed list of signs; what the old release had already is
not reported. Nothing runs and nothing is parsed, so code that hides what it does is found only by how it hides
(`obfuscated`, `encoded`, `minified`). Each file is read once, in linear time, up to FILE_BYTES; what was not looked at
is said.

| kind | sign |
|---|---|
| `host` | a URL's host, or a bare address, that no file had before |
| `mail` | a mail address, or a blind copy (`bcc`) |
| `exec` | processes are started |
| `network` | connections are opened other than by URL |
| `environment` | variables are read |
| `files` | files are written or removed |
| `secrets` | places where credentials are kept |
| `dynamic` | code is made from text |
| `obfuscated`, `encoded`, `minified` | escapes, generated names, long encoded text, lines of thousands of characters |
| `binary` | a program or library in machine code |
| `install-script` | something runs at installation or at every start |
| `dependency` | a package that was not needed before, or is no longer |
| `publisher` | another account published it, or may publish |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from callgate.errors import TrustError
from callgate.supply import artefacts, place
from callgate.supply.lockfile import LockedServer
from callgate.text import visible

FILE_BYTES = 2 * 1024 * 1024
TOTAL_BYTES = 256 * 1024 * 1024
MAX_CHANGES = 200
MAX_NAMES = 500
"""Different hosts, and mail addresses, reported of one file."""
LONG_LINE = 5000
KINDS = (
    "install-script",
    "publisher",
    "dependency",
    "host",
    "mail",
    "exec",
    "secrets",
    "dynamic",
    "obfuscated",
    "encoded",
    "binary",
    "environment",
    "network",
    "files",
    "minified",
)
"""The most telling first."""

_CODE = (".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".jsx", ".tsx", ".py", ".pyi", ".pth", ".json", ".sh")
_MAGIC = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\0asm")

# Alternatives of literals, or classes with a bound: no pattern here looks at a character more than a few times.
_SIGNS: Mapping[str, re.Pattern[bytes]] = {
    "exec": re.compile(
        rb"child_process|execSync|spawnSync|execFile|\bspawn\(|worker_threads|subprocess|os\.system|os\.popen|"
        rb"os\.exec[lv]|os\.spawn|pty\.spawn|Deno\.Command|Deno\.run|Bun\.spawn|ctypes"
    ),
    "network": re.compile(
        rb"node:net|node:dgram|node:dns|node:http|require\(['\"](?:net|dgram|dns|tls|http|https|http2)['\"]\)|"
        rb"from ['\"](?:net|dgram|dns|tls|http|https|http2)['\"]|\bfetch\(|XMLHttpRequest|WebSocket|axios|undici|"
        rb"nodemailer|import socket|urllib\.request|http\.client|smtplib|aiohttp|httpx|requests\.(?:get|post|put)"
    ),
    "environment": re.compile(rb"process\.env|os\.environ|os\.getenv|Deno\.env|import\.meta\.env"),
    "files": re.compile(
        rb"writeFile|appendFile|createWriteStream|unlinkSync|rmSync|rmdirSync|copyFile|renameSync|symlinkSync|"
        rb"chmodSync|shutil\.|os\.remove|os\.unlink|os\.rename|write_text|write_bytes|\.chmod\("
    ),
    "secrets": re.compile(
        rb"\.ssh/|id_rsa|id_ed25519|\.aws/|\.npmrc|\.pypirc|\.netrc|\.git-credentials|\.kube/|\.docker/config|"
        rb"Login Data|wallet\.dat|keychain|/etc/shadow|claude_desktop_config|\.claude/settings|\.cursor/mcp|mcp\.json|"
        rb"169\.254\.169\.254|metadata\.google"
    ),
    "dynamic": re.compile(
        rb"\beval\(|new Function\(|vm\.run|vm\.compile|Module\._compile|\bexec\(|__import__\(|importlib\.import_module|"
        rb"compile\(|marshal\.loads|pickle\.loads|setTimeout\(['\"]"
    ),
    "obfuscated": re.compile(
        rb"_0x[0-9a-f]{4,6}|(?:\\x[0-9a-fA-F]{2}){8}|(?:\\u[0-9a-fA-F]{4}){8}|fromCharCode|\batob\(|"
        rb"b64decode|fromhex|codecs\.decode|zlib\.decompress"
    ),
    "encoded": re.compile(rb"[A-Za-z0-9+/]{400}"),
}
_URL = re.compile(rb"(?:https?|wss?|ftp|smtps?)://([^\s/'\"`<>\\?#)]{1,253})", re.IGNORECASE)
_ADDRESS = re.compile(rb"(?<![0-9.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9.])")
_BCC = re.compile(rb"\b[bB][cC]{2}\b")
_LOCAL = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+-")
_DOMAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-")


@dataclass(frozen=True, slots=True)
class CodeChange:
    """One thing the new release has and the old one had not. All texts are safe to print."""

    kind: str
    what: str
    where: str = ""
    """File and line."""
    text: str = ""
    """The line itself, shortened."""


@dataclass(frozen=True, slots=True)
class CodeDiff:
    """All changes, the most telling first, and what was not looked at."""

    changes: tuple[CodeChange, ...] = ()
    files: int = 0
    """Files added or changed."""
    unread: tuple[str, ...] = ()
    more: int = 0
    """Changes beyond MAX_CHANGES."""

    def kinds(self) -> set[str]:
        """The kinds of change there are."""
        return {one.kind for one in self.changes}


@dataclass(slots=True)
class _Signs:
    """What a set of files has. First place of each sign, for the report."""

    found: dict[tuple[str, str], CodeChange] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    bytes_left: int = TOTAL_BYTES

    def add(self, kind: str, what: str, where: str = "", text: str = "") -> None:
        self.found.setdefault((kind, what), CodeChange(kind, what, where, text))


def compare(state: Path, before: LockedServer, after: LockedServer) -> CodeDiff:
    """What `after` has that `before` had not. Both trees must be in the store. Raises TrustError."""
    old, new = _Signs(), _Signs()
    old_files, new_files = _files(state, before), _files(state, after)
    changed = [path for path, digest in new_files.items() if old_files.get(path) != digest]
    for path in changed:
        _scan(_tree(state, after), path, new)
    # A sign that any old file had is no news, wherever it is now: files are renamed and rewrapped.
    for path in old_files:
        _scan(_tree(state, before), path, old)
    facts(before, old)
    facts(after, new)
    news = [one for key, one in new.found.items() if key not in old.found]
    gone = [
        CodeChange("dependency", what.replace("needs ", "no longer needs ", 1))
        for kind, what in old.found
        if kind == "dependency" and (kind, what) not in new.found and _name(what) not in _names(new)
    ]
    news += gone
    news.sort(key=lambda one: (KINDS.index(one.kind), one.where, one.what))
    return CodeDiff(tuple(news[:MAX_CHANGES]), len(changed), tuple(new.unread[:20]), max(0, len(news) - MAX_CHANGES))


def _tree(state: Path, server: LockedServer) -> Path:
    return artefacts.root(state) / server.store


def _files(state: Path, server: LockedServer) -> dict[str, str]:
    """Path to kind and digest of a tree, from its listing."""
    if not server.store:
        raise TrustError(
            f"{visible(server.name, 64)} has no files in the store to compare",
            next_step="containers and local programs are compared by digest only",
        )
    data = place.read(artefacts.root(state) / server.record / artefacts.FILES, 256 * 1024 * 1024, "listing")
    found = artefacts.parse_listing(data.decode("utf-8", "surrogateescape"))
    return {path: digest for path, digest in found.items() if not path.endswith((".pyc", "package-lock.json"))}


def facts(server: LockedServer, signs: _Signs) -> None:
    """What the lock itself tells."""
    for one in server.install_scripts:
        name, _, what = one.partition(": ")
        signs.add("install-script", f"{name.rpartition('@')[0] or name}: {what}")
    for one in server.publisher:
        signs.add("publisher", one)
    for artefact in server.artefacts:
        name = artefact.purl.rpartition("@")[0]
        if name != server.purl.rpartition("@")[0]:
            signs.add("dependency", f"needs {visible(name.partition('/')[2].replace('%40', '@'), 120)}")


def _name(what: str) -> str:
    return what.rpartition(" ")[2]


def _names(signs: _Signs) -> set[str]:
    return {_name(what) for kind, what in signs.found if kind == "dependency"}


def _scan(tree: Path, path: str, signs: _Signs) -> None:
    file = tree / path
    if file.is_symlink():
        return
    try:
        size = file.stat().st_size
        with open(file, "rb") as source:
            data = source.read(min(FILE_BYTES, max(0, signs.bytes_left)))
    except OSError:
        signs.unread.append(visible(path, 150))
        return
    signs.bytes_left -= len(data)
    if data.startswith(_MAGIC):
        signs.add("binary", visible(path, 150))
        return
    if not path.endswith(_CODE) and not data.startswith(b"#!"):
        return
    if len(data) < size:
        signs.unread.append(f"{visible(path, 150)} (beyond its first {len(data)} bytes)")
    _scan_text(data, visible(_short(path), 150), signs)


def _short(path: str) -> str:
    """A path without the directories that every file of the tree has."""
    for part in ("node_modules/", "site-packages/"):
        _, found, rest = path.partition(part)
        if found:
            return rest
    return path


def _scan_text(data: bytes, path: str, signs: _Signs) -> None:
    for kind, pattern in _SIGNS.items():
        for match in pattern.finditer(data):
            sign = match.group().decode("ascii", "replace") if kind != "encoded" else "400 characters and more"
            sign = "escaped characters" if sign.startswith(("\\x", "\\u")) else sign
            what = "generated names (_0x...)" if sign.startswith("_0x") else sign
            package = path.partition("/")[0] if not path.startswith("@") else "/".join(path.split("/")[:2])
            key = f"{visible(what, 60)} in {package}"
            if (kind, key) not in signs.found:
                signs.add(kind, key, *_line(data, match.start(), path))
    for kind, places in (("host", _hosts(data)), ("mail", _mails(data))):
        news = 0
        for name, at in places:
            shown = visible(name, 120)
            if (kind, shown) not in signs.found:
                news += 1
                if news > MAX_NAMES:
                    signs.unread.append(f"{path} (more than {MAX_NAMES} names of hosts or mail addresses)")
                    break
                signs.add(kind, shown, *_line(data, at, path))
    blind = _BCC.search(data)
    if blind:
        signs.add("mail", f"blind copy (bcc) in {path.partition('/')[0]}", *_line(data, blind.start(), path))
    if max((len(line) for line in data.split(b"\n")), default=0) > LONG_LINE and not path.endswith(".json"):
        signs.add("minified", path)


def _hosts(data: bytes) -> Iterator[tuple[str, int]]:
    for match in _URL.finditer(data):
        host = match.group(1).decode("utf-8", "replace").rpartition("@")[2].partition(":")[0].rstrip(".,;-").lower()
        if host:
            yield host, match.start()
    for match in _ADDRESS.finditer(data):
        parts = match.group().split(b".")
        if all(int(part) < 256 for part in parts) and parts[0] not in (b"0", b"1", b"2", b"3", b"4", b"127"):
            yield match.group().decode("ascii"), match.start()


def _mails(data: bytes) -> Iterator[tuple[str, int]]:
    at = data.find(b"@")
    while at >= 0:
        start, end = at, at + 1
        while start > 0 and at - start < 64 and data[start - 1] in _LOCAL:
            start -= 1
        while end < len(data) and end - at < 254 and data[end] in _DOMAIN:
            end += 1
        domain = data[at + 1 : end].rstrip(b".-")
        if start < at and b"." in domain and domain.rpartition(b".")[2].isalpha():
            yield data[start : at + 1 + len(domain)].decode("ascii").lower(), start
        at = data.find(b"@", end)


def _line(data: bytes, at: int, path: str) -> tuple[str, str]:
    """Where a sign stands, and what is around it."""
    start = max(data.rfind(b"\n", max(0, at - 80), at) + 1, at - 80, 0)
    end = data.find(b"\n", at, start + 160)
    end = min(len(data), start + 160) if end < 0 else end
    number = data.count(b"\n", 0, at) + 1
    return f"{path}:{number}", visible(data[start:end].decode("utf-8", "replace").strip(), 160)


def summary(changes: Iterable[CodeChange]) -> str:
    """Counts by kind, most telling first: `2 host, 1 exec`."""
    counts: dict[str, int] = {}
    for one in changes:
        counts[one.kind] = counts.get(one.kind, 0) + 1
    return ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if kind in counts) or "nothing telling"
