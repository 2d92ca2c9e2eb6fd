"""The quick way on real sockets, TCP, TLS and unix: what clients send, however it arrives and in whatever order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from callgate import native
from callgate.transport.http.request_reader import IDLE
from tests.transport.http.gated import post
from tests.transport.http.harness import Peer, wait_until
from tests.transport.http.quick_sockets import Held, Site, call, plainly, tell, text, until
from tests.transport.http.test_tls import certificate

pytestmark = pytest.mark.skipif(native.core is None, reason="the native lane was not built for this platform")
OVER = ("tcp", "tls", "unix")


@pytest.fixture(params=OVER)
def told(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """`told(story)`: over each kind of socket."""
    options: dict[str, Any] = {"over": request.param}
    if request.param == "tls":
        made = certificate(tmp_path)
        options |= {"tls_certificate": made.tls_certificate, "tls_key": made.tls_key}

    def over(story: Callable[[Site], object], **more: Any) -> Any:
        return tell(tmp_path, story, **options, **more)

    return over


def closed(peer: Peer) -> bool:
    """Whether the server has seen the end of a connection, and closed it."""
    return peer.socket.fileno() < 0


def said(answer: Any) -> tuple[int, Any, str]:
    """Status, id and text of an answer."""
    body = answer.json()
    return answer.status, body["id"], body["result"]["content"][0]["text"]


def test_calls_of_both_eras(told: Any) -> None:
    def story(site: Site) -> None:
        caller = site.ready()
        before = site.taken
        for era in (caller.legacy, caller.modern):
            for number in range(2, 7):
                assert said(caller.ask(era(number, q=f"x{number}"))) == (200, number, f"x{number}")
        assert site.taken - before == (10 if site.way == "quick" else 0)

    told(story)


def test_requests_in_pipelines(told: Any) -> None:
    """Answers come in the order of the requests, whatever came in one piece and however many there are."""

    def story(site: Site) -> None:
        caller = site.ready()
        held = site.upstream.respond = Held()
        caller.send(caller.legacy(2, q="held"))
        held.wait(1)
        sent = [caller.legacy(3), caller.modern(4), post(call(5), *caller.headers, target="/nothing")]
        for data in sent:
            caller.send(data)
        caller.send(b"".join(caller.modern(number) for number in range(6, 26)))
        for number in range(2, 26):
            if number != 5:
                request, peer = held.wait(1).pop(0)
                assert request.json()["id"] == number, "one at a time"
                peer.answer(text(number, f"for {number}"))
            answer = caller.answer()
            assert answer.status == 404 if number == 5 else said(answer) == (200, number, f"for {number}")
        site.upstream.respond = plainly
        caller.ask(caller.modern(26))
        before = site.taken
        caller.ask(caller.modern(27))
        caller.ask(caller.modern(28))
        assert site.taken - before == (2 if site.way == "quick" else 0), "and then as before"

    told(story)


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_a_request_in_two_pieces_cut_anywhere(told: Any, era: str) -> None:
    def story(site: Site) -> None:
        caller = site.ready()
        data = getattr(caller, era)(7)
        end = site.reading(caller)
        before = site.taken
        for at in range(1, len(data)):
            caller.send(data[:at])
            until(lambda: end._reader.stage != IDLE)
            caller.send(data[at:])
            assert said(caller.answer()) == (200, 7, "a")
        assert site.taken == before
        caller.ask(data)
        caller.ask(data)
        assert site.taken - before == (2 if site.way == "quick" else 0)

    told(story)


def test_what_follows_a_request_in_its_piece(told: Any) -> None:
    """All of one request and a part of the next, cut anywhere."""

    def story(site: Site) -> None:
        caller = site.ready()
        first, second = caller.legacy(7, q="first"), caller.modern(8, q="next")
        end = site.reading(caller)
        for at in range(1, len(second), 3):
            caller.send(first + second[:at])
            assert said(caller.answer()) == (200, 7, "first")
            until(lambda: end._reader.stage != IDLE)
            caller.send(second[at:])
            assert said(caller.answer()) == (200, 8, "next")

    told(story)


def test_expect_100_continue(told: Any) -> None:
    def story(site: Site) -> None:
        caller = site.ready()
        head, _, body = caller.legacy(7, "s-1", "Expect: 100-continue").partition(b"\r\n\r\n")
        before = site.taken
        for _ in range(3):
            caller.send(head + b"\r\n\r\n")
            assert caller.answer().status == 100
            caller.send(body)
            assert said(caller.answer()) == (200, 7, "a")
            caller.send(head + b"\r\n\r\n" + body)  # it did not wait
            assert caller.answer().status == 100
            assert said(caller.answer()) == (200, 7, "a")
        assert site.taken == before
        caller.ask(caller.legacy(8))
        assert site.taken - before == (site.way == "quick")

    told(story)


def test_expect_behind_a_call_under_way(told: Any) -> None:
    """No 100 is said before its turn, for it would be taken for the answer of the call before."""

    def story(site: Site) -> None:
        caller = site.ready()
        held = site.upstream.respond = Held()
        caller.send(caller.legacy(2))
        (asked,) = held.wait(1)
        head, _, body = caller.legacy(3, "s-1", "Expect: 100-continue").partition(b"\r\n\r\n")
        caller.send(head + b"\r\n\r\n")
        end = site.reading(caller)
        until(lambda: end._reader.stage != IDLE)
        asked[1].answer(text(2))
        assert said(caller.answer()) == (200, 2, "b")
        caller.send(body)
        held.wait(2)[1][1].answer(text(3))
        assert said(caller.answer()) == (200, 3, "b")

    told(story)


@pytest.mark.parametrize("how", ["close", "1.0", "1.0 keep-alive", "2.0"])
def test_the_last_request_of_a_connection(told: Any, how: str) -> None:
    """The head is known but for what ends the connection, which ends."""

    def story(site: Site) -> None:
        site.ready()
        before = site.taken
        for _ in range(3):
            caller = site.open()
            data = caller.modern(7)
            if how == "close":
                data = caller.modern(7, "Connection: close")
            else:
                version, _, kept = how.partition(" ")
                data = caller.modern(7, *(["Connection: keep-alive"] if kept else []))
                data = data.replace(b" HTTP/1.1", f" HTTP/{version}".encode())
            for _ in range(2):
                caller.ask(caller.modern(6))
            caller.send(data + caller.modern(8))
            answer = caller.answer()
            assert answer.status == 505 if how == "2.0" else said(answer) == (200, 7, "a")
            assert answer.headers["connection"] == "close"
            assert caller.at_end(), "and nothing answers what came behind it"
        assert site.taken - before == (6 if site.way == "quick" else 0)

    came = told(story)
    assert not any(b'"id":8' in body for *_, body in came["asked"])


def test_two_clients_with_equal_ids(told: Any) -> None:
    """Each gets its own answer, in whatever order they come."""

    def story(site: Site) -> None:
        first, second = site.ready("1", "2"), site.open()
        for number in range(3):  # two connections to the server, two channels
            held = site.upstream.respond = Held()
            for count, caller in enumerate((first, second), 1):
                caller.send(caller.modern(5 + number))
                held.wait(count)
            for peer, mark in ((held.asked[1][1], "second"), (held.asked[0][1], "first")):
                peer.answer(text(5 + number, mark))
                assert said((second if mark == "second" else first).answer()) == (200, 5 + number, mark)
        site.upstream.respond = plainly
        first.ask(first.legacy(8, "s-1"))
        second.ask(second.legacy(8, "s-2"))
        before = site.taken
        held = site.upstream.respond = Held()
        first.send(first.legacy(9, "s-1"))
        held.wait(1)
        second.send(second.legacy(9, "s-2"))
        held.wait(2)
        assert [request.header("mcp-session-id") for request, _ in held.asked] == ["s-1", "s-2"]
        for number, caller in ((1, second), (0, first)):
            held.asked[number][1].answer(text(9, f"of {number}"))
            assert said(caller.answer()) == (200, 9, f"of {number}")
        # The same id in the same session is the same request twice.
        first.send(first.legacy(10, "s-1"))
        held.wait(3)
        assert second.ask(second.legacy(10, "s-1")).status == 400
        held.asked[2][1].answer(text(10, "once"))
        assert said(first.answer()) == (200, 10, "once")
        assert site.taken - before == (3 if site.way == "quick" else 0)

    told(story)


def test_an_answer_with_an_id_of_another_client(told: Any) -> None:
    """Two that stand alone have nothing in common: an answer to one cannot be an answer to the other."""

    def story(site: Site) -> None:
        first, second = site.ready(), site.open()
        second.ask(second.modern(1))
        for expected in (0, 2):  # the second time both take the quick way
            before = site.taken
            held = site.upstream.respond = Held()
            first.send(first.modern(5))
            held.wait(1)
            second.send(second.modern(6))
            held.wait(2)
            if expected:
                assert site.taken - before == (2 if site.way == "quick" else 0)
                held.asked[0][1].answer(text(6, "crossed"))
                assert first.answer().status == 502
                held.asked[1][1].answer(text(5, "crossed"))
                assert second.answer().status == 502
            else:
                for (request, peer), caller in zip(held.asked, (first, second), strict=True):
                    peer.answer(text(request.json()["id"]))
                    assert caller.answer().status == 200

    came = told(story)
    assert not any(b"crossed" in heard for heard in came["heard"])


def test_several_sessions_on_one_connection(told: Any) -> None:
    def story(site: Site) -> None:
        caller = site.ready("1", "2", "3")
        before = site.taken
        for number in range(4, 22):
            name = f"s-{number % 3 + 1}"
            assert said(caller.ask(caller.legacy(number, name, q=name))) == (200, number, name)
        assert site.taken - before == (18 if site.way == "quick" else 0)

    came = told(story)
    calls = [(dict(headers)["mcp-session-id"], body) for _, _, headers, body in came["asked"][-18:]]
    assert all(f'"q":"{name}"'.encode() in body for name, body in calls)
    sessions = [one["scope"]["session"] for one in came["evidence"] if one.get("method") == "tools/call"]
    assert len(set(sessions)) == 4, "each by its own name, and those that stand alone"


def test_a_session_that_changes_or_ends_on_a_connection(told: Any) -> None:
    def story(site: Site) -> None:
        caller = site.ready("1", "2")
        other = site.open()
        before = site.taken
        for name in ("s-1", "s-9", "s-2"):  # of s-9 only the server could know
            for _ in range(2):
                assert caller.ask(caller.legacy(5, name)).status == 200
        site.upstream.respond = lambda request, peer: (
            peer.answer(b"", "404 Not Found") if request.header("mcp-session-id") == "s-2" else plainly(request, peer)
        )
        for _ in range(2):
            assert caller.ask(caller.legacy(6, "s-2")).status == 404
        site.upstream.respond = plainly
        ending = "\r\n".join(["DELETE /s/mcp HTTP/1.1", "Host: localhost", *other.headers, "Mcp-Session-Id: s-1"])
        held = site.upstream.respond = Held()
        caller.send(caller.legacy(7, "s-1"))
        held.wait(1)
        assert other.ask(f"{ending}\r\n\r\n".encode()).status == 405, "whatever the server says of it"
        held.asked[0][1].answer(text(7, "late"))
        assert caller.answer().status == 502
        caller.send(caller.legacy(8, "s-1"))
        held.wait(2)[1][1].answer(text(8))
        assert said(caller.answer()) == (200, 8, "b")
        assert site.taken - before == (6 if site.way == "quick" else 0), "what was answered 404 was one"

    told(story)


def test_a_client_that_leaves_its_call(told: Any) -> None:
    """What stands alone is cancelled; a session's call goes on, and its answer is nobody's."""

    def story(site: Site) -> None:
        caller = site.ready()
        held = site.upstream.respond = Held()
        for era in ("legacy", "modern"):
            leaving = site.open()
            leaving.send(getattr(leaving, era)(5))
            held.wait(1)
            peer = held.asked.pop()[1]
            leaving.close()
            if era == "modern":
                until(partial(closed, peer))
            else:
                until(lambda: len(site.server.connections) == 1)
                peer.answer(text(5, "nobody's"))
            assert wait_until(lambda: not site.route._relays)
        site.upstream.respond = plainly
        assert said(caller.ask(caller.legacy(5))) == (200, 5, "a")
        assert said(caller.ask(caller.modern(5))) == (200, 5, "a")

    came = told(story)
    assert not any(b"nobody" in heard for heard in came["heard"])


def test_many_clients_at_once(told: Any) -> None:
    """Eight clients with the same ids at the same time: nobody gets what another asked for."""

    def story(site: Site) -> None:
        site.ready("1", "2")
        wrong: list[Any] = []
        ends = [site.open() for _ in range(8)]

        def work(number: int) -> None:
            caller = ends[number]
            for turn in range(60):
                mark = f"{number}-{turn}"
                modern = number % 2
                asked = caller.modern(turn + 2, q=mark) if modern else caller.legacy(turn * 8 + number + 2, q=mark)
                answer = said(caller.ask(asked))
                if answer != (200, turn + 2 if modern else turn * 8 + number + 2, mark):
                    wrong.append((number, turn, answer))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not wrong
        if site.way == "quick":
            assert site.taken > 100
        site.upstream.requests.sort(key=lambda one: (one.body, one.headers))
        for caller in ends:
            caller.close()
        assert wait_until(lambda: len(site.server.connections) == 1)

    # In which order eight threads come is nobody's: only what they heard and asked for can be the same.
    told(story, compared=("heard", "asked", "notes"))
