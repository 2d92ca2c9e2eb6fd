"""Channels that wait for nothing."""

from __future__ import annotations

from callgate.gate.channel import Channel
from callgate.transport.http.free_channels import MOST, FreeChannels
from tests.gate.fakes import channel_of


def unused() -> Channel:
    channel, _ = channel_of()
    channel.modern = True
    return channel


def test_only_a_modern_channel_that_waits_for_nothing_is_free() -> None:
    free = FreeChannels()
    handshake, waiting, ready = unused(), unused(), unused()
    handshake.modern = False
    waiting.client(b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
    waiting.modern = True
    for channel in (handshake, waiting, ready):
        free.add("alice", channel)
    assert waiting.pending
    assert free == {"alice": [ready]}


def test_few_are_kept_for_each_caller_and_few_callers() -> None:
    free, channel = FreeChannels(), unused()
    for _ in range(2 * MOST):
        free.add("alice", channel)
    assert len(free["alice"]) == MOST
    for number in range(2 * MOST + 1):
        free.add(f"caller {number}", channel)
        assert len(free) <= MOST
    assert free.get(f"caller {number}") == [channel]
