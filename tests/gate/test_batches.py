"""Batches of revision 2025-03-26."""

from __future__ import annotations

import json

from callgate.gate.verdicts import ALLOW, Deny
from tests.gate.fakes import channel_of, control
from tests.gate.messages import answer, call, dump, outcome, refused


def test_batches_exist_in_2025_03_26_only() -> None:
    channel, _ = channel_of()
    batch = b"[" + call(1) + b"," + dump(method="notifications/initialized") + b"]"
    assert outcome(channel.client(batch))["error"]["data"]["rule"] == "jsonrpc-batch"
    channel.client(dump(id=0, method="initialize", params={"protocolVersion": "2025-03-26"}))
    channel.server(dump(id=0, result={"protocolVersion": "2025-03-26", "capabilities": {}, "serverInfo": {}}))
    assert channel.client(batch) == batch
    assert isinstance(channel.server(b"[" + answer(1) + b"]"), bytes)


def test_a_batch_is_decided_message_by_message() -> None:
    channel, _ = channel_of(control("no-b", call=lambda e: Deny("not b") if e.name == "b" else ALLOW))
    channel.revision = "2025-03-26"
    out = refused(channel.client(b"[" + call(1, "a") + b"," + call(2, "b") + b"," + call(3, "c") + b"]"))
    assert [m["id"] for m in json.loads(out.forward or b"")] == [1, 3]
    assert [m["id"] for m in json.loads(out.reply or b"")] == [2]
