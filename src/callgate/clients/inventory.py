"""Every MCP server of this machine in one list: declared in a file, running, or listening.

A running process counts as a server when it is what a declared entry starts, when it runs below `callgate run`, or when
its command line has the marks of one. That is recognition, not proof: a server whose command says nothing is missed
unless a client's entry names it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from callgate.clients.entries import entries, gate_at
from callgate.clients.files import read
from callgate.clients.formats import parse
from callgate.clients.machine import Found
from callgate.clients.masking import mask_address, mask_words
from callgate.clients.names import launch_line
from callgate.clients.processes import Listener, Machine, Process
from callgate.clients.tree import ClientFileError

Answer: TypeAlias = Literal["yes", "no", ""]
"""Empty: the question does not arise, or nothing is known."""

_RUNNERS: Final = frozenset(
    {
        *("bash", "bun", "bunx", "cmd", "deno", "docker", "env", "exec", "node", "npm", "npx", "pipx", "podman"),
        *("python", "python3", "run", "sh", "tool", "uv", "uvx", "x"),
    }
)
_CLIENTS: Final = frozenset(
    {
        *("amp", "antigravity", "claude", "claude-desktop", "code", "code-insiders", "codex", "copilot", "cursor"),
        *("gemini", "goose", "kiro", "kiro-cli", "lm-studio", "opencode", "q", "windsurf", "zed", "zed-editor"),
    }
)
"""Names of the programs of clients: what they start, and looks like a server, is theirs."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server. `declared` says where; `pids` and `listening` what runs of it now."""

    name: str
    launches: str
    """The command line or URL, masked."""
    declared: tuple[str, ...] = ()
    wrapped: Answer = ""
    pinned: Answer = ""
    sandboxed: Answer = ""
    signed: Answer = ""
    pids: tuple[int, ...] = ()
    listening: tuple[str, ...] = ()
    started_by: str = ""
    """The client's program that a process without a declaration runs below."""
    notes: tuple[str, ...] = ()
    gate_name: str = ""
    command: tuple[str, ...] = field(default=(), repr=False)
    url: str = field(default="", repr=False)

    @property
    def shadow(self) -> bool:
        """Whether it runs or listens, and no file declares it."""
        return not self.declared and bool(self.pids or self.listening)


@dataclass(frozen=True, slots=True)
class Inventory:
    """The list, and what could not be looked at."""

    servers: tuple[Server, ...]
    unread: tuple[str, ...] = ()
    """Files of clients that do not parse, with the reason."""
    other_listeners: tuple[Listener, ...] = ()
    """On loopback, of nobody known as a server."""


@dataclass(frozen=True, slots=True)
class Known:
    """What other rooms know of a server, by the gate's name for it: pinned, sandboxed when it starts, signed."""

    pinned: Callable[[str], bool]
    sandboxed: Callable[[str], bool]
    signed: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Configured:
    """A server of callgate.toml."""

    name: str
    command: tuple[str, ...]
    url: str


def take(found: Iterable[Found], configured: Iterable[Configured], machine: Machine, known: Known) -> Inventory:
    """The whole inventory."""
    declared, unread = _declared(found)
    for one in configured:
        launches = mask_address(one.url) if one.url else " ".join(mask_words(one.command))
        server = Server(
            one.name, launches, ("callgate.toml",), "yes", gate_name=one.name, command=one.command, url=one.url
        )
        declared.append(server)
    merged = _merged(declared)
    taken: set[int] = set()
    servers = [_running(one, machine, taken) for one in merged]
    servers += _shadows(machine, taken)
    servers = [_listening(one, machine) for one in servers]
    held = {(listener.address, listener.port) for one in servers for listener in _own(one, machine)}
    others = tuple(one for one in machine.listeners if one.loopback and (one.address, one.port) not in held)
    return Inventory(tuple(_judged(one, machine, known) for one in servers), tuple(unread), others)


