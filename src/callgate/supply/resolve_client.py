"""Running the ordinary package clients: a list of words, a time limit, bounded output, a small environment.

Which file a client is, and what it sees of the environment, `callgate.outside` decides. They run in an empty directory,
so that no project's configuration counts.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from callgate.errors import TrustError
from callgate.outside import variables
from callgate.text import visible

SECONDS = 600.0
OUTPUT_BYTES = 64 * 1024 * 1024
ERROR_BYTES = 64 * 1024
FILE_BYTES = 1024 * 1024 * 1024
"""The largest file a client may write (RLIMIT_FSIZE)."""
WATCH_S = 1.0


@dataclass(frozen=True, slots=True)
class Output:
    """What a client said."""

    code: int
    out: bytes
    error: str
    """The end of what it wrote to stderr, as it was."""


def find(name: str) -> str:
    """The program that a name stands for in a sandbox: on PATH, else beside this callgate; '' where there is none.

    What is started outside of it is `outside.programs.find`.
    """
    beside = os.path.join(os.path.dirname(sys.executable), name)
    return shutil.which(name) or (beside if os.access(beside, os.X_OK) else "")


def run(
    argv: Sequence[str],
    cwd: Path,
    *,
    extra: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    seconds: float = SECONDS,
    watch: Callable[[], None] | None = None,
) -> Output:
    """Run a client to its end. Raises TrustError where it cannot start, takes too long, or says too much.

    `watch` is called about every second; what it raises ends the client.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env={**variables.environment(argv[0]), **(extra or {})},
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise TrustError(
            f"cannot start {visible(argv[0], 200)}: {error.strerror}", next_step="check its installation"
        ) from error
    try:
        _limit_files(process.pid)
        if stdin and process.stdin:
            try:
                process.stdin.write(stdin)  # short: below what a pipe holds
                process.stdin.close()
            except BrokenPipeError:  # it did not want to read: what it says then tells why
                process.stdin = None
        out, error_text = _collect(process, argv[0], time.monotonic() + seconds, watch)
        return Output(process.wait(), out, error_text)
    finally:
        _end(process)


def _limit_files(pid: int) -> None:
    if sys.platform == "linux":
        import resource

        try:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
            resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        except (OSError, ValueError):
            return  # gone already, or the limit is a lower one


def _collect(
    process: subprocess.Popen[bytes], program: str, until: float, watch: Callable[[], None] | None
) -> tuple[bytes, str]:
    assert process.stdout is not None and process.stderr is not None  # noqa: S101, PT018 - both are pipes
    out = bytearray()
    errors = bytearray()
    name = visible(os.path.basename(program), 60)
    watched = time.monotonic() + WATCH_S
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, out)
        selector.register(process.stderr, selectors.EVENT_READ, errors)
        while selector.get_map():
            for ready, _ in selector.select(0.25):
                data = os.read(ready.fd, 65536)
                if not data:
                    selector.unregister(ready.fileobj)
                ready.data.extend(data)
            if len(out) > OUTPUT_BYTES:
                raise TrustError(f"{name} printed more than {OUTPUT_BYTES} bytes", next_step="ask the registry's owner")
            del errors[:-ERROR_BYTES]
            now = time.monotonic()
            if now > until:
                raise TrustError(f"{name} did not finish in time", next_step="check the network, then try again")
            if watch and now > watched:
                watch()
                watched = time.monotonic() + WATCH_S
    return bytes(out), errors.decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()


def last_words(output: Output, limit: int = 300) -> str:
    """The part of what a client wrote to stderr that says why it failed, safe to print."""
    lines = [line.strip() for line in output.error.splitlines() if line.strip()]
    marks = ("error", "cause", "because")
    telling = [line for line in lines if any(one in line.lower() for one in marks) and "complete log" not in line]
    said = list(dict.fromkeys(_without_noise(line) for line in telling or lines))
    return visible(_without_passwords(" ".join(one for one in said if one)[: 4 * limit]), limit)


def _without_noise(line: str) -> str:
    """A line of npm without its prefixes, and nothing of those that say nothing of the case."""
    for prefix in ("npm error", "npm ERR!", "error:", "notarget", "404", "code"):
        line = line.removeprefix(prefix).strip()
    noise = (
        "in most cases",
        "tarball, folder",
        "the requested resource",
        "or you do not have",
        "note that",
        "a complete log",
    )
    return "" if line.lower().startswith(noise) or (line.isupper() and " " not in line) else line


def _without_passwords(text: str) -> str:
    """URLs without what stands before `@`."""
    words = text.split(" ")
    for at, word in enumerate(words):
        scheme, found, rest = word.partition("://")
        place, slash, path = rest.partition("/")
        if found and "@" in place:
            words[at] = f"{scheme}://***@{place.rpartition('@')[2]}{slash}{path}"
    return " ".join(words)


def size_watch(folder: Path) -> Callable[[], None]:
    """A watch that ends a client when what it unpacks goes beyond the store's limits."""
    from callgate.supply import artefacts

    def look() -> None:
        count = total = 0
        for name, _, files in os.walk(folder):
            for one in files:
                count += 1
                try:
                    total += os.lstat(os.path.join(name, one)).st_size
                except OSError:
                    continue
            if count > artefacts.MAX_FILES or total > artefacts.MAX_BYTES:
                raise TrustError(
                    f"the packages unpack to more than {artefacts.MAX_FILES} files or {artefacts.MAX_BYTES} bytes",
                    next_step="do not use them",
                )

    return look
