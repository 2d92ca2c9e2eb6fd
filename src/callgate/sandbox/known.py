"""What well-known servers need beside the defaults of their kind, so that they work on the first start.

As of November 2026, from the servers' own documentation. An entry is a proposal: it counts only where the user has
set nothing of that sort, and what it adds is told (`SandboxSpec.notices`).
"""

from __future__ import annotations

from callgate.frozen import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Needs:
    """What one package needs.

    `environment`: defaults of variables, `{home}` stands for the server's home. `writes`: options and variables
    that name a file it writes, possibly one that is not there yet: the directory of it becomes writable.
    """

    network: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    writes: tuple[str, ...] = ()


_WEB = ("*:443", "*:80")
_OFFICIAL = "@modelcontextprotocol/server-"

KNOWN: Mapping[str, Needs] = {
    f"{_OFFICIAL}memory": Needs(environment={"MEMORY_FILE_PATH": "{home}/memory.jsonl"}, writes=("MEMORY_FILE_PATH",)),
    f"{_OFFICIAL}github": Needs(network=("api.github.com",)),
    f"{_OFFICIAL}gitlab": Needs(network=("gitlab.com",)),
    f"{_OFFICIAL}slack": Needs(network=("slack.com",)),
    f"{_OFFICIAL}brave-search": Needs(network=("api.search.brave.com",)),
    f"{_OFFICIAL}google-maps": Needs(network=("maps.googleapis.com",)),
    f"{_OFFICIAL}everart": Needs(network=("api.everart.ai",)),
    "@brave/brave-search-mcp-server": Needs(network=("api.search.brave.com",)),
    "@notionhq/notion-mcp-server": Needs(network=("api.notion.com",)),
    "exa-mcp-server": Needs(network=("api.exa.ai",)),
    "firecrawl-mcp": Needs(network=("api.firecrawl.dev",)),
    "tavily-mcp": Needs(network=("api.tavily.com",)),
    "mcp-server-fetch": Needs(network=_WEB),
    "mcp-server-sqlite": Needs(writes=("--db-path",)),
}
"""By package name: npm's as it is, PyPI's in the normal form of PEP 503."""


_PYPI = frozenset(("mcp-server-fetch", "mcp-server-sqlite"))


def needs(package: str, kind: str = "") -> Needs | None:
    """The entry of a package, if there is one. `kind` (`node`, `python`): of that ecosystem, names are taken apart."""
    if kind and (kind == "python") != (package in _PYPI):
        return None
    return KNOWN.get(package)
