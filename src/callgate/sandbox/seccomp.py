"""From a profile to the program the kernel runs at each system call: a small assembler for classic BPF.

No helper and no library: `struct sock_filter` (linux/filter.h) is eight bytes, and a filter is a decision tree
over the number of the call. Calls of another architecture or ABI are refused: i386 on x86-64 because `arch`
differs, x32 because its numbers lie beyond the table. A number the table does not hold answers ENOSYS.

The tree is searched by halves. For a call that is allowed whatever its arguments the kernel works the answer out
once and keeps it in a bitmap (Linux 5.11), so the size of the tree costs nothing on the message path.
"""

from __future__ import annotations

import os
from _thread import get_ident

from callgate.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, TypeAlias

    from callgate.sandbox.seccomp_profile import Argument, Profile, Rule
    from callgate.sandbox.seccomp_variant import Variant

Instruction: TypeAlias = tuple[int, int, int, int]
"""code, jump if true, jump if false, constant: jumps count from the next instruction."""

ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_* (linux/audit.h)."""
MAX_INSTRUCTIONS: Final = 4096
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP, _IF_EQUAL, _IF_GREATER, _IF_AT_LEAST = 0x05, 0x15, 0x25, 0x35
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_ALLOW, _ERRNO, _ENOSYS = 0x7FFF0000, 0x00050000, 38
_FARTHEST = 255


def compile_profile(rules: Profile, machine: str) -> bytes:
    """The filter for `machine` (`uname -m`). Raises SandboxError for one that is not known."""
    from struct import pack

    from callgate.sandbox.seccomp_numbers import NUMBERS

    if machine not in ARCHITECTURES:
        raise SandboxError(
            f"there is no system call filter for the processor '{machine}'",
            next_step="run the server in a container (podman or docker)",
        )
    numbers = NUMBERS[machine]
    leaves = {number: [_error(rules.errno)] for number in numbers.values()}
    for name, of_call in _by_name(rules).items():
        if name in numbers:
            leaves[numbers[name]] = _leaf(of_call, rules.errno)
    code: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_IF_EQUAL, 1, 0, ARCHITECTURES[machine]),
        _error(_ENOSYS),
        (_LOAD, 0, 0, _NUMBER_AT),
        *_tree(_segments(leaves)),
    ]
    if len(code) > MAX_INSTRUCTIONS:
        raise SandboxError("the system call filter is larger than the kernel takes")
    return b"".join(pack("<HBBI", *one) for one in code)


def _by_name(rules: Profile) -> dict[str, list[Rule]]:
    found: dict[str, list[Rule]] = {}
    for rule in rules.rules:
        for name in rule.names:
            found.setdefault(name, []).append(rule)
    return found


def _error(errno: int) -> Instruction:
    return (_RETURN, 0, 0, _ERRNO | errno)


def _segments(leaves: dict[int, list[Instruction]]) -> list[tuple[int, list[Instruction]]]:
    """Runs of numbers with the same answer, by their first number; the last one goes on for ever."""
    unknown = [_error(_ENOSYS)]
    runs: list[tuple[int, list[Instruction]]] = []
    for number in range(max(leaves) + 2):
        leaf = leaves.get(number, unknown)
        if not runs or runs[-1][1] != leaf:
            runs.append((number, leaf))
    return runs


def _tree(runs: Sequence[tuple[int, list[Instruction]]]) -> list[Instruction]:
    if len(runs) == 1:
        return list(runs[0][1])
    middle = len(runs) // 2
    low, high = _tree(runs[:middle]), _tree(runs[middle:])
    first = runs[middle][0]
    if len(low) <= _FARTHEST:
        return [(_IF_AT_LEAST, len(low), 0, first), *low, *high]
    return [(_IF_AT_LEAST, 0, 1, first), (_JUMP, 0, 0, len(low)), *low, *high]


def _leaf(rules: Sequence[Rule], errno: int) -> list[Instruction]:
    """What is done for one call: its rules in order, then the default."""
    code: list[Instruction] = []
    for rule in rules:
        answer = (_RETURN, 0, 0, _ALLOW) if rule.action == "SCMP_ACT_ALLOW" else _error(rule.errno)
        for conditions in _alternatives(rule.arguments):
            body: list[Instruction] = [answer]
            for one in reversed(conditions):
                body = [*_condition(one, len(body)), *body]
            code += body
        if not rule.arguments:
            return code
    return [*code, _error(errno)]


def _alternatives(arguments: Sequence[Argument]) -> list[tuple[Argument, ...]]:
    """OCI: conditions on different arguments hold together; two on the same argument mean either."""
    if len({one.index for one in arguments}) < len(arguments):
        return [(one,) for one in arguments]
    return [tuple(arguments)]


def _condition(one: Argument, past: int) -> list[Instruction]:
    """Fall through when it holds, else jump over `past` instructions more. Arguments are 64 bits, little-endian."""
    if not 0 <= one.index <= 5 or past > _FARTHEST - 8:
        raise ValueError(one)
    low = _ARGUMENTS_AT + 8 * one.index
    load_low, load_high = (_LOAD, 0, 0, low), (_LOAD, 0, 0, low + 4)
    value_high, value_low = one.value >> 32, one.value & 0xFFFFFFFF
    match one.op:
        case "SCMP_CMP_EQ":
            return [
                load_high,
                (_IF_EQUAL, 0, past + 2, value_high),
                load_low,
                (_IF_EQUAL, 0, past, value_low),
            ]
        case "SCMP_CMP_NE":
            return [load_high, (_IF_EQUAL, 0, 2, value_high), load_low, (_IF_EQUAL, past, 0, value_low)]
        case "SCMP_CMP_GE" | "SCMP_CMP_GT":
            test = _IF_AT_LEAST if one.op == "SCMP_CMP_GE" else _IF_GREATER
            return [
                load_high,
                (_IF_GREATER, 3, 0, value_high),
                (_IF_EQUAL, 0, past + 2, value_high),
                load_low,
                (test, 0, past, value_low),
            ]
        case "SCMP_CMP_LT" | "SCMP_CMP_LE":
            test = _IF_AT_LEAST if one.op == "SCMP_CMP_LT" else _IF_GREATER
            return [
                load_high,
                (_IF_GREATER, past + 3, 0, value_high),
                (_IF_EQUAL, 0, 2, value_high),
                load_low,
                (test, past, 0, value_low),
            ]
        case "SCMP_CMP_MASKED_EQ" | "MASKED_NE":
            return _masked(one, past)
    raise ValueError(one)


def _masked(one: Argument, past: int) -> list[Instruction]:
    if not one.value or one.value_two & ~one.value:
        raise ValueError(one)  # it holds always or never: a slip in the profile
    low = _ARGUMENTS_AT + 8 * one.index
    halves = [
        (low + 4, one.value >> 32, one.value_two >> 32),
        (low, one.value & 0xFFFFFFFF, one.value_two & 0xFFFFFFFF),
    ]
    halves = [half for half in halves if half[1]]
    code: list[Instruction] = []
    for place, (at, mask, left) in enumerate(halves):
        code += [(_LOAD, 0, 0, at), (_AND, 0, 0, mask)]
        after = 3 * (len(halves) - 1 - place)
        if one.op == "SCMP_CMP_MASKED_EQ":
            code.append((_IF_EQUAL, 0, past + after, left))
        elif after:
            code.append((_IF_EQUAL, 0, after, left))
        else:
            code.append((_IF_EQUAL, past, 0, left))
    return code


def program(variant: Variant, cache: str = "") -> bytes:
    """The filter for this machine, from `cache` (a directory) where it was compiled from the same sources before."""
    machine = os.uname().machine
    name = _cache_name(variant, machine) if cache else ""
    if name:
        try:
            with open(os.path.join(cache, name), "rb") as file:
                kept = file.read(MAX_INSTRUCTIONS * 8 + 1)
            if kept and len(kept) % 8 == 0 and len(kept) <= MAX_INSTRUCTIONS * 8:
                return kept
        except OSError:
            pass
    from callgate.sandbox.seccomp_profile import profile

    made = compile_profile(profile(variant), machine)
    if name:
        _keep(os.path.join(cache, name), made)
    return made


def _cache_name(variant: Variant, machine: str) -> str:
    """A name that changes with the variant and with the sources; '' where they cannot be looked at."""
    here = os.path.dirname(__file__)
    marks = []
    try:
        for source in ("seccomp.py", "seccomp_profile.py", "seccomp_numbers.py"):
            found = os.stat(os.path.join(here, source))
            marks.append(f"{found.st_mtime_ns:x}.{found.st_size:x}")
    except OSError:
        return ""
    flags = (variant.unix_sockets, variant.alone, variant.internet, variant.truncate)
    return "-".join(["filter", machine, "".join("01"[flag] for flag in flags), *marks])


def _keep(path: str, content: bytes) -> None:
    """Written beside and renamed: a reader sees it whole or not at all. A cache that cannot be written costs time."""
    beside = f"{path}.{os.getpid()}.{get_ident()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(beside, "wb") as file:
            file.write(content)
        os.replace(beside, path)
    except OSError:
        return
