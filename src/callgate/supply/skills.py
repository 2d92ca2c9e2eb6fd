"""Agent skills: a directory (or ZIP) with `SKILL.md`, front matter in YAML and instructions an agent will follow.

Nothing is run. Looked at: the front matter (name, description, allowed tools), hidden characters and terminal escapes
in every text file, commands that fetch and run, commands that run when the skill is loaded, links that leave the skill,
scripts and compiled programs, sizes. A finding `refuse` means: not as it is; `warn`: a person should read that place.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from callgate.detect import escapes, hidden
from callgate.errors import TrustError
from callgate.supply.archive import Limits, unpack
from callgate.supply.finding import WEIGHTS, Finding
from callgate.supply.place import read
from callgate.text import visible

LIMITS: Final = Limits(entries=5000, total_bytes=64 * 1024 * 1024, entry_bytes=16 * 1024 * 1024, depth=16)
SKILL_FILE: Final = "SKILL.md"
MATTER_BYTES: Final = 64 * 1024
TEXT_BYTES: Final = 1024 * 1024
"""A longer text file is looked at up to here, and named."""
LONG_LINES: Final = 500
_MOST_FINDINGS: Final = 200
_KNOWN: Final = frozenset(
    {"name", "description", "license", "compatibility", "metadata", "allowed-tools", "version", "model", "context"}
    | {"argument-hint", "disable-model-invocation", "user-invocable", "agent", "hooks"}
)
_SCRIPTS: Final = (".sh", ".bash", ".zsh", ".py", ".js", ".mjs", ".cjs", ".ts", ".rb", ".pl", ".ps1", ".bat", ".cmd")
_MAGIC: Final = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
_FETCHERS: Final = ("curl ", "wget ", "iwr ", "irm ", "invoke-webrequest", "base64 -d", "base64 --decode", "xxd -r")
_RUNNERS: Final = ("sh", "bash", "zsh", "python", "python3", "node", "perl", "ruby", "iex", "sudo", "invoke-expression")


@dataclass(frozen=True, slots=True)
class Skill:
    """What a skill says of itself, its files with sizes, and what was found. Texts are as its author wrote them."""

    name: str
    description: str
    allowed_tools: tuple[str, ...]
    files: Mapping[str, int]
    findings: tuple[Finding, ...]


def inspect_skill(place: Path) -> Skill:
    """Look at a skill's directory, or at a ZIP with one at its top or in its only directory. Raises TrustError."""
    if place.is_dir():
        return _directory(place, place.resolve().name)
    with tempfile.TemporaryDirectory(prefix="callgate-skill-") as temporary:
        into = Path(temporary) / "skill"
        unpack(place, into, LIMITS)
        inner = sorted(into.iterdir())
        if not (into / SKILL_FILE).exists() and len(inner) == 1 and inner[0].is_dir():
            return _directory(inner[0], inner[0].name)
        return _directory(into, "")


def is_skill(place: Path) -> bool:
    """Whether a directory looks like a skill."""
    return (place / SKILL_FILE).is_file()


def _directory(top: Path, called: str) -> Skill:
    if not is_skill(top):
        raise TrustError(f"there is no {SKILL_FILE} at its top", next_step="name a skill's directory or ZIP")
    findings: list[Finding] = []
    files: dict[str, int] = {}
    total = 0
    for path, status in _walk(top):
        shown = visible(path, 200)
        if shown != path:
            findings.append(
                Finding("skill-file-name", "refuse", "the name holds characters that cannot be seen", shown)
            )
        if stat.S_ISLNK(status.st_mode):
            findings.append(_link(top, path, shown))
            continue
        if not stat.S_ISREG(status.st_mode):
            findings.append(Finding("skill-special-file", "refuse", "neither a file nor a link", shown))
            continue
        files[path] = status.st_size
        total += status.st_size
        if len(files) > LIMITS.entries or total > LIMITS.total_bytes:
            raise TrustError(
                f"the skill is larger than {LIMITS.entries} files or {LIMITS.total_bytes} bytes",
                next_step="look at it by hand",
            )
        findings += _file(top / path, shown, status)
    data = read(top / SKILL_FILE, TEXT_BYTES, SKILL_FILE)
    name, description, tools, about = _matter(data, called)
    findings += about
    if data.count(b"\n") > LONG_LINES:
        what = f"{data.count(bytes([10]))} lines are read into the context whenever the skill is used"
        findings.append(Finding("skill-long", "note", what, SKILL_FILE))
    findings.sort(key=lambda one: -WEIGHTS.index(one.weight))  # what refuses is never cut off
    return Skill(name, description, tools, files, tuple(findings[:_MOST_FINDINGS]))


