"""From a configuration to a serving process, or several: sockets, workers, event loop."""

from __future__ import annotations

import asyncio
import gc
import mmap
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from callgate.config import Config
from callgate.errors import ConfigError
from callgate.transport.http import prefork, tls
from callgate.transport.http.request_policy import RequestPolicy, bracketed
from callgate.transport.http.worker import Plan, Worker
from callgate.transport.http.worker_names import WorkerNames


def serve(plan: Plan, config: Config, ready: Callable[[str], None]) -> int:
    """Serve until told to stop; the exit code. `ready` is told the base URL once all workers take connections.

    Raises ConfigError for an address, certificate or token file that cannot be used, before anything is
    forked or served.
    """
    RequestPolicy(config.listen)
    tls.server_context(config.listen)
    workers = config.listen.workers
    sock = _bind(config, shared=workers > 1)
    port = sock.getsockname()[1]
    config = replace(config, listen=replace(config.listen, port=port))
    base = f"{'https' if config.listen.tls_certificate else 'http'}://{bracketed(config.listen.host)}:{port}"
    if workers == 1:
        return _run(plan, config, 0, sock, None, lambda: ready(base))
    directory = tempfile.mkdtemp(prefix="callgate-")  # mode 0700: only this user can reach the workers' sockets
    paths = [str(Path(directory, f"worker-{index}")) for index in range(workers)]
    plan = replace(plan, seal_key=secrets.token_bytes(32), worker_sockets=paths, names=WorkerNames(workers))
    parent = os.getpid()
    listening = mmap.mmap(-1, workers)  # shared with the workers: which of them take connections
    once, token = os.pipe()
    os.write(token, b"1")
    os.set_blocking(once, False)

    def announce(index: int) -> None:
        listening[index] = 1
        if b"\0" in listening[:]:
            return
        try:
            os.read(once, 1)
        except BlockingIOError:
            return  # another one said it at the same moment, or long ago, and this worker was started again
        ready(base)

    def work(index: int, lifeline: int) -> int:
        current = config
        try:
            current = replace(plan.load(), listen=config.listen)
        except ConfigError:
            pass  # a worker that is started again while the file is broken serves what the others serve
        try:
            mine = _bind(config, shared=True)
            return _run(plan, current, index, mine, lifeline, lambda: announce(index))
        finally:
            if os.getppid() != parent:  # it was killed: the last of us does what it would have done
                with suppress(OSError):
                    Path(paths[index]).unlink(missing_ok=True)
                    os.rmdir(directory)

    gc.freeze()  # what is imported by now stays shared between the workers
    try:
        return prefork.supervise(workers, work)
    finally:
        sock.close()
        os.close(once)
        os.close(token)
        shutil.rmtree(directory, ignore_errors=True)


def _run(
    plan: Plan, config: Config, index: int, sock: socket.socket, lifeline: int | None, ready: Callable[[], None]
) -> int:
    """One worker, on uvloop where there is one."""

    async def life() -> int:
        worker = Worker(plan, config, index)
        # What exists now stays; requests leave no cycles behind, so the collector need not look often.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        private = None
        if lifeline is not None:
            asyncio.get_running_loop().add_reader(lifeline, worker.stop)
            private = _private(plan.worker_sockets[index])
        code = await worker.run(sock, private, ready)
        if lifeline is not None:
            prefork.finished()
        return code

    try:
        import uvloop
    except ImportError:
        return asyncio.run(life())
    return uvloop.run(life())


def _bind(config: Config, *, shared: bool) -> socket.socket:
    """A bound TCP socket, not listening yet. `shared`: several workers bind the same port."""
    listen = config.listen
    host = listen.host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, listen.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{listen.port}: {error.strerror}",
            next_step="choose another address with --listen, or stop what listens there",
        ) from error
    return sock


def _private(path: str) -> socket.socket:
    """The unix socket other workers reach this one by."""
    if os.path.exists(path):
        os.unlink(path)  # of a worker that crashed
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.bind(path)
    return sock
