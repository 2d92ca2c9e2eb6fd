"""`uninstall(install(file)) == file`, byte for byte, and what stands between them is what the client must start."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callgate.clients.entries import entries
from callgate.clients.formats import parse
from callgate.clients.moving import _filled_in
from callgate.clients.plan import Plan
from callgate.clients.table import BY_NAME, Place
from callgate.clients.tree import canonical, is_reference
from tests.clients import documents
from tests.clients.roundtrip import GATE, MARK, Desk, TemporaryDesk

SETTINGS = settings(max_examples=70, deadline=None, suppress_health_check=[HealthCheck.too_slow])
BOMS = st.sampled_from(["", "\ufeff"])
CONTINUE = BY_NAME["continue"].places[0]


def started(command: list[str]) -> tuple[str, list[str], list[str]]:
    """Of a wrapped command line: the gate's name for the server, the variables, the server's own command."""
    at = command.index("--")
    assert command[:3] == [GATE, "run", "--name"]
    assert command[4:at:2] == ["--env"] * ((at - 4) // 2)
    return command[3], command[5:at:2], command[at + 1 :]


def check(desk: Desk, model: documents.Model, text: str, *, moving: bool = False) -> str:
    """Install, look at every entry, install again, uninstall."""
    desk.write(text)
    plan = desk.install(moving=moving)
    assert plan.problem is None
    assert {step.action for step in plan.steps} == {"wrap"}, plan.steps
    wrapped = desk.text
    root = parse(desk.place.format, wrapped.removeprefix("\ufeff"))
    found = {entry.name: entry for entry in entries(root, desk.place, desk.client.shape)}
    assert set(found) == set(model)
    lines = set()
    for name, meant in model.items():
        gate_name, variables, command = started(list(found[name].command))
        assert variables == list(meant.get("env", {}))
        assert command == [meant["command"], *map(str, meant.get("args", []))]
        lines.add((gate_name, tuple(command)))
    assert len({name for name, _ in lines}) == len(lines)
    if moving:
        check_moved(desk, plan, model, {name: canonical(entry.node) for name, entry in found.items()})
    assert {step.action for step in desk.install(moving=moving).steps} == {"already"}
    assert desk.text == wrapped
    assert {step.action for step in desk.uninstall().steps} == {"unwrap"}
    assert desk.text == text
    assert desk.records.all() == []
    return wrapped


def check_moved(desk: Desk, plan: Plan, model: documents.Model, found: dict[str, Any]) -> None:
    """Every credential is a reference now, but those the plan says it leaves; and what is kept holds none of them."""
    env = desk.client.shape.env
    left = {(s.server, note.split()[1]) for s in plan.steps for note in s.notes if note.startswith("leaves ")}
    for name, meant in model.items():
        for key, value in meant.get("env", {}).items():
            now = found[name][env][key][1:]
            if MARK not in value or _filled_in(value) or (name, key) in left:
                assert now == value
            else:
                assert is_reference(now)
                assert desk.store.values[now] == value
    if not left:
        kept = json.dumps([asdict(record) for record in desk.records.all()])
        where_else = any(MARK in word for one in model.values() for word in (one["command"], *one.get("args", [])))
        stays = any(_filled_in(value) for one in model.values() for value in one.get("env", {}).values())
        assert where_else or stays or MARK not in kept + plan.kept_text


@SETTINGS
@given(documents.jsonc(), BOMS, st.booleans())
def test_json_with_comments(drawn: tuple[documents.Model, str], bom: str, moving: bool) -> None:
    model, text = drawn
    with TemporaryDesk("cursor") as desk:
        check(desk, model, bom + text, moving=moving)


@SETTINGS
@given(documents.toml(), st.booleans())
def test_toml(drawn: tuple[documents.Model, str], moving: bool) -> None:
    model, text = drawn
    assert tomllib.loads(text)["mcp_servers"] == model
    with TemporaryDesk("codex") as desk:
        wrapped = check(desk, model, text, moving=moving)
    after = tomllib.loads(wrapped)
    for name, meant in model.items():
        now = after["mcp_servers"].pop(name)
        assert now["command"] == GATE
        assert {**now, "command": 0, "args": 0} == {**meant, "command": 0, "args": 0} or moving


@SETTINGS
@given(documents.yaml(), BOMS, st.booleans())
def test_yaml(drawn: tuple[documents.Model, str], bom: str, moving: bool) -> None:
    model, text = drawn
    before = yaml.safe_load(text)
    with TemporaryDesk("goose") as desk:
        wrapped = check(desk, model, bom + text, moving=moving)
    after = yaml.safe_load(wrapped)
    for name in model:
        now, meant = after["extensions"].pop(name), before["extensions"].pop(name)
        assert now["cmd"] == GATE
        assert {**now, "cmd": 0, "args": 0} == {**meant, "cmd": 0, "args": 0} or moving
    assert after == before


@SETTINGS
@given(documents.yaml(named=True), st.booleans())
def test_yaml_list(drawn: tuple[documents.Model, str], moving: bool) -> None:
    model, text = drawn
    assert [server["name"] for server in yaml.safe_load(text)["mcpServers"]] == list(model)
    with TemporaryDesk("continue", CONTINUE) as desk:
        check(desk, model, text, moving=moving)


@SETTINGS
@given(documents.jsonc(key="mcp"), st.data())
def test_command_as_a_list(drawn: tuple[documents.Model, str], data: st.DataObject) -> None:
    model = {
        name: {"type": "local", "command": [one["command"], *one.get("args", [])]} for name, one in drawn[0].items()
    }
    indent = data.draw(st.sampled_from([None, 1, 2, "\t"]))
    with TemporaryDesk("opencode") as desk:
        text = json.dumps({"mcp": model}, indent=indent)
        desk.write(text)
        assert {step.action for step in desk.install().steps} == {"wrap"}
        for name, one in json.loads(desk.text)["mcp"].items():
            assert one["command"][:2] == [GATE, "run"]
            assert one["command"][5:] == model[name]["command"]
        assert desk.text == json.dumps(json.loads(desk.text), indent=indent)
        desk.uninstall()
        assert desk.text == text


@SETTINGS
@given(documents.jsonc(), st.sampled_from([None, 2, 4, "\t"]))
def test_a_client_writes_its_file_anew(drawn: tuple[documents.Model, str], indent: Any) -> None:
    model, _ = drawn
    with TemporaryDesk("claude-desktop") as desk:
        desk.write(json.dumps({"mcpServers": model}, indent=2, ensure_ascii=False))
        desk.install()
        desk.write(json.dumps({"added": 1, **json.loads(desk.text)}, indent=indent, ensure_ascii=False))
        assert {step.action for step in desk.uninstall().steps} == {"unwrap"}
        assert json.loads(desk.text) == {"added": 1, "mcpServers": model}


@pytest.mark.parametrize("indent", [None, 1, 2, 4, "\t"])
def test_json_is_laid_out_as_serialisers_do(indent: Any, tmp_path: Any) -> None:
    servers = {
        "a": {"command": "x", "args": []},
        "b": {"command": "x"},
        "c": {"env": {}, "command": "y", "args": ["z"]},
    }
    servers["d"] = {"type": "http", "url": "https://x.example/mcp"}
    desk = Desk(tmp_path, "cursor")
    desk.write(json.dumps({"mcpServers": servers}, indent=indent))
    desk.install()
    assert desk.text == json.dumps(json.loads(desk.text), indent=indent)


REMOTE = {
    "cursor": ('{"mcpServers": {"s": {"url": "https://x.example/mcp", "headers": {}}}}', {"headers": {}}),
    "claude-code": (
        '{"mcpServers": {"s": {\n\t"type": "http", // c\n\t"url": "https://x.example/mcp"}}}',
        {"type": "stdio"},
    ),
    "gemini-cli": ('{"mcpServers": {"s": {"httpUrl": "https://x.example/mcp", "timeout": 5}}}', {"timeout": "5"}),
    "windsurf": (
        '{"mcpServers": {"s": {"disabled": false, "serverUrl": "https://x.example/mcp"}}}',
        {"disabled": "false"},
    ),
    "zed": ('{"context_servers": {"s": {"source": "custom", "url": "https://x.example/mcp",}}}', {"source": "custom"}),
    "codex": ('[mcp_servers.s]\nurl = "https://x.example/mcp" # u\nenabled = true\n', {"enabled": "true"}),
    "goose": (
        "extensions:\n  s:\n    uri: https://x.example/mcp\n    type: sse\n    headers: {}\n",
        {"type": "stdio", "headers": {}},
    ),
    "opencode": ('{"mcp": {"s": {"type": "remote", "url": "https://x.example/mcp"}}}', {"type": "local"}),
    "mistral-vibe": (
        '[[mcp_servers]]\nname = "s"\ntransport = "http"\nurl = "https://x.example/mcp"\n',
        {"name": "s", "transport": "stdio"},
    ),
}


@pytest.mark.parametrize("client", sorted(REMOTE))
def test_a_url_becomes_a_command(client: str, tmp_path: Any) -> None:
    text, others = REMOTE[client]
    desk = Desk(tmp_path, client)
    desk.write(text)
    assert [step.action for step in desk.install().steps] == ["wrap"]
    (entry,) = entries(parse(desk.place.format, desk.text), desk.place, desk.client.shape)
    assert list(entry.command) == [GATE, "run", "--name", "s", "--url", "https://x.example/mcp"]
    shape = desk.client.shape
    value = {k: v for k, v in canonical(entry.node).items() if k not in (shape.command, shape.args)}
    assert value == {
        k: v if isinstance(v, dict) else ("=" if v in ("5", "false", "true") else "s") + v for k, v in others.items()
    }
    desk.uninstall()
    assert desk.text == text


@pytest.mark.parametrize(
    "text",
    [
        '[mcp_servers]\ns . url = "https://x.example/mcp" # u\ns . enabled = true\n',
        '[mcp_servers]\ns = { url = "https://x.example/mcp", enabled = true }\n',
        '[mcp_servers]\n"s" = { enabled = true, "url" = \'https://x.example/mcp\' }\n',
        'mcp_servers.s = { enabled = true, url = """https://x.example/mcp""", type = "http" }\r\n',
        'mcp_servers . s . url = "https://x.example/mcp"',
    ],
)
def test_a_url_in_every_form_of_toml(text: str, tmp_path: Any) -> None:
    desk = Desk(tmp_path, "codex")
    desk.write(text)
    assert [step.action for step in desk.install().steps] == ["wrap"]
    server = tomllib.loads(desk.text)["mcp_servers"]["s"]
    assert server["command"] == GATE
    assert server["args"] == ["run", "--name", "s", "--url", "https://x.example/mcp"]
    assert "url" not in server
    assert server.get("type", "stdio") == "stdio"
    desk.uninstall()
    assert desk.text == text