def _walk(top: Path) -> Iterator[tuple[str, os.stat_result]]:
    for folder, directories, names in os.walk(top):
        directories.sort()
        links = [one for one in directories if os.path.islink(os.path.join(folder, one))]
        for name in sorted([*names, *links]):
            full = os.path.join(folder, name)
            yield os.path.relpath(full, top).replace(os.sep, "/"), os.lstat(full)


def _link(top: Path, path: str, shown: str) -> Finding:
    target = os.path.realpath(top / path)
    if os.path.commonpath([target, os.path.realpath(top)]) != os.path.realpath(top):
        return Finding("skill-link-out", "refuse", f"a link out of the skill, to '{visible(target, 200)}'", shown)
    return Finding("skill-link", "note", "a link inside the skill", shown)


def _file(path: Path, shown: str, status: os.stat_result) -> list[Finding]:
    with open(path, "rb") as file:
        data = file.read(TEXT_BYTES)
    if data.startswith(_MAGIC):
        return [Finding("skill-program", "warn", "a compiled program", shown)]
    if b"\0" in data[:8192]:
        return []
    found: list[Finding] = []
    if status.st_size > TEXT_BYTES:
        found.append(Finding("skill-large-text", "warn", f"only the first {TEXT_BYTES} bytes were looked at", shown))
    text = data.decode("utf-8", "replace")
    found += _hidden(text, shown)
    script = status.st_mode & 0o111 or shown.lower().endswith(_SCRIPTS) or text.startswith("#!")
    if script:
        found.append(Finding("skill-script", "note", "a script the agent may run", shown))
    for number, line in enumerate(text.splitlines(), 1):
        what = _command(line)
        if what:
            found.append(Finding("skill-fetch-and-run", "warn", f"line {number}: {visible(line.strip(), 100)}", shown))
        if "!`" in line and shown.lower().endswith(".md"):
            cut = visible(line.strip(), 100)
            found.append(Finding("skill-runs-on-load", "warn", f"line {number} runs a command: {cut}", shown))
        if len(found) > _MOST_FINDINGS:
            break
    if shown.lower().endswith(".md") and "<!--" in text:
        at = text.index("<!--")
        cut = visible(" ".join(text[at : at + 100].split()), 100)
        found.append(Finding("skill-comment", "warn", f"a comment readers do not see and agents do: {cut}", shown))
    return found


def _hidden(text: str, shown: str) -> list[Finding]:
    found = []
    for rule, spans in (
        ("skill-hidden-characters", hidden.find(text, most=50)),
        ("skill-terminal-escape", escapes.find(text, most=50)),
    ):
        for span in spans[:5]:
            line = text.count("\n", 0, span.start) + 1
            payload = f": '{visible(span.payload, 80)}'" if span.payload else ""
            found.append(Finding(rule, "refuse", f"line {line}: {span.kind}{payload}", shown))
    return found


def _command(line: str) -> bool:
    """Whether a line fetches or decodes something and runs it: `curl … | sh`, `sh -c "$(curl …)"`, `iex (irm …)`."""
    low = line.lower()
    if not any(one in low for one in _FETCHERS):
        return False
    for part in low.split("|")[1:]:
        words = part.replace("(", " ").replace(")", " ").split()
        if words and words[0].rsplit("/", 1)[-1].strip("`'\"") in _RUNNERS:
            return True
    before = low.split("$(")[0] if "$(" in low else low.split("<(")[0] if "<(" in low else ""
    runs = before.replace("`", " ").split()
    return (
        bool(runs and {"sh", "bash", "zsh", "eval", "source", "python", "python3"} & set(runs)) or "iex" in low.split()
    )


