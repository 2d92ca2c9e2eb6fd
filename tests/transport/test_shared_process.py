"""Stateless requests (2026-07-28) of many clients on one real stdio server."""

import asyncio
import random
from typing import Any

import pytest

from callgate.config import Limits
from callgate.gate.verdicts import Allow, Deny, Finding
from callgate.transport.bridge import encode
from tests.gate.fakes import FakeJournal, control, gate_of
from tests.transport.exchanges import BOTH, MODERN, Client, config_of, hurried, route_to, until

KEY = "io.modelcontextprotocol/subscriptionId"
ALLOWS = control("allows", b"harmless", content=lambda _: Allow())
FORBIDS = control("forbids", b"forbidden", content=lambda _: Deny("no", (Finding("c/r", "tool-poisoning", "no"),)))


async def test_two_clients_with_equal_ids_get_their_own_answers() -> None:
    async with route_to("echo") as (route, journal):
        clients = [Client(route), Client(route)]
        answers = []
        for number in range(200):
            for who, client in enumerate(clients):
                answers.append((who, number % 3, client.modern(number % 3, "x", {"who": who, "n": number})))
        for who, number, answer in answers:
            await answer.end()
            assert (answer.status, answer.json["id"]) == (200, number)
            assert answer.json["result"]["echo"]["who"] == who
        assert [kind for kind, _ in journal.notes] == ["launch"]  # one process for all


async def test_each_principal_has_a_process_of_its_own() -> None:
    async with route_to("echo") as (route, journal):
        one = await Client(route, "alice").modern(1, "x").end()
        other = await Client(route, "bob").modern(1, "x").end()
        assert one.json["result"]["pid"] != other.json["result"]["pid"]
        assert len(journal.notes) == 2


async def test_progress_goes_to_its_own_request_under_its_own_token() -> None:
    async with route_to("chatty") as (route, _):
        clients = [Client(route), Client(route)]
        answers = [client.modern(1, "x", {"_meta": {"progressToken": "same"}}) for client in clients]
        plain = clients[0].modern(2, "x")
        for answer in answers:
            await answer.end()
            assert answer.headers[b"content-type"] == b"text/event-stream"
            assert not answer.event_ids  # there is no resumption in this revision
            first, second, last = answer.events
            assert first["params"] == {"progressToken": "same", "progress": 1, "total": 2}
            assert second["params"]["progress"] == 2
            assert (last["id"], last["result"]["echo"]["_meta"]["progressToken"]) != (1, None)
        assert (await plain.end()).headers[b"content-type"] == b"application/json"


async def test_a_client_that_goes_away_cancels() -> None:
    async with route_to("slow") as (route, _):
        client = Client(route)
        await client.modern(1, "seen").end()
        client.modern(41, "silent")
        client.modern(41, "silent")  # another exchange: the same id is another request
        client.leave(1)
        seen = await client.modern(1, "seen").end()
        assert seen.json["result"]["cancelled"] == [2]
        client.leave(2)
        assert (await client.modern(1, "seen").end()).json["result"]["cancelled"] == [2, 3]


def from_server(journal: FakeJournal, method: str = "silent") -> list[tuple[Any, ...]]:
    """Client's id, outcome and rules of what the server said to requests of this method, or to none."""
    return [
        (fields[4], fields[7], *(finding.rule for finding in fields[8]))
        for fields in journal.decisions
        if fields[1] == 1 and fields[2] in (method, "")
    ]


async def test_an_answer_that_crosses_a_cancellation_is_no_finding_and_reaches_nobody() -> None:
    async with route_to("late") as (route, journal):
        client = Client(route)
        gone = client.modern(41, "silent")
        await client.modern(1, "x").end()
        client.leave(0)
        other = client.modern(41, "x")  # the same id, of somebody else
        await other.end()
        assert from_server(journal) == [(41, "allow")]
        assert other.json["result"] == {"resultType": "complete"}
        assert not gone.done
        assert "deny" not in journal.outcomes()


