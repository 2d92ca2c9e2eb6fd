"""Where a secret is kept, as one short text: a reference. The text may stand in files; the secret does not.

    vault://mount/path#key?version=2      HashiCorp Vault or OpenBao: KV 1, KV 2, and engines that issue credentials
    awssm://name#json.key?stage=AWSPREVIOUS   AWS Secrets Manager
    keyring://service/user                the keyring of the desktop
    age://name                            callgate's own encrypted store, under state/secrets
    age:///home/me/keys.json.age#github?identity=/home/me/.ssh/id_ed25519   any age file
    op://vault/item/field                 1Password, through its program `op`
    env://NAME                            a variable of callgate's own environment
    file:///run/keys/token#json.key       a file that only its owner can read

`#key` names a member of what is stored there, with a dot between levels; without it the whole is the secret.
Options come last, after `?`. What is special in a place is written as in a URL (RFC 3986, section 2.1): `%2F` is a
slash inside one part, `%2E` a dot inside a key.

Inside a longer text a reference stands between angle brackets, as RFC 3986, appendix C, has it:

    Bearer <vault://secret/mcp/github#token>

and not in `${…}`: editors and agents put their own variables there before callgate sees the text. A bare
`file://…` is an ordinary URL wherever something else may stand; as a secret it is written `<file:///path>`.

This module is on the launch path: it imports nothing that costs time.
"""

from __future__ import annotations

from callgate.errors import SecretError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SCHEMES: Final = ("vault", "awssm", "keyring", "age", "op", "env", "file")
MOST_CHARACTERS: Final = 2048
"""Longest reference."""
MOST_TEXT: Final = 65_536
"""Longest text that is searched for references."""
MOST_EMBEDDED: Final = 16
"""References in one text."""

FORMS: Final = {
    "vault": "vault://mount/path#key?version=N",
    "awssm": "awssm://name#json.key?stage=AWSCURRENT",
    "keyring": "keyring://service/user",
    "age": "age://name or age:///absolute/file.age#key",
    "op": "op://vault/item/field",
    "env": "env://NAME",
    "file": "file:///absolute/path#key",
}
_OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "vault": ("version",),
    "awssm": ("stage", "version"),
    "age": ("identity",),
    "op": ("attribute",),
}
_BARE: Final = tuple(f"{scheme}://" for scheme in SCHEMES if scheme != "file")
_ANY: Final = tuple(f"{scheme}://" for scheme in SCHEMES)
_MOST_PARTS: Final = 32
_PLAIN: Final = "_-+=@:~"