def _matter(data: bytes, called: str) -> tuple[str, str, tuple[str, ...], list[Finding]]:
    """Name, description and allowed tools of the front matter, and what is wrong with it."""
    text = data.decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n")
    found: list[Finding] = []
    if not text.startswith("---\n") or "\n---" not in text[3:]:
        found.append(Finding("skill-front-matter", "refuse", "there is none", SKILL_FILE))
        return called, "", (), found
    matter = text[4 : text.index("\n---", 3) + 1]
    if len(matter) > MATTER_BYTES:
        found.append(Finding("skill-front-matter", "refuse", f"longer than {MATTER_BYTES} characters", SKILL_FILE))
        return called, "", (), found
    try:
        table = _table(matter)
    except ValueError as error:
        found.append(Finding("skill-front-matter", "refuse", visible(str(error), 200), SKILL_FILE))
        return called, "", (), found
    name, description = _scalar(table.get("name")), _scalar(table.get("description"))
    if not name or not description:
        found.append(Finding("skill-front-matter", "refuse", "name or description is missing", SKILL_FILE))
    good = (
        len(name) <= 64 and name.isascii() and all(one.isalnum() or one == "-" for one in name) and name == name.lower()
    )
    if name and not good:
        what = f"the name '{visible(name, 80)}' is not of lower-case letters, digits and hyphens"
        found.append(Finding("skill-name", "warn", what, SKILL_FILE))
    elif name and called and name != called:
        what = f"it calls itself '{visible(name, 80)}' and lies in '{visible(called, 80)}'"
        found.append(Finding("skill-name", "warn", what, SKILL_FILE))
    if len(description) > 1024:
        found.append(
            Finding("skill-description", "warn", f"{len(description)} characters, not at most 1024", SKILL_FILE)
        )
    found += [
        Finding("skill-unknown-member", "note", f"'{visible(key, 60)}' is not a member that is known", SKILL_FILE)
        for key in table
        if key not in _KNOWN
    ]
    if "hooks" in table:
        found.append(Finding("skill-hooks", "warn", "it sets hooks, which run without being asked", SKILL_FILE))
    tools = _tools(table.get("allowed-tools"))
    for tool in tools:
        if tool in {"Bash", "Bash(*)", "Bash(*:*)", "*", "Shell", "shell"}:
            found.append(Finding("skill-allowed-tools", "warn", f"'{tool}' allows every command unasked", SKILL_FILE))
    return name or called, description, tools, found


def _table(matter: str) -> dict[str, object]:
    """The top of the front matter: scalars and lists of scalars, read as nodes, so that no tag makes an object."""
    import yaml

    try:
        root = yaml.compose(matter, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(root, yaml.MappingNode):
        raise ValueError("not a mapping")  # noqa: TRY004 - one error for all of it
    table: dict[str, object] = {}
    for key, value in root.value:
        if not isinstance(key, yaml.ScalarNode) or key.value in table:
            raise ValueError("a member is there twice, or is no text")
        if isinstance(value, yaml.ScalarNode):
            table[key.value] = value.value
        elif isinstance(value, yaml.SequenceNode):
            table[key.value] = [one.value for one in value.value if isinstance(one, yaml.ScalarNode)]
        else:
            table[key.value] = {}
    return table


def _scalar(value: object) -> str:
    return value if isinstance(value, str) else ""


def _tools(value: object) -> tuple[str, ...]:
    """`allowed-tools`: a list, or words parted by commas or spaces outside brackets."""
    if isinstance(value, list):
        return tuple(str(one) for one in value[:200])
    words: list[str] = []
    word, depth = "", 0
    for char in _scalar(value)[:4096]:
        depth += (char == "(") - (char == ")")
        if char in ", " and depth <= 0:
            words.append(word)
            word = ""
        else:
            word += char
    return tuple(one for one in [*words, word] if one)
