"""The registry is complete, and so is what belongs to each control."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest

from callgate.config import Config, ControlConfig, SecretConfig, ServerConfig
from callgate.controls.registry import METAS, REGISTRY, build_controls, checked
from callgate.errors import ConfigError
from callgate.gate.control import ControlMeta
from callgate.gate.events import HOOKS
from callgate.risks import RISKS
from tests.controls.harness import FIXTURES, KINDS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "callgate"
IDS = [meta.id for meta in METAS]


@pytest.mark.parametrize("id", IDS)
def test_each_control_has_module_test_and_page(id: str) -> None:
    module = id.replace("-", "_")
    assert (SOURCE / "controls" / f"{module}.py").is_file()
    assert (ROOT / "tests" / "controls" / f"test_{module}.py").is_file()
    page = (ROOT / "docs" / "controls" / f"{id}.md").read_text()
    assert page.startswith(f"# {id}\n")


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_control_has_fixtures_of_each_kind(id: str, kind: str) -> None:
    assert list((FIXTURES / id / kind).glob("*.json"))


def test_no_fixtures_without_control() -> None:
    assert {path.name for path in FIXTURES.iterdir()} <= set(IDS)


@pytest.mark.parametrize("meta", METAS, ids=IDS)
def test_each_declaration_is_sound(meta: ControlMeta, tmp_path: Path) -> None:
    assert set(meta.risks) <= RISKS.keys()
    assert (meta.always | meta.on_hit) <= set(HOOKS)
    assert not meta.always & meta.on_hit
    assert bool(meta.patterns) == bool(meta.on_hit)
    assert all(pattern.name.startswith(f"{meta.id}/") for pattern in meta.patterns)
    control = REGISTRY[meta.id][1]({}, tmp_path)
    assert control.meta is meta
    for hook in HOOKS:
        assert callable(getattr(control, hook, None)) == (hook in meta.always or hook in meta.on_hit)


def test_every_risk_named_in_the_source_is_in_the_catalogue() -> None:
    named: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        if "callgate.gate.verdicts" not in text:
            continue  # another room's Finding
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
                risk = next((k.value for k in node.keywords if k.arg == "risk"), None) or (node.args[1:2] or [None])[0]
                if isinstance(risk, ast.Constant):
                    named.add(str(risk.value))
    assert named
    assert named <= RISKS.keys()


def test_all_controls_are_built_in_order(tmp_path: Path) -> None:
    server = ServerConfig("a", command=("x",), secrets={"TOKEN": SecretConfig("env://TOKEN")})
    assert [control.meta.id for control in build_controls(Config(servers={"a": server}), tmp_path)] == IDS


def test_what_would_have_nothing_to_do_is_left_out(tmp_path: Path) -> None:
    built = [control.meta.id for control in build_controls(Config(), tmp_path)]
    assert built == [id for id in IDS if id != "secret-redaction"]


def test_off_leaves_a_control_out(tmp_path: Path) -> None:
    config = Config(controls={"terminal-escapes": ControlConfig(mode="off")})
    assert "terminal-escapes" not in [control.meta.id for control in build_controls(config, tmp_path)]


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("terminal-escape", ControlConfig(), "controls.terminal-escape: no such control"),
        ("terminal-escapes", ControlConfig(options={"x": 1}), "controls.terminal-escapes.x: unknown key"),
        ("message-limits", ControlConfig(mode="off"), "controls.message-limits.mode: cannot be set"),
        ("message-limits", ControlConfig(mode="observe"), "controls.message-limits.mode: cannot be set"),
    ],
)
def test_wrong_configuration_is_refused(name: str, entry: ControlConfig, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        build_controls(Config(controls={name: entry}), tmp_path)
    assert error.value.what.startswith(message)


def test_a_second_registration_raises() -> None:
    entry = next(iter(REGISTRY.values()))
    with pytest.raises(ValueError, match="registered twice"):
        checked([entry, entry])


@pytest.mark.parametrize("missing", ["id", "title", "risks", "since"])
def test_an_incomplete_declaration_raises(missing: str) -> None:
    meta, factory = next(iter(REGISTRY.values()))
    empty = () if missing == "risks" else ""
    with pytest.raises(ValueError, match="declared incompletely"):
        checked([(dataclasses.replace(meta, **{missing: empty}), factory)])


def test_a_launch_hook_must_be_announced() -> None:
    meta, factory = next(iter(REGISTRY.values()))
    with pytest.raises(ValueError, match="LAUNCH_CONTROLS"):
        checked([(dataclasses.replace(meta, always=frozenset({"launch"})), factory)])
