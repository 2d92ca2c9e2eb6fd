"""Running `@modelcontextprotocol/conformance` and reading what it found."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import npm_script

PACKAGE = "@modelcontextprotocol/conformance"
STAMP = re.compile(r"-\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}-\d{3}Z$")

Verdict = tuple[str, str, str]
"""Scenario, check id, status."""


@dataclass(frozen=True)
class Report:
    """What one run of the suite said."""

    verdicts: Counter[Verdict]
    output: str

    def scenarios(self) -> set[str]:
        return {scenario for scenario, _, _ in self.verdicts}

    def judged(self) -> Report:
        """Without the suite's own notes of what it saw and sent."""
        return Report(Counter({v: n for v, n in self.verdicts.items() if v[2] != "INFO"}), self.output)

    def passing(self, required: list[str]) -> list[str]:
        """Those of the required scenarios that ran and have no failed check."""
        failed = {scenario for scenario, _, status in self.verdicts if status == "FAILURE"}
        return [name for name in required if name in self.scenarios() - failed]


def requirements(revision: str, leg: str) -> list[str]:
    """The scenarios a revision requires of a server or client (the suite's own frozen list)."""
    script = npm_script(PACKAGE)[-1]
    listing = Path(script).parent.parent / "requirements" / f"{revision}.yaml"
    names: list[str] = []
    section = ""
    for line in listing.read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            section = line.rstrip(":")
        elif section == leg and line.startswith("  - "):
            names.append(line[4:].strip())
    return names


def run_server_suite(url: str, output: Path, *selection: str) -> Report:
    """All selected scenarios against the server at `url`."""
    return _run(["server", "--url", url, *selection], output, "server-")


def run_client_scenario(command: str, scenario: str, revision: str, output: Path) -> Report:
    """One client scenario; the suite starts `command` with the URL of its own server appended."""
    arguments = ["client", "--command", command, "--scenario", scenario, "--spec-version", revision]
    return _run([*arguments, "--timeout", "60000"], output, "")


def _run(arguments: list[str], output: Path, prefix: str) -> Report:
    process = subprocess.run(
        [*npm_script(PACKAGE), *arguments, "--output-dir", str(output)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    verdicts: Counter[Verdict] = Counter()
    for file in output.rglob("checks.json"):
        scenario = STAMP.sub("", str(file.parent.relative_to(output))).removeprefix(prefix)
        verdicts.update((scenario, check["id"], check["status"]) for check in json.loads(file.read_text()))
    text = process.stdout + process.stderr
    assert verdicts, f"the suite reported nothing:\n{text[-2000:]}"
    return Report(verdicts, text)


def difference(direct: Report, gated: Report) -> str:
    """What differs between two runs, one line a verdict; empty when nothing does."""
    lines = [f"only direct: {count} x {verdict}" for verdict, count in (direct.verdicts - gated.verdicts).items()]
    lines += [f"only gated:  {count} x {verdict}" for verdict, count in (gated.verdicts - direct.verdicts).items()]
    return "\n".join(sorted(lines))
