"""What a probe is, and what probes share."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MARK = "TOPSECRET-"
"""Every bait's content begins so; the rest is known to the range only, which checks what a probe says it read."""


class Refused(Exception):
    """The attack came to nothing, for a reason that is not an OSError."""


class Missing(Exception):
    """This probe needs something that is not there."""


@dataclass(frozen=True)
class Probe:
    """One attack. `bomb`: it uses something up, and runs in a launch of its own."""

    name: str
    group: str
    title: str
    run: Callable[[dict[str, Any]], str]
    seconds: float = 4.0
    bomb: bool = False


PROBES: dict[str, Probe] = {}


def probe(group: str, title: str, *, seconds: float = 4.0, bomb: bool = False) -> Callable[[Any], Any]:
    def register(function: Callable[[dict[str, Any]], str]) -> Callable[[dict[str, Any]], str]:
        name = function.__name__
        if name in PROBES:
            raise ValueError(f"two probes {name}")
        PROBES[name] = Probe(name, group, title, function, seconds, bomb)
        return function

    return register


def marked(data: bytes | str) -> str:
    """The bait in what was read."""
    text = data.decode("latin-1") if isinstance(data, bytes) else data
    at = text.find(MARK)
    if at < 0:
        raise Refused("the bait is not in it")
    return text[at : at + len(MARK) + 16]


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(1 << 20)


def waited(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def executed(start: Callable[[], Any]) -> str:
    """Run `start` (which execs) in a child."""
    pid = os.fork()
    if pid == 0:
        try:
            start()
        except OSError as error:
            os._exit((error.errno or 1) & 127)
        os._exit(99)
    code = waited(pid)
    if code:
        raise Refused(errno.errorcode.get(code, f"exit {code}"))
    return "it ran"


def program(name: str, *places: str) -> str:
    for place in places:
        if os.access(place, os.X_OK):
            return place
    raise Missing(f"no {name}")


def output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=3.5, check=False)
    return (done.stdout + done.stderr).decode("latin-1")
