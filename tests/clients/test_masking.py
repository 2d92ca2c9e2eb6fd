from __future__ import annotations

import json

import pytest

from callgate.clients.diffs import file_diff, value_diff
from callgate.clients.formats import FormatName, parse
from callgate.clients.masking import mask_text, mask_url, mask_value, mask_words

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
    from callgate.clients.tree import canonical

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
