"""The catalogue of risks: sound ids, sound mappings, a page that says the same."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from callgate.risks import RISKS, Risk, _catalogue, risk

ROOT = Path(__file__).parents[1]
SHAPES = {
    "owasp_mcp": r"MCP(0[1-9]|10):2025",
    "owasp_agentic": r"ASI(0[1-9]|10)",
    "safe_mcp": r"SAFE-T[1-9]\d{3}",
    "cosai": r"MCP-T([1-9]|1[0-2])",
    "atlas": r"AML\.T0\d{3}(\.\d{3})?",
    "cwe": r"CWE-[1-9]\d{1,3}",
}


@pytest.mark.parametrize("entry", RISKS.values(), ids=RISKS)
def test_entry_is_sound(entry: Risk) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", entry.id)
    assert entry.title
    assert entry.summary.endswith(".")
    assert ". " not in entry.summary
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", entry.verified_on)
    named = 0
    for field, shape in SHAPES.items():
        ids = getattr(entry, field)
        assert len(set(ids)) == len(ids)
        assert all(re.fullmatch(shape, name) for name in ids), (field, ids)
        named += len(ids)
    assert named


def test_a_second_entry_raises() -> None:
    with pytest.raises(ValueError, match="rug-pull is in the catalogue twice"):
        _catalogue([risk("rug-pull"), risk("rug-pull")])


def test_every_owasp_mcp_entry_is_covered() -> None:
    covered = {name for entry in RISKS.values() for name in entry.owasp_mcp}
    assert covered == {f"MCP{number:02}:2025" for number in range(1, 11)}


def test_the_page_says_what_the_catalogue_says() -> None:
    page = runpy.run_path(str(ROOT / "tools" / "make_risks_page.py"))["page"]()
    assert (ROOT / "docs" / "risks.md").read_text() == page, "run tools/make_risks_page.py > docs/risks.md"
