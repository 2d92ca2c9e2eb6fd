"""`callgate serve`: one HTTP gateway in front of all configured servers."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from callgate.config import Config, ServerConfig
from callgate.config.gate import parse_address
from callgate.config.places import state_directory, user_config_file
from callgate.config.reader import load
from callgate.errors import ConfigError
from callgate.launching.granted import check_settings

if TYPE_CHECKING:
    from callgate.audit.writer import Journal

DESCRIPTION = """\
One HTTP gateway for all servers of callgate.toml, each at /NAME/mcp: every
message passes the gate and leaves evidence. Without a configured server, a
small sample server is served.

SIGTERM finishes what is in flight and stops; SIGHUP reads the configuration again.
"""
LOCAL_FILE = "callgate.toml"
COLUMNS = 80


def main(argv: list[str]) -> int:
    """Serve until stopped; 0 after a complete drain, 1 when requests were cut, 2 for a configuration error."""
    arguments = _parser().parse_args(argv)
    path = arguments.config or (LOCAL_FILE if os.path.isfile(LOCAL_FILE) else user_config_file())
    config = _configuration(path, arguments)
    live = arguments.live or (sys.stderr.isatty() and not arguments.quiet)
    from callgate.assembly import build_gate
    from callgate.launching.first_run import pin_served
    from callgate.transport.http.listening import serve
    from callgate.transport.http.worker import Plan

    plan = Plan(
        load=lambda: _configuration(path, arguments),
        open_journal=_journal,
        build_gate=build_gate,
        watch=_watch if live else None,
    )
    pin_served(config, state_directory(config))
    return serve(plan, config, lambda where: None if arguments.quiet else _announce(config, where))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="callgate serve", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", metavar="FILE", help="settings (default: ./callgate.toml, else the user's)")
    parser.add_argument("--listen", metavar="ADDR", help="address to listen on (default: 127.0.0.1:8484)")
    parser.add_argument("--workers", metavar="N", type=int, help="processes (default: 1)")
    parser.add_argument("--mode", choices=("enforce", "observe"), help="in place of the configured mode")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--quiet", action="store_true", help="print nothing but errors")
    shown.add_argument("--live", action="store_true", help="one line a decision, even without a terminal")
    return parser


def _configuration(path: str, arguments: argparse.Namespace) -> Config:
    """The configuration with the command line's changes, and the sample server where none is configured."""
    config = load(path) if path else Config()
    if path == LOCAL_FILE and not arguments.config:
        check_settings(config, state_directory(config))
    listen = config.listen
    if arguments.listen:
        host, port = parse_address(arguments.listen, "--listen")
        listen = replace(listen, host=host, port=port)
    if arguments.workers is not None:
        if not 1 <= arguments.workers <= 64:
            raise ConfigError("--workers must be between 1 and 64", next_step="give one per core at most")
        listen = replace(listen, workers=arguments.workers)
    config = replace(config, listen=listen, mode=arguments.mode or config.mode)
    return config if config.served else replace(config, servers={"sample": _sample()})


def _sample() -> ServerConfig:
    from callgate import sample_server

    return ServerConfig("sample", command=(sys.executable, "-I", str(Path(sample_server.__file__).resolve())))


def _announce(config: Config, where: str) -> None:
    """Say where it listens, what it serves, and what to paste into a client."""
    lines = [f"callgate listens on {where} (mode {config.mode}, {config.source or 'default settings'})"]
    for name, server in config.served.items():
        address = f"{where}/{name}/mcp"
        target = server.url or " ".join(server.command)
        lines.append(f"  {address}  →  {_shortened(target, max(20, COLUMNS - len(address) - 7))}")
    token = ', "headers": {"Authorization": "Bearer TOKEN"}' if config.listen.token_file else ""
    entries = [f'    "{name}": {{"type": "http", "url": "{where}/{name}/mcp"{token}}}' for name in config.served]
    lines += [
        "",
        "Paste into a client's configuration (Claude Code: .mcp.json; Cursor: .cursor/mcp.json;",
        'VS Code: .vscode/mcp.json, with "servers" in place of "mcpServers"):',
        "",
        "{",
        '  "mcpServers": {',
        ",\n".join(entries),
        "  }",
        "}",
        "",
        "Ctrl-C stops; `callgate audit tail` shows evidence, `callgate pins` what is pinned.",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _shortened(text: str, columns: int) -> str:
    from callgate.text import visible

    if len(text) > columns:
        text = "…" + text[1 - columns :]
    return visible(text, 2 * columns)


def _journal(config: Config) -> Journal:
    """The evidence log of a worker; what retention removes is said on stderr as well."""
    from callgate.audit import open_journal
    from callgate.cli.removal import say

    journal = open_journal(state_directory(config), config.audit, process="serve")
    journal.on_removal = say
    return journal


def _watch(journal: Journal) -> None:
    from callgate.cli.live import LiveLines

    journal.watch = LiveLines(sys.stderr).show
