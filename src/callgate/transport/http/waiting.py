"""Small helpers for rare moments: waiting for things to come to rest, naming a defect."""

from __future__ import annotations

import asyncio
import os
import traceback
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


def place_of(error: BaseException) -> str:
    """What went wrong in our own code and where, without its message, which may quote the traffic."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + place
