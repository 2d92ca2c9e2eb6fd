"""What the gate calls a server: pins and evidence are kept under that name, so one name means one server."""

from __future__ import annotations

from callgate.clients.entries import Entry, gate_at
from callgate.clients.records import Records

LONGEST = 64


class Names:
    """The names in use, each with the launch line it stands for."""

    def __init__(self, records: Records) -> None:
        self._lines: dict[str, tuple[str, ...]] = {}
        for record in records.all():
            self._lines.setdefault(record.gate_name, launch_line(record.wrapped))

    def choose(self, entry: Entry, client: str) -> str:
        """The server's own name, made a valid one; where another server has it already, with the client's behind."""
        line = ("--url", entry.url) if entry.kind == "remote" else entry.command
        base = _cleaned(entry.name)
        for name in (base, *(_joined(base, f".{client}{number or ''}") for number in range(1000))):
            if self._lines.setdefault(name, line) == line:
                return name
        return base  # a thousand servers of one name: they share pins


def launch_line(wrapped: object) -> tuple[str, ...]:
    """What a wrapped entry starts behind the gate, from its kept value."""
    words: list[str] = []
    if isinstance(wrapped, dict):
        for value in (wrapped.get(key) for key in ("command", "cmd", "args")):
            words += [one[1:] for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]
    at = gate_at(words)
    rest = words[at:]
    if "--" in rest:
        return tuple(rest[rest.index("--") + 1 :])
    return ("--url", rest[rest.index("--url") + 1]) if "--url" in rest[:-1] else tuple(words)


def _cleaned(name: str) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name).strip("-._")
    return kept[:LONGEST].rstrip("-._") or "server"


def _joined(base: str, tail: str) -> str:
    return base[: LONGEST - len(tail)] + tail
