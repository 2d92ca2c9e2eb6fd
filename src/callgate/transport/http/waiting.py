"""Waiting for things to come to rest, for shutdown only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether `condition` became true within `seconds`. Polled, so that the hot path keeps no books for it."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        if loop.time() >= end:
            return False
        await asyncio.sleep(0.01)
    return True
