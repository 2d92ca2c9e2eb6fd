"""A limit on how long a store may take, whatever it hangs on: a network, a locked keyring, a prompt nobody sees."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from callgate.errors import SecretError

NETWORK_S: Final = 15.0
PROMPT_S: Final = 60.0
"""Where a person may be asked to unlock something."""

_T = TypeVar("_T")


def within(seconds: float, what: str, work: Callable[[], _T], explain: Callable[[Exception], SecretError]) -> _T:
    """`work()`, or SecretError when it takes longer or fails.

    `what` names the store. What went wrong is told by `explain` alone: the original error, its text and its frames,
    which may hold the secret, are not attached. Work that hangs is left behind in a daemon thread.
    """
    box: dict[str, Any] = {}

    def run() -> None:
        try:
            box["value"] = work()
        except SecretError as error:
            box["problem"] = type(error)(error.what, effect=error.effect, next_step=error.next_step)
        except Exception as error:  # noqa: BLE001 - whatever a client library raises must not get out with its text
            box["problem"] = explain(error)

    thread = threading.Thread(target=run, name="callgate-secret", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is ending and starts no threads: what is given back now is given back here
        run()
    else:
        thread.join(seconds)
    if not box:
        raise SecretError(
            f"{what} did not answer within {seconds:g} s", next_step="check that it runs, is reachable and unlocked"
        )
    if "problem" in box:
        raise cast("SecretError", box["problem"])
    return cast("_T", box["value"])
