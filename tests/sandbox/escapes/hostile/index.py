"""A hostile server: one probe after another tries to get out, and prints one JSON line with what it got.

Runs anywhere with Python's standard library: `index.py FACTS PROBE…`, where FACTS is a JSON object that says where
the baits of the range are (`arena.py` lays them). A probe returns what it got; an OSError, or Refused, means that it
was refused. Each runs in a process of its own with a deadline, so that a kill or a hang is a result too.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import files  # noqa: F401
import kernel  # noqa: F401
import limits  # noqa: F401
import network  # noqa: F401
import others  # noqa: F401
import processes  # noqa: F401
import programs  # noqa: F401
from probes import PROBES, Missing, Probe, Refused, waited


def attempt(one: Probe, facts: dict[str, Any]) -> tuple[str, str]:
    """The outcome of one probe, in this process."""
    try:
        return "succeeded", one.run(facts)
    except Refused as error:
        return "refused", str(error)
    except Missing as error:
        return "missing", str(error)
    except MemoryError:
        return "refused", "no memory"
    except subprocess.TimeoutExpired:
        return "refused", "no answer"
    except OSError as error:
        return "refused", errno.errorcode.get(error.errno or 0, str(error))


def alone(one: Probe, facts: dict[str, Any]) -> tuple[str, str]:
    """The outcome of one probe, in a process group of its own, within its time."""
    reader, writer = os.pipe()
    try:
        pid = os.fork()
    except OSError as error:
        return "refused", f"no process for it: {error}"
    if pid == 0:
        os.setpgid(0, 0)
        os.close(reader)
        try:
            result = attempt(one, facts)
        except BaseException as error:  # noqa: BLE001 - a mistake of the probe must not look like a held sandbox
            result = ("broken", repr(error))
        os.write(writer, json.dumps(result).encode()[:4000])
        os._exit(0)
    os.close(writer)
    data, end = b"", time.monotonic() + one.seconds * facts["slowness"]
    while (left := end - time.monotonic()) > 0 and select.select([reader], [], [], left)[0]:
        chunk = os.read(reader, 4096)
        if not chunk:
            break
        data += chunk
    os.close(reader)
    if not one.name.startswith("daemon"):
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
    status = waited(pid)
    if data:
        outcome, detail = json.loads(data)
        return outcome, detail
    return "killed", f"signal {-status}" if time.monotonic() < end else "no end in time"


def main(argv: list[str]) -> int:
    if argv == ["--list"]:
        print(json.dumps([[one.name, one.group, one.title, one.bomb] for one in PROBES.values()]))
        return 0
    facts = json.loads(argv[0])
    for name in argv[1:]:
        outcome, detail = alone(PROBES[name], facts)
        line = json.dumps({"probe": name, "outcome": outcome, "detail": str(detail)[:200]})
        os.write(1, line.encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