def _declared(found: Iterable[Found]) -> tuple[list[Server], list[str]]:
    servers: list[Server] = []
    unread: list[str] = []
    for one in found:
        try:
            listed = list(entries(parse(one.place.format, read(one.real).text), one.place, one.client.shape))
        except ClientFileError as error:
            unread.append(f"{one.path}: {error.what}")
            continue
        for entry in listed:
            if entry.kind == "other":
                continue
            words = list(entry.command[0].split() if len(entry.command) == 1 else entry.command)
            wrapped = entry.kind == "wrapped"
            name = words[words.index("--name") + 1] if wrapped and "--name" in words[:-1] else ""
            launches = (
                mask_address(entry.url) if entry.url else " ".join(mask_words(_behind(words) if wrapped else words))
            )
            where = f"{one.client.title}: {one.path}"
            answer: Answer = "yes" if wrapped else "no"
            servers.append(
                Server(
                    entry.name,
                    launches,
                    (where,),
                    answer,
                    gate_name=name,
                    command=tuple(words),
                    url=_url(entry.url, words),
                )
            )
    return servers, unread


def _url(url: str, words: list[str]) -> str:
    return url or (words[words.index("--url") + 1] if "--url" in words[:-1] else "")


def _behind(words: list[str]) -> list[str]:
    return list(launch_line({"command": "s" + words[0], "args": ["s" + word for word in words[1:]]}))


def _merged(declared: list[Server]) -> list[Server]:
    """One row for a server that several files declare in the same way."""
    rows: dict[tuple[str, tuple[str, ...], str], Server] = {}
    for one in declared:
        key = (one.name, one.command, one.url)
        earlier = rows.get(key)
        rows[key] = replace(earlier, declared=(*earlier.declared, *one.declared)) if earlier else one
    return list(rows.values())


def _running(server: Server, machine: Machine, taken: set[int]) -> Server:
    """The server with the processes that are its own, and what they started."""
    if not server.command:
        return server
    tops = [process for process in machine.processes.values() if _is(process, server)]
    pids = [process.pid for process in tops]
    taken.update(pids)
    taken.update(pid for pid in machine.processes if any(one.pid in pids for one in machine.ancestors(pid)[1:]))
    return replace(server, pids=tuple(pids))


def _is(process: Process, server: Server) -> bool:
    """Whether a process is what an entry starts: the same words, or a runner that carries all its telling words."""
    words, command = process.argv, server.command
    if len(words) >= len(command) > 1 and words[-len(command) + 1 :] == command[1:]:
        program = os.path.basename(command[0])
        return any(os.path.basename(word) == program for word in words[: len(words) - len(command) + 1])
    if server.wrapped == "yes" or len(command) == 1:
        return words == command
    marks = _marks(command)
    whole = " ".join(words)
    return bool(marks) and all(mark in whole for mark in marks) and gate_at(list(words)) < 0


def _marks(command: tuple[str, ...]) -> list[str]:
    """The words that tell a command from others: packages, scripts, directories; not options and not runners."""
    kept = [word for word in command if not word.startswith("-") and os.path.basename(word) not in _RUNNERS]
    return [word[:1] + word[1:].partition("@")[0] for word in kept if len(word) > 3]


def _shadows(machine: Machine, taken: set[int]) -> Iterator[Server]:
    """Processes that look like servers and belong to no declared one: the uppermost of each family."""
    family: set[int] = set()
    for pid, process in sorted(machine.processes.items()):
        above = machine.ancestors(pid)[1:]
        if pid in taken or pid == os.getpid() or any(one.pid in family or one.pid in taken for one in above):
            continue
        words = list(process.argv)
        at = gate_at(words)
        if at < 0 and not _looks_like_a_server(words):
            continue
        family.add(pid)
        name = words[words.index("--name") + 1] if at >= 0 and "--name" in words[:-1] else _name(words)
        by = next((base for one in above if (base := _client(one))), "")
        launches = " ".join(mask_words(_behind(words[at:]) if at >= 0 else words))
        answer: Answer = "yes" if at >= 0 else "no"
        notes = () if process.user == os.geteuid() else (f"runs as user {process.user}",)
        gate_name = name if at >= 0 else ""
        yield Server(
            name,
            launches,
            (),
            answer,
            pids=(pid,),
            started_by=by,
            notes=notes,
            gate_name=gate_name,
            command=tuple(words),
        )


