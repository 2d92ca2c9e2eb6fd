"""`callgate trust verify`: is everything still what was locked?"""

from __future__ import annotations

from callgate.cli.trust_common import EXIT_NO, EXIT_OK, chosen, parser, place, say_error, title, told
from callgate.errors import TrustError
from callgate.supply import tree_check
from callgate.text import visible

DESCRIPTION = """\
Compare every locked server with what is in the store: its program, every file
of its tree, and the signatures of the lock where launch.signers are named.
Reads everything, changes nothing, asks no registry.
"""


def main_verify(argv: list[str]) -> int:
    """0: all hold; 1: something does not."""
    made = parser("verify", DESCRIPTION)
    made.add_argument("names", metavar="NAME", nargs="*", help="names of servers (default: all)")
    arguments = made.parse_args(argv)
    where = place(arguments)
    servers = chosen(where, arguments.names)
    if not servers:
        print(f"nothing is locked in {visible(str(where.lock), 300)}")
        return EXIT_OK
    code = EXIT_OK
    launch = where.config.launch
    if launch.signers:
        from pathlib import Path

        from callgate.supply.lock_signature import verify_lock

        try:
            found = verify_lock(where.lock, [Path(one) for one in launch.signers], launch.threshold, where.state)
            print(f"signed by {len(found.signers)} of the named signers, {launch.threshold} needed")
        except TrustError as error:
            print("FAILED  signature")
            say_error(error, 8)
            code = EXIT_NO
    else:
        print("no signers are named (launch.signers): signatures were not asked for")
    for server in servers:
        with told(f"reading {server.name}"):
            problems = tree_check.problems(server, where.lock, where.state, signed=bool(launch.signers))
        if problems:
            code = EXIT_NO
        for one in problems:
            print(f"FAILED  {title(server)}")
            say_error(one, 8)
        if not problems:
            what = f"tree {server.tree[:19]}..." if server.tree else f"{server.artefacts[0].digest[:26]}..."
            print(f"ok      {title(server)}  {what}")
    return code
