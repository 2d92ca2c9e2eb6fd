"""The filter program is what the profile says: run in a small machine of its own and compared with the rules."""

from __future__ import annotations

import os
import struct
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callgate.errors import SandboxError
from callgate.sandbox.seccomp import ARCHITECTURES, compile_profile, program
from callgate.sandbox.seccomp_numbers import NUMBERS
from callgate.sandbox.seccomp_profile import Argument, Profile, Rule, profile, to_oci
from callgate.sandbox.seccomp_variant import Variant

ALLOW, EPERM, ENOSYS, EAFNOSUPPORT = "allow", 1, 38, 97
VARIANTS = [Variant(*flags) for flags in product((False, True), repeat=4)]
MACHINES = list(ARCHITECTURES)
I386, X32 = 0x40000003, 0x40000000


def run(code: bytes, number: int, arguments: tuple[int, ...] = (), arch: int = 0) -> str | int:
    """What the kernel would do: a machine for classic BPF as seccomp allows it."""
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *(*arguments, *[0] * (6 - len(arguments))))
    program = [struct.unpack_from("<HBBI", code, at) for at in range(0, len(code), 8)]
    at = register = 0
    for _ in range(len(program)):  # jumps go forward only
        op, true, false, constant = program[at]
        at += 1
        if op == 0x20:
            assert constant % 4 == 0 and constant < 64
            register = struct.unpack_from("<I", data, constant)[0]
        elif op == 0x54:
            register &= constant
        elif op == 0x05:
            at += constant
        elif op in {0x15, 0x25, 0x35}:
            held = {0x15: register == constant, 0x25: register > constant, 0x35: register >= constant}[op]
            at += true if held else false
        else:
            assert op == 0x06
            return ALLOW if constant == 0x7FFF0000 else constant & 0xFFFF
    raise AssertionError("the program does not end")


def meaning(rules: Profile, name: str, arguments: tuple[int, ...]) -> str | int:
    """What the rules say, without a program."""
    values = (*arguments, *[0] * (6 - len(arguments)))
    for rule in rules.rules:
        if name in rule.names:
            told = [holds(one, values[one.index]) for one in rule.arguments]
            same = len({one.index for one in rule.arguments}) < len(rule.arguments)
            if any(told) if same else all(told):
                return ALLOW if rule.action == "SCMP_ACT_ALLOW" else rule.errno
    return rules.errno


def holds(one: Argument, value: int) -> bool:
    match one.op:
        case "SCMP_CMP_EQ":
            return value == one.value
        case "SCMP_CMP_NE":
            return value != one.value
        case "SCMP_CMP_LT":
            return value < one.value
        case "SCMP_CMP_LE":
            return value <= one.value
        case "SCMP_CMP_GE":
            return value >= one.value
        case "SCMP_CMP_GT":
            return value > one.value
        case "SCMP_CMP_MASKED_EQ":
            return value & one.value == one.value_two
        case "MASKED_NE":
            return value & one.value != one.value_two


def from_oci(document: dict[str, Any]) -> Profile:
    rules = [
        Rule(
            tuple(one["names"]),
            one["action"],
            one.get("errnoRet", 1),
            tuple(Argument(a["index"], a["op"], a["value"], a["valueTwo"]) for a in one.get("args", ())),
        )
        for one in document["syscalls"]
    ]
    return Profile(tuple(rules), document["defaultErrnoRet"])


U64 = st.integers(0, 2**64 - 1)
INTERESTING = st.sampled_from(
    [0, 1, 2, 3, 6, 10, 16, 17, 38, 40, 0x5412, 0x1_0000_5412, 0x5413, 0x10000000, 0x7E020000, 1 << 32, 2**64 - 1]
)
ARGUMENTS = st.tuples(*[st.one_of(INTERESTING, U64)] * 4)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_program_means_what_the_rules_say(machine: str, variant: Variant) -> None:
    rules = profile(variant)
    code = compile_profile(rules, machine)
    oci = from_oci(to_oci(rules))
    arch = ARCHITECTURES[machine]
    cases = [(0, 0, 0, 0), (1, 1, 0, 0), (2, 1, 6, 0), (10, 2, 0, 0), (16, 3, 0, 0), (5, 0x5412, 0, 0)]
    cases += [(0x10000000, 0x1_0000_5412, 0, 0), (17, 0x5401, 0, 0), (2, 0x80001, 0, 0), (2, 5, 132, 0)]
    for name, number in NUMBERS[machine].items():
        for arguments in cases:
            expected = meaning(rules, name, arguments)
            assert run(code, number, arguments, arch) == expected, (name, arguments)
            assert meaning(oci, name, arguments) == expected, (name, arguments)


@given(arguments=ARGUMENTS, name=st.sampled_from(["ioctl", "clone", "socket", "socketpair", "prlimit64", "utimensat"]))
@example(arguments=(0, 0x1_0000_5412, 0, 0), name="ioctl")
def test_arguments_decide_as_the_rules_say(arguments: tuple[int, ...], name: str) -> None:
    for variant in (Variant(), Variant(alone=True), Variant(unix_sockets=True)):
        rules = profile(variant)
        expected = meaning(rules, name, arguments)
        code = compile_profile(rules, "x86_64")
        assert run(code, NUMBERS["x86_64"][name], arguments, ARCHITECTURES["x86_64"]) == expected
        assert meaning(from_oci(to_oci(rules)), name, arguments) == expected


OPERATORS = ["EQ", "NE", "LT", "LE", "GE", "GT"]


