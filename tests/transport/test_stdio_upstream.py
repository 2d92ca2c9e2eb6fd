"""Handshake-era sessions of Streamable HTTP in front of real stdio servers."""

import asyncio
import json
import resource
import time

import pytest

from callgate.config import Limits
from callgate.gate.verdicts import ALLOW, Deny, Finding, ReplaceValue, Rewrite
from tests.gate.fakes import control
from tests.transport.exchanges import BOTH, Client, exists, hurried, route_to, until


async def test_a_session_from_initialize_to_delete() -> None:
    async with route_to("echo") as (route, journal):
        client = Client(route)
        answer = await client.initialize()
        assert answer.status == 200
        assert answer.headers[b"content-type"] == b"application/json"
        assert len(client.session) >= 24
        assert answer.json["result"]["serverInfo"]["name"] == "raw"
        echoed = await client.request(1, "x", {"a": [1, "ü"]}).end()
        assert echoed.json["id"] == 1
        assert echoed.json["result"]["echo"] == {"a": [1, "ü"]}
        assert client.exchange(b"DELETE", b"", []).status == 204
        assert client.request(2, "x").status == 404
        assert [kind for kind, _ in journal.notes] == ["launch"]


async def test_each_session_has_its_own_process_and_its_own_ids() -> None:
    async with route_to("echo") as (route, _):
        clients = [Client(route), Client(route)]
        for client in clients:
            await client.initialize()
        answers = [client.request(1, "x", {"who": number}) for number, client in enumerate(clients)]
        for number, answer in enumerate(answers):
            assert (await answer.end()).json["result"]["echo"] == {"who": number}
        assert len({answer.json["result"]["pid"] for answer in answers}) == 2


async def test_the_session_of_another_principal_is_unknown() -> None:
    async with route_to("echo") as (route, _):
        alice, mallory = Client(route, "alice"), Client(route, "mallory")
        await alice.initialize()
        mallory.session = alice.session
        stolen, unknown = mallory.request(1, "x"), Client(route, "mallory")
        unknown.session = b"0" * len(alice.session)
        assert (stolen.status, stolen.data) == (404, unknown.request(1, "x").data)
        assert mallory.get().status == 404
        assert mallory.exchange(b"DELETE", b"", []).status == 404
        assert (await alice.request(1, "x").end()).status == 200


@pytest.mark.parametrize(
    ("message", "headers", "status"),
    [
        (b"{", [BOTH], 400),
        (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}', [BOTH], 400),
        ({"jsonrpc": "2.0", "id": 1, "method": "x"}, [BOTH], 400),
        ([{"jsonrpc": "2.0", "id": 1, "method": "x"}], [BOTH], 400),
        ({"jsonrpc": "2.0", "id": 1, "method": "initialize"}, [(b"accept", b"application/json")], 406),
        ({"jsonrpc": "2.0", "id": 1, "method": "x"}, [BOTH, (b"mcp-session-id", b"nope")], 404),
        ({"jsonrpc": "2.0", "id": 1, "method": "x"}, [BOTH, (b"mcp-protocol-version", b"1999-01-01")], 400),
        ({"jsonrpc": "2.0", "id": 1, "method": "x"}, [BOTH, (b"mcp-protocol-version", b"2026-07-28")], 400),
    ],
)
async def test_what_a_session_cannot_begin_with(
    message: object, headers: list[tuple[bytes, bytes]], status: int
) -> None:
    async with route_to("echo") as (route, journal):
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        answer = Client(route).exchange(b"POST", body, headers)
        assert answer.status == status
        assert "error" in answer.json
        assert journal.notes == []  # nothing was started


async def test_methods_without_a_session() -> None:
    async with route_to("echo") as (route, _):
        client = Client(route)
        assert client.get().status == 400
        assert client.exchange(b"GET", b"", [(b"mcp-protocol-version", b"2026-07-28")]).status == 405
        assert client.exchange(b"PUT", b"", []).status == 405