def _looks_like_a_server(words: list[str]) -> bool:
    """Whether a command line has the marks of an MCP server: its package, script or module says so."""
    if not words or os.path.basename(words[0]) in _CLIENTS:
        return False
    for word in words[:8]:
        if (
            word.startswith("-")
            or len(word) > 512
            or "://" in word
            or (" " in word and not word.startswith("npm exec"))
        ):
            continue
        parts = word.lower().replace("\\", "/").replace(" ", "/").replace("@", "/").split("/")
        for part in parts:
            pieces = part.replace("_", "-").replace(".", "-").split("-")
            if "mcp" in pieces or part == "modelcontextprotocol" or part.startswith(("mcpserver", "mcp_")):
                return True
    return False


def _client(process: Process) -> str:
    for word in process.argv[:2]:
        base = os.path.basename(word).lower()
        if base in _CLIENTS:
            return base
    return ""


def _name(words: list[str]) -> str:
    for word in words:
        if "mcp" in word.lower() and not word.startswith("-"):
            base = word.split(" ")[-1] if word.startswith("npm exec") else word
            return os.path.basename(base.rstrip("/"))[:64] or "server"
    return os.path.basename(words[0])[:64]


def _own(server: Server, machine: Machine) -> list[Listener]:
    """The listeners of a server's processes, and the one that its URL names."""
    parts = urlsplit(server.url) if server.url else None
    local = parts is not None and parts.hostname in ("127.0.0.1", "localhost", "::1")
    port = _port(server.url) if local else 0
    found: list[Listener] = []
    for one in machine.listeners:
        below = one.pid and any(process.pid in server.pids for process in machine.ancestors(one.pid))
        if below or (port and one.port == port and (one.loopback or one.address in ("0.0.0.0", "::"))):  # noqa: S104 - compared, not bound
            found.append(one)
    return found


def _port(url: str) -> int:
    try:
        parts = urlsplit(url)
        return parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return 0


def _listening(server: Server, machine: Machine) -> Server:
    own = _own(server, machine)
    notes = tuple(f"listens on {_shown(one)}: reachable from other machines" for one in own if not one.loopback)
    return replace(server, listening=tuple(_shown(one) for one in own), notes=(*server.notes, *notes))


def _shown(one: Listener) -> str:
    return f"[{one.address}]:{one.port}" if ":" in one.address else f"{one.address}:{one.port}"


def _judged(server: Server, machine: Machine, known: Known) -> Server:
    name = server.gate_name
    local = server.command and not (server.url and "--url" in server.command)
    sandboxed: Answer = ""
    if local:
        sandboxed = "yes" if name and known.sandboxed(name) else "no"
    if local and server.pids and server.wrapped == "yes":
        below = [p for p in machine.processes.values() if _is_below(p, server.pids, machine)]
        if below:
            sandboxed = "yes" if any(p.confined for p in below) else "no"
    elif local and server.pids and all(machine.processes[pid].confined for pid in server.pids):
        sandboxed = "yes"
    return replace(
        server,
        pinned=("yes" if name and known.pinned(name) else "no") if local else "",
        signed=("yes" if name and known.signed(name) else "no") if local else "",
        sandboxed=sandboxed,
    )


def _is_below(process: Process, pids: tuple[int, ...], machine: Machine) -> bool:
    return any(one.pid in pids for one in machine.ancestors(process.pid)[1:])
