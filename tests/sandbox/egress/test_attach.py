"""Listeners inside of a namespace, made from outside."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from callgate.errors import SandboxError
from callgate.sandbox.egress import attach
from tests.support.egress import program


@pytest.fixture
def namespaced():
    """A process in a user and network namespace of its own."""
    unshare = program("unshare")
    process = subprocess.Popen(
        [unshare, "--user", "--map-root-user", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdin.write(b"ready\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"ready\n"
    yield process.pid
    process.stdin.close()
    process.wait()
    process.stdout.close()


def test_sockets_of_another_namespace(namespaced):
    found = attach.listen_inside(namespaced, [("127.0.0.1", 3128), ("0.0.0.0", 80), ("0.0.0.0", 443)])
    sockets = [socket.socket(fileno=one) for one in found]
    try:
        assert [one.getsockname() for one in sockets] == [("127.0.0.1", 3128), ("0.0.0.0", 80), ("0.0.0.0", 443)]
        assert not any(os.get_inheritable(one) for one in found)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", 3128), 1)  # not in ours
    finally:
        for one in sockets:
            one.close()


def test_a_port_that_is_taken(namespaced):
    first = attach.listen_inside(namespaced, [("127.0.0.1", 3128)])
    with pytest.raises(SandboxError, match="Address already in use"):
        attach.listen_inside(namespaced, [("0.0.0.0", 3128)])
    os.close(first[0])


def test_a_process_that_is_not_there():
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    with pytest.raises(SandboxError, match="egress gate"):
        attach.listen_inside(process.pid, [("127.0.0.1", 3128)])


def test_too_many_ports():
    with pytest.raises(SandboxError, match="ports"):
        attach.listen_inside(os.getpid(), [("0.0.0.0", port) for port in range(1, 100)])


def test_no_helper_and_no_descriptor_is_left(namespaced):
    before, unwaited = len(os.listdir("/proc/self/fd")), zombies()
    for _ in range(5):
        for one in attach.listen_inside(namespaced, [("127.0.0.1", 3128), ("0.0.0.0", 443)]):
            os.close(one)
    assert len(os.listdir("/proc/self/fd")) == before
    assert zombies() <= unwaited, "every helper has been waited for"


def zombies():
    """Children of this process that have ended and were not waited for."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state == "Z" and int(parent) == os.getpid():
            found.add(pid)
    return found


def test_loopback():
    descriptor, port = attach.listen_on_loopback()
    with socket.socket(fileno=descriptor) as one:
        assert one.getsockname() == ("127.0.0.1", port)
        assert port > 1023
