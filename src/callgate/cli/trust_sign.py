"""`callgate trust sign` and `keygen`: signatures of a lock, and the keys that make them."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

from callgate.config import Config
from callgate.config.places import state_directory
from callgate.config.reader import configured
from callgate.errors import ConfigError, TrustError
from callgate.text import visible

EXIT_OK, EXIT_NO = 0, 1
LOCK_NAME = "callgate.lock"
KEY_NAME = "lock-ed25519.pem"


def answered(action: Callable[[list[str]], int]) -> Callable[[list[str]], int]:
    """An action whose TrustError is the answer "no": said on standard error, exit 1."""

    @functools.wraps(action)
    def run(argv: list[str]) -> int:
        try:
            return action(argv)
        except TrustError as error:
            sys.stdout.flush()
            sys.stderr.write(f"callgate: {error.diagnostics()}\n")
            return EXIT_NO

    return run


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """A parser with --config."""
    made = argparse.ArgumentParser(
        prog=f"callgate trust {name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--config", metavar="FILE", default="", help="the configuration to use")
    return made


def configuration(arguments: argparse.Namespace) -> tuple[Config, Path]:
    """The configuration and the state directory. Raises ConfigError."""
    config = configured(arguments.config)
    return config, state_directory(config)


@answered
def main_sign(argv: list[str]) -> int:
    """`callgate trust sign`. 0 signed; 1 not; 2 usage."""
    made = parser(
        "sign",
        "Signs the lock as it is, in callgate.lock.sig beside it. Signing the same lock\n"
        "with another key adds that signature; signing a changed lock begins anew.",
    )
    made.add_argument("--project", metavar="DIR", default="", help="the lock of a project: DIR/callgate.lock")
    made.add_argument(
        "--key", metavar="KEY", default="", help="FILE, keyring:NAME or transit:MOUNT/KEY (default: yours)"
    )
    made.add_argument(
        "--forget",
        action="store_true",
        help="forget which version was used before, to go back on purpose; signs nothing",
    )
    arguments = made.parse_args(argv)
    _, state = configuration(arguments)
    lock = _lock(arguments.project, state)
    if arguments.forget:
        from callgate.supply.seen import forget

        had = forget(state, lock)
        print(f"{visible(str(lock), 200)}: " + ("what was used before is forgotten" if had else "nothing was known"))
        return EXIT_OK
    from callgate.supply.lock_signature import sign_lock, signature_path
    from callgate.supply.signers import signer_for

    key = arguments.key or str(state / "keys" / KEY_NAME)
    if not arguments.key and not os.path.exists(key):
        raise TrustError(
            "there is no key to sign with", effect="nothing was signed", next_step="make one: callgate trust keygen"
        )
    result = sign_lock(lock, signer_for(key), state)
    print(f"signed {visible(str(lock), 200)}")
    print(f"  key      {result.signers[0][0]}")
    print(f"  version  {visible(result.issued, 40)}")
    print(f"  in       {visible(str(signature_path(lock)), 200)}")
    return EXIT_OK


def _lock(project: str, state: Path) -> Path:
    if not project:
        return state / LOCK_NAME
    if not Path(project).is_dir():
        raise ConfigError(f"there is no directory {visible(project, 200)}", next_step="check the path")
    return Path(project) / LOCK_NAME


@answered
def main_keygen(argv: list[str]) -> int:
    """`callgate trust keygen`. 0 made; 1 not; 2 usage."""
    made = parser(
        "keygen",
        "Makes an Ed25519 key that signs locks. The public key goes into launch.signers\n"
        "of everyone who asks for this signature.",
    )
    made.add_argument(
        "key",
        nargs="?",
        default="",
        metavar="KEY",
        help="FILE, keyring:NAME, or transit:MOUNT/KEY, which must exist (default: a file in the state directory)",
    )
    made.add_argument("--passphrase", action="store_true", help="ask for a passphrase that encrypts the file")
    made.add_argument("--public", metavar="FILE", default="", help="where a keyring or transit key's public half goes")
    arguments = made.parse_args(argv)
    _, state = configuration(arguments)
    name = arguments.key
    if name.startswith(("keyring:", "transit:")):
        return _kept_elsewhere(name, arguments)
    if arguments.public:
        raise ConfigError("--public is for keys that are not in a file", next_step="leave it out")
    from callgate.supply import keys

    path = Path(name).expanduser() if name else state / "keys" / KEY_NAME
    key_id = keys.generate(path, _new_passphrase() if arguments.passphrase else b"")
    _made(key_id, path, keys.public_path(path))
    return EXIT_OK


def _kept_elsewhere(name: str, arguments: argparse.Namespace) -> int:
    from callgate.supply.keys import key_id, public_pem
    from callgate.supply.place import write

    if not arguments.public or arguments.passphrase:
        raise ConfigError(
            f"a key in {name.partition(':')[0]} needs --public FILE, and no passphrase",
            next_step=f"callgate trust keygen {visible(name, 100)} --public release.pub.pem",
        )
    target = Path(arguments.public).expanduser()
    if os.path.lexists(target):
        raise TrustError(f"{visible(str(target), 300)} is already there", next_step="name another file")
    if name.startswith("keyring:"):
        from callgate.supply.signers import KeyringSigner

        identity, pem = KeyringSigner.generate(name.removeprefix("keyring:"))
    else:
        from callgate.supply.transit import from_environment

        public = from_environment(name.removeprefix("transit:")).public()
        identity, pem = key_id(public), public_pem(public)
    write(target, pem, 0o644)
    _made(identity, name, target)
    return EXIT_OK


def _made(key_id: str, private: str | Path, public: Path) -> None:
    print(f"key      {key_id}")
    print(f"private  {visible(str(private), 200)}")
    print(f"public   {visible(str(public), 200)}")


def _new_passphrase() -> bytes:
    import getpass

    if not sys.stdin.isatty():
        raise ConfigError(
            "a passphrase is asked for on a terminal, and there is none", next_step="run it at a terminal"
        )
    first = getpass.getpass("passphrase: ")
    if not first or first != getpass.getpass("once more: "):
        raise ConfigError("the passphrases differ, or are empty", next_step="try again")
    return first.encode()


def main_catalogue(argv: list[str]) -> int:
    """`callgate trust catalogue`."""
    from callgate.cli.trust_sign_lists import catalogue_action

    return catalogue_action(argv)


def main_osv(argv: list[str]) -> int:
    """`callgate trust osv`."""
    from callgate.cli.trust_sign_lists import osv_action

    return osv_action(argv)


def main_inspect(argv: list[str]) -> int:
    """`callgate trust inspect`."""
    from callgate.cli.trust_sign_inspect import inspect_action

    return inspect_action(argv)
