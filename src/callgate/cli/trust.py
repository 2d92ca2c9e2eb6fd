"""`callgate trust`: which artefacts servers are pinned to, whether they still are, and what an update would bring."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module

from callgate.errors import TrustError

DESCRIPTION = """\
usage: callgate trust ACTION [OPTIONS]

Servers are pinned to artefacts: a launch line such as `npx -y PACKAGE` is
resolved once, fetched without running anything, and what was fetched runs
from then on, offline, until an update is agreed to.

  lock [NAME...]        pin the servers of callgate.toml
  lock [NAME] -- CMD    pin one command
  verify [NAME...]      read every file, compare with the lock; signatures too
  update [NAME...]      show what a newer release changed, ask, take it
  diff NAME [VERSION]   show what a release would change, take nothing
  prune                 remove from the store what no lock refers to
  sign                  sign the lock
  keygen                make a key to sign with
  catalogue             a team's catalogue of servers
  osv                   an index of known vulnerabilities and malware
  inspect               look into a bundle, a skill or a registry entry

callgate trust ACTION --help tells more."""

ACTIONS = {
    "lock": ("callgate.cli.trust_lock", "main_lock"),
    "verify": ("callgate.cli.trust_verify", "main_verify"),
    "update": ("callgate.cli.trust_update", "main_update"),
    "diff": ("callgate.cli.trust_update", "main_diff"),
    "prune": ("callgate.cli.trust_prune", "main_prune"),
    "sign": ("callgate.cli.trust_sign", "main_sign"),
    "keygen": ("callgate.cli.trust_sign", "main_keygen"),
    "catalogue": ("callgate.cli.trust_sign", "main_catalogue"),
    "osv": ("callgate.cli.trust_sign", "main_osv"),
    "inspect": ("callgate.cli.trust_sign", "main_inspect"),
}
EXIT_NO, EXIT_USAGE = 1, 2


def main(argv: list[str]) -> int:
    """The sub-command. 0 ok; 1 something does not hold or was not agreed to; 2 usage."""
    name = argv[0] if argv else ""
    if name in ("", "-h", "--help", "help"):
        print(DESCRIPTION)
        return 0 if name else EXIT_USAGE
    if name not in ACTIONS:
        sys.stderr.write(f"callgate trust: no action {name!a}\n\n{DESCRIPTION}\n")
        return EXIT_USAGE
    module, function = ACTIONS[name]
    action: Callable[[list[str]], int] = getattr(import_module(module), function)
    try:
        return action(argv[1:])
    except TrustError as error:  # the answer is "no", not a defect
        sys.stdout.flush()
        sys.stderr.write(f"callgate: {error.diagnostics()}\n")
        return EXIT_NO
