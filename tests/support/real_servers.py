"""The servers of others that the gate is proved against, and what to call on each.

Every tool that works without a network is called. `prepare` puts the server's world into the same
state before each run, at the same paths, so that answers can be compared as they are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.programs import npm_script, pypi_server

Call = tuple[str, dict[str, Any]]
NPM = "@modelcontextprotocol/server-"
LONG_AGO = 1_700_000_000


def _nothing(work: Path) -> None:
    work.mkdir(parents=True)


@dataclass(frozen=True)
class RealServer:
    """One server. Functions take the directory it works in, and `site`, the URL of a small web server."""

    name: str
    command: Callable[[Path], list[str]]
    calls: Callable[[Path, str], list[Call]]
    prepare: Callable[[Path], None] = _nothing
    environment: Callable[[Path], Mapping[str, str]] = lambda work: {}
    uncalled: Mapping[str, str] = field(default_factory=dict)
    """Tools that are not called, and why."""
    modern: bool = False
    prompts: tuple[Call, ...] = ()

    def fresh(self, work: Path) -> None:
        shutil.rmtree(work, ignore_errors=True)
        self.prepare(work)


# --- npm -----------------------------------------------------------------------------------------


def _files(work: Path) -> None:
    (work / "docs").mkdir(parents=True)
    (work / "hello.txt").write_text("hello\nworld\n")
    (work / "docs" / "notes.md").write_text("# Notes\n\nNothing yet.\n")
    (work / "pixel.png").write_bytes(bytes.fromhex("89504e470d0a1a0a"))
    for path in (work / "hello.txt", work / "docs" / "notes.md", work / "pixel.png", work / "docs", work):
        os.utime(path, (LONG_AGO, LONG_AGO))


def _filesystem_calls(work: Path, site: str) -> list[Call]:
    at = str(work)
    return [
        ("list_allowed_directories", {}),
        ("list_directory", {"path": at}),
        ("list_directory_with_sizes", {"path": at, "sortBy": "size"}),
        ("directory_tree", {"path": at}),
        ("search_files", {"path": at, "pattern": "**/*.md"}),
        ("get_file_info", {"path": f"{at}/hello.txt"}),
        ("read_file", {"path": f"{at}/hello.txt"}),
        ("read_text_file", {"path": f"{at}/hello.txt", "head": 1}),
        ("read_media_file", {"path": f"{at}/pixel.png"}),
        ("read_multiple_files", {"paths": [f"{at}/hello.txt", f"{at}/docs/notes.md", f"{at}/missing"]}),
        ("read_file", {"path": "/etc/hostname"}),
        ("write_file", {"path": f"{at}/new.txt", "content": "gr\u00fc\u00df dich, \u4e16\u754c \U0001f30d\n"}),
        ("edit_file", {"path": f"{at}/hello.txt", "edits": [{"oldText": "world", "newText": "there"}]}),
        ("create_directory", {"path": f"{at}/more"}),
        ("move_file", {"source": f"{at}/new.txt", "destination": f"{at}/more/new.txt"}),
        ("read_file", {"path": f"{at}/more/new.txt"}),
    ]


def _everything_calls(work: Path, site: str) -> list[Call]:
    return [
        ("echo", {"message": "hello"}),
        ("get-sum", {"a": 2, "b": 3.5}),
        ("get-annotated-message", {"messageType": "error", "includeImage": True}),
        ("get-env", {}),
        ("get-resource-links", {"count": 3}),
        ("get-resource-reference", {"resourceType": "Text", "resourceId": 1}),
        ("get-structured-content", {"location": "New York"}),
        ("get-tiny-image", {}),
        (
            "gzip-file-as-resource",
            {"name": "x.gz", "data": "data:text/plain;base64,aGVsbG8=", "outputType": "resource"},
        ),
        ("trigger-long-running-operation", {"duration": 0.2, "steps": 4}),
        ("get-sum", {"a": "no number"}),
        ("no-such-tool", {}),
    ]


def _memory_calls(work: Path, site: str) -> list[Call]:
    people = [{"name": n, "entityType": "person", "observations": ["was here"]} for n in ("Ada", "Grace")]
    knows = [{"from": "Ada", "to": "Grace", "relationType": "knows"}]
    return [
        ("create_entities", {"entities": people}),
        ("create_relations", {"relations": knows}),
        ("add_observations", {"observations": [{"entityName": "Ada", "contents": ["wrote a program"]}]}),
        ("read_graph", {}),
        ("search_nodes", {"query": "program"}),
        ("open_nodes", {"names": ["Grace"]}),
        ("delete_observations", {"deletions": [{"entityName": "Ada", "observations": ["was here"]}]}),
        ("delete_relations", {"relations": knows}),
        ("delete_entities", {"entityNames": ["Grace"]}),
        ("read_graph", {}),
    ]


def _thoughts(work: Path, site: str) -> list[Call]:
    first = {"thought": "First", "nextThoughtNeeded": True, "thoughtNumber": 1, "totalThoughts": 2}
    second = {"thought": "Second", "nextThoughtNeeded": False, "thoughtNumber": 2, "totalThoughts": 2}
    return [("sequentialthinking", first), ("sequentialthinking", second)]


# --- PyPI ----------------------------------------------------------------------------------------

# With these, a commit of the same tree has the same hash whenever it is made.
GIT_DATES = {
    "GIT_AUTHOR_DATE": f"{LONG_AGO} +0000",
    "GIT_COMMITTER_DATE": f"{LONG_AGO} +0000",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


def _repository(work: Path) -> None:
    work.mkdir(parents=True)

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=work, env={**os.environ, **GIT_DATES}, check=True, capture_output=True)

    git("init", "--initial-branch", "main")
    (work / "a.txt").write_text("one\n")
    git("add", "a.txt")
    git("commit", "--message", "First")
    (work / "a.txt").write_text("one\ntwo\n")
    (work / "b.txt").write_text("new\n")


def _git_calls(work: Path, site: str) -> list[Call]:
    at = {"repo_path": str(work)}
    return [
        ("git_status", at),
        ("git_diff_unstaged", at),
        ("git_add", {**at, "files": ["a.txt", "b.txt"]}),
        ("git_diff_staged", at),
        ("git_reset", at),
        ("git_add", {**at, "files": ["a.txt"]}),
        ("git_commit", {**at, "message": "Second"}),
        ("git_log", {**at, "max_count": 5}),
        ("git_show", {**at, "revision": "HEAD"}),
        ("git_create_branch", {**at, "branch_name": "side", "base_branch": "main"}),
        ("git_checkout", {**at, "branch_name": "side"}),
        ("git_branch", {**at, "branch_type": "local"}),
        ("git_diff", {**at, "target": "HEAD~1"}),
        ("git_status", {"repo_path": "/nowhere"}),
    ]


def _fetch_calls(work: Path, site: str) -> list[Call]:
    return [
        ("fetch", {"url": f"{site}/page.html"}),
        ("fetch", {"url": f"{site}/page.html", "raw": True, "max_length": 40, "start_index": 10}),
        ("fetch", {"url": f"{site}/missing"}),
    ]


def _time_calls(work: Path, site: str) -> list[Call]:
    return [
        ("get_current_time", {"timezone": "Europe/Vienna"}),
        ("convert_time", {"source_timezone": "UTC", "time": "12:30", "target_timezone": "Asia/Tokyo"}),
        ("convert_time", {"source_timezone": "Nowhere/Land", "time": "12:30", "target_timezone": "UTC"}),
    ]


REAL_SERVERS = (
    RealServer(
        "filesystem", lambda work: [*npm_script(f"{NPM}filesystem"), str(work)], _filesystem_calls, prepare=_files
    ),
    RealServer(
        "everything",
        lambda work: [*npm_script(f"{NPM}everything"), "stdio"],
        _everything_calls,
        uncalled={
            "toggle-simulated-logging": "logs at random from then on",
            "toggle-subscriber-updates": "sends updates at random from then on",
            "simulate-research-query": "is a task, which this client does not speak",
        },
        prompts=(("simple-prompt", {}), ("args-prompt", {"city": "Vienna"})),
    ),
    RealServer(
        "memory",
        lambda work: npm_script(f"{NPM}memory"),
        _memory_calls,
        environment=lambda work: {"MEMORY_FILE_PATH": str(work / "memory.jsonl")},
    ),
    RealServer(
        "sequential-thinking",
        lambda work: npm_script(f"{NPM}sequential-thinking"),
        _thoughts,
        environment=lambda work: {"DISABLE_THOUGHT_LOGGING": "true"},
    ),
    RealServer(
        "git",
        lambda work: [pypi_server("mcp-server-git")],
        _git_calls,
        prepare=_repository,
        environment=lambda work: GIT_DATES,
        modern=True,
    ),
    RealServer(
        "fetch",
        lambda work: [pypi_server("mcp-server-fetch"), "--ignore-robots-txt"],
        _fetch_calls,
        modern=True,
    ),
    RealServer("time", lambda work: [pypi_server("mcp-server-time")], _time_calls, modern=True),
)
