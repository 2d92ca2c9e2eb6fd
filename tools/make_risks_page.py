"""Write docs/risks.md from the catalogue: python tools/make_risks_page.py > docs/risks.md."""

from __future__ import annotations

import sys

from callgate.controls.registry import METAS
from callgate.risks import RISKS, VERIFIED, Risk

HEAD = f"""# Risks

Every finding, event and report of callgate names a risk of this catalogue. Ids are stable. The last columns say
which public catalogues name the risk, as read on {VERIFIED}; an empty cell means that the catalogue does not.
This page is generated from `src/callgate/risks.py` by `tools/make_risks_page.py`; a test keeps both equal.

Sources: OWASP MCP Top 10 (v0.1, beta), OWASP Top 10 for Agentic Applications 2026, SAFE-MCP (OpenSSF), CoSAI Model
Context Protocol Security, MITRE ATLAS, Common Weakness Enumeration.

| risk | what it is | answered by | OWASP MCP | OWASP agentic | SAFE-MCP | CoSAI | ATLAS | CWE |
|---|---|---|---|---|---|---|---|---|
"""


def row(risk: Risk) -> str:
    controls = [f"[{meta.id}](controls/{meta.id}.md)" for meta in METAS if risk.id in meta.risks]
    named = (risk.owasp_mcp, risk.owasp_agentic, risk.safe_mcp, risk.cosai, risk.atlas, risk.cwe)
    cells = [f'<a id="{risk.id}"></a>`{risk.id}`', risk.summary, ", ".join(controls)]
    return "| " + " | ".join([*cells, *(", ".join(ids) for ids in named)]) + " |\n"


def page() -> str:
    return HEAD + "".join(map(row, RISKS.values()))


if __name__ == "__main__":
    sys.stdout.write(page())