async def test_controls_see_a_late_answer_too() -> None:
    async with route_to("late", FORBIDS) as (route, journal):
        client = Client(route)
        client.modern(41, "silent", {"arguments": {"text": "harmless"}})
        client.modern(42, "silent", {"arguments": {"text": "forbidden"}})
        await client.modern(1, "x").end()
        client.leave(0)
        client.leave(1)
        await client.modern(2, "x").end()
        assert from_server(journal) == [(41, "allow"), (42, "deny", "c/r")]


@pytest.mark.parametrize(
    "arguments",
    [{"times": 2}, {"other": [999]}, {"other": [2]}, {"other": ["1"]}, {"other": [-1]}, {"other": [1]}],
)
async def test_what_answers_no_cancelled_request_is_refused_as_ever(arguments: dict[str, Any]) -> None:
    """A second answer, ids that were never given out, one that was answered, the right one in another spelling."""
    async with route_to("late") as (route, journal):
        client = Client(route)
        client.modern(41, "silent", {"arguments": arguments})
        await client.modern(1, "x").end()
        client.leave(0)
        assert (await client.modern(1, "x").end()).status == 200
        assert from_server(journal) == [(41, "allow"), (None, "deny", "response-unknown-id")]


async def test_an_answer_after_its_timeout_is_no_finding() -> None:
    async with route_to("late") as (route, journal):
        client = Client(route)
        await client.modern(1, "x").end()
        with hurried(route):
            answer = client.modern(41, "silent")
        await answer.end()
        assert (answer.status, answer.json["error"]["data"]["rule"]) == (504, "request-timeout")
        await client.modern(1, "x").end()
        assert from_server(journal) == [(41, "allow")]


async def test_a_request_that_reports_progress_has_its_time_anew_but_not_for_ever() -> None:
    async with route_to("slow") as (route, _):
        client = Client(route)
        await client.modern(1, "x").end()
        (shared,) = route._shared.values()
        began, timeout_s = shared._now(), shared._timeout_s
        clock = [began]
        shared._now = lambda: clock[0]
        answer = client.modern(2, "silent", {"_meta": {"progressToken": "p"}})
        (gate_id,) = shared._calls.entries
        params = b'{"progressToken":%d,"progress":1}' % gate_id
        done = 0
        for step in range(1, 20):
            clock[0] = began + 0.9 * step * timeout_s
            if not answer.done:
                shared.line(b'{"jsonrpc":"2.0","method":"notifications/progress","params":%b}' % params)
            shared.tick(clock[0] + 0.05 * timeout_s)
            done += not answer.done
        assert done == 13
        assert answer.events[-1]["error"]["data"]["rule"] == "request-timeout"


async def test_a_control_that_objects_to_the_cancellation_makes_no_late_answer_strange() -> None:
    def no(event: Any) -> Any:
        return Deny("no", (Finding("c/r", "tool-poisoning", "no"),)) if "cancelled" in event.method else Allow()

    async with route_to("late", control("c", call=no)) as (route, journal):
        client = Client(route)
        client.modern(41, "silent")
        await client.modern(1, "x").end()
        client.leave(0)
        await client.modern(2, "x").end()
        assert from_server(journal) == [(41, "allow")]


async def test_only_so_many_cancelled_requests_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callgate.transport.late_answers.REMEMBERED", 2)
    async with route_to("late") as (route, journal):
        client = Client(route)
        for number in range(3):
            client.modern(number, "silent")
        await client.modern(9, "x").end()
        shared = route._shared["alice"]
        for number in range(3):
            client.leave(number)
        assert len(shared._late._cancelled) == 2
        await client.modern(9, "x").end()
        assert from_server(journal)[0][1:] == ("deny", "response-unknown-id")
        assert from_server(journal)[1:] == [(1, "allow"), (2, "allow")]
        assert not shared._late._cancelled


async def test_a_cancellation_by_id_cannot_reach_the_requests_of_others() -> None:
    async with route_to("slow") as (route, _):
        client = Client(route)
        victim = client.modern(1, "silent")
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1, "_meta": MODERN}}
        assert client.post(note, (b"mcp-protocol-version", b"2026-07-28")).status == 202
        assert (await client.modern(2, "seen").end()).json["result"]["cancelled"] == []
        assert not victim.done


