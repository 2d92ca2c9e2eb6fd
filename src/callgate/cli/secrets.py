"""`callgate secrets`: find plaintext credentials, move them into a store, set, test, rotate and grant them."""

from __future__ import annotations

import argparse

from callgate.cli.client_options import add_clients

EXIT_OK, EXIT_NO = 0, 1

DESCRIPTION = """\
Credentials of MCP servers: where they lie in plain text, and how they get into
a store instead. No value is ever printed, and none is taken from the command
line: it comes from standard input, or from a prompt that shows nothing.
"""


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    made = argparse.ArgumentParser(
        prog="callgate secrets", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _find(commands.add_parser("find", help="show plaintext credentials: where, of what kind, who can read them"))
    _move(commands.add_parser("move", help="put them into a store and leave references; --undo puts them back"))
    one = commands.add_parser("set", help="store one value, from standard input or a hidden prompt")
    one.add_argument("reference", metavar="REF")
    one.add_argument("--replace", action="store_true", help="another value may be there already")
    one = commands.add_parser("test", help="whether references can be resolved; the values are not shown")
    one.add_argument("reference", metavar="REF", nargs="*")
    one.add_argument("--all", action="store_true", help="every reference in clients' files and in callgate.toml")
    one.add_argument("--json", action="store_true", help="print one JSON document")
    one = commands.add_parser("rotate", help="replace a value by a new one, and tell the gates that run")
    one.add_argument("reference", metavar="NAME|REF")
    _grants(commands)
    return made


def _find(made: argparse.ArgumentParser) -> None:
    made.add_argument("path", metavar="PATH", nargs="*", help="look here instead of at the known places")
    made.add_argument("--home", action="store_true", help="all .env files below the home directory too")
    add_clients(made)
    made.add_argument("--json", action="store_true", help="print one JSON document")


def _move(made: argparse.ArgumentParser) -> None:
    made.add_argument("path", metavar="FILE", nargs="*", help="these .env files too")
    made.add_argument("--to", metavar="STORE", default="", help="keyring, age, vault or awssm (default: the best here)")
    add_clients(made)
    made.add_argument("--server", metavar="NAME", action="append", default=[], help="only this server (repeatable)")
    made.add_argument("--undo", action="store_true", help="put the values back into the files")
    made.add_argument("--yes", action="store_true", help="do not ask")
    made.add_argument("--dry-run", action="store_true", help="show the change and write nothing")


def _grants(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = "[-- COMMAND ARGS…]"
    one = commands.add_parser("grant", help="let one server, by its command, have one secret", epilog=command)
    one.add_argument("reference", metavar="REF", nargs="?")
    one.add_argument("--as", dest="variable", metavar="NAME", default="", help="the variable that holds the reference")
    one.add_argument("--env", metavar="NAME[=TEXT]", action="append", default=[], help="another one the start names")
    one.add_argument("--unconfined", action="store_true", help="for starts without a sandbox")
    one.add_argument("--start", metavar="DIGEST", default="", help="in place of these: what a refused start said")
    two = commands.add_parser("revoke", help="take that back, from all servers where none is named", epilog=command)
    two.add_argument("reference", metavar="REF", nargs="?", default="")
    for made in (one, two):
        made.add_argument("--url", metavar="URL", default="", help="a server behind a URL, in place of a command")
        made.add_argument("--config", metavar="FILE", default="", help="all references in this callgate.toml, instead")
    three = commands.add_parser("grants", help="show which server may have which secret")
    three.add_argument("--json", action="store_true", help="print one JSON document")
    for made in (one, two, three):
        made.add_argument("--state", metavar="DIR", default="", help="the state directory (default: the user's)")


def main(argv: list[str]) -> int:
    """The sub-command. 0 done, nothing found; 1 something was found, or was not done; 2 usage; 3 internal."""
    at = argv.index("--") if "--" in argv and argv[0] in ("grant", "revoke") else len(argv)
    arguments = parser().parse_args(argv[:at])
    arguments.target = argv[at + 1 :]
    if arguments.command == "find":
        from callgate.cli.secrets_find import find

        return find(arguments)
    if arguments.command == "move":
        from callgate.cli.secrets_move import move

        return move(arguments)
    if arguments.command in ("grant", "grants", "revoke"):
        from callgate.cli import secrets_grant

        run = {"grant": secrets_grant.grant, "grants": secrets_grant.grants, "revoke": secrets_grant.revoke}
        return run[arguments.command](arguments)
    from callgate.cli.secrets_store import put, rotate, test

    if arguments.command == "set":
        return put(arguments)
    return test(arguments) if arguments.command == "test" else rotate(arguments)
