"""How each secret reaches a server, worked out before it is started: a ladder, best first.

1. `sentinel`: the server gets a stand-in, and the egress gate puts the secret in its place towards the secret's hosts.
   Neither the server nor its memory, environment or files ever hold the secret.
2. `file`: the server reads it from a file in memory that only its sandbox has. `NAME_FILE` says where.
3. `environment`: the value in a variable. The server can read it, and so can whoever may look at its process.

There is no fourth: a command line is readable by every user of the machine, so a reference on it is refused.
Headers for servers behind a URL are added by the gate itself (`resolve_headers`).

On the launch path of a server without secrets this module only looks at the strings and imports nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from callgate.errors import SecretError
from callgate.vault.known_tokens import hosts_of as known_hosts
from callgate.vault.known_tokens import prefix_of
from callgate.vault.presence import has_secrets
from callgate.vault.reference import Reference, is_reference, split

if TYPE_CHECKING:
    from callgate.config import SecretConfig
    from callgate.vault.redaction import Redactor
    from callgate.vault.session import Session

__all__ = [
    "FILES_AT",
    "Delivery",
    "Fact",
    "FileSecret",
    "HostsOf",
    "How",
    "Placeholder",
    "ResolvedHeaders",
    "deliver",
    "has_secrets",
    "inline_references",
    "literal_arguments",
    "resolve_headers",
]

How: TypeAlias = Literal["sentinel", "file", "environment", "header"]
HostsOf: TypeAlias = Callable[[str], tuple[str, ...]]

FILES_AT: Final = "/run/secrets"
_ENVIRONMENT_NOTE: Final = "the server can read it, and so can programs of the same user that look at its process"
_PATH_VARIABLES: Final = frozenset({"GOOGLE_APPLICATION_CREDENTIALS", "KUBECONFIG", "AWS_SHARED_CREDENTIALS_FILE"})


@dataclass(frozen=True, slots=True)
class FileSecret:
    """A secret that the sandbox shows as the file `name` in `FILES_AT`."""

    name: str
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A stand-in and what the egress gate puts in its place, towards `hosts` only."""

    name: str
    placeholder: str = field(repr=False)
    value: bytes = field(repr=False)
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fact:
    """What evidence and people may know of one secret: never its value.

    `scheme` is the store's, or `literal` for a credential that stands in the configuration in plain text.
    """

    name: str
    scheme: str
    how: How
    hosts: tuple[str, ...] = ()
    readable_by_server: bool = True
    note: str = ""

    def record(self) -> dict[str, object]:
        """The members of an evidence record."""
        return {
            "delivered": self.how,
            "hosts": list(self.hosts),
            "name": self.name,
            "note": self.note,
            "readable_by_server": self.readable_by_server,
            "store": self.scheme,
        }


@dataclass(frozen=True, slots=True)
class _Piece:
    """One reference inside a variable, with the stand-in it keeps for as long as the server runs."""

    reference: Reference
    how: How
    placeholder: str = field(default="", repr=False)
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivery:
    """Everything a launch needs to know of a server's secrets. No repr shows a value."""

    environment: Mapping[str, str] = field(repr=False)
    """The whole environment by value, with stand-ins and file names in it."""
    secret_files: tuple[FileSecret, ...] = ()
    sentinels: tuple[Placeholder, ...] = ()
    redactor: Redactor | None = None
    """What to take out of all the server says; None where there is nothing. Register it in `vault.active`."""
    facts: tuple[Fact, ...] = ()
    notices: tuple[str, ...] = ()
    """One line each for the person who starts the server."""
    _pieces: tuple[tuple[str, _Piece], ...] = field(default=(), repr=False)

    def renewed(self, session: Session) -> Delivery:
        """The same with the values of now: for `Session.on_change`. Stand-ins stay, a server's environment cannot."""
        from callgate.vault.redaction import Redactor

        values = [(name, session.get(piece.reference).value) for name, piece in self._pieces]
        sentinels = tuple(
            Placeholder(name, piece.placeholder, value, piece.hosts)
            for (name, piece), (_, value) in zip(self._pieces, values, strict=True)
            if piece.how == "sentinel"
        )
        redactor = Redactor(values) if self.redactor is None else self.redactor | Redactor(values)
        return Delivery(
            self.environment, self.secret_files, sentinels, redactor, self.facts, self.notices, self._pieces
        )