async def test_subscriptions() -> None:
    async with route_to("listen") as (route, _):
        clients = [Client(route), Client(route)]
        streams = [client.modern("L", "subscriptions/listen", {"notifications": {}}) for client in clients]
        for stream in streams:
            await stream.until(lambda answer: len(answer.events) == 2)
            assert stream.headers[b"content-type"] == b"text/event-stream"
            acknowledged, changed = stream.events
            assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
            assert acknowledged["params"]["_meta"][KEY] == "L"
            assert changed["params"]["_meta"][KEY] == "L"
        clients[0].leave()
        assert len((await clients[1].modern(5, "open").end()).json["result"]["open"]) == 1
        await clients[1].modern(6, "finish").end()
        await streams[1].end()
        assert streams[1].events[-1] == {
            "jsonrpc": "2.0",
            "id": "L",
            "result": {"resultType": "complete", "_meta": {KEY: "L"}},
        }


async def test_log_messages_go_to_the_one_that_asked_or_to_nobody() -> None:
    level = {"_meta": {"io.modelcontextprotocol/logLevel": "info"}}
    async with route_to("chatty") as (route, journal):
        client = Client(route)
        told = await client.modern(1, "log", {"data": "for you", **level}).end()
        assert told.events[0]["params"]["data"] == "for you"
        silent = await client.modern(2, "log", {"data": "for nobody"}).end()
        assert silent.headers[b"content-type"] == b"application/json"
        assert "deny" in journal.outcomes()


async def test_a_legacy_server_answers_for_itself() -> None:
    async with route_to("legacy_only") as (route, _):
        answer = await Client(route).modern(1, "server/discover").end()
        assert answer.status == 404
        assert answer.json == {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "Method not found"}}


async def test_a_server_may_not_ask() -> None:
    async with route_to("asks_modern") as (route, journal):
        answer = await Client(route).modern(1, "x").end()
        assert answer.json["result"]["client"]["code"] == -32601
        assert "deny" in journal.outcomes()


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([], -32020),
        ([(b"mcp-protocol-version", b"2025-11-25"), (b"mcp-method", b"x")], -32020),
        ([(b"mcp-protocol-version", b"2026-07-28"), (b"mcp-method", b"y")], -32020),
        ([(b"mcp-protocol-version", b"2026-07-28")], -32020),
    ],
)
async def test_headers_that_differ_from_the_body(headers: list[tuple[bytes, bytes]], code: int) -> None:
    async with route_to("echo") as (route, journal):
        message = {"jsonrpc": "2.0", "id": 1, "method": "x", "params": {"_meta": MODERN}}
        answer = Client(route).post(message, *headers)
        assert (answer.status, answer.json["error"]["code"], answer.json["id"]) == (400, code, 1)
        assert journal.notes == []


async def test_a_crash_is_told_and_the_process_comes_back_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callgate.transport.shared_process.STABLE_S", 1000)
    monkeypatch.setattr("callgate.transport.shared_process.FIRST_PAUSE_S", 30)
    async with route_to("dies") as (route, journal):
        client = Client(route)
        pair = [client.modern(1, "x"), client.modern(1, "x")]
        for answer in pair:
            await answer.end()
            assert answer.status == 502
            assert answer.json["id"] == 1
            assert "exited with code 3" in answer.json["error"]["message"]
        assert (await client.modern(2, "x").end()).status == 502  # started again at once
        refused = client.modern(3, "x")
        assert refused.status == 503
        assert b"retry-after" in refused.headers
        shared = route._shared["alice"]
        shared._not_before -= 15  # as if it were so much later
        assert client.modern(4, "x").status == 503
        shared._not_before -= 15
        assert (await client.modern(5, "x").end()).status == 502
        assert [kind for kind, _ in journal.notes] == ["launch"] * 3


async def test_a_program_that_is_not_there() -> None:
    async with route_to("echo", cwd="/no/such/directory") as (route, _):
        answer = await Client(route).modern(1, "x").end()
        assert answer.status == 503
        assert "directory" in answer.json["error"]["message"]
        assert answer.json["id"] == 1


async def test_a_timeout_cancels_upstream() -> None:
    async with route_to("slow", request_timeout_s=100) as (route, _):
        client = Client(route)
        await client.modern(1, "x").end()
        with hurried(route):
            answer = client.modern(9, "silent")
        assert (await answer.end()).status == 504
        assert answer.json["error"]["data"]["rule"] == "request-timeout"
        assert (await client.modern(1, "seen").end()).json["result"]["cancelled"] == [2]


