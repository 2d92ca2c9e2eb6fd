"""docs/trust.md says what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from callgate.cli.trust import ACTIONS
from callgate.errors import TrustError
from callgate.supply.code_diff import KINDS
from callgate.supply.launch_line import RULES, LaunchLine, LaunchNote
from callgate.supply.lockable import lockable
from callgate.supply.lockfile import LockedServer

PAGE = (Path(__file__).parents[2] / "docs" / "trust.md").read_text()


def rows(heading: str) -> dict[str, str]:
    """The first table under a heading: first cell without backquotes, last cell."""
    part = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line.strip("|").split("|") for line in part.split("\n") if line.startswith("|")][2:]
    return {cells[0].strip(): cells[-1].strip() for cells in lines}


def test_rules() -> None:
    found = {name.strip(" *`"): what for name, what in rows("Findings of launch lines").items()}
    assert found == dict(RULES)


@pytest.mark.parametrize("rule", list(RULES))
def test_which_rules_keep_a_line_from_being_pinned(rule: str) -> None:
    line = LaunchLine("npm", ("npx", "x"), warnings=(LaunchNote(rule, "x"),))
    starred = f"`{rule}` *" in rows("Findings of launch lines")
    assert starred == (bool(line.problem) or rule == "launch-secret-argument")


def test_a_secret_keeps_a_line_from_being_pinned() -> None:
    with pytest.raises(TrustError, match="secret"):
        lockable("x", ("npx", "x@1.0.0", "--token", "abcdef1234567"))


def test_kinds() -> None:
    assert [name.strip("`") for name in rows("Update and diff")] == list(KINDS)


def test_members() -> None:
    named = {word.strip("` ") for cell in rows("callgate.lock") for word in cell.split(",")}
    assert named == ({*LockedServer.__dataclass_fields__} | {"line"}) - {"name"}


def test_actions() -> None:
    for name in ACTIONS:
        assert f"`{name}`" in PAGE or f"trust {name} " in PAGE