async def test_a_progress_notification_makes_the_answer_a_stream() -> None:
    async with route_to("chatty") as (route, _):
        client = Client(route)
        await client.initialize()
        plain = await client.request(1, "x").end()
        assert plain.headers[b"content-type"] == b"application/json"
        answer = await client.request(2, "x", {"_meta": {"progressToken": "t"}}).end()
        assert answer.headers[b"content-type"] == b"text/event-stream"
        first, second, last = answer.events
        assert [first["params"]["progress"], second["params"]["progress"]] == [1, 2]
        assert last["id"] == 2
        assert len(set(answer.event_ids)) == 3


async def test_what_belongs_to_no_request_goes_to_the_get_stream_or_waits_for_it() -> None:
    async with route_to("chatty") as (route, _):
        client = Client(route)
        await client.initialize()
        await client.request(1, "change").end()
        await asyncio.sleep(0.1)
        listener = client.get()
        assert listener.status == 200
        await listener.until(lambda answer: answer.events)
        assert listener.events[0]["method"] == "notifications/tools/list_changed"
        second = client.get()
        assert listener.done  # the newest stream wins
        await client.request(2, "change").end()
        await second.until(lambda answer: answer.events)


async def test_the_server_asks_and_the_client_answers() -> None:
    async with route_to("asks") as (route, _):
        client = Client(route)
        await client.initialize()
        answer = await client.request(1, "x").until(lambda answer: answer.data)
        question = answer.events[0]
        assert question["method"] == "sampling/createMessage"
        reply = client.post({"jsonrpc": "2.0", "id": question["id"], "result": {"role": "assistant"}})
        assert reply.status == 202
        await answer.end()
        assert answer.events[1]["result"] == {"client": {"role": "assistant"}}
        assert client.post({"jsonrpc": "2.0", "id": "made-up", "result": {}}).status == 400


async def test_a_server_that_dies_is_told_and_the_session_is_gone() -> None:
    async with route_to("dies") as (route, _):
        client = Client(route)
        await client.initialize()
        listener = client.get()
        answer = await client.request(1, "tools/call", {"name": "t"}).end()
        assert answer.json["error"]["data"]["rule"] == "server-gone"
        assert "exited with code 3" in answer.json["error"]["message"]
        await listener.end()
        assert client.request(2, "x").status == 404


async def test_a_server_that_cannot_start() -> None:
    async with route_to("echo", cwd="/no/such/directory") as (route, journal):
        answer = await Client(route).request(1, "initialize", {"protocolVersion": "2025-11-25"}).end()
        assert answer.status == 502
        assert "directory" in answer.json["error"]["message"]
        assert journal.notes[0][0] == "launch-failed"


async def test_garbage_is_on_record_and_the_stream_goes_on() -> None:
    async with route_to("garbage") as (route, journal):
        client = Client(route)
        await client.initialize()
        assert (await client.request(1, "x").end()).json["result"]["ok"] is True
        assert journal.outcomes().count("deny") == 3


async def test_half_a_line_and_then_the_end() -> None:
    async with route_to("half") as (route, _):
        client = Client(route)
        await client.initialize()
        assert len((await client.request(1, "x").end()).json["result"]["text"]) == 200
        died = await client.request(2, "die").end()
        assert died.json["error"]["data"]["rule"] == "json-syntax", "half an answer is refused, and who waits is told"


async def test_an_answer_over_the_limit_is_an_error_and_the_next_one_passes() -> None:
    async with route_to("too_long", limits=Limits(response_bytes=100_000)) as (route, journal):
        client = Client(route)
        await client.initialize()
        big = await client.request(1, "x", {"size": 200_000}).end()
        assert big.json["error"]["data"]["rule"] == "limit-response-bytes"
        last = await client.request(3, "last", {"size": 300_000}).end()  # its id comes at the end of the line
        assert last.json["error"]["data"]["rule"] == "limit-response-bytes"
        assert (await client.request(2, "x", {"size": 9}).end()).json["result"]["text"] == "x" * 9
        assert "deny" in journal.outcomes()