@pytest.mark.parametrize(
    "text",
    [
        "extensions: {s: {type: sse, uri: 'https://x.example/mcp', enabled: true}}\n",
        'extensions:\n  "s":\n    "uri": "https://x.example/mcp"   # u\n    type: sse\n\n# end\n',
        "extensions:\n  s:\n    enabled: true\n    uri: >-\n      https://x.example/mcp\n    type: sse\n",
        "extensions:\r\n    s: {\r\n      uri: https://x.example/mcp,\r\n      type: sse }",
    ],
)
def test_a_url_in_every_form_of_yaml(text: str, tmp_path: Any) -> None:
    desk = Desk(tmp_path, "goose")
    desk.write(text)
    assert [step.action for step in desk.install().steps] == ["wrap"]
    server = yaml.safe_load(desk.text)["extensions"]["s"]
    assert server["cmd"] == GATE
    assert server["args"] == ["run", "--name", "s", "--url", "https://x.example/mcp"]
    assert server["type"] == "stdio"
    desk.uninstall()
    assert desk.text == text


@pytest.mark.parametrize(
    ("client", "entry"),
    [
        ("cursor", {"url": "https://x.example", "headers": {"Authorization": "Bearer x"}}),
        ("claude-code", {"type": "http", "url": "https://x.example", "headersHelper": "/bin/h"}),
        ("opencode", {"type": "remote", "url": "https://x.example", "oauth": {"clientId": "x"}}),
        ("cursor", {"url": "ws://x.example"}),
        ("cursor", {"url": "https://x.example", "args": []}),
        ("claude-desktop", {"url": "https://x.example"}),
    ],
)
def test_a_url_that_must_stay_is_named(client: str, entry: dict[str, Any], tmp_path: Any) -> None:
    desk = Desk(tmp_path, client)
    text = json.dumps({desk.place.keys[0]: {"s": entry}})
    desk.write(text)
    (step,) = desk.install().steps
    assert (step.action, step.server) == ("left", "s")
    assert step.detail
    assert step.next_step
    assert desk.text == text


