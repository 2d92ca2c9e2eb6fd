"""What can be used up. Bombs are bounded: 200 processes, 512 MiB, 48 MiB of files, 600 descriptors."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import tempfile
import time

from probes import Refused, probe


@probe("limits", "starts 200 processes (limit: 48)", seconds=8, bomb=True)
def fork_bomb(facts):
    children = []
    try:
        for _ in range(200):
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            children.append(pid)
    except OSError as error:
        raise Refused(f"{errno.errorcode[error.errno or 0]} after {len(children)}") from None
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)
    return "200 processes"


def _take(megabytes: int) -> int:
    """Memory really used, in MiB, until there is no more."""
    kept: list[bytes] = []
    try:
        kept.extend(b"\1" * (16 << 20) for _ in range(megabytes // 16))
    except MemoryError:
        pass
    return 16 * len(kept)


@probe("limits", "takes 512 MiB in one process (limit: 192)", seconds=8, bomb=True)
def memory_hog(facts):
    got = _take(512)
    if got < 512:
        raise Refused(f"no more after {got} MiB")
    return f"{got} MiB"


@probe("limits", "takes 512 MiB in four processes (limit: 192 for all)", seconds=8, bomb=True)
def memory_hog_children(facts):
    pipes, children = [], []
    for _ in range(4):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            kept = [b"\1" * (16 << 20) for _ in range(8)]
            os.write(writer, bytes([len(kept)]))
            time.sleep(2.5)  # long enough for a watchdog that looks twice a second
            os.write(writer, b"!")
            os._exit(0)
        os.close(writer)
        pipes.append(reader)
        children.append(pid)
    got = 0
    for reader in pipes:
        data = b""
        while chunk := os.read(reader, 2):
            data += chunk
        got += 128 if data.endswith(b"!") else 0
    for pid in children:
        os.waitpid(pid, 0)
    if got < 512:
        raise Refused(f"{got} MiB stayed")
    return f"{got} MiB"


@probe("limits", "writes a file of 24 MiB (limit: 8)", seconds=8, bomb=True)
def large_file(facts):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = facts["project"] + "/large"
    written = 0
    try:
        with open(path, "wb", buffering=0) as file:
            for _ in range(24):
                written += file.write(bytes(1 << 20))
    except OSError as error:
        raise Refused(f"{errno.errorcode[error.errno or 0]} after {written >> 20} MiB") from None
    finally:
        os.unlink(path)
    if written < 24 << 20:
        raise Refused(f"only {written >> 20} MiB")
    return "24 MiB"


def _fill(folder: str) -> str:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    paths, written = [], 0
    try:
        for number in range(12):
            paths.append(os.path.join(folder, f"fill-{number}"))
            with open(paths[-1], "wb", buffering=0) as file:
                for _ in range(4):
                    if file.write(bytes(1 << 20)) < 1 << 20:
                        raise Refused(f"full after {written >> 20} MiB")
                    written += 1 << 20
    except OSError as error:
        raise Refused(f"{errno.errorcode[error.errno or 0]} after {written >> 20} MiB") from None
    finally:
        for path in paths:
            with contextlib.suppress(OSError):
                os.unlink(path)
    return "48 MiB"


@probe("limits", "fills its temporary directory with 48 MiB in small files (limit: 16)", seconds=8, bomb=True)
def fill_tmp(facts):
    return _fill(tempfile.gettempdir())


@probe("limits", "fills its home with 48 MiB in small files (limit: 16)", seconds=8, bomb=True)
def fill_home(facts):
    return _fill(os.environ.get("HOME", "/"))


@probe("limits", "fills the project it may write to with 48 MiB", seconds=8, bomb=True)
def fill_project(facts):
    return _fill(facts["project"])


@probe("limits", "opens 600 files (limit: 128)", bomb=True)
def descriptors(facts):
    opened: list[int] = []
    try:
        opened.extend(os.open("/dev/null", os.O_RDONLY) for _ in range(600))
    except OSError as error:
        raise Refused(f"{errno.errorcode[error.errno or 0]} after {len(opened)}") from None
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return "600 files"


@probe("limits", "leaves a memory dump on the disk (RLIMIT_CORE)")
def core_dump(facts):
    limit = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if limit == 0:
        raise Refused("limit 0")
    return f"limit {limit}"