async def test_a_request_without_answer_times_out_and_is_cancelled() -> None:
    async with route_to("slow", request_timeout_s=100) as (route, _):
        client = Client(route)
        await client.initialize()
        started = time.monotonic()
        with hurried(route):
            answer = client.request(7, "silent")
        assert (await answer.end()).json["error"]["data"]["rule"] == "request-timeout"
        assert 0.2 < time.monotonic() - started < 20
        assert (await client.request(8, "seen").end()).json["result"]["cancelled"] == [7]


async def test_a_client_that_goes_away_does_not_cancel_and_can_come_back() -> None:
    async with route_to("slow") as (route, _):
        client = Client(route)
        await client.initialize()
        client.request(1, "x", {"arguments": {"delay": 0.2}})
        client.leave()
        assert (await client.request(2, "seen").end()).json["result"]["cancelled"] == []
    async with route_to("asks") as (route, _):
        client = Client(route)
        await client.initialize()
        answer = await client.request(1, "x").until(lambda answer: answer.data)
        client.leave()
        question = answer.events[0]
        client.post({"jsonrpc": "2.0", "id": question["id"], "result": {"n": 1}})
        await asyncio.sleep(0.2)
        rest = await client.get((b"last-event-id", answer.event_ids[0].encode())).end()
        assert [event["id"] for event in rest.events] == [1]
        for nonsense in (b"99-1", b"x", b"1-", b"-1", b"9" * 50 + b"-1"):
            assert client.get((b"last-event-id", nonsense)).status == 400


async def test_an_id_in_flight_is_refused_and_the_first_request_lives() -> None:
    async with route_to("slow") as (route, _):
        client = Client(route)
        await client.initialize()
        first = client.request(1, "x", {"arguments": {"delay": 0.2}})
        again = client.request(1, "x")
        assert again.status == 400
        assert again.json["error"]["data"]["rule"] == "id-in-flight"
        assert (await first.end()).json["id"] == 1


async def test_cancelled_requests_do_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callgate.transport.session.CANCELLED_S", 0.1)
    async with route_to("slow") as (route, _):
        client = Client(route)
        await client.initialize()
        answer = client.request(1, "silent")
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        assert client.post(note).status == 202
        assert (await answer.end()).json["error"]["data"]["rule"] == "request-cancelled"
        assert (await client.request(2, "seen").end()).json["result"]["cancelled"] == [1]


async def test_batches_belong_to_one_revision() -> None:
    batch = [
        {"jsonrpc": "2.0", "id": 1, "method": "x", "params": {"n": 1}},
        {"jsonrpc": "2.0", "method": "notifications/progress", "params": {}},
        {"jsonrpc": "2.0", "id": 2, "method": "x", "params": {"n": 2}},
    ]
    async with route_to("batches") as (route, _):
        client = Client(route)
        await client.initialize("2025-03-26")
        answer = await client.post(batch).end()
        assert sorted(one["id"] for one in answer.json) == [1, 2]
        assert client.post([batch[1]]).status == 202
        again = await client.post([batch[0], batch[0]]).end()
        assert ["error" in one for one in again.json] == [True, False]
    async with route_to("echo") as (route, _):
        client = Client(route)
        await client.initialize("2025-06-18")
        assert client.post(batch).status == 400


@pytest.mark.parametrize(
    ("revision", "second"), [("2025-06-18", "x"), ("2025-06-18", "broken"), ("2025-03-26", "broken")]
)
async def test_everybody_a_refused_batch_would_have_answered_is_told(revision: str, second: str) -> None:
    async with route_to("pairs") as (route, _):
        client = Client(route)
        await client.initialize(revision)
        asked = [client.request(1, "x"), client.request(2, second)]
        told = [(await one.end()).json for one in asked]
        assert [one["id"] for one in told] == [1, 2]
        assert all("the server's answer was refused" in one["error"]["message"] for one in told)


