"""What a launch line starts: which package, file, image or URL, in which version, with which words.

`parse` reads the habits of MCP configurations: `npx -y pkg@1 args`, `uvx --from pkg tool`, `docker run -i image`,
`python server.py`, and what people put in front of them (`env A=B`, `cmd /c`, `sh -c "..."`, `timeout 60`,
`npx mcp-remote URL`, `callgate run --`). It runs nothing, opens nothing, and takes any list of words.

| limit | |
|---|---|
| words | 1024 |
| characters of all words | 262144 |
| programs in front of the server | 8 |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal, TypeAlias

from callgate.errors import TrustError
from callgate.text import visible

Kind: TypeAlias = Literal["npm", "pypi", "oci", "mcpb", "local", "remote", "binary"]

MAX_WORDS = 1024
MAX_CHARACTERS = 256 * 1024
MAX_PREFIXES = 8

RULES: Mapping[str, str] = {
    "launch-unpinned": "no exact version or digest is asked for: each start may run other code",
    "launch-url-package": "the package comes from a URL or a repository, not from a registry with digests",
    "launch-extra-package": "further packages are installed into the server's environment",
    "launch-registry-override": "the launch line names a registry or index of its own",
    "launch-alias": "the package is installed under another name",
    "launch-shell-script": "a shell runs more than one plain command",
    "launch-pipe-to-shell": "something is downloaded and run",
    "launch-inline-code": "the launch line itself holds the program's code",
    "launch-code-injection": "a variable or option loads further code into the program",
    "launch-environment": "the launch line sets variables",
    "launch-container-power": "the container gets rights over this machine",
    "launch-container-mount": "the container sees a sensitive place of this machine",
    "launch-all-permissions": "the runtime's own permission checks are switched off",
    "launch-plain-http": "the server is reached without TLS",
    "launch-unknown-option": "an option is not known here: what it takes is a guess",
    "launch-secret-argument": "an argument looks like a secret: every process can read it",
}
"""Rule ids of findings in a launch line, and what each says."""

INJECTING = frozenset(
    """
    NODE_OPTIONS NODE_PATH LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT PYTHONPATH PYTHONSTARTUP PYTHONHOME PYTHONINSPECT
    DYLD_INSERT_LIBRARIES BASH_ENV ENV PERL5OPT RUBYOPT DENO_DIR
    """.split()  # noqa: SIM905 - a table of names reads best as one
)
"""Variables that make a program load code from elsewhere."""


@dataclass(frozen=True, slots=True)
class LaunchNote:
    """One thing to know about a launch line or a package. `rule` is stable, `detail` safe to print."""

    rule: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LaunchLine:
    """What `parse` found. Strings are as they stood in the line: show them through `text.visible`."""

    kind: Kind
    argv: tuple[str, ...]
    """The whole line."""
    package: str = ""
    """npm or PyPI name, image without tag and digest, path of a bundle; empty where there is none."""
    requested: str = ""
    """The version, range, tag or digest that was asked for, as written; empty: none."""
    extras: tuple[str, ...] = ()
    """Extras of a Python package (`pkg[cli]`)."""
    more: tuple[str, ...] = ()
    """Further packages of the same environment, as written."""
    launcher: tuple[str, ...] = ()
    """The words before the package: the runner and its options."""
    arguments: tuple[str, ...] = ()
    """The server's own words."""
    entry: str = ""
    """Program of the package, module, or script; empty: the package's default."""
    program: str = ""
    """What is started for `local` and `binary`: an interpreter or the file itself; the container program for `oci`."""
    runtime: str = ""
    """`node`, `python`, `deno`, `bun`, `container`, or empty for a binary."""
    python: str = ""
    """The Python version that was asked for."""
    directory: str = ""
    """Where the line says it runs (`uv run --directory`)."""
    registry: tuple[str, ...] = ()
    """Options that name a registry or index, for the client that resolves."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Assignments in the line."""
    url: str = ""
    """The remote server behind `mcp-remote` and the like."""
    prefixes: tuple[str, ...] = ()
    """Programs that were unwrapped, outermost first: `env`, `sh`, `timeout`."""
    warnings: tuple[LaunchNote, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of the line, as hexadecimal digits: what a lock is bound to."""
        return line_digest(self.argv)

    @property
    def problem(self) -> str:
        """Why this line cannot be pinned, or ''."""
        rules = {finding.rule: finding.detail for finding in self.warnings}
        for rule in ("launch-pipe-to-shell", "launch-shell-script", "launch-inline-code", "launch-url-package"):
            if rule in rules:
                return RULES[rule]
        if "launch-unknown-option" in rules:
            return f"{RULES['launch-unknown-option']}: {rules['launch-unknown-option']}"
        return ""


def line_digest(argv: Sequence[str]) -> str:
    """SHA-256 over the words, each ended by NUL but the last, as hexadecimal digits."""
    return sha256("\0".join(argv).encode("utf-8", "surrogateescape")).hexdigest()


def parse(argv: Sequence[str]) -> LaunchLine:
    """What `argv` starts. Raises TrustError for a line that is empty, too long, holds NUL, or breaks off."""
    words = tuple(argv)
    if not words or not words[0].strip():
        raise TrustError("the launch line is empty", next_step="give the server's command")
    if len(words) > MAX_WORDS or sum(map(len, words)) > MAX_CHARACTERS:
        raise TrustError(
            f"the launch line has more than {MAX_WORDS} words or {MAX_CHARACTERS} characters",
            next_step="put the arguments into a file of the server's own",
        )
    for word in words:
        if "\0" in word:
            raise TrustError("the launch line holds NUL (U+0000)", next_step="remove it")
        try:
            word.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise TrustError("the launch line is not text", next_step="correct its encoding") from error
    from callgate.supply import launch_prefixes

    line = launch_prefixes.unwrap(words, 0)
    return replace(line, argv=words, warnings=_with_secrets(line, words))


def _with_secrets(line: LaunchLine, words: tuple[str, ...]) -> tuple[LaunchNote, ...]:
    from callgate.supply.launch_secrets import secret_arguments

    found = tuple(LaunchNote("launch-secret-argument", place) for place in secret_arguments(words))
    return tuple(dict.fromkeys(line.warnings + found))


def assigned(environment: Mapping[str, str]) -> tuple[LaunchNote, ...]:
    """Findings about variables that a line sets."""
    found = []
    for name in environment:
        injecting = name.upper() in INJECTING or name.upper().startswith(("LD_", "DYLD_"))
        found.append(LaunchNote("launch-code-injection" if injecting else "launch-environment", visible(name, 60)))
    return tuple(found)
