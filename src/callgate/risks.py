"""The catalogue of risks: one entry each, the seed of every finding, event, lesson and report.

Ids are stable and in the field's terms. The mappings say which entries of public catalogues name the risk; an
empty one means that the catalogue does not name it. Titles of those entries change between editions, ids do
not: `VERIFIED` is the day they were last compared with the sources.

| mapping | source |
|---|---|
| `owasp_mcp` | OWASP MCP Top 10, v0.1 (beta) |
| `owasp_agentic` | OWASP Top 10 for Agentic Applications 2026 |
| `safe_mcp` | SAFE-MCP techniques (OpenSSF) |
| `cosai` | CoSAI, Model Context Protocol Security, threat categories |
| `atlas` | MITRE ATLAS techniques |
| `cwe` | Common Weakness Enumeration |

The hot path uses ids only, as plain strings; this module is loaded by tools and reports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

VERIFIED = "2026-11-22"


@dataclass(frozen=True, slots=True)
class Risk:
    """One risk: what it is, in one sentence, and who else names it."""

    id: str
    title: str
    summary: str
    owasp_mcp: tuple[str, ...] = ()
    owasp_agentic: tuple[str, ...] = ()
    safe_mcp: tuple[str, ...] = ()
    cosai: tuple[str, ...] = ()
    atlas: tuple[str, ...] = ()
    cwe: tuple[str, ...] = ()
    verified_on: str = VERIFIED


def _catalogue(risks: Iterable[Risk]) -> Mapping[str, Risk]:
    table: dict[str, Risk] = {}
    for risk in risks:
        if risk.id in table:
            raise ValueError(f"risk {risk.id} is in the catalogue twice")
        table[risk.id] = risk
    return MappingProxyType(table)


RISKS: Mapping[str, Risk] = _catalogue(
    (
        # What a server says of itself
        Risk(
            "tool-poisoning",
            "Tool poisoning",
            "A tool's description, schema or annotation carries instructions for the model.",
            owasp_mcp=("MCP03:2025",),
            owasp_agentic=("ASI01",),
            safe_mcp=("SAFE-T1001", "SAFE-T1401", "SAFE-T1501"),
            cosai=("MCP-T4",),
            atlas=("AML.T0110.000",),
            cwe=("CWE-1427",),
        ),
        Risk(
            "rug-pull",
            "Rug pull",
            "A definition that was reviewed is exchanged for another one later.",
            owasp_mcp=("MCP03:2025",),
            owasp_agentic=("ASI04",),
            safe_mcp=("SAFE-T1201", "SAFE-T1205"),
            cosai=("MCP-T6",),
            atlas=("AML.T0109",),
            cwe=("CWE-345", "CWE-494"),
        ),
        Risk(
            "tool-shadowing",
            "Tool shadowing",
            "A server's tool takes the name of another server's tool, or rewrites how the model uses it.",
            owasp_mcp=("MCP03:2025",),
            owasp_agentic=("ASI01", "ASI02"),
            safe_mcp=("SAFE-T1004", "SAFE-T1008", "SAFE-T1301"),
            cosai=("MCP-T4", "MCP-T6"),
            cwe=("CWE-349",),
        ),
        Risk(
            "unicode-smuggling",
            "Unicode smuggling",
            "Characters that nobody sees, or that change what is seen, carry text to the model past a reviewer.",
            owasp_mcp=("MCP03:2025", "MCP06:2025"),
            owasp_agentic=("ASI01",),
            safe_mcp=("SAFE-T1402",),
            cosai=("MCP-T4",),
            atlas=("AML.T0068",),
            cwe=("CWE-451", "CWE-1427"),
        ),
        Risk(
            "confusable-names",
            "Confusable names",
            "A name is drawn to look like another one with characters of a different script.",
            owasp_mcp=("MCP03:2025", "MCP09:2025"),
            owasp_agentic=("ASI04", "ASI09"),
            safe_mcp=("SAFE-T1004", "SAFE-T1402"),
            cosai=("MCP-T6",),
            cwe=("CWE-1007",),
        ),
        Risk(
            "terminal-escape-injection",
            "Terminal escape injection",
            "Control sequences in text drive the terminal or log viewer of the person who reads it.",
            owasp_mcp=("MCP03:2025",),
            owasp_agentic=("ASI09",),
            safe_mcp=("SAFE-T1402",),
            cosai=("MCP-T3",),
            atlas=("AML.T0068",),
            cwe=("CWE-150",),
        ),
        Risk(
            "indirect-prompt-injection",
            "Indirect prompt injection",
            "A tool result, resource or prompt carries instructions of a third party that the model follows.",
            owasp_mcp=("MCP06:2025", "MCP10:2025"),
            owasp_agentic=("ASI01",),
            safe_mcp=("SAFE-T1102",),
            cosai=("MCP-T4",),
            atlas=("AML.T0051", "AML.T0110.002"),
            cwe=("CWE-1427",),
        ),
        Risk(
            "sampling-abuse",
            "Sampling and elicitation abuse",
            "A server asks the model or the user, through the client, for what it should not get.",
            owasp_mcp=("MCP06:2025",),
            owasp_agentic=("ASI01", "ASI09"),
            safe_mcp=("SAFE-T1112",),
            cosai=("MCP-T4", "MCP-T9"),
            cwe=("CWE-451",),
        ),
        # The wire
        Risk(
            "parser-differential",
            "Parser differential",
            "Gate and peer read the same bytes differently, so what was inspected is not what is acted on.",
            cosai=("MCP-T3", "MCP-T7"),
            cwe=("CWE-436", "CWE-444"),
        ),
        Risk(
            "header-mismatch",
            "Header and body disagree",
            "A mirrored header says one thing and the message another, so routing and policy see different calls.",
            cosai=("MCP-T7",),
            cwe=("CWE-436",),
        ),
        Risk(
            "response-mixing",
            "Response mixing",
            "An answer reaches a client or a request that it was not made for.",
            safe_mcp=("SAFE-T1103", "SAFE-T1404"),
            cosai=("MCP-T2", "MCP-T7"),
            cwe=("CWE-488", "CWE-940"),
        ),
        Risk(
            "resource-exhaustion",
            "Resource exhaustion",
            "A message or stream is made to use up memory, time or connections of gate, client or server.",
            owasp_agentic=("ASI08",),
            cosai=("MCP-T10",),
            atlas=("AML.T0034.002",),
            cwe=("CWE-400", "CWE-674", "CWE-770"),
        ),
        Risk(
            "fail-open",
            "Guard that fails open",
            "A check that crashes, times out or contradicts another one lets the message pass.",
            cosai=("MCP-T9",),
            cwe=("CWE-636", "CWE-755"),
        ),
        Risk(
            "protocol-downgrade",
            "Protocol downgrade",
            "A peer is moved to an older revision or flow that lacks a protection.",
            safe_mcp=("SAFE-T1408",),
            cosai=("MCP-T7",),
            cwe=("CWE-757",),
        ),
        Risk(
            "message-tampering",
            "Replay and tampering between hops",
            "A message is repeated or changed on its way between two components.",
            cosai=("MCP-T6", "MCP-T7"),
            cwe=("CWE-294", "CWE-924"),
        ),
        Risk(
            "dns-rebinding",
            "DNS rebinding and cross-site calls",
            "A web page reaches a server on the local machine through the user's browser.",
            owasp_mcp=("MCP07:2025",),
            cosai=("MCP-T8",),
            cwe=("CWE-346", "CWE-350", "CWE-352"),
        ),
        # Who may
        Risk(
            "missing-authentication",
            "Missing or weak authentication",
            "A server or gateway answers callers it does not know, or reads an empty list as everyone.",
            owasp_mcp=("MCP07:2025",),
            owasp_agentic=("ASI03",),
            safe_mcp=("SAFE-T1005",),
            cosai=("MCP-T1",),
            cwe=("CWE-287", "CWE-306"),
        ),
        Risk(
            "token-passthrough",
            "Token passthrough",
            "A token made for one party is accepted by, or handed on to, another.",
            owasp_mcp=("MCP01:2025", "MCP07:2025"),
            owasp_agentic=("ASI03",),
            safe_mcp=("SAFE-T1308", "SAFE-T1706"),
            cosai=("MCP-T1",),
            cwe=("CWE-441", "CWE-863"),
        ),
        Risk(
            "confused-deputy",
            "Confused deputy",
            "A component with rights of its own is made to use them for somebody who lacks them.",
            owasp_mcp=("MCP07:2025",),
            owasp_agentic=("ASI03",),
            safe_mcp=("SAFE-T1007", "SAFE-T1009", "SAFE-T1307", "SAFE-T1507"),
            cosai=("MCP-T1", "MCP-T2"),
            cwe=("CWE-441",),
        ),
        Risk(
            "excessive-permissions",
            "Excessive permissions",
            "An agent may call more tools, with wider arguments or for longer, than its task needs.",
            owasp_mcp=("MCP02:2025",),
            owasp_agentic=("ASI03",),
            safe_mcp=("SAFE-T1104", "SAFE-T1302"),
            cosai=("MCP-T2", "MCP-T9"),
            cwe=("CWE-250", "CWE-269"),
        ),
        Risk(
            "consent-fatigue",
            "Consent fatigue and misleading approval",
            "A person approves what they were not shown, or approves because they were asked too often.",
            owasp_agentic=("ASI09",),
            safe_mcp=("SAFE-T1403",),
            cosai=("MCP-T9",),
            cwe=("CWE-451",),
        ),
        # What a call does
        Risk(
            "command-injection",
            "Command injection",
            "An argument becomes part of a command line or of code that the server runs.",
            owasp_mcp=("MCP05:2025",),
            owasp_agentic=("ASI05",),
            safe_mcp=("SAFE-T1101",),
            cosai=("MCP-T3",),
            atlas=("AML.T0105",),
            cwe=("CWE-77", "CWE-78", "CWE-88", "CWE-94"),
        ),
        Risk(
            "path-traversal",
            "Path traversal",
            "An argument makes the server read or write outside the directories it was given.",
            owasp_mcp=("MCP05:2025",),
            owasp_agentic=("ASI02",),
            safe_mcp=("SAFE-T1105", "SAFE-T1606"),
            cosai=("MCP-T3",),
            cwe=("CWE-22", "CWE-59"),
        ),
        Risk(
            "server-side-request-forgery",
            "Server-side request forgery",
            "An argument or a discovered URL makes a component fetch from a place only it can reach.",
            owasp_mcp=("MCP05:2025",),
            owasp_agentic=("ASI02",),
            safe_mcp=("SAFE-T1306",),
            cosai=("MCP-T3",),
            cwe=("CWE-918",),
        ),
        Risk(
            "data-exfiltration",
            "Data exfiltration",
            "Private data leaves through an argument, a URL, a rendered image or a name look-up.",
            owasp_mcp=("MCP10:2025",),
            owasp_agentic=("ASI02",),
            safe_mcp=("SAFE-T1902", "SAFE-T1910", "SAFE-T1911", "SAFE-T1913"),
            cosai=("MCP-T5",),
            atlas=("AML.T0086",),
            cwe=("CWE-200",),
        ),
        Risk(
            "toxic-flow",
            "Toxic flow",
            "One session reads private data and untrusted content, and can send: together they leak.",
            owasp_mcp=("MCP10:2025",),
            owasp_agentic=("ASI02",),
            safe_mcp=("SAFE-T1701", "SAFE-T1703", "SAFE-T1914"),
            cosai=("MCP-T9",),
            atlas=("AML.T0086",),
            cwe=("CWE-200",),
        ),
        Risk(
            "secret-exposure",
            "Secret exposure",
            "A credential stands in a configuration, an environment, a log, an error or a result.",
            owasp_mcp=("MCP01:2025",),
            owasp_agentic=("ASI03",),
            safe_mcp=("SAFE-T1502", "SAFE-T1503", "SAFE-T1504", "SAFE-T1506"),
            cosai=("MCP-T5",),
            atlas=("AML.T0083", "AML.T0098"),
            cwe=("CWE-312", "CWE-522", "CWE-532"),
        ),
        Risk(
            "destructive-action",
            "Destructive action",
            "A call deletes, overwrites, pays or publishes what cannot be taken back.",
            owasp_agentic=("ASI02", "ASI10"),
            safe_mcp=("SAFE-T2101", "SAFE-T2103", "SAFE-T2104"),
            cosai=("MCP-T9",),
            atlas=("AML.T0101",),
        ),
        Risk(
            "denial-of-wallet",
            "Denial of wallet",
            "An agent is kept calling, and every call costs.",
            owasp_agentic=("ASI08",),
            safe_mcp=("SAFE-T1106",),
            cosai=("MCP-T10",),
            atlas=("AML.T0034.002",),
            cwe=("CWE-400", "CWE-834"),
        ),
        Risk(
            "context-poisoning",
            "Memory and context poisoning",
            "Hostile text is stored where a later session reads it as its own memory.",
            owasp_mcp=("MCP10:2025",),
            owasp_agentic=("ASI06",),
            safe_mcp=("SAFE-T1204", "SAFE-T1702", "SAFE-T2106"),
            cosai=("MCP-T4",),
            atlas=("AML.T0080.000",),
        ),
        Risk(
            "fake-tool-invocation",
            "Undeclared tools and unsolicited answers",
            "A peer calls what was never offered or answers what was never asked.",
            safe_mcp=("SAFE-T1103", "SAFE-T1404"),
            cosai=("MCP-T7",),
            cwe=("CWE-940",),
        ),
        # Where servers come from and run
        Risk(
            "version-rug-pull",
            "Version rug pull",
            "A package update of a trusted server brings hostile code behind unchanged definitions.",
            owasp_mcp=("MCP04:2025",),
            owasp_agentic=("ASI04",),
            safe_mcp=("SAFE-T1002", "SAFE-T1003", "SAFE-T1207"),
            cosai=("MCP-T11",),
            atlas=("AML.T0104", "AML.T0110.001"),
            cwe=("CWE-494", "CWE-506"),
        ),
        Risk(
            "look-alike-server",
            "Look-alike package or server",
            "A package, server or registry entry is named so that it is taken for a known one.",
            owasp_mcp=("MCP04:2025", "MCP09:2025"),
            owasp_agentic=("ASI04",),
            safe_mcp=("SAFE-T1004",),
            cosai=("MCP-T11",),
            atlas=("AML.T0111",),
            cwe=("CWE-1007",),
        ),
        Risk(
            "shadow-server",
            "Shadow server",
            "A server runs that nobody listed, reviewed or watches.",
            owasp_mcp=("MCP09:2025",),
            cosai=("MCP-T6",),
        ),
        Risk(
            "malicious-launch-command",
            "Malicious launch command",
            "The command that starts a server does something else, or fetches what is not pinned.",
            owasp_mcp=("MCP04:2025", "MCP05:2025"),
            owasp_agentic=("ASI04", "ASI05"),
            safe_mcp=("SAFE-T1006",),
            cosai=("MCP-T11",),
            cwe=("CWE-78", "CWE-494"),
        ),
        Risk(
            "project-configuration-execution",
            "Execution by project configuration",
            "Opening a repository starts commands that its configuration files name.",
            owasp_agentic=("ASI05",),
            safe_mcp=("SAFE-T1206",),
            cosai=("MCP-T11",),
            atlas=("AML.T0081",),
            cwe=("CWE-829",),
        ),
        Risk(
            "environment-inheritance",
            "Inherited environment and credentials",
            "A server process gets environment variables, files or handles that were not meant for it.",
            owasp_mcp=("MCP01:2025",),
            cosai=("MCP-T8",),
            cwe=("CWE-403", "CWE-526"),
        ),
        Risk(
            "sandbox-escape",
            "Sandbox escape",
            "A server's code gets beyond the limits that were put around it.",
            owasp_agentic=("ASI05",),
            safe_mcp=("SAFE-T1303", "SAFE-T1305"),
            cosai=("MCP-T8",),
            atlas=("AML.T0105", "AML.T0112.000"),
            cwe=("CWE-250", "CWE-693"),
        ),
        Risk(
            "undeclared-behaviour",
            "Undeclared behaviour",
            "A tool does other things than its annotations say.",
            owasp_agentic=("ASI10",),
            cosai=("MCP-T6",),
            atlas=("AML.T0110.001",),
            cwe=("CWE-912",),
        ),
        # Evidence
        Risk(
            "evidence-tampering",
            "Evidence loss and tampering",
            "What happened cannot be shown afterwards, because records are missing, changed or forged.",
            owasp_mcp=("MCP08:2025",),
            cosai=("MCP-T12",),
            cwe=("CWE-117", "CWE-778"),
        ),
    )
)


def risk(id: str) -> Risk:
    """The entry with this id. Raises KeyError."""
    return RISKS[id]