async def test_null_params_are_none() -> None:
    async with route_to("null_params") as (route, _):
        client = Client(route)
        await client.initialize()
        answer = await client.request(1, "x", {"n": 1}).end()
        assert [one.get("id") for one in answer.events] == [None, 1]
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": None}
        assert client.post(note).status == 202


async def test_refusals_and_rewrites_of_controls() -> None:
    finding = Finding("c/r", "tool-poisoning", "no")

    def call(event: object) -> object:
        return Deny("not this one", (finding,)) if event.name == "bad" else ALLOW  # type: ignore[attr-defined]

    def content(event: object) -> object:
        if event.method != "tools/call" or event.message.body["result"]["echo"]["name"] == "changed":  # type: ignore[attr-defined]
            return ALLOW
        return Rewrite((ReplaceValue("/result/echo/name", "changed"),))

    async with route_to("echo", control("c", call=call), control("d", content=content)) as (route, _):
        client = Client(route)
        await client.initialize()
        denied = await client.request(1, "tools/call", {"name": "bad"}).end()
        assert denied.status == 200
        assert denied.json["result"]["isError"] is True
        passed = await client.request(2, "tools/call", {"name": "good"}).end()
        assert passed.json["result"]["echo"]["name"] == "changed"


async def test_no_more_sessions_than_configured() -> None:
    async with route_to("echo", sessions=2) as (route, _):
        clients = [Client(route), Client(route)]
        for client in clients:
            await client.initialize()
        third = Client(route).request(1, "initialize", {"protocolVersion": "2025-11-25"})
        assert third.status == 503
        assert b"retry-after" in third.headers
        clients[0].exchange(b"DELETE", b"", [])
        await Client(route).initialize()


async def test_idle_sessions_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callgate.transport.stdio_upstream.TICK_S", 0.1)
    async with route_to("echo") as (route, journal):
        client = Client(route)
        await client.initialize()
        monkeypatch.setattr("callgate.transport.session.IDLE_S", 0.7)
        await until(lambda: not route._sessions)
        assert client.request(1, "x").status == 404
        await until(lambda: not exists(journal.notes[0][1]["pid"]))


async def test_a_flood_that_nobody_reads_stays_in_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callgate.transport.stdio_upstream.TICK_S", 0.1)
    async with route_to("flood") as (route, journal):
        client = Client(route)
        await client.initialize()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer = client.request(1, "x", room=200_000)
        await answer.until(lambda answer: len(answer.data) > 200_000)
        await asyncio.sleep(0.2)
        held = len(answer.data)
        await asyncio.sleep(0.2)
        assert held == len(answer.data) < 600_000  # one pipe read beyond the mark
        monkeypatch.setattr("callgate.transport.session.STALL_S", 0.5)
        await answer.end()  # it is closed after the limit
        assert client.request(2, "x").status == 404
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024  # KiB
        assert len(journal.decisions) < 2000


async def test_a_flood_goes_on_when_its_reader_does() -> None:
    async with route_to("flood") as (route, _):
        client = Client(route)
        await client.initialize()
        answer = client.request(1, "x", room=200_000)
        await answer.until(lambda answer: len(answer.data) > 200_000)
        await asyncio.sleep(0.1)
        held = len(answer.data)
        answer.room = 2_000_000
        drained = client.exchanges[-1].on_drain
        assert drained is not None
        drained()
        await answer.until(lambda answer: len(answer.data) > held + 500_000)


async def test_a_flood_without_any_listener_waits_and_is_not_lost() -> None:
    async with route_to("noisy") as (route, _):
        client = Client(route)
        await client.initialize()
        assert client.post({"jsonrpc": "2.0", "method": "notifications/start"}).status == 202
        await asyncio.sleep(0.5)
        listener = client.get()
        await listener.until(lambda answer: len(answer.events) == 2000)
        assert [event["params"]["data"] for event in listener.events] == list(range(2000))


