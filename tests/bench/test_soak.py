"""Memory stays flat over many calls, and the soak notices when it does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench import soak
from bench.harness.build import build_all

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("cc") is None, reason="the bench programs need a C compiler"),
]


@pytest.mark.parametrize("transport", ["stdio", "http, sessions", "http, 2026-07-28"])
def test_200_000_calls_do_not_grow_memory(transport: str, tmp_path: Path) -> None:
    build_all()
    if transport == "stdio":
        seen = soak.stdio(soak.CALLS, tmp_path)
    else:
        seen = soak.http(soak.CALLS, tmp_path, modern=transport != "http, sessions")
    assert seen.ok, seen.message
    assert seen.passed(soak.BOUND_MIB), f"grew by {seen.growth_mib:.2f} MiB: {seen.seen}"


def grown(step_kib: int) -> soak.Soak:
    looks = [(number * 1000, {7: 20_000 + number * step_kib}) for number in range(1, soak.LOOKS + 1)]
    return soak.Soak("made up", looks, ok=True)


def test_growth_is_judged_after_the_warm_up() -> None:
    assert grown(0).passed(soak.BOUND_MIB)
    assert not grown(100).passed(soak.BOUND_MIB)
    warm = grown(0)
    warm.looks[0] = (1000, {7: 10_000})  # memory taken during the warm-up is no growth
    assert warm.passed(soak.BOUND_MIB)


def test_a_process_that_stays_counts_and_one_that_comes_and_goes_does_not() -> None:
    helped = grown(0)
    helped.looks[20][1][8] = 28_000
    assert helped.passed(soak.BOUND_MIB)
    for _, memory in helped.looks[20:]:
        memory[8] = 28_000
    assert not helped.passed(soak.BOUND_MIB)


def test_too_few_looks_or_a_failed_call_do_not_pass() -> None:
    few = grown(0)
    few.looks = few.looks[:3]
    assert not few.passed(soak.BOUND_MIB)
    failed = grown(0)
    failed.ok = False
    assert not failed.passed(soak.BOUND_MIB)
