"""The table of docs/protocol-errors.md as data."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "protocol-errors.md"


class Rule(NamedTuple):
    """One row."""

    rule: str
    meaning: str
    example: str
    rpc_code: int
    status: str
    setting: str


def _read() -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            name = cells[0].strip("`| ")
            assert name not in rules, f"{name} stands twice"
            rules[name] = Rule(
                name, cells[1], cells[2].replace("&#124;", "|"), int(cells[3]), cells[4], cells[5].strip("| ")
            )
    return rules


RULES = _read()