async def test_garbage_and_too_long_answers() -> None:
    async with route_to("garbage") as (route, journal):
        assert (await Client(route).modern(1, "x").end()).json["result"]["ok"] is True
        assert journal.outcomes().count("deny") == 3
    async with route_to("too_long", limits=Limits(response_bytes=100_000)) as (route, _):
        client = Client(route)
        big = await client.modern(1, "x", {"size": 200_000}).end()
        assert big.json["error"]["data"]["rule"] == "limit-response-bytes"
        assert (await client.modern(2, "x", {"size": 5}).end()).status == 200


async def test_an_answer_the_parser_refuses_reaches_its_caller_as_an_error() -> None:
    async with route_to("duplicates") as (route, _):
        client = Client(route)
        answer = await client.modern("mine", "x").end()
        assert answer.json["id"] == "mine"
        assert answer.json["error"]["data"]["rule"].startswith("jsonrpc")


async def test_a_slow_reader_loses_its_stream_when_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callgate.transport.shared_process.PATIENCE_S", 0.2)
    monkeypatch.setattr("callgate.transport.stdio_upstream.TICK_S", 0.1)
    async with route_to("progress_flood") as (route, _):
        client = Client(route)
        slow = client.modern(1, "flood", {"_meta": {"progressToken": 1}}, room=100_000)
        other = await client.modern(2, "x").end()
        assert other.status == 200
        assert slow.cut
        assert len(slow.data) < 800_000


async def test_a_server_waits_for_the_only_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callgate.transport.shared_process.PATIENCE_S", 0.1)
    monkeypatch.setattr("callgate.transport.stdio_upstream.TICK_S", 0.05)
    async with route_to("progress_flood") as (route, _):
        slow = Client(route).modern(1, "flood", {"_meta": {"progressToken": 1}}, room=100_000)
        await asyncio.sleep(1.0)
        assert not slow.cut
        assert len(slow.data) < 800_000


async def test_ten_thousand_concurrent_requests_of_a_hundred_clients() -> None:
    async with route_to("echo", limits=Limits(in_flight=6000)) as (route, _):
        clients = [Client(route) for _ in range(100)]
        order = [(client, number) for client in range(100) for number in range(100)]
        random.Random(2).shuffle(order)
        answers = {(who, number): clients[who].modern(number, "x", {"who": who}) for who, number in order}
        passed = 0
        for (who, number), answer in answers.items():
            await answer.end(60)
            assert answer.json["id"] == number
            if answer.status == 200:
                passed += 1
                assert answer.json["result"]["echo"]["who"] == who
            else:
                assert answer.status == 503
        assert passed >= 5000


async def test_idle_processes_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callgate.transport.shared_process.IDLE_S", 0.1)
    monkeypatch.setattr("callgate.transport.stdio_upstream.TICK_S", 0.1)
    async with route_to("echo") as (route, journal):
        client = Client(route)
        await client.modern(1, "x").end()
        await until(lambda: not route._upstreams)
        assert (await client.modern(2, "x").end()).status == 200
        assert len(journal.notes) == 2


async def test_both_eras_at_once() -> None:
    async with route_to("echo") as (route, _):
        legacy, modern = Client(route), Client(route)
        await legacy.initialize()
        answers = [await legacy.request(1, "x").end(), await modern.modern(1, "x").end()]
        assert len({answer.json["result"]["pid"] for answer in answers}) == 2


async def test_modern_posts_ignore_a_session_header_and_notifications_are_accepted() -> None:
    async with route_to("echo") as (route, _):
        client = Client(route)
        client.session = b"left-over"
        assert (await client.modern(1, "x").end()).status == 200
        note = {"jsonrpc": "2.0", "method": "notifications/own", "params": {"_meta": MODERN}}
        version = (b"mcp-protocol-version", b"2026-07-28")
        assert client.post(note, version).status == 202
        assert client.exchange(b"POST", b"[]", [BOTH, version]).status == 400


