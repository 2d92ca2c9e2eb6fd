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
from typing import TYPE_CHECKING, Final, TypeAlias

from callgate.errors import SecretError
from callgate.vault.delivered import (
    ENVIRONMENT_NOTE,
    FILES_AT,
    Delivery,
    Fact,
    FileSecret,
    How,
    Piece,
    Placeholder,
    as_bytes,
    as_text,
    literal_fact,
    literal_notice,
    shown,
)
from callgate.vault.headers import ResolvedHeaders, resolve_headers
from callgate.vault.known_tokens import hosts_of as known_hosts
from callgate.vault.known_tokens import prefix_of
from callgate.vault.presence import has_secrets
from callgate.vault.reference import Reference, is_reference, split

if TYPE_CHECKING:
    from callgate.config import SecretConfig
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

HostsOf: TypeAlias = Callable[[str], tuple[str, ...]]

_PATH_VARIABLES: Final = frozenset({"GOOGLE_APPLICATION_CREDENTIALS", "KUBECONFIG", "AWS_SHARED_CREDENTIALS_FILE"})


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
        redactor=Redactor((name, as_bytes(value)) for name, value in literals),
        facts=tuple(literal_fact(name) for name, _ in literals),
        notices=tuple(literal_notice(name) for name, _ in literals),
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
        self._pieces: list[tuple[str, Piece]] = []

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
                self._values.append((name, as_bytes(text)))
                self._facts.append(literal_fact(name))
                self._notices.append(literal_notice(name))
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
                    f"the secret {shown(name)} holds a NUL byte, which no variable can",
                    next_step='check what is stored, or say deliver = "file"',
                )
            else:
                out.append(as_text(value))
        self._environment[name] = "".join(out)

    def _choose(self, name: str, reference: Reference, value: bytes, wish: str, hosts: tuple[str, ...]) -> Piece:
        from callgate.vault.sentinels import placeholder, why_not

        note = ENVIRONMENT_NOTE
        if wish != "environment":
            known = hosts or self._hosts_of(as_text(value))
            reason = why_not(name, value)
            if not self._gated:
                reason = "this server's sandbox has no egress gate"
            elif not known:
                reason = "it is not said where it may go (hosts = [...])"
            if not reason:
                self._facts.append(Fact(name, reference.scheme, "sentinel", known, readable_by_server=False))
                return Piece(reference, "sentinel", placeholder(value), known)
            if wish == "sentinel":
                raise SecretError(
                    f"the secret {name} cannot be delivered as a sentinel: {reason}",
                    next_step='name its hosts and use a sandbox with an egress gate, or say deliver = "environment"',
                )
            note = f"{note}; no sentinel, because {reason}"
        self._facts.append(Fact(name, reference.scheme, "environment", note=note))
        return Piece(reference, "environment")

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
                out.append(as_bytes(part))
            else:
                out.append(self._resolve(name, part))
                self._facts.append(Fact(name, part.scheme, "file", note="the server can read it"))
                self._pieces.append((name, Piece(part, "file")))
        points_itself = name.endswith("_FILE") or name in _PATH_VARIABLES
        self._files.append(FileSecret(name, b"".join(out)))
        self._environment[name if points_itself else f"{name}_FILE"] = f"{self._files_at}/{name}"

    def _resolve(self, name: str, reference: Reference) -> bytes:
        value = self._session.get(reference).value
        self._values.append((name, value))
        return value


def literal_arguments(argv: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Notices for credentials that stand on a server's command line, by the number of the argument."""
    return tuple(
        f"argument {number} of the server's command is a credential, readable by every user of this machine: "
        "give it in a variable, kept behind a reference"
        for number, word in enumerate(argv)
        if prefix_of(word) or prefix_of(word.partition("=")[2])
    )


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
