"""What else than its words decides what a command does with a secret: a grant holds for one such start only.

The same words mean another program in another directory, with another PATH, with a variable that makes it load code
or talk to another service, or without the sandbox. Whoever writes an entry chooses all of these. What is fetched and
locked is what it is, wherever it starts.

On the launch path of servers with secrets: it imports next to nothing.
"""

from __future__ import annotations

import os

from callgate.frozen import dataclass, field
from callgate.runners import FETCHERS, program_name
from callgate.vault.grants import DIGEST, digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

_INTERPRETERS: Final = (
    "python", "node", "nodejs", "deno", "ruby", "perl", "php", "java", "lua", "tclsh", "osascript", "pwsh",
    "sh", "bash", "dash", "zsh", "ksh", "fish", "env", "cmd", "sudo", "nice", "nohup", "timeout", "xargs", "make",
)  # fmt: skip
"""Programs that run what the next words say, or what lies in the working directory."""
_PLAIN: Final = frozenset(("-u", "-I", "-E", "-s", "-B", "-P", "--"))
"""Options of interpreters that name no code."""
_CERTIFICATES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_SETTINGS: Final[dict[str, tuple[str, ...]]] = {
    "vault": (
        *(f"{owner}_{name}" for owner in ("VAULT", "BAO") for name in ("ADDR", "NAMESPACE", "CACERT", "CAPATH")),
        *_CERTIFICATES,
    ),
    "awssm": (
        *("HOME", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE", "AWS_REGION", "AWS_CA_BUNDLE"),
        *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL_STS", *_CERTIFICATES),
    ),
    "op": ("HOME", "OP_CONNECT_HOST", *_CERTIFICATES),
}
"""Which variables say, by store, who is asked: another one would be shown callgate's own login, or run a program."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Of one start."""

    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the start gives by name, as it stands there: references unresolved."""
    program: str = ""
    """The file its first word leads to; empty where that was locked."""
    directory: str = ""
    """Where it runs; empty where that does not decide what it is."""
    unconfined: bool = False
    configuration: str = ""
    """A digest of the settings it starts with; empty for the user's own."""

    def start(self, seal: str, reference: str, environ: Mapping[str, str]) -> str:
        """The digest that a grant of this reference holds. `environ`: what the store is asked with."""
        parts = [
            *("variables", *(word for name in sorted(self.variables) for word in (name, self.variables[name]))),
            *("program", self.program, "directory", self.directory, "unconfined" if self.unconfined else "confined"),
            *("configuration", self.configuration, "store"),
        ]
        for name in _SETTINGS.get(reference.partition("://")[0], ()):
            parts += (name, environ[name]) if environ.get(name) else ()
        return digest(seal.encode(), *(part.encode("utf-8", "surrogatepass") for part in parts))[:DIGEST]

    @property
    def plain(self) -> bool:
        """Whether the words alone say what it is."""
        return self == Circumstances(unconfined=self.unconfined)


def place(command: tuple[str, ...], cwd: str, path: str, *, locked: bool) -> tuple[str, str]:
    """Program and directory, as far as they decide what the command is. `path`: where programs are looked for.

    `cwd` may be empty, where nobody knows it yet.
    """
    word = command[0]
    if locked:
        return "", cwd if _names_files(command[1:], cwd) else ""
    if "/" in word:
        relative = not os.path.isabs(word)
        program = os.path.join(cwd, word) if relative else ""  # an absolute one is among the words already
    else:
        program, relative = _found(word, cwd, path)
    depends = relative or _runs_what_lies_there(command) or _names_files(command[1:], cwd)
    return program, cwd if depends else ""


def _found(word: str, cwd: str, path: str) -> tuple[str, bool]:
    """The file, and whether the working directory decided that."""
    for folder in path.split(os.pathsep):
        file = os.path.join(cwd, folder, word)
        if os.access(file, os.X_OK) and os.path.isfile(file):
            return file, not os.path.isabs(folder)
    return "", False


def _runs_what_lies_there(command: tuple[str, ...]) -> bool:
    name = program_name(command[0])
    if name in FETCHERS:
        return True
    if name.rstrip("0123456789.") not in _INTERPRETERS:
        return False
    script = next((word for word in command[1:] if word not in _PLAIN), "")
    return not os.path.isabs(script)


def _names_files(words: tuple[str, ...], cwd: str) -> bool:
    """Whether one of the words is, from there, a file; or a directory, where it is no word such as `run` or `mcp`."""
    if not cwd:
        return False
    before = ""
    for word in words:
        for text in (word, word.partition("=")[2]):
            if text and text[0] not in "-/" and len(text) < 1024:
                path = os.path.join(cwd, text)
                plain = text is word and not before.startswith("-") and "/" not in text and "." not in text
                if os.path.isfile(path) if plain else os.path.lexists(path):
                    return True
        before = word
    return False


def configuration(source: str) -> str:
    """The digest of settings that are not the user's own; none: nothing is set."""
    if not source:
        return ""
    try:
        with open(source, "rb") as file:
            return digest(file.read(16 << 20))
    except OSError:
        return "gone"
