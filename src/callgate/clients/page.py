"""The part of docs/clients.md that is made from the table: `python -m callgate.clients.page docs/clients.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from callgate.clients.table import CLIENTS, NO_FILES, Client, Place, System

BEGIN, END = "<!-- made from the table of clients -->", "<!-- end of what is made -->"
_SETTINGS: dict[System, str] = {
    "linux": "~/.config",
    "darwin": "~/Library/Application Support",
    "win32": "%APPDATA%",
}
_SYSTEMS: dict[System, str] = {"linux": "Linux", "darwin": "macOS", "win32": "Windows"}


def generated() -> str:
    """The section for every client, then the clients without files."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "| client | `--client` | servers under | a URL becomes a command | not in files |"
    yield "|---|---|---|---|---|"
    for client in CLIENTS:
        keys = dict.fromkeys(_keys(place) for place in client.places)
        names = f"{client.title} | `{client.name}` | {', '.join(keys)}"
        yield f"| {names} | {_remote(client)} | {client.outside or 'none known'} |"
    for title, where in NO_FILES:
        yield f"| {title} | none | | | {where} |"
    yield ""
    yield "| client | file | systems | |"
    yield "|---|---|---|---|"
    for client in CLIENTS:
        rows = (
            f"| {client.title} | `{path}` | {systems} | {_note(place)} |"
            for place in client.places
            for path, systems in _paths(place)
        )
        yield from dict.fromkeys(rows)


def _keys(place: Place) -> str:
    path = " → ".join(f"`{key}`" for key in place.keys)
    return path + (" (a list)" if place.named else "")


def _remote(client: Client) -> str:
    if client.shape.stdio_only:
        return "no: reads commands only"
    urls = ", ".join(f"`{url}`" for url in client.shape.urls)
    return f"{urls}; `{client.shape.kind}` becomes `{client.shape.stdio}`"


def _paths(place: Place) -> Iterator[tuple[str, str]]:
    """The path as a person writes it, with the systems it is for."""
    found: dict[str, list[str]] = {}
    for system in place.systems:
        found.setdefault(_readable(place.path, system), []).append(_SYSTEMS[system])
    for path, systems in found.items():
        yield path, "all" if len(systems) == len(_SYSTEMS) else ", ".join(systems)


def _readable(template: str, system: System) -> str:
    out = template.replace("{config}", _SETTINGS[system])
    while "{" in out:
        before, _, rest = out.partition("{")
        name, _, after = rest.partition("}")
        variable, _, default = name.partition("|")
        out = before + (default if default in ("~", "~/.config", "C:/ProgramData") else f"${variable}") + after
        if default not in ("", "~", "~/.config", "C:/ProgramData"):
            out += f" (default {default})"
    return out


def _note(place: Place) -> str:
    if place.hands_off:
        return f"looked at only: {place.hands_off}"
    return {"user": "", "project": "with `--project`", "managed": "with `--managed`"}[place.scope]


def main(argv: list[str]) -> int:
    """Put the generated part into the page."""
    path = Path(argv[0])
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n\n{generated()}\n\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