def test_shared_values_are_refused_and_others_go_on(tmp_path: Any) -> None:
    desk = Desk(tmp_path, "goose")
    text = "x: &c npx\nl: &l [a]\nextensions:\n  a:\n    cmd: *c\n  b:\n    cmd: &d uvx\n"
    desk.write(text + "  c:\n    cmd: run\n    args: *l\n  e: {cmd: ok}\n")
    before = desk.text
    actions = {step.server: step.action for step in desk.install().steps}
    assert actions == {"a": "refused", "b": "wrap", "c": "refused", "e": "wrap"}
    desk.uninstall()
    assert desk.text == before


def test_project_scope_of_claude_code(tmp_path: Any) -> None:
    place = Place("x", ("projects", "*", "mcpServers"))
    desk = Desk(tmp_path, "claude-code", place)
    text = json.dumps({"projects": {p: {"mcpServers": {"s": {"command": p}}} for p in ("/a", "/b")}}, indent=2)
    desk.write(text)
    desk.install()
    projects = json.loads(desk.text)["projects"]
    names = [projects[p]["mcpServers"]["s"]["args"][2] for p in ("/a", "/b")]
    assert names == ["s", "s.claude-code"]  # two servers: what one offers is no change of the other
    desk.uninstall()
    assert desk.text == text


def test_null_members_count_as_missing(tmp_path: Any) -> None:
    desk = Desk(tmp_path, "cursor")
    text = (
        '{"mcpServers": {"a": {"command": "x", "args": null}, "b": {"command": null, "url": "http://h/"}, "c": null}}'
    )
    desk.write(text)
    actions = {step.server: step.action for step in desk.install().steps}
    assert actions == {"a": "wrap", "b": "left"}
    desk.uninstall()
    assert desk.text == text
