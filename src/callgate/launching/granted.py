"""A secret goes only to the starts it was granted to: asked before any store is.

| where the reference stands | it needs |
|---|---|
| the user's own `callgate.toml`, at a server with a command or a URL | nothing, for that command or URL as it stands |
| the user's own lock, or a signed one | nothing, for the command that was locked |
| variables of `callgate run`, its `--url`, another configuration | a grant (`vault.grants`) |

"As it stands" ends where the start adds to it: variables (`--env`), `--sandbox none`, a program that only PATH or
the working directory finds. `callgate serve` starts what the operator configured: nothing of it comes from an entry.
"""

from __future__ import annotations

import os

from callgate.errors import SecretError
from callgate.launching import own
from callgate.launching.circumstances import Circumstances, configuration, place
from callgate.vault import grants
from callgate.vault.reference import Reference, is_reference, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from callgate.config import Config, SecretConfig
    from callgate.launching.pinned import Pinning
    from callgate.launching.plan import Wish
    from callgate.vault.grants import Grants


def check_command(
    config: Config,
    wish: Wish,
    pinned: Pinning,
    environment: Mapping[str, str],
    only: Collection[str] | None,
    state: str | Path,
    *,
    unconfined: bool,
) -> None:
    """Raises SecretError where a reference is not granted to this start. `only`: variables that are resolved at all."""
    found = grants.read(state)
    server = config.servers.get(wish.name)
    around = circumstances(config, wish, pinned, found, unconfined=unconfined)
    settings: Mapping[str, SecretConfig] = server.secrets if server is not None else {}
    as_it_stands = around.plain and wish.sandbox != "none"
    mine = not around.configuration
    said = as_it_stands and mine and server is not None and server.command == wish.command
    locked = as_it_stands and (mine if config.launch.signers else own.state(state, found))
    declared = settings.keys() | pinned.secrets.keys()  # these come in the place of what the environment has
    wanted = [text for name, text in environment.items() if name not in declared and (only is None or name in only)]
    wanted += [_embedded(one.ref) for one in settings.values() if not said]
    wanted += [_embedded(one.ref) for name, one in pinned.secrets.items() if name not in settings and not locked]
    seal = ""
    for reference in references(wanted):
        seal = seal or grants.seal(state)
        start = around.start(seal, reference, wish.variables)
        if (reference, start, wish.command, "") not in found.grants:
            near = found.near(reference, wish.command, "")
            raise _refused(reference, start, wish.command, "", state, config, around, near=near)


def circumstances(config: Config, wish: Wish, pinned: Pinning, found: Grants, *, unconfined: bool) -> Circumstances:
    """Those of this start."""
    locked = pinned.facts.get("state") != "unpinned"
    path = wish.variables.get("PATH") or os.defpath
    program, directory = place(wish.command, wish.cwd, path, locked=locked)
    return Circumstances(
        variables=named(wish.variables, names_for(config, wish.name, wish.command, wish.names)),
        program=program,
        directory=directory,
        unconfined=unconfined,
        configuration="" if own.configuration(config.source, found) else configuration(config.source),
    )


def names_for(config: Config, name: str, command: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """The variables that a start names, by itself and by the name that it chose.

    Those of settings that have this very command are the user's word, and no choice of an entry.
    """
    server = config.servers.get(name)
    return names if server is None or server.command == command else (*names, *server.sandbox.environment)


def named(variables: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """What `--env` gives: `NAME`, or `NAME*` for all that begin so."""
    names = tuple(names)
    starts = tuple(name[:-1] for name in names if name.endswith("*"))
    return {name: text for name, text in variables.items() if name in names or (starts and name.startswith(starts))}


def check_url(config: Config, name: str, url: str, state: Path, environ: Mapping[str, str] = os.environ) -> None:
    """The same for a server behind a URL: for the references in it, and for the headers of that name."""
    server = config.servers.get(name)
    headers = tuple(server.headers.values()) if server is not None else ()
    if not any(map(is_reference, (url, *headers))):
        return
    found = grants.read(state)
    mine = own.configuration(config.source, found)
    around = Circumstances(configuration="" if mine else configuration(config.source))
    said = mine and server is not None and server.url == url
    target = without_query(url)
    for reference in references((url, *(() if said else headers))):
        start = around.start(grants.seal(state), reference, environ)
        if (reference, start, (), target) not in found.grants:
            near = found.near(reference, (), target)
            raise _refused(reference, start, (), target, state, config, around, near=near)


def check_settings(config: Config, state: Path) -> None:
    """For a configuration that lay in the working directory: its references count where it is the user's own."""
    texts = [text for one in config.servers.values() for text in (*one.environment.values(), *one.headers.values())]
    texts += [_embedded(one.ref) for server in config.servers.values() for one in server.secrets.values()]
    if not any(map(is_reference, texts)):
        return
    if not own.configuration(config.source, grants.read(state)):
        from callgate.text import visible

        raise SecretError(
            f"{visible(config.source, 200)} in this directory names secrets, and may have come with a project",
            effect="nothing was started, and no store was asked",
            next_step=f"if it is yours: callgate serve --config {visible(config.source, 200)}",
        )


def without_query(url: str) -> str:
    """Origin and path: what a grant for a URL names."""
    return url.partition("#")[0].partition("?")[0]


def references(texts: Iterable[str]) -> Iterator[str]:
    """The references in these. Raises SecretError for one that cannot be one."""
    for text in texts:
        if is_reference(text):
            yield from (part.text for part in split(text) if isinstance(part, Reference))


def _embedded(ref: str) -> str:
    """In `ref` of a secret no URL can be meant."""
    return f"<{ref}>" if ref.startswith("file://") else ref


def _told(around: Circumstances) -> str:
    from callgate.text import visible

    words = []
    if around.variables:
        words.append("the variables " + ", ".join(visible(name, 60) for name in sorted(around.variables)[:20]))
    if around.program:
        words.append("the program " + visible(around.program, 200))
    if around.directory:
        words.append("the directory " + visible(around.directory, 200))
    if around.configuration:
        words.append("a configuration that is not yours")
    if around.unconfined:
        words.append("no sandbox")
    return ", ".join(words)


def _refused(
    reference: str,
    start: str,
    command: tuple[str, ...],
    url: str,
    state: str | Path,
    config: Config,
    around: Circumstances,
    *,
    near: bool,
) -> SecretError:
    import shlex

    from callgate.text import visible

    what = f"{visible(reference, 200)} was not granted to this {'URL' if url else 'command'}"
    if told := _told(around):
        what += f", started as it is: with {told}"
    if near:
        what += " (it was granted to it otherwise)"
    usual = os.path.realpath(state) == os.path.realpath(own.usual("state"))
    where = () if usual else ("--state", os.path.abspath(state))
    words = ("callgate", "secrets", "grant", reference, "--start", start, *where)
    target = shlex.join((*words, *(("--url", url) if url else ("--", *command))))
    if _holds_a_secret(command or (url,)):
        target = f"{shlex.join(words)} and its command or URL, which holds a credential and is not shown"
    next_step = f"only if you want this server to have that secret: {visible(target, 4000)}"
    if around.configuration:
        yours = shlex.join(("callgate", "secrets", "grant", "--config", os.path.abspath(config.source), *where))
        next_step = f"if those settings are yours: {visible(yours, 1000)} ; {next_step}"
    return SecretError(what, effect="the server was not started, and no store was asked", next_step=next_step)


def _holds_a_secret(command: tuple[str, ...]) -> bool:
    from callgate.detect.credentials import in_words

    return any(True for _ in in_words(list(command)))