async def test_a_modern_initialize_cannot_turn_the_process_to_the_other_era() -> None:
    async with route_to("echo") as (route, journal):
        answer = Client(route).modern(1, "initialize")
        assert (answer.status, answer.json["error"]["code"]) == (404, -32601)
        assert journal.notes == []


async def test_mirrored_arguments_are_checked_once_the_tool_is_known() -> None:
    async with route_to("mirrored") as (route, _):
        client = Client(route)
        call = {"name": "t", "arguments": {"region": "eu"}}
        assert (await client.modern(1, "tools/call", call).end()).status == 200  # nobody has asked for the list yet
        await client.modern(2, "tools/list").end()
        refused = client.modern(3, "tools/call", call)
        assert (refused.status, refused.json["error"]["code"]) == (400, -32020)
        headers = [(b"mcp-protocol-version", b"2026-07-28"), (b"mcp-method", b"tools/call"), (b"mcp-name", b"t")]
        message = {"jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": {**call, "_meta": MODERN}}
        assert client.post(message, *headers, (b"mcp-param-region", b"us")).status == 400
        assert (await client.post(message, *headers, (b"mcp-param-region", b"eu")).end()).status == 200


async def test_another_gate_judges_later_requests_and_nothing_is_dropped() -> None:
    def refuse(event: object) -> Deny:
        return Deny("no more", (Finding("c/r", "tool-poisoning", "no"),))

    async with route_to("slow") as (route, journal):
        client, legacy = Client(route), Client(route)
        await legacy.initialize()
        slow = client.modern(1, "x", {"arguments": {"delay": 0.3}})
        other = legacy.request(1, "x", {"arguments": {"delay": 0.3}})
        gate, later = gate_of(control("c", call=refuse))
        route.renew(config_of("slow"), gate)
        assert client.modern(2, "x").status == 403
        assert legacy.request(2, "x").status == 403
        assert (await slow.end()).status == 200
        assert (await other.end()).json["id"] == 1
        assert later.outcomes().count("deny") == 2
        gate_of_old_command = len(journal.notes)
        gate2, _ = gate_of()
        route.renew(config_of("echo"), gate2)
        assert "pid" in (await client.modern(3, "x").end()).json["result"]  # the new command
        assert "pid" not in (await legacy.request(3, "x").end()).json["result"]  # keeps its process
        assert gate_of_old_command == 2
        gate.close()
        gate2.close()


async def test_an_answer_under_way_is_judged_with_the_patterns_of_its_own_gate() -> None:
    """In the gate after the reload, the forbidden word has the number that the harmless one has in the gate before."""
    async with route_to("slow", ALLOWS, FORBIDS) as (route, _):
        answer = Client(route).modern(1, "x", {"arguments": {"delay": 0.3}, "text": "forbidden"})
        gate, _ = gate_of(FORBIDS)
        route.renew(config_of("slow"), gate)
        assert b"forbidden" not in (await answer.end()).data
        gate.close()


async def test_a_flood_that_belongs_to_nobody_ends_the_server() -> None:
    async with route_to("flood") as (route, journal):
        answer = await Client(route).modern(1, "x").end()
        assert answer.status == 502
        assert len(journal.decisions) < 4000  # a thousand, and what was in the pipe by then


async def test_no_character_that_ends_a_line_for_some_readers_goes_on_raw() -> None:
    text = 'a\u2028{"jsonrpc":"2.0","id":9,"method":"tools/call"}\u2029\u0085'
    async with route_to("echo") as (route, _):
        answer = await Client(route).modern(1, "x", {"text": text}).end()
        assert answer.json["result"]["echo"]["text"] == text
        assert not any(end in answer.data.decode() for end in "\u2028\u2029\u0085")
    assert encode({"text": text}).isascii()


async def test_how_many_requests_may_wait_is_what_the_last_reload_says() -> None:
    async with route_to("slow", limits=Limits(in_flight=1)) as (route, _):
        client = Client(route)
        client.modern(1, "silent")
        assert (await client.modern(2, "x").end()).status == 503
        gate, _ = gate_of(limits=Limits(in_flight=2))
        route.renew(config_of("slow"), gate)
        assert (await client.modern(3, "x").end()).status == 200
        client.modern(4, "silent")
        assert (await client.modern(5, "x").end()).status == 503
        gate.close()
