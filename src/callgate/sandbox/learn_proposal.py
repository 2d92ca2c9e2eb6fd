"""From what a server did to the least settings that let it: a table for callgate.toml, for a person to read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from callgate.config import SandboxConfig
from callgate.sandbox.learn import Observation
from callgate.sandbox.spec import SandboxSpec
from callgate.text import visible

MANY = 6
"""So many files of one directory become the directory."""
MAX_PATHS = 40
"""More than these are not proposed one by one: the server wants too much to be said in a table."""
_SYSTEM = (
    "/bin",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/run",
)


@dataclass(frozen=True, slots=True)
class Proposal:
    """`sandbox`: the least settings. `doubts`: what it asked for and a person should think about first."""

    sandbox: SandboxConfig
    doubts: tuple[str, ...] = ()


def propose(seen: Observation, spec: SandboxSpec, today: SandboxConfig, home: str) -> Proposal:
    """The least settings for what was seen. `home`: the user's; what is hidden in it is only ever a doubt."""
    read, write, doubts = set[str](), set[str](), list[str]()
    trace = seen.trace
    if trace is not None:
        there = {path for path in trace.missing if os.path.lexists(path)} if seen.confined else set()
        wanted_read = trace.refused_read | there | (set() if seen.confined else trace.read | trace.started)
        wanted_write = trace.refused_write | (trace.missing_write if seen.confined else trace.written)
        wanted_write = {place for path in wanted_write if (place := _place_to_write(path))}
        read = set(_wanted(wanted_read, seen, spec, home, doubts, writing=False))
        write = set(_wanted(wanted_write, seen, spec, home, doubts, writing=True))
    kept_read, kept_write = set(today.read), set(today.write)
    if trace is not None:  # what is given today and was not used goes
        kept_read = {path for path in kept_read if _used(path, trace.read | trace.started)}
        kept_write = {path for path in kept_write if _used(path, trace.written | trace.read)}
    hosts = sorted({_destination(host, port) for host, port in seen.asked})
    if trace is not None and not seen.confined:
        doubts += [f"connected to {peer}" for peer in sorted(trace.peers) if _outside(peer)]
    if trace is not None and trace.cut:
        doubts.append("it did more than was read: the list is not complete")
    return Proposal(
        SandboxConfig(
            backend=today.backend,
            read=tuple(_collapsed({*kept_read, *read} - {*kept_write, *write}, home)),
            write=tuple(_collapsed({*kept_write, *write}, home)),
            network=tuple(hosts),
            environment=today.environment,
            processes=today.processes,
            memory_mib=today.memory_mib,
            cpus=today.cpus,
            file_mib=today.file_mib,
            disk_mib=today.disk_mib,
            descriptors=today.descriptors,
        ),
        tuple(dict.fromkeys(doubts)),
    )


def _place_to_write(path: str) -> str:
    """The file, or the directory in which it would make it; empty where there is neither."""
    if os.path.lexists(path):
        return path
    folder = os.path.dirname(path)
    return folder if os.path.isdir(folder) else ""


def _outside(peer: str) -> bool:
    if peer.startswith("unix:"):
        return os.path.exists(peer.removeprefix("unix:"))
    return not peer.startswith(("127.", "[::1]")) and not peer.endswith(":53")


def toml(name: str, settings: SandboxConfig, doubts: Sequence[str] = ()) -> str:
    """`[servers.NAME.sandbox]`, with the doubts as comments."""
    lines = [f"[servers.{_key(name)}.sandbox]"]
    if settings.backend:
        lines.append(f"backend = {_quoted(settings.backend)}")
    for key in ("read", "write", "network", "environment"):
        values: tuple[str, ...] = getattr(settings, key)
        if len(values) == 1:
            lines.append(f"{key} = [{_quoted(values[0])}]")
        elif values:
            lines += [f"{key} = [", *(f"  {_quoted(value)}," for value in values), "]"]
    for key in ("processes", "memory_mib", "cpus", "file_mib", "disk_mib", "descriptors"):
        number = getattr(settings, key)
        if number is not None:
            lines.append(f"{key} = {number}")
    lines += [f"# think first: {visible(doubt, 300)}" for doubt in doubts]
    return "\n".join(lines) + "\n"


def _wanted(
    paths: Iterable[str], seen: Observation, spec: SandboxSpec, home: str, doubts: list[str], *, writing: bool
) -> Iterable[str]:
    # In the open /tmp is everybody's; inside it is the server's own, and what it missed there is the host's.
    passed = () if seen.confined else ("/tmp",)  # noqa: S108
    verb = "write" if writing else "read"
    found = []
    for path in sorted(paths):
        if covered(path, spec, writing=writing) or _below(path, passed):
            continue
        if _below(path, _SYSTEM) and not (home and path.startswith(home + "/")):
            if writing:
                doubts.append(f"wanted to write {path}")
            continue  # what of the system a server sees is the same for all
        if path == home or (home and home.startswith(path.rstrip("/") + "/")):
            doubts.append(f"wanted to {verb} {path}, the whole home")
        elif home and path.startswith(home + "/") and _hidden(os.path.relpath(path, home)):
            doubts.append(f"wanted to {verb} {path}")
        else:
            found.append(path)
    if len(found) > MAX_PATHS * MANY:
        doubts.append(f"wanted to {verb} {len(found)} files; the first of them: {found[0]}")
        return []
    return found


def covered(path: str, spec: SandboxSpec, *, writing: bool) -> bool:
    """Whether the specification gives the path already."""
    places = [(mount.target or mount.source, mount.writable) for mount in spec.mounts]
    if spec.home:
        places.append((spec.home, True))
    return any(_used(place, {path}) and (writable or not writing) for place, writable in places)


def _collapsed(paths: Iterable[str], home: str) -> list[str]:
    """Files of one directory as the directory, where they are many; nothing that lies in what is named already."""
    folders: dict[str, int] = {}
    chosen = set(paths)
    for path in chosen:
        folders[os.path.dirname(path)] = folders.get(os.path.dirname(path), 0) + 1
    for folder, count in folders.items():
        if count >= MANY and folder not in ("/", home) and not (home and home.startswith(folder + "/")):
            chosen.add(folder)
    return sorted(path for path in chosen if not any(_used(other, {path}) and other != path for other in chosen))


def _used(place: str, paths: Iterable[str]) -> bool:
    return any(path == place or path.startswith(place.rstrip("/") + "/") for path in paths)


def _below(path: str, places: Sequence[str]) -> bool:
    return any(path == place or path.startswith(place + "/") for place in places)


def _hidden(relative: str) -> bool:
    return relative.startswith(".")


def _destination(host: str, port: int) -> str:
    return host if port == 443 else f"{host}:{port}"


def _key(name: str) -> str:
    return name if name.replace("-", "a").replace("_", "a").isalnum() and name.isascii() else _quoted(name)


def _quoted(text: str) -> str:
    """A TOML basic string."""
    out = []
    for char in text:
        code = ord(char)
        if char in '"\\':
            out.append("\\" + char)
        elif code < 32 or code == 127 or 0xD800 <= code < 0xE000:
            out.append(f"\\u{code:04x}" if code < 0xD800 else "\ufffd")
        else:
            out.append(char)
    return '"' + "".join(out) + '"'