def inline_references(environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """References that stand in variables themselves, as (variable, reference): whoever wrote those chose the secret.

    A project's configuration may be a stranger's; ask here before anything is resolved. Raises SecretError.
    """
    return tuple(
        (name, part.text)
        for name, text in environment.items()
        if is_reference(text)
        for part in split(text)
        if isinstance(part, Reference)
    )


def deliver(
    environment: Mapping[str, str],
    declared: Mapping[str, SecretConfig],
    session: Session | None,
    *,
    gated: bool,
    hosts_of: HostsOf = known_hosts,
    files_at: str = FILES_AT,
    only: Collection[str] | None = None,
) -> Delivery:
    """Resolve what a server needs and say how each secret reaches it.

    `environment` is by value and may hold references; `declared` comes from the configuration and wins. `session` may
    be None where `has_secrets` is false. `gated`: the sandbox has an egress gate that swaps stand-ins. `files_at`:
    where the sandbox shows files, or '' where it cannot. `only`: variables whose references are meant for this server;
    others pass as they are, since an environment that is inherited whole may hold references for other programs.

    Raises SecretError: nothing falls down the ladder in silence.
    """
    if not has_secrets(environment, declared):
        return _without_references(environment)
    if session is None:
        raise SecretError("there are references to secrets, but no session to resolve them", next_step="open a Session")
    run = _Run(session, gated, hosts_of, files_at)
    for name, text in environment.items():
        if name in declared:
            continue
        if only is None or name in only:
            run.variable(name, text, "auto", ())
        else:
            run.inherited(name, text)
    for name, config in declared.items():
        run.declared(name, config)
    return run.delivery()


def _without_references(environment: Mapping[str, str]) -> Delivery:
    literals = [(name, value) for name, value in environment.items() if prefix_of(value)]
    if not literals:
        return Delivery(environment)
    from callgate.vault.redaction import Redactor

    return Delivery(
        environment,
        redactor=Redactor((name, _bytes(value)) for name, value in literals),
        facts=tuple(_literal_fact(name) for name, _ in literals),
        notices=tuple(_literal_notice(name) for name, _ in literals),
    )


class _Run:
    """One delivery in the making."""

    def __init__(self, session: Session, gated: bool, hosts_of: HostsOf, files_at: str) -> None:
        self._session = session
        self._gated = gated
        self._hosts_of = hosts_of
        self._files_at = files_at
        self._environment: dict[str, str] = {}
        self._files: list[FileSecret] = []
        self._sentinels: list[Placeholder] = []
        self._values: list[tuple[str, bytes]] = []
        self._facts: list[Fact] = []
        self._notices: list[str] = []
        self._pieces: list[tuple[str, _Piece]] = []

    def delivery(self) -> Delivery:
        from callgate.vault.redaction import Redactor

        redactor = Redactor(self._values) if self._values else None
        if redactor is not None and redactor.unrecognised:
            names = ", ".join(redactor.unrecognised)
            self._notices.append(f"too short or too plain to be taken out of what the server says: {names}")
        return Delivery(
            self._environment,
            tuple(self._files),
            tuple(self._sentinels),
            redactor,
            tuple(self._facts),
            tuple(self._notices),
            tuple(self._pieces),
        )

    def declared(self, name: str, config: SecretConfig) -> None:
        """A secret of the configuration."""
        if not name or "=" in name or "\0" in name:
            raise SecretError(
                "a secret needs the name of a variable", next_step="write [servers.NAME.secrets.VARIABLE]"
            )
        for host in config.hosts:
            if not _is_host(host):
                raise SecretError(
                    f"the secret {name}: a host it may go to is not a name, or is every host",
                    next_step='name them: hosts = ["api.example.com"] or ["*.example.com"]',
                )
        text = config.ref
        if text.startswith("file://"):  # in this place no URL can be meant
            text = f"<{text}>"
        if not is_reference(text):
            raise SecretError(
                f"the secret {name} is not kept behind a reference, but stands in the configuration itself",
                next_step="store it and name its place: callgate secrets move",
            )
        if config.deliver == "file":
            self._file(name, text)
        else:
            self.variable(name, text, config.deliver, config.hosts)

    def inherited(self, name: str, text: str) -> None:
        """A variable that was not meant for this server: it stays as it is."""
        self._environment[name] = text

    def variable(self, name: str, text: str, wish: str, hosts: tuple[str, ...]) -> None:
        """A variable, with whatever references are in its text."""
        if not is_reference(text):
            self._environment[name] = text
            if prefix_of(text):
                self._values.append((name, _bytes(text)))
                self._facts.append(_literal_fact(name))
                self._notices.append(_literal_notice(name))
            return
        out: list[str] = []
        for part in split(text):
            if isinstance(part, str):
                out.append(part)
                continue
            value = self._resolve(name, part)
            piece = self._choose(name, part, value, wish, hosts)
            self._pieces.append((name, piece))
            if piece.how == "sentinel":
                self._sentinels.append(Placeholder(name, piece.placeholder, value, piece.hosts))
                out.append(piece.placeholder)
            elif b"\0" in value:
                raise SecretError(
                    f"the secret {_shown(name)} holds a NUL byte, which no variable can",
                    next_step='check what is stored, or say deliver = "file"',
                )
            else:
                out.append(_text(value))
        self._environment[name] = "".join(out)

    def _choose(self, name: str, reference: Reference, value: bytes, wish: str, hosts: tuple[str, ...]) -> _Piece:
        from callgate.vault.sentinels import placeholder, why_not

        note = _ENVIRONMENT_NOTE
        if wish != "environment":
            known = hosts or self._hosts_of(_text(value))
            reason = why_not(name, value)
            if not self._gated:
                reason = "this server's sandbox has no egress gate"
            elif not known:
                reason = "it is not said where it may go (hosts = [...])"
            if not reason:
                self._facts.append(Fact(name, reference.scheme, "sentinel", known, readable_by_server=False))
                return _Piece(reference, "sentinel", placeholder(value), known)
            if wish == "sentinel":
                raise SecretError(
                    f"the secret {name} cannot be delivered as a sentinel: {reason}",
                    next_step='name its hosts and use a sandbox with an egress gate, or say deliver = "environment"',
                )
            note = f"{note}; no sentinel, because {reason}"
        self._facts.append(Fact(name, reference.scheme, "environment", note=note))
        return _Piece(reference, "environment")

    def _file(self, name: str, text: str) -> None:
        if not self._files_at:
            raise SecretError(
                f"the secret {name} cannot be delivered as a file: this server's sandbox cannot show one",
                next_step='use the bubblewrap sandbox or a container, or say deliver = "environment"',
            )
        if not name.replace("_", "").isalnum() or not name.isascii():
            raise SecretError("a secret in a file needs a name of A-Z a-z 0-9 _", next_step="rename the variable")
        out: list[bytes] = []
        for part in split(text):
            if isinstance(part, str):
                out.append(_bytes(part))
            else:
                out.append(self._resolve(name, part))
                self._facts.append(Fact(name, part.scheme, "file", note="the server can read it"))
                self._pieces.append((name, _Piece(part, "file")))
        points_itself = name.endswith("_FILE") or name in _PATH_VARIABLES
        self._files.append(FileSecret(name, b"".join(out)))
        self._environment[name if points_itself else f"{name}_FILE"] = f"{self._files_at}/{name}"

    def _resolve(self, name: str, reference: Reference) -> bytes:
        value = self._session.get(reference).value
        self._values.append((name, value))
        return value


@dataclass(frozen=True, slots=True)
class ResolvedHeaders:
    """Headers the gate adds towards a server behind a URL."""

    headers: Mapping[str, str] = field(repr=False)
    redactor: Redactor | None = None
    facts: tuple[Fact, ...] = ()
    notices: tuple[str, ...] = ()


def resolve_headers(headers: Mapping[str, str], session: Session | None) -> ResolvedHeaders:
    """`headers` with their references resolved. `session` may be None where there are none. Raises SecretError."""
    found: dict[str, str] = {}
    values: list[tuple[str, bytes]] = []
    facts: list[Fact] = []
    notices: list[str] = []
    for name, text in headers.items():
        if not is_reference(text):
            found[name] = text
            words = [word for word in text.split() if prefix_of(word)]
            if words:
                values += [(name, _bytes(word)) for word in words]
                facts.append(Fact(name, "literal", "header"))
                notices.append(_literal_notice(name))
            continue
        if session is None:
            raise SecretError("there are references in headers, but no session", next_step="open a Session")
        out: list[str] = []
        for part in split(text):
            if isinstance(part, str):
                out.append(part)
                continue
            value = session.get(part).value
            if not value.isascii() or not value.decode("ascii").isprintable():
                raise SecretError(
                    f"{part.text} is not one line of ASCII, so it cannot stand in the header {_shown(name)}",
                    next_step="check what is stored, and whether a key (#name) is missing",
                )
            values.append((name, value))
            facts.append(Fact(name, part.scheme, "header", note="added by the gate"))
            out.append(value.decode("ascii"))
        found[name] = "".join(out)
    if not values:
        return ResolvedHeaders(headers)
    from callgate.vault.redaction import Redactor

    return ResolvedHeaders(found, Redactor(values), tuple(facts), tuple(notices))


def literal_arguments(argv: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Notices for credentials that stand on a server's command line, by the number of the argument."""
    return tuple(
        f"argument {number} of the server's command is a credential, readable by every user of this machine: "
        "give it in a variable, kept behind a reference"
        for number, word in enumerate(argv)
        if prefix_of(word) or prefix_of(word.partition("=")[2])
    )


def _literal_fact(name: str) -> Fact:
    return Fact(name, "literal", "environment", note=_ENVIRONMENT_NOTE)


def _literal_notice(name: str) -> str:
    return f"{_shown(name)} holds a credential in plain text; callgate secrets move puts it where it is not lying about"


def _shown(name: str) -> str:
    from callgate.text import visible

    return visible(name, 80)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _is_host(host: str) -> bool:
    """A lower-case DNS name with at least two labels, or `*.` and one such."""
    labels = host.removeprefix("*.").split(".")
    return (
        len(host) <= 253
        and len(labels) > 1
        and all(
            0 < len(label) <= 63
            and not label.startswith("-")
            and not label.endswith("-")
            and all(char in "abcdefghijklmnopqrstuvwxyz0123456789-" for char in label)
            for label in labels
        )
    )
