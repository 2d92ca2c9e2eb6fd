from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.supply import names_npm, names_pypi
from callgate.supply.lookalikes import MOST, fold, look_alikes


@pytest.mark.parametrize(
    ("name", "like", "reason"),
    [
        ("expres", "express", "spelling"),
        ("lodahs", "lodash", "spelling"),
        ("axois", "axios", "spelling"),
        ("typescriptt", "typescript", "spelling"),
        ("chrome-devtool-mcp", "chrome-devtools-mcp", "spelling"),
        ("mcp-remotte", "mcp-remote", "spelling"),
        ("crossenv", "cross-env", "separators"),
        ("cross_env", "cross-env", "separators"),
        ("modelcontextprotocol-server-github", "@modelcontextprotocol/server-github", "separators"),
        ("playwrightmcp", "@playwright/mcp", "separators"),
        ("@playwrite/mcp", "@playwright/mcp", "scope"),
        ("@modelcontextprotocoI/server-github", "@modelcontextprotocol/server-github", "scope"),
        ("@modelcontexprotocol/sdk", "@modelcontextprotocol/sdk", "scope"),
        ("@stripes/mcp", "@stripe/mcp", "scope"),
        ("@acme/server-filesystem", "@modelcontextprotocol/server-filesystem", "base-name"),
        ("server-filesystem", "@modelcontextprotocol/server-filesystem", "base-name"),
        ("context7-mcp", "@upstash/context7-mcp", "base-name"),
        ("server-slack-mcp", "slack-mcp-server", "word-order"),
        ("remote-mcp", "mcp-remote", "word-order"),
        ("\u0435xpress", "express", "confusable"),
        ("rnongodb", "mongodb", "confusable"),
        ("1odash", "lodash", "confusable"),
        ("\uff45xpress", "express", "confusable"),
    ],
)
def test_squats_of_npm_names(name: str, like: str, reason: str) -> None:
    found = look_alikes("npm", name)
    assert (like, reason) in [(one.like, one.reason) for one in found]
    assert found[0].describe(name).isprintable()


@pytest.mark.parametrize(
    ("name", "like", "reason"),
    [
        ("reqeusts", "requests", "spelling"),
        ("mcp-server-fetchh", "mcp-server-fetch", "spelling"),
        ("fastmpc", "fastmcp", "spelling"),
        ("mcpserverfetch", "mcp-server-fetch", "separators"),
        ("git-mcp-server", "mcp-server-git", "word-order"),
        ("pуdantic", "pydantic", "confusable"),
    ],
)
def test_squats_of_pypi_names(name: str, like: str, reason: str) -> None:
    assert (like, reason) in [(one.like, one.reason) for one in look_alikes("pypi", name)]


@pytest.mark.parametrize(
    "name",
    [
        "express",
        "Express",
        "@modelcontextprotocol/server-github",
        "@modelcontextprotocol/server-gitub",  # the scope's owner alone can publish it
        "@babel/cores",
        "@types/lodash",
        "@acme/mcp",
        "@acme/sdk",
        "@acme/weather-mcp-server",
        "weather-server",
        "zod4",  # too short for distances
        "mss",
        "left-pad",
        "mcp-server-weather",
        "погода",
        "天気",
    ],
)
def test_near_misses_of_npm_names(name: str) -> None:
    assert look_alikes("npm", name) == ()


@pytest.mark.parametrize(
    "name", ["mcp_server_fetch", "MCP.Server-Fetch", "zope.interface", "mcp-server-postgis", "acme"]
)
def test_near_misses_of_pypi_names(name: str) -> None:
    assert look_alikes("pypi", name) == ()


def test_the_lists() -> None:
    for module in (names_npm, names_pypi):
        assert 300 <= len(module.NAMES) <= 1000
        assert module.AS_OF.count("-") == 2 and module.SOURCE
        assert all(name.isascii() and name == name.lower() for name in module.NAMES)


@pytest.mark.parametrize(("ecosystem", "names"), [("npm", names_npm.NAMES), ("pypi", names_pypi.NAMES)])
def test_no_name_of_the_list_is_a_look_alike(ecosystem, names) -> None:
    assert [name for name in names if look_alikes(ecosystem, name)] == []


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(sorted(names_npm.NAMES)), at=st.integers(0), how=st.sampled_from(["drop", "swap", "double"])
)
def test_one_slip_of_the_finger_is_found(name: str, at: int, how: str) -> None:
    """Within the part that someone types; names of fewer than six characters are too near to honest ones."""
    base = name.rsplit("/", 1)[-1]
    prefix = name[: -len(base)]
    at %= len(base) - 1 or 1
    slipped = {
        "drop": base[:at] + base[at + 1 :],
        "swap": base[:at] + base[at + 1 : at + 2] + base[at] + base[at + 2 :],
        "double": base[:at] + base[at] + base[at:],
    }[how]
    if prefix or slipped == base or len(fold(slipped)) < 6 or slipped in names_npm.NAMES:
        return
    assert look_alikes("npm", slipped)


@settings(max_examples=200, deadline=None)
@given(name=st.text(max_size=300))
def test_any_text_gives_an_answer(name: str) -> None:
    for ecosystem in ("npm", "pypi"):
        found = look_alikes(ecosystem, name)
        assert len(found) <= MOST
        assert all(one.describe(name).isprintable() for one in found)
