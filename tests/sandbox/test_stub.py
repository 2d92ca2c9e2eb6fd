"""The stub does not start a server that is less confined than ordered."""

from __future__ import annotations

import os
import select
import socket
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from callgate.sandbox import stub, stub_start
from callgate.sandbox.seccomp import program
from callgate.sandbox.seccomp_variant import Variant
from callgate.sandbox.stub_start import Order
from tests.sandbox.boxes import needs_landlock


def order(**changes: Any) -> Order:
    made = Order(
        argv=["/usr/bin/env"],
        environment={"NAME": "value"},
        cwd="/",
        limits=[],
        landlock=1,
        paths=[
            ("/usr", "execute"),
            ("/bin", "execute"),
            ("/lib", "execute"),
            ("/lib64", "execute"),
            ("/proc/self", "read"),
        ],
        ports=None,
        filter=program(Variant(alone=True)),
        outside=[],
        no_capabilities=[],
        control_groups=[],
        meeting=-1,
        same=[],
        profile="",
        alone=True,
    )
    return {**made, **changes}  # type: ignore[typeddict-item]


def run(one: Order, *fds: int) -> tuple[int, str]:
    fd = stub_start.order_file(one)
    try:
        found = subprocess.run(
            stub_start.command(fd),
            env={"OUTER": "hunter2", "PYTHONPATH": "/nowhere", "PYTHONSTARTUP": "/nowhere"},
            pass_fds=(fd, *fds),
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    finally:
        os.close(fd)
    return found.returncode, found.stdout + found.stderr


@needs_landlock
def test_it_becomes_the_server_with_its_environment_only() -> None:
    assert run(order()) == (0, "NAME=value\n")


@needs_landlock
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"landlock": 99}, "Landlock was version 99"),
        ({"filter": b""}, "Seccomp is not 2"),
        ({"filter": b"\0" * 16}, "seccomp"),
        ({"outside": stub_start.namespaces(["net"])}, "net namespace is the host's"),
        ({"outside": [("nothing", 1)]}, "nothing"),
        ({"argv": ["/usr/bin/nothing-there"]}, "not"),
        ({"cwd": "/nowhere/at/all"}, "not"),
        ({"control_groups": [999]}, "not"),
        ({"meeting": 999}, "not"),
        ({"limits": [(99, 1)]}, "prlimit"),
        ({"paths": []}, "not"),
    ],
)
def test_what_does_not_hold_stops_it(changes: dict[str, Any], said: str) -> None:
    status, text = run(order(**changes))
    assert status == stub.REFUSED
    assert text.startswith("callgate: the server was not started, its sandbox does not hold: ") and said in text
    assert text.count("\n") == 1 and "value" not in text


@needs_landlock
@pytest.mark.skipif(os.getuid() != 0, reason="only root has capabilities to keep")
def test_capabilities_stop_it_where_none_may_be_left() -> None:
    status, text = run(order(no_capabilities=[b"CapEff"]))
    assert status == stub.REFUSED and "CapEff is not 0" in text


@needs_landlock
def test_stray_descriptors_are_closed_and_groups_are_entered(tmp_path: Path) -> None:
    group = os.open(tmp_path / "procs", os.O_WRONLY | os.O_CREAT)
    stray = os.open("/etc/passwd", os.O_RDONLY)
    try:
        argv = [
            "/bin/sh",
            "-c",
            "for n in 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do (: <&$n) 2>/dev/null && echo $n; done",
        ]
        status, text = run(order(argv=argv, control_groups=[group]), group, stray)
    finally:
        os.close(group)
        os.close(stray)
    # a shell has its own script descriptor at most; none of those that were handed over is open
    assert not {str(group), str(stray)} & set(text.split()), text
    assert (tmp_path / "procs").read_text() == "0"
    assert status in {0, 1, 2}


@needs_landlock
@pytest.mark.parametrize("said", [b"g", b"x", b""])
def test_it_waits_until_it_is_in_its_group(said: bytes) -> None:
    ours, stubs = socket.socketpair()
    fd = stub_start.order_file(order(meeting=stubs.fileno()))
    try:
        process = subprocess.Popen(
            stub_start.command(fd),
            env={},
            pass_fds=(fd, stubs.fileno()),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        stubs.close()
        assert ours.recv(1) == b"r"
        # It reads now: whatever it would write or become comes after the answer.
        assert process.stdout and not select.select([process.stdout], [], [], 0.05)[0]
        ours.send(said)
        ours.close()
        text, _ = process.communicate(timeout=30)
    finally:
        os.close(fd)
    if said == b"g":
        assert (process.returncode, text) == (0, "NAME=value\n")
    else:
        assert process.returncode == stub.REFUSED and "control group" in text and "value" not in text


def test_rights_grow_with_the_kernel() -> None:
    kinds = [stub.rights(abi) for abi in range(1, 8)]
    for older, newer in pairwise(kinds):
        assert all(newer[kind] & older[kind] == older[kind] for kind in older)
    for one in kinds:
        assert not one["write"] & stub._EXECUTE and one["execute"] & stub._EXECUTE
        assert not one["write"] & (stub._MAKE_CHAR | stub._MAKE_BLOCK)
        assert all(one[kind] & ~one["all"] == 0 for kind in one)
    assert kinds[0]["all"] == (1 << 13) - 1 and kinds[-1]["all"] == (1 << 16) - 1


def test_the_program_follows_the_order() -> None:
    import marshal

    with open(stub_start.program_file({"a": 1}, "stub"), "rb") as file:
        content = file.read()
    at = int.from_bytes(content[:4], "little")
    assert marshal.loads(content[4:at]) == {"a": 1}
    code = marshal.loads(content[at:])
    assert "main" in code.co_names and code.co_filename.endswith("stub.py")


def test_the_interpreter_s_files_are_few_and_there() -> None:
    files = stub_start.interpreter_files()
    assert all(os.path.exists(path) for path in files) and len(files) < 10
    assert not any("site-packages" in path for path in files)
