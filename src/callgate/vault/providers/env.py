"""`env://NAME`: a variable of callgate's own environment, under another name or in a longer text."""

from __future__ import annotations

import os

from callgate.errors import SecretError
from callgate.vault.providers.base import Document
from callgate.vault.reference import Reference


class EnvProvider:
    """See the module."""

    def read(self, reference: Reference) -> Document:
        """The variable's bytes."""
        name = reference.parts[0]
        value = os.environ.get(name)
        if not value:
            state = "is empty" if value is not None else "is not set"
            raise SecretError(
                f"{reference.text}: the variable {state} in callgate's environment",
                next_step=f"set {name} where callgate is started; an editor may not pass your shell's variables on",
            )
        return Document(os.fsencode(value))

    def close(self) -> None:
        """Nothing is held."""
