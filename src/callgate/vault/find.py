"""Plaintext credentials on this machine: what was found, what was looked at, what was not, and why.

A finding says where a credential stands, of what kind it is, who else may read the file, and never the value: at most
four of its first characters, and the beginning of a digest under a key of this machine, by which the same credential
is recognised at several places. The digest without the key tells nothing, of a short password neither.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from callgate.detect.credentials import Confidence, Credential
from callgate.vault.find_files import Files, Limits, TextFile

Source: TypeAlias = Literal["client", "callgate", "env-file", "history", "credential-file", "server-directory", "file"]
Readers: TypeAlias = Literal["owner", "group", "everyone"]

DIGEST_CHARACTERS: Final = 8
LEAST_ALSO: Final = 8
KEY_FILE: Final = "fingerprint.key"


@dataclass(frozen=True, slots=True)
class Hit:
    """A credential in a text: where its value stands there, and what it is called there."""

    start: int
    end: int
    key: str
    credential: Credential
    value: str = field(repr=False)
    server: str = ""
    """The server it belongs to, where the file has servers."""
    in_arguments: bool = False
    """It stands on a command line, which every user of the machine can read while the program runs."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One credential at one place, as it may be shown."""

    path: str
    line: int
    key: str
    kind: str
    confidence: Confidence
    shown: str
    digest: str
    mode: str
    """Of the file, in octal."""
    readers: Readers
    """Who may read the file, its directories considered."""
    source: Source
    client: str = ""
    server: str = ""
    in_arguments: bool = False
    tracked: bool = False
    """Other people get the file: git tracks it."""

    @property
    def rotate(self) -> str:
        """Why it should be exchanged for a new one even when it is moved; empty: no reason is known."""
        if self.readers != "owner":
            return f"{'every user' if self.readers == 'everyone' else 'a group'} of this machine could read it"
        if self.tracked:
            return "whoever has the git repository has it"
        if self.in_arguments:
            return "the list of processes shows arguments to every user"
        if self.source == "history":
            return "it was typed, and may be in scripts and backups too"
        return ""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a search found, and how far it looked."""

    findings: tuple[Finding, ...]
    skipped: tuple[tuple[str, str], ...]
    """Path and reason of what was not looked at."""
    files: int
    bytes: int


class Fingerprints:
    """Digests under a key that is made once for a state directory (`secrets/fingerprint.key`, mode 0600)."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def of_state(cls, state: Path) -> Fingerprints:
        """The machine's own. Where the state cannot be written, one for this process only."""
        path = state / "secrets" / KEY_FILE
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            beside = path.with_name(f".{KEY_FILE}.{os.getpid()}")
            if not path.exists():
                with os.fdopen(os.open(beside, flags, 0o600), "wb") as file:
                    file.write(os.urandom(32))
                try:
                    os.link(beside, path)
                except FileExistsError:
                    pass  # another process made it
                finally:
                    beside.unlink()
            key = path.read_bytes()
        except OSError:
            key = b""
        return cls(key if len(key) == 32 else os.urandom(32))

    def of(self, value: str) -> str:
        """The beginning of HMAC-SHA-256, in hexadecimal."""
        return self.whole(value)[:DIGEST_CHARACTERS]

    def whole(self, value: str) -> str:
        """All of it, for comparing."""
        return hmac.digest(self._key, value.encode("utf-8", "surrogatepass"), "sha256").hex()


def masked(credential: Credential, value: str) -> str:
    """At most four leading characters, and only such as say nothing; `…` for the rest."""
    return value[: min(4, credential.shown)] + "…"


class Search:
    """Collects findings. One value at one place of a file counts once.

    `also`: values that are looked for wherever they stand, whatever they look like there.
    """

    def __init__(self, fingerprints: Fingerprints, limits: Limits | None = None, also: Iterable[str] = ()) -> None:
        self.files = Files(limits or Limits())
        self._fingerprints = fingerprints
        self._also = tuple(value for value in also if len(value) >= LEAST_ALSO)
        self._findings: dict[tuple[str, int, int], Finding] = {}

    def add(
        self, file: TextFile, hits: Iterable[Hit], source: Source, *, client: str = "", tracked: bool = False
    ) -> None:
        """The credentials of one file."""
        found = list(hits)
        for hit in (*found, *self._known(file.text, found)):
            place = (file.real, hit.start, hit.end)
            if place not in self._findings:
                self._findings[place] = Finding(
                    path=file.path,
                    line=file.text.count("\n", 0, hit.start) + 1,
                    key=hit.key,
                    kind=hit.credential.kind,
                    confidence=hit.credential.confidence,
                    shown=masked(hit.credential, hit.value),
                    digest=self._fingerprints.of(hit.value),
                    mode=f"{file.mode:04o}",
                    readers=file.readers,
                    source=source,
                    client=client,
                    server=hit.server,
                    in_arguments=hit.in_arguments,
                    tracked=tracked,
                )

    def too_many(self, file: TextFile) -> None:
        """A document has more values than are looked at."""
        self.files.skip(file.path, "it has more values than are looked at: the rest was not")

    def _known(self, text: str, found: list[Hit]) -> Iterator[Hit]:
        for value in self._also:
            at = text.find(value)
            if at >= 0 and all(hit.value != value for hit in found):
                yield Hit(at, at + len(value), "", Credential("known value", 0, len(value), "certain"), value)

    def report(self) -> Report:
        """What was found so far, in the order of the files and their lines."""
        files = self.files
        return Report(tuple(self._findings.values()), tuple(files.skipped.items()), files.count, files.bytes)
