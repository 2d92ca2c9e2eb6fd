"""message-limits: one reading of every message, and none that exhausts who reads it.

The checks are the strict parser's (`protocol/codec.py`) and the channel's, because they come before any event
exists. This control declares them: which refusal answers which risk, and how grave it is. Limits are set in
`[limits]`. See docs/controls/message-limits.md and docs/protocol-errors.md.
"""

from __future__ import annotations

from typing import Final

from callgate.controls.text_rules import only
from callgate.errors import LimitExceeded, ProtocolError
from callgate.gate.control import ControlMeta, ControlOptions
from callgate.gate.verdicts import Finding, Severity

META: Final = ControlMeta(
    id="message-limits",
    title="Messages that peers could read differently, or that are too large, are refused",
    risks=(
        "parser-differential",
        "header-mismatch",
        "response-mixing",
        "resource-exhaustion",
        "fake-tool-invocation",
        "protocol-downgrade",
    ),
    since="0.1",
)

_DIFFERENTIAL: Final = "parser-differential"
_LIMIT: Final[tuple[str, Severity]] = ("resource-exhaustion", "medium")

REFUSALS: Final[dict[str, tuple[str, Severity]]] = {
    # not JSON, or JSON that readers disagree about
    "json-syntax": (_DIFFERENTIAL, "low"),
    "json-utf8": (_DIFFERENTIAL, "medium"),
    "json-bom": (_DIFFERENTIAL, "medium"),
    "json-duplicate-key": (_DIFFERENTIAL, "high"),
    "json-key-case": (_DIFFERENTIAL, "high"),
    "json-not-a-number": (_DIFFERENTIAL, "medium"),
    "json-number-overflow": (_DIFFERENTIAL, "medium"),
    "json-integer-range": (_DIFFERENTIAL, "medium"),
    "json-integer-rounded": (_DIFFERENTIAL, "medium"),
    "json-lone-surrogate": (_DIFFERENTIAL, "medium"),
    "nul-in-name": (_DIFFERENTIAL, "high"),
    # not JSON-RPC 2.0 as MCP uses it
    "jsonrpc-version": (_DIFFERENTIAL, "low"),
    "jsonrpc-not-object": (_DIFFERENTIAL, "low"),
    "jsonrpc-batch-empty": (_DIFFERENTIAL, "low"),
    "jsonrpc-batch": (_DIFFERENTIAL, "medium"),
    "jsonrpc-method": (_DIFFERENTIAL, "medium"),
    "jsonrpc-params": (_DIFFERENTIAL, "medium"),
    "jsonrpc-hybrid": (_DIFFERENTIAL, "high"),
    "jsonrpc-result": (_DIFFERENTIAL, "medium"),
    "jsonrpc-error": (_DIFFERENTIAL, "low"),
    "jsonrpc-kind": (_DIFFERENTIAL, "medium"),
    "jsonrpc-id": (_DIFFERENTIAL, "high"),
    # who answers whom
    "id-in-flight": ("response-mixing", "high"),
    "response-unknown-id": ("response-mixing", "high"),
    "notification-unrelated": ("response-mixing", "medium"),
    "server-request": ("fake-tool-invocation", "medium"),
    # headers of the HTTP transport
    "header-missing": ("header-mismatch", "medium"),
    "header-mismatch": ("header-mismatch", "high"),
    "header-repeated": ("header-mismatch", "high"),
    "header-malformed": ("header-mismatch", "medium"),
    "header-ambiguous": ("header-mismatch", "medium"),
    "http-version": ("protocol-downgrade", "low"),
    "method-removed": ("protocol-downgrade", "low"),
    "session-missing": ("response-mixing", "low"),
    "meta-missing": ("protocol-downgrade", "low"),
}
"""Risk and severity of each refusal. Rules that start with `limit-` need no entry: they are resource exhaustion."""


class MessageLimits:
    """The control. It has no options and cannot be switched off; `[limits]` sets what it allows."""

    meta = META

    def __init__(self, options: ControlOptions) -> None:
        only(META.id, options, ())

    def refusal(self, error: ProtocolError) -> Finding:
        """What a refused message is recorded as. A rule without an entry counts as a parser differential."""
        return refusal(error)


def refusal(error: ProtocolError) -> Finding:
    """The finding for a refused message; its rule is the error's."""
    exhausts = isinstance(error, LimitExceeded) or error.rule.startswith("limit-")
    risk, severity = _LIMIT if exhausts else REFUSALS.get(error.rule, (_DIFFERENTIAL, "medium"))
    return Finding(error.rule, risk, error.what, severity=severity)


def build(options: ControlOptions) -> MessageLimits:
    """The control with these options. Raises ConfigError."""
    return MessageLimits(options)
