"""Whether the server of an MCP tool call starts behind the gate, from what the client's files say now.

Standard JSON and TOML are read at once; JSON with comments by the slower reader. Of several entries that could be
meant, all must be behind the gate: which of them the client took is not to be seen from here.
"""

from __future__ import annotations

import os

from callgate.clients.hook_snapshot import HookError
from callgate.clients.steering import HARMLESS, options, takes_over, unnamed, users_alone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from callgate.clients.hook_snapshot import Snapshot

MAX_BYTES = 32 * 1024 * 1024
MAX_PARENTS = 64
_PYTHON_OPTIONS = frozenset(["-E", "-P", "-B", "-s", "-u"])


def judge_tool(client: str, tool: str, cwd: str, snapshot: Snapshot, server: str = "") -> tuple[str, str] | None:
    """What is wrong with calling `mcp__SERVER__TOOL`: rule and text; None where its server is behind the gate.

    `server` is its name where the client tells it. Raises HookError where the client's files cannot be read.
    """
    called = tool.removeprefix("mcp__")
    if server and called.startswith(normal(server) + "__"):
        return judge_server(client, server, cwd, snapshot)
    matching = [one for one in _declared(client, cwd, snapshot) if called.startswith(one[0] + "__")]
    if not matching:
        return "hook-unknown-server", f"{tool}: its server is in no file that callgate knows"
    # `a__b__c` may be tool `b__c` of server `a`, or tool `c` of `a__b`: every server it may be must be wrapped.
    open_ones = [name for name, entry, _ in matching if not _behind(entry, snapshot)]
    if open_ones:
        return "hook-open-server", f"{tool}: server {max(open_ones, key=len)} is not behind the gate"
    return _weakened(matching, snapshot)


def judge_server(client: str, server: str, cwd: str, snapshot: Snapshot) -> tuple[str, str] | None:
    """As `judge_tool`, where the client says which server it asks. Every entry of that name must be wrapped."""
    name = normal(server)
    matching = [one for one in _declared(client, cwd, snapshot) if one[0] == name]
    if not matching:
        return "hook-unknown-server", f"server {server} is in no file that callgate knows"
    if not all(_behind(entry, snapshot) for _, entry, _ in matching):
        return "hook-open-server", f"server {server} is not behind the gate"
    return _weakened(matching, snapshot)


def judge_command(command: str, snapshot: Snapshot) -> tuple[str, str] | None:
    """What is wrong with a server that was started by this command line."""
    words = _split(_without_url(command))
    if not _runs_gate(words, snapshot):
        return "hook-open-server", f"the server started by '{command[:200]}' is not behind the gate"
    option = _users_alone(words, snapshot)
    if option and command not in _own_lines(snapshot):
        return "hook-project-options", f"the server started by '{command[:200]}' is started with {option[:200]}"
    return None


def judge_url(url: str, snapshot: Snapshot) -> tuple[str, str] | None:
    """What is wrong with a server at this URL."""
    if url.startswith(snapshot.gateways) and snapshot.gateways:
        return None
    return "hook-open-server", f"the server at {url.partition('?')[0][:200]} is not behind the gate"


def normal(name: str) -> str:
    """A server's name as it stands in the names of its tools."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in name)


def _weakened(matching: list[tuple[str, dict[str, Any], bool]], snapshot: Snapshot) -> tuple[str, str] | None:
    """What is wrong with entries of projects that start the gate: what they say of it only the user may say."""
    for name, entry, of_project in matching:
        if of_project and (option := _users_alone(_words(entry), snapshot)):
            return "hook-project-options", f"server {name}: a file of the project starts it with {option[:200]}"
    return None


def _users_alone(words: list[str], snapshot: Snapshot) -> str:
    known = {"--config": snapshot.configurations, "--state": (snapshot.state,)}

    def own(option: str, path: str) -> bool:
        return os.path.isabs(path) and snapshot.folded(os.path.realpath(path)) in known[option]

    return users_alone(options(_behind_run(words)), own)


def _behind_run(words: list[str]) -> list[str]:
    """What stands behind `callgate run`; the first `run` there is, since only `env` and the gate stand before."""
    return words[words.index("run") + 1 :] if "run" in words else []


def _own_lines(snapshot: Snapshot) -> set[str]:
    """The command lines of the user's own files, as Cursor joins them."""
    places = [place for place in snapshot.places["cursor"] if not place["project"]]
    return {" ".join(_words(entry)) for place in places for _, entry, _ in _servers_of(place, "")}


def _declared(client: str, cwd: str, snapshot: Snapshot) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Servers by the name their tools carry, of every file that counts in this directory; whether it is a project's."""
    for place in snapshot.places[client]:
        yield from _servers_of(place, cwd)


