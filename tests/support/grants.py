"""A configuration in a place of the test's own, which a person would have said to be theirs."""

from __future__ import annotations

from pathlib import Path

from callgate.vault.grants import PERSON
from callgate.vault.grants_file import changing


def believed(settings: Path, state: Path) -> Path:
    """`settings`, whose references count as the user's own from now on: `callgate secrets grant --config`."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with changing(state) as draft:
        draft.believe(str(settings), PERSON)
    return settings
