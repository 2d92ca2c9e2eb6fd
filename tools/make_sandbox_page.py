"""The table of escapes in docs/sandbox.md, from what the suite expects: python tools/make_sandbox_page.py."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.sandbox.escapes.expected import CONTROL, IN_NAMESPACES, INSIDE, LISTED, MACHINE, NEVER, OPEN, probes  # noqa: E402

PAGE = ROOT / "docs" / "sandbox.md"
BEGIN, END = "<!-- made from the expectations of the escape suite -->", "<!-- end of what is made -->"
_BARE = {
    IN_NAMESPACES: "with root in a namespace",
    NEVER: "no",
    INSIDE: "there is none",
    MACHINE: "yes, where the machine lets it",
}


def generated() -> str:
    """The table and its reasons."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    reasons: dict[str, int] = {}
    count = len(probes())
    held = {backend: count - len(OPEN[backend]) for backend in LISTED}
    yield f"{count} probes. Held: " + ", ".join(f"{name} {number}" for name, number in held.items()) + "."
    yield ""
    yield "| | the server… | without | " + " | ".join(LISTED) + " |"
    yield "|---|---|---|" + "---|" * len(LISTED)
    for group, members in groupby(probes(), lambda one: one.group):
        label = f"**{group}**"
        for one in members:
            cells = [_cell(backend, one.name, reasons) for backend in LISTED]
            bare = _BARE[CONTROL[one.name]] if one.name in CONTROL else "yes"
            yield f"| {label} | {one.title} | {bare} | {' | '.join(cells)} |"
            label = ""
    yield ""
    yield from (f"{number}. {reason[0].upper()}{reason[1:]}." for reason, number in reasons.items())


def _cell(backend: str, probe: str, reasons: dict[str, int]) -> str:
    one = OPEN[backend].get(probe)
    if one is None:
        return "held"
    number = reasons.setdefault(one.reason, len(reasons) + 1)
    return f"{'may succeed' if one.sometimes else '**succeeds**'} ({number})"


def replaced(text: str) -> str:
    """The page with its table made anew."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{generated()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
