"""Runtime controls, one file each. `registry` holds the explicit list."""

from __future__ import annotations

LAUNCH_CONTROLS: frozenset[str] = frozenset()
"""Ids of controls with a `launch` hook. While there is none, a server is started before the gate is built."""
