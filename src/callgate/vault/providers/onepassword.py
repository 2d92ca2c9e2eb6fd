"""`op://vault/item/field`: 1Password, through its own program `op`, which must be installed and signed in.

Its settings are its own: the desktop app, OP_SERVICE_ACCOUNT_TOKEN, OP_CONNECT_HOST and OP_CONNECT_TOKEN. Of what a
client's entry may have set it gets these and no others; that nobody leads its credential elsewhere, grants see to.
"""

from __future__ import annotations

import os
import subprocess

from callgate.errors import SecretError, TrustError
from callgate.outside import programs, variables
from callgate.vault.deadline import PROMPT_S
from callgate.vault.fields import MOST_BYTES
from callgate.vault.providers.base import Document
from callgate.vault.reference import Reference

_GIVEN = frozenset(
    ("OP_SERVICE_ACCOUNT_TOKEN", "OP_CONNECT_HOST", "OP_CONNECT_TOKEN", "OP_ACCOUNT", "OP_BIOMETRIC_UNLOCK_ENABLED")
)
_HINTS = (
    ("not currently signed in", "sign in first: op signin"),
    ("no accounts configured", "set it up first: op account add, or OP_SERVICE_ACCOUNT_TOKEN"),
    ("isn't a vault", "check the vault's name; op vault list shows them"),
    ("isn't an item", "check the item's name; op item list shows them"),
    ("does not have a field", "check the field's name; op item get ITEM shows them"),
    ("authorization prompt dismissed", "allow callgate's request in the 1Password app"),
)


class OnePasswordProvider:
    """See the module. A person may be asked to unlock 1Password: up to a minute is given for that."""

    def __init__(self, seconds: float = PROMPT_S) -> None:
        self._seconds = seconds

    def read(self, reference: Reference) -> Document:
        """What `op read` prints."""
        try:
            program = programs.find("op")
            environment = _environment(program) if program else {}
        except TrustError as error:
            raise SecretError(f"{reference.text}: {error.what}", next_step=error.next_step) from error
        if not program:
            raise SecretError(
                f"{reference.text} needs 1Password's program op, which is not on the PATH",
                next_step="install the 1Password CLI, or name its directory in PATH where callgate is started",
            )
        problem = ""
        try:
            process = subprocess.Popen(
                [program, "read", "--no-newline", _as_op_writes_it(reference)],
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            problem = error.strerror or "it does not start"
        if problem:
            raise SecretError(f"{reference.text}: op cannot be started: {problem}", next_step="check the program op")
        try:
            out, said = process.communicate(timeout=self._seconds)
        except subprocess.TimeoutExpired:
            _end(process)
            problem = f"op did not answer within {self._seconds:g} s"
        if problem:
            raise SecretError(f"{reference.text}: {problem}", next_step="unlock 1Password, then try again")
        if process.returncode:
            raise SecretError(
                f"{reference.text}: op refused (exit code {process.returncode})", next_step=_hint(said[:4096])
            )
        if len(out) > MOST_BYTES:
            raise SecretError(
                f"{reference.text} has more than {MOST_BYTES} bytes", next_step="name a field, not a file"
            )
        return Document(out)

    def close(self) -> None:
        """Nothing is held."""


def _environment(program: str) -> dict[str, str]:
    given = {name: value for name, value in os.environ.items() if name in _GIVEN or name.startswith("OP_SESSION_")}
    return {**given, **variables.basic(program)}


def _as_op_writes_it(reference: Reference) -> str:
    """The reference with its parts decoded: op takes spaces as they are."""
    attribute = reference.options.get("attribute")
    return f"op://{reference.path}" + (f"?attribute={attribute}" if attribute else "")


def _hint(said: bytes) -> str:
    text = said.decode("utf-8", "replace").lower()
    return next((hint for mark, hint in _HINTS if mark in text), "try the same by hand: op read REFERENCE")


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, 9)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.communicate()
