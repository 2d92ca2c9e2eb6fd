"""What the actions of `callgate trust` share: their options, the servers meant, questions."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from callgate.cli import asked
from callgate.cli.settled import settle
from callgate.config import Config
from callgate.config.places import state_directory
from callgate.config.reader import configured
from callgate.errors import CallgateError, ConfigError
from callgate.supply import known_locks, lockfile
from callgate.supply.code_diff import CodeDiff, summary
from callgate.supply.lockfile import LockedServer
from callgate.supply.resolve import Options
from callgate.text import visible

EXIT_OK, EXIT_NO = 0, 1
SHOWN = 40
"""Changes printed of one update; --all prints every one."""


@dataclass(frozen=True, slots=True)
class Place:
    """Configuration, state directory and lock of one invocation."""

    config: Config
    state: Path
    lock: Path
    cwd: Path

    @property
    def own(self) -> bool:
        """Whether it is the user's own lock, which nobody else writes."""
        return self.lock.absolute() == (self.state / lockfile.FILE_NAME).absolute()


def parser(name: str, what: str) -> argparse.ArgumentParser:
    """A parser with the options that every action has."""
    made = argparse.ArgumentParser(
        prog=f"callgate trust {name}", description=what, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--config", metavar="FILE", default="", help="the configuration to use")
    made.add_argument("--project", metavar="DIR", default="", help="the lock of a project: DIR/callgate.lock")
    return made


def fetching(made: argparse.ArgumentParser) -> None:
    """Options of the actions that ask a registry."""
    made.add_argument("--no-cooldown", action="store_true", help="take releases that are only days old too")
    made.add_argument(
        "--allow-sdist", action="store_true", help="build Python packages that have no wheels: runs their code here"
    )
    made.add_argument("--no-provenance", action="store_true", help="do not ask the registry who built a package")
    made.add_argument("--yes", action="store_true", help="do not ask")


def place(arguments: argparse.Namespace) -> Place:
    """Where things are. Raises ConfigError."""
    config = configured(arguments.config)
    state = state_directory(config)
    settle(config, state)
    if not arguments.project:
        return Place(config, state, state / lockfile.FILE_NAME, Path.cwd())
    folder = Path(arguments.project)
    if not folder.is_dir():
        raise ConfigError(f"there is no directory {visible(arguments.project, 200)}", next_step="check the path")
    folder = folder.absolute()
    known_locks.remember(state, folder / lockfile.FILE_NAME)
    return Place(config, state, folder / lockfile.FILE_NAME, folder)


def options(arguments: argparse.Namespace, where: Place, version: str = "") -> Options:
    """How to lock, from the command line and the configuration."""
    return Options(
        cooldown_days=where.config.launch.cooldown_days,
        no_cooldown=arguments.no_cooldown,
        allow_sdist=arguments.allow_sdist,
        version=version,
        cwd=where.cwd,
        no_provenance=arguments.no_provenance,
        own=where.own,
    )


def chosen(where: Place, names: Sequence[str]) -> list[LockedServer]:
    """The locked servers of these names; none: all. Raises ConfigError."""
    lock = lockfile.load(where.lock)
    for name in names:
        if name not in lock.servers:
            raise ConfigError(
                f"{visible(str(where.lock), 200)} has no server {visible(name, 80)!r}",
                next_step=f"pin it: callgate trust lock {visible(name, 80)}",
            )
    return [lock.servers[name] for name in (names or sorted(lock.servers))]


def confirmed(question: str, *, yes: bool) -> bool:
    """The answer of a person, or --yes. Raises ConfigError where nobody can be asked."""
    return asked.confirmed(
        question, yes=yes, effect="nothing was taken", next_step="look at it, then repeat with --yes"
    )


@contextmanager
def told(doing: str) -> Iterator[None]:
    """Say on a terminal what takes seconds."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{doing}...\r")
        sys.stderr.flush()
    yield
    if sys.stderr.isatty():
        sys.stderr.write(f"{' ' * (len(doing) + 3)}\r")


def say(text: str, indent: int = 2) -> None:
    """Print a sentence, wrapped for a terminal of 80 columns; a long word stays whole."""
    space = " " * indent
    wrapped = textwrap.fill(
        text, 78, initial_indent=space, subsequent_indent=space, break_long_words=False, break_on_hyphens=False
    )
    print(wrapped)


def say_error(error: CallgateError, indent: int = 2) -> None:
    """What is wrong, and what to do."""
    say(error.what, indent)
    if error.next_step:
        say(f"next: {error.next_step}", indent)


def title(server: LockedServer) -> str:
    """Name, artefact and version on one line."""
    if server.kind in ("local", "binary"):
        return f"{visible(server.name, 64)}: {visible(server.package, 120)}"
    version = server.version if len(server.version) < 40 else server.version[:19]
    return f"{visible(server.name, 64)}: {visible(server.package, 120)} {visible(version, 60)}"


def show_diff(diff: CodeDiff, *, every: bool = False) -> None:
    """The changes of a release, the most telling first."""
    print(f"  code: {diff.files} files added or changed; new: {summary(diff.changes)}")
    kind = ""
    for one in diff.changes if every else diff.changes[:SHOWN]:
        if one.kind != kind:
            kind = one.kind
            print(f"  {kind}")
        print(f"    {one.what}" + (f"  {one.where}" if one.where and one.where != one.what else ""))
        if one.text and kind in ("host", "mail", "exec", "secrets", "dynamic", "environment", "files"):
            print(f"      | {one.text[:68]}")
    rest = diff.more + (0 if every else max(0, len(diff.changes) - SHOWN))
    if rest:
        print(f"  and {rest} more (--all shows up to 200)")
    for path in diff.unread:
        print(f"  not looked at: {path}")