class Reference:
    """A parsed reference. `parts` are the decoded segments of its path, `key` the levels of its key."""

    __slots__ = ("key", "options", "parts", "scheme", "text")

    def __init__(
        self, scheme: str, parts: tuple[str, ...], key: tuple[str, ...], options: dict[str, str], text: str
    ) -> None:
        self.scheme = scheme
        self.parts = parts
        self.key = key
        self.options = options
        self.text = text
        """As it was written. Two texts may mean the same place."""

    @property
    def place(self) -> tuple[str, tuple[str, ...], tuple[tuple[str, str], ...]]:
        """What is read to resolve it: the same for all keys of one document."""
        return self.scheme, self.parts, tuple(sorted(self.options.items()))

    @property
    def path(self) -> str:
        """The path, decoded, with a slash before it where the address is a file."""
        joined = "/".join(self.parts)
        return "/" + joined if self.is_file else joined

    @property
    def is_file(self) -> bool:
        """Whether the path is one of this machine's files."""
        return self.scheme == "file" or (self.scheme == "age" and self.text.startswith("age:///"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and (self.place, self.key) == (other.place, other.key)

    def __hash__(self) -> int:
        return hash((self.place, self.key))

    def __repr__(self) -> str:
        return f"Reference({self.text!r})"


def is_reference(text: str) -> bool:
    """Whether `text` is a reference or holds one: cheap, and never an error.

    A bare `file://…` is not: it is an ordinary URL. `<file:///path>` is.
    """
    if "://" not in text:
        return False
    return text.startswith(_BARE) or any("<" + start in text or "${" + start in text for start in _ANY)


def parse(text: str) -> Reference:
    """A reference from its text, without brackets around it. Raises SecretError with the right form."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in SCHEMES:
        raise SecretError(
            "what stands there is not a reference to a secret",  # it may be the secret: it is not shown
            next_step=f"write one of: {', '.join(FORMS[name] for name in SCHEMES)}",
        )
    if len(text) > MOST_CHARACTERS:
        raise _wrong(scheme, f"the reference {_shown(text[:80])} has more than {MOST_CHARACTERS} characters")
    if not text.isprintable() or any(char in text for char in '<>"'):
        raise _wrong(scheme, f'{_shown(text)} holds a character that must be written as %XX (controls, < > ")')
    address, has_options, query = rest.partition("?")
    address, has_key, fragment = address.partition("#")
    if has_options and "#" in query:
        raise _wrong(scheme, f"{_shown(text)}: the key comes before the options")
    key = tuple(_decoded(level, scheme, text) for level in fragment.split(".")) if has_key else ()
    if has_key and (not all(key) or len(key) > _MOST_PARTS):
        raise _wrong(scheme, f"{_shown(text)}: the key after # has an empty level")
    options = _options(scheme, query, text) if has_options else {}
    parts = _parts(scheme, address, text)
    if key and scheme in ("keyring", "op", "env"):
        raise _wrong(scheme, f"{_shown(text)}: {scheme}:// has no key after #")
    return Reference(scheme, parts, key, options, text)


def _parts(scheme: str, address: str, text: str) -> tuple[str, ...]:
    if scheme == "file" or (scheme == "age" and address.startswith("/")):
        if not address.startswith("/"):
            raise _wrong(scheme, f"{_shown(text)} does not name a file by its whole path")
        address = address[1:]
    parts = tuple(_decoded(part, scheme, text) for part in address.split("/"))
    if len(parts) > _MOST_PARTS or not all(parts) or any(part in (".", "..") for part in parts):
        raise _wrong(scheme, f"{_shown(text)} has an empty part, `.` or `..` in its path")
    least, most = {
        "vault": (2, _MOST_PARTS),
        "keyring": (2, 2),
        "op": (3, 4),
        "env": (1, 1),
        "age": (1, 1 if not text.startswith("age:///") else _MOST_PARTS),
    }.get(scheme, (1, _MOST_PARTS))
    if not least <= len(parts) <= most:
        raise _wrong(scheme, f"{_shown(text)} has {len(parts)} part(s) in its path")
    if scheme == "env" and (not parts[0].isascii() or "=" in parts[0]):
        raise _wrong(scheme, f"{_shown(text)} does not name a variable")
    return parts


def _options(scheme: str, query: str, text: str) -> dict[str, str]:
    known = _OPTIONS.get(scheme, ())
    found: dict[str, str] = {}
    for pair in query.split("&"):
        name, has_value, value = pair.partition("=")
        if name not in known or name in found or not has_value or not value:
            what = f"its options are {', '.join(known)}, each once and with a value" if known else "it takes no options"
            raise _wrong(scheme, f"{_shown(text)}: {what}")
        found[name] = _decoded(value, scheme, text)
    if scheme == "vault" and "version" in found and not _is_version(found["version"]):
        raise _wrong(scheme, f"{_shown(text)}: version is a number from 1")
    if "stage" in found and "version" in found:
        raise _wrong(scheme, f"{_shown(text)}: stage and version exclude each other")
    return found


def _is_version(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10 and int(text) > 0


def _decoded(part: str, scheme: str, text: str) -> str:
    """One part with its %XX decoded; those must be UTF-8 and no control characters."""
    if "%" not in part:
        return part
    out = bytearray()
    pieces = part.split("%")
    out += pieces[0].encode()
    for piece in pieces[1:]:
        digits = piece[:2]
        if len(digits) != 2 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            raise _wrong(scheme, f"{_shown(text)}: after % come two hexadecimal digits")
        out.append(int(digits, 16))
        out += piece[2:].encode()
    try:
        decoded = out.decode()
    except UnicodeDecodeError:
        decoded = "\0"
    if any(char < " " or char == "\x7f" for char in decoded):
        raise _wrong(scheme, f"{_shown(text)}: what is written as %XX is not UTF-8 text")
    return decoded


def quoted(part: str) -> str:
    """`part` as it stands in one part, key level or option of a reference. Raises SecretError for controls."""
    if any(char < " " or char == "\x7f" for char in part):
        raise SecretError("a name with control characters cannot stand in a reference", next_step="choose another name")
    return "".join(char if char.isascii() and (char.isalnum() or char in _PLAIN) else _percent(char) for char in part)


def quoted_path(part: str) -> str:
    """As `quoted`, for a part of a path: there a dot is ordinary, unless it is all of the part."""
    return quoted(part) if part in (".", "..") else ".".join(quoted(piece) for piece in part.split("."))


def _percent(char: str) -> str:
    if char > "\x7f" and char.isprintable():
        return char
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "replace"))


def embed(reference: str) -> str:
    """How a reference stands inside a longer text."""
    return f"<{reference}>"


def split(text: str) -> list[str | Reference]:
    """`text` as literal pieces and references, in order. Raises SecretError.

    The whole text may be a bare reference; a bare `file://…` is a literal piece.
    """
    if text.startswith(_BARE):
        return [parse(text)]
    if len(text) > MOST_TEXT:
        raise SecretError(f"a text with references has more than {MOST_TEXT} characters", next_step="shorten it")
    pieces: list[str | Reference] = []
    at = count = 0
    while True:
        start = _next(text, at)
        if start < 0:
            break
        if text[start] == "$":
            raise SecretError(
                "a reference stands in ${…}, which is for variables of editors and agents, not for secrets",
                next_step="put the reference between angle brackets: Bearer <vault://mount/path#key>",
            )
        end = text.find(">", start)
        if end < 0:
            scheme = text[start + 1 :].partition(":")[0]
            raise SecretError(f"a reference <{scheme}://… has no closing >", next_step="close the bracket")
        count += 1
        if count > MOST_EMBEDDED:
            raise SecretError(f"more than {MOST_EMBEDDED} references in one text", next_step="use fewer")
        if start > at:
            pieces.append(text[at:start])
        pieces.append(parse(text[start + 1 : end]))
        at = end + 1
    if at < len(text) or not pieces:
        pieces.append(text[at:])
    return pieces


def _next(text: str, at: int) -> int:
    places = [text.find(opening + start, at) for start in _ANY for opening in ("<", "${")]
    return min((place for place in places if place >= 0), default=-1)


def refuse_in_arguments(argv: tuple[str, ...] | list[str]) -> None:
    """Raises SecretError when a reference stands on a command line: argv is readable by every user of the machine."""
    for number, word in enumerate(argv):  # the program itself is number 0
        _, has_value, value = word.partition("=")
        if is_reference(word) or (has_value and is_reference(value)):
            raise SecretError(
                f"argument {number} of the server's command holds a reference to a secret",
                effect="the server was not started: arguments are readable by every user of the machine",
                next_step="pass it as a variable: most servers take one; --env NAME, or [servers.NAME.secrets]",
            )


def _wrong(scheme: str, what: str) -> SecretError:
    return SecretError(what, next_step=f"write it as {FORMS[scheme]}")


def _shown(text: str) -> str:
    from callgate.text import visible

    return f'"{visible(text, 120)}"'
