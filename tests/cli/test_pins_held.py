"""What else withholds a definition, as the controls themselves say."""

from __future__ import annotations

from typing import Any

import pytest

from callgate.cli.pins_held import held_by
from callgate.config import Config, ControlConfig

HIDDEN, ESCAPES = "hidden-characters", "terminal-escapes"
TOOL = {"name": "add", "description": "Adds.", "inputSchema": {"type": "object", "properties": {"a": {}}}}


@pytest.mark.parametrize(
    ("kind", "changed", "held"),
    [
        ("tool", {}, []),
        ("tool", {"description": "Adds. \U0001f600 \u0645\u0646 caf\u00e9"}, []),
        ("tool", {"description": "A\u200bdds."}, [HIDDEN]),
        ("tool", {"description": "Adds.\x1b[2K"}, [ESCAPES]),
        ("tool", {"description": "A\u200bdds.\x1b[2K"}, [HIDDEN, ESCAPES]),
        ("tool", {"inputSchema": {"type": "object", "properties": {"a\u202e": {}}}}, [HIDDEN]),
        ("tool", {"_meta": {"k": ["\U000e0041"]}}, [HIDDEN]),
        ("tool", {"name": "p\u0430ypal"}, [HIDDEN]),
        ("tool", {"name": "\u0434\u043e\u0431\u0430\u0432\u0438\u0442\u044c"}, []),
        ("prompt", {"arguments": [{"name": "\u0430dd"}]}, [HIDDEN]),
        ("resource", {"uri": "file:///\u200b"}, [HIDDEN]),
        ("template", {"uriTemplate": "file:///\x07{a}"}, [ESCAPES]),
        ("identity", {"description": "A\u200bdds."}, []),
        ("instructions", {"description": "\x1b[2K"}, []),
    ],
)
def test_what_a_control_takes_out_of_a_list_is_held_by_it(kind: str, changed: dict[str, Any], held: list[str]) -> None:
    assert held_by(kind, TOOL | changed, Config()) == held


def test_a_name_that_is_only_noted_holds_nothing() -> None:
    config = Config(controls={HIDDEN: ControlConfig(options={"names": "annotate"})})
    assert held_by("tool", TOOL | {"name": "p\u0430ypal"}, config) == []
    assert held_by("tool", TOOL | {"description": "A\u200bdds."}, config) == [HIDDEN]


def test_what_becomes_of_results_does_not_matter() -> None:
    for action in ("escape", "remove", "deny"):
        config = Config(controls={name: ControlConfig(options={"action": action}) for name in (HIDDEN, ESCAPES)})
        assert held_by("tool", TOOL | {"description": "A\u200bdds.\x1b[2K"}, config) == [HIDDEN, ESCAPES]
