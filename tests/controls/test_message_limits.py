"""message-limits: fixtures, and every refusal that the source raises has a risk and a severity."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from callgate.controls import message_limits
from callgate.errors import ConfigError, LimitExceeded, ProtocolError
from callgate.risks import RISKS
from tests.controls.harness import fixtures, run

SOURCE = Path(message_limits.__file__).parents[1]


def raised_rules() -> set[str]:
    """The first argument of each ProtocolError, LimitExceeded and header mismatch in the source, where it is a text."""
    rules: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                first = node.args[0]
                named = node.func.id in ("ProtocolError", "LimitExceeded", "_mismatch")
                if named and isinstance(first, ast.Constant) and isinstance(first.value, str):
                    rules.add(first.value)
    return rules


@pytest.mark.parametrize("path", fixtures("message-limits"))
def test_fixture(path: Path, tmp_path: Path) -> None:
    run("message-limits", path, tmp_path)


def test_every_refusal_of_the_source_has_an_entry() -> None:
    rules = raised_rules()
    assert {"json-duplicate-key", "jsonrpc-id", "header-mismatch", "response-unknown-id"} <= rules
    assert {rule for rule in rules if not rule.startswith("limit-")} - message_limits.REFUSALS.keys() == set()


def test_every_entry_is_raised_somewhere() -> None:
    assert message_limits.REFUSALS.keys() - raised_rules() == set()


def test_every_risk_is_declared_and_in_the_catalogue() -> None:
    used = {risk for risk, _ in message_limits.REFUSALS.values()} | {"resource-exhaustion"}
    assert used == set(message_limits.META.risks)
    assert used <= RISKS.keys()


def test_a_refusal_becomes_a_finding() -> None:
    finding = message_limits.refusal(ProtocolError("json-duplicate-key", "an object has the same member twice"))
    assert (finding.rule, finding.risk, finding.severity) == ("json-duplicate-key", "parser-differential", "high")
    assert finding.message == "an object has the same member twice"
    assert message_limits.refusal(LimitExceeded("limit-depth", "too deep")).risk == "resource-exhaustion"
    assert message_limits.refusal(ProtocolError("limit-in-flight", "too many")).risk == "resource-exhaustion"
    assert message_limits.refusal(ProtocolError("of-the-future", "?")).risk == "parser-differential"


def test_it_has_no_options() -> None:
    with pytest.raises(ConfigError, match=r"controls\.message-limits\.depth: unknown key; known here: mode"):
        message_limits.build({"depth": 3})