async def test_what_waited_for_a_listener_goes_on_when_it_reads_on_and_before_what_comes_later() -> None:
    async with route_to("chatty") as (route, _):
        client = Client(route)
        await client.initialize()
        (session,) = route._sessions.values()
        for number in range(5):
            await client.request(number, "change").end()
            await until(lambda number=number: len(session._queue) > number)
        listener = client.get(room=10)
        assert len(listener.events) == 1
        session.message(b'{"jsonrpc":"2.0","method":"later"}', None)  # on its way when the server was held back
        assert len(listener.events) == 1
        listener.room = 1 << 30
        drained = client.exchanges[-1].on_drain
        assert drained is not None
        drained()
        assert [event["method"] for event in listener.events] == ["notifications/tools/list_changed"] * 5 + ["later"]
        await client.request(9, "change").end()
        await listener.until(lambda answer: len(answer.events) == 7)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_request_that_reports_progress_has_its_time_anew_but_not_for_ever(cancelled: bool) -> None:
    async with route_to("slow") as (route, _):
        client = Client(route)
        await client.initialize()
        (session,) = route._sessions.values()
        began, timeout_s = session._now(), session._timeout_s
        clock = [began]
        session._now = lambda: clock[0]
        answer, other = client.request(1, "silent"), client.request(2, "silent")
        if cancelled:
            client.post({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        done = 0
        for step in range(1, 20):
            clock[0] = began + 0.9 * step * timeout_s
            session.message(b'{"jsonrpc":"2.0","method":"notifications/progress"}', 1)
            session.tick(clock[0] + 0.05 * timeout_s)
            done += not answer.done
            assert other.done == (step > 1)
        assert done == (0 if cancelled else 13)
        rule = "request-cancelled" if cancelled else "request-timeout"
        last = answer.events[-1] if b"event:" in answer.data else answer.json
        assert last["error"]["data"]["rule"] == rule


async def test_the_answer_to_one_request_cannot_be_taken_away_by_a_stream_that_never_was() -> None:
    async with route_to("slow") as (route, _):
        client = Client(route)
        await client.initialize()
        (session,) = route._sessions.values()
        answer = client.request(1, "x", {"arguments": {"delay": 0.2}})
        assert client.get((b"last-event-id", b"%d-0" % max(session._streams))).status == 400
        assert (await answer.end()).json["id"] == 1


async def test_a_message_that_nobody_waits_on_leaves_nothing_behind() -> None:
    async with route_to("echo") as (route, _):
        client = Client(route)
        await client.initialize()
        (session,) = route._sessions.values()
        for _ in range(20):
            assert client.post({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}).status == 202
            assert client.post({"jsonrpc": "2.0", "id": 7, "result": {}}).status >= 400  # nobody asked
        assert session._streams == {}


async def test_ten_thousand_concurrent_requests() -> None:
    async with route_to("echo", limits=Limits(in_flight=6000)) as (route, _):
        client = Client(route)
        await client.initialize()
        answers = [client.request(number, "x", {"n": number}) for number in range(10_000)]
        async with asyncio.timeout(60):
            for answer in answers:
                await answer.end(60)
        passed = [answer for answer in answers if "result" in answer.json]
        assert all(answer.json["result"]["echo"]["n"] == answer.json["id"] for answer in passed)
        refused = {answer.json["error"]["data"]["rule"] for answer in answers if "error" in answer.json}
        assert refused <= {"limit-in-flight", "server-busy"}
        assert len(passed) >= 5000


async def test_a_server_that_does_not_read_is_said_to_be_busy() -> None:
    async with route_to("deaf_later") as (route, _):
        client = Client(route)
        await client.initialize()
        text = "y" * 500_000
        for number in range(8):
            answer = client.request(number, "x", {"t": text})
        assert answer.status == 503
        assert answer.json["error"]["data"]["rule"] == "server-busy"


async def test_closing_waits_for_requests_in_flight() -> None:
    async with route_to("slow") as (route, _):
        client = Client(route)
        await client.initialize()
        answer = client.request(1, "x", {"arguments": {"delay": 0.3}})
        await route.close(60.0)
        assert answer.json["result"]["resultType"] == "complete"
        assert client.request(2, "x").status == 503
