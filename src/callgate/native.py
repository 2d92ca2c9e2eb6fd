"""The native lane (core/), where it was built for this platform: the only place that imports it.

It repeats, for plain messages of a form that was judged before, what the Python of `gate.express`, `audit.scope` and
`transport.lane` does, several times as fast. Without it nothing is missing. CALLGATE_NATIVE=off does without.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Final

INTERFACE: Final = 5
"""What this Python expects of it. One that was built for another is not used."""


def _load() -> ModuleType | None:
    if os.environ.get("CALLGATE_NATIVE") == "off":
        return None
    try:
        from callgate import _core
    except ImportError:  # not built for this platform
        return None
    return _core if _core.INTERFACE == INTERFACE else None


core: Final = _load()
"""The module, or None."""
