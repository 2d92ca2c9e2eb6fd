from __future__ import annotations

import json
from pathlib import Path

import pytest

from callgate.clients.diffs import file_diff, value_diff
from callgate.clients.formats import FormatName, parse
from callgate.clients.masking import mask_address, mask_text, mask_url, mask_value, mask_words
from callgate.clients.tree import canonical
from tests.clients.roundtrip import Desk

SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--api-key", SECRET, "x"], ["--api-key", "***", "x"]),
        ([f"--token={SECRET}"], ["--token=***"]),
        (["-e", f"A={SECRET}", "-e", "PASSED_ON"], ["-e", "A=***", "-e", "PASSED_ON"]),
        ([f"--env=A={SECRET}"], ["--env=***"]),
        (["--header", f"Authorization: Bearer {SECRET}"], ["--header", "Authorization:***"]),
        ([f"postgres://u:{SECRET}@db/x"], ["postgres://***@db/x"]),
        ([f"https://h/mcp?key={SECRET}&v"], ["https://h/mcp?key=***&***"]),
        ([f"https://u:{SECRET}@h/?api_key={SECRET}"], ["https://***@h/?api_key=***"]),
        ([f"--url=https://u:{SECRET}@h/?api_key={SECRET}"], ["--url=https://***@h/?api_key=***"]),
        ([f"Authorization: Bearer {SECRET}", "x"], ["Authorization:***", "x"]),
        ([f"X-Api-Key:{SECRET}"], ["X-Api-Key:***"]),
        ([f'{{"token": "{SECRET}"}}'], ['{"token":***']),
        ([f'{{"a": 1, "token": "{SECRET}"}}'], ["***"]),
        (["docker.io/x/auth-server:1.2", '{"a": 1}'], ["docker.io/x/auth-server:1.2", '{"a": 1}']),
        (["ghp_0123456789abcdef0123"], ["***"]),
        (["sk-proj-abcdefgh"], ["***"]),
        (["Zk93jdKe02mdJq84nf7Xq1"], ["***"]),
        ([f"npx pkg --password {SECRET} x"], ["npx pkg --password *** x"]),
        (["--token", "--verbose"], ["--token", "--verbose"]),
        (["npx", "-y", "@modelcontextprotocol/server-filesystem@2026.1.14"],) * 2,
        (["/home/me/projects/some-long-directory-name/index.js"],) * 2,
        (["uvx", "mcp-server-git", "--repository", "/x"],) * 2,
    ],
)
def test_words(words: list[str], shown: list[str]) -> None:
    assert mask_words(words) == shown


def test_urls() -> None:
    assert mask_url(f"http://a:{SECRET}@h:1/p?q={SECRET}#f") == "http://***@h:1/p?q=***"
    assert mask_url("http://h/p") == "http://h/p"
    for path in ("s/OTdhYmM0NTY3ODkwMTIzNDU2Zz/mcp", "0f8fad5b-d9cb-469f-a165-70867728950e/mcp", f"mcp#token={SECRET}"):
        for shown in (mask_address(f"https://h.test/{path}"), *mask_words([f"https://h.test/{path}"])):
            assert shown.startswith("https://h.test/")
            assert not any(part in shown for part in ("OTdh", "0f8f", SECRET))
    assert mask_address("https://h.test/api/mcp") == "https://h.test/api/mcp"


ENTRY = {
    "command": "npx",
    "args": ["--api-key", SECRET, f"--x-token={SECRET}", f"redis://:{SECRET}@h"],
    "env": {"ANY": SECRET, "PORT": "8080"},
    "headers": {"X": f"Bearer {SECRET}"},
    "client_secret": SECRET,
    "auth": {"deep": [SECRET]},
}


@pytest.mark.parametrize("indent", [None, 2])
def test_no_secret_is_in_a_diff(indent: int | None) -> None:
    old = json.dumps({"mcpServers": {"a": ENTRY, "b": {"command": "x"}}}, indent=indent)
    old = f'// "OLD_KEY": "sk-{SECRET}"\n' + old
    shown = "\n".join(file_diff("f", "json", old, old.replace('"npx"', '"new"').replace('"x"', '"y"')))
    assert SECRET not in shown
    assert "8080" not in shown
    assert '"new"' in shown


def test_no_secret_in_other_formats() -> None:
    toml = f'[mcp_servers.a]\nargs = ["--token", """{SECRET}\n{SECRET}"""]\nenv.A = "{SECRET}"\nenv.B = \'{SECRET}\'\n'
    yaml = f"a:\n  args:\n  - --token\n  - {SECRET}\n  envs:\n    A: {SECRET}\n    B: |\n      {SECRET}\n    C: 12345\n"
    documents: tuple[tuple[FormatName, str], ...] = (("toml", toml), ("yaml", yaml))
    for format_, text in documents:
        shown = mask_text(text, format_, parse(format_, text))
        assert SECRET not in shown
        assert "12345" not in shown
        assert "--token" in shown


def test_values() -> None:
    root = parse("json", json.dumps(ENTRY))
    old = canonical(root)
    assert SECRET not in str(mask_value(old))
    new = json.loads(json.dumps(old).replace("s" + SECRET, "s" + SECRET + "!", 1))
    shown = "\n".join(value_diff("x", old, new))
    assert SECRET not in shown
    assert "(changed)" in shown


def test_hostile_names_are_shown_escaped() -> None:
    old = '{"mcpServers": {"a\u202e\u001b": {"command": "x"}}}'.replace("\u001b", "\u2066")
    shown = "\n".join(file_diff("f\u202e", "json", old, old.replace('"x"', '"y"')))
    assert "\u202e" not in shown
    assert "\\u202e" in shown


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_diff_of_known_changes_is_that_of_the_whole(newline: str, tmp_path: Path) -> None:
    servers = {f"s{n}": {"command": "x", "args": [str(n)], "env": {"A": SECRET}} for n in range(12)}
    for indent in (None, 1, 2):
        text = json.dumps({"a": list(range(30)), "mcpServers": servers, "z": {}}, indent=indent).replace("\n", newline)
        folder = tmp_path / f"{indent}"
        folder.mkdir()
        desk = Desk(folder, "cursor")
        desk.write(text)
        for plan in (desk.install(servers=("s0", "s1", "s7", "s11")), desk.uninstall()):
            assert plan.content is not None
            assert plan.text is not None
            assert plan.sides is not None
            old, new = plan.content.text, plan.text
            masked = [mask_text(text, "json", parse("json", text)).replace("\r", "") for text in (old, new)]
            for diff in (plan.diff(), file_diff(plan.path, "json", old, new)):
                assert patched(masked[0].split("\n"), diff) == masked[1].split("\n")
                assert SECRET not in str(diff)
            counts = [line[:1] for line in plan.diff()]
            assert counts.count("@") == (4 if indent else 1)


def patched(lines: list[str], diff: list[str]) -> list[str]:
    """The lines with a unified diff applied; each line of it must fit."""
    out: list[str] = []
    at = 0
    for line in diff[2:]:
        mark, rest = line[0], line[1:]
        if mark == "@":
            first = int(line.split()[1].split(",")[0][1:]) - 1
            out += lines[at:first]
            at = first
            continue
        if mark in " -":
            assert lines[at] == rest
            at += 1
        if mark in " +":
            out.append(rest)
    return out + lines[at:]
