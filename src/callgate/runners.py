"""Programs that fetch what they start, by name: what a launch line means, a first start and a sandbox agree on.

Sets of names and nothing else, so that whoever asks at the start of a server pays for a set.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

PACKAGE_RUNNERS: Final = frozenset(("npx", "pnpx", "npm", "pnpm", "yarn", "bunx", "bun", "uvx", "uv", "pipx"))
"""Resolve a package at a registry and run it. What each line of theirs means, `supply.launch_line` reads."""
PROJECT_RUNNERS: Final = frozenset(("poetry", "pdm", "hatch"))
"""Run something in a project's environment, which they may fill from a registry first."""
FETCHERS: Final = PACKAGE_RUNNERS | PROJECT_RUNNERS
CONTAINER_ENGINES: Final = frozenset(("docker", "podman", "nerdctl"))
"""Start images. Which of them can be a sandbox's backend is `sandbox.choose.CONTAINERS`."""
_ENDINGS: Final = (".exe", ".cmd", ".bat", ".ps1")


def program_name(word: str) -> str:
    """The name of a program without its directory and the endings of Windows (`NPX.CMD` is `npx`)."""
    name = word.rpartition("/")[2].rpartition("\\")[2]
    lower = name.lower()
    return lower[: lower.rindex(".")] if lower.endswith(_ENDINGS) else name
