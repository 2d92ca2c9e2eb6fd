"""Which start of a server may have which secret: `grants.json` in the state directory.

Whoever writes a client's entry chooses the references in it, and the entry may come with a project. So a reference is
resolved only for a start that it was granted to: this reference, this command word for word (or this URL), in these
circumstances (`launching.circumstances`), which the grant holds as one digest. Secrets themselves are not in the file.

What a repository brings along must not count, wherever an entry makes callgate look: what is granted counts for one
place, user and machine (its seal), and only in a private file of this user. Several may share a file, as where a home
directory is on a network or mounted into a container.

On the launch path of servers with secrets: it imports next to nothing.
"""

from __future__ import annotations

import os
import stat

from callgate.errors import SecretError
from callgate.frozen import dataclass, field
from callgate.vault.reference import MOST_CHARACTERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Final

FILE_NAME: Final = "grants.json"
VERSION: Final = 1
MOST_BYTES: Final = 8 << 20
MOST_GRANTS: Final = 10_000
MOST_PLACES: Final = 100
"""Machines that share a home directory, containers that mount it, places it was copied from."""
DIGEST: Final = 32
"""Hexadecimal digits of a start."""
PERSON: Final = "callgate secrets grant"
"""Who granted, where it was no entry of a client."""
_MACHINE: Final = ("/etc/machine-id", "/var/lib/dbus/machine-id")
_MEMBERS: Final = {"reference", "command", "url", "start", "owners", "at"}
_MOST_WORDS: Final = 1024
_MOST_TEXT: Final = 262_144


@dataclass(frozen=True, slots=True)
class Grant:
    """One secret for one start. Either `command` or `url` says what is started."""

    reference: str
    """As it is written where it is used."""
    start: str
    """The circumstances, as a digest."""
    command: tuple[str, ...] = ()
    url: str = ""
    owners: tuple[str, ...] = (PERSON,)
    """On whose account: entries of clients that `install` wrapped, or a person. It ends with the last of them."""
    at: str = ""

    @property
    def key(self) -> tuple[str, str, tuple[str, ...], str]:
        """What it is about."""
        return self.reference, self.start, self.command, self.url


@dataclass(frozen=True, slots=True)
class Grants:
    """What was granted. `configurations` are the files, beside the usual one, whose references are the user's own."""

    grants: Mapping[tuple[str, str, tuple[str, ...], str], Grant] = field(default_factory=dict)
    configurations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Real paths, with the owners of each."""
    sealed: bool = False
    """Whether anything was granted here, by this user."""
    elsewhere: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """By seal, as it stands there: what other users of this file granted. It counts for nothing here."""

    def near(self, reference: str, command: tuple[str, ...], url: str) -> bool:
        """Whether the reference was granted to this command or URL, in other circumstances."""
        return any(one[0] == reference and one[2:] == (command, url) for one in self.grants)


def seal(state: str | os.PathLike[str]) -> str:
    """What this state directory is, for this user and on this machine: nobody elsewhere can know it beforehand."""
    place = os.path.realpath(state)
    machine = b""
    for path in _MACHINE:
        try:
            with open(path, "rb") as file:
                machine = file.read(256).strip()
        except OSError:
            continue
        if machine:
            break
    if not machine:  # none on macOS and in some containers: there the home directory of the account
        import pwd

        try:
            found = os.stat(pwd.getpwuid(os.getuid()).pw_dir)
        except (KeyError, OSError):
            found = os.stat("/")
        machine = f"{found.st_dev} {found.st_ino} {getattr(found, 'st_birthtime', '')}".encode()
    return digest(b"callgate grants", machine, str(os.getuid()).encode(), os.fsencode(place))


def digest(*parts: bytes) -> str:
    """BLAKE2b over the parts, each with its length before it."""
    try:
        from _blake2 import blake2b  # what hashlib hands on: hashlib itself loads OpenSSL, 2.5 ms
    except ImportError:
        from hashlib import blake2b
    found = blake2b(digest_size=32)
    for part in parts:
        found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()


def read(state: str | os.PathLike[str]) -> Grants:
    """What was granted here; nothing where there is no file. Raises SecretError for one that cannot be believed."""
    path = os.path.join(state, FILE_NAME)
    try:
        # Non-blocking: a named pipe in its place must not hang the start.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Grants()
    except OSError as error:
        raise _unusable(path, f"it cannot be read ({error.strerror}), or is a symbolic link") from None
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        os.close(fd)
        raise _unusable(path, "it is not a file that belongs to you and that nobody else can read or change")
    with open(fd, "rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise _unusable(path, f"it is larger than {MOST_BYTES} bytes")
    import jiter

    try:
        document = jiter.from_json(data, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError:
        raise _unusable(path, "it is damaged") from None
    return _grants(document, path, seal(state))


def _grants(document: Any, path: str, own: str) -> Grants:
    if not isinstance(document, dict) or document.keys() != {"version", "places"}:
        raise _unusable(path, "it is damaged")
    if document["version"] != VERSION:
        raise _unusable(path, "it is of another version of callgate")
    places = document["places"]
    if not isinstance(places, dict) or not all(isinstance(one, dict) for one in places.values()):
        raise _unusable(path, "it is damaged")
    if len(places) > MOST_PLACES:
        raise _unusable(path, f"it is of more than {MOST_PLACES} places")
    others = {seal: one for seal, one in places.items() if seal != own}
    here = places.get(own)
    if here is None:
        return Grants(elsewhere=others)
    if here.keys() != {"grants", "configurations"}:
        raise _unusable(path, "it is damaged")
    listed, believed = here["grants"], here["configurations"]
    if not isinstance(listed, list) or not isinstance(believed, dict) or len(listed) + len(believed) > MOST_GRANTS:
        raise _unusable(path, f"it is damaged, or has more than {MOST_GRANTS} grants")
    try:
        grants = [_grant(one) for one in listed]
        configurations = {_text(place): _texts(owners) for place, owners in believed.items()}
    except (KeyError, TypeError, ValueError):
        raise _unusable(path, "it is damaged") from None
    return Grants({one.key: one for one in grants}, configurations, sealed=True, elsewhere=others)


def _grant(one: Any) -> Grant:
    if not isinstance(one, dict) or one.keys() != _MEMBERS:
        raise ValueError
    grant = Grant(
        reference=_text(one["reference"]),
        start=_text(one["start"]),
        command=_texts(one["command"]),
        url=_text(one["url"]),
        owners=_texts(one["owners"]),
        at=_text(one["at"]),
    )
    check(grant)
    return grant


def check(grant: Grant) -> None:
    """Whether it can be one, and be written down. Raises ValueError."""
    words = grant.command
    if (
        bool(words) == bool(grant.url)
        or not is_digest(grant.start)
        or not grant.owners
        or not 0 < len(grant.reference) <= MOST_CHARACTERS
        or len(words) > _MOST_WORDS
        or len(grant.url) + sum(map(len, words)) > _MOST_TEXT
    ):
        raise ValueError
    "".join((grant.reference, grant.url, *words, *grant.owners)).encode()  # UnicodeEncodeError: half a character


def is_digest(text: str) -> bool:
    """Whether it has the form of a start."""
    return len(text) == DIGEST and all(char in "0123456789abcdef" for char in text)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError
    return tuple(_text(one) for one in values)


def _unusable(path: str, reason: str) -> SecretError:
    from callgate.text import visible

    return SecretError(
        f"what secrets were granted to cannot be read from {visible(path, 300)}: {reason}",
        effect="no secret was given to anything",
        next_step="look at it and remove it; then grant anew: callgate install, callgate secrets grant",
    )