def _servers_of(place: dict[str, Any], cwd: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    for path in _paths(place, cwd):
        document = _read(path, place["format"])
        for keys, servers in _under(document, place["keys"], ()):
            if "*" in place["keys"] and not _within(cwd, keys[place["keys"].index("*")]):
                continue
            for name, entry in servers.items():
                if type(entry) is dict and entry:
                    yield normal(name), entry, place["project"]


def _paths(place: dict[str, Any], cwd: str) -> Iterator[str]:
    path = place["path"]
    if place["project"]:
        folder = cwd
        for _ in range(MAX_PARENTS):
            full = os.path.join(folder, path)
            if os.path.isfile(full):
                yield full
            above = os.path.dirname(folder)
            if above == folder:
                return
            folder = above
    elif "*" in path:
        yield from _matching("", path.split("/"))
    elif os.path.isfile(path):
        yield path


def _matching(folder: str, parts: list[str]) -> Iterator[str]:
    """The files of a pattern in which `*` stands for a name or a part of one: `glob` is slow to import."""
    for at, part in enumerate(parts):
        if "*" not in part:
            folder = f"{folder}/{part}" if at else folder
            continue
        head, _, tail = part.partition("*")
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            return
        for name in names:
            if name.startswith(head) and name.endswith(tail) and len(name) >= len(head) + len(tail):
                yield from _matching(f"{folder}/{name}", ["", *parts[at + 1 :]])
        return
    folder = folder.rstrip("/")
    if os.path.isfile(folder):
        yield folder


def _read(path: str, format_: str) -> Any:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise HookError(f"a file of the client cannot be read: {os.path.basename(path)}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise HookError(f"a file of the client is too large: {os.path.basename(path)}")
    try:
        if format_ == "toml":
            import tomllib

            return tomllib.loads(data.decode())
        from jiter import from_json

        return from_json(data, catch_duplicate_keys=True) if data.strip() else {}
    except (ValueError, RecursionError):
        return _read_slowly(path, format_, data)


def _read_slowly(path: str, format_: str, data: bytes) -> Any:
    """JSON with comments and trailing commas."""
    from callgate.clients.formats import parse
    from callgate.clients.tree import ClientFileError, Node

    def python(node: Node) -> Any:
        if node.kind == "map":
            return {member.key: python(member.node) for member in node.members}
        if node.kind == "list":
            return [python(item) for item in node.items]
        return node.text

    try:
        return python(parse("toml" if format_ == "toml" else "json", data.decode().removeprefix("\ufeff")))
    except (ClientFileError, UnicodeDecodeError) as error:
        raise HookError(f"a file of the client does not parse: {os.path.basename(path)}") from error


def _under(value: Any, keys: list[str], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    if type(value) is not dict:
        return
    if not keys:
        yield above, value
    elif keys[0] == "*":
        for key, inner in value.items():
            yield from _under(inner, keys[1:], (*above, key))
    elif keys[0] in value:
        yield from _under(value[keys[0]], keys[1:], (*above, keys[0]))


def _within(cwd: str, folder: str) -> bool:
    return cwd == folder or cwd.startswith(folder.rstrip("/") + "/")


def _behind(entry: dict[str, Any], snapshot: Snapshot) -> bool:
    command = entry.get("command")
    if isinstance(command, str) and command:
        given = entry.get("env")
        names = list(given) if isinstance(given, dict) else []
        if not _arguments(entry) and (not os.path.isabs(command) or os.path.lexists(command)):
            return False  # a client may take it whole, as the path of a program: `callgate run x/evil`
        return _runs_gate(_words(entry), snapshot, names)
    url = entry.get("url")
    return isinstance(url, str) and bool(snapshot.gateways) and url.startswith(snapshot.gateways)


def _words(entry: dict[str, Any]) -> list[str]:
    """What an entry starts, as words."""
    command = entry.get("command")
    if not isinstance(command, str):
        return []
    arguments = _arguments(entry)
    return [command, *arguments] if arguments else _split(command)


def _arguments(entry: dict[str, Any]) -> list[str]:
    arguments = entry.get("args")
    return [one for one in arguments if isinstance(one, str)] if isinstance(arguments, list) else []


def _runs_gate(words: list[str], snapshot: Snapshot, names: list[str] | None = None) -> bool:
    """Whether the words start this callgate's `run`: by its own path, or by name, with nothing but `env` before.

    `names` are the variables it is started with. It is not this callgate's code that runs where one of them, or one
    of `env`, says what else is loaded, or where a name is looked for.
    """
    names = list(names or ())
    if words and os.path.basename(words[0]) == "env":
        words = words[1:]
        while words and "=" in words[0]:
            names.append(words[0].partition("=")[0])
            words = words[1:]
    program = words[0] if words else ""
    if takes_over(names) or unnamed(names, [option for option, _ in options(_behind_run(words))]):
        return False
    if snapshot.folded(program) in snapshot.pythons:
        at = 1
        while words[at : at + 1] and words[at] in _PYTHON_OPTIONS:
            at += 1
        # Without -P a `callgate` in the working directory, which may be a project's, would be loaded in its place.
        plain = {"-E", "-P"} <= set(words[1:at])
        return words[at : at + 3] == ["-m", "callgate.cli.main", "run"] and plain
    if words[1:2] != ["run"] or _steered(names):
        return False
    if program == "callgate":
        return "PATH" not in names
    return snapshot.folded(program) in snapshot.programs or (
        os.path.isabs(program) and snapshot.folded(os.path.realpath(program)) in snapshot.programs
    )


def _steered(names: list[str]) -> bool:
    return any(name.startswith("PYTHON") and name not in HARMLESS for name in names)


def _without_url(command: str) -> str:
    """A command line without the URL at its end, where that stands unquoted with `?a=b&c=<age://d>`.

    Cursor joins words with blanks. A URL is left to be judged where a shell, were there one, would start something.
    """
    head, found, url = command.rpartition(" --url ")
    plain = not set(url) & set(" \t\n'\"`$;|()\\")
    return f"{head} --url" if found and plain and all("=" in part for part in url.split("&")[1:]) else command


def _split(command: str) -> list[str]:
    from callgate.clients.hook_shell import commands

    found = commands(command)
    return found[0].words if found is not None and len(found) == 1 and not found[0].writes else []