@given(
    op=st.sampled_from(OPERATORS),
    value=st.one_of(INTERESTING, U64),
    seen=st.one_of(INTERESTING, U64),
    index=st.integers(0, 5),
)
@example(op="LT", value=1 << 32, seen=(1 << 32) - 1, index=0)
@example(op="GE", value=(1 << 32) + 1, seen=1 << 32, index=5)
@example(op="NE", value=7, seen=(1 << 32) + 7, index=1)
def test_each_comparison_is_of_64_bits(op: str, value: int, seen: int, index: int) -> None:
    rule = Rule(("read",), arguments=(Argument(index, f"SCMP_CMP_{op}", value),))  # type: ignore[arg-type]
    rules = Profile((rule,))
    arguments = tuple(seen if place == index else 0 for place in range(6))
    code = compile_profile(rules, "aarch64")
    got = run(code, NUMBERS["aarch64"]["read"], arguments, ARCHITECTURES["aarch64"])
    assert got == meaning(rules, "read", arguments)


@given(mask=st.integers(1, 2**64 - 1), left=U64, seen=U64, op=st.sampled_from(["SCMP_CMP_MASKED_EQ", "MASKED_NE"]))
def test_masks_of_64_bits(mask: int, left: int, seen: int, op: Any) -> None:
    rules = Profile((Rule(("read",), arguments=(Argument(2, op, mask, left & mask),)),))
    for value in (seen, seen & ~mask | left & mask):
        got = run(compile_profile(rules, "x86_64"), 0, (0, 0, value), ARCHITECTURES["x86_64"])
        assert got == meaning(rules, "read", (0, 0, value))
        assert meaning(from_oci(to_oci(rules)), "read", (0, 0, value)) == got


def test_two_conditions_on_one_argument_mean_either() -> None:
    either = (Argument(0, "SCMP_CMP_EQ", 3), Argument(0, "SCMP_CMP_EQ", 5))
    code = compile_profile(Profile((Rule(("read",), arguments=either),)), "x86_64")
    found = [run(code, 0, (value,), ARCHITECTURES["x86_64"]) for value in (3, 4, 5)]
    assert found == [ALLOW, EPERM, ALLOW]


def test_other_architectures_and_abis_are_refused() -> None:
    code = compile_profile(profile(Variant()), "x86_64")
    for number in (0, 1, 11, 20, 59):
        assert run(code, number, arch=I386) == ENOSYS
        assert run(code, number, arch=ARCHITECTURES["aarch64"]) == ENOSYS
        assert run(code, number | X32, arch=ARCHITECTURES["x86_64"]) == ENOSYS


@pytest.mark.parametrize("number", [335, 336, 423, 471, 1000, 0x3FFFFFFF, 0xFFFFFFFF])
def test_a_number_of_no_known_call_is_unknown(number: int) -> None:
    assert run(compile_profile(profile(Variant()), "x86_64"), number, arch=ARCHITECTURES["x86_64"]) == ENOSYS


DENIED = """
ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd add_key keyctl request_key userfaultfd
personality name_to_handle_at open_by_handle_at quotactl sethostname setdomainname vmsplice memfd_create memfd_secret
io_uring_setup io_uring_enter io_uring_register bpf perf_event_open unshare setns mount umount2 pivot_root chroot
move_mount open_tree fsopen mount_setattr kexec_load init_module finit_module delete_module reboot swapon acct
settimeofday clock_settime syslog fanotify_init
"""


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_what_a_server_has_no_use_for_is_refused(variant: Variant) -> None:
    rules = profile(variant)
    assert {meaning(rules, name, ()) for name in DENIED.split()} == {EPERM}
    assert meaning(rules, "clone3", ()) == ENOSYS
    assert meaning(rules, "socket", (16, 3)) == EAFNOSUPPORT


def test_alone_leaves_only_tcp_and_no_way_around_landlock() -> None:
    rules = profile(Variant(alone=True))
    allowed = [
        (family, kind, protocol)
        for family, kind, protocol in product(range(50), range(11), (0, 1, 6, 17, 33, 132, 136, 255, 262))
        if meaning(rules, "socket", (family, kind, protocol)) == ALLOW
    ]
    assert allowed == [(2, 1, 0), (2, 1, 6), (10, 1, 0), (10, 1, 6)]
    for name in ("chmod", "fchmodat", "fchmodat2", "chown", "setxattr", "utimes", "shmget", "mq_open", "msgget"):
        assert meaning(rules, name, ()) == EPERM
    assert meaning(rules, "utimensat", (3, 0)) == ALLOW  # the times of an open file
    assert meaning(profile(Variant(alone=True, truncate=False)), "truncate", ()) == EPERM


def test_a_processor_without_a_table_is_refused() -> None:
    with pytest.raises(SandboxError, match="s390x"):
        compile_profile(profile(Variant()), "s390x")


def test_a_slip_in_a_profile_is_found() -> None:
    wrong = Profile((Rule(("read",), arguments=(Argument(0, "SCMP_CMP_MASKED_EQ", 1, 2),)),))
    with pytest.raises(ValueError):
        compile_profile(wrong, "x86_64")


def test_the_program_is_kept_and_read_again(tmp_path: Path) -> None:
    cache = str(tmp_path / "sandbox")
    made = program(Variant(), cache)
    (kept,) = os.listdir(cache)
    assert (tmp_path / "sandbox" / kept).read_bytes() == made == program(Variant(), cache) == program(Variant())
    (tmp_path / "sandbox" / kept).write_bytes(b"x" * 13)
    assert program(Variant(), cache) == made
    assert program(Variant(unix_sockets=True), cache) != made
    assert len(os.listdir(cache)) == 2
