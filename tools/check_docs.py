"""Check that the documents are true: `make docs`.

- a relative link leads to a file, and its fragment to a heading of that file;
- a `console` block that shows `$ callgate … --help` shows what the command prints;
- a `toml` block is a configuration callgate accepts, a `json` block is one JSON object or one a line.

A block under the comment `<!-- docs: not checked -->` is left alone. `--static` skips what runs callgate.
"""

from __future__ import annotations

import itertools
import json
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parent.parent
SKIP = "<!-- docs: not checked -->"


@dataclass(frozen=True)
class Problem:
    """Something a document says that is not so."""

    path: Path
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.what}"


def documents() -> list[Path]:
    """The documents at the top and under docs/."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").glob("*.md")])


def slug(heading: str) -> str:
    """The fragment that forges make of a heading."""
    kept = "".join(c for c in heading.strip().lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def headings(path: Path) -> set[str]:
    """All fragments of a document: of headings, and of `<a id="…">`."""
    text = path.read_text()
    tokens = MarkdownIt().parse(text)
    found = {part.partition('"')[0] for part in text.split('<a id="')[1:]}
    for before, token in itertools.pairwise(tokens):
        if before.type == "heading_open":
            text = "".join(child.content for child in token.children or () if child.type in ("text", "code_inline"))
            name, number = slug(text), 1
            while name in found:
                name = f"{slug(text)}-{number}"
                number += 1
            found.add(name)
    return found


def check_links(path: Path, tokens: list[Token]) -> Iterator[Problem]:
    """Links within the repository."""
    for token in tokens:
        for child in token.children or ():
            target = str(child.attrGet("href") or child.attrGet("src") or "")
            if not target or "://" in target or target.startswith("mailto:"):
                continue
            line = (token.map or [0])[0] + 1
            name, _, fragment = target.partition("#")
            file = (path.parent / name).resolve() if name else path
            if not file.exists():
                yield Problem(path, line, f"there is no {name}")
            elif fragment and file.suffix == ".md" and fragment not in headings(file):
                yield Problem(path, line, f"{file.name} has no heading #{fragment}")


def blocks(path: Path, tokens: list[Token]) -> Iterator[tuple[str, str, int]]:
    """Language, text and line of each fenced block that is to be checked."""
    lines = path.read_text().splitlines()
    for token in tokens:
        if token.type == "fence" and token.map:
            above = [line.strip() for line in lines[max(0, token.map[0] - 2) : token.map[0]]]
            if SKIP not in above:
                yield token.info.strip(), token.content, token.map[0] + 1


def check_block(language: str, text: str) -> str:
    """What is wrong with a block of data; empty when nothing is."""
    if language == "json":
        try:
            for line in [text] if text.startswith("{\n") else text.splitlines():
                json.loads(line)
        except ValueError as error:
            return f"not JSON: {error}"
    if language == "toml":
        from callgate.config.document import parse
        from callgate.errors import ConfigError

        try:
            parse(tomllib.loads(text))
        except (tomllib.TOMLDecodeError, ConfigError) as error:
            return f"not a configuration: {error}"
    return ""


def check_help(text: str) -> str:
    """What is wrong with a console block that shows a help text."""
    first, _, shown = text.partition("\n")
    command = first.removeprefix("$ ")
    if not first.startswith("$ callgate") or not command.endswith("--help"):
        return ""
    program = [str(Path(sys.executable).with_name("callgate")), *shlex.split(command)[1:]]
    environment = {"PATH": "/usr/bin:/bin", "COLUMNS": "80", "NO_COLOR": "1"}
    result = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    if result.stdout.rstrip() != shown.rstrip():
        return f"`{command}` prints something else now:\n{result.stdout}"
    return ""


def check(*, static: bool) -> list[Problem]:
    """All problems of all documents."""
    problems: list[Problem] = []
    for path in documents():
        tokens = MarkdownIt().enable("table").parse(path.read_text())
        problems += check_links(path, tokens)
        for language, text, line in blocks(path, tokens):
            wrong = check_block(language, text)
            if not wrong and language == "console" and not static:
                wrong = check_help(text)
            if wrong:
                problems.append(Problem(path, line, wrong))
    return problems


def main(arguments: list[str]) -> int:
    """Print the problems; 1 when there are any."""
    problems = check(static="--static" in arguments)
    for problem in problems:
        print(problem)
    print(f"{len(documents())} documents, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
